//! The process for snapshots, with real runsc.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::life::{family, gone};
use super::{Keeper, Origin, PATIENCE, Program, Reply, Request, Sandbox, host_view, init, next, setup};
use crate::keeper::wire::keeper::SnapshotEnd;
use crate::sys::channel;

/// How a snapshot ended, the archive, and how long the sandbox was paused.
fn take(sandbox: &mut Sandbox, bytes: u64, time: Duration) -> (SnapshotEnd, Vec<u8>, Duration) {
    let mut file = file();
    begin(sandbox, &file, bytes, time);
    let (end, size, paused) = ended(sandbox);
    let mut archive = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut archive).unwrap();
    if end == SnapshotEnd::Complete {
        assert_eq!(archive.len() as u64, size);
    }
    (end, archive, paused)
}

fn file() -> File {
    nix::sys::memfd::memfd_create(c"archive", nix::sys::memfd::MFdFlags::empty()).unwrap().into()
}

fn begin(sandbox: &mut Sandbox, file: &File, bytes: u64, time: Duration) {
    let milliseconds = time.as_millis().try_into().unwrap();
    let request = Request::Snapshot { bytes, milliseconds };
    sandbox.keeper.ask(&request, vec![file.try_clone().unwrap().into()]).unwrap();
}

fn ended(sandbox: &mut Sandbox) -> (SnapshotEnd, u64, Duration) {
    match next(&mut sandbox.keeper).0 {
        Reply::SnapshotEnded { end, bytes, paused_us, is_paused: false } => {
            (end, bytes, Duration::from_micros(paused_us))
        }
        other => panic!("{other:?}"),
    }
}

fn sandbox() -> Sandbox {
    static NUMBERS: AtomicU32 = AtomicU32::new(0);
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    Sandbox::named(true, &format!("snapshot-{}-{number}", std::process::id()))
}

/// A program that ends well.
fn shell(sandbox: &mut Sandbox, script: &str) {
    let (reply, text) = sandbox.run(1, &["sh", "-c", script], |_| ());
    assert_eq!(reply, init::Reply::Exited { id: 1, status: 0 }, "{text}");
}

/// It isn't paused: init starts a program, which ends.
fn runs(sandbox: &mut Sandbox) {
    assert_eq!(sandbox.run(99, &["true"], |_| ()).0, init::Reply::Exited { id: 99, status: 0 });
}

fn contains(archive: &[u8], name: &str) -> bool {
    archive.windows(name.len()).any(|window| window == name.as_bytes())
}

/// The process for snapshots of a keeper.
fn process(sandbox: &Sandbox) -> i32 {
    let comm = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let found = family(sandbox.keeper.pid())
        .into_iter()
        .map(|(pid, _)| pid)
        .find(|pid| comm(*pid) == "sbx-snapshot\n");
    found.expect("a process for snapshots")
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_was_changed_is_in_the_archive_and_the_sandbox_goes_on() {
    let mut sandbox = sandbox();
    let script = "mkdir /made; echo content >/made/file; rm /etc/group; truncate -s 5M /made/sparse
        (while :; do date +%s%N >>/growing; done) >/dev/null 2>&1 &
        exec 5>/deleted; echo gone >&5; rm /deleted; sleep 1000 >/dev/null 2>&1 &";
    shell(&mut sandbox, script);
    for _ in 0..3 {
        let (end, archive, paused) = take(&mut sandbox, 1 << 30, PATIENCE);
        println!("{} bytes, paused for {paused:?}", archive.len());
        assert_eq!(end, SnapshotEnd::Complete);
        assert!(archive.starts_with(b"./\0") && archive.len() % 512 == 0, "nothing but the archive");
        for name in ["./made/file\0", "content\n\0", "./etc/group\0", "./made/sparse\0", "./growing\0"] {
            assert!(contains(&archive, name), "{name:?}");
        }
        assert!(!contains(&archive, "deleted"));
        runs(&mut sandbox);
    }
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_sandbox_is_resumed_whatever_happens() {
    let mut sandbox = sandbox();
    shell(&mut sandbox, "for i in 1 2 3 4 5 6 7 8; do head -c 40000000 /dev/zero >/$i; done");
    let (end, archive, _) = take(&mut sandbox, 100_000_000, PATIENCE);
    assert_eq!(end, SnapshotEnd::TooLarge);
    assert!(archive.len() <= 100_000_000);
    runs(&mut sandbox);
    let (end, ..) = take(&mut sandbox, 1 << 30, Duration::from_millis(1));
    assert_eq!(end, SnapshotEnd::TimedOut);
    runs(&mut sandbox);
    // A file that can't be written.
    let null = File::open("/dev/null").unwrap();
    begin(&mut sandbox, &null, 1 << 30, PATIENCE);
    let failed = SnapshotEnd::Failed { step: b"writing the archive".to_vec(), errno: libc::EBADF };
    assert_eq!(ended(&mut sandbox).0, failed);
    runs(&mut sandbox);
    // It is cancelled before it begins or in the middle.
    for wait in [0, 20, 60, 100] {
        let file = file();
        begin(&mut sandbox, &file, 1 << 30, PATIENCE);
        std::thread::sleep(Duration::from_millis(wait));
        sandbox.keeper.ask(&Request::CancelSnapshot, vec![]).unwrap();
        let (end, ..) = ended(&mut sandbox);
        assert!(matches!(end, SnapshotEnd::Cancelled | SnapshotEnd::Complete), "{end:?}");
        runs(&mut sandbox);
    }
    // A second one beside it is refused, and the first goes on.
    let (one, two) = (file(), file());
    begin(&mut sandbox, &one, 1 << 30, PATIENCE);
    begin(&mut sandbox, &two, 1 << 30, PATIENCE);
    let busy = SnapshotEnd::Failed { step: b"another snapshot".to_vec(), errno: libc::EBUSY };
    assert_eq!(ended(&mut sandbox).0, busy);
    assert_eq!(ended(&mut sandbox).0, SnapshotEnd::Complete);
    assert_eq!((one.metadata().unwrap().size() > 320_000_000, two.metadata().unwrap().size()), (true, 0));
    runs(&mut sandbox);
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_process_for_snapshots_that_is_killed_is_reported() {
    let mut sandbox = sandbox();
    shell(&mut sandbox, "head -c 300000000 /dev/zero >/large");
    let pid = process(&sandbox);
    let file = file();
    begin(&mut sandbox, &file, 1 << 30, PATIENCE);
    let begun = Instant::now();
    while file.metadata().unwrap().size() == 0 {
        assert!(begun.elapsed() < PATIENCE);
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let (reply, _) = next(&mut sandbox.keeper);
    let step = b"the process for snapshots has ended".to_vec();
    let end = SnapshotEnd::Failed { step, errno: libc::ECHILD };
    assert_eq!(reply, Reply::SnapshotEnded { end, bytes: 0, paused_us: 0, is_paused: true });
    // The library ends the sandbox, which is still paused, and nothing is left.
    begin(&mut sandbox, &file, 1 << 30, PATIENCE);
    let none = SnapshotEnd::Failed { step: b"the process for snapshots".to_vec(), errno: libc::ESRCH };
    assert_eq!(ended(&mut sandbox).0, none);
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn nothing_of_a_snapshot_outlives_the_keeper() {
    for round in 0..10 {
        let mut sandbox = sandbox();
        shell(&mut sandbox, "head -c 100000000 /dev/zero >/large");
        let file = file();
        begin(&mut sandbox, &file, 1 << 30, PATIENCE);
        std::thread::sleep(Duration::from_millis(10 * round));
        let family = family(sandbox.keeper.pid());
        assert!(family.len() >= 4, "{family:?}");
        if round % 2 == 0 {
            sandbox.keeper.kill()
        } else {
            sandbox.keeper.ask(&Request::Kill, vec![]).unwrap()
        }
        gone(&family, "none of this name", Some(&sandbox.keeper));
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_process_for_snapshots_has_no_rights_and_no_descriptors() {
    let sandbox = sandbox();
    let pid = process(&sandbox);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!(
        (value("Seccomp:"), value("NoNewPrivs:"), value("Threads:")),
        ("2".into(), "1".into(), "1".into())
    );
    let mut fds: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| (entry.as_ref().unwrap().file_name(), fs::read_link(entry.unwrap().path()).unwrap()))
        .collect();
    fds.sort();
    let kinds: Vec<_> =
        fds.iter().map(|(_, target)| target.to_str().unwrap().split(':').next().unwrap()).collect();
    assert_eq!(kinds, ["/dev/null", "/dev/null", "/dev/null", "socket"], "{fds:?}");
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_process_for_snapshots_is_not_in_the_hosts_network() {
    let network = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    for networked in [true, false] {
        let name = format!("snapshot-{}-network-{networked}", std::process::id());
        let mut sandbox = Sandbox::named(networked, &name);
        let (keeper, own) = (network(sandbox.keeper.pid()), network(process(&sandbox)));
        assert_eq!((keeper == host, own == keeper), (!networked, networked));
        assert_ne!(own, host);
        shell(&mut sandbox, "echo content >/made");
        let (end, archive, _) = take(&mut sandbox, 1 << 30, PATIENCE);
        assert_eq!(end, SnapshotEnd::Complete);
        assert!(contains(&archive, "./made\0"));
        runs(&mut sandbox);
        sandbox.end();
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_process_for_snapshots_is_small() {
    let mut sandbox = sandbox();
    let pid = process(&sandbox);
    let own = |when: &str| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let value = |key: &str| -> u32 {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        println!("{when}: {} kB of its own, {} kB by share", value("Private_Dirty:"), value("Pss:"));
        value("Private_Dirty:")
    };
    assert!(own("before a snapshot") < 512);
    assert_eq!(take(&mut sandbox, 1 << 30, PATIENCE).0, SnapshotEnd::Complete);
    assert!(own("after one") < 1024);
    sandbox.end();
}

/// A keeper whose process for snapshots runs this script of Perl's in the place of runsc.
fn in_place_of_runsc(script: &str) -> Keeper {
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let loader = fs::canonicalize(loader.unwrap()).unwrap();
    let libraries = format!("/rootfs{}", loader.parent().unwrap().display());
    let there = fs::metadata(&loader).unwrap();
    let mut setup = setup(false, host_view());
    (setup.runsc, setup.runsc_identity) = (loader.to_str().unwrap().into(), (there.dev(), there.ino()));
    let mut keeper = Keeper::start(&Program::new(&Origin::new(None)).unwrap()).unwrap();
    keeper.ask(&Request::Setup(Box::new(setup)), vec![]).unwrap();
    assert!(matches!(next(&mut keeper).0, Reply::Namespaces { .. }));
    assert_eq!(next(&mut keeper).0, Reply::Prepared);
    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let perl = ["ld.so", "--library-path", &libraries, "/rootfs/usr/bin/perl", "-e"];
    let arguments = words(&[&perl[..], &[script]].concat());
    keeper.ask(&Request::KeepSnapshots { arguments, id: b"sb".to_vec() }, vec![]).unwrap();
    let arguments = words(&[&perl[..], &["sleep 1000"]].concat());
    let (_ours, theirs) = channel::pair().unwrap();
    keeper.ask(&Request::Run { arguments, hold: false }, vec![theirs]).unwrap();
    assert_eq!(next(&mut keeper).0, Reply::Running);
    keeper
}

/// What runs in the place of runsc: makes each system call and says its error number.
const CALLS: &str = r#"
    for (@CALLS@) { my ($name, @a) = @$_; $! = 0; my $r = syscall(shift @a, @a); print STDERR "$name=", ($r < 0 ? $!+0 : 0), " " }
    exit 3;
"#;

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_filter_of_the_process_for_snapshots_keeps_to_its_task() {
    let user = i64::from(libc::CLONE_NEWUSER);
    let socket = libc::SYS_socket;
    let calls: &[(&str, libc::c_long, &[i64], i32)] = &[
        ("unshare", libc::SYS_unshare, &[user], libc::EPERM),
        ("setns", libc::SYS_setns, &[0, 0], libc::EPERM),
        ("mount", libc::SYS_mount, &[0, 0, 0, 0, 0], libc::EPERM),
        ("umount2", libc::SYS_umount2, &[0, 0], libc::EPERM),
        ("pivot_root", libc::SYS_pivot_root, &[0, 0], libc::EPERM),
        ("chroot", libc::SYS_chroot, &[0], libc::EPERM),
        ("open_tree", libc::SYS_open_tree, &[0, 0, 0], libc::EPERM),
        ("ptrace", libc::SYS_ptrace, &[0, 0, 0, 0], libc::EPERM),
        ("process_vm_readv", libc::SYS_process_vm_readv, &[1, 0, 0, 0, 0, 0], libc::EPERM),
        ("bpf", libc::SYS_bpf, &[0, 0, 0], libc::EPERM),
        ("keyctl", libc::SYS_keyctl, &[0, 0, 0], libc::EPERM),
        ("io_uring", libc::SYS_io_uring_setup, &[1, 0], libc::EPERM),
        ("capset", libc::SYS_capset, &[0, 0], libc::EPERM),
        ("setuid", libc::SYS_setuid, &[0], libc::EPERM),
        ("set-id", libc::SYS_fchmod, &[0, 0o4755], libc::EPERM),
        ("clone-user", libc::SYS_clone, &[user, 0, 0, 0, 0], libc::EPERM),
        ("clone3", libc::SYS_clone3, &[0, 0], libc::ENOSYS),
        ("seccomp", libc::SYS_prctl, &[i64::from(libc::PR_SET_SECCOMP), 2, 0, 0, 0], libc::EPERM),
        ("inet", socket, &[i64::from(libc::AF_INET), 1, 0], libc::EPERM),
        ("inet6", socket, &[i64::from(libc::AF_INET6), 1, 0], libc::EPERM),
        ("netlink", socket, &[i64::from(libc::AF_NETLINK), 3, 0], libc::EPERM),
        ("packet", socket, &[i64::from(libc::AF_PACKET), 3, 0], libc::EPERM),
        ("unix", socket, &[i64::from(libc::AF_UNIX), 1, 0], 0),
        ("getpid", libc::SYS_getpid, &[], 0),
    ];
    let listed: Vec<String> = calls
        .iter()
        .map(|(name, number, arguments, _)| {
            let arguments: String = arguments.iter().map(|argument| format!(", {argument}")).collect();
            format!("[\"{name}\", {number}{arguments}]")
        })
        .collect();
    let script = CALLS.replace("@CALLS@", &listed.join(", "));
    let mut keeper = in_place_of_runsc(&script);
    let file = OwnedFd::from(file());
    keeper.ask(&Request::Snapshot { bytes: 1, milliseconds: 10_000 }, vec![file]).unwrap();
    let (reply, _) = next(&mut keeper);
    let Reply::SnapshotEnded {
        end: SnapshotEnd::Runsc { command, status: 3, output }, is_paused: false, ..
    } = reply
    else {
        panic!("{reply:?}")
    };
    assert_eq!(command, b"pause");
    let expected: String = calls.iter().map(|(name, _, _, errno)| format!("{name}={errno} ")).collect();
    assert_eq!(String::from_utf8_lossy(&output), expected);
    keeper.ask(&Request::Kill, vec![]).unwrap();
    assert!(matches!(next(&mut keeper).0, Reply::Ended { .. }));
    keeper.wait(PATIENCE);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_pause_that_fails_after_it_took_effect_is_undone_or_reported() {
    let killed = "kill 9, $$;";
    let no_memory = "print STDERR 'fatal error: runtime: out of memory'; exit 2;";
    let unrecorded = "print STDERR 'pause failed: saving container metadata: writing json file'; exit 128;";
    let refused = "print STDERR 'pause failed: cannot pause container'; exit 128;";
    for (pause, status, may_be_paused) in
        [(killed, 137, true), (no_memory, 2, true), (unrecorded, 128, true), (refused, 128, false)]
    {
        for (resume, has_failed) in [("exit 0;", false), ("exit 128;", true)] {
            let script = format!("if ($ARGV[0] eq 'pause') {{ {pause} }} {resume}");
            let mut keeper = in_place_of_runsc(&script);
            let file = OwnedFd::from(file());
            keeper.ask(&Request::Snapshot { bytes: 1, milliseconds: 10_000 }, vec![file]).unwrap();
            let (reply, _) = next(&mut keeper);
            let Reply::SnapshotEnded {
                end: SnapshotEnd::Runsc { command, status: said, .. }, is_paused, ..
            } = reply
            else {
                panic!("{reply:?}")
            };
            assert_eq!((command.as_slice(), said), (b"pause".as_slice(), status), "{script}");
            assert_eq!(is_paused, may_be_paused && has_failed, "{script}");
            keeper.ask(&Request::Kill, vec![]).unwrap();
            assert!(matches!(next(&mut keeper).0, Reply::Ended { .. }));
            keeper.wait(PATIENCE);
        }
    }
}
