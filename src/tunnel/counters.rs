//! What a sandbox's tunnels count, and when they were last active.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters of a sandbox's connections. Any thread may read them at any time.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Bytes from clients to the sandbox.
    pub(crate) bytes_in: AtomicU64,
    /// Bytes from the sandbox to clients.
    pub(crate) bytes_out: AtomicU64,
    /// Connections that are open now.
    pub(crate) open: AtomicU64,
    /// Connections that were accepted.
    pub(crate) total: AtomicU64,
    /// Connections that found no server, or whose client wasn't allowed.
    pub(crate) refused: AtomicU64,
    /// When the last byte was moved, in milliseconds since this was made.
    active: AtomicU64,
    made: Instant,
}

impl Counters {
    /// Records that a byte was moved.
    pub(crate) fn note_activity(&self, now: Instant) {
        let since = now.saturating_duration_since(self.made).as_millis();
        self.active.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When the last byte was moved.
    pub(crate) fn last_active(&self) -> Instant {
        let since = Duration::from_millis(self.active.load(Ordering::Relaxed));
        self.made.checked_add(since).unwrap_or(self.made)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            open: AtomicU64::new(0),
            total: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            active: AtomicU64::new(0),
            made: Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_activity_is_known_to_the_millisecond() {
        let counters = Counters::default();
        let at = Instant::now() + Duration::from_millis(1500);
        counters.note_activity(at);
        let off = at.saturating_duration_since(counters.last_active());
        assert!(off < Duration::from_millis(1) && counters.last_active() <= at, "{off:?}");
    }
}
