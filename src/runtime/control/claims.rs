//! How a creation takes a member of the warm pool: when that has given a sign of life.
//!
//! What was killed just now looks alive for as long as the kernel takes to end it, and a program that is asked for then may
//! have been started or not. So the member's init is asked first, while the creation is planned, and once more where that has
//! taken long: a creation fails with a member only if that dies in the milliseconds before it is taken, and no program is
//! started twice.

use std::sync::Arc;
use std::time::Instant;

use super::Loop;
use super::creation::of;
use crate::reactor::Key;
use crate::runtime::claim::Claim;
use crate::runtime::planning::{Returned, Turn};
use crate::runtime::warm_stats::Miss;
use crate::sandbox::{Creation, Listeners, Plan};

impl Loop {
    /// A creation that a member of the pool is likely to be ready for doesn't wait. The member is asked for a sign of life
    /// while the creation is planned.
    pub(super) fn turn_of(&mut self, creation: &Creation) -> Turn {
        let (planners, warm) = (&mut self.planners, &self.warm);
        let likely = creation.shared().and_then(|shared| {
            let is_planned = |other: &u64| planners.hurries(*other);
            let member = warm.pool().expect(shared.number, &shared.config, is_planned)?;
            Some((member, shared.number))
        });
        let Some((member, creation)) = likely else { return Turn::Waits };
        self.by_number(member, |driver, cx| driver.check_alive(cx, creation));
        Turn::AtOnce
    }

    /// This creation takes the member of that key, if it is alive. As a rule it has just given a sign of life.
    pub(super) fn claim(&mut self, key: Key, returned: Returned, plan: Plan, listeners: Listeners) {
        let creation = returned.creation.shared().map(|shared| shared.number);
        let member = self.sandboxes.get_mut(key).map(|driver| driver.shared().number);
        let Some((creation, member)) = creation.zip(member) else {
            debug_assert!(false, "the member and the creation were there just now");
            return;
        };
        self.pool().claim(member, creation);
        self.planners.park(&mut self.reactor, returned);
        self.claims.insert(self.reactor.now(), member, Claim { creation, plan, listeners });
        self.with(key, |driver, cx| driver.check_alive(cx, creation));
    }

    /// The member has given a sign of life.
    pub(super) fn take_claimed(&mut self, member: u64, key: Key) {
        let Some(Claim { creation, plan, listeners }) = self.claims.remove(member) else {
            debug_assert!(false, "it was claimed just now");
            return;
        };
        // It may have been ended meanwhile. Nothing of it was in the member.
        let Some(returned) = self.planners.unpark(&mut self.reactor, creation) else {
            return self.pool().unclaim(member);
        };
        let Some(shared) = returned.creation.shared().map(Arc::clone) else {
            debug_assert!(false, "a creation that is parked is neither begun nor given up");
            return;
        };
        match self.take_member(key, &shared, plan, listeners) {
            Ok(()) => self.begun(key, returned, &shared, false),
            Err(error) => self.could_not_begin(returned, of(&shared, error), false, true),
        }
    }

    /// The member is not alive: the creation that was to take it goes the ordinary way, or takes another one.
    pub(super) fn give_up_claim(&mut self, member: u64) {
        if let Some(claim) = self.claims.remove(member)
            && let Some(returned) = self.planners.unpark(&mut self.reactor, claim.creation)
        {
            self.planners.wait(&mut self.reactor, Returned { missed: Miss::Died, ..returned });
        }
    }

    /// Ends the members that have given no sign of life. Until when the next one may.
    pub(super) fn check_claims(&mut self, now: Instant) -> Option<Instant> {
        for member in self.claims.late(now) {
            self.pool().lost(now, member, "its init does not answer");
            self.end_member(member);
            self.give_up_claim(member);
        }
        self.claims.next()
    }
}
