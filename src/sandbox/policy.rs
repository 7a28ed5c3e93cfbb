//! What a sandbox may reach: changed while it runs, and read back.

use std::sync::Arc;

use super::policy_update::PolicyTask;
use super::{Command, Sandbox, State};
use crate::error::{Error, Result};
use crate::event::operation::{Notice, Operation};
use crate::event::{EventKind, Queue};
use crate::policy::Policy;

impl Sandbox {
    /// Replaces the policy, and returns the new one's generation: the first is 0, each
    /// change has the next number.
    ///
    /// When it returns, flows that the new policy denies have been reset on both sides; those that both allow were
    /// never disturbed, and at no moment was anything let through that neither allows. On an error the old policy
    /// stays in force. A blocked policy closes the way out and leaves the tunnels. Changes that are asked for at the
    /// same time are made one after the other.
    pub fn set_policy(&self, policy: &Policy) -> Result<u64> {
        let changed = self.set_policy_begin(policy, None)?.wait(None);
        self.shared().unless_ended(changed.map(|generation| *generation))
    }

    /// Begins to do that and returns at once. With a queue its end is an event (`PolicyApplied`) there, with that cookie.
    /// A change that was begun can't be cancelled: it is in force on both sides or on none.
    pub fn set_policy_begin(&self, policy: &Policy, events: Option<(&Queue, u64)>) -> Result<Operation<u64>> {
        policy.check()?;
        let notice = Notice::new(events, EventKind::PolicyApplied, |generation| [*generation, 0])?;
        let lost = Error::sandbox_ended("the sandbox", None).append("; its policy was not changed");
        let (operation, completion) = Operation::uncancellable(self.title("changing the policy of"), lost);
        self.send_policy_task(PolicyTask::Update(Arc::new(policy.clone()), completion))?;
        operation.notify(notice);
        Ok(operation)
    }

    /// The policy in force, with its generation. The gateway's rules are read back from the kernel and compared with
    /// it. A sandbox that was created with a blocked policy has no rules: it is that policy, of generation 0.
    pub fn policy(&self) -> Result<(Policy, u64)> {
        let read = self.policy_begin(None)?.wait(None);
        self.shared().unless_ended(read.map(|found| (*found).clone()))
    }

    /// Begins to read it and returns at once. With a queue its end is an event (`OperationDone`) there, with that cookie.
    pub fn policy_begin(&self, events: Option<(&Queue, u64)>) -> Result<Operation<(Policy, u64)>> {
        let notice = Notice::new(events, EventKind::OperationDone, |_| [0; 2])?;
        let lost = Error::sandbox_ended("the sandbox", None);
        let (operation, completion) = Operation::new(self.title("reading the policy of"), lost);
        self.send_policy_task(PolicyTask::Read(completion))?;
        operation.notify(notice);
        Ok(operation)
    }

    fn title(&self, doing: &str) -> String {
        format!("{doing} sandbox {}", self.id())
    }

    fn send_policy_task(&self, task: PolicyTask) -> Result<()> {
        match self.state() {
            State::Starting | State::Running => {
                self.control().send(Command::Policy(self.shared().number, Box::new(task)))
            }
            // Dropping the task answers its callers, too; this error is more specific.
            _ => Err(self.shared().ended()),
        }
    }
}
