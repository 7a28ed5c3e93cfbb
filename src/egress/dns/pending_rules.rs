//! Answers that wait until the rules let their addresses through.
//!
//! The control thread gets one batch at a time, and the next is gathered meanwhile: whatever a sandbox asks for, it has
//! no more than one change of its rules in that thread's queue.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::client::Client;
use super::judged::Judged;
use super::message::Query;
use super::pinned::Change;

/// The most answers of one sandbox that wait.
const MAX_WAITING: usize = 1024;
/// The most bytes that they take: the sandbox chooses what it asks for, and so how long answers are.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// An answer, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    // Plain data.
    pub(super) client: Client,
    pub(super) query: Query,
    pub(super) judged: Arc<Judged>,
    pub(super) age: u32,
}

/// A change of the rules, and the answers that wait for it.
#[derive(Debug, Default)]
pub(super) struct Batch {
    // Plain data.
    pub(super) change: Change,
    pub(super) waiting: Vec<Waiting>,
}

/// The batch that the control thread has, and the next.
#[derive(Debug, Default)]
pub(super) struct PendingRules {
    sent: Option<Batch>,
    added: HashSet<IpAddr>,
    removed: HashSet<IpAddr>,
    waiting: Vec<Waiting>,
    /// What the answers of both batches take. One that several clients wait for counts for each of them.
    bytes: usize,
}

impl PendingRules {
    /// Whether the rules have all there is.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_none() && self.is_next_empty()
    }

    /// Whether another answer may wait.
    pub(super) fn has_room_for(&self, judged: &Judged) -> bool {
        let waiting = self.sent.as_ref().map_or(0, |batch| batch.waiting.len()) + self.waiting.len();
        waiting < MAX_WAITING && self.bytes.saturating_add(judged.bytes()) <= MAX_WAITING_BYTES
    }

    /// Adds a change to the next batch, and the answer that waits for it.
    pub(super) fn add(&mut self, change: Change, waiting: Option<Waiting>) {
        for address in change.removed {
            undo_or_add(&mut self.added, &mut self.removed, address);
        }
        for address in change.added {
            undo_or_add(&mut self.removed, &mut self.added, address);
        }
        self.bytes += waiting.as_ref().map_or(0, |waiting| waiting.judged.bytes());
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

    /// The batch that was sent has been handled.
    pub(super) fn done(&mut self) -> Batch {
        let batch = self.sent.take().unwrap_or_default();
        let bytes: usize = batch.waiting.iter().map(|waiting| waiting.judged.bytes()).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        batch
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
    use crate::egress::dns::message::Asked;
    use crate::egress::dns::name::Name;
    use crate::egress::dns::record::Record;
    use crate::egress::dns::write::Answer;
    use crate::egress::kinds::DNS_CONNECTION;
    use crate::reactor::Slab;
    use domain::base::iana::{Class, OptRcode, Rtype};
    use proptest::prelude::*;

    fn addresses(lasts: &[u8]) -> Vec<IpAddr> {
        lasts.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()
    }

    fn change(added: &[u8], removed: &[u8]) -> Change {
        Change { added: addresses(added), removed: addresses(removed) }
    }

    #[test]
    fn one_batch_is_under_way_and_the_next_is_gathered() {
        let mut pending = PendingRules::default();
        assert!(pending.is_empty() && pending.send().is_none());
        pending.add(change(&[1], &[]), None);
        assert_eq!(pending.send(), Some(change(&[1], &[])));
        pending.add(change(&[2], &[1]), None);
        pending.add(change(&[3], &[2]), None);
        assert_eq!(pending.send(), None, "one is under way");
        assert_eq!(pending.done().change, change(&[1], &[]));
        assert_eq!(pending.send(), Some(change(&[3], &[1])));
        pending.done();
        assert!(pending.is_empty());
    }

    /// An answer with that many bytes of text in it, and a client that waits for it.
    fn waiting(bytes: usize) -> Waiting {
        let (name, ttl) = (Name::of("a"), 9);
        let record = Record { name, kind: Rtype::TXT, class: Class::IN, ttl, data: vec![7; bytes] };
        let answer = Answer { answers: vec![record], ..Answer::bare(OptRcode::NOERROR, None) };
        let judged = Judged { answer, ttl: Some(ttl), reachable: addresses(&[1]), removed: Vec::new() };
        let Asked::Answer(query, _) = Query::read(&[0; 12]) else { panic!() };
        let client = Client::Stream(Slab::new(DNS_CONNECTION).insert(()));
        Waiting { client, query, judged: Arc::new(judged), age: 0 }
    }

    /// Has answers wait until there is no room for another, in two batches; how many there are.
    fn fill(pending: &mut PendingRules, bytes: usize) -> usize {
        let mut count = 0;
        while pending.has_room_for(&waiting(bytes).judged) {
            pending.add(change(&[1], &[]), Some(waiting(bytes)));
            pending.send();
            count += 1;
        }
        count
    }

    #[test]
    fn answers_that_wait_are_bounded_by_their_number_and_their_bytes() {
        let mut pending = PendingRules::default();
        for _ in 0..3 {
            let long = fill(&mut pending, 60 << 10);
            assert!((60..70).contains(&long), "{long}");
            assert_eq!(pending.done().waiting.len(), 1);
            assert_eq!(fill(&mut pending, 60 << 10), 1, "as much as was sent has room again");
            pending.send();
            assert_eq!(pending.done().waiting.len(), long);
            assert_eq!((pending.bytes, pending.is_empty()), (0, true));
            assert_eq!(fill(&mut pending, 0), MAX_WAITING);
            pending.done();
            pending.send();
            pending.done();
        }
    }

    proptest! {
        /// However changes are gathered, the rules have in the end what the table has.
        #[test]
        fn batches_add_up_to_the_changes(steps in prop::collection::vec((0u8..6, any::<bool>()), 0..60)) {
            let (mut pending, mut table, mut kernel) = (PendingRules::default(), HashSet::new(), HashSet::new());
            let mut follow = |pending: &mut PendingRules| {
                if let Some(Change { added, removed }) = pending.send() {
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
                pending.add(step, None);
                if turn {
                    pending.done();
                    follow(&mut pending);
                }
            }
            pending.done();
            prop_assert_eq!(follow(&mut pending), table);
        }
    }
}
