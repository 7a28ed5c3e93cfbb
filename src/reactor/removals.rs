//! Ends much at once: all that a sandbox has, most often.
//!
//! A sandbox may have thousands of connections, and each takes some system calls to end: they are ended in slices, with
//! the others' data in between. Pure.

use std::collections::VecDeque;

use super::Key;

/// How many are ended before others get a turn.
const SLICE: usize = 64;

/// What calls back when all of a removal has ended.
pub(crate) type Removed = Box<dyn FnOnce() + Send>;

/// Something that is being ended.
struct Removal {
    sandbox: u64,
    keys: Vec<Key>,
    /// Of a sandbox that is no more: told at the end.
    reply: Option<Removed>,
}

/// What is being ended.
#[derive(Default)]
pub(crate) struct Removals(VecDeque<Removal>);

impl Removals {
    /// Begins to end those keys of a sandbox.
    pub(crate) fn begin(&mut self, sandbox: u64, keys: Vec<Key>, reply: Option<Removed>) {
        self.0.push_back(Removal { sandbox, keys, reply });
    }

    /// The same without a reply, and at once: the keys that are returned are to be ended now.
    pub(crate) fn begin_now(&mut self, sandbox: u64, mut keys: Vec<Key>) -> Vec<Key> {
        let first = split(&mut keys);
        if !keys.is_empty() {
            self.begin(sandbox, keys, None);
        }
        first
    }

    /// The keys that are to be ended next. Their removal has its next turn behind the others, and has it although the
    /// end of one of these may panic.
    pub(crate) fn slice(&mut self) -> Vec<Key> {
        let Some(mut removal) = self.0.pop_front() else { return Vec::new() };
        let slice = split(&mut removal.keys);
        self.0.push_back(removal);
        slice
    }

    /// The removal of which [`Removals::slice`] gave the last keys, with the reply of one of a sandbox.
    pub(crate) fn over(&mut self) -> Option<(u64, Option<Removed>)> {
        if !self.0.back()?.keys.is_empty() {
            return None;
        }
        self.0.pop_back().map(|removal| (removal.sandbox, removal.reply))
    }

    /// Whether nothing is left to be ended.
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
