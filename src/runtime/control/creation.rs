//! How a sandbox begins once it is planned: as a member of the warm pool that is taken, or by itself.

use std::sync::Arc;

use super::{Loop, asks_host_servers};
use crate::error::{Code, Error, Result};
use crate::reactor::Key;
use crate::sandbox::{Listeners, Plan, SandboxDriver, Shared, admit};

impl Loop {
    /// A sandbox has been planned: its listeners are opened and it begins.
    pub(super) fn planned(&mut self, number: u64, plan: Result<Plan>) {
        // It may have been ended while it was planned.
        let Some((creation, meanwhile)) = self.planners.returned(&mut self.reactor, number) else { return };
        let Some(shared) = creation.shared().map(Arc::clone) else {
            debug_assert!(false, "a creation that was planned is neither begun nor given up");
            return;
        };
        let opened = |plan: Plan| Ok((Listeners::open(&shared.config)?, plan));
        let is_member = self.pool().is_filling(number);
        let is_planned = plan.is_ok();
        let begun = match plan.and_then(opened) {
            Ok((listeners, plan)) => match (!is_member).then(|| self.member_for(&shared, &plan)).flatten() {
                Some(key) => self.take_member(key, &shared, plan, listeners).map(|()| key),
                None => self.begin(&shared, plan, listeners, is_member),
            }
            .map_err(|error| error.context(format!("sandbox {}", shared.id))),
            Err(error) => Err(error),
        };
        let key = match begun {
            Ok(key) => key,
            Err(error) => {
                // What members hold may be what it lacks.
                if is_member {
                    self.pool().lost(self.reactor.now(), number, error.message());
                }
                return match !is_member && is_lack(&error, is_planned) && self.evict_member() {
                    true => self.planners.postpone(&mut self.reactor, creation, meanwhile),
                    false => creation.fail(error),
                };
            }
        };
        creation.begin(|_| Ok(()));
        if asks_host_servers(&shared) && !is_member {
            self.nameservers.start(&mut self.reactor, &self.engine);
        }
        // It may have failed already.
        if !is_member && self.numbers.contains_key(&number) {
            self.warm.creation_begins(number);
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
        let driver = SandboxDriver::begin(now, Arc::clone(shared), plan, listeners, admission, is_member)?;
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

/// Whether an error is a lack of what members of the pool hold: descriptors, memory, processes. The limits that planning
/// meets are of other things, such as the space of a volume or the entries of a root file system.
pub(super) fn is_lack(error: &Error, is_planned: bool) -> bool {
    let lacks = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE];
    (is_planned && error.code() == Code::Limit) || error.os_error().is_some_and(|os| lacks.contains(&os))
}
