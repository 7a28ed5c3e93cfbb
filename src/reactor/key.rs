//! Names objects in the loop, within the 64 bits that the kernel keeps for each descriptor.

/// The token of the reactor's own waker: all ones, which no key is ever packed to.
pub(super) const WAKER: usize = usize::MAX;

const INDEX_BITS: u32 = 24;
const KIND_BITS: u32 = 4;
/// How many kinds there can be.
pub(super) const KINDS: usize = 1 << KIND_BITS;
const GENERATION_BITS: u32 = 35;
const _: () = assert!(usize::BITS == 64, "tokens are packed into 64 bits");
const _: () = assert!(INDEX_BITS + KIND_BITS + GENERATION_BITS + 1 == usize::BITS);

/// A kind of object; each kind has its own [`super::Slab`]. Below 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind(pub(crate) u8);

/// Which of an object's two descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FdSlot {
    /// The first, or the only one: downstream's, of a relay.
    First,
    /// The second: upstream's, of a relay.
    Second,
}

/// Names one object, and no other ever: index, kind, and a generation that differs from earlier objects' in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    kind: u8,
    index: u32,
    generation: u64,
}

impl Key {
    /// The largest number of objects of one kind.
    pub(super) const CAPACITY: usize = 1 << INDEX_BITS;

    pub(super) fn new(kind: Kind, index: u32, generation: u64) -> Self {
        Self { kind: kind.0, index, generation: generation & ((1 << GENERATION_BITS) - 1) }
    }

    /// The kind of object it names.
    pub(crate) fn kind(self) -> Kind {
        Kind(self.kind)
    }

    pub(super) fn index(self) -> u32 {
        self.index
    }

    /// Whether it names a later object than `other`, which had the same place.
    pub(super) fn is_after(self, other: Self) -> bool {
        self.generation > other.generation
    }

    pub(super) fn token(self, slot: FdSlot) -> usize {
        let slot = match slot {
            FdSlot::First => 0,
            FdSlot::Second => 1,
        };
        let packed = (self.generation << (INDEX_BITS + KIND_BITS + 1))
            | (u64::from(self.kind) << (INDEX_BITS + 1))
            | (u64::from(self.index) << 1)
            | slot;
        #[allow(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
        let token = packed as usize;
        token
    }

    pub(super) fn from_token(token: usize) -> Option<(Self, FdSlot)> {
        if token == WAKER {
            return None;
        }
        let slot = if token & 1 == 0 { FdSlot::First } else { FdSlot::Second };
        let index = u32::try_from((token >> 1) & ((1 << INDEX_BITS) - 1)).ok()?;
        let kind = u8::try_from((token >> (INDEX_BITS + 1)) & ((1 << KIND_BITS) - 1)).ok()?;
        let generation = u64::try_from(token >> (INDEX_BITS + KIND_BITS + 1)).ok()?;
        Some((Self { kind, index, generation }, slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_gives_its_key_back(kind in 0u8..15, index in 0u32..(1 << INDEX_BITS), generation: u64, back: bool) {
            let slot = if back { FdSlot::Second } else { FdSlot::First };
            let key = Key::new(Kind(kind), index, generation);
            prop_assert_ne!(key.token(slot), WAKER);
            prop_assert_eq!(Key::from_token(key.token(slot)), Some((key, slot)));
        }
    }
}
