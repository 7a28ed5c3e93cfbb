//! The exit snapshot: what a sandbox has in its root file system when its program has ended, its time is over, or the host
//! has asked for its end.
//!
//! Until it is stored the sandbox is [`Phase::Saving`](super::Phase::Saving): its programs were killed, and its connections
//! closed; init and the keeper live, with a bound of their own that the keeper holds, too.

use std::time::{Duration, Instant};

use super::{Action, Actions, Cause, KILL_GRACE, Lifecycle};

/// How long an exit snapshot may wait for others.
pub(super) const EXIT_SNAPSHOT_WAIT: Duration = Duration::from_secs(600);
/// How long it may take once it has begun.
pub(super) const EXIT_SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(60);

/// What became of the exit snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum ExitSnapshot {
    /// The host has not asked for one.
    Unwanted,
    /// It is taken at the end.
    Wanted,
    /// It is taken when its turn comes.
    Waiting,
    /// It was begun, and what it ended with is the driver's to say.
    Begun,
    /// There is none, and why.
    Skipped(&'static str),
}

impl ExitSnapshot {
    pub(super) const LOST: &str = "the sandbox's engine was lost";
    pub(super) const OUT_OF_MEMORY: &str = "the sandbox was out of memory";
    pub(super) const TERMINATED_AGAIN: &str = "the sandbox was terminated again before it was stored";
    pub(super) const FREED: &str = "the sandbox was freed before it was stored";
    pub(super) const WAITED: &str = "its turn did not come within 10 minutes";
    pub(super) const TIMED_OUT: &str = "it took longer than 60 s";
    pub(super) const EXPIRED: &str = "the keeper has ended the sandbox, since the host was stopped";
    const FAILED: &str = "the sandbox has failed";
    const NEVER_RAN: &str = "the sandbox was never created";

    pub(super) fn new(is_wanted: bool) -> Self {
        if is_wanted { Self::Wanted } else { Self::Unwanted }
    }

    /// There is none, for that reason. The first one counts.
    pub(super) fn skip(&mut self, why: &'static str) {
        if matches!(self, Self::Wanted | Self::Waiting | Self::Begun) {
            *self = Self::Skipped(why);
        }
    }

    /// Why there is none any more, if this ends a sandbox that is being saved.
    pub(super) fn ended_by(cause: &Cause) -> Option<&'static str> {
        match cause {
            Cause::Lost(_) => Some(Self::LOST),
            Cause::OutOfMemory(_) => Some(Self::OUT_OF_MEMORY),
            Cause::Failed(_) => Some(Self::FAILED),
            // Of the host's own clock there is nothing any more: it is the keeper's.
            Cause::TimedOut => Some(Self::EXPIRED),
            Cause::Program(_) | Cause::Idle | Cause::Terminated => None,
        }
    }
}

impl Lifecycle {
    /// Whether an exit snapshot is taken of a sandbox that ends for that cause. If not, the reason is kept.
    pub(super) fn may_save(&mut self, cause: &Cause) -> bool {
        let has_all = self.keeper_is_open && self.init_is_open && self.pending_loss.is_none();
        let why = match cause {
            _ if !self.is_running() => Some(ExitSnapshot::NEVER_RAN),
            Cause::Lost(_) => Some(ExitSnapshot::LOST),
            Cause::OutOfMemory(_) => Some(ExitSnapshot::OUT_OF_MEMORY),
            Cause::Failed(_) => Some(ExitSnapshot::FAILED),
            _ if !has_all => Some(ExitSnapshot::LOST),
            Cause::TimedOut | Cause::Program(_) | Cause::Idle | Cause::Terminated => None,
        };
        if let Some(why) = why {
            self.exit_snapshot.skip(why);
        }
        self.exit_snapshot == ExitSnapshot::Wanted
    }

    /// Kills the programs and begins the snapshot. One that the host has asked for is ended before.
    pub(super) fn begin_saving(&mut self, now: Instant, todo: &mut Actions) {
        self.exit_snapshot = ExitSnapshot::Waiting;
        self.deadline = now.checked_add(EXIT_SNAPSHOT_WAIT);
        todo.push(Action::Release);
        let most = EXIT_SNAPSHOT_WAIT.saturating_add(EXIT_SNAPSHOT_TIMEOUT).saturating_add(KILL_GRACE);
        todo.push(Action::LimitLifetime(most));
        todo.push(Action::KillPrograms);
        let is_busy = self.snapshot.is_some();
        todo.push(if is_busy { Action::CancelSnapshot } else { Action::TakeExitSnapshot });
    }

    /// The snapshot that the host had asked for has ended.
    pub(super) fn on_archive_free(&mut self, now: Instant, is_paused: bool, todo: &mut Actions) {
        if is_paused {
            return self.stop_saving(now, ExitSnapshot::LOST, todo);
        }
        todo.push(Action::TakeExitSnapshot);
    }

    /// Its turn has come, and its own time counts from now on.
    pub(super) fn on_exit_snapshot_began(&mut self, now: Instant, todo: &mut Actions) {
        if self.is_saving() && self.exit_snapshot == ExitSnapshot::Waiting {
            self.exit_snapshot = ExitSnapshot::Begun;
            self.deadline = now.checked_add(EXIT_SNAPSHOT_TIMEOUT);
            todo.push(Action::LimitLifetime(EXIT_SNAPSHOT_TIMEOUT.saturating_add(KILL_GRACE)));
        }
    }

    pub(super) fn on_exit_snapshot_ended(&mut self, now: Instant, todo: &mut Actions) {
        if self.is_saving() {
            self.kill(now, todo);
        }
    }

    /// There is no exit snapshot, and the sandbox is killed.
    pub(super) fn stop_saving(&mut self, now: Instant, why: &'static str, todo: &mut Actions) {
        self.exit_snapshot.skip(why);
        todo.push(Action::DropExitSnapshot);
        self.kill(now, todo);
    }
}
