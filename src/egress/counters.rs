//! Counters of a sandbox's egress, which any thread reads at any time.

use std::sync::atomic::AtomicU64;

/// Numbers that only grow, but for `open`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bytes from the sandbox to its destinations.
    pub(crate) bytes_out: AtomicU64,
    /// Bytes from its destinations to the sandbox.
    pub(crate) bytes_in: AtomicU64,
    /// Flows that are open now.
    pub(crate) open: AtomicU64,
    /// Flows that were let through.
    pub(crate) total: AtomicU64,
    /// Flows that the library's verdict has denied. (Packets that the kernel's sets refused aren't counted here.)
    pub(crate) denied: AtomicU64,
    /// DNS questions.
    pub(crate) questions: AtomicU64,
    /// DNS questions that the policy refused.
    pub(crate) refused_names: AtomicU64,
    /// Packets that the kernel's sets have refused, as last read.
    pub(crate) refused: AtomicU64,
}
