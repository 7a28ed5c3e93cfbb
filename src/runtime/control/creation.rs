//! How a sandbox begins once it is planned: as a member of the warm pool that is taken, or by itself.

use std::sync::Arc;

use super::{Loop, asks_host_servers};
use crate::error::{Code, Error, Result};
use crate::reactor::Key;
use crate::runtime::planning::{Returned, Turn};
use crate::sandbox::{Depth, Listeners, Plan, SandboxDriver, Shared, admit};

impl Loop {
    /// A sandbox has been planned: its listeners are opened and it begins, unless it has lost the member that was to be its
    /// own and others are before it.
    pub(super) fn planned(&mut self, number: u64, plan: Result<Plan>) {
        // It may have been ended while it was planned.
        let Some(mut returned) = self.planners.returned(&mut self.reactor, number) else { return };
        let Some(shared) = returned.creation.shared().map(Arc::clone) else {
            debug_assert!(false, "a creation that was planned is neither begun nor given up");
            return;
        };
        let opened = |plan: Plan| Ok((Listeners::open(&shared.config)?, plan));
        let is_member = self.pool().is_filling(number);
        let is_planned = plan.is_ok();
        let (listeners, plan) = match plan.and_then(opened) {
            Ok(opened) => opened,
            Err(error) => return self.could_not_begin(returned, error, is_member, is_planned),
        };
        if !is_member {
            let member = self.member_for(&shared, &plan, &mut returned.missed);
            if let Some(key) = member
                && !self.sandboxes.get_mut(key).is_some_and(|driver| driver.is_held())
            {
                return self.claim(key, returned, plan, listeners);
            }
            if returned.turn == Turn::AtOnce && self.planners.is_full(self.reactor.now()) {
                return self.planners.wait(&mut self.reactor, returned);
            }
            if plan.stamp.is_some() {
                self.pool().missed(&shared.config, returned.missed);
            }
            // There is no init in a spare that could give a sign of life.
            if let Some(key) = member {
                return match self.take_member(key, &shared, plan, listeners) {
                    Ok(()) => {
                        self.pool().created(self.reactor.now(), &shared.config);
                        self.begun(key, returned, &shared, false);
                    }
                    Err(error) => self.could_not_begin(returned, of(&shared, error), false, true),
                };
            }
        }
        match self.begin(&shared, plan, listeners, is_member) {
            Ok(key) => {
                if !is_member {
                    self.pool().created(self.reactor.now(), &shared.config);
                }
                self.begun(key, returned, &shared, is_member);
            }
            Err(error) => self.could_not_begin(returned, of(&shared, error), is_member, is_planned),
        }
    }

    pub(super) fn could_not_begin(
        &mut self,
        returned: Returned,
        error: Error,
        is_member: bool,
        is_planned: bool,
    ) {
        if is_member && let Some(shared) = returned.creation.shared() {
            self.pool().lost(self.reactor.now(), shared.number, error.message());
        }
        // What members hold may be what it lacks.
        match !is_member && is_lack(&error, is_planned) && self.evict_member() {
            true => self.planners.postpone(&mut self.reactor, returned),
            false => returned.creation.fail(error),
        }
    }

    pub(super) fn begun(&mut self, key: Key, returned: Returned, shared: &Shared, is_member: bool) {
        let Returned { creation, meanwhile, .. } = returned;
        creation.begin(|_| Ok(()));
        if asks_host_servers(shared) && !is_member {
            self.nameservers.start(&mut self.reactor, &self.engine);
        }
        // It may have failed already.
        if !is_member && self.numbers.contains_key(&shared.number) {
            self.warm.creation_begins(shared.number);
        }
        self.pulse.start(&mut self.reactor);
        // By now a member that was taken may have a program that runs.
        self.with(key, |_, _| ());
        meanwhile.into_iter().for_each(|command| self.obey(command));
    }

    /// Begins a sandbox of the host's, or a member of the pool.
    fn begin(
        &mut self,
        shared: &Arc<Shared>,
        plan: Plan,
        listeners: Listeners,
        is_member: bool,
    ) -> Result<Key> {
        let (admission, now) = (admit(&self.budget, shared)?, self.reactor.now());
        let depth = match is_member {
            true if self.pool().is_filling_spare(shared.number) => Depth::Runsc,
            true => Depth::Init,
            false => Depth::Program,
        };
        let driver = SandboxDriver::begin(now, Arc::clone(shared), plan, listeners, admission, depth)?;
        let key = self.sandboxes.insert(driver);
        self.adopt(key, shared);
        self.with(key, |driver, cx| driver.watch(cx, key));
        Ok(key)
    }

    /// The sandbox of that key is this one from now on.
    pub(super) fn adopt(&mut self, key: Key, shared: &Shared) {
        self.reactor.meter(shared.number, &shared.time);
        self.reactor.join(key, shared.number);
        self.numbers.insert(shared.number, key);
    }
}

pub(super) fn of(shared: &Shared, error: Error) -> Error {
    error.context(format!("sandbox {}", shared.id))
}

/// Whether an error is a lack of what members of the pool hold: descriptors, memory, processes. The limits that planning
/// meets are of other things, such as the space of a volume or the entries of a root file system.
pub(super) fn is_lack(error: &Error, is_planned: bool) -> bool {
    let lacks = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE];
    (is_planned && error.code() == Code::Limit) || error.os_error().is_some_and(|os| lacks.contains(&os))
}
