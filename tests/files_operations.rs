//! Operations on files that go on by themselves: events, streams, ends in the middle, and many at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::files::{after, content, idle, plain, run, temporary};
use common::{PATIENCE, eventually, runtime};
use sbx::{Code, Config, Event, FileChangeKind, FileOperation, FileRequest, Queue, Sandbox};

/// The stream of an operation, waiting for what it is asked.
fn stream(operation: &FileOperation) -> UnixStream {
    let stream = UnixStream::from(operation.open_stream().unwrap());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    stream.set_write_timeout(PATIENCE).unwrap();
    stream
}

fn begin(sandbox: &Sandbox, request: FileRequest) -> FileOperation {
    sandbox.begin_file(request, &plain(), None).unwrap()
}

/// The next event that `wanted` takes, and its cookie.
fn next<T>(queue: &Queue, wanted: impl Fn(&Event) -> Option<T>) -> (u64, T) {
    let mut found = None;
    eventually("the event came", || {
        found = queue.next().and_then(|queued| Some((queued.cookie, wanted(&queued.event)?)));
        found.is_some()
    });
    found.unwrap()
}

fn done(event: &Event) -> Option<sbx::Result<()>> {
    match event {
        Event::OperationDone { result, .. } => Some(result.clone()),
        _ => None,
    }
}

fn changed(event: &Event) -> Option<()> {
    matches!(event, Event::FileChanged).then_some(())
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_end_of_an_operation_is_an_event_with_its_own_cookie() {
    let runtime = runtime();
    let queue = Queue::new(64).unwrap();
    let mut config = Config::new();
    config.set_queue(&queue, 1).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let write = FileRequest::Write("/tmp/a".into(), b"content".to_vec());
    let written = sandbox.begin_file(write, &plain(), Some((&queue, 77))).unwrap();
    assert_eq!(next(&queue, done), (77, Ok(())));
    assert!(written.has_ended());
    assert_eq!(written.wait(Some(Duration::ZERO)).unwrap().bytes, 7);
    let read =
        sandbox.begin_file(FileRequest::Read("/nowhere".into()), &plain(), Some((&queue, 78))).unwrap();
    let (cookie, result) = next(&queue, done);
    let error = result.unwrap_err();
    assert_eq!((cookie, error.code()), (78, Code::NotFound));
    assert!(error.message().contains("/nowhere"), "{error}");
    assert_eq!(read.bytes().unwrap_err().os_error(), Some(libc::ENOENT));
    // What was begun without a queue isn't told.
    sandbox.read_file("/tmp/a", &plain()).unwrap();
    sandbox.terminate().unwrap();
    let exited = |event: &Event| matches!(event, Event::Exited { .. }).then_some(());
    assert_eq!(next(&queue, exited).0, 1);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn streams_carry_what_has_no_limit() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    let piece: Vec<u8> = (0..1 << 20).map(|at: u32| u8::try_from(at % 251).unwrap()).collect();
    let upload = begin(&sandbox, FileRequest::Upload("/tmp/big".into()));
    let mut up = stream(&upload);
    for _ in 0..40 {
        up.write_all(&piece).unwrap();
    }
    assert_eq!(upload.wait(Some(Duration::ZERO)).unwrap_err().code(), Code::TimedOut, "its end is awaited");
    up.shutdown(Shutdown::Write).unwrap();
    assert_eq!(upload.wait(PATIENCE).unwrap().bytes, 40 << 20);
    let download = begin(&sandbox, FileRequest::Download("/tmp/big".into()));
    let mut down = stream(&download);
    assert_eq!(download.open_stream().unwrap_err().code(), Code::State, "it is given once");
    let mut got = vec![0; 1 << 20];
    for _ in 0..40 {
        down.read_exact(&mut got).unwrap();
        assert!(got == piece);
    }
    assert_eq!(down.read(&mut got).unwrap(), 0);
    assert_eq!(download.wait(PATIENCE).unwrap().bytes, 40 << 20);
    // Whole, it is over the limit, on both sides.
    let error = sandbox.read_file("/tmp/big", &plain()).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    let error = sandbox.write_file("/tmp/big", &vec![0; (16 << 20) + 1], &plain()).unwrap_err();
    assert_eq!(error.code(), Code::Invalid, "{error}");
    let more = plain().limit(40 << 20);
    assert_eq!(sandbox.read_file("/tmp/big", &more).unwrap().len(), 40 << 20);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_huge_file_ends_at_the_limit() {
    let runtime = runtime();
    let sandbox = after(&runtime, "truncate -s 4T /tmp/huge; printf end >> /tmp/huge");
    let info = sandbox.stat_file("/tmp/huge", &plain()).unwrap();
    assert_eq!(info.size, (4 << 40) + 3);
    assert_eq!(sandbox.read_file("/tmp/huge", &plain()).unwrap_err().code(), Code::Limit);
    let end = plain().offset(4 << 40);
    assert_eq!(sandbox.read_file("/tmp/huge", &end).unwrap(), b"end");
    let limit = plain().limit(1 << 20);
    let (_scratch, mut file) = temporary("huge");
    for copied in [
        sandbox.download_file("/tmp/huge", file.as_fd(), &limit),
        sandbox.copy_out("/tmp/huge", file.as_fd(), &limit),
        sandbox.copy_out("/tmp", file.as_fd(), &limit),
    ] {
        let error = copied.unwrap_err();
        assert_eq!(error.code(), Code::Limit, "{error}");
        assert!(content(&mut file).len() <= 3 << 20);
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_large_directory_is_listed_up_to_the_limit() {
    let runtime = runtime();
    let make =
        "mkdir /tmp/many; python3 -c 'import os\nfor n in range(100001): os.mknod(\"/tmp/many/%d\" % n)'";
    let sandbox = after(&runtime, make);
    let error = sandbox.list_directory("/tmp/many", &plain()).unwrap_err();
    assert_eq!((error.code(), error.os_error()), (Code::Limit, Some(libc::EFBIG)), "{error}");
    let more = plain().limit(100_001);
    let entries = sandbox.list_directory("/tmp/many", &more).unwrap();
    assert_eq!(entries.len(), 100_001);
    let names: BTreeSet<_> = entries.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 100_001);
    let removed = sandbox.remove_file("/tmp/many", &plain().recursive(true)).unwrap();
    assert_eq!(removed.entries, 100_002);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_full_disk_is_an_error_however_the_bytes_came() {
    let runtime = runtime();
    let mut config = Config::new();
    config.set_disk(8 << 20).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let (_scratch, mut file) = temporary("full");
    file.set_len(32 << 20).unwrap();
    let full = |error: sbx::Error| assert_eq!(error.os_error(), Some(libc::ENOSPC), "{error}");
    full(sandbox.write_file("/var/a", &vec![1; 12 << 20], &plain()).unwrap_err());
    sandbox.remove_file("/var/a", &plain()).unwrap();
    full(sandbox.upload_file("/var/a", file.as_fd(), &plain()).unwrap_err());
    sandbox.remove_file("/var/a", &plain()).unwrap();
    file.rewind().unwrap();
    let upload = begin(&sandbox, FileRequest::Upload("/var/a".into()));
    let mut up = stream(&upload);
    // The writer isn't left hanging, and the operation says why.
    let mut failed = None;
    for _ in 0..64 {
        if let Err(error) = up.write_all(&vec![1; 1 << 20]) {
            failed = Some(error.kind());
            break;
        }
    }
    assert!(matches!(failed, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{failed:?}");
    full(upload.wait(PATIENCE).unwrap_err());
    sandbox.write_file("/var/a", b"small again", &plain()).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn two_hundred_operations_go_on_at_once() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    let parents = plain().parents(true);
    let write = |number: usize| {
        let request =
            FileRequest::Write(format!("/tmp/many/{number}").into(), number.to_string().into_bytes());
        sandbox.begin_file(request, &parents, None).unwrap()
    };
    let all: Vec<_> = (0..200).map(write).collect();
    for operation in &all {
        operation.wait(PATIENCE).unwrap();
    }
    let read = |number: usize| begin(&sandbox, FileRequest::Read(format!("/tmp/many/{number}").into()));
    let all: Vec<_> = (0..200).map(read).collect();
    for (number, operation) in all.iter().enumerate() {
        operation.wait(PATIENCE).unwrap();
        assert_eq!(operation.bytes().unwrap(), number.to_string().into_bytes());
    }
    // Those that wait for their host take up places, and one too many is told so.
    let held: Vec<_> =
        (0..256).map(|n| begin(&sandbox, FileRequest::Upload(format!("/tmp/h{n}").into()))).collect();
    let error = begin(&sandbox, FileRequest::Stat("/".into())).wait(PATIENCE).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    drop(held);
    eventually("places come free", || sandbox.stat_file("/", &plain()).is_ok());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_operation_ends_when_asked_late_or_dropped() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    let helpers = || {
        let names = sandbox.list_directory("/proc", &plain()).unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.as_bytes()[0].is_ascii_digit()).count()
    };
    let before = helpers();
    let upload = begin(&sandbox, FileRequest::Upload("/tmp/a".into()));
    let mut up = stream(&upload);
    up.write_all(b"some").unwrap();
    upload.cancel();
    assert_eq!(upload.wait(PATIENCE).unwrap_err().code(), Code::Closed);
    let soon = plain().time_limit(Duration::from_millis(50));
    let late = sandbox.begin_file(FileRequest::Upload("/tmp/b".into()), &soon, None).unwrap();
    let error = late.wait(PATIENCE).unwrap_err();
    assert_eq!(error.code(), Code::TimedOut, "{error}");
    assert!(late.has_ended());
    let (quiet, _writer) = std::io::pipe().unwrap();
    let error = sandbox.upload_file("/tmp/b", quiet.as_fd(), &soon).unwrap_err();
    assert_eq!(error.code(), Code::TimedOut, "{error}");
    drop(begin(&sandbox, FileRequest::Upload("/tmp/c".into())));
    let watch = begin(&sandbox, FileRequest::Watch("/tmp".into()));
    assert_eq!(watch.next_change(PATIENCE).unwrap().kind, FileChangeKind::Ready);
    drop(watch);
    eventually("no helper is left", || helpers() == before);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_is_not_idle_while_an_operation_goes_on() {
    let runtime = runtime();
    let mut config = Config::new();
    config.set_idle_timeout(Duration::from_millis(300)).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let watch = begin(&sandbox, FileRequest::Watch("/tmp".into()));
    let upload = begin(&sandbox, FileRequest::Upload("/tmp/slow".into()));
    let mut up = stream(&upload);
    assert_eq!(sandbox.wait(Some(Duration::from_millis(900))).unwrap_err().code(), Code::TimedOut);
    up.write_all(b"x").unwrap();
    drop(up);
    upload.wait(PATIENCE).unwrap();
    // A watch only waits for what others do.
    assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, sbx::ExitReason::Idle);
    assert_eq!(watch.wait(PATIENCE).unwrap_err().code(), Code::State);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_operation_ends_with_its_sandbox() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    let (reader, writer) = std::io::pipe().unwrap();
    let held: Vec<_> =
        (0..20).map(|n| begin(&sandbox, FileRequest::Upload(format!("/tmp/{n}").into()))).collect();
    std::thread::scope(|scope| {
        // Ours to close whatever happens, for then the thread ends.
        let writer = writer;
        let blocked = scope.spawn(|| sandbox.upload_file("/tmp/z", reader.as_fd(), &plain()));
        eventually("it has begun", || sandbox.stat_file("/tmp/z", &plain()).is_ok());
        sandbox.terminate().unwrap();
        sandbox.wait(PATIENCE).unwrap();
        for operation in &held {
            let error = operation.wait(Some(Duration::ZERO)).unwrap_err();
            assert_eq!(error.code(), Code::State, "{error}");
        }
        // Nothing came from the pipe, and still nobody waits for it.
        let error = blocked.join().unwrap().unwrap_err();
        assert_eq!(error.code(), Code::State, "{error}");
        drop(writer);
    });
    let error = sandbox.read_file("/tmp/z", &plain()).unwrap_err();
    assert_eq!(error.code(), Code::State, "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_a_host_gives_and_takes_may_fail_too() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    sandbox.write_file("/tmp/a", &vec![7; 4 << 20], &plain()).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let error = sandbox.download_file("/tmp/a", writer.as_fd(), &plain()).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EPIPE), "{error}");
    let directory = File::open("/tmp").unwrap();
    let error = sandbox.upload_file("/tmp/b", directory.as_fd(), &plain()).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EISDIR), "{error}");
    // A host that goes away in the middle of a download is the operation's end, not the sandbox's.
    let download = begin(&sandbox, FileRequest::Download("/tmp/a".into()));
    drop(download.open_stream().unwrap());
    let error = download.wait(PATIENCE).unwrap_err();
    assert_eq!((error.code(), error.os_error()), (Code::Closed, Some(libc::EPIPE)), "{error}");
    assert_eq!(sandbox.stat_file("/tmp/a", &plain()).unwrap().size, 4 << 20);
}

/// Takes changes until the path's is of that kind.
fn until(watch: &FileOperation, kind: FileChangeKind, path: &str) {
    loop {
        let change = watch.next_change(PATIENCE).unwrap();
        assert_ne!(change.kind, FileChangeKind::Overflow);
        if change.kind == kind && change.path == std::path::Path::new(path) {
            return;
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn changes_in_a_directory_are_told() {
    use FileChangeKind::{Attributes, Created, Modified, MovedFrom, MovedTo, Ready, Removed};
    let runtime = runtime();
    let sandbox = idle(&runtime);
    let parents = plain().parents(true);
    sandbox.make_directory("/tmp/w/sub", &parents).unwrap();
    let recursive = plain().recursive(true);
    let watch = sandbox.begin_file(FileRequest::Watch("/tmp/w".into()), &recursive, None).unwrap();
    let change = watch.next_change(PATIENCE).unwrap();
    assert_eq!((change.kind, change.path), (Ready, "".into()));
    let error = watch.next_change(Some(Duration::ZERO)).unwrap_err();
    assert_eq!(error.code(), Code::TimedOut, "{error}");
    sandbox.write_file("/tmp/w/a", b"x", &plain()).unwrap();
    until(&watch, Created, "a");
    until(&watch, Modified, "a");
    sandbox.write_file("/tmp/w/a", b"", &plain().mode(0o600).append(true)).unwrap();
    until(&watch, Attributes, "a");
    sandbox.rename_file("/tmp/w/a", "/tmp/w/sub/b", &plain()).unwrap();
    until(&watch, MovedFrom, "a");
    until(&watch, MovedTo, "sub/b");
    sandbox.write_file("/tmp/w/new/deep/c", b"x", &parents).unwrap();
    until(&watch, Created, "new/deep/c");
    sandbox.rename_file("/tmp/w/new", "/tmp/w/old", &plain()).unwrap();
    until(&watch, MovedTo, "old");
    sandbox.remove_file("/tmp/w/old/deep/c", &plain()).unwrap();
    until(&watch, Removed, "old/deep/c");
    sandbox.remove_file("/tmp/w", &recursive).unwrap();
    until(&watch, Removed, "sub/b");
    let error = loop {
        match watch.next_change(PATIENCE) {
            Ok(change) => assert_eq!(change.kind, Removed),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::State, "{error}");
    watch.wait(PATIENCE).unwrap();
}

/// Takes changes until the path's is there; how often it was told on the way that some were lost.
fn lost_until(watch: &FileOperation, path: &str) -> usize {
    let mut lost = 0;
    loop {
        let change = watch.next_change(PATIENCE).unwrap();
        lost += usize::from(change.kind == FileChangeKind::Overflow);
        if change.path == std::path::Path::new(path) {
            return lost;
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_watch_survives_more_directories_than_it_watches() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    sandbox.make_directory("/tmp/w/first", &plain().parents(true)).unwrap();
    let recursive = plain().recursive(true);
    let begin = || sandbox.begin_file(FileRequest::Watch("/tmp/w".into()), &recursive, None).unwrap();
    let watch = begin();
    assert_eq!(watch.next_change(PATIENCE).unwrap().kind, FileChangeKind::Ready);
    // Too deep, then too many.
    let deep = "import os\nos.chdir('/tmp/w')\nfor n in range(1100):\n  os.mkdir('d'); os.chdir('d')";
    run(&sandbox, &format!("python3 -c \"{deep}\""));
    sandbox.write_file("/tmp/w/first/a", b"x", &plain()).unwrap();
    assert_eq!(lost_until(&watch, "first/a"), 1);
    run(&sandbox, "python3 -c 'import os\nfor n in range(8500): os.mkdir(\"/tmp/w/%d\" % n)'");
    sandbox.write_file("/tmp/w/first/b", b"x", &plain()).unwrap();
    lost_until(&watch, "first/b");
    // One that finds them there begins in order, too.
    let late = begin();
    assert_eq!(late.next_change(PATIENCE).unwrap().kind, FileChangeKind::Ready);
    assert_eq!(late.next_change(PATIENCE).unwrap().kind, FileChangeKind::Overflow);
    sandbox.write_file("/tmp/w/last", b"x", &plain()).unwrap();
    lost_until(&late, "last");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn changes_wait_for_a_host_that_is_slow_to_take_them() {
    let runtime = runtime();
    let queue = Queue::new(64).unwrap();
    let mut config = Config::new();
    config.set_queue(&queue, 1).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    sandbox.make_directory("/tmp/w", &plain()).unwrap();
    let watch = sandbox.begin_file(FileRequest::Watch("/tmp/w".into()), &plain(), Some((&queue, 5))).unwrap();
    assert_eq!(next(&queue, changed).0, 5);
    assert_eq!(watch.next_change(PATIENCE).unwrap().kind, FileChangeKind::Ready);
    assert_eq!(watch.next_change(Some(Duration::ZERO)).unwrap_err().code(), Code::TimedOut);
    let make = "python3 -c 'import os\nfor n in range(6000): os.mknod(\"/tmp/w/%d\" % n)'; mkdir /tmp/w/last";
    run(&sandbox, make);
    // Told once, however many there are, until the host has found none.
    assert_eq!(next(&queue, changed).0, 5);
    assert!(queue.next().is_none());
    let mut created = 0;
    loop {
        let change = watch.next_change(PATIENCE).unwrap();
        assert_ne!(change.kind, FileChangeKind::Overflow);
        created += usize::from(change.kind == FileChangeKind::Created);
        if change.path == std::path::Path::new("last") {
            break;
        }
    }
    assert_eq!(created, 6001, "none is lost, though more came than wait here");
}
