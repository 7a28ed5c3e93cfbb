//! Hostile peers: an init that attacks the library, and a library that attacks init and the keeper.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::wire::{any_message, changes, to_init, to_keeper};
use super::{PATIENCE, readable};
use crate::error::Code;
use crate::keeper::client::EMBEDDED;
use crate::keeper::wire::init::{Reply, Request, Source, Start};
use crate::keeper::wire::keeper::{self, SocketKind};
use crate::process::Init;
use crate::sys::channel::{self, Channel};
use crate::sys::spawn::{self, Child, Command, Executable};
use crate::sys::{memfd, pidfd};

/// Sends one packet of these bytes and descriptors. Returns false if the peer is gone.
fn packet(socket: &OwnedFd, bytes: &[u8], fds: &[i32]) -> bool {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let bytes = [IoSlice::new(bytes)];
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &bytes, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return true,
            Err(nix::errno::Errno::EAGAIN) => {
                let out = nix::poll::PollFlags::POLLOUT;
                let mut set = [nix::poll::PollFd::new(socket.as_fd(), out)];
                nix::poll::poll(&mut set, nix::poll::PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
            }
            Err(_) => return false,
        }
    }
}

/// Runs a hostile init, whose part `act` plays. Returns the replies that the library has taken and the error at which it
/// has stopped.
fn hostile_init(act: impl FnOnce(OwnedFd) + Send + 'static) -> (Vec<Reply>, String) {
    let (ours, theirs) = channel::pair().unwrap();
    let mut init = Init::new(ours);
    let acting = std::thread::spawn(move || act(theirs));
    let mut heard = Vec::new();
    let error = loop {
        match init.hear() {
            Ok(Some(reply)) => heard.push(reply),
            Ok(None) => readable(init.as_fd()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::Engine, "{error}");
    drop(init);
    acting.join().unwrap();
    (heard, error.to_string())
}

#[test]
fn a_malformed_reply_of_init_ends_its_channel() {
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("malformed", vec![vec![0]]),
        ("malformed", vec![vec![0, 77]]),
        ("malformed", vec![vec![0, 1, 1, 2, 3]]),
        ("malformed", vec![vec![0, 0, 0]]),
        ("malformed", vec![vec![0, 2, 1, 0, 0, 0, 99, 0, 0, 0, 0]]),
        ("reading from", vec![vec![7, 0]]),
        ("reading from", vec![vec![0; 40_000]]),
        ("reading from", vec![[&[1][..], &[0; 32 * 1024]].concat(); 33]),
        ("ended", vec![vec![]]),
        ("ended", vec![]),
    ];
    for (reason, packets) in cases {
        let (heard, error) = hostile_init(move |socket| {
            packets.iter().all(|bytes| packet(&socket, bytes, &[]));
        });
        assert!(heard.is_empty(), "{heard:?}");
        assert!(error.contains(reason), "{error} is not about {reason}");
    }
}

#[test]
fn descriptors_from_inside_are_closed_and_end_the_channel() {
    for (count, frame) in
        [(1, &[0, 0][..]), (32, &[0, 0]), (36, &[0, 0]), (40, &[0, 0]), (250, &[0, 0]), (3, &[1, 0])]
    {
        let (read, write) = std::io::pipe().unwrap();
        let (heard, _) = hostile_init(move |socket| {
            packet(&socket, frame, &vec![write.as_raw_fd(); count]);
        });
        assert!(heard.is_empty(), "{heard:?}");
        let mut rest = Vec::new();
        File::from(OwnedFd::from(read)).read_to_end(&mut rest).unwrap();
    }
}

#[test]
fn replies_that_nothing_asked_for_are_passed_on() {
    let said = [
        Reply::Exited { id: 9, status: 0 },
        Reply::Hello,
        Reply::Hello,
        Reply::Connected { ticket: u32::MAX, errno: i32::MIN },
        Reply::Started { id: 0 },
    ];
    let (heard, _) = hostile_init(move |socket| {
        said.iter().all(|reply| packet(&socket, &[&[0][..], &reply.encode()].concat(), &[]));
    });
    assert_eq!(heard, said);
}

#[test]
fn an_init_that_sends_noise_is_only_ever_an_error() {
    let mut runner = TestRunner::default();
    for _ in 0..300 {
        let packets = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 1..8);
        let packets = packets.new_tree(&mut runner).unwrap().current();
        hostile_init(move |socket| {
            packets.iter().all(|bytes| packet(&socket, bytes, &[]));
        });
    }
}

#[test]
fn an_init_that_does_not_read_costs_a_bounded_backlog() {
    let (ours, _theirs) = channel::pair().unwrap();
    let mut init = Init::new(ours);
    let arguments = vec![vec![b'x'; 100_000]];
    let start = Request::Start(Box::new(Start { arguments, ..Start::default() }));
    let error = (0..1000).find_map(|_| init.ask(&start, vec![], None).err()).expect("the backlog has an end");
    assert_eq!(error.code(), Code::Engine);
}

/// A directory with the keeper's program, named `init`, which makes it run as init.
struct Named(PathBuf);

impl Named {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sbx-hostile-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        // From the embedded bytes: the file that they come from may be gone. Another process writes it, so that no
        // child of this one holds the file open for writing when it is run (ETXTBSY).
        let program = memfd::program(EMBEDDED, &[]).unwrap();
        let copied =
            process::Command::new("cp").arg("/dev/stdin").arg(path.join("init")).stdin(program).status();
        assert!(copied.unwrap().success());
        fs::set_permissions(path.join("init"), fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn init(&self) -> PathBuf {
        self.0.join("init")
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// Starts the real program and returns the library's end of its channel.
fn real(program: &str, arguments: &[CString]) -> (OwnedFd, Child) {
    let (ours, theirs) = channel::pair().unwrap();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let host = pidfd::of_this_thread().unwrap();
    let null = null.as_fd();
    let child = spawn::spawn(&mut Command {
        executable: Executable::Paths(&[CString::new(program).unwrap()]),
        arguments,
        environment: &[],
        // Init has its channel as standard input, the keeper as 3.
        descriptors: &[theirs.as_fd(), null, null, theirs.as_fd(), host.as_fd()],
        dispositions: spawn::EVERY_SIGNAL,
        prepare: &mut || Ok(()),
    })
    .unwrap();
    (ours, child)
}

/// Starts it as init, in a network namespace of its own, since it connects to any port that it is asked to.
fn real_init(named: &Named) -> (OwnedFd, Child) {
    let words = ["unshare", "-Urn", "--"].map(|word| CString::new(word).unwrap());
    let arguments = [&words[..], &[text(&named.init())]].concat();
    real("/usr/bin/unshare", &arguments)
}

fn real_keeper() -> (OwnedFd, Child) {
    let arguments = [c"sbx-keeper".into(), CString::new(env!("SBX_BUILD")).unwrap()];
    real(Named::new().init().to_str().unwrap(), &arguments)
}

/// Waits until it has exited, and fails if a signal killed it.
fn ends(child: &Child, why: &str) -> i32 {
    readable(&child.pidfd);
    match waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap() {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?} after {why}"),
    }
}

fn lives(child: &Child) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::PIDFd(child.pidfd.as_fd()), flags) == Ok(WaitStatus::StillAlive)
}

fn garbage(runner: &mut TestRunner) -> Vec<Vec<u8>> {
    let damaged = (any_message(), changes()).prop_map(|(mut message, changes)| {
        changes.iter().for_each(|change| change.apply(&mut message));
        [&[0][..], &message].concat()
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..80);
    let packets = proptest::collection::vec(prop_oneof![damaged, noise], 1..6);
    packets.new_tree(runner).unwrap().current()
}

#[test]
fn garbage_ends_init_and_the_keeper_but_crashes_neither() {
    let named = Named::new();
    let mut runner = TestRunner::default();
    let (read, _write) = std::io::pipe().unwrap();
    for round in 0..60 {
        let packets = garbage(&mut runner);
        let (socket, child) = if round % 2 == 0 { real_init(&named) } else { real_keeper() };
        for (at, bytes) in packets.iter().enumerate() {
            packet(&socket, bytes, &vec![read.as_raw_fd(); (round + at) % 3]);
        }
        drop(socket);
        ends(&child, &format!("{packets:?}"));
    }
}

#[test]
fn a_directory_that_is_not_absolute_is_not_made() {
    let named = Named::new();
    let (socket, _child) = real_init(&named);
    let mut channel = Channel::new(socket);
    let directory = format!("sbx-test-{}", process::id()).into_bytes();
    let start = Start { id: 5, directory: directory.clone(), streams: [Source::Null; 3], ..Start::default() };
    channel.send(&Request::Start(Box::new(start)).encode(), vec![]).unwrap();
    until(&mut channel, |bytes| {
        matches!(Reply::decode(bytes), Ok(Reply::NotStarted { id: 5, errno: libc::EINVAL, .. }))
    });
    assert!(!Path::new(std::str::from_utf8(&directory).unwrap()).exists());
}

#[test]
fn too_long_and_too_many_end_init_and_the_keeper() {
    let named = Named::new();
    let (read, _write) = std::io::pipe().unwrap();
    for which in 0..2 {
        let floods: [Vec<(Vec<u8>, usize)>; 4] = [
            vec![(vec![0; 100_000], 0)],
            vec![([&[1][..], &[0; 32 * 1024]].concat(), 0); 80],
            vec![(vec![0, 3], 200)],
            vec![(vec![1, 3], 2)],
        ];
        for flood in floods {
            let (socket, child) = if which == 0 { real_init(&named) } else { real_keeper() };
            flood.iter().all(|(bytes, fds)| packet(&socket, bytes, &vec![read.as_raw_fd(); *fds]));
            // It ends although the channel stays open.
            ends(&child, "a flood");
        }
    }
}

fn until(channel: &mut Channel, mut enough: impl FnMut(&[u8]) -> bool) {
    loop {
        match channel.receive() {
            Ok(message) if enough(&message.bytes) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // Requests may still wait in this end of the channel.
                while !channel.flush().unwrap() && channel.wants_write() {
                    if let Ok(message) = channel.receive()
                        && enough(&message.bytes)
                    {
                        return;
                    }
                }
                readable(channel.as_fd());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn init_takes_what_is_well_formed_in_any_order() {
    let named = Named::new();
    let (socket, child) = real_init(&named);
    let mut channel = Channel::new(socket);
    let mut runner = TestRunner::default();
    for round in 0..400 {
        let request = to_init().new_tree(&mut runner).unwrap().current();
        let fds = (0..round % 4).map(|_| File::open("/dev/null").unwrap().into());
        channel.send(&request.encode(), fds.collect()).unwrap();
        while channel.receive().is_ok() {}
    }
    // It still answers.
    let start = Start { id: 77, streams: [Source::Null; 3], ..Start::default() };
    channel.send(&Request::Start(Box::new(start)).encode(), vec![]).unwrap();
    channel.flush().unwrap();
    until(&mut channel, |bytes| matches!(Reply::decode(bytes), Ok(Reply::NotStarted { id: 77, .. })));
    assert!(lives(&child));
    drop(channel);
    assert_eq!(ends(&child, "the end of its channel"), 0);
}

#[test]
fn the_keeper_refuses_the_wrong_order_and_says_so() {
    let setup = || {
        let setup = keeper::Setup { user_namespace: true, only_namespaces: true, ..keeper::Setup::default() };
        keeper::Request::Setup(Box::new(setup))
    };
    let run = || keeper::Request::Run { arguments: vec![], hold: false };
    let proceed = || keeper::Request::Proceed;
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let sockets = || keeper::Request::Sockets { kind: SocketKind::default(), count: 1, purpose: 0 };
    for wrong in [
        vec![run()],
        vec![proceed()],
        vec![setup(), proceed()],
        vec![sockets()],
        vec![setup(), setup()],
        vec![setup(), sockets()],
    ] {
        let (socket, child) = real_keeper();
        let mut channel = Channel::new(socket);
        for request in &wrong {
            let with = usize::from(matches!(request, keeper::Request::Run { .. }));
            channel.send(&request.encode(), (0..with).map(|_| null.try_clone().unwrap()).collect()).unwrap();
        }
        let what = format!("{wrong:?}");
        until(&mut channel, |bytes| match keeper::Reply::decode(bytes).unwrap() {
            keeper::Reply::Failed { step, errno } => {
                assert_eq!((step.as_slice(), errno), (&b"order of messages"[..], libc::EPROTO), "{what}");
                true
            }
            keeper::Reply::Namespaces { .. } => false,
            other => panic!("{other:?} to {what}"),
        });
        assert_eq!(ends(&child, &what), 0);
    }
}

#[test]
fn unexpected_descriptors_end_the_keeper() {
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    for request in [
        keeper::Request::Sockets { kind: SocketKind::default(), count: 1, purpose: 0 },
        keeper::Request::Kill,
    ] {
        let (socket, child) = real_keeper();
        let mut channel = Channel::new(socket);
        channel.send(&request.encode(), vec![null.try_clone().unwrap()]).unwrap();
        ends(&child, "a surprise");
    }
}

#[test]
fn the_keeper_takes_any_well_formed_request() {
    let mut runner = TestRunner::default();
    for _ in 0..60 {
        let (socket, child) = real_keeper();
        let mut channel = Channel::new(socket);
        for _ in 0..3 {
            let mut request = to_keeper().new_tree(&mut runner).unwrap().current();
            if let keeper::Request::Setup(setup) = &mut request {
                // Not outside a namespace of its own.
                setup.user_namespace = true;
                setup.sysctls.clear();
            }
            let _ = channel.send(&request.encode(), vec![]);
        }
        drop(channel);
        ends(&child, "well-formed requests");
    }
}

#[test]
fn a_keeper_of_another_build_says_so() {
    let named = Named::new();
    let program = named.init();
    let (socket, child) = real(program.to_str().unwrap(), &[c"sbx-keeper".into(), c"another".into()]);
    let mut channel = Channel::new(socket);
    until(&mut channel, |bytes| {
        let Ok(keeper::Reply::Failed { step, errno }) = keeper::Reply::decode(bytes) else {
            panic!("{bytes:?}")
        };
        let step = String::from_utf8(step).unwrap();
        assert_eq!(
            (step.as_str(), errno),
            (concat!("this keeper is of build ", env!("SBX_BUILD")), libc::ENOEXEC)
        );
        true
    });
    assert_eq!(ends(&child, "another build"), 1);
    let (_socket, child) = real(program.to_str().unwrap(), &[c"somebody".into()]);
    assert_eq!(ends(&child, "another name"), 1);
}
