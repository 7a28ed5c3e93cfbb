//! Enforces the memory limit by polling, where no control group can.
//!
//! The polling interval shrinks with the remaining headroom. A program that fills memory faster than is
//! assumed here exceeds the limit for a moment, which is why this is only the second choice and must be
//! requested. The private memory of many processes (page tables, above all) comes from a walk over them,
//! which takes seconds for thousands.

use std::time::{Duration, Instant};

use super::children::Engine;

/// How fast memory can be filled, in bytes per millisecond: about twice what was measured.
const FILL_RATE: u64 = 4 << 20;
const MIN_INTERVAL: Duration = Duration::from_millis(5);
const MAX_INTERVAL: Duration = Duration::from_millis(250);

/// Watches the memory of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// The limit in bytes; 0 for none.
    limit: u64,
    next: Option<Instant>,
    triggered: bool,
}

impl Watchdog {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, next: None, triggered: false }
    }

    /// Measures if it is time to. Returns how many milliseconds to wait until the next measurement.
    pub(super) fn timeout(&mut self, engine: &mut Engine) -> i32 {
        if self.limit == 0 {
            return -1;
        }
        let now = Instant::now();
        let left = self.next.map(|next| next.saturating_duration_since(now)).filter(|left| !left.is_zero());
        let wait = left.unwrap_or_else(|| {
            let room = self.limit.saturating_sub(engine.memory().unwrap_or(0));
            self.triggered = room == 0;
            let wait = Duration::from_millis(room / FILL_RATE).clamp(MIN_INTERVAL, MAX_INTERVAL);
            self.next = Some(now + wait);
            wait
        });
        if self.triggered { 0 } else { i32::try_from(wait.as_millis()).unwrap_or(0).saturating_add(1) }
    }

    /// Whether there is a limit.
    pub(super) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Whether the limit was exceeded.
    pub(super) fn has_triggered(&self) -> bool {
        self.triggered
    }
}
