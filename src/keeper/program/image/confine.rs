//! Confines the process before it reads a byte that isn't the library's.
//!
//! Two fences, each of which holds alone: empty namespaces, whose root is an empty, read-only directory, and a
//! filter of system calls that leaves no call by which something could be opened, reached, started or signalled.
//! Where namespaces can't be had (a host in a chroot or in most containers, a kernel that forbids them to ordinary
//! users) the filter is alone. Limits bound what the process takes of the machine.

use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::process;
use std::ptr;

use crate::supervisor::seccomp;
use crate::system;
use crate::wire::image::Resources;

/// Descriptors: three of `/dev/null`, the channel, the output, the host's pidfd, and two of a request.
const MAX_DESCRIPTORS: u64 = 16;

/// Directories to mount the empty root on. Any that exists will do, since no other process sees the mount.
const BASES: [&CStr; 5] = [c"/tmp", c"/run", c"/mnt", c"/var/tmp", c"/home"];

/// All namespaces but the user's.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWCGROUP;

/// Ties the process to the thread of the library that started it, leaves the host's session, so that a Ctrl-C at its
/// terminal isn't for it, and closes whatever isn't named.
pub(super) fn detach(last: RawFd) -> io::Result<()> {
    // SAFETY: setsid takes nothing.
    unsafe { libc::setsid() };
    system::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL.cast_unsigned().into())?;
    // SAFETY: the name is a NUL-terminated literal.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"sbx-image".as_ptr()) };
    system::prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    let first = last.cast_unsigned().saturating_add(1);
    // SAFETY: close_range takes numbers, and the descriptors above the last belong to nothing in this program.
    system::check(unsafe { libc::close_range(first, libc::c_uint::MAX, 0) }).map(|_| ())
}

/// Confines the process. Returns whether it has empty namespaces.
pub(super) fn confine(channel: RawFd, resources: &Resources) -> io::Result<bool> {
    let isolated = isolate();
    drop_capabilities()?;
    // A new user namespace makes a process dumpable again, so this comes after it.
    system::prctl(libc::PR_SET_DUMPABLE, 0)?;
    limit(libc::RLIMIT_CORE, 0, 0)?;
    limit(libc::RLIMIT_NOFILE, MAX_DESCRIPTORS, MAX_DESCRIPTORS)?;
    limit(libc::RLIMIT_AS, resources.address_space, resources.address_space)?;
    // The first limit sends SIGXCPU, the second kills.
    limit(libc::RLIMIT_CPU, resources.cpu_seconds, resources.cpu_seconds.saturating_add(1))?;
    limit(libc::RLIMIT_FSIZE, resources.file_size, resources.file_size)?;
    // A write beyond the limit is EFBIG then, which is an answer.
    // SAFETY: ignoring a signal takes no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    seccomp::image_helper(channel.cast_unsigned(), process::id()).apply()?;
    Ok(isolated)
}

/// Enters namespaces of its own, with an empty root. In the new user namespace no id is mapped, so the process is
/// nobody in it. The second attempt is for a host with CAP_SYS_ADMIN where user namespaces are off.
///
/// The process namespace would be its children's; it has none.
fn isolate() -> bool {
    let made = [libc::CLONE_NEWUSER | NAMESPACES, NAMESPACES].into_iter().any(|namespaces| {
        // SAFETY: unshare takes a number; the program has one thread.
        unsafe { libc::unshare(namespaces) == 0 }
    });
    made && empty_root().is_ok()
}

/// Makes an empty, read-only tmpfs the root. What is open stays open.
fn empty_root() -> io::Result<()> {
    let sealed = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE, None)?;
    let mut mounted = Err(io::Error::from_raw_os_error(libc::ENOENT));
    for base in BASES {
        // Room for the root alone.
        mounted =
            mount(Some(c"tmpfs"), base, sealed, Some(c"size=4096,nr_inodes=1,mode=0500")).map(|()| base);
        if mounted.is_ok() {
            break;
        }
    }
    change_directory(mounted?)?;
    // The old root comes to lie on the new one, where the next call finds it (pivot_root(2)).
    // SAFETY: both paths are NUL-terminated literals.
    system::check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // SAFETY: the path is a NUL-terminated literal.
    system::check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) })?;
    change_directory(c"/")?;
    mount(None, c"/", sealed | libc::MS_REMOUNT | libc::MS_RDONLY, None)
}

fn mount(kind: Option<&CStr>, target: &CStr, flags: libc::c_ulong, data: Option<&CStr>) -> io::Result<()> {
    let kind = kind.map_or(ptr::null(), CStr::as_ptr);
    let data = data.map_or(ptr::null(), |data| data.as_ptr().cast());
    // SAFETY: every string ends with NUL or is NULL.
    system::check(unsafe { libc::mount(kind, target.as_ptr(), kind, flags, data) }).map(|_| ())
}

fn change_directory(path: &CStr) -> io::Result<()> {
    // SAFETY: the path ends with NUL.
    system::check(unsafe { libc::chdir(path.as_ptr()) }).map(|_| ())
}

/// Gives up every capability (capset(2)): those over the new namespaces, and those that a privileged host has.
fn drop_capabilities() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h), with three sets of 64 bits.
    const VERSION: u32 = 0x2008_0522;
    let (header, none) = ([VERSION, 0], [0_u32; 6]);
    // SAFETY: both arrays are as long as the kernel's structs of that version.
    system::check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(|_| ())
}

/// Sets a limit, or keeps a lower one that is there.
fn limit(which: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is live.
    system::check(unsafe { libc::getrlimit(which, &raw mut now) })?;
    now.rlim_max = hard.min(now.rlim_max);
    now.rlim_cur = soft.min(now.rlim_max);
    // SAFETY: as above.
    system::check(unsafe { libc::setrlimit(which, &raw const now) }).map(|_| ())
}
