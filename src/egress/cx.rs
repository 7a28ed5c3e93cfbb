//! What the protocols share: the sandboxes' policies, limits and counters, the budget of descriptors, and the way to the
//! layer above.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::denials::Denied;
use super::kinds::{QUOTA, REPORTER};
use super::limit::LimitKind;
use super::policy_check::PolicyCheck;
use super::quota::{Allowance, Quota};
use super::reporter::Reporter;
use super::request::{Request, Requests};
use super::routes::Routes;
use super::sandbox_state::SandboxState;
use super::settings::Settings;
use crate::net::nflog::{NflogSocket, Refused};
use crate::policy::{Policy, Protocol, Reason, Verdict};
use crate::pump::Scratch;
use crate::reactor::{FdBudget, FdPermit, Key, Reactor, Slab, Use, Wake};

/// How many of the kernel's messages about refused packets are read before others get a turn.
const MESSAGES: usize = 8;
/// How many of them are read when a sandbox ends; packets beyond are in the counter only.
const MAX_LAST_MESSAGES: usize = 1024;

/// The policy and the routing that a flow was checked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    policy: u64,
    routes: u64,
}

/// What the protocols share. Its methods are their only way to verdicts, denials, limits and quotas.
pub(super) struct Cx {
    sandboxes: HashMap<u64, SandboxState>,
    /// The sandbox of each reporter's key and of each quota's.
    reporters: Slab<u64>,
    quotas: Slab<u64>,
    routes: Routes,
    policy_check: PolicyCheck,
    scratch: Scratch,
    budget: FdBudget,
    requests: Requests,
    /// The sandboxes that have just used up their byte quota.
    exhausted: Vec<u64>,
}

impl Cx {
    pub(super) fn new(budget: FdBudget, requests: Requests) -> Self {
        Self {
            sandboxes: HashMap::new(),
            reporters: Slab::new(REPORTER),
            quotas: Slab::new(QUOTA),
            routes: Routes::new(),
            policy_check: PolicyCheck::default(),
            scratch: Scratch::new(),
            budget,
            requests,
            exhausted: Vec::new(),
        }
    }

    /// Adds a sandbox. `refusals` reads what the rules of its gateway refuse.
    pub(super) fn add_sandbox(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        policy: (Arc<Policy>, u64),
        settings: Settings,
        refusals: Option<NflogSocket>,
        counters: Arc<Counters>,
    ) {
        self.routes.watch(reactor);
        let [reporter, quota] = [&mut self.reporters, &mut self.quotas].map(|slab| slab.insert(sandbox));
        reactor.join(reporter, sandbox);
        reactor.join(quota, sandbox);
        let reporter = Reporter::new(reactor, &self.requests, sandbox, reporter, refusals);
        let quota = Quota::new(&settings, reactor.now(), quota);
        self.sandboxes.insert(sandbox, SandboxState::new(policy, settings, counters, quota, reporter));
    }

    /// Forgets a sandbox, all of whose flows have ended. What was denied last is reported before.
    pub(super) fn remove_sandbox(&mut self, reactor: &mut Reactor, sandbox: u64) {
        for _ in 0..MAX_LAST_MESSAGES {
            if !self.read_refused(reactor, sandbox) {
                break;
            }
        }
        if let Some(mut state) = self.sandboxes.remove(&sandbox) {
            state.reporter().finish(reactor, &self.requests);
            state.quota().cancel(reactor);
            self.reporters.remove(state.reporter().key());
            self.quotas.remove(state.quota().key());
        }
        self.exhausted.retain(|other| *other != sandbox);
        if self.sandboxes.is_empty() {
            self.routes.forget(reactor);
        }
    }

    /// How many sandboxes there are.
    pub(super) fn sandboxes(&self) -> usize {
        self.sandboxes.len()
    }

    /// The most flows that one sandbox has open.
    pub(super) fn max_open(&self) -> usize {
        self.sandboxes.values().map(SandboxState::open).max().unwrap_or(0)
    }

    /// The buffers that all flows share.
    pub(super) fn scratch(&mut self) -> &mut Scratch {
        &mut self.scratch
    }

    pub(super) fn settings(&self, sandbox: u64) -> Option<&Settings> {
        self.sandboxes.get(&sandbox).map(SandboxState::settings)
    }

    pub(super) fn counters(&self, sandbox: u64) -> Option<&Counters> {
        self.sandboxes.get(&sandbox).map(SandboxState::counters)
    }

    // Policies and verdicts.

    pub(super) fn policy(&self, sandbox: u64) -> Option<&Arc<Policy>> {
        self.sandboxes.get(&sandbox).map(SandboxState::policy)
    }

    /// The number of the sandbox's policy.
    pub(super) fn generation(&self, sandbox: u64) -> Option<u64> {
        self.sandboxes.get(&sandbox).map(SandboxState::generation)
    }

    /// Replaces a sandbox's policy; false if there is no such sandbox.
    pub(super) fn set_policy(&mut self, sandbox: u64, policy: Arc<Policy>, generation: u64) -> bool {
        let Some(state) = self.sandboxes.get_mut(&sandbox) else { return false };
        state.set_policy(policy, generation);
        true
    }

    /// Checks a destination by the sandbox's policy of this moment. A denial is counted and reported.
    pub(super) fn check(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        protocol: Protocol,
    ) -> Verdict {
        let verdict = self.verdict(sandbox, to.ip(), protocol);
        if !verdict.is_allowed() {
            let generation = self.generation(sandbox).unwrap_or_default();
            log::debug!("egress to {to} over {protocol:?} (policy {generation}): {verdict}");
            self.deny_flow(reactor, sandbox, to, protocol, &verdict, None);
        }
        verdict
    }

    /// Checks a TCP flow to a domain at an address. A denial is counted and reported.
    pub(super) fn check_domain(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        name: &str,
    ) -> Verdict {
        let verdict = self.verdict_on_domain(sandbox, to, name);
        if !verdict.is_allowed() {
            self.deny_flow(reactor, sandbox, to, Protocol::Tcp, &verdict, Some(name));
        }
        verdict
    }

    /// Evaluates the sandbox's policy for an address, and reports nothing.
    pub(super) fn verdict(&mut self, sandbox: u64, address: IpAddr, protocol: Protocol) -> Verdict {
        match self.sandboxes.get(&sandbox) {
            Some(state) => self.policy_check.verdict(state.policy(), address, protocol),
            None => Verdict::of(Reason::Blocked),
        }
    }

    /// Evaluates the sandbox's policy for a domain at an address, and reports nothing.
    pub(super) fn verdict_on_domain(&mut self, sandbox: u64, to: SocketAddr, name: &str) -> Verdict {
        let verdict = self.verdict(sandbox, to.ip(), Protocol::Tcp);
        let Some(policy) = self.policy(sandbox) else { return verdict };
        match policy.domain_of(name) {
            Some(entry) if verdict.reason == Reason::NotListed && policy.is_tls_port(to.port()) => {
                Verdict { entry: Some(entry), ..Verdict::of(Reason::Domain) }
            }
            _ => verdict,
        }
    }

    /// The policy and the routing that a verdict of this moment is by; `None` if there is no such sandbox.
    pub(super) fn epoch(&self, sandbox: u64) -> Option<Epoch> {
        Some(Epoch { policy: self.generation(sandbox)?, routes: self.routes.generation() })
    }

    /// Whether a verdict of that epoch still holds.
    pub(super) fn is_current(&self, sandbox: u64, epoch: Epoch) -> bool {
        self.generation(sandbox) == Some(epoch.policy) && self.routes.stands(epoch.routes)
    }

    /// Takes the notices about the host's routing that have come, so that the next verdicts are by that of this moment.
    pub(super) fn read_route_notices(&mut self, reactor: &mut Reactor) {
        self.routes.read_notices(reactor);
    }

    /// The host's routing may have changed. Whether connections under way are to be checked again; `checking` says that
    /// the last check of them isn't over.
    pub(super) fn on_routes_wake(
        &mut self,
        reactor: &mut Reactor,
        key: Key,
        wake: Wake,
        checking: bool,
    ) -> bool {
        self.routes.on_wake(reactor, key, wake, checking)
    }

    // Denials and limits.

    /// Counts a flow that was denied and reports it, with the name of the server if that decided.
    pub(super) fn deny_flow(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        protocol: Protocol,
        verdict: &Verdict,
        name: Option<&str>,
    ) {
        if let Some(counters) = self.counters(sandbox) {
            counters.denied.fetch_add(1, Ordering::Relaxed);
        }
        let mut denied = Denied::to(to.ip(), to.port(), protocol.number(), verdict);
        if let Some(name) = name {
            denied.detail = format!("{}: {name}", denied.detail);
        }
        self.deny(reactor, sandbox, denied);
    }

    /// Reports that a destination was allowed and could not be reached.
    pub(super) fn unreachable(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        protocol: Protocol,
        error: &io::Error,
    ) {
        log::debug!("egress to {to} over {protocol:?}: {error}");
        self.deny(reactor, sandbox, Denied::unreachable(to, protocol.number(), error));
    }

    /// Reports a denial, at once or counted with others.
    pub(super) fn deny(&mut self, reactor: &mut Reactor, sandbox: u64, denied: Denied) {
        let Some(state) = self.sandboxes.get_mut(&sandbox) else { return removed(sandbox) };
        state.reporter().deny(reactor, &self.requests, denied);
    }

    /// Reports that a limit was reached, unless the same one was reported lately.
    pub(super) fn limit(&mut self, sandbox: u64, limit: LimitKind<'_>) {
        // The walk over memory may name a sandbox that was removed since its flows were looked at.
        let Some(state) = self.sandboxes.get_mut(&sandbox) else { return };
        if state.is_news(limit.text(), Instant::now()) {
            self.report(sandbox, limit.to_string());
        }
    }

    /// Reports something that is out of order.
    pub(super) fn report(&self, sandbox: u64, what: String) {
        self.request(Request::Limit { key: sandbox, what });
    }

    /// Sends a request to the layer above.
    pub(super) fn request(&self, request: Request) {
        (self.requests)(request);
    }

    /// Handles a wake-up of a sandbox's reporter.
    pub(super) fn on_reporter_wake(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        // A wake-up can come after its sandbox was removed.
        let Some(sandbox) = self.reporters.get_mut(key).copied() else { return };
        if let Wake::Timer(_) = wake {
            if let Some(state) = self.sandboxes.get_mut(&sandbox) {
                state.reporter().report_counted(reactor, &self.requests);
            }
            return;
        }
        for _ in 0..MESSAGES {
            if !self.read_refused(reactor, sandbox) {
                return;
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.reschedule(key);
    }

    /// Reads one message of the kernel's about packets that the rules have refused; false if there is none.
    fn read_refused(&mut self, reactor: &mut Reactor, sandbox: u64) -> bool {
        let Some(state) = self.sandboxes.get_mut(&sandbox) else { return false };
        let Some(refused) = state.reporter().read_refused(reactor, &self.requests) else { return false };
        for Refused { to, port, protocol } in refused {
            // The rules don't say why; the policy does.
            let mut verdict = self.policy_check.verdict(state.policy(), to, protocol);
            if verdict.is_allowed() {
                verdict = Verdict::of(Reason::Gateway);
            }
            let denied = Denied::to(to, port, protocol, &verdict);
            state.reporter().deny(reactor, &self.requests, denied);
        }
        true
    }

    // Places, descriptors, quotas.

    /// Counts a flow that begins by the sandbox's rate, or returns the limit that forbids it.
    pub(super) fn begin_flow(&mut self, reactor: &Reactor, sandbox: u64) -> Result<(), LimitKind<'static>> {
        match self.sandboxes.get_mut(&sandbox) {
            Some(state) => state.quota().begin(reactor.now()),
            None => Err(LimitKind::OpenFlows),
        }
    }

    /// Whether the sandbox may have another flow open.
    pub(super) fn has_room(&self, sandbox: u64) -> bool {
        self.sandboxes.get(&sandbox).is_some_and(SandboxState::has_room)
    }

    /// How many flows the sandbox has open.
    pub(super) fn open(&self, sandbox: u64) -> usize {
        self.sandboxes.get(&sandbox).map_or(0, SandboxState::open)
    }

    /// Takes the place of a flow for a connection that isn't one yet.
    pub(super) fn reserve(&mut self, sandbox: u64) {
        match self.sandboxes.get_mut(&sandbox) {
            Some(state) => state.reserve(),
            None => removed(sandbox),
        }
    }

    /// Gives a reserved place back.
    pub(super) fn release(&mut self, sandbox: u64) {
        match self.sandboxes.get_mut(&sandbox) {
            Some(state) => state.release(),
            None => removed(sandbox),
        }
    }

    /// Counts a flow that was let through.
    pub(super) fn opened(&mut self, sandbox: u64) {
        match self.sandboxes.get_mut(&sandbox) {
            Some(state) => state.opened(),
            None => removed(sandbox),
        }
    }

    /// Counts a flow that has ended.
    pub(super) fn closed(&mut self, sandbox: u64) {
        match self.sandboxes.get_mut(&sandbox) {
            Some(state) => state.closed(),
            None => removed(sandbox),
        }
    }

    /// Takes so many descriptors, if the sandbox may have them.
    pub(super) fn acquire(&self, sandbox: u64, count: usize) -> Option<FdPermit> {
        self.budget.acquire(sandbox, Use::Egress, count)
    }

    /// How many bytes a flow or a UDP socket of the sandbox may move now. If it has to wait, `key` is woken when that is
    /// over.
    pub(super) fn allowance(&mut self, reactor: &mut Reactor, sandbox: u64, key: Key) -> Option<usize> {
        let quota = self.sandboxes.get_mut(&sandbox)?.quota();
        match quota.allowance(reactor.now()) {
            Allowance::Go(budget) => return Some(budget),
            Allowance::Wait(wait) => quota.throttle(reactor, key, wait),
            Allowance::Exhausted => {}
        }
        None
    }

    /// Whether a socket of the sandbox's resolver may take another question now. If not, `key` is woken when it may.
    pub(super) fn may_ask(&mut self, reactor: &mut Reactor, sandbox: u64, key: Key) -> bool {
        let Some(state) = self.sandboxes.get_mut(&sandbox) else { return false };
        let wait = state.quota().until_question(reactor.now());
        if let Some(wait) = wait {
            state.quota().throttle(reactor, key, wait);
        }
        wait.is_none()
    }

    /// Counts a question that was taken.
    pub(super) fn count_question(&mut self, sandbox: u64) {
        if let Some(state) = self.sandboxes.get_mut(&sandbox) {
            state.quota().count_question();
        }
    }

    /// Wakes `key` after a while.
    pub(super) fn throttle(&mut self, reactor: &mut Reactor, sandbox: u64, key: Key, wait: Duration) {
        if let Some(state) = self.sandboxes.get_mut(&sandbox) {
            state.quota().throttle(reactor, key, wait);
        }
    }

    /// Whether no byte of the sandbox's may pass any more.
    pub(super) fn is_exhausted(&mut self, sandbox: u64) -> bool {
        self.sandboxes.get_mut(&sandbox).is_none_or(|state| state.quota().is_exhausted())
    }

    /// Counts bytes of the sandbox's that have passed. If they were the last that may, [`Cx::take_exhausted`] says so.
    pub(super) fn spend(&mut self, sandbox: u64, count: u64) {
        let Some(state) = self.sandboxes.get_mut(&sandbox) else { return removed(sandbox) };
        if !state.quota().spend(count) {
            return;
        }
        self.limit(sandbox, LimitKind::TotalBytes);
        if !self.exhausted.contains(&sandbox) {
            self.exhausted.push(sandbox);
        }
    }

    /// The sandboxes that have used up their byte quota since this was called last: their flows have to end.
    pub(super) fn take_exhausted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.exhausted)
    }

    /// Handles a wake-up of a sandbox's quota: its rate has room again.
    pub(super) fn on_quota_wake(&mut self, reactor: &mut Reactor, key: Key) {
        // A wake-up can come after its sandbox was removed.
        let Some(sandbox) = self.quotas.get_mut(key).copied() else { return };
        if let Some(state) = self.sandboxes.get_mut(&sandbox) {
            state.quota().requeue_throttled(reactor);
        }
    }
}

/// A protocol asks about a sandbox that was removed: its flows and sockets end before that.
fn removed(sandbox: u64) {
    debug_assert!(false, "sandbox {sandbox} was removed before its flows");
}
