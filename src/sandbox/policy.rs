//! What a sandbox may reach: changed while it runs, and read back.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::policy_update::{PolicyReply, PolicyTask};
use super::{Command, Sandbox, State};
use crate::error::Result;
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
        let (caller, outcome) = sync_channel(1);
        self.change_policy(policy, PolicyReply::caller(caller))?;
        self.shared().unless_ended(outcome.recv().unwrap_or_else(|_| Err(self.shared().ended())))
    }

    /// Begins to do that and returns at once. The end is an event (`PolicyApplied`) with this cookie.
    pub fn set_policy_begin(&self, policy: &Policy, cookie: u64) -> Result<()> {
        let sender = match self.shared().config.queue() {
            Some((queue, _)) => Some(queue.sender_of_one(cookie)?),
            None => None,
        };
        self.change_policy(policy, PolicyReply::event(sender))
    }

    fn change_policy(&self, policy: &Policy, reply: PolicyReply) -> Result<()> {
        policy.check()?;
        self.send_policy_task(PolicyTask::Update(Arc::new(policy.clone()), reply))
    }

    /// The policy in force, with its generation. The gateway's rules are read back from the kernel and compared with
    /// it.
    pub fn policy(&self) -> Result<(Policy, u64)> {
        let (caller, outcome) = sync_channel(1);
        self.send_policy_task(PolicyTask::Read(caller))?;
        self.shared().unless_ended(outcome.recv().unwrap_or_else(|_| Err(self.shared().ended())))
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
