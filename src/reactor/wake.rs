//! Why an object is woken.

use super::key::{FdSlot, Key};

/// Why an object is woken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wake {
    /// A descriptor's readiness has changed.
    Ready(Key, FdSlot, Readiness),
    /// It was rescheduled with [`super::Reactor::reschedule`].
    Rescheduled(Key),
    /// Its timer has expired.
    Timer(Key),
}

impl Wake {
    /// The object that is woken.
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Ready(key, ..) | Self::Rescheduled(key) | Self::Timer(key) => *key,
        }
    }
}

/// What the kernel has reported of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Reading may succeed (data, end of stream, or an error to be collected).
    pub(crate) readable: bool,
    /// Writing may succeed.
    pub(crate) writable: bool,
    /// The descriptor has failed (EPOLLERR), for a TCP socket most often a reset.
    pub(crate) failed: bool,
    /// Something follows the data that is there: the end of the stream, or urgent data. A short read then doesn't mean
    /// that the socket is empty.
    pub(crate) more_follows: bool,
}

impl Readiness {
    /// The union of both.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            readable: self.readable || other.readable,
            writable: self.writable || other.writable,
            failed: self.failed || other.failed,
            more_follows: self.more_follows || other.more_follows,
        }
    }
}
