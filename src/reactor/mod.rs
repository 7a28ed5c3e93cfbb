//! The poll loop's machinery: readiness, tokens, timers, a waker. It knows no sandbox and no protocol.
//!
//! # The contract of edge-triggered readiness
//!
//! A descriptor is registered once, for reading and writing, edge-triggered: the kernel tells of a *change*
//! only. So whoever is woken works until the system call says `EWOULDBLOCK`, or, when its byte budget for
//! this wake-up is spent first, calls [`Reactor::again`], which wakes it in the next turn without the
//! kernel's help. Everybody else gets a turn in between; that is the whole of the fairness here.
//!
//! One exception saves a call: a read of a TCP stream that brings less than asked has emptied it, if every readiness
//! since the last `EWOULDBLOCK` was noted and none said [`Readiness::more_follows`].
//!
//! # A new kind of source
//!
//! 1. take a number for it ([`Kind`]) and keep its objects in a [`Slab`] of that kind;
//! 2. `let key = slab.insert(object)`, then [`Reactor::register`] its descriptors under that key (an object may
//!    have two, told apart by [`Lane`]) and schedule timers with the same key;
//! 3. where the turn's [`Wake`]s are dispatched, route the kind to the slab's owner.
//!
//! Keys carry a generation: a wake-up for an object that is gone finds nothing in the slab and is ignored,
//! also when its place was taken by another.

mod budget;
mod key;
mod slab;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

pub(crate) use budget::{Admission, Budget, KEPT, Permit, Use};
pub(crate) use key::{Key, Kind, Lane};
pub(crate) use slab::Slab;
pub(crate) use timers::{TimerId, Timers};

/// How many readiness events one turn takes from the kernel.
const EVENTS: usize = 512;

/// Why an object is woken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wake {
    /// A descriptor's readiness has changed.
    Ready(Key, Lane, Readiness),
    /// It asked for another turn.
    Again(Key),
    /// Its timer has run out.
    Timer(Key),
}

/// What the kernel said of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Reading may succeed (data, end of stream, or an error to be collected).
    pub(crate) readable: bool,
    /// Writing may succeed.
    pub(crate) writable: bool,
    /// The descriptor has failed (EPOLLERR), for a TCP socket most often a reset.
    pub(crate) failed: bool,
    /// Something follows the data that is there: the stream's end, or urgent data. A read that brings less than it
    /// could have taken was not the last one, then.
    pub(crate) more_follows: bool,
}

/// The poll loop. A plain struct: whoever owns it calls [`Reactor::turn`].
#[derive(Debug)]
pub(crate) struct Reactor {
    poll: Poll,
    events: Events,
    timers: Timers,
    again: VecDeque<Key>,
    waker: Arc<Waker>,
    now: Instant,
}

impl Reactor {
    /// A reactor without any source.
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(key::WAKER))?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            timers: Timers::default(),
            again: VecDeque::new(),
            waker,
            now: Instant::now(),
        })
    }

    /// What ends a turn from any thread.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// The time at which this turn's wake-ups were collected.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Watches a descriptor, for reading and writing, until [`Reactor::deregister`].
    ///
    /// The first wake-up comes at once if it is ready already.
    pub(crate) fn register(&self, fd: BorrowedFd<'_>, key: Key, lane: Lane) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), Token(key.token(lane)), interest)
    }

    /// Stops watching. Closing isn't enough: a forked child of the host may hold the open file too, and then
    /// the kernel goes on reporting it.
    pub(crate) fn deregister(&self, fd: BorrowedFd<'_>) {
        // It fails only for a descriptor that isn't registered.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }

    /// Wakes `key` in the next turn: for what had to stop although its descriptor was still ready.
    pub(crate) fn again(&mut self, key: Key) {
        self.again.push_back(key);
    }

    /// Wakes `key` at `at`, once.
    pub(crate) fn schedule(&mut self, at: Instant, key: Key) -> TimerId {
        self.timers.insert(at, key)
    }

    /// Takes a timer back; one that has run out already is no error.
    pub(crate) fn cancel(&mut self, timer: TimerId) {
        self.timers.remove(timer);
    }

    /// Waits until something is ready, a timer runs out, the waker is used or `limit` has passed, and appends
    /// the wake-ups to `wakes`: first the kernel's, then timers, then the objects that asked for another turn.
    pub(crate) fn turn(&mut self, limit: Option<Duration>, wakes: &mut Vec<Wake>) -> io::Result<()> {
        let timeout = if self.again.is_empty() { self.until_next_timer(limit) } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            // Our thread blocks all signals, but a debugger's stop shows here too. An early return is harmless:
            // the caller turns again, and the time-outs are computed anew.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        self.now = Instant::now();
        for event in &self.events {
            let Some((key, lane)) = Key::from_token(event.token().0) else { continue };
            let readiness = Readiness {
                readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                writable: event.is_writable() || event.is_write_closed() || event.is_error(),
                failed: event.is_error(),
                more_follows: event.is_read_closed() || event.is_error() || event.is_priority(),
            };
            wakes.push(Wake::Ready(key, lane, readiness));
        }
        while let Some(key) = self.timers.expired(self.now) {
            wakes.push(Wake::Timer(key));
        }
        wakes.extend(self.again.drain(..).map(Wake::Again));
        Ok(())
    }

    fn until_next_timer(&self, limit: Option<Duration>) -> Option<Duration> {
        let next = self.timers.next().map(|at| at.saturating_duration_since(Instant::now()));
        match (next, limit) {
            (Some(next), Some(limit)) => Some(next.min(limit)),
            (next, limit) => next.or(limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn ready(wakes: &[Wake]) -> Vec<Key> {
        wakes
            .iter()
            .filter_map(|wake| if let Wake::Ready(key, ..) = wake { Some(*key) } else { None })
            .collect()
    }

    #[test]
    fn an_edge_is_told_once_and_again_needs_no_kernel() {
        let mut reactor = Reactor::new().unwrap();
        let mut slab = Slab::new(Kind(1));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let key = slab.insert(());
        reactor.register(ours.as_fd(), key, Lane::Front).unwrap();
        let mut wakes = Vec::new();
        reactor.turn(Some(Duration::ZERO), &mut wakes).unwrap();
        wakes.clear();
        theirs.write_all(b"x").unwrap();
        reactor.turn(None, &mut wakes).unwrap();
        assert_eq!(ready(&wakes), [key]);
        wakes.clear();
        reactor.turn(Some(Duration::ZERO), &mut wakes).unwrap();
        assert!(wakes.is_empty(), "edge-triggered: nothing has changed");
        reactor.again(key);
        reactor.turn(None, &mut wakes).unwrap();
        assert!(matches!(wakes[..], [Wake::Again(again)] if again == key));
    }

    #[test]
    fn a_stale_event_finds_nothing_although_its_place_is_taken() {
        let mut reactor = Reactor::new().unwrap();
        let mut slab = Slab::new(Kind(1));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let old = slab.insert("old");
        reactor.register(ours.as_fd(), old, Lane::Front).unwrap();
        theirs.write_all(b"x").unwrap();
        let mut wakes = Vec::new();
        reactor.turn(None, &mut wakes).unwrap();
        slab.remove(old);
        let new = slab.insert("new");
        assert_eq!(old.index(), new.index(), "the place is taken again");
        assert_eq!(ready(&wakes), [old]);
        assert!(slab.get_mut(old).is_none());
        assert_eq!(slab.get_mut(new), Some(&mut "new"));
    }

    #[test]
    fn timers_run_out_in_order_and_can_be_taken_back() {
        let mut reactor = Reactor::new().unwrap();
        let mut slab = Slab::new(Kind(2));
        let keys: Vec<Key> = (0..3).map(|n| slab.insert(n)).collect();
        let now = Instant::now();
        reactor.schedule(now + Duration::from_millis(2), keys[0]);
        let cancelled = reactor.schedule(now, keys[1]);
        reactor.schedule(now + Duration::from_millis(1), keys[2]);
        reactor.cancel(cancelled);
        let mut wakes = Vec::new();
        while wakes.len() < 2 {
            reactor.turn(None, &mut wakes).unwrap();
        }
        assert!(matches!(wakes[..], [Wake::Timer(a), Wake::Timer(b)] if a == keys[2] && b == keys[0]));
    }

    #[test]
    fn the_waker_ends_a_turn_without_a_wake_up() {
        let mut reactor = Reactor::new().unwrap();
        reactor.waker().wake().unwrap();
        let mut wakes = Vec::new();
        reactor.turn(None, &mut wakes).unwrap();
        assert!(wakes.is_empty());
    }
}
