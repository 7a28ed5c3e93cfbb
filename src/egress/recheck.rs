//! Which flows are still to be checked after a change of policy or of the host's routing.
//!
//! A sandbox may have thousands of flows, and each check costs a look at the host's routing: they are checked in slices,
//! with the others' data in between. A flow that wakes before its turn is checked first of all, so nothing moves by the
//! old policy any more. Pure.

use std::collections::VecDeque;

use crate::reactor::Key;

/// How many flows are checked before others get a turn.
const SLICE: usize = 64;

/// Called with the policy's generation when no flow is left that it denies, and dropped uncalled if the sandbox is
/// removed before. Called on the engine's thread: it must not block.
pub(crate) type Applied = Box<dyn FnOnce(u64) + Send>;

/// A change of policy whose flows are still to be checked.
pub(super) struct PolicyUpdate {
    sandbox: u64,
    generation: u64,
    flows: Vec<Key>,
    reply: Applied,
}

/// The flows that are still to be checked.
#[derive(Default)]
pub(super) struct Recheck {
    updates: VecDeque<PolicyUpdate>,
    /// Connections under way, after a change of the host's routing.
    connecting: Vec<Key>,
}

impl Recheck {
    /// Checks a sandbox's flows by its new policy.
    pub(super) fn begin(&mut self, sandbox: u64, generation: u64, flows: Vec<Key>, reply: Applied) {
        self.updates.push_back(PolicyUpdate { sandbox, generation, flows, reply });
    }

    /// Checks connections under way by the host's new routing.
    pub(super) fn set_connecting(&mut self, flows: Vec<Key>) {
        self.connecting = flows;
    }

    /// Whether connections under way are still being checked.
    pub(super) fn has_connecting(&self) -> bool {
        !self.connecting.is_empty()
    }

    /// The flows that are to be checked next, and the update that they belong to: hand it back to [`Recheck::done`] once
    /// they were checked. Dropped instead, it replies nothing.
    pub(super) fn next(&mut self) -> (Vec<Key>, Option<PolicyUpdate>) {
        match self.updates.pop_front() {
            Some(mut update) => (split(&mut update.flows), Some(update)),
            None => (split(&mut self.connecting), None),
        }
    }

    /// Replies if all flows of an update were checked; else the rest waits behind the other updates.
    pub(super) fn done(&mut self, update: Option<PolicyUpdate>) {
        match update {
            Some(update) if update.flows.is_empty() => (update.reply)(update.generation),
            Some(update) => self.updates.push_back(update),
            None => {}
        }
    }

    /// Drops the updates of a sandbox.
    pub(super) fn forget(&mut self, sandbox: u64) {
        self.updates.retain(|update| update.sandbox != sandbox);
    }

    /// Drops the connections under way: no sandbox is left.
    pub(super) fn forget_connecting(&mut self) {
        self.connecting.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.connecting.is_empty()
    }
}

fn split(keys: &mut Vec<Key>) -> Vec<Key> {
    keys.split_off(keys.len().saturating_sub(SLICE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::kinds::TCP_FLOW;
    use crate::reactor::Slab;
    use std::sync::mpsc::channel;

    #[test]
    fn updates_take_turns_and_reply_when_their_flows_were_checked() {
        let mut slab = Slab::new(TCP_FLOW);
        let mut keys = |count| (0..count).map(|_| slab.insert(())).collect::<Vec<Key>>();
        let (replies, replied) = channel();
        let begin = |recheck: &mut Recheck, sandbox, flows| {
            let replies = replies.clone();
            let reply = Box::new(move |generation| replies.send((sandbox, generation)).unwrap());
            recheck.begin(sandbox, 10 + sandbox, flows, reply);
        };
        let mut recheck = Recheck::default();
        begin(&mut recheck, 1, keys(2 * SLICE));
        begin(&mut recheck, 2, keys(1));
        begin(&mut recheck, 3, keys(SLICE + 1));
        begin(&mut recheck, 4, Vec::new());
        recheck.set_connecting(keys(SLICE + 2));
        let mut checked = Vec::new();
        while !recheck.is_empty() {
            let (flows, update) = recheck.next();
            checked.push(flows.len());
            recheck.done(update);
            recheck.forget(3);
        }
        assert_eq!(checked, [SLICE, 1, 0, SLICE, SLICE, 2], "the third was forgotten");
        assert_eq!(replied.try_iter().collect::<Vec<_>>(), [(2, 12), (4, 14), (1, 11)]);
    }
}
