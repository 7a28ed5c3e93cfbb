//! What the parts of the tunnels share: the sandboxes' states, the budget of descriptors, and where requests go.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::dial::Supply;
use super::request::{Request, Requests};
use super::sandbox_state::SandboxState;
use crate::limits;
use crate::reactor::{FdBudget, FdPermit, Key, Use};

/// What the parts of the tunnels share.
pub(super) struct Cx {
    sandboxes: HashMap<u64, SandboxState>,
    budget: FdBudget,
    requests: Requests,
    /// Descriptors were freed in this turn, or there is room for another connection.
    freed: bool,
}

impl Cx {
    pub(super) fn new(budget: FdBudget, requests: Requests) -> Self {
        Self { sandboxes: HashMap::new(), budget, requests, freed: false }
    }

    pub(super) fn add_sandbox(&mut self, sandbox: u64, state: SandboxState) {
        self.sandboxes.insert(sandbox, state);
    }

    pub(super) fn remove_sandbox(&mut self, sandbox: u64) {
        self.sandboxes.remove(&sandbox);
        self.freed = true;
    }

    /// A sandbox's state; `None` once it has been removed.
    pub(super) fn sandbox(&mut self, sandbox: u64) -> Option<&mut SandboxState> {
        self.sandboxes.get_mut(&sandbox)
    }

    /// The same, and where its requests go.
    pub(super) fn sandbox_and_requests(&mut self, sandbox: u64) -> Option<(&mut SandboxState, &Requests)> {
        self.sandboxes.get_mut(&sandbox).map(|state| (state, &self.requests))
    }

    pub(super) fn sandboxes(&mut self) -> impl ExactSizeIterator<Item = &mut SandboxState> {
        self.sandboxes.values_mut()
    }

    pub(super) fn sandbox_count(&self) -> usize {
        self.sandboxes.len()
    }

    /// The descriptors of a connection. If the budget has run out, the sandbox's pool gives up its own.
    pub(super) fn acquire(&mut self, sandbox: u64, purpose: Use) -> Option<FdPermit> {
        let permit = self.budget.acquire(sandbox, purpose, limits::CONNECTION);
        if permit.is_some() || purpose != Use::Tunnel {
            return permit;
        }
        self.sandboxes.get_mut(&sandbox)?.dialer().pool().release();
        self.budget.acquire(sandbox, purpose, limits::CONNECTION)
    }

    /// Requests sockets for a sandbox if there are too few.
    pub(super) fn refill_pool(&mut self, sandbox: u64, now: Instant) {
        if let Some(state) = self.sandboxes.get_mut(&sandbox) {
            state.dialer().refill_pool(sandbox, now, &self.requests);
        }
    }

    /// Sockets of a sandbox have come from the keeper. `waits` tells whether a connection still waits for one.
    pub(super) fn on_sockets(
        &mut self,
        sandbox: u64,
        sockets: Vec<OwnedFd>,
        waits: impl FnMut(&Key) -> bool,
    ) -> Option<Supply> {
        let state = self.sandboxes.get_mut(&sandbox)?;
        // The pool may release what it holds, and a listener that backs off can use it.
        self.freed = true;
        Some(state.dialer().on_sockets(sockets, waits, (&self.budget, sandbox)))
    }

    /// Records that descriptors were freed, or that there is room for another connection.
    pub(super) fn note_freed(&mut self) {
        self.freed = true;
    }

    /// Whether that has happened since the last call.
    pub(super) fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// Reports a limit to the host, unless the same was reported lately.
    pub(super) fn report_once(
        &mut self,
        now: Instant,
        sandbox: u64,
        limit: &'static str,
        sentence: impl FnOnce() -> String,
    ) {
        if self.sandboxes.get_mut(&sandbox).is_some_and(|state| state.is_news(limit, now)) {
            self.report(sandbox, sentence());
        }
    }

    /// Reports something to the host.
    pub(super) fn report(&self, sandbox: u64, what: String) {
        (self.requests)(Request::Limit { key: sandbox, what });
    }
}
