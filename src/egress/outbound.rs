//! All that leaves all sandboxes of a runtime.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::counters::Counters;
use super::dns::{Dns, Names, Upstreams};
use super::gate::{Gate, Settings};
use super::judge::Judge;
use super::listener::Listener;
use super::pace::Pace;
use super::ports::{self, Ports};
use super::request::{Request, Requests};
use super::routes::Routes;
use super::sockets::Sockets;
use super::sweep::Sweep;
use super::tcp::Flow;
use super::teller::Teller;
use super::udp::{self, Table, Udp};
use crate::event::Reported;
use crate::policy::{Policy, Protocol, Verdict};
use crate::pump::Scratch;
use crate::pump::memory::Walk;
use crate::reactor::{Budget, Key, Kind, Lane, Reactor, Removals, Slab, Wake};

/// The reactor's kinds of source that belong to [`Outbound`].
pub(super) const LISTENER: Kind = Kind(4);
pub(super) const TCP: Kind = Kind(5);
pub(super) const UDP: Kind = Kind(6);
pub(super) const DNS: Kind = Kind(7);
pub(super) const TELLER: Kind = Kind(8);
pub(super) const ROUTES: Kind = Kind(9);
const FIRST: u8 = 4;
const MEMORY: Kind = Kind(10);
const LAST: u8 = 10;

/// Whether that kind of source is egress's.
pub(crate) fn is_egress(kind: Kind) -> bool {
    (FIRST..=LAST).contains(&kind.0)
}

/// All egress of a runtime.
pub(crate) struct Outbound {
    pub(super) gates: HashMap<u64, Gate>,
    pub(super) listeners: Slab<Listener>,
    pub(super) flows: Slab<Flow>,
    pub(super) udp: Slab<Udp>,
    pub(super) dns: Slab<Dns>,
    /// The servers that the host asks.
    pub(super) nameservers: Arc<Upstreams>,
    pub(super) tellers: Slab<Teller>,
    pub(super) sweeps: VecDeque<Sweep>,
    pub(super) removals: Removals,
    pub(super) routes: Routes,
    pub(super) judge: Judge,
    /// Looks at the memory of all flows, under that key.
    pub(super) memory: (Walk, Key),
    pub(super) scratch: Scratch,
    pub(super) budget: Budget,
    /// Local ports for UDP.
    pub(super) ports: Budget,
    /// Local ports for TCP.
    pub(super) tcp_ports: Ports,
    pub(super) requests: Requests,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { gates, flows, .. } = self;
        write!(formatter, "Outbound({} sandboxes, {} TCP flows)", gates.len(), flows.len())
    }
}

impl Outbound {
    /// Nothing leaves yet.
    pub(crate) fn new(budget: Budget, requests: Requests) -> Self {
        Self {
            gates: HashMap::new(),
            listeners: Slab::new(LISTENER),
            flows: Slab::new(TCP),
            udp: Slab::new(UDP),
            dns: Slab::new(DNS),
            nameservers: Arc::default(),
            tellers: Slab::new(TELLER),
            sweeps: VecDeque::new(),
            removals: Removals::default(),
            routes: Routes::new(),
            judge: Judge::default(),
            memory: (Walk::new(), Slab::new(MEMORY).insert(())),
            scratch: Scratch::new(),
            budget,
            ports: udp::ports(),
            tcp_ports: Ports::new(ports::of_host()),
            requests,
        }
    }

    /// Opens a sandbox's way out: what is delivered to these sockets of its gateway is relayed where `policy`
    /// allows.
    pub(crate) fn add_sandbox(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        (policy, generation): (Arc<Policy>, u64),
        settings: Settings,
        sockets: Sockets,
        counters: Arc<Counters>,
    ) {
        self.watch_routes(reactor);
        let teller = self.add_teller(reactor, sandbox, sockets.refusals);
        let mut gate = Gate {
            policy,
            generation,
            settings,
            counters,
            listeners: vec![],
            udp: Table::default(),
            names: Names::default(),
            teller,
            open: 0,
            greetings: 0,
            reported: Reported::default(),
            pace: Pace::new(&settings, reactor.now()),
            _ports: self.ports.admit(sandbox, 0),
        };
        for (socket, service) in sockets.listeners {
            let key = self.listeners.insert(Listener::new(socket, sandbox, service));
            let Some(listener) = self.listeners.get_mut(key) else { continue };
            reactor.join(key, sandbox);
            match reactor.register(listener.as_fd(), key, Lane::Front) {
                Ok(()) => gate.listeners.push(key),
                Err(error) => {
                    // A closed listener is refused by the rules: nothing gets out unseen.
                    self.listeners.remove(key);
                    self.report(sandbox, format!("egress can't be watched ({error}) and is closed"));
                }
            }
        }
        self.gates.insert(sandbox, gate);
        sockets.datagrams.into_iter().for_each(|socket| self.add_udp(reactor, sandbox, socket));
        self.add_dns(reactor, sandbox, sockets.resolver);
    }

    /// The host asks other servers from now on; questions that are open stay with theirs.
    pub(crate) fn set_nameservers(&mut self, servers: Arc<Upstreams>) {
        self.nameservers = servers;
    }

    /// Accepts no further connection of a sandbox's.
    pub(super) fn close_listeners(&mut self, reactor: &mut Reactor, sandbox: u64) {
        for key in self.gates.get(&sandbox).map(|gate| gate.listeners.clone()).unwrap_or_default() {
            if let Some(listener) = self.listeners.remove(key) {
                reactor.deregister(listener.as_fd());
                if let Some(timer) = listener.rest {
                    reactor.cancel(timer);
                }
            }
        }
    }

    /// Forgets a sandbox: its flows are reset on both sides, its listeners closed.
    pub(super) fn remove_sandbox(&mut self, reactor: &mut Reactor, sandbox: u64) {
        self.close_listeners(reactor, sandbox);
        self.cut_flows(reactor, |flow| flow.sandbox == sandbox);
        self.remove_udp(reactor, sandbox);
        self.remove_dns(reactor, sandbox);
        self.forget_pace(reactor, sandbox);
        self.sweeps.retain(|sweep| sweep.sandbox != sandbox);
        // Before its policy is forgotten, which says why the last ones were refused.
        if let Some(teller) = self.gates.get(&sandbox).map(|gate| gate.teller) {
            self.remove_teller(reactor, teller);
        }
        self.gates.remove(&sandbox);
        if self.gates.is_empty() {
            self.forget_routes(reactor);
        }
    }

    /// Dispatches a wake-up to its handler.
    pub(crate) fn wake(&mut self, reactor: &mut Reactor, wake: Wake) {
        let key = wake.key();
        match key.kind() {
            LISTENER => self.wake_listener(reactor, key, wake),
            TCP => self.wake_flow(reactor, key, wake),
            UDP => self.wake_udp(reactor, key, wake),
            DNS => self.wake_dns(reactor, key, wake),
            TELLER => self.wake_teller(reactor, key, wake),
            ROUTES => self.wake_routes(reactor, key, wake),
            MEMORY => self.walk(reactor, wake),
            _ => {}
        }
    }

    /// The rest of a turn: flows that are to be asked about again.
    pub(crate) fn end_turn(&mut self, reactor: &mut Reactor) {
        self.sweep(reactor);
        self.go_on_removing(reactor);
    }

    /// Whether there is nothing that anything could happen to.
    pub(crate) fn is_idle(&self) -> bool {
        let Self { gates, listeners, flows, udp, dns, tellers, .. } = self;
        let all = [listeners.len(), flows.len(), udp.len(), dns.len(), tellers.len()];
        gates.is_empty() && all == [0; 5] && !self.is_busy()
    }

    /// Whether [`Outbound::end_turn`] has more to do, so that the next turn must not wait.
    pub(crate) fn is_busy(&self) -> bool {
        !self.sweeps.is_empty() || !self.removals.is_empty() || !self.routes.waiting.is_empty()
    }

    /// Ends whatever that key names: for the engine, when its code has failed.
    pub(crate) fn discard(&mut self, reactor: &mut Reactor, key: Key) {
        match key.kind() {
            TCP => self.cut(reactor, key),
            UDP => self.end_udp(reactor, key),
            DNS => self.discard_dns(reactor, key),
            _ => {}
        }
    }

    /// What the sandbox's policy of the moment says of a destination. Every flow is asked for here, and a
    /// denial counted and told.
    pub(super) fn verdict_on(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        protocol: Protocol,
    ) -> Option<Verdict> {
        let gate = self.gates.get(&sandbox)?;
        let verdict = self.judge.verdict(&gate.policy, to.ip(), protocol);
        if !verdict.is_allowed() {
            let generation = gate.generation;
            log::debug!("egress to {to} over {protocol:?} (policy {generation}): {verdict}");
            self.denied(reactor, sandbox, to, protocol, &verdict);
        }
        Some(verdict)
    }

    pub(super) fn report(&self, key: u64, what: String) {
        (self.requests)(Request::Limit { key, what });
    }
}
