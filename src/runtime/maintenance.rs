//! When the control thread looks after the warm pool: whether a creation is under way, whether the host has the memory,
//! and the timer for the next look.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::warm::{Next, Pool};
use crate::reactor::{Key, Kind, Reactor, Slab, TimerId};
use crate::sandbox::{Stage, memory_is_low};

/// How long until the next look while a sandbox is being created.
const BUSY_LOOK: Duration = Duration::from_secs(60);

/// The warm pool, and what the control thread knows for it.
#[derive(Debug)]
pub(super) struct PoolMaintenance {
    pool: Arc<Mutex<Pool>>,
    /// The only key of its kind, for the timer.
    key: Key,
    timer: Option<TimerId>,
    /// Sandboxes of the host's that are being created, once they are planned.
    starting: HashSet<u64>,
    /// Since when none is.
    quiet: Instant,
    /// Whether one was when the pool was last looked at.
    is_busy: bool,
    /// Whether the host has too little memory for members.
    memory_is_low: fn() -> bool,
}

impl PoolMaintenance {
    pub(super) fn new(pool: Arc<Mutex<Pool>>, kind: Kind) -> Self {
        Self {
            pool,
            key: Slab::new(kind).insert(()),
            timer: None,
            starting: HashSet::new(),
            quiet: Instant::now(),
            is_busy: false,
            memory_is_low,
        }
    }

    /// The pool, which the runtime's callers set and ask.
    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sandbox of the host's is being created. It lasts until it [has another stage](Self::has_stage).
    pub(super) fn creation_begins(&mut self, number: u64) {
        self.starting.insert(number);
    }

    /// How many are being created, once they are planned.
    pub(super) fn starting(&self) -> usize {
        self.starting.len()
    }

    /// The sandbox of that number, which may be a member, has this stage now.
    pub(super) fn has_stage(
        &mut self,
        now: Instant,
        number: u64,
        stage: Stage,
        failure: impl FnOnce() -> String,
    ) {
        if stage != Stage::Starting && self.starting.remove(&number) {
            self.quiet = now;
        }
        match stage {
            Stage::Ready => self.pool().ready(now, number),
            Stage::Ending => self.pool().lost(now, number, &failure()),
            Stage::Filling | Stage::Starting | Stage::Started => {}
        }
    }

    /// After a bug: the sandbox of that number, which may be a member, is gone.
    pub(super) fn abandoned(&mut self, now: Instant, number: u64) {
        self.starting.remove(&number);
        self.pool().lost(now, number, "the control thread panicked: a bug of the library");
    }

    /// Whether there is a pool, and too little memory for its members.
    pub(super) fn is_short_of_memory(&self) -> bool {
        self.pool().is_on() && (self.memory_is_low)()
    }

    /// The member to make next, if one is to be made now. None is while a sandbox of the host's is being
    /// created, or [planned](super::planning).
    pub(super) fn next(&mut self, now: Instant, is_planning: bool) -> Option<Next> {
        self.is_busy = is_planning || !self.starting.is_empty();
        if self.is_busy {
            self.quiet = now;
        }
        self.pool().next(now, self.quiet)
    }

    /// Sets the timer to the next time that there may be something to do, for the pool or for a claim.
    pub(super) fn schedule(&mut self, reactor: &mut Reactor, now: Instant, claim: Option<Instant>) {
        // While a sandbox is being created no member is made, and its start or end wakes the thread anyway.
        let quiet = if self.is_busy { now + BUSY_LOOK } else { self.quiet };
        let at = self.pool().next_look(now, quiet).into_iter().chain(claim).min();
        if self.timer.map(TimerId::at) != at {
            if let Some(timer) = self.timer.take() {
                reactor.cancel(timer);
            }
            self.timer = at.map(|at| reactor.schedule(at, self.key));
        }
    }
}

/// What the control thread's tests set and see.
#[cfg(test)]
impl PoolMaintenance {
    pub(super) fn pretend(&mut self, quiet: Instant, memory_is_low: fn() -> bool) {
        (self.quiet, self.memory_is_low) = (quiet, memory_is_low);
    }

    pub(super) fn scheduled(&self) -> Option<Instant> {
        self.timer.map(TimerId::at)
    }
}
