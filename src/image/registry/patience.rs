//! How long an operation waits: it ends at a deadline, when it is cancelled, and when a peer stays silent.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Code, Error, Result};

/// How often the cancel flag is looked at.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// The bounds of one operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience<'a> {
    cancelled: &'a AtomicBool,
    /// The end of the whole operation.
    deadline: Instant,
}

/// What to wait for on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Readable,
    Writable,
}

impl<'a> Patience<'a> {
    pub(super) fn new(cancelled: &'a AtomicBool, deadline: Instant) -> Self {
        Self { cancelled, deadline }
    }

    /// An error once the operation has been cancelled or its time is up.
    pub(super) fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(Code::Closed, "the operation was cancelled"));
        }
        if Instant::now() >= self.deadline {
            return Err(Error::new(Code::TimedOut, "the time for the whole operation is up"));
        }
        Ok(())
    }

    /// How much of the operation's time is left.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The end of a part that may take this long.
    pub(super) fn at_most(&self, time: Duration) -> Instant {
        Instant::now().checked_add(time).map_or(self.deadline, |end| end.min(self.deadline))
    }

    /// Waits until the socket is ready (or has failed). False if `until` passes first.
    pub(super) fn ready(&self, fd: BorrowedFd<'_>, what: Readiness, until: Instant) -> Result<bool> {
        loop {
            self.check()?;
            let slice = until.saturating_duration_since(Instant::now()).min(CANCEL_POLL);
            // Rounded up to poll's milliseconds, to avoid a busy loop in the last one.
            let milliseconds = u16::try_from(slice.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
            let flags = match what {
                Readiness::Readable => PollFlags::POLLIN,
                Readiness::Writable => PollFlags::POLLOUT,
            };
            match poll(&mut [PollFd::new(fd, flags)], PollTimeout::from(milliseconds)) {
                Ok(0) | Err(Errno::EINTR) if Instant::now() >= until => {
                    self.check()?;
                    return Ok(false);
                }
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(Error::system("poll", &error.into())),
            }
        }
    }

    /// Lets this time pass, between two attempts.
    pub(super) fn pause(&self, time: Duration) -> Result<()> {
        let until = self.at_most(time);
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(CANCEL_POLL));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_cancelled_operation_ends_soon_and_says_so() {
        let cancelled = AtomicBool::new(false);
        let patience = Patience::new(&cancelled, Instant::now() + Duration::from_secs(60));
        let (quiet, _writer) = std::io::pipe().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                cancelled.store(true, Ordering::Relaxed);
            });
            let until = Instant::now() + Duration::from_secs(60);
            let error = patience.ready(quiet.as_fd(), Readiness::Readable, until).unwrap_err();
            assert_eq!((error.code(), error.message()), (Code::Closed, "the operation was cancelled"));
        });
        assert!(patience.pause(Duration::from_secs(60)).is_err());
    }

    #[test]
    fn a_part_ends_before_the_whole() {
        let cancelled = AtomicBool::new(false);
        let patience = Patience::new(&cancelled, Instant::now() + Duration::from_secs(60));
        let (quiet, _writer) = std::io::pipe().unwrap();
        let part = patience.at_most(Duration::from_millis(5));
        assert!(!patience.ready(quiet.as_fd(), Readiness::Readable, part).unwrap());
        assert!(Instant::now() >= part);
        let patience = Patience::new(&cancelled, Instant::now());
        assert_eq!(patience.check().unwrap_err().code(), Code::TimedOut);
        assert!(patience.left().is_zero());
    }
}
