//! What a sandbox's egress has done. Read by anyone at any time.

use std::sync::atomic::AtomicU64;

/// Numbers that only grow, but for `open`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bytes from the sandbox to where it connected.
    pub(crate) bytes_out: AtomicU64,
    /// Bytes from there to the sandbox.
    pub(crate) bytes_in: AtomicU64,
    /// Flows that are open now.
    pub(crate) open: AtomicU64,
    /// Flows that were let through.
    pub(crate) total: AtomicU64,
    /// Flows that the library's verdict has denied. (What the kernel's sets refused isn't counted here.)
    pub(crate) denied: AtomicU64,
    /// Questions for names.
    pub(crate) questions: AtomicU64,
    /// Those of them that the policy didn't let be asked.
    pub(crate) refused_names: AtomicU64,
    /// Packets that the kernel's sets have refused, as last read.
    pub(crate) refused: AtomicU64,
}
