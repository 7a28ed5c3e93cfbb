//! A table of objects whose keys are never reused.

use super::key::{Key, Kind};

#[derive(Debug)]
struct Place<T> {
    generation: u64,
    object: Option<T>,
}

/// Objects of one kind. A place is reused, its key isn't: each use has a generation of its own.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    kind: Kind,
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// An empty table for objects of that kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, places: Vec::new(), free: Vec::new() }
    }

    /// Whether there is no room: 16 million objects, far beyond any descriptor limit.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty() && self.places.len() >= Key::CAPACITY
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Inserts an object. In a full table it replaces the last one: check [`Slab::is_full`] first.
    pub(crate) fn insert(&mut self, object: T) -> Key {
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.object = Some(object);
            return Key::new(self.kind, index, place.generation);
        }
        if self.places.len() >= Key::CAPACITY {
            self.places.pop();
        }
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Place { generation: 0, object: Some(object) });
        Key::new(self.kind, index, 0)
    }

    /// The object, unless it was removed.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.places.get_mut(key.index() as usize)?;
        if Key::new(self.kind, key.index(), place.generation) != key {
            return None;
        }
        place.object.as_mut()
    }

    /// Removes the object; its key is stale from now on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let place = self.places.get_mut(key.index() as usize)?;
        place.generation += 1;
        self.free.push(key.index());
        place.object.take()
    }

    /// Every object with its key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let key = Key::new(self.kind, u32::try_from(index).ok()?, place.generation);
            place.object.as_ref().map(|object| (key, object))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    proptest! {
        /// Against a plain map: what is in is found, what was taken out never is, and no key comes twice.
        #[test]
        fn it_is_a_map_whose_keys_are_never_used_twice(steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..300)) {
            let mut slab = Slab::new(Kind(3));
            let (mut alive, mut seen, mut gone) = (HashMap::new(), HashSet::new(), Vec::new());
            for (number, (insert, pick)) in steps.into_iter().enumerate() {
                if insert || alive.is_empty() {
                    let key = slab.insert(number);
                    prop_assert!(seen.insert(key));
                    alive.insert(key, number);
                } else {
                    let mut keys: Vec<Key> = alive.keys().copied().collect();
                    keys.sort();
                    let key = keys[pick % keys.len()];
                    prop_assert_eq!(slab.remove(key), alive.remove(&key));
                    gone.push(key);
                }
                prop_assert_eq!(slab.len(), alive.len());
            }
            for key in gone {
                prop_assert!(slab.get_mut(key).is_none());
                prop_assert!(slab.remove(key).is_none());
            }
            prop_assert_eq!(slab.iter().map(|(key, number)| (key, *number)).collect::<HashMap<_, _>>(), alive);
        }
    }
}
