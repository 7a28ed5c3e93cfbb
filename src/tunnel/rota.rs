//! Whose turn it is where sandboxes queue. Pure.

use std::collections::{HashMap, VecDeque};

use crate::reactor::Key;

/// A queue of each sandbox's own; the sandboxes take turns, so that a long queue holds up its own sandbox alone.
#[derive(Debug, Default)]
pub(super) struct Rota {
    queues: HashMap<u64, VecDeque<Key>>,
    /// The sandboxes that have a queue, the next one first.
    order: VecDeque<u64>,
}

impl Rota {
    /// Queues a key of that sandbox.
    pub(super) fn push(&mut self, sandbox: u64, key: Key) {
        let queue = self.queues.entry(sandbox).or_default();
        if queue.is_empty() {
            self.order.push_back(sandbox);
        }
        queue.push_back(key);
    }

    /// The first of the next sandbox's queue.
    pub(super) fn pop(&mut self) -> Option<Key> {
        let sandbox = self.order.pop_front()?;
        let queue = self.queues.get_mut(&sandbox)?;
        let key = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&sandbox);
        } else {
            self.order.push_back(sandbox);
        }
        key
    }

    /// Forgets a sandbox's queue.
    pub(super) fn remove(&mut self, sandbox: u64) {
        if self.queues.remove(&sandbox).is_some() {
            self.order.retain(|other| *other != sandbox);
        }
    }

    /// Whether nothing is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Kind, Slab};

    fn keys(count: usize) -> Vec<Key> {
        let mut slab = Slab::new(Kind(1));
        (0..count).map(|_| slab.insert(())).collect()
    }

    #[test]
    fn five_thousand_of_one_sandbox_delay_the_next_by_one() {
        let (mut rota, keys) = (Rota::default(), keys(5_003));
        keys[..5_000].iter().for_each(|key| rota.push(1, *key));
        keys[5_000..5_002].iter().for_each(|key| rota.push(2, *key));
        rota.push(3, keys[5_002]);
        let first: Vec<Key> = (0..6).filter_map(|_| rota.pop()).collect();
        assert_eq!(first, [keys[0], keys[5_000], keys[5_002], keys[1], keys[5_001], keys[2]]);
        assert_eq!(rota.pop(), Some(keys[3]));
        rota.remove(1);
        assert!(rota.is_empty() && rota.pop().is_none() && rota.queues.is_empty());
    }
}
