//! Answers that wait until the rules let their addresses through.
//!
//! The control thread is told of one batch at a time, and the next is gathered meanwhile: whatever a sandbox asks
//! for, it has no more than one change of its rules in that thread's queue.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::judged::Judged;
use super::message::Query;
use crate::egress::answered::Change;
use crate::reactor::Key;

/// Who has asked a question, and so where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// By UDP, over this socket of ours.
    Datagram(Key, SocketAddr),
    /// By TCP.
    Stream(Key),
}

/// An answer, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) asker: Asker,
    pub(super) query: Query,
    pub(super) judged: Arc<Judged>,
    pub(super) age: u32,
}

/// What becomes true together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) change: Change,
    pub(super) waiting: Vec<Waiting>,
}

/// The batch that the control thread has, and the next.
#[derive(Debug, Default)]
pub(super) struct Batches {
    sent: Option<Batch>,
    added: HashSet<IpAddr>,
    removed: HashSet<IpAddr>,
    waiting: Vec<Waiting>,
}

impl Batches {
    /// Whether the rules have all there is.
    pub(super) fn are_empty(&self) -> bool {
        self.sent.is_none() && self.is_next_empty()
    }

    /// How many answers wait.
    pub(super) fn waiting(&self) -> usize {
        self.sent.as_ref().map_or(0, |batch| batch.waiting.len()) + self.waiting.len()
    }

    /// Adds a change to the next batch, and who waits for it.
    pub(super) fn add(&mut self, change: Change, waiting: Option<Waiting>) {
        for address in change.removed {
            undo_or_add(&mut self.added, &mut self.removed, address);
        }
        for address in change.added {
            undo_or_add(&mut self.removed, &mut self.added, address);
        }
        self.waiting.extend(waiting);
    }

    /// The next batch's change, if it is to be sent now.
    pub(super) fn send(&mut self) -> Option<Change> {
        if self.sent.is_some() || self.is_next_empty() {
            return None;
        }
        let change = Change { added: self.added.drain().collect(), removed: self.removed.drain().collect() };
        self.sent = Some(Batch { change: change.clone(), waiting: std::mem::take(&mut self.waiting) });
        Some(change)
    }

    /// The one that was sent is dealt with.
    pub(super) fn done(&mut self) -> Batch {
        self.sent.take().unwrap_or_default()
    }

    fn is_next_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.waiting.is_empty()
    }
}

/// What undoes an earlier change of the same batch leaves neither.
fn undo_or_add(other: &mut HashSet<IpAddr>, list: &mut HashSet<IpAddr>, address: IpAddr) {
    if !other.remove(&address) {
        list.insert(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(lasts: &[u8]) -> Vec<IpAddr> {
        lasts.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()
    }

    fn change(added: &[u8], removed: &[u8]) -> Change {
        Change { added: addresses(added), removed: addresses(removed) }
    }

    #[test]
    fn one_batch_is_under_way_and_the_next_is_gathered() {
        let mut batches = Batches::default();
        assert!(batches.are_empty() && batches.send().is_none());
        batches.add(change(&[1], &[]), None);
        assert_eq!(batches.send(), Some(change(&[1], &[])));
        batches.add(change(&[2], &[1]), None);
        batches.add(change(&[3], &[2]), None);
        assert_eq!(batches.send(), None, "one is under way");
        assert_eq!(batches.done().change, change(&[1], &[]));
        assert_eq!(batches.send(), Some(change(&[3], &[1])));
        batches.done();
        assert!(batches.are_empty());
    }

    proptest! {
        /// However changes are gathered, the rules have in the end what the table has.
        #[test]
        fn batches_add_up_to_the_changes(steps in prop::collection::vec((0u8..6, any::<bool>()), 0..60)) {
            let (mut batches, mut table, mut kernel) = (Batches::default(), HashSet::new(), HashSet::new());
            let mut follow = |batches: &mut Batches| {
                if let Some(Change { added, removed }) = batches.send() {
                    removed.iter().for_each(|address| assert!(kernel.remove(address)));
                    added.iter().for_each(|address| assert!(kernel.insert(*address)));
                }
                kernel.clone()
            };
            for (last, turn) in steps {
                let address = IpAddr::from([192, 0, 2, last]);
                let step = if table.remove(&address) {
                    change(&[], &[last])
                } else {
                    table.insert(address);
                    change(&[last], &[])
                };
                batches.add(step, None);
                if turn {
                    batches.done();
                    follow(&mut batches);
                }
            }
            batches.done();
            prop_assert_eq!(follow(&mut batches), table);
        }
    }
}
