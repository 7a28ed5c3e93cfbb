//! A connection that was sent a fatal TLS alert, kept open until its peer has read that.
//!
//! A socket that is closed with unread data is reset, and the reset overtakes the alert. So what the peer still sends is
//! read and thrown away for a while.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::endpoint::{Discard, Endpoint};
use super::flow::Scratch;
use crate::reactor::Readiness;

/// How long the peer has for reading the alert.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of what it still sends in that time is thrown away at most.
const MAX_LINGER_BYTES: usize = 1 << 20;

/// The endpoint, and how much longer it lingers.
#[derive(Debug)]
pub(crate) struct Linger {
    endpoint: Endpoint,
    left: usize,
    deadline: Instant,
}

impl Linger {
    /// Begins to linger.
    pub(crate) fn new(endpoint: Endpoint, now: Instant) -> Self {
        Self { endpoint, left: MAX_LINGER_BYTES, deadline: now + LINGER_TIMEOUT }
    }

    /// Records what the kernel has reported of the socket.
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.endpoint.note(readiness);
    }

    /// Throws away what has come.
    pub(crate) fn advance(&mut self, scratch: &mut Scratch) -> Discard {
        self.endpoint.discard(scratch, &mut self.left)
    }

    /// When the connection is closed, whatever the peer does.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Ends the connection.
    pub(crate) fn close(self, scratch: &mut Scratch) {
        self.endpoint.close(scratch);
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self, scratch: &mut Scratch) {
        self.endpoint.reset(scratch);
    }
}

impl AsFd for Linger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::{Family, Socket};
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    fn lingering() -> (Linger, UnixStream, Instant) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let now = Instant::now();
        let endpoint = Endpoint::plain(Socket::adopt(ours.into(), Family::Unix).unwrap());
        (Linger::new(endpoint, now), theirs, now)
    }

    #[test]
    fn it_ends_its_stream_at_once_and_is_over_when_the_peer_does() {
        let (mut linger, mut peer, now) = lingering();
        let mut scratch = Scratch::new();
        peer.write_all(b"unread").unwrap();
        assert_eq!(linger.advance(&mut scratch), Discard::Wait);
        assert_eq!(linger.deadline(), now + LINGER_TIMEOUT);
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
        peer.shutdown(Shutdown::Write).unwrap();
        linger.note(Readiness { readable: true, ..Readiness::default() });
        assert_eq!(linger.advance(&mut scratch), Discard::Over);
    }

    #[test]
    fn a_peer_that_goes_on_sending_is_given_turns_and_has_a_bound() {
        let (mut linger, mut peer, _) = lingering();
        let mut scratch = Scratch::new();
        peer.set_nonblocking(true).unwrap();
        let (mut sent, mut turns) = (0, 0);
        loop {
            sent += peer.write(&[0; 64 << 10]).unwrap_or(0);
            linger.note(Readiness { readable: true, ..Readiness::default() });
            match linger.advance(&mut scratch) {
                Discard::Wait | Discard::Again => turns += 1,
                Discard::Over => break,
            }
            assert!(sent < 3 * MAX_LINGER_BYTES, "{sent}");
        }
        assert!(sent >= MAX_LINGER_BYTES && turns > 1);
    }
}
