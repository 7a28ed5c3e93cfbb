//! Timers on the monotonic clock. A cancelled one leaves nothing behind, so that a million short connections
//! with long time-outs cost no memory.

use std::collections::BTreeMap;
use std::time::Instant;

use super::key::Key;

/// Names a timer that was scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId {
    at: Instant,
    number: u64,
}

impl TimerId {
    /// When it runs out.
    pub(crate) fn at(self) -> Instant {
        self.at
    }
}

/// Timers by the time at which they run out.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    entries: BTreeMap<TimerId, Key>,
    count: u64,
}

impl Timers {
    pub(super) fn insert(&mut self, at: Instant, key: Key) -> TimerId {
        self.count += 1;
        let id = TimerId { at, number: self.count };
        self.entries.insert(id, key);
        id
    }

    pub(super) fn remove(&mut self, id: TimerId) {
        self.entries.remove(&id);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|(id, _)| id.at)
    }

    pub(super) fn expired(&mut self, now: Instant) -> Option<Key> {
        let entry = self.entries.first_entry()?;
        if entry.key().at > now { None } else { Some(entry.remove()) }
    }
}
