//! The library's side of an operation, with a helper that wishes it ill.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use proptest::prelude::*;

use super::operation::{Answer, CHANGES, Progress};
use super::table::{FileOutcome, Table};
use super::{FileOptions, FileRequest, FileTask, copy};
use crate::config::Config;
use crate::error::{Code, Result};
use crate::keeper::wire::files::{Change, ChangeKind, Entry, Outcome, Stat, Step, Totals};
use crate::reactor::{FdBudget, Kind, Reactor, Wake};
use crate::runsc::command::SandboxId;
use crate::sandbox::Shared;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// One operation, and the helper's ends of its sockets.
struct Rig {
    reactor: Reactor,
    table: Table,
    progress: Arc<Progress>,
    helper: Option<OwnedFd>,
    stream: Option<UnixStream>,
    ended: Option<FileOutcome>,
    done_pipe: Option<std::io::PipeReader>,
}

impl Rig {
    fn new(request: FileRequest, options: &FileOptions) -> Self {
        let shared = Shared::new(1, SandboxId::random().unwrap(), Config::new()).unwrap();
        let mut running = FileTask::prepare(&Arc::new(shared), request, options, None).unwrap();
        let done_pipe = Some(running.done_pipe().unwrap());
        let progress = Arc::clone(running.progress());
        let (mut reactor, mut table) = (Reactor::new().unwrap(), Table::new(Kind(4)));
        let mut fds = Vec::new();
        table.start(&mut reactor, &FdBudget::new(10), running, |running, _| {
            fds = running.order().unwrap().fds;
            Ok(7)
        });
        let mut fds = fds.into_iter();
        let (helper, stream) = (fds.next(), fds.next().map(UnixStream::from));
        Self { reactor, table, progress, helper, stream, ended: None, done_pipe }
    }

    /// What the control thread does in one turn.
    fn turn(&mut self) {
        self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        while let Some(wake) = self.reactor.next() {
            let key = wake.key();
            let ended = match wake {
                Wake::Timer(_) => self.table.late(&mut self.reactor, key),
                _ => self.table.go_on(&mut self.reactor, key),
            };
            self.ended = self.ended.or(ended);
        }
    }

    fn result(&mut self) -> Result<Arc<Answer>> {
        let begin = Instant::now();
        loop {
            if let Some(result) = self.progress.result() {
                return result;
            }
            assert!(begin.elapsed() < PATIENCE, "it never ended");
            self.turn();
        }
    }

    fn packet(&self, bytes: &[u8], fds: &[i32]) {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights[..] };
        let socket = self.helper.as_ref().unwrap().as_raw_fd();
        // The library may have hung up on us.
        let _ = sendmsg::<()>(socket, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
    }

    fn say(&self, outcome: &Outcome) {
        self.packet(&[&[0], &outcome.encode()[..]].concat(), &[]);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn failure(&mut self) -> Code {
        self.result().expect_err("it was believed").code()
    }
}

fn read() -> Rig {
    Rig::new(FileRequest::Read("/a".into()), &FileOptions { limit: Some(100), ..FileOptions::default() })
}

fn list(limit: u64) -> Rig {
    Rig::new(FileRequest::List("/a".into()), &FileOptions { limit: Some(limit), ..FileOptions::default() })
}

fn done() -> Outcome {
    Outcome::Done(Totals::default())
}

#[test]
fn an_honest_helper_is_believed() {
    let mut rig = read();
    rig.write(b"content");
    rig.say(&done());
    rig.helper = None;
    rig.turn();
    assert!(rig.progress.result().is_none(), "the stream has not ended");
    rig.stream = None;
    assert_eq!(rig.result().unwrap().bytes, b"content");
    assert!(rig.ended.is_some_and(|ended| !ended.helper_may_run));
}

#[test]
fn what_a_helper_may_not_say_ends_the_operation() {
    let is = Outcome::Is(Entry::default()).encode();
    let cases: Vec<Vec<Vec<u8>>> = vec![
        vec![vec![]],
        vec![vec![0]],
        vec![vec![0, 77]],
        vec![vec![1, 0]],
        vec![vec![7, 0]],
        vec![vec![0; 9000]],
        vec![[&[0][..], &is].concat()],
        vec![[&[0][..], &done().encode(), &[1]].concat()],
        vec![[&[0][..], &done().encode()].concat(), [&[0][..], &done().encode()].concat()],
    ];
    for packets in cases {
        let mut rig = read();
        packets.iter().for_each(|packet| rig.packet(packet, &[]));
        assert_eq!(rig.failure(), Code::Engine, "{packets:?}");
    }
    let mut rig = Rig::new(FileRequest::Stat("/a".into()), &FileOptions::default());
    rig.say(&done());
    assert_eq!(rig.failure(), Code::Engine, "it was asked what a path is");
    let mut rig = read();
    rig.helper = None;
    assert_eq!(rig.failure(), Code::Engine, "it ended without a word");
}

#[test]
fn descriptors_are_closed_and_end_the_operation() {
    let (mut read_end, write_end) = std::io::pipe().unwrap();
    let mut rig = read();
    rig.packet(&[&[0], &done().encode()[..]].concat(), &[write_end.as_raw_fd()]);
    drop(write_end);
    assert_eq!(rig.failure(), Code::Engine);
    assert_eq!(read_end.read(&mut [0]).unwrap(), 0, "nobody holds the other end");
}

#[test]
fn more_than_was_allowed_is_not_kept() {
    let mut rig = read();
    rig.write(&[1; 101]);
    assert_eq!(rig.failure(), Code::Limit);
    assert!(rig.ended.is_some_and(|ended| ended.ticket == 7 && ended.helper_may_run), "its helper is ended");
    let mut rig = list(2);
    let entry = Entry { name: b"a".to_vec(), ..Entry::default() };
    rig.write(&entry.record().repeat(3));
    assert_eq!(rig.failure(), Code::Limit);
    // Endless: it stops reading at the first byte too many.
    let mut rig = read();
    let mut stream = rig.stream.take().unwrap();
    let flood = std::thread::spawn(move || while stream.write_all(&[0; 65536]).is_ok() {});
    assert_eq!(rig.failure(), Code::Limit);
    flood.join().unwrap();
}

#[test]
fn names_that_could_mislead_are_refused() {
    let long = vec![b'a'; 256];
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"/etc/passwd", b"a\0b", &long] {
        let mut rig = list(10);
        rig.write(&Entry { name: name.to_vec(), ..Entry::default() }.record());
        assert_eq!(rig.failure(), Code::Engine, "{name:?}");
    }
    for (target, fine) in [(vec![b'x'; 4095], true), (vec![b'x'; 4096], false), (b"a\0".to_vec(), false)] {
        let mut rig = list(10);
        rig.write(&Entry { name: b"a".to_vec(), target, ..Entry::default() }.record());
        rig.say(&done());
        (rig.helper, rig.stream) = (None, None);
        assert_eq!(rig.result().is_ok(), fine);
    }
    for path in [&b"/etc"[..], b"..", b"a/../b", b"a//b", b"a/", b"a\0"] {
        let mut rig = Rig::new(FileRequest::Watch("/a".into()), &FileOptions::default());
        rig.write(&Change { kind: ChangeKind::Created, path: path.to_vec() }.record());
        assert_eq!(rig.failure(), Code::Engine, "{path:?}");
    }
}

#[test]
fn a_record_that_is_torn_or_too_long_is_refused() {
    let mut rig = list(10);
    rig.write(&Entry { name: b"a".to_vec(), ..Entry::default() }.record()[..5]);
    rig.say(&done());
    (rig.helper, rig.stream) = (None, None);
    assert_eq!(rig.failure(), Code::Engine);
    let mut rig = list(10);
    rig.write(&[0xff, 0xff, 1, 2, 3]);
    assert_eq!(rig.failure(), Code::Engine);
}

#[test]
fn an_error_from_inside_can_say_what_it_likes() {
    for (errno, expected) in
        [(libc::ENOSPC, libc::ENOSPC), (0, libc::EIO), (i32::MIN, libc::EIO), (70000, libc::EIO)]
    {
        let mut rig = read();
        let path = b"\x1b[2J\n\xff".to_vec();
        rig.say(&Outcome::Failed { step: Step::Read, errno, path });
        let error = rig.result().unwrap_err();
        assert_eq!(error.os_error(), Some(expected));
        assert!(!error.message().chars().any(char::is_control), "{:?}", error.message());
    }
}

#[test]
fn changes_that_nobody_takes_wait_in_the_sandbox() {
    let mut rig = Rig::new(FileRequest::Watch("/a".into()), &FileOptions::default());
    let record = Change { kind: ChangeKind::Modified, path: vec![b'a'; 200] }.record();
    let stream = rig.stream.take().unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    // Until nothing more is taken for a while, the library's turns between.
    let mut idle = 0;
    while idle < 50 {
        match (&stream).write(&record) {
            Ok(length) => {
                assert_eq!(length, record.len(), "a record fits or it doesn't");
                sent += 1;
                idle = 0;
            }
            Err(_) => {
                rig.turn();
                idle += 1;
            }
        }
    }
    assert_eq!(rig.progress.room(), 0);
    assert!(sent > CHANGES && sent < 20 * CHANGES, "{sent}");
}

#[test]
fn what_is_written_goes_in_pieces_and_a_helper_that_stops_reading_is_no_loss() {
    let content: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let mut rig = Rig::new(FileRequest::Write("/a".into(), content.clone()), &FileOptions::default());
    let mut stream = rig.stream.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    while !reader.is_finished() {
        rig.turn();
    }
    assert!(reader.join().unwrap() == content);
    rig.say(&done());
    rig.result().unwrap();
    let mut rig = Rig::new(FileRequest::Write("/a".into(), content), &FileOptions::default());
    rig.stream = None;
    rig.turn();
    rig.say(&Outcome::Failed { step: Step::Write, errno: libc::ENOSPC, path: Vec::new() });
    assert_eq!(rig.result().unwrap_err().os_error(), Some(libc::ENOSPC));
}

#[test]
fn no_operation_is_lost_with_its_table() {
    let Rig { table, progress, .. } = read();
    drop(table);
    assert_eq!(progress.result().unwrap().unwrap_err().code(), Code::Closed);
}

#[test]
fn what_the_host_gets_stays_its_own() {
    let mut rig = Rig::new(FileRequest::Download("/a".into()), &FileOptions::default());
    let ours = rig.progress.take_stream().unwrap();
    rig.write(b"before");
    drop(rig);
    let mut text = [0; 6];
    File::from(ours).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"before");
}

#[test]
fn a_host_that_waits_for_a_helper_that_does_nothing_waits_no_longer_than_it_wants() {
    let options = FileOptions { time_limit: Some(Duration::from_millis(20)), ..FileOptions::default() };
    for up in [false, true] {
        let path = "/a".into();
        let request = if up { FileRequest::Upload(path) } else { FileRequest::Download(path) };
        let mut rig = Rig::new(request, &options);
        let (ours, done_pipe) = (rig.progress.take_stream().unwrap(), rig.done_pipe.take().unwrap());
        let (quiet, _writer) = std::io::pipe().unwrap();
        let null = File::options().write(true).open("/dev/null").unwrap();
        let waiting = std::thread::spawn(move || {
            if up {
                copy::into(quiet.as_fd(), &ours, done_pipe.as_fd())
            } else {
                copy::out(ours, null.as_fd(), done_pipe.as_fd(), 9)
            }
        });
        assert_eq!(rig.failure(), Code::TimedOut);
        waiting.join().unwrap().unwrap();
    }
}

#[test]
fn a_helper_that_does_nothing_is_given_up_and_one_that_works_is_not() {
    let options = FileOptions { progress_timeout: Some(Duration::from_millis(60)), ..FileOptions::default() };
    let requests = [
        FileRequest::Read("/a".into()),
        FileRequest::Write("/a".into(), vec![7; 8 << 20]),
        FileRequest::Stat("/a".into()),
        FileRequest::Download("/a".into()),
    ];
    for request in requests {
        let mut rig = Rig::new(request, &options);
        assert_eq!(rig.failure(), Code::TimedOut);
        assert!(rig.ended.is_some_and(|ended| ended.helper_may_run), "it is to be ended");
    }
    // What the host doesn't read, and what it hasn't written, is not the sandbox's doing.
    let mut down = Rig::new(FileRequest::Download("/a".into()), &options);
    down.write(b"x");
    let mut up = Rig::new(FileRequest::Upload("/a".into()), &options);
    // And who says so works, whatever comes of it.
    let mut remove = Rig::new(FileRequest::Remove("/a".into()), &options);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        remove.say(&Outcome::Working);
        [&mut down, &mut up, &mut remove].into_iter().for_each(Rig::turn);
    }
    for mut rig in [down, up, remove] {
        assert!(rig.progress.result().is_none());
        rig.say(&done());
        rig.result().unwrap();
    }
}

#[test]
fn what_is_said_without_end_is_heard_a_little_at_a_time() {
    let mut rig = Rig::new(FileRequest::Remove("/a".into()), &FileOptions::default());
    for _ in 0..100 {
        rig.say(&Outcome::Working);
    }
    rig.say(&done());
    rig.turn();
    assert!(rig.progress.result().is_none(), "others have their turn");
    rig.result().unwrap();
}

#[test]
fn the_hosts_end_of_a_stream_ends_with_its_operation_whoever_holds_the_other_end() {
    let options = FileOptions { time_limit: Some(Duration::from_millis(30)), ..FileOptions::default() };
    for request in [FileRequest::CopyOut("/a".into()), FileRequest::CopyIn("/a".into())] {
        let mut rig = Rig::new(request, &options);
        let mut host = UnixStream::from(rig.progress.take_stream().unwrap());
        host.set_nonblocking(false).unwrap();
        let blocked = std::thread::spawn(move || {
            let written = host.write_all(&vec![7; 8 << 20]).map_err(|error| error.kind());
            (host.read_to_end(&mut Vec::new()).unwrap(), written)
        });
        assert_eq!(rig.failure(), Code::TimedOut);
        assert!(rig.stream.is_some(), "nobody inside has let go of it");
        assert_eq!(blocked.join().unwrap(), (0, Err(std::io::ErrorKind::BrokenPipe)));
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let bytes = || prop::collection::vec(1..=255_u8, 0..40);
    prop_oneof![
        any::<[u64; 3]>().prop_map(|[bytes, entries, skipped]| Outcome::Done(Totals {
            bytes,
            entries,
            skipped
        })),
        (any::<[u32; 4]>(), any::<u64>(), any::<i64>(), bytes()).prop_map(
            |([mode, user, group, links], size, modified, target)| {
                let stat = Stat { mode, user, group, links, size, modified };
                Outcome::Is(Entry { name: Vec::new(), stat, target })
            }
        ),
        (any::<i32>(), bytes()).prop_map(|(errno, path)| Outcome::Failed { step: Step::Make, errno, path }),
        Just(Outcome::Working),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn outcomes_come_back(outcome in outcome()) {
        prop_assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
    }

    #[test]
    fn noise_is_only_ever_an_error_or_an_end(
        which in 0..4_u8,
        said in prop::collection::vec(any::<u8>(), 0..60),
        real in any::<bool>(),
        streamed in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let options = FileOptions::default();
        let mut rig = match which {
            0 => Rig::new(FileRequest::Read("/a".into()), &options),
            1 => Rig::new(FileRequest::List("/a".into()), &options),
            2 => Rig::new(FileRequest::Watch("/a".into()), &options),
            _ => Rig::new(FileRequest::Stat("/a".into()), &options),
        };
        if let Some(stream) = &mut rig.stream {
            stream.write_all(&streamed).unwrap();
        }
        if real { rig.say(&done()) } else { rig.packet(&said, &[]) }
        (rig.helper, rig.stream) = (None, None);
        let result = rig.result();
        // What can be read as an outcome may be one; a byte before it says that it is.
        let is_outcome = said.strip_prefix(&[0]).is_some_and(|rest| Outcome::decode(rest).is_ok());
        if !real && !is_outcome {
            prop_assert!(result.is_err(), "noise was taken for an end");
        } else if real && which == 0 {
            prop_assert_eq!(&result.unwrap().bytes, &streamed, "and what was read before is there");
        }
    }
}
