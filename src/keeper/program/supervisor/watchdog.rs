//! The limit of memory where no control group holds it: looked at again and again.
//!
//! The next look comes the sooner, the less is left. A program that is quicker than what is assumed here has more
//! than it may for a moment, which is why this is second best and must be asked for. What many processes have of their
//! own (page tables, above all) is known from a walk over them, which takes some seconds for thousands.

use std::time::{Duration, Instant};

use super::children::Engine;

/// How fast memory can be filled, in bytes a millisecond: about twice what was seen.
const FILL_RATE: u64 = 4 << 20;
const MIN_INTERVAL: Duration = Duration::from_millis(5);
const MAX_INTERVAL: Duration = Duration::from_millis(250);

/// Looks at the memory of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// The limit in bytes; 0 for none.
    limit: u64,
    next: Option<Instant>,
    triggered: bool,
}

impl Watchdog {
    /// With this limit in bytes; 0 for none.
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, next: None, triggered: false }
    }

    /// Looks if it is time to; says how many milliseconds may be waited until the next look.
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

    /// Whether there was too much.
    pub(super) fn has_triggered(&self) -> bool {
        self.triggered
    }
}
