//! The two sides of what init relays.

use std::ops::{Index, IndexMut};

/// One of the two ends of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The stream to the library.
    Host,
    /// The server, terminal or pipe in the sandbox.
    Sandbox,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Host, Self::Sandbox];

    /// The opposite end.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Host => Self::Sandbox,
            Self::Sandbox => Self::Host,
        }
    }
}

/// A value for each side.
#[derive(Debug, Default)]
pub(super) struct Sides<T> {
    pub(super) host: T,
    pub(super) sandbox: T,
}

impl<T> Index<Side> for Sides<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Host => &self.host,
            Side::Sandbox => &self.sandbox,
        }
    }
}

impl<T> IndexMut<Side> for Sides<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Host => &mut self.host,
            Side::Sandbox => &mut self.sandbox,
        }
    }
}
