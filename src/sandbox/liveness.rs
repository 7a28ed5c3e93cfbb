//! Whether init still answers. One that was stopped from inside, spins or lies leaves requests unanswered, and the
//! sandbox ends when one has been open for half a minute.
//!
//! That half minute is counted in checks, and only those count that come in time: while the host is stopped, its control
//! group frozen, the machine suspended or the control thread kept busy, no answer could have been read. One timer checks
//! all sandboxes, and pings each init that has nothing else to answer.
//!
//! What is open in one sandbox, and when that ends it, is decided in [`super::lifecycle`].

use std::time::{Duration, Instant};

use crate::reactor::{Key, Kind, Reactor, Slab, TimerId};

/// How long a request may stay unanswered.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// The same of a member of the warm pool, which nothing runs in and which is replaced.
pub(super) const MEMBER_SILENCE: Duration = Duration::from_secs(10);
/// How often every init is checked while nothing is unanswered.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How soon it is checked again while something is.
pub(super) const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A check that comes later than this after its time doesn't count.
pub(super) const LATENESS: Duration = Duration::from_secs(1);

/// Time in which the library was there, measured by looks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    next: Option<(Instant, Duration)>,
    counted: Duration,
}

impl Watched {
    /// When the next look is due. `None` beyond what the clock can say.
    pub(crate) fn look_after(&mut self, now: Instant, pause: Duration) -> Option<Instant> {
        let at = now.checked_add(pause)?;
        self.next = Some((at, pause));
        Some(at)
    }

    /// A look: how much time has been watched by now. One that is early or late adds nothing.
    pub(crate) fn look(&mut self, now: Instant) -> Duration {
        if let Some((_, pause)) =
            self.next.take_if(|(at, _)| *at <= now).filter(|(at, _)| now - *at <= LATENESS)
        {
            self.counted += pause;
        }
        self.counted
    }
}

/// The timer of all looks.
#[derive(Debug)]
pub(crate) struct Pulse {
    key: Key,
    timer: Option<TimerId>,
    watched: Watched,
}

impl Pulse {
    /// Its wake-ups come with a key of this kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { key: Slab::new(kind).insert(()), timer: None, watched: Watched::default() }
    }

    /// There is a sandbox to be looked at.
    pub(crate) fn start(&mut self, reactor: &mut Reactor) {
        if self.timer.is_none() {
            self.schedule(reactor, CHECK_INTERVAL);
        }
    }

    /// A look: how much time has been watched.
    pub(crate) fn look(&mut self, reactor: &mut Reactor) -> Duration {
        self.timer = None;
        self.watched.look(reactor.now())
    }

    /// When the next look is: soon if something is open, never without a sandbox.
    pub(crate) fn go_on(&mut self, reactor: &mut Reactor, open: bool, none: bool) {
        if !none && self.timer.is_none() {
            self.schedule(reactor, if open { RECHECK_INTERVAL } else { CHECK_INTERVAL });
        }
    }

    fn schedule(&mut self, reactor: &mut Reactor, pause: Duration) {
        let at = self.watched.look_after(reactor.now(), pause);
        self.timer = at.map(|at| reactor.schedule(at, self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_wake_up_counts_for_nothing_and_takes_nothing_away() {
        let mut watched = Watched::default();
        let now = Instant::now();
        let at = watched.look_after(now, RECHECK_INTERVAL).unwrap();
        assert_eq!(watched.look(now), Duration::ZERO);
        assert_eq!(watched.look(at), RECHECK_INTERVAL);
        assert_eq!(watched.look(at), RECHECK_INTERVAL, "each look counts once");
    }
}
