//! A member of the warm pool: what it was made from, and how a creation takes it.

use std::sync::Arc;

use super::life_check::LifeCheck;
use super::{ControlCx, SandboxDriver, settings};
use crate::cgroup::Groups;
use crate::error::{Error, Result};
use crate::keeper::wire::init::Request as ToInit;
use crate::limits;
use crate::reactor::FdBudget;
use crate::sandbox::lifecycle::{Depth, Event, Phase};
use crate::sandbox::{Listeners, Plan, Shared, Stamp};

/// Where a sandbox is, for the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A member that is being made.
    Filling,
    /// A member that a creation can take.
    Ready,
    /// A member that ends.
    Ending,
    /// A sandbox of the host's that is being created.
    Starting,
    /// One that runs, or ends.
    Started,
}

impl SandboxDriver {
    /// Asks a member's init for a sign of life, for this creation, unless it was asked and hasn't answered yet, or just now.
    pub(crate) fn check_alive(&mut self, cx: &mut ControlCx<'_>, creation: u64) {
        if self.life_check.as_ref().is_some_and(|check| check.counts(cx.reactor.now(), creation)) {
            return;
        }
        let ticket = self.lifecycle.tickets().next();
        self.life_check = Some(LifeCheck::new(creation, ticket));
        self.init.ask(cx.reactor, &ToInit::Ping { ticket });
    }

    /// Whether it has answered that.
    pub(crate) fn is_alive(&self, creation: u64) -> bool {
        self.life_check.as_ref().is_some_and(|check| check.is_alive(creation))
    }

    /// Whether it is a spare, whose init doesn't run yet.
    pub(crate) fn is_held(&self) -> bool {
        self.lifecycle.is_held()
    }

    pub(crate) fn stage(&self) -> Stage {
        match (self.lifecycle.is_member(), self.lifecycle.phase()) {
            // No spare is ready whose runsc could still fail to start.
            (true, _) if self.lifecycle.can_be_taken() && self.runsc_has_started => Stage::Ready,
            (true, phase) if phase >= Phase::Ending => Stage::Ending,
            (true, _) => Stage::Filling,
            (false, phase) if phase < Phase::Running => Stage::Starting,
            (false, _) => Stage::Started,
        }
    }

    /// What a member was made from. `None` of one that can't be compared, which fits nothing.
    pub(crate) fn stamp(&self) -> Option<&Stamp> {
        self.plan.as_ref().and_then(|plan| plan.stamp.as_deref())
    }

    /// Has its place in the budget be that of a sandbox which takes it. Without room for that one's listeners it has no
    /// place any more, and is of no use.
    pub(crate) fn readmit(&mut self, budget: &FdBudget, shared: &Shared) -> Result<()> {
        self.admission = None;
        self.admission = Some(admit(budget, shared)?);
        Ok(())
    }

    /// Makes a member the sandbox that takes it. The plan and the listeners are that one's.
    pub(crate) fn take(
        &mut self,
        cx: &mut ControlCx<'_>,
        shared: Arc<Shared>,
        mut plan: Plan,
        listeners: Listeners,
    ) {
        // The member has its own, which are the same.
        plan.images.clear();
        plan.groups = Groups::default();
        debug_assert!(self.lifecycle.can_be_taken(), "the control thread has looked");
        log::debug!("sandbox {}: takes {} from the pool", shared.id, self.shared.id);
        let settings = settings(&shared.config, &plan, &self.groups, Depth::Program);
        shared.update(|facts| facts.tunnels = Some(listeners.tunnels().clone()));
        self.life_check = None;
        self.shared = shared;
        self.plan = Some(Box::new(plan));
        self.listeners = Some(listeners);
        self.handle(cx, Event::Taken(Box::new(settings)));
    }
}

/// A sandbox's place in the budget of descriptors.
pub(crate) fn admit(budget: &FdBudget, shared: &Shared) -> Result<crate::reactor::Admission> {
    let count = limits::SANDBOX + limits::LISTENER * shared.config.ports().len();
    budget.admit(shared.number, count).ok_or_else(|| Error::no_descriptors("another sandbox", "end others"))
}
