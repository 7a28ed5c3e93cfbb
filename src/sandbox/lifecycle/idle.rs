//! The idle timeout: the end of a sandbox that has not been used for a while.
//!
//! Use is an executed program that runs or is being started, an operation on files (but not a watch), a byte through a
//! tunnel or a connection, something written to the standard input. The deadline is the earliest moment at which the
//! sandbox can have been idle for long enough; what has happened since is looked at then.

use std::time::{Duration, Instant};

/// What is known of a sandbox's use.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug, Default)]
pub(super) struct Idle {
    limit: Option<Duration>,
    /// Executed programs run, or are being started.
    execs: bool,
    /// How many operations on files are in progress.
    files: usize,
    /// The last use, but for bytes that the engine moved.
    last_use: Option<Instant>,
    deadline: Option<Instant>,
}

impl Idle {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn set_execs(&mut self, running: bool) {
        self.execs = running;
    }

    pub(super) fn has_execs(&self) -> bool {
        self.execs
    }

    pub(super) fn file_began(&mut self) {
        self.files = self.files.saturating_add(1);
    }

    pub(super) fn file_ended(&mut self) {
        self.files = self.files.saturating_sub(1);
    }

    /// The sandbox is used now. A deadline that is set stays: it is only ever too early.
    pub(super) fn used(&mut self, now: Instant) {
        self.last_use = Some(now);
        if self.deadline.is_none() && !self.is_busy() {
            self.deadline = self.due(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the sandbox has been idle for too long. Sets the next deadline if it hasn't; while something is in
    /// progress there is none, since its end is a use.
    pub(super) fn check(&mut self, now: Instant, last_byte: Instant) -> bool {
        if self.deadline.is_none_or(|at| at > now) {
            return false;
        }
        self.deadline = None;
        let Some(last_use) = self.last_use.filter(|_| !self.is_busy()) else { return false };
        let due = self.due(last_use.max(last_byte));
        if due.is_some_and(|at| at <= now) {
            return true;
        }
        self.deadline = due;
        false
    }

    /// The sandbox is ending.
    pub(super) fn clear(&mut self) {
        self.deadline = None;
    }

    fn is_busy(&self) -> bool {
        self.execs || self.files > 0
    }

    /// On overflow there is no deadline.
    fn due(&self, last_use: Instant) -> Option<Instant> {
        last_use.checked_add(self.limit?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_sandbox_is_idle_once_the_limit_has_passed_since_its_last_use() {
        let (mut idle, start) = (Idle::new(Some(LIMIT)), Instant::now());
        idle.used(start);
        idle.used(start + LIMIT / 2);
        assert_eq!(idle.deadline(), Some(start + LIMIT), "the deadline is looked at when it comes");
        assert!(!idle.check(start + LIMIT, start));
        assert_eq!(idle.deadline(), Some(start + LIMIT * 3 / 2));
        assert!(!idle.check(start + LIMIT, start), "an early look finds nothing");
        assert!(idle.check(start + LIMIT * 3 / 2, start));
    }

    #[test]
    fn bytes_that_the_engine_moves_are_use() {
        let (mut idle, start) = (Idle::new(Some(LIMIT)), Instant::now());
        idle.used(start);
        let moved = start + Duration::from_secs(9);
        assert!(!idle.check(start + LIMIT, moved));
        assert_eq!(idle.deadline(), Some(moved + LIMIT));
        assert!(idle.check(moved + LIMIT, moved));
    }

    #[test]
    fn what_is_in_progress_keeps_a_sandbox_from_being_idle() {
        let (mut idle, start) = (Idle::new(Some(LIMIT)), Instant::now());
        idle.used(start);
        idle.file_began();
        idle.set_execs(true);
        assert!(!idle.check(start + LIMIT, start));
        assert_eq!(idle.deadline(), None);
        let end = start + 5 * LIMIT;
        idle.file_ended();
        idle.used(end);
        assert_eq!(idle.deadline(), None, "a program is still running");
        idle.set_execs(false);
        idle.used(end);
        assert_eq!(idle.deadline(), Some(end + LIMIT));
    }

    #[test]
    fn without_a_limit_a_sandbox_is_never_idle() {
        let (mut idle, start) = (Idle::new(None), Instant::now());
        idle.used(start);
        assert_eq!(idle.deadline(), None);
        let mut idle = Idle::new(Some(Duration::MAX));
        idle.used(start);
        assert_eq!(idle.deadline(), None, "nor with one beyond the clock's end");
    }
}
