//! Watches the host's addresses and routes: when they change, flows are checked again, since where one goes may be the
//! host itself from then on, or a neighbour of it.
//!
//! A flow that is used is checked before anything of it moves. Only connections under way do something by themselves: the
//! kernel repeats their first packet. They are checked at once, in slices.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::kinds::ROUTES;
use crate::net::Notices;
use crate::reactor::{FdSlot, Key, Reactor, Slab, TimerId, Wake};

/// How long connections under way are left alone between two changes: a busy host has many.
const RECHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Counts the changes of the host's routing.
#[derive(Debug)]
pub(super) struct Routes {
    /// One, while changes are watched.
    notices: Slab<Notices>,
    key: Option<Key>,
    /// Counts the changes.
    generation: u64,
    /// The generation that connections under way were checked for last, and when.
    rechecked: u64,
    at: Option<Instant>,
    timer: Option<TimerId>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self { notices: Slab::new(ROUTES), key: None, generation: 0, rechecked: 0, at: None, timer: None }
    }

    /// The number of the routing at this moment.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a verdict of that generation still holds. Where changes can't be watched none ever does.
    pub(super) fn stands(&self, generation: u64) -> bool {
        self.key.is_some() && generation == self.generation
    }

    /// Begins to watch for changes, unless that was done already.
    pub(super) fn watch(&mut self, reactor: &mut Reactor) {
        if self.key.is_some() {
            return;
        }
        let notices = match Notices::open() {
            Ok(notices) => notices,
            Err(error) => return log::warn!("every flow is checked each time it is used: {error}"),
        };
        let key = self.notices.insert(notices);
        let Some(notices) = self.notices.get_mut(key) else { return };
        if let Err(error) = reactor.register(notices.as_fd(), key, FdSlot::First) {
            self.notices.remove(key);
            return log::warn!("every flow is checked each time it is used: {error}");
        }
        self.key = Some(key);
        // Changes since earlier verdicts went unnoticed.
        self.generation += 1;
    }

    /// Stops watching.
    pub(super) fn forget(&mut self, reactor: &mut Reactor) {
        if let Some(notices) = self.key.take().and_then(|key| self.notices.remove(key)) {
            reactor.deregister(notices.as_fd());
        }
        if let Some(timer) = self.timer.take() {
            reactor.cancel(timer);
        }
    }

    /// Takes the notices that have come, so that the next verdicts are by the routing of this moment.
    pub(super) fn read_notices(&mut self, reactor: &mut Reactor) {
        let Some(key) = self.key else { return };
        let Some(notices) = self.notices.get_mut(key) else { return };
        let heard = notices.hear();
        if heard.changed {
            self.generation += 1;
        }
        // Connections under way are checked in a turn of its own.
        if heard.changed || heard.more {
            reactor.reschedule(key);
        }
    }

    /// Whether connections under way are to be checked now. `checking` says that the last check of them isn't over.
    pub(super) fn on_wake(&mut self, reactor: &mut Reactor, key: Key, wake: Wake, checking: bool) -> bool {
        if self.key != Some(key) {
            return false;
        }
        if let Wake::Timer(_) = wake {
            self.timer = None;
        }
        self.read_notices(reactor);
        let now = reactor.now();
        if self.rechecked == self.generation || self.timer.is_some() {
            return false;
        }
        let last = if checking { Some(now) } else { self.at };
        if let Some(at) = last.map(|last| last + RECHECK_INTERVAL).filter(|at| *at > now) {
            self.timer = Some(reactor.schedule(at, key));
            return false;
        }
        self.rechecked = self.generation;
        self.at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_notices_no_verdict_stands() {
        let mut routes = Routes::new();
        assert!(!routes.stands(routes.generation()));
        routes.key = Some(routes.notices.insert(Notices::open().unwrap()));
        assert!(routes.stands(routes.generation()));
        let asked = routes.generation();
        routes.generation += 1;
        assert!(!routes.stands(asked) && routes.stands(routes.generation()));
    }
}
