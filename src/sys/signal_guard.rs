//! Writing to a descriptor of the host's without killing the host.
//!
//! A write to a pipe without readers raises SIGPIPE, one beyond RLIMIT_FSIZE raises SIGXFSZ, and no flag
//! of write(2) prevents it. Both are directed at the writing thread, so they can be held back for the
//! time of the call and taken away again before anybody sees them; the thread's mask is as before after.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Writes once; a signal that the write raised is swallowed.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let raised = set_of(&[libc::SIGPIPE, libc::SIGXFSZ]);
    let pending_before = pending();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are ours; `before` is written by the call.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const raised, before.as_mut_ptr()) };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    // SAFETY: the descriptor is open while it is borrowed, and the bytes are ours.
    let written = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    let result = usize::try_from(written).map_err(|_| io::Error::last_os_error());
    if let Err(cause) = &result {
        let signal = match cause.raw_os_error() {
            Some(libc::EPIPE) => Some(libc::SIGPIPE),
            Some(libc::EFBIG) => Some(libc::SIGXFSZ),
            _ => None,
        };
        // One that was pending before is the host's own and stays.
        if let Some(signal) = signal.filter(|signal| !contains(&pending_before, *signal)) {
            swallow(signal);
        }
    }
    // SAFETY: `before` was written by the successful call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

fn swallow(signal: libc::c_int) {
    let wanted = set_of(&[signal]);
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both arguments are ours; no information about the signal is asked for.
    unsafe { libc::sigtimedwait(&raw const wanted, ptr::null_mut(), &raw const at_once) };
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set is initialised and the numbers are signals.
        unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
    }
    // SAFETY: initialised by sigemptyset above.
    unsafe { set.assume_init() }
}

fn pending() -> libc::sigset_t {
    let mut set = set_of(&[]);
    // SAFETY: the set is ours.
    unsafe { libc::sigpending(&raw mut set) };
    set
}

fn contains(set: &libc::sigset_t, signal: libc::c_int) -> bool {
    // SAFETY: the set is initialised.
    unsafe { libc::sigismember(set, signal) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_pipe_without_a_reader_is_an_error_and_no_signal() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        // Rust's test harness ignores SIGPIPE; give it the disposition that a C host has.
        // SAFETY: SIG_DFL is a valid disposition, and the signal is held back by the code under test.
        let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let result = write(writer.as_fd(), b"line\n");
        // SAFETY: the disposition that signal() returned above.
        unsafe { libc::signal(libc::SIGPIPE, old) };
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPIPE));
        assert!(!contains(&pending(), libc::SIGPIPE));
    }
}
