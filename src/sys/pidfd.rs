//! Processes by descriptor (pidfd_open(2)), so that no reused number is ever signalled.
#![allow(unsafe_code, reason = "pidfd system calls that nix does not wrap")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::spawn::Child;

/// A descriptor of the calling process, readable once it has ended.
pub(crate) fn current() -> io::Result<OwnedFd> {
    let pid = libc::c_long::from(std::process::id());
    // SAFETY: pidfd_open takes a number and flags, and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `PIDFD_SIGNAL_PROCESS_GROUP`, since Linux 6.9.
const PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Kills a child and the process group that it leads, also when it has ended itself.
///
/// By descriptor where the kernel can (6.9) and the child has not been reaped. A host that reaps everything
/// leaves only the number, which can't be anybody else's while the group has members.
pub(crate) fn kill_group(child: &Child) {
    if send(child.pidfd.as_fd(), libc::SIGKILL, PROCESS_GROUP).is_err() {
        // SAFETY: kill takes numbers.
        unsafe { libc::kill(-child.pid, libc::SIGKILL) };
    }
}

/// Sends a signal. A process that has already ended is not an error.
pub(crate) fn signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    match send(process, signal, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        done => done,
    }
}

fn send(process: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    let own = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the siginfo pointer may be NULL (pidfd_send_signal(2)).
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, own, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes an ended child off the kernel's list. The host may have done so already (wait(-1), SIGCHLD
/// ignored): then there is nothing to take, and that is fine.
pub(crate) fn reap(process: BorrowedFd<'_>) {
    // SAFETY: siginfo_t is a plain C struct for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = libc::id_t::try_from(process.as_raw_fd()).unwrap_or(0);
    // SAFETY: waitid writes into `info`, which lives long enough.
    unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::WNOHANG) };
}
