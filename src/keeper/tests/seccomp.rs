//! The image helper's filter, applied for real: what isn't allowed ends the process.

/// The filters, which need nothing of the program.
#[allow(dead_code, unsafe_code, reason = "the program uses the rest")]
#[path = "../program/supervisor/seccomp.rs"]
mod filters;

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::sys::pidfd;
use crate::sys::spawn::{self, Command, Executable};

/// An `errno` that no call here returns.
const SURVIVED: i32 = libc::EHWPOISON;

/// A system call to try.
type Call<'a> = Box<dyn FnMut() + 'a>;

/// Runs a call under the filter, in a child that then ends; returns whether it survived.
fn survives(call: &mut dyn FnMut()) -> bool {
    let null = File::open("/dev/null").unwrap();
    let null = null.as_fd();
    // The child has its parent's memory and must not allocate, under the filter least of all.
    let mut filter = filters::image_helper(3, 77);
    let child = spawn::spawn(&mut Command {
        executable: Executable::Paths(&[]),
        arguments: &[],
        environment: &[],
        descriptors: &[null, null, null],
        dispositions: spawn::EVERY_SIGNAL,
        prepare: &mut || {
            nix::sys::prctl::set_no_new_privs().map_err(|error| error as i32)?;
            filter.apply().map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
            call();
            Err(SURVIVED)
        },
    });
    let child = match child {
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(SURVIVED), "{error}");
            return true;
        }
        Ok(child) => child,
    };
    assert!(pidfd::has_ended(child.pidfd.as_fd(), Duration::from_secs(20)));
    let status = waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED).unwrap();
    assert!(matches!(status, WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGSYS, _)), "{status:?}");
    false
}

#[test]
fn whatever_opens_reaches_starts_or_signals_is_fatal() {
    use nix::fcntl::{OFlag, open};
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::signal::{Signal, kill};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use nix::sys::stat::{Mode, mkdirat, stat};
    use nix::unistd::Pid;
    let mode = Mode::from_bits_truncate(0o600);
    let null = File::open("/dev/null").unwrap();
    // Calls that allocate nothing and take no lock: a child that dies by the filter would leave it locked.
    let mut calls: Vec<(&str, Call<'_>)> = Vec::new();
    let mut add = |name, call| calls.push((name, call));
    add(
        "open",
        Box::new(|| {
            let _ = open(c"/etc/passwd", OFlag::O_RDONLY, Mode::empty());
        }),
    );
    add(
        "stat",
        Box::new(|| {
            let _ = stat(c"/");
        }),
    );
    add(
        "mkdir",
        Box::new(|| {
            let _ = mkdirat(&null, c"d", mode);
        }),
    );
    add(
        "unlink",
        Box::new(|| {
            let _ = nix::unistd::unlink(c"/nothing");
        }),
    );
    add(
        "chdir",
        Box::new(|| {
            let _ = nix::unistd::chdir(c"/");
        }),
    );
    add(
        "chroot",
        Box::new(|| {
            let _ = nix::unistd::chroot(c"/");
        }),
    );
    for family in [AddressFamily::Inet, AddressFamily::Unix, AddressFamily::Netlink] {
        add(
            "socket",
            Box::new(move || {
                let _ = socket(family, SockType::Datagram, SockFlag::empty(), None);
            }),
        );
    }
    add(
        "pipe",
        Box::new(|| {
            let _ = nix::unistd::pipe();
        }),
    );
    add(
        "dup",
        Box::new(|| {
            let _ = nix::unistd::dup(&null);
        }),
    );
    add(
        "kill",
        Box::new(|| {
            let _ = kill(Pid::this(), None);
        }),
    );
    add(
        "kill the parent",
        Box::new(|| {
            let _ = kill(Pid::parent(), Signal::SIGCONT);
        }),
    );
    add(
        "unshare",
        Box::new(|| {
            let _ = unshare(CloneFlags::CLONE_NEWUSER);
        }),
    );
    add(
        "prctl",
        Box::new(|| {
            let _ = nix::sys::prctl::set_dumpable(true);
        }),
    );
    add(
        "umask",
        Box::new(|| {
            let _ = nix::sys::stat::umask(mode);
        }),
    );
    add(
        "ftruncate",
        Box::new(|| {
            let _ = nix::unistd::ftruncate(&null, 0);
        }),
    );
    add(
        "memfd",
        Box::new(|| {
            let _ = nix::sys::memfd::memfd_create(c"m", nix::sys::memfd::MFdFlags::empty());
        }),
    );
    add(
        "sendmsg elsewhere",
        Box::new(|| {
            let message = [std::io::IoSlice::new(b"x")];
            let flags = nix::sys::socket::MsgFlags::empty();
            let _ = nix::sys::socket::sendmsg::<()>(1000, &message, &[], flags, None);
        }),
    );
    for (name, call) in &mut calls {
        assert!(!survives(call), "{name} is allowed");
    }
}

#[test]
fn reading_writing_and_ending_are_allowed() {
    let file = tempfile();
    let mut buffer = [0; 8];
    assert!(survives(&mut || ()));
    assert!(survives(&mut || {
        let _ = nix::sys::uio::pread(&file, &mut buffer, 0);
        let _ = nix::sys::uio::pwrite(&file, b"x", 0);
        let _ = nix::unistd::read(&file, &mut buffer);
        let _ = nix::unistd::write(&file, b"x");
        let _ = nix::unistd::lseek(&file, 0, nix::unistd::Whence::SeekSet);
        let mode = nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let _ = nix::fcntl::fallocate(&file, mode, 0, 1);
    }));
}

fn tempfile() -> File {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE).open(std::env::temp_dir()).unwrap()
}

/// What the kernel would do: the three instructions of the filters, run on a call (linux/seccomp.h).
fn verdict(filter: &filters::Filter, call: libc::c_long, arguments: [u64; 6]) -> u32 {
    let architecture: u64 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let call = u64::try_from(call).unwrap() | architecture << 32;
    let data: Vec<u8> = [call, 0].iter().chain(&arguments).flat_map(|word| word.to_le_bytes()).collect();
    let (mut loaded, mut at) = (0, 0);
    loop {
        let step = filter.0[at];
        let jump = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
        at += 1;
        match step.code & 7 {
            0 => loaded = u32::from_le_bytes(data[step.k as usize..][..4].try_into().unwrap()),
            5 if step.code & 0x10 != 0 => at += jump(loaded == step.k),
            5 => at += jump(loaded & step.k != 0),
            6 => return step.k,
            other => panic!("{other}"),
        }
    }
}

#[test]
fn arguments_decide_about_memory_the_channel_and_signals() {
    let filter = filters::image_helper(3, 77);
    let allowed = |call, arguments| verdict(&filter, call, arguments) == libc::SECCOMP_RET_ALLOW;
    let [read, write, execute] =
        [libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC].map(|access| u64::from(access.cast_unsigned()));
    let private = u64::from(libc::MAP_PRIVATE.cast_unsigned());
    let anonymous = private | u64::from(libc::MAP_ANONYMOUS.cast_unsigned());
    assert!(allowed(libc::SYS_mmap, [0, 4096, read | write, anonymous, u64::MAX, 0]));
    assert!(!allowed(libc::SYS_mmap, [0, 4096, read | execute, anonymous, u64::MAX, 0]));
    assert!(!allowed(libc::SYS_mmap, [0, 4096, read, private, 4, 0]), "a file");
    assert!(!allowed(libc::SYS_mprotect, [0, 4096, read | execute, 0, 0, 0]));
    for call in [libc::SYS_recvmsg, libc::SYS_sendmsg] {
        assert!(allowed(call, [3, 0, 0, 0, 0, 0]));
        assert!(!allowed(call, [4, 0, 0, 0, 0, 0]));
    }
    let abort = u64::from(libc::SIGABRT.cast_unsigned());
    assert!(allowed(libc::SYS_tgkill, [77, 5, abort, 0, 0, 0]));
    assert!(!allowed(libc::SYS_tgkill, [78, 5, abort, 0, 0, 0]));
    assert!(!allowed(libc::SYS_tgkill, [77, 5, 9, 0, 0, 0]));
    for call in [libc::SYS_execve, libc::SYS_execveat, libc::SYS_clone, libc::SYS_setuid, libc::SYS_ptrace] {
        assert!(!allowed(call, [0; 6]));
    }
    // Of all numbers, these alone, whatever their arguments.
    let count = (0..1024).filter(|call| allowed(*call, [3, 0, 0, u64::MAX, 0, 0])).count();
    assert!(count <= 28, "{count} calls are allowed");
}
