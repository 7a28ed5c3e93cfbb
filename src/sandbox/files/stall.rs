//! An operation that makes no progress: a helper that was stopped, or an init that never started it.
//!
//! Whose turn it is decides: as long as the host has something to read, or nothing more to be read by the sandbox, it is
//! the host that takes its time. What a helper does without moving bytes it tells of each second.

use std::time::{Duration, Instant};

use crate::sandbox::Watched;
use crate::sys::socket::Socket;

/// How long an operation may make no progress, unless another time is given.
pub(crate) const USUAL: Duration = Duration::from_secs(60);
/// How often it is looked in that time.
const LOOKS: u32 = 6;

/// What is known of an operation's progress.
#[derive(Debug)]
pub(super) struct Stall {
    limit: Duration,
    watched: Watched,
    /// How much had moved at the last look, and what had been watched when it last did.
    moved: u64,
    since: Duration,
}

impl Stall {
    /// Nothing may move for so long.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, watched: Watched::default(), moved: 0, since: Duration::ZERO }
    }

    /// How long that is.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// When it is to be looked next. `None` beyond what the clock can say.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        self.watched.look_after(now, self.limit / LOOKS + Duration::from_millis(1))
    }

    /// A look: whether nothing has moved for too long, and it was for the sandbox to move it.
    pub(super) fn look(&mut self, now: Instant, moved: u64, host_is_to_move: bool) -> bool {
        let watched = self.watched.look(now);
        if host_is_to_move || moved != self.moved {
            (self.moved, self.since) = (moved, watched);
        }
        watched.saturating_sub(self.since) >= self.limit
    }
}

/// A copy of the sandbox's end of a stream that the host reads or writes. (One of the host's own would keep that open.)
#[derive(Debug)]
pub(super) struct Held {
    socket: Socket,
    /// The host reads it.
    comes: bool,
}

impl Held {
    /// Over that copy.
    pub(super) fn new(socket: Socket, comes: bool) -> Self {
        Self { socket, comes }
    }

    /// Whether it is for the host to go on.
    pub(super) fn host_is_to_move(&self) -> bool {
        if self.comes {
            return self.socket.unsent() > 0;
        }
        self.socket.waits_for_more()
    }
}

impl Drop for Held {
    /// Who reads or writes the stream sees its end, whatever the sandbox does with the other one.
    fn drop(&mut self) {
        self.socket.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::Family;
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn pair(comes: bool) -> (Held, UnixStream, UnixStream) {
        let (host, sandbox) = UnixStream::pair().unwrap();
        let copy = OwnedFd::from(sandbox.try_clone().unwrap());
        (Held::new(Socket::new(copy, Family::Unix), comes), host, sandbox)
    }

    #[test]
    fn what_stands_still_is_noticed_and_what_moves_or_waits_for_the_host_is_not() {
        let (mut stall, mut now, mut moved) = (Stall::new(USUAL), Instant::now(), 0);
        let mut stalled = |moved: u64, host: bool| {
            now = stall.next(now).unwrap();
            stall.look(now, moved, host)
        };
        for _ in 0..100 {
            moved += 1;
            assert!(!stalled(moved, false));
            // A little at the last moment is enough.
            assert!((0..LOOKS - 1).all(|_| !stalled(moved, false)));
        }
        assert!((0..100).all(|_| !stalled(moved, true)));
        assert_eq!((1..100).find(|_| stalled(moved, false)), Some(u64::from(LOOKS)));
    }

    #[test]
    fn looks_that_come_late_tell_nothing() {
        let (mut stall, mut now) = (Stall::new(USUAL), Instant::now());
        for _ in 0..100 {
            now = stall.next(now).unwrap() + Duration::from_secs(60);
            assert!(!stall.look(now, 0, false), "the host was stopped");
        }
    }

    #[test]
    fn a_stream_that_comes_waits_for_the_host_while_that_does_not_read() {
        let (held, mut host, mut sandbox) = pair(true);
        assert!(!held.host_is_to_move());
        sandbox.write_all(b"xy").unwrap();
        assert!(held.host_is_to_move());
        host.read_exact(&mut [0; 2]).unwrap();
        assert!(!held.host_is_to_move());
    }

    #[test]
    fn a_stream_that_goes_waits_for_the_host_while_that_says_nothing() {
        let (held, mut host, mut sandbox) = pair(false);
        assert!(held.host_is_to_move());
        host.write_all(b"xy").unwrap();
        assert!(!held.host_is_to_move());
        sandbox.read_exact(&mut [0; 2]).unwrap();
        assert!(held.host_is_to_move());
        host.shutdown(Shutdown::Write).unwrap();
        assert!(!held.host_is_to_move(), "it has said all");
    }

    #[test]
    fn its_end_is_seen_whoever_holds_the_other_one() {
        for comes in [true, false] {
            let (held, mut host, mut sandbox) = pair(comes);
            sandbox.write_all(b"last").unwrap();
            drop(held);
            let mut came = Vec::new();
            host.read_to_end(&mut came).unwrap();
            assert_eq!(came, b"last", "what had come is not lost");
            assert!(host.write(b"x").is_err());
        }
    }
}
