//! How a turn of the engine is shared out among the sandboxes' tunnels. Pure.

use std::collections::{HashMap, VecDeque};

use crate::reactor::Key;

/// What one sandbox's tunnels may do in a turn before the others get theirs, in bytes that cost as much to move.
const SHARE: usize = 2 << 20;

/// What waking a connection costs at least.
pub(super) const WAKE: usize = 16 << 10;

/// What accepting a connection costs.
pub(super) const ACCEPT: usize = 64 << 10;

/// What a turn of a TLS handshake costs.
pub(super) const HANDSHAKE: usize = 256 << 10;

/// One sandbox's part of the turns, and who waits for it: connections and listeners, first come first served.
#[derive(Debug, Default)]
pub(super) struct Share {
    turn: u64,
    spent: usize,
    waiting: VecDeque<Key>,
}

impl Share {
    /// What is left of this turn's share.
    pub(super) fn left(&mut self, turn: u64) -> usize {
        if self.turn != turn {
            (self.turn, self.spent) = (turn, 0);
        }
        SHARE.saturating_sub(self.spent)
    }

    /// Whether one that was just woken may go on now. If not it waits behind the others: see [`Share::wait`].
    pub(super) fn is_open(&mut self, turn: u64) -> bool {
        self.left(turn) > 0 && self.waiting.is_empty()
    }

    /// So much was done.
    pub(super) fn spend(&mut self, turn: u64, work: usize) {
        self.left(turn);
        self.spent = self.spent.saturating_add(work);
    }

    /// Queues a key, once: it is for the caller to know. True if it is the first that waits.
    pub(super) fn wait(&mut self, key: Key) -> bool {
        self.waiting.push_back(key);
        self.waiting.len() == 1
    }

    /// The next that may go on in this turn.
    pub(super) fn next(&mut self, turn: u64) -> Option<Key> {
        if self.left(turn) == 0 { None } else { self.waiting.pop_front() }
    }

    /// Whether somebody waits.
    pub(super) fn is_crowded(&self) -> bool {
        !self.waiting.is_empty()
    }
}

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

    #[test]
    fn a_sandbox_that_has_had_its_share_waits_in_order_and_others_do_not() {
        let (mut hungry, mut other, keys) = (Share::default(), Share::default(), keys(3));
        assert!(hungry.is_open(1));
        hungry.spend(1, SHARE + 1);
        assert!(!hungry.is_open(1) && other.is_open(1));
        assert!(hungry.wait(keys[0]) && !hungry.wait(keys[1]));
        assert_eq!(hungry.next(1), None);
        // In the next turn those that waited come first, whoever is woken meanwhile.
        assert!(!hungry.is_open(2));
        assert!(!hungry.wait(keys[2]));
        assert_eq!(hungry.next(2), Some(keys[0]));
        hungry.spend(2, SHARE);
        assert_eq!(hungry.next(2), None);
        assert_eq!((hungry.next(3), hungry.next(3), hungry.next(3)), (Some(keys[1]), Some(keys[2]), None));
        assert!(hungry.is_open(3) && !hungry.is_crowded());
    }

    #[test]
    fn a_turn_is_bounded_however_many_are_woken() {
        let mut share = Share::default();
        let (mut woken, mut accepted) = (0, 0);
        while share.is_open(1) {
            share.spend(1, WAKE);
            woken += 1;
        }
        while share.is_open(2) {
            share.spend(2, ACCEPT);
            accepted += 1;
        }
        assert_eq!((woken, accepted), (128, 32));
    }
}
