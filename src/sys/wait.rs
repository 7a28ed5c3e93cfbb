//! Waits for descriptors, until a deadline and despite signals.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of the descriptors is readable or at end-of-file, and returns which are. `None` when the deadline has
/// passed; with a deadline in the past it only polls.
pub(crate) fn any_readable(
    descriptors: &[BorrowedFd<'_>],
    deadline: Instant,
) -> io::Result<Option<Vec<bool>>> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Round up to poll's milliseconds, to avoid a busy loop in the last one.
        let whole = left.subsec_nanos().is_multiple_of(1_000_000);
        let milliseconds = left.as_millis().saturating_add(u128::from(!whole));
        let timeout = PollTimeout::from(u16::try_from(milliseconds).unwrap_or(u16::MAX));
        let mut polled: Vec<_> = descriptors.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout) {
            Ok(0) | Err(Errno::EINTR) if Instant::now() >= deadline => return Ok(None),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(Some(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect())),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until the descriptor is readable or at end-of-file; false if the deadline passes first.
pub(crate) fn readable(descriptor: BorrowedFd<'_>, deadline: Instant) -> bool {
    matches!(any_readable(&[descriptor], deadline), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn what_is_readable_is_told_apart_from_what_is_not() {
        let (quiet, _writer) = io::pipe().unwrap();
        let (ended, writer) = io::pipe().unwrap();
        drop(writer);
        let past = Instant::now();
        assert_eq!(any_readable(&[quiet.as_fd()], past).unwrap(), None);
        assert_eq!(any_readable(&[quiet.as_fd(), ended.as_fd()], past).unwrap(), Some(vec![false, true]));
        assert!(readable(ended.as_fd(), past));
        let deadline = Instant::now() + Duration::from_millis(3);
        assert!(!readable(quiet.as_fd(), deadline));
        assert!(Instant::now() >= deadline, "the whole time was waited");
    }
}
