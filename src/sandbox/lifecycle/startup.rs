//! The way up: namespaces, links, runsc, init, the program.

use std::time::{Duration, Instant};

use super::idle::Idle;
use super::probe::Probe;
use super::{
    Action, Actions, Cause, Depth, KILL_GRACE, Lifecycle, Notice, Part, Phase, START_TIMEOUT, Settings,
};
use crate::error::{Code, Error};

impl Lifecycle {
    pub(super) fn on_prepared(&mut self, part: Part, todo: &mut Actions) {
        match part {
            Part::Links => self.links = true,
            Part::Files => self.files = true,
            Part::Relays => self.relays = true,
        }
        if self.phase == Phase::Preparing && self.links && self.files && self.relays {
            self.phase = if self.is_member() { Phase::Warm } else { Phase::Booting };
            todo.push(if self.is_held() { Action::HoldRunsc } else { Action::StartRunsc });
            todo.push(self.lifetime_limit(START_TIMEOUT));
        }
    }

    pub(super) fn on_runsc_asked(&mut self, now: Instant, todo: &mut Actions) {
        self.init_is_open = true;
        self.wait_to_be_taken(now);
        if self.phase == Phase::Warm && self.settings.network {
            todo.push(Action::LoadRules);
        }
        if self.phase != Phase::Booting {
            return;
        }
        if self.settings.network {
            todo.push(Action::OpenGateway);
        }
        self.start_program(todo);
    }

    pub(super) fn on_init_ready(&mut self, now: Instant, todo: &mut Actions) {
        if !matches!(self.phase, Phase::Warm | Phase::Booting | Phase::Starting) {
            return;
        }
        self.init_is_ready = true;
        if self.memory_is_unseen {
            todo.push(Action::AskUsage);
        }
        self.wait_to_be_taken(now);
        self.start_program(todo);
    }

    /// The keeper has looked for the memory that it is to watch: a limit that can't be held is an error.
    pub(super) fn on_memory_looked_for(&mut self, now: Instant, found: bool, todo: &mut Actions) {
        let is_awaited = matches!(self.phase, Phase::Warm | Phase::Booting) && self.init_is_ready;
        if !self.memory_is_unseen || !is_awaited {
            return;
        }
        if !found {
            let text = "the limit of memory can't be held by watching: this runsc's memory isn't found. Use a control \
                        group (SBX_LIMITS_STRICT), another release of runsc, or no limit";
            return self.end(now, Cause::Failed(Error::new(Code::Host, text)), todo);
        }
        self.memory_is_unseen = false;
        self.wait_to_be_taken(now);
        self.start_program(todo);
    }

    /// A member that is complete ends when it has waited for its lifetime.
    fn wait_to_be_taken(&mut self, now: Instant) {
        if self.can_be_taken() {
            self.deadline = now.checked_add(self.settings.timeout);
        }
    }

    /// A creation takes this member: from here on it is that sandbox. What is left of its start is what every start has, in
    /// the same order: the first policy is in force before the program is asked for.
    pub(super) fn on_taken(&mut self, now: Instant, settings: Settings, todo: &mut Actions) {
        if self.phase != Phase::Warm {
            return;
        }
        if !self.can_be_taken() {
            let text = "a member of the pool that is not complete was taken";
            return self.end(now, Cause::Failed(Error::new(Code::Internal, text)), todo);
        }
        self.idle = Idle::new(settings.idle_timeout);
        self.probe = Probe::new(settings.probe);
        if self.is_held() {
            todo.push(Action::LetGoOfRunsc);
        }
        self.settings = Settings { depth: Depth::Program, ..settings };
        self.phase = Phase::Booting;
        self.deadline = now.checked_add(START_TIMEOUT);
        todo.push(self.lifetime_limit(START_TIMEOUT));
        if self.settings.network {
            todo.push(Action::OpenGateway);
        }
        self.start_program(todo);
    }

    pub(super) fn on_gateway_open(&mut self, todo: &mut Actions) {
        self.engine_is_attached = true;
        if self.is_ending() {
            return todo.push(Action::DetachEngine);
        }
        self.gateway_is_open = true;
        self.start_program(todo);
    }

    /// Has the program started, once everything is there: nothing runs before the first policy is in force.
    pub(super) fn start_program(&mut self, todo: &mut Actions) {
        let is_early = !self.init_is_open || !self.gateway_is_open || self.memory_is_unseen;
        if self.phase != Phase::Booting || is_early {
            return;
        }
        if self.settings.has_start {
            self.phase = Phase::Starting;
            todo.push(Action::StartProgram);
        } else if self.init_is_ready {
            self.open_tunnels(todo);
        }
    }

    /// The program runs, or init alone if there is none.
    pub(super) fn open_tunnels(&mut self, todo: &mut Actions) {
        if !self.tunnels_are_asked {
            self.tunnels_are_asked = true;
            todo.push(Action::OpenTunnels);
        }
    }

    pub(super) fn on_tunnels_open(&mut self, now: Instant, todo: &mut Actions) {
        if !matches!(self.phase, Phase::Booting | Phase::Starting) || !self.tunnels_are_asked {
            return;
        }
        self.phase = Phase::Running;
        self.started = true;
        if self.pending_loss.is_none() {
            self.deadline = now.checked_add(self.settings.timeout);
        }
        todo.push(self.lifetime_limit(Duration::ZERO));
        todo.push(Action::Publish(Notice::Started));
        self.probe_first(now, todo);
        self.used(now);
    }

    /// The keeper ends the sandbox itself when its time has been over for a while. What it takes to start may come on
    /// top.
    pub(super) fn lifetime_limit(&self, start: Duration) -> Action {
        Action::LimitLifetime(self.settings.timeout.saturating_add(start).saturating_add(KILL_GRACE))
    }
}
