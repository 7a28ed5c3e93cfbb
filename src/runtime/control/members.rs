//! How members of the warm pool are made, taken and ended. What the pool decides is in [`crate::runtime::warm`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Loop;
use crate::error::{Code, Error, Result};
use crate::reactor::Key;
use crate::runsc::command::SandboxId;
use crate::runtime::NUMBERS;
use crate::runtime::planning::Turn;
use crate::runtime::warm::{Found, Next};
use crate::runtime::warm_stats::Miss;
use crate::sandbox::{Creation, Listeners, Plan, SandboxDriver, Shared, Stage};

impl Loop {
    /// A member of the pool that is what this plan would start. Those that are not any more are ended, and `missed` is why.
    pub(super) fn member_for(&mut self, shared: &Shared, plan: &Plan, missed: &mut Miss) -> Option<Key> {
        let stamp = plan.stamp.as_ref()?;
        if stamp.memory_is_low {
            self.evict_all();
        }
        let Found::Members(members) = self.pool().find(self.reactor.now(), &shared.config) else {
            return None;
        };
        for number in members {
            // Its end may have come in this turn.
            self.by_number(number, SandboxDriver::again);
            let Some(key) = self.numbers.get(&number).copied() else { continue };
            let Some(driver) = self.sandboxes.get_mut(key).filter(|driver| driver.stage() == Stage::Ready)
            else {
                continue;
            };
            let difference =
                driver.stamp().map_or(Some("the pool itself"), |of_member| of_member.difference(stamp));
            let Some(difference) = difference else { return Some(key) };
            *missed = Miss::Changed(difference);
            self.discard_member(number);
        }
        None
    }

    /// Makes the member of that key this sandbox.
    pub(super) fn take_member(
        &mut self,
        key: Key,
        shared: &Arc<Shared>,
        plan: Plan,
        listeners: Listeners,
    ) -> Result<()> {
        let Some(driver) = self.sandboxes.get_mut(key) else {
            return Err(Error::new(Code::Internal, "a member of the pool was lost"));
        };
        let number = driver.shared().number;
        if let Err(error) = driver.readmit(&self.budget, shared) {
            self.discard_member(number);
            return Err(error);
        }
        self.pool().take(number);
        self.numbers.remove(&number);
        self.adopt(key, shared);
        self.with(key, |driver, cx| driver.take(cx, Arc::clone(shared), plan, listeners));
        Ok(())
    }

    /// Ends a member that no creation has taken.
    fn discard_member(&mut self, number: u64) {
        self.pool().discard(number);
        self.end_member(number);
    }

    pub(super) fn end_member(&mut self, number: u64) {
        if !self.planners.end(&mut self.reactor, number) {
            self.by_number(number, SandboxDriver::terminate);
        }
    }

    /// Ends a member for what it holds. Whether one is ending, so that it is worth waiting for.
    pub(super) fn evict_member(&mut self) -> bool {
        if self.pool().is_ending_some() {
            return true;
        }
        let evicted = self.pool().evict(self.reactor.now());
        if let Some(number) = evicted {
            log::info!("a member of the pool is ended for what it holds");
            self.end_member(number);
        }
        evicted.is_some()
    }

    /// Ends all members while the host has little memory left. None is made for a while then.
    pub(super) fn spare_memory(&mut self) -> bool {
        let is_low = self.warm.is_short_of_memory();
        if is_low {
            log::info!("the host's memory is low: none is kept warm");
            self.evict_all();
        }
        is_low
    }

    fn evict_all(&mut self) {
        while let Some(number) = { self.pool().evict(self.reactor.now()) } {
            self.end_member(number);
        }
    }

    /// Ends members that are too many or too old, and begins to make one that is lacking.
    pub(super) fn tend_pool(&mut self) {
        if self.ending || (self.pool().is_idle() && self.claims.is_empty()) {
            return;
        }
        let now = self.reactor.now();
        let claim = self.check_claims(now);
        // When a member's planning is given up, no message says so.
        let filling = self
            .pool()
            .filling()
            .filter(|number| !self.planners.has(*number) && !self.numbers.contains_key(number));
        if let Some(number) = filling {
            self.pool().lost(now, number, "it could not be planned");
        }
        let (planners, numbers) = (&self.planners, &self.numbers);
        if self.warm.pool().forget_ended(|number| planners.has(number) || numbers.contains_key(&number)) {
            self.planners.resume_postponed(&mut self.reactor);
        }
        while let Some(number) = { self.pool().surplus(now) } {
            self.end_member(number);
        }
        let members = usize::from(self.pool().filling().is_some_and(|number| self.planners.has(number)));
        let next = self.warm.next(now, self.planners.count() > members);
        if let Some(next) = next
            && !self.spare_memory()
            && let Err(error) = self.fill(next)
        {
            log::warn!("a member of the pool: {error}");
        }
        self.warm.schedule(&mut self.reactor, now, claim);
    }

    /// Begins to make a member.
    fn fill(&mut self, next: Next) -> Result<()> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        self.pool().began(number, &next);
        let shared = SandboxId::random().and_then(|id| Shared::new(number, id, next.config));
        match shared {
            Ok(shared) => {
                let creation = Creation::new(Arc::new(shared));
                self.planners.begin(&mut self.reactor, creation, Turn::AtOnce);
            }
            Err(error) => {
                self.pool().lost(self.reactor.now(), number, error.message());
                return Err(error);
            }
        }
        Ok(())
    }
}
