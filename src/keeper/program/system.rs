//! System calls that supervisor and init share, with their errors as `io::Error`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Turns the result of a system call into a `Result`.
pub(crate) fn check<T: Copy + Default + PartialOrd>(result: T) -> io::Result<T> {
    if result < T::default() { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Owns a descriptor that a system call has just returned.
pub(crate) fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Converts a path to a C string; EINVAL if it contains NUL.
pub(crate) fn c_path(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Opens a path, close-on-exec.
pub(crate) fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the path ends with NUL.
    owned(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })
}

/// Creates a non-blocking socket.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket takes numbers.
    owned(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) })
}

/// Makes an inherited descriptor non-blocking and close-on-exec.
pub(crate) fn adopt(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_SETFD takes a number.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: F_GETFL takes nothing.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes a number.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// Owns a descriptor that this program was started with.
pub(crate) fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the one who started this program put a descriptor there, and it is taken once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sets an option of the process (prctl(2)).
pub(crate) fn prctl(option: i32, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used here take numbers.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }).map(|_| ())
}

/// Raises the limit of open files to its maximum and returns the previous limit.
pub(crate) fn raise_descriptors() -> io::Result<libc::rlimit> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is live.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before) })?;
    let raised = libc::rlimit { rlim_cur: before.rlim_max, rlim_max: before.rlim_max };
    // SAFETY: as above.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) })?;
    Ok(before)
}

/// Reaps one child that has ended and returns its pid and status: `None` if all children still run, ECHILD if
/// there are none.
pub(crate) fn reap() -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    // SAFETY: the status is written to a live integer.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) })?;
    Ok((pid > 0).then_some((pid, status)))
}

/// Whether a child was stopped since the last call.
pub(crate) fn has_stopped(pid: i32) -> bool {
    // SAFETY: siginfo_t is a plain C struct for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = libc::id_t::from(pid.cast_unsigned());
    // SAFETY: the struct is live.
    let asked = unsafe { libc::waitid(libc::P_PID, id, &raw mut info, libc::WSTOPPED | libc::WNOHANG) };
    // Without a child in that state the kernel writes nothing.
    asked == 0 && info.si_signo == libc::SIGCHLD
}

/// Waits 2 ms, or until a child ends. The time matters because the kernel sends no SIGCHLD when an orphan
/// becomes our child.
pub(crate) fn pause() {
    let moment = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    // SAFETY: sigset_t is a plain C struct for which all zeroes is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is live.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: the set and the time are live; the signal's details are not wanted.
    unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const moment) };
}

/// Blocks SIGCHLD, so that signalfd(2) and sigtimedwait(2) can wait for it.
pub(crate) fn block_sigchld() -> io::Result<libc::sigset_t> {
    // SAFETY: sigset_t is a plain C struct for which all zeroes is a valid value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is live.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: the set is live, the old one is not wanted.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
    Ok(set)
}
