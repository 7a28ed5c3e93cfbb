//! While the program runs: use, probes, silence, the graceful end.

use std::time::{Duration, Instant};

use super::stop::Stop;
use super::{Action, Actions, Cause, Lifecycle, Notice, SNAPSHOT_GRACE};
use crate::error::{Code, Error};
use crate::sandbox::liveness::{MEMBER_SILENCE, SILENCE};

impl Lifecycle {
    pub(super) fn used(&mut self, now: Instant) {
        if self.is_running() {
            self.idle.used(now);
        }
    }

    pub(super) fn on_execs_idle(&mut self, now: Instant, todo: &mut Actions) {
        self.idle.set_execs(false);
        self.used(now);
        self.check_stop(now, todo);
    }

    /// While it is paused a sandbox isn't idle, and its init answers nothing.
    pub(super) fn on_snapshot_began(&mut self, now: Instant, time: Duration) {
        if self.is_running() && self.snapshot.is_none() {
            self.snapshot = now.checked_add(time.saturating_add(SNAPSHOT_GRACE));
            self.idle.file_began();
        }
    }

    pub(super) fn on_snapshot_ended(&mut self, now: Instant, lost: Option<Error>, todo: &mut Actions) {
        if self.snapshot.take().is_none() {
            return;
        }
        if self.is_saving() {
            return self.on_archive_free(now, lost.is_some(), todo);
        }
        self.idle.file_ended();
        self.unanswered.restart();
        match lost {
            Some(error) => self.end(now, Cause::Lost(error), todo),
            None => self.used(now),
        }
    }

    pub(super) fn check_snapshot(&mut self, now: Instant, todo: &mut Actions) {
        if self.is_running() && self.snapshot.is_some_and(|at| at <= now) {
            let text = "a snapshot did not end in time, and the sandbox may be paused";
            self.end(now, Cause::Lost(Error::new(Code::Engine, text)), todo);
        }
    }

    pub(super) fn want_probe(&mut self, now: Instant, todo: &mut Actions) {
        self.probe.want();
        self.probe_first(now, todo);
    }

    pub(super) fn probe_first(&mut self, now: Instant, todo: &mut Actions) {
        if self.is_running() && self.probe.is_due_first() {
            self.ask_probe(now, todo);
        }
    }

    pub(super) fn ask_probe(&mut self, now: Instant, todo: &mut Actions) {
        let ticket = self.tickets.next();
        let unanswered = self.probe.ask(now, ticket);
        todo.extend(unanswered.map(|ticket| Action::KillProbe { ticket }));
        todo.push(Action::AskProbe { ticket });
    }

    pub(super) fn on_probe_answer(&mut self, now: Instant, ticket: u32, ready: bool, todo: &mut Actions) {
        if self.is_running() && self.probe.answered(now, ticket, ready) {
            todo.push(Action::Publish(Notice::Ready));
        }
    }

    /// Init is lost if a request has been unanswered for too long. Of the other phases only a
    /// member that waits to be taken is checked: a sandbox that starts has a
    /// timeout of its own for that, of one that ends nothing is expected, and one that is paused can't answer.
    pub(super) fn check_silence(&mut self, now: Instant, watched: Duration, todo: &mut Actions) {
        // A spare has no init yet.
        let is_member = self.can_be_taken() && !self.is_held();
        if !(self.is_running() || is_member) || !self.init_is_open || self.snapshot.is_some() {
            return;
        }
        let limit = if is_member { MEMBER_SILENCE } else { SILENCE };
        let open = self.unanswered.check(watched);
        if open.is_some_and(|age| age >= limit) {
            let text = format!("the sandbox's init has not answered for {} s", limit.as_secs());
            return self.on_init_lost(now, Error::new(Code::Engine, text), todo);
        }
        if self.unanswered.should_ping(now) {
            let ticket = self.tickets.next();
            self.unanswered.asked(ticket);
            // Its time is counted from now on.
            self.unanswered.check(watched);
            todo.push(Action::Ping { ticket });
        }
        if open.is_some() {
            todo.push(Action::CheckSilenceSoon);
        }
    }

    pub(super) fn on_stop_request(&mut self, now: Instant, signal: i32, grace: Duration, todo: &mut Actions) {
        if !self.is_running() {
            // A sandbox that is being created has nothing that could end by itself.
            return self.end(now, Cause::Terminated, todo);
        }
        match &mut self.stop {
            Some(stop) => stop.shorten(now, grace),
            None => {
                self.stop = Some(Stop::new(now, grace, !self.engine_is_attached));
                if self.engine_is_attached {
                    todo.push(Action::Drain);
                }
            }
        }
        todo.push(Action::SignalPrograms(signal));
        self.check_stop(now, todo);
    }

    pub(super) fn on_drained(&mut self, now: Instant, todo: &mut Actions) {
        if let Some(stop) = &mut self.stop {
            stop.drained();
        }
        self.check_stop(now, todo);
    }

    pub(super) fn on_program_exit(&mut self, now: Instant, status: i32, todo: &mut Actions) {
        if !self.is_running() {
            return;
        }
        match &mut self.stop {
            None => self.end(now, Cause::Program(status), todo),
            Some(stop) => {
                stop.exited(status);
                self.check_stop(now, todo);
            }
        }
    }

    pub(super) fn check_stop(&mut self, now: Instant, todo: &mut Actions) {
        let idle = !self.settings.has_command && !self.idle.has_execs();
        if self.is_running() && self.stop.as_ref().is_some_and(|stop| stop.is_over(now, idle)) {
            self.end(now, Cause::Terminated, todo);
        }
    }
}
