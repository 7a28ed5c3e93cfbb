//! What one sandbox's resolver knows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::batches::Batches;
use super::cache::{Cache, Subject};
use super::judged::Verdicts;
use super::upstreams::Upstreams;
use crate::egress::answered::Answered;
use crate::reactor::Key;

/// One sandbox's resolver.
#[derive(Debug, Default)]
pub(in crate::egress) struct Names {
    /// What was answered for the policy's domains.
    pub(in crate::egress) answered: Answered,
    /// The servers that were named for it; else the host's own are asked.
    pub(super) upstreams: Option<Arc<Upstreams>>,
    /// The place of the server that answered last.
    pub(super) preferred: usize,
    pub(super) cache: Cache,
    pub(super) verdicts: Verdicts,
    /// The questions that are open upstream.
    pub(super) lookups: HashMap<Subject, Key>,
    /// The answers that wait for the rules.
    pub(super) batches: Batches,
    /// The connections that are open.
    pub(super) clients: usize,
}

impl Names {
    /// Asks these servers; the host's own if there are none.
    pub(in crate::egress) fn new(servers: Vec<SocketAddr>) -> Self {
        let upstreams = (!servers.is_empty()).then(|| Arc::new(Upstreams::of(servers)));
        Self { upstreams, ..Self::default() }
    }
}
