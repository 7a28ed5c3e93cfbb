//! The bytes of every message, as `wire_bytes.txt` has them.

use std::fmt::Write;

use crate::keeper::wire::{files, image, init, keeper};

fn user() -> init::User {
    init::User { user: "me".into(), group: "us".into(), of_image: true }
}

fn to_init() -> Vec<init::Request> {
    use init::Request;
    let start = init::Start {
        id: 0x0102_0304,
        arguments: vec![b"sh".to_vec(), vec![]],
        environment: vec![b"A=b".to_vec().into()],
        directory: b"/d".to_vec(),
        files: vec![init::File { path: b"/f".to_vec(), content: b"c".to_vec() }],
        user: user(),
        setuid_allowed: true,
        open_files: 1024,
        streams: [init::Source::Null, init::Source::Given, init::Source::Stdout],
        terminal: Some(init::Window { rows: 24, columns: 80 }),
    };
    let plain = init::Start { terminal: None, ..start.clone() };
    let mut all = vec![
        Request::Start(Box::new(start)),
        Request::Start(Box::new(plain)),
        Request::Signal { id: 1, signal: -9, group: true },
        Request::KillSession { id: 2 },
        Request::Connect { ticket: 3, port: 0xfffe },
        Request::Probe { ticket: 4, port: 80 },
        Request::Count { ticket: 5 },
        Request::Ping { ticket: 6 },
        Request::Resize { id: 7, window: init::Window { rows: 1, columns: 2 } },
        Request::EndFile { ticket: 8 },
        Request::KillAll,
    ];
    let path = || b"/p".to_vec();
    let jobs = [
        files::Job::Read { path: path(), offset: 1, limit: 2 },
        files::Job::Write { path: path(), mode: 0o644, append: true, exclusive: false, parents: true },
        files::Job::List { path: path(), limit: 3 },
        files::Job::Stat { path: path(), follow: true },
        files::Job::MakeDirectory { path: path(), mode: files::NO_MODE, parents: false },
        files::Job::Remove { path: path(), recursive: true, missing_ok: false },
        files::Job::Rename { from: path(), to: b"/q".to_vec(), exclusive: true },
        files::Job::Pack { path: path(), limit: 4, as_layer: true },
        files::Job::Unpack { path: path(), limit: 5, parents: false, keep_owner: true, keep_root: false },
        files::Job::Watch { path: path(), recursive: true },
        files::Job::Measure { limit: 6 },
    ];
    let task = |job| Box::new(files::Task { user: user(), job });
    all.extend(jobs.map(|job| Request::File { ticket: 9, task: task(job) }));
    all
}

fn from_init() -> Vec<init::Reply> {
    use init::{Reply, Step};
    let steps = [
        Step::Message,
        Step::User,
        Step::Identity,
        Step::Directory,
        Step::Execute,
        Step::Process,
        Step::Terminal,
        Step::MakeDirectory,
        Step::WriteFiles,
    ];
    let mut all = vec![
        Reply::Hello,
        Reply::Started { id: 1 },
        Reply::Exited { id: 2, status: -1 },
        Reply::Connected { ticket: 3, errno: 0 },
        Reply::Probed { ticket: 4, errno: 111 },
        Reply::Counted { ticket: 5, processes: Some(6) },
        Reply::Counted { ticket: 5, processes: None },
        Reply::Pong { ticket: 7 },
    ];
    all.extend(steps.map(|step| Reply::NotStarted { id: 8, step, errno: 2 }));
    all
}

fn to_keeper() -> Vec<keeper::Request> {
    use keeper::{Bind, Entry, Group, GroupSetting, Request, Setup, SocketKind, Sysctl, Volume};
    let path = || b"/p".to_vec();
    let bind = || Bind { source: b"/s".to_vec(), writable: true };
    let setting = GroupSetting { file: b"f".to_vec(), value: b"1".to_vec(), optional: true };
    let setup = Setup {
        user_namespace: true,
        network: false,
        only_namespaces: true,
        sysctls: vec![Sysctl { name: b"n".to_vec(), value: b"v".to_vec(), mandatory: true }],
        runsc: b"/runsc".to_vec(),
        runsc_identity: (1, 2),
        beside: (3, 4),
        rootfs: vec![
            Entry::Directory { path: path(), mode: 0o755 },
            Entry::Symlink { path: path(), target: b"t".to_vec() },
            Entry::File { path: path(), mode: 0o600, content: b"c".to_vec() },
            Entry::Bind { path: path(), bind: bind() },
            Entry::Cover { path: path() },
        ],
        mounts: vec![bind()],
        volumes: vec![Volume {
            name: b"v".to_vec(),
            directory: path(),
            identity: (5, 6),
            lock: b"/l".to_vec(),
            lock_identity: (7, 8),
            sub_path: b"s".to_vec(),
            create_sub_path: true,
            writable: false,
        }],
        bundle: b"{}".to_vec(),
        groups: vec![Group { name: b"g".to_vec(), unified: true, memory: false, settings: vec![setting] }],
        images: 6,
        watched_memory: u64::MAX - 1,
    };
    vec![
        Request::Setup(Box::new(setup)),
        Request::Run { arguments: vec![b"run".to_vec()], hold: true },
        Request::Sockets { kind: SocketKind { ipv6: true, datagram: false }, count: 5, purpose: 6 },
        Request::Kill,
        Request::Usage,
        Request::Lifetime { milliseconds: 7 },
        Request::KeepSnapshots { arguments: vec![b"runsc".to_vec()], id: b"sb-1".to_vec() },
        Request::Snapshot { bytes: 8, milliseconds: 9 },
        Request::CancelSnapshot,
        Request::Proceed,
    ]
}

fn from_keeper() -> Vec<keeper::Reply> {
    use keeper::{OutOfMemory, Reply, SnapshotEnd, SocketKind, Usage};
    let usage = Usage { cpu_us: Some(1), memory: None, memory_peak: Some(2) };
    let ended = |out_of_memory| {
        let (log, output) = (b"log".to_vec(), b"out".to_vec());
        Reply::Ended { status: 256, log, output, usage, out_of_memory }
    };
    let snapshot = |end| Reply::SnapshotEnded { end, bytes: 10, paused_us: 11, is_paused: true };
    let runsc = SnapshotEnd::Runsc { command: b"tar".to_vec(), status: -1, output: b"out".to_vec() };
    vec![
        Reply::Namespaces { refused: vec![b"r".to_vec()] },
        Reply::Prepared,
        Reply::Running,
        Reply::Sockets { kind: SocketKind { ipv6: false, datagram: true }, purpose: 6 },
        Reply::Failed { step: b"step".to_vec(), errno: 1 },
        ended(OutOfMemory::No),
        ended(OutOfMemory::Kernel),
        ended(OutOfMemory::Watchdog),
        Reply::Used(usage),
        Reply::Expired,
        snapshot(SnapshotEnd::Complete),
        snapshot(SnapshotEnd::Cancelled),
        snapshot(SnapshotEnd::TooLarge),
        snapshot(SnapshotEnd::TimedOut),
        snapshot(runsc),
        snapshot(SnapshotEnd::Failed { step: b"step".to_vec(), errno: 1 }),
    ]
}

fn to_image_helper() -> Vec<image::Request> {
    use image::{Limits, Range, Request, Resources, Whiteouts};
    let limits = Limits { bytes: 1, entries: 2, ratio: 3, depth: 4, layers: 5, memory: 6 };
    let resources = Resources { cpu_seconds: 7, address_space: 8, file_size: 9 };
    let range = Some(Range { offset: 10, length: 11 });
    vec![
        Request::Setup { limits, resources },
        Request::Base,
        Request::Layer { range, diff_id: Some([12; 32]), whiteouts: Whiteouts::Oci },
        Request::Layer { range: None, diff_id: None, whiteouts: Whiteouts::Devices },
        Request::Layer { range: None, diff_id: None, whiteouts: Whiteouts::None },
        Request::Index,
        Request::Inflate,
        Request::Finish { is_root: true },
        Request::FindDirectory { path: b"/p".to_vec() },
        Request::Export,
    ]
}

fn from_image_helper() -> Vec<image::Reply> {
    use image::{ArchiveEntry, Exported, Failure, Reply, Summary};
    let entry = ArchiveEntry { name: b"n".to_vec(), offset: 1, length: 2, link: Some(b"l".to_vec()) };
    let plain = ArchiveEntry { link: None, ..entry.clone() };
    let diff_ids = vec![[5; 32]];
    let mut all = vec![
        Reply::Ready { isolated: true },
        Reply::Progress { bytes: 3 },
        Reply::Done,
        Reply::Entries { entries: vec![entry, plain], last: true },
        Reply::Inflated { bytes: 4 },
        Reply::Finished(Summary { entries: 1, bytes: 2, content_bytes: 3, dropped_xattrs: 4, diff_ids }),
        Reply::Directory { found: true },
        Reply::Exported(Exported { entries: 1, bytes: 2, skipped: 3 }),
    ];
    let failures = [Failure::Malformed, Failure::Limit, Failure::Digest, Failure::System, Failure::Internal];
    all.extend(failures.map(|failure| Reply::Failed { failure, errno: 28, text: b"t".to_vec() }));
    all
}

fn entry() -> files::Entry {
    let stat = files::Stat { mode: 0o100_644, user: 1, group: 2, links: 3, size: 4, modified: -5 };
    files::Entry { name: b"name".to_vec(), stat, target: b"target".to_vec() }
}

fn outcomes() -> Vec<files::Outcome> {
    use files::{Outcome, Step, Totals};
    let steps = [
        Step::Start,
        Step::User,
        Step::Open,
        Step::Read,
        Step::Write,
        Step::Make,
        Step::Remove,
        Step::Rename,
        Step::Kind,
        Step::Limit,
        Step::Stream,
        Step::Archive,
        Step::Escape,
        Step::Unpackable,
        Step::Depth,
        Step::Shrank,
    ];
    let mut all = vec![
        Outcome::Done(Totals { bytes: 1, entries: 2, skipped: 3 }),
        Outcome::Is(entry()),
        Outcome::Working,
    ];
    all.extend(steps.map(|step| Outcome::Failed { step, errno: 13, path: b"/p".to_vec() }));
    all
}

fn changes() -> [files::Change; 8] {
    use files::ChangeKind::{Attributes, Created, Modified, MovedFrom, MovedTo, Overflow, Ready, Removed};
    [Ready, Created, Modified, Removed, MovedFrom, MovedTo, Attributes, Overflow]
        .map(|kind| files::Change { kind, path: b"a/b".to_vec() })
}

#[test]
fn every_message_has_the_bytes_that_are_written_down() {
    let mut text = String::new();
    let mut add = |kind: &str, bytes: Vec<u8>| {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        writeln!(text, "{kind} {hex}").unwrap();
    };
    to_init().iter().for_each(|message| add("to-init", message.encode()));
    from_init().iter().for_each(|message| add("from-init", message.encode()));
    to_keeper().iter().for_each(|message| add("to-keeper", message.encode()));
    from_keeper().iter().for_each(|message| add("from-keeper", message.encode()));
    outcomes().iter().for_each(|outcome| add("outcome", outcome.encode()));
    add("entry", entry().record());
    changes().iter().for_each(|change| add("change", change.record()));
    to_image_helper().iter().for_each(|message| add("to-image-helper", message.encode()));
    from_image_helper().iter().for_each(|message| add("from-image-helper", message.encode()));
    for (now, pinned) in text.lines().zip(include_str!("wire_bytes.txt").lines()) {
        assert_eq!(now, pinned);
    }
    assert_eq!(text, include_str!("wire_bytes.txt"));
}

/// A failure's path is cut to what the other side takes.
#[test]
fn a_long_path_of_a_failure_is_cut() {
    let step = files::Step::Open;
    let failed = |length| files::Outcome::Failed { step, errno: 1, path: vec![b'x'; length] };
    let sent = failed(files::MAX_PATH_BYTES + 1).encode();
    assert_eq!(files::Outcome::decode(&sent), Ok(failed(files::MAX_PATH_BYTES)));
}
