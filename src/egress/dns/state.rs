//! What one sandbox's resolver knows.

use std::net::SocketAddr;
use std::sync::Arc;

use super::cache::Cache;
use super::judged::Verdicts;
use super::pending_rules::PendingRules;
use super::pinned::Pinned;
use super::upstreams::Upstreams;

/// What one sandbox's resolver knows.
#[derive(Debug, Default)]
pub(super) struct ResolverState {
    // The fields are components of their own, which know nothing of each other.
    /// The addresses that were answered for the policy's domains.
    pub(super) pinned: Pinned,
    /// The servers that the host named for this sandbox; else the host's own are asked.
    pub(super) upstreams: Option<Arc<Upstreams>>,
    /// The place of the server that answered last.
    pub(super) preferred: usize,
    pub(super) cache: Cache,
    pub(super) verdicts: Verdicts,
    /// The answers that wait for the rules.
    pub(super) pending_rules: PendingRules,
}

impl ResolverState {
    /// Asks these servers, or the host's own if there are none.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        let upstreams = (!servers.is_empty()).then(|| Arc::new(Upstreams::of(servers)));
        Self { upstreams, ..Self::default() }
    }
}
