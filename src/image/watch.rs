//! How the caller follows what may take long, and ends it.

use std::sync::atomic::AtomicBool;

/// How the caller follows a step and ends it.
pub(crate) struct Watch<'a> {
    /// Set by another thread to end the step.
    pub(crate) cancelled: &'a AtomicBool,
    /// Called with the bytes that are done by now in this step; may be called often.
    pub(crate) progress: &'a mut dyn FnMut(u64),
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("cancelled", self.cancelled).finish_non_exhaustive()
    }
}
