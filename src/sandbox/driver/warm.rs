//! A member of the warm pool: what it was made from, and how a creation takes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ControlCx, SandboxDriver, settings};
use crate::cgroup::Groups;
use crate::error::{Error, Result};
use crate::keeper::wire::init::Request as ToInit;
use crate::limits;
use crate::reactor::FdBudget;
use crate::sandbox::lifecycle::{Event, Phase};
use crate::sandbox::{Listeners, Plan, Shared, Stamp};

/// How long an answer shows that a member is alive. What it was asked for may take much longer to be planned.
const ANSWER_COUNTS: Duration = Duration::from_millis(10);

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

/// A question that a member's init answers if it is alive, asked for a creation that is to take the member. What was killed
/// just now looks alive for as long as the kernel takes to end it, so there has to be an answer.
#[derive(Debug)]
pub(super) struct LifeCheck {
    creation: u64,
    ticket: u32,
    answered: Option<Instant>,
}

impl LifeCheck {
    /// Whether it was asked for this creation, and is still to be answered or was just now.
    fn counts(&self, now: Instant, creation: u64) -> bool {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) <= ANSWER_COUNTS;
        self.creation == creation && self.answered.is_none_or(is_fresh)
    }

    fn on_pong(&mut self, now: Instant, ticket: u32) {
        if self.ticket == ticket {
            self.answered = Some(now);
        }
    }
}

impl SandboxDriver {
    /// Asks a member's init for a sign of life, for this creation, unless it was asked and hasn't answered yet, or just now.
    pub(crate) fn check_alive(&mut self, cx: &mut ControlCx<'_>, creation: u64) {
        let now = cx.reactor.now();
        if self.life_check.as_ref().is_some_and(|check| check.counts(now, creation)) {
            return;
        }
        let ticket = self.lifecycle.tickets().next();
        self.life_check = Some(LifeCheck { creation, ticket, answered: None });
        self.init.ask(cx.reactor, &ToInit::Ping { ticket });
    }

    /// Whether it has answered that.
    pub(crate) fn is_alive(&self, creation: u64) -> bool {
        self.life_check.as_ref().is_some_and(|check| check.creation == creation && check.answered.is_some())
    }

    pub(super) fn on_pong(&mut self, now: Instant, ticket: u32) {
        self.life_check.iter_mut().for_each(|check| check.on_pong(now, ticket));
    }

    pub(crate) fn stage(&self) -> Stage {
        match (self.lifecycle.is_member(), self.lifecycle.phase()) {
            (true, _) if self.lifecycle.can_be_taken() => Stage::Ready,
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
        log::debug!("sandbox {}: takes {} from the warm pool", shared.id, self.shared.id);
        let settings = settings(&shared.config, &plan, &self.groups, false);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_creation_and_not_for_long() {
        let now = Instant::now();
        let mut check = LifeCheck { creation: 7, ticket: 2, answered: None };
        check.on_pong(now, 1);
        assert_eq!(check.answered, None);
        let late = now + Duration::from_secs(5);
        assert!(check.counts(late, 7) && !check.counts(now, 8), "it is still to be answered");
        check.on_pong(late, 2);
        assert!(check.counts(late + ANSWER_COUNTS, 7));
        assert!(!check.counts(late + ANSWER_COUNTS + Duration::from_millis(1), 7), "it has to be asked anew");
    }
}
