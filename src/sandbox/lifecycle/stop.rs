//! The graceful end: the program is asked to end, its connections end by themselves, and what is left after the grace
//! period is killed.

use std::time::{Duration, Instant};

/// A deadline for a grace period beyond the clock's end. The lifetime comes first.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// A stop that is under way.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(super) struct Stop {
    deadline: Instant,
    /// No connection is left, and none is accepted.
    drained: bool,
    /// How the program has ended, if it has.
    status: Option<i32>,
}

impl Stop {
    pub(super) fn new(now: Instant, grace: Duration, drained: bool) -> Self {
        Self { deadline: Self::after(now, grace), drained, status: None }
    }

    /// The host has asked again, which may shorten the time.
    pub(super) fn shorten(&mut self, now: Instant, grace: Duration) {
        self.deadline = self.deadline.min(Self::after(now, grace));
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The last connection has ended.
    pub(super) fn drained(&mut self) {
        self.drained = true;
    }

    /// The program has ended. The sandbox goes on until its connections have ended: they may still deliver what the
    /// program sent.
    pub(super) fn exited(&mut self, status: i32) {
        self.status.get_or_insert(status);
    }

    /// How the program ended: that counts, whatever comes after.
    pub(super) fn take_status(&mut self) -> Option<i32> {
        self.status.take()
    }

    /// Whether nothing is left to wait for, or the time is over. `idle` says that the sandbox has no program of its own
    /// and no executed one.
    pub(super) fn is_over(&self, now: Instant, idle: bool) -> bool {
        self.drained && (self.status.is_some() || idle) || now >= self.deadline
    }

    fn after(now: Instant, grace: Duration) -> Instant {
        now.checked_add(grace).unwrap_or(now + NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn a_stop_is_over_when_program_and_connections_have_ended() {
        let now = Instant::now();
        let mut stop = Stop::new(now, GRACE, false);
        stop.exited(7);
        stop.exited(9);
        assert!(!stop.is_over(now, false), "a connection is open");
        stop.drained();
        assert!(stop.is_over(now, false));
        assert_eq!(stop.take_status(), Some(7), "the first counts");
        assert!(!Stop::new(now, GRACE, true).is_over(now, false), "the program runs");
        assert!(Stop::new(now, GRACE, true).is_over(now, true));
    }

    #[test]
    fn a_stop_is_over_when_its_time_is() {
        let now = Instant::now();
        let mut stop = Stop::new(now, GRACE, false);
        stop.shorten(now, 2 * GRACE);
        assert!(!stop.is_over(now + GRACE / 2, false));
        assert!(stop.is_over(now + GRACE, false));
        stop.shorten(now, GRACE / 2);
        assert!(stop.is_over(now + GRACE / 2, false));
        stop = Stop::new(now, Duration::MAX, false);
        assert!(!stop.is_over(now + 1000 * GRACE, false));
    }
}
