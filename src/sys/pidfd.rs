//! Processes by descriptor (pidfd_open(2)), so that no reused number is ever signalled.
#![allow(unsafe_code, reason = "pidfd system calls that nix does not wrap")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::spawn::Child;
use super::wait;

/// linux/pidfd.h: the descriptor is of a thread, not of its whole process (since 6.9).
const PIDFD_THREAD: libc::c_uint = libc::O_EXCL.cast_unsigned();

/// A descriptor of the calling thread, readable once that has ended: with its process, however that ends, and
/// also when the process executes another program, which ends every thread but one. Before Linux 6.9 there are
/// only descriptors of processes, and it is one: execve isn't seen by it.
pub(crate) fn of_this_thread() -> io::Result<OwnedFd> {
    match open(nix::unistd::gettid().as_raw(), PIDFD_THREAD) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(nix::unistd::getpid().as_raw(), 0),
        opened => opened,
    }
}

fn open(pid: libc::pid_t, flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes a number and flags, and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) };
    match i32::try_from(fd) {
        // SAFETY: the call succeeded, so this is an open descriptor that nothing else owns.
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

/// Waits for a process to end, for at most this time; returns whether it has ended.
pub(crate) fn has_ended(process: BorrowedFd<'_>, patience: Duration) -> bool {
    wait::readable(process, Instant::now() + patience)
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
