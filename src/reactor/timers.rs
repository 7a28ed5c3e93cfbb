//! Timers on the monotonic clock. A cancelled one leaves nothing behind, so that a million short connections
//! with long time-outs cost no memory.

use std::collections::BTreeSet;
use std::time::Instant;

use super::key::Key;

/// Names a timer that was scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    at: Instant,
    number: u64,
    key: Key,
}

impl TimerId {
    /// When it expires.
    pub(crate) fn at(self) -> Instant {
        self.at
    }

    pub(super) fn key(self) -> Key {
        self.key
    }
}

/// Timers, by the time at which they expire.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BTreeSet<TimerId>,
    count: u64,
}

impl Timers {
    pub(super) fn insert(&mut self, at: Instant, key: Key) -> TimerId {
        self.count += 1;
        let id = TimerId { at, number: self.count, key };
        self.entries.insert(id);
        id
    }

    /// Removes a timer; false if it isn't there any more.
    pub(super) fn remove(&mut self, id: TimerId) -> bool {
        self.entries.remove(&id)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.first().map(|id| id.at)
    }

    pub(super) fn expired(&mut self, now: Instant) -> Option<TimerId> {
        if self.entries.first()?.at > now { None } else { self.entries.pop_first() }
    }
}
