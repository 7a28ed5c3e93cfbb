//! Why an object is woken.

use super::key::{Key, Lane};

/// Why an object is woken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wake {
    /// A descriptor's readiness has changed.
    Ready(Key, Lane, Readiness),
    /// It asked for another turn.
    Again(Key),
    /// Its timer has run out.
    Timer(Key),
}

impl Wake {
    /// What it is for.
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Ready(key, ..) | Self::Again(key) | Self::Timer(key) => *key,
        }
    }
}

/// What the kernel said of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Reading may succeed (data, end of stream, or an error to be collected).
    pub(crate) readable: bool,
    /// Writing may succeed.
    pub(crate) writable: bool,
    /// The descriptor has failed (EPOLLERR), for a TCP socket most often a reset.
    pub(crate) failed: bool,
    /// Something follows the data that is there: the stream's end, or urgent data. A read that brings less than it
    /// could have taken was not the last one, then.
    pub(crate) more_follows: bool,
}

impl Readiness {
    /// Both together.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            readable: self.readable || other.readable,
            writable: self.writable || other.writable,
            failed: self.failed || other.failed,
            more_follows: self.more_follows || other.more_follows,
        }
    }
}
