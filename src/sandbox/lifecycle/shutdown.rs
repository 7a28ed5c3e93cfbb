//! The way down: whatever happens, in whatever phase, it leads here.

use std::time::Instant;

use super::stop::Stop;
use super::{
    Action, Actions, Cause, ExitSnapshot, KILL_GRACE, LOSS_TIMEOUT, Lifecycle, MAX_KILLS, MAX_REMOVALS,
    Notice, Observed, Phase, REMOVAL_INTERVAL, START_TIMEOUT,
};
use crate::error::{Code, Error};

impl Lifecycle {
    /// If it was runsc that ended, the keeper reports more, and soon.
    pub(super) fn on_init_lost(&mut self, now: Instant, error: Error, todo: &mut Actions) {
        self.close_init(todo);
        if self.is_saving() {
            return self.stop_saving(now, ExitSnapshot::LOST, todo);
        }
        self.suspect_loss(now, error);
    }

    pub(super) fn close_init(&mut self, todo: &mut Actions) {
        if self.init_is_open {
            self.init_is_open = false;
            todo.push(Action::CloseInit);
        }
    }

    /// The first loss counts: what fails after it doesn't put the end off.
    pub(super) fn suspect_loss(&mut self, now: Instant, error: Error) {
        if !self.is_ending() && self.pending_loss.is_none() {
            self.pending_loss = Some(error);
            self.deadline = now.checked_add(LOSS_TIMEOUT);
        }
    }

    /// The sandbox had no memory left, and what else was seen of that is its consequence.
    pub(super) fn on_out_of_memory(&mut self, now: Instant, why: String, todo: &mut Actions) {
        match &self.cause {
            None => self.end(now, Cause::OutOfMemory(why), todo),
            Some(cause) if cause.is_explained_by_memory() => self.cause = Some(Cause::OutOfMemory(why)),
            Some(_) => {}
        }
        if self.is_saving() {
            self.stop_saving(now, ExitSnapshot::OUT_OF_MEMORY, todo);
        }
    }

    pub(super) fn on_lifetime_expired(&mut self, now: Instant, todo: &mut Actions) {
        // The keeper has ended it already.
        self.exit_snapshot.skip(ExitSnapshot::EXPIRED);
        let cause = if self.started {
            Cause::TimedOut
        } else {
            let seconds = START_TIMEOUT.as_secs();
            let text = format!("it did not start within {seconds} s, in which the host was stopped");
            Cause::Failed(Error::new(Code::Engine, text))
        };
        self.end(now, cause, todo);
    }

    /// Ends the sandbox. The first cause counts, and the keeper is asked once.
    pub(super) fn end(&mut self, now: Instant, cause: Cause, todo: &mut Actions) {
        if self.is_saving()
            && let Some(why) = ExitSnapshot::ended_by(&cause)
        {
            return self.stop_saving(now, why, todo);
        }
        if self.is_ending() {
            return;
        }
        let saves = self.may_save(&cause);
        // How the program ended while it was being stopped counts, whatever comes after.
        let status = self.stop.as_mut().and_then(Stop::take_status);
        let cause = status.map_or(cause, Cause::Program);
        self.cause = Some(if self.started { cause } else { cause.before_start() });
        self.phase = if saves { Phase::Saving } else { Phase::Ending };
        self.pending_loss = None;
        self.probe.clear();
        self.idle.clear();
        todo.push(Action::Publish(Notice::Ending));
        if self.engine_is_attached {
            todo.push(Action::DetachEngine);
        }
        if saves { self.begin_saving(now, todo) } else { self.kill(now, todo) }
    }

    /// Has the keeper kill everything.
    pub(super) fn kill(&mut self, now: Instant, todo: &mut Actions) {
        self.phase = Phase::Ending;
        self.snapshot = None;
        self.deadline = now.checked_add(KILL_GRACE);
        todo.push(Action::Release);
        if self.keeper_is_open {
            todo.push(Action::AskKeeperToKill);
        }
    }

    pub(super) fn on_terminate_request(&mut self, now: Instant, todo: &mut Actions) {
        let is_repeated = std::mem::replace(&mut self.termination_is_requested, true);
        match self.phase {
            Phase::Saving if is_repeated => self.stop_saving(now, ExitSnapshot::TERMINATED_AGAIN, todo),
            _ => self.end(now, Cause::Terminated, todo),
        }
    }

    pub(super) fn on_handle_closed(&mut self, now: Instant, todo: &mut Actions) {
        if self.is_saving() {
            return self.stop_saving(now, ExitSnapshot::FREED, todo);
        }
        self.exit_snapshot.skip(ExitSnapshot::FREED);
        self.end(now, Cause::Terminated, todo);
    }

    pub(super) fn on_keeper_closed(&mut self, now: Instant, error: Error, todo: &mut Actions) {
        if !self.keeper_is_open {
            return;
        }
        self.keeper_is_open = false;
        self.end(now, Cause::Lost(error), todo);
        self.phase = Phase::Reaping;
        todo.push(Action::AwaitKeeperExit);
    }

    /// The keeper's process has ended. The sentry may live for a moment if the keeper was killed: it has PDEATHSIG
    /// from runsc, which has it from the keeper, and the end of init's channel shows it.
    pub(super) fn on_keeper_exit(&mut self, now: Instant, todo: &mut Actions) {
        self.keeper_is_open = false;
        self.phase = Phase::Clearing;
        self.deadline = now.checked_add(KILL_GRACE);
        todo.push(Action::ReapKeeper);
        if self.groups_exist {
            todo.push(Action::RemoveGroups);
        }
    }

    /// A control group can't be removed while processes are ending in it. They end by themselves, so this is tried
    /// until they have.
    pub(super) fn on_groups_busy(&mut self, now: Instant, todo: &mut Actions) {
        if self.phase != Phase::Clearing || !self.groups_exist {
            return;
        }
        self.removals += 1;
        self.next_removal = now.checked_add(REMOVAL_INTERVAL).filter(|_| self.removals <= MAX_REMOVALS);
        if self.next_removal.is_none() {
            self.groups_exist = false;
            todo.push(Action::AbandonGroups);
        }
    }

    pub(super) fn on_time(&mut self, now: Instant, observed: Observed, todo: &mut Actions) {
        if self.deadline.take_if(|at| *at <= now).is_some() {
            self.on_deadline(now, observed.keeper_exited, todo);
        }
        if self.next_removal.take_if(|at| *at <= now).is_some() && self.groups_exist {
            todo.push(Action::RemoveGroups);
        }
        if self.is_running() && self.probe.is_due(now) {
            self.ask_probe(now, todo);
        }
        self.check_stop(now, todo);
        self.check_snapshot(now, todo);
        if self.is_running() && self.idle.check(now, observed.last_byte) {
            self.end(now, Cause::Idle, todo);
        }
    }

    /// The time for what the sandbox is doing is over.
    pub(super) fn on_deadline(&mut self, now: Instant, keeper_exited: bool, todo: &mut Actions) {
        if let Some(loss) = self.pending_loss.take() {
            return self.end(now, Cause::Lost(loss), todo);
        }
        let what = match self.phase {
            Phase::Saving => {
                let waits = self.exit_snapshot == ExitSnapshot::Waiting;
                let why = if waits { ExitSnapshot::WAITED } else { ExitSnapshot::TIMED_OUT };
                return self.stop_saving(now, why, todo);
            }
            Phase::Ending | Phase::Reaping => return self.escalate_kill(now, keeper_exited, todo),
            Phase::Clearing | Phase::Gone => return self.close_init(todo),
            Phase::Running => return self.end(now, Cause::TimedOut, todo),
            Phase::Warm if self.can_be_taken() => return self.end(now, Cause::TimedOut, todo),
            Phase::Starting if self.init_is_ready => "its program was not started",
            Phase::Warm | Phase::Booting | Phase::Starting => "runsc did not bring up its init",
            Phase::Preparing => "its namespaces and files were not ready",
        };
        let text = format!("it did not start within {} s: {what}", START_TIMEOUT.as_secs());
        self.end(now, Cause::Failed(Error::new(Code::Engine, text)), todo);
    }

    /// The keeper should have ended everything by now.
    pub(super) fn escalate_kill(&mut self, now: Instant, keeper_exited: bool, todo: &mut Actions) {
        if !keeper_exited && self.kills < MAX_KILLS {
            self.kills += 1;
            self.deadline = now.checked_add(KILL_GRACE);
            return todo.push(Action::KillKeeper);
        }
        if !keeper_exited {
            todo.push(Action::GiveUpKeeper);
        }
        self.close_init(todo);
        self.on_keeper_exit(now, todo);
    }

    pub(super) fn check_gone(&mut self, todo: &mut Actions) {
        let is_held =
            self.init_is_open || self.engine_is_attached || self.rules_are_offloaded || self.groups_exist;
        if self.phase == Phase::Clearing && !is_held {
            self.phase = Phase::Gone;
            (self.deadline, self.next_removal) = (None, None);
            todo.push(Action::Finish);
        }
    }
}
