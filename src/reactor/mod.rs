//! The poll loop's machinery: readiness, tokens, timers, a waker. It knows no sandbox and no protocol.
//!
//! # The contract of edge-triggered readiness
//!
//! A descriptor is registered once, for reading and writing, edge-triggered: the kernel reports *changes* only. So a
//! handler works until the system call returns `EWOULDBLOCK`. If its byte budget for the wake-up is spent before that, it
//! calls [`Reactor::reschedule`], which wakes its key in the next turn without the kernel's help; all others get a turn in
//! between.
//!
//! # Turns
//!
//! Readiness and expired timers wait here until they are handed out as [`Wake`]s: a key at most once a turn for each
//! reason, and fairly between the groups that keys [`Reactor::join`] (one a sandbox), by the time that each has used. A
//! turn ends after a quarter of a millisecond, whatever is left: the owner of the reactor looks at its commands, the
//! kernel is polled again, and then the rest continues. A single wake-up isn't interrupted, so a loop in one checks
//! [`Reactor::is_over_time`].
//!
//! One exception saves a call: a short read of a TCP stream has emptied it, if every readiness since the last
//! `EWOULDBLOCK` was recorded and none had [`Readiness::more_follows`].
//!
//! # A new kind of source
//!
//! 1. Pick a number for it ([`Kind`]), and keep its objects in a [`Slab`] of that kind.
//! 2. `let key = slab.insert(object)`, then [`Reactor::register`] its descriptors under that key (an object may have two,
//!    one a [`FdSlot`]), schedule timers with the same key, and [`Reactor::join`] it to its sandbox's group.
//! 3. Where the turn's [`Wake`]s are dispatched, route the kind to the owner of the slab.
//!
//! Keys have a generation: a wake-up for an object that was removed finds nothing in the slab and is ignored, even if
//! another object has taken its place.

mod budget;
mod key;
mod removals;
mod slab;
mod timers;
mod turns;
mod wake;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

pub(crate) use budget::{Admission, FdBudget, FdPermit, PortBudget, Use};
pub(crate) use key::{FdSlot, Key, Kind};
pub(crate) use removals::{Removals, Removed};
pub(crate) use slab::Slab;
pub(crate) use timers::{TimerId, Timers};
use turns::Turns;
pub(crate) use wake::{Readiness, Wake};

/// How many readiness events one turn takes from the kernel.
const EVENTS: usize = 512;
/// How long a turn lasts at most, apart from its last wake-up, and how many wake-ups it has at most.
const TURN_TIME: Duration = Duration::from_micros(250);
const MAX_WAKES: usize = 512;
/// How long one wake-up may take before a loop in it leaves the rest to the next turn.
const WAKE_TIME: Duration = Duration::from_micros(500);

/// The poll loop. Its owner calls [`Reactor::turn`], then [`Reactor::next`] until that returns `None`.
#[derive(Debug)]
pub(crate) struct Reactor {
    poll: Poll,
    events: Events,
    timers: Timers,
    turns: Turns,
    /// The timers that have expired and whose keys are yet to be woken.
    due: HashMap<Key, Vec<TimerId>>,
    waker: Arc<Waker>,
    now: Instant,
    /// When the last wake-up was handed out, and how many may be in this turn.
    handed_out: Instant,
    left: usize,
    /// The group that was woken last, and the one before that, each with the time of its last wake-up.
    served: [Option<(u64, Instant)>; 2],
}

impl Reactor {
    /// A reactor without a source.
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(key::WAKER))?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            timers: Timers::default(),
            turns: Turns::default(),
            due: HashMap::new(),
            waker,
            now: Instant::now(),
            handed_out: Instant::now(),
            left: 0,
            served: [None; 2],
        })
    }

    /// Ends a turn from any thread.
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
    pub(crate) fn register(&self, fd: BorrowedFd<'_>, key: Key, slot: FdSlot) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), Token(key.token(slot)), interest)
    }

    /// Stops watching. Closing isn't enough: a forked child of the host may hold the open file too, and then
    /// the kernel goes on reporting it.
    pub(crate) fn deregister(&self, fd: BorrowedFd<'_>) {
        // It fails only for a descriptor that isn't registered.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }

    /// Counts the time that `key` takes as that group's. Keys that have joined none share group 0.
    pub(crate) fn join(&mut self, key: Key, group: u64) {
        self.turns.join(key, group);
    }

    /// Adds the time that the group takes to `meter`, in nanoseconds, until the other references to it are dropped.
    pub(crate) fn meter(&mut self, group: u64, meter: &Arc<AtomicU64>) {
        self.turns.meter(group, meter);
    }

    /// Wakes `key` in the next turn, once: for a handler that stops although its descriptor is still ready.
    pub(crate) fn reschedule(&mut self, key: Key) {
        self.turns.reschedule(key);
    }

    /// Wakes `key` at `at`, once.
    pub(crate) fn schedule(&mut self, at: Instant, key: Key) -> TimerId {
        self.timers.insert(at, key)
    }

    /// Cancels a timer. One that has expired already is no error, and its key isn't woken any more if it is yet to be.
    pub(crate) fn cancel(&mut self, timer: TimerId) {
        let key = timer.key();
        if self.timers.remove(timer) {
            return;
        }
        if let Some(due) = self.due.get_mut(&key) {
            due.retain(|other| *other != timer);
            if due.is_empty() {
                self.due.remove(&key);
                self.turns.unexpired(key);
            }
        }
    }

    /// Schedules `timer`, which wakes `key`, for `at` instead of any other time; `None` cancels it.
    pub(crate) fn rearm(&mut self, timer: &mut Option<TimerId>, key: Key, at: Option<Instant>) {
        if timer.map(TimerId::at) == at {
            return;
        }
        if let Some(old) = timer.take() {
            self.cancel(old);
        }
        *timer = at.map(|at| self.schedule(at, key));
    }

    /// Begins a turn. If nothing is left of the last one, waits until a descriptor is ready, a timer expires, the waker is
    /// used, or `limit` has passed.
    pub(crate) fn turn(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.turns.begin();
        let timeout = if self.turns.is_idle() { self.until_next_timer(limit) } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut self.events, timeout) {
            // The thread blocks all signals, but a debugger's stop shows here too. An early return is harmless: the
            // caller begins another turn, and the time-out is computed again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        self.now = Instant::now();
        for event in &self.events {
            let Some((key, slot)) = Key::from_token(event.token().0) else { continue };
            let readiness = Readiness {
                readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                writable: event.is_writable() || event.is_write_closed() || event.is_error(),
                failed: event.is_error(),
                more_follows: event.is_read_closed() || event.is_error() || event.is_priority(),
            };
            self.turns.ready(key, slot, readiness);
        }
        while let Some(timer) = self.timers.expired(self.now) {
            if self.turns.expired(timer.key()) {
                self.due.entry(timer.key()).or_default().push(timer);
            }
        }
        self.turns.queue_rescheduled();
        // The time of the wake-ups begins here: collecting the events isn't charged to them.
        self.now = Instant::now();
        (self.handed_out, self.left) = (self.now, MAX_WAKES);
        Ok(())
    }

    /// The next wake-up of this turn; `None` when it is over, though more may wait for the next.
    pub(crate) fn next(&mut self) -> Option<Wake> {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.handed_out);
        self.turns.charge(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        self.handed_out = now;
        // At least one, however late it is.
        if now.saturating_duration_since(self.now) >= TURN_TIME && self.left < MAX_WAKES {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        let wake = self.turns.next();
        if wake.is_some() {
            self.note_served(now);
        }
        if let Some(Wake::Timer(key)) = wake {
            self.due.remove(&key);
        }
        wake
    }

    /// Whether a key of another group than this one, or of none, was woken no longer than `within` ago.
    pub(crate) fn serves_others(&self, group: u64, within: Duration) -> bool {
        let other = self.served.iter().flatten().find(|(served, _)| *served != group);
        other.is_some_and(|(_, at)| self.handed_out.saturating_duration_since(*at) <= within)
    }

    fn note_served(&mut self, now: Instant) {
        // Keys of no group are the loop's own.
        let Some(group) = self.turns.current().filter(|group| *group != 0) else { return };
        let [last, before] = &mut self.served;
        if last.is_none_or(|(served, _)| served != group) {
            *before = *last;
        }
        *last = Some((group, now));
    }

    /// Whether this wake-up has taken long. A loop in it then leaves the rest to the next turn.
    pub(crate) fn is_over_time(&self) -> bool {
        self.handed_out.elapsed() >= WAKE_TIME
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

    fn turn(reactor: &mut Reactor, limit: Option<Duration>, wakes: &mut Vec<Wake>) {
        reactor.turn(limit).unwrap();
        wakes.extend(std::iter::from_fn(|| reactor.next()));
    }

    fn ready(wakes: &[Wake]) -> Vec<Key> {
        wakes
            .iter()
            .filter_map(|wake| if let Wake::Ready(key, ..) = wake { Some(*key) } else { None })
            .collect()
    }

    #[test]
    fn an_edge_is_reported_once_and_again_needs_no_kernel() {
        let mut reactor = Reactor::new().unwrap();
        let mut slab = Slab::new(Kind(1));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let key = slab.insert(());
        reactor.register(ours.as_fd(), key, FdSlot::First).unwrap();
        let mut wakes = Vec::new();
        turn(&mut reactor, Some(Duration::ZERO), &mut wakes);
        wakes.clear();
        theirs.write_all(b"x").unwrap();
        turn(&mut reactor, None, &mut wakes);
        assert_eq!(ready(&wakes), [key]);
        wakes.clear();
        turn(&mut reactor, Some(Duration::ZERO), &mut wakes);
        assert!(wakes.is_empty(), "edge-triggered: nothing has changed");
        reactor.reschedule(key);
        turn(&mut reactor, None, &mut wakes);
        assert!(matches!(wakes[..], [Wake::Rescheduled(again)] if again == key));
    }

    #[test]
    fn a_stale_event_finds_nothing_although_its_place_is_taken() {
        let mut reactor = Reactor::new().unwrap();
        let mut slab = Slab::new(Kind(1));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let old = slab.insert("old");
        reactor.register(ours.as_fd(), old, FdSlot::First).unwrap();
        theirs.write_all(b"x").unwrap();
        let mut wakes = Vec::new();
        turn(&mut reactor, None, &mut wakes);
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
            turn(&mut reactor, None, &mut wakes);
        }
        assert!(matches!(wakes[..], [Wake::Timer(a), Wake::Timer(b)] if a == keys[2] && b == keys[0]));
    }

    #[test]
    fn a_timer_that_is_armed_again_runs_out_at_its_last_time_only() {
        let mut reactor = Reactor::new().unwrap();
        let key = Slab::new(Kind(2)).insert(());
        let (now, mut timer) = (Instant::now(), None);
        let [soon, late] = [1, 3_600_000].map(|milliseconds| now + Duration::from_millis(milliseconds));
        reactor.rearm(&mut timer, key, Some(late));
        reactor.rearm(&mut timer, key, Some(soon));
        let armed = timer;
        reactor.rearm(&mut timer, key, Some(soon));
        assert_eq!(timer, armed, "it is left alone");
        let mut wakes = Vec::new();
        while wakes.is_empty() {
            turn(&mut reactor, None, &mut wakes);
        }
        assert!(matches!(wakes[..], [Wake::Timer(woken)] if woken == key) && Instant::now() >= soon);
        timer = None;
        reactor.rearm(&mut timer, key, Some(late));
        reactor.rearm(&mut timer, key, None);
        assert!(timer.is_none() && reactor.timers.next().is_none());
    }

    #[test]
    fn a_timer_that_is_taken_back_before_its_key_is_woken_wakes_nobody() {
        let mut reactor = Reactor::new().unwrap();
        let mut slab = Slab::new(Kind(2));
        let (one, other) = (slab.insert(()), slab.insert(()));
        let now = Instant::now();
        let timers = [one, one, other].map(|key| reactor.schedule(now, key));
        reactor.turn(None).unwrap();
        reactor.cancel(timers[0]);
        reactor.cancel(timers[2]);
        assert!(matches!(reactor.next(), Some(Wake::Timer(key)) if key == one), "its other one");
        assert!(reactor.next().is_none());
        assert!(reactor.due.is_empty());
    }

    #[test]
    fn others_are_served_as_long_as_a_key_of_theirs_was_woken_lately() {
        let mut reactor = Reactor::new().unwrap();
        let mut slab = Slab::new(Kind(1));
        let keys: Vec<Key> = (0..3).map(|_| slab.insert(())).collect();
        keys.iter().zip([0, 1, 2]).for_each(|(key, group)| reactor.join(*key, group));
        let wake = |key: Key, reactor: &mut Reactor| {
            reactor.reschedule(key);
            turn(reactor, None, &mut Vec::new());
        };
        let others = |reactor: &Reactor| [1, 2, 3].map(|group| reactor.serves_others(group, HOUR));
        const HOUR: Duration = Duration::from_secs(3600);
        wake(keys[0], &mut reactor);
        assert_eq!(others(&reactor), [false; 3], "group 0 is the loop's own");
        wake(keys[1], &mut reactor);
        wake(keys[1], &mut reactor);
        assert_eq!(others(&reactor), [false, true, true]);
        wake(keys[2], &mut reactor);
        wake(keys[0], &mut reactor);
        assert_eq!(others(&reactor), [true; 3]);
        std::thread::sleep(Duration::from_millis(2));
        wake(keys[1], &mut reactor);
        assert!(!reactor.serves_others(1, Duration::from_millis(1)), "it was long ago");
    }

    #[test]
    fn a_turn_is_over_after_a_while_and_nothing_of_its_rest_is_lost() {
        let mut reactor = Reactor::new().unwrap();
        let mut slab = Slab::new(Kind(1));
        let pairs: Vec<_> = (0..600).map(|_| UnixStream::pair().unwrap()).collect();
        for (ours, _) in &pairs {
            let key = slab.insert(());
            reactor.join(key, 1);
            reactor.register(ours.as_fd(), key, FdSlot::First).unwrap();
        }
        let mut woken = std::collections::HashSet::new();
        let mut turns = 0;
        while woken.len() < pairs.len() {
            turns += 1;
            reactor.turn(Some(Duration::ZERO)).unwrap();
            let mut count = 0;
            while let Some(wake) = reactor.next() {
                let Wake::Ready(key, ..) = wake else { panic!("{wake:?}") };
                assert!(woken.insert(key), "each has changed once");
                count += 1;
                if turns == 1 && count == 2 {
                    std::thread::sleep(TURN_TIME);
                }
            }
            // At least one, and on a busy machine the first can be all there is time for.
            assert!(count > 0 && (turns > 1 || count <= 2));
            // What comes meanwhile is heard of, although a rest is left.
            if turns == 1 {
                let key = slab.insert(());
                reactor.join(key, 2);
                reactor.schedule(reactor.now(), key);
                reactor.turn(Some(Duration::ZERO)).unwrap();
                assert!(matches!(reactor.next(), Some(Wake::Timer(timer)) if timer == key));
            }
        }
        assert!(turns > 2);
    }

    #[test]
    fn the_waker_ends_a_turn_without_a_wake_up() {
        let mut reactor = Reactor::new().unwrap();
        reactor.waker().wake().unwrap();
        let mut wakes = Vec::new();
        turn(&mut reactor, None, &mut wakes);
        assert!(wakes.is_empty());
    }
}
