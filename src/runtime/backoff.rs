//! How long to wait after something has failed: longer with each failure that follows.

use std::time::{Duration, Instant};

/// The pause after one failure. It doubles with each that follows.
pub(super) const MIN_BACKOFF: Duration = Duration::from_millis(250);
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How often something has failed in a row, and until when it isn't tried again.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// It has failed.
    pub(super) fn fail(&mut self, now: Instant) {
        let doubled = 2_u32.checked_pow(self.failures).and_then(|factor| MIN_BACKOFF.checked_mul(factor));
        self.failures = self.failures.saturating_add(1);
        self.until = now.checked_add(doubled.unwrap_or(MAX_BACKOFF).min(MAX_BACKOFF));
    }

    /// What was made works: the next failure is the first again.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Until when it isn't tried.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_a_success() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.until(), None);
        let mut pauses = (0..40).map(|_| {
            backoff.fail(now);
            backoff.until().unwrap() - now
        });
        assert_eq!(pauses.by_ref().take(3).collect::<Vec<_>>(), [1, 2, 4].map(|times| times * MIN_BACKOFF));
        assert_eq!(pauses.last(), Some(MAX_BACKOFF));
        backoff.succeed();
        backoff.fail(now);
        assert_eq!(backoff.until(), Some(now + MIN_BACKOFF));
    }
}
