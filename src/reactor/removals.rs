//! Removes many objects at once, in most cases all that a sandbox has.
//!
//! A sandbox may have thousands of connections, and to end each takes some system calls. So they are ended in slices,
//! with the data of others in between. Pure.

use std::collections::VecDeque;

use super::key::Key;

/// How many objects are ended before others get a turn.
const SLICE: usize = 64;

/// Called when all objects of a removal have ended.
pub(crate) type Removed = Box<dyn FnOnce() + Send>;

/// The objects of a sandbox that are being ended.
struct Removal {
    sandbox: u64,
    keys: Vec<Key>,
    /// Called at the end, if the sandbox itself is removed.
    reply: Option<Removed>,
}

/// The removals under way.
#[derive(Default)]
pub(crate) struct Removals(VecDeque<Removal>);

impl Removals {
    /// Begins to end these keys of a sandbox.
    pub(crate) fn begin(&mut self, sandbox: u64, keys: Vec<Key>, reply: Option<Removed>) {
        self.0.push_back(Removal { sandbox, keys, reply });
    }

    /// The same without a reply, and with a first slice: the keys that are returned are to be ended now.
    pub(crate) fn begin_now(&mut self, sandbox: u64, mut keys: Vec<Key>) -> Vec<Key> {
        let first = split(&mut keys);
        if !keys.is_empty() {
            self.begin(sandbox, keys, None);
        }
        first
    }

    /// The keys that are to be ended next. Their removal is queued behind the others before that, so it continues even if
    /// the end of one of them panics.
    pub(crate) fn slice(&mut self) -> Vec<Key> {
        let Some(mut removal) = self.0.pop_front() else { return Vec::new() };
        let slice = split(&mut removal.keys);
        self.0.push_back(removal);
        slice
    }

    /// The removal whose last keys [`Removals::slice`] has returned: the sandbox, and the reply if there is one.
    pub(crate) fn over(&mut self) -> Option<(u64, Option<Removed>)> {
        if !self.0.back()?.keys.is_empty() {
            return None;
        }
        self.0.pop_back().map(|removal| (removal.sandbox, removal.reply))
    }

    /// Whether no removal is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn split(keys: &mut Vec<Key>) -> Vec<Key> {
    keys.split_off(keys.len().saturating_sub(SLICE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Kind, Slab};

    #[test]
    fn a_slice_that_is_lost_costs_nothing_else_and_removals_take_turns() {
        let mut slab = Slab::new(Kind(1));
        let mut keys = |count| (0..count).map(|_| slab.insert(())).collect::<Vec<Key>>();
        let mut removals = Removals::default();
        removals.begin(1, keys(2 * SLICE + 1), Some(Box::new(|| ())));
        assert_eq!(removals.begin_now(2, keys(SLICE)).len(), SLICE);
        assert_eq!(removals.begin_now(2, keys(SLICE + 1)).len(), SLICE);
        removals.begin(3, Vec::new(), Some(Box::new(|| ())));
        let mut ended = Vec::new();
        let mut turn = || {
            ended.push((removals.slice().len(), removals.over().map(|(sandbox, _)| sandbox)));
            !removals.is_empty()
        };
        while turn() {}
        let expected = [(SLICE, None), (1, Some(2)), (0, Some(3)), (SLICE, None), (1, Some(1))];
        assert_eq!(ended, expected);

        // The end of a key has panicked: nothing after the slice was done.
        removals.begin(1, keys(SLICE + 1), Some(Box::new(|| ())));
        assert_eq!(removals.slice().len(), SLICE);
        assert_eq!(removals.slice().len(), 1);
        assert!(!removals.is_empty());
        assert_eq!((removals.slice().len(), removals.over().map(|(sandbox, _)| sandbox)), (0, Some(1)));
        assert!(removals.is_empty());
    }
}
