//! When the host's addresses and routes change, flows are asked about again: where one goes may be the host itself
//! from then on, or a neighbour of it.
//!
//! A flow that is used is asked before anything of it moves ([`Outbound::is_still_allowed`]). Only connections under
//! way do something by themselves: the kernel repeats their first packet. They are asked at once, in slices.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::outbound::{Outbound, ROUTES};
use crate::net::Notices;
use crate::reactor::{Key, Lane, Reactor, Slab, TimerId, Wake};

/// How long connections under way are left alone between two changes: a busy host has many.
const REST: Duration = Duration::from_millis(20);

/// What is known of the host's routing: that it is another one.
#[derive(Debug)]
pub(super) struct Routes {
    /// One, while they are heard.
    notices: Slab<Notices>,
    key: Option<Key>,
    /// Counts the changes.
    generation: u64,
    /// By which connections under way were asked last, and when.
    swept: u64,
    at: Option<Instant>,
    timer: Option<TimerId>,
    /// Connections under way that are still to be asked.
    pub(super) waiting: Vec<Key>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self {
            notices: Slab::new(ROUTES),
            key: None,
            generation: 0,
            swept: 0,
            at: None,
            timer: None,
            waiting: Vec::new(),
        }
    }

    /// The number of the routing that is asked now.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether what was said by that routing still holds. If nothing is heard of changes it never does.
    pub(super) fn stands(&self, generation: u64) -> bool {
        self.key.is_some() && generation == self.generation
    }
}

impl Outbound {
    /// Listens for changes, if that isn't done yet.
    pub(super) fn watch_routes(&mut self, reactor: &mut Reactor) {
        if self.routes.key.is_some() {
            return;
        }
        let notices = match Notices::open() {
            Ok(notices) => notices,
            Err(error) => return log::warn!("every flow is asked about each time it is used: {error}"),
        };
        let key = self.routes.notices.insert(notices);
        let Some(notices) = self.routes.notices.get_mut(key) else { return };
        if let Err(error) = reactor.register(notices.as_fd(), key, Lane::Front) {
            self.routes.notices.remove(key);
            return log::warn!("every flow is asked about each time it is used: {error}");
        }
        self.routes.key = Some(key);
        // Changes since earlier verdicts went unheard.
        self.routes.generation += 1;
    }

    /// Listens no more.
    pub(super) fn forget_routes(&mut self, reactor: &mut Reactor) {
        if let Some(notices) = self.routes.key.take().and_then(|key| self.routes.notices.remove(key)) {
            reactor.deregister(notices.as_fd());
        }
        if let Some(timer) = self.routes.timer.take() {
            reactor.cancel(timer);
        }
        self.routes.waiting.clear();
    }

    /// Takes the notices that have come, so that what is asked from now on is asked by the routing of this moment.
    pub(super) fn hear_routes(&mut self, reactor: &mut Reactor) {
        let Some(key) = self.routes.key else { return };
        let Some(notices) = self.routes.notices.get_mut(key) else { return };
        let heard = notices.hear();
        if heard.changed {
            self.routes.generation += 1;
        }
        // Connections under way are asked in a turn of its own.
        if heard.changed || heard.more {
            reactor.again(key);
        }
    }

    pub(super) fn wake_routes(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        if self.routes.key != Some(key) {
            return;
        }
        if let Wake::Timer(_) = wake {
            self.routes.timer = None;
        }
        self.hear_routes(reactor);
        let now = reactor.now();
        if self.routes.swept == self.routes.generation || self.routes.timer.is_some() {
            return;
        }
        let last = if self.routes.waiting.is_empty() { self.routes.at } else { Some(now) };
        if let Some(at) = last.map(|last| last + REST).filter(|at| *at > now) {
            self.routes.timer = Some(reactor.schedule(at, key));
            return;
        }
        self.routes.swept = self.routes.generation;
        self.routes.at = Some(now);
        self.routes.waiting = self.connecting();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_heard_of_changes_no_verdict_stands() {
        let mut routes = Routes::new();
        assert!(!routes.stands(routes.generation()));
        routes.key = Some(routes.notices.insert(Notices::open().unwrap()));
        assert!(routes.stands(routes.generation()));
        let asked = routes.generation();
        routes.generation += 1;
        assert!(!routes.stands(asked) && routes.stands(routes.generation()));
    }
}
