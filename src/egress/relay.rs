//! All that leaves all sandboxes of a runtime.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::cx::Cx;
use super::dns::{Dns, Upstreams};
use super::kinds::{
    DNS_CONNECTION, DNS_LOOKUP, DNS_SOCKET, MEMORY, QUOTA, REPORTER, ROUTES, SNI, TCP_FLOW, TCP_LISTENER, UDP,
};
use super::limit::LimitKind;
use super::recheck::{Applied, Recheck};
use super::request::Requests;
use super::settings::Settings;
use super::sni::{Sni, may_be_domain};
use super::sockets::Sockets;
use super::tcp::{Accept, Accepted, Listeners, Tcp};
use super::udp::Udp;
use crate::limits;
use crate::policy::{Policy, Protocol};
use crate::reactor::{FdBudget, Key, Reactor, Removals, Removed, Wake};
use crate::sys::socket::{self, Family, Socket};

/// How many connections one listener accepts before others get a turn.
const ACCEPTS: usize = 64;

/// How many connections of a sandbox are reset for its rate of new flows before its listener pauses, while other sandboxes
/// are served: until that long after their last wake-up. A sandbox that connects in a loop is reset 800 times a second
/// then. Without a pause it would have as many tries as its own processes make, and they cost the machine more than the
/// engine.
const RESETS: usize = 8;
const OTHERS: Duration = Duration::from_secs(10);

/// All egress of a runtime.
pub(crate) struct Egress {
    cx: Cx,
    listeners: Listeners,
    tcp: Tcp,
    udp: Udp,
    dns: Dns,
    sni: Sni,
    recheck: Recheck,
    removals: Removals,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cx, tcp, .. } = self;
        write!(formatter, "Egress({} sandboxes, {} TCP flows)", cx.sandboxes(), tcp.len())
    }
}

impl Egress {
    /// Egress without any sandbox.
    pub(crate) fn new(budget: FdBudget, requests: Requests) -> Self {
        Self {
            cx: Cx::new(budget, requests),
            listeners: Listeners::new(),
            tcp: Tcp::new(),
            udp: Udp::new(),
            dns: Dns::new(),
            sni: Sni::new(),
            recheck: Recheck::default(),
            removals: Removals::default(),
        }
    }

    /// Opens a sandbox's way out: what is delivered to these sockets of its gateway is relayed where `policy`
    /// allows.
    pub(crate) fn add_sandbox(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        policy: (Arc<Policy>, u64),
        settings: Settings,
        sockets: Sockets,
        counters: Arc<Counters>,
    ) {
        let Self { cx, listeners, udp, dns, .. } = self;
        let Sockets { listeners: of_tcp, datagrams, refusals, resolver } = sockets;
        cx.add_sandbox(reactor, sandbox, policy, settings, refusals, counters);
        for (socket, service) in of_tcp {
            listeners.add(cx, reactor, sandbox, socket, service);
        }
        udp.add_sandbox(cx, reactor, sandbox, datagrams);
        dns.add_sandbox(cx, reactor, sandbox, resolver);
    }

    /// Uses these servers of the host from now on; questions that are open stay with theirs.
    pub(crate) fn set_nameservers(&mut self, servers: Arc<Upstreams>) {
        self.dns.set_nameservers(servers);
    }

    /// Replaces a sandbox's policy. `reply` is called when no flow is left that the new one denies.
    pub(crate) fn set_policy(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        (policy, generation): (Arc<Policy>, u64),
        reply: Applied,
    ) {
        // The sandbox may have been removed meanwhile: `reply` is dropped uncalled.
        if !self.cx.set_policy(sandbox, policy, generation) {
            return;
        }
        self.dns.policy_changed(&self.cx, sandbox);
        let flows = [self.udp.keys(sandbox), self.tcp.keys(sandbox), self.sni.keys(sandbox)].concat();
        self.recheck.begin(sandbox, generation, flows, reply);
        // Connections that wait to be accepted are checked by that.
        for key in self.listeners.keys(sandbox) {
            self.on_listener(reactor, key, Wake::Rescheduled(key));
        }
        self.recheck(reactor);
    }

    /// Sockets of a sandbox's gateway have come for answers over UDP.
    pub(crate) fn on_datagram_sockets(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        ipv6: bool,
        sockets: Vec<OwnedFd>,
    ) {
        self.udp.on_sockets(&mut self.cx, reactor, sandbox, ipv6, sockets);
    }

    /// The rules of a sandbox's gateway let through what its resolver is about to answer, or can't be made to.
    pub(crate) fn on_rules(&mut self, reactor: &mut Reactor, sandbox: u64, done: bool) {
        self.dns.on_rules(&self.cx, reactor, sandbox, done);
    }

    /// Forgets a sandbox: its listeners are closed now, and its flows reset on both sides within the next turns.
    /// Then `reply` is called.
    pub(crate) fn begin_removal(&mut self, reactor: &mut Reactor, sandbox: u64, reply: Removed) {
        let Self { listeners, tcp, udp, dns, sni, .. } = self;
        listeners.close(reactor, sandbox);
        dns.close(reactor, sandbox);
        let keys = [tcp.keys(sandbox), udp.keys(sandbox), dns.keys(sandbox), sni.keys(sandbox)].concat();
        self.removals.begin(sandbox, keys, Some(reply));
    }

    /// Ends all that is to be ended, at once.
    pub(crate) fn finish_removals(&mut self, reactor: &mut Reactor) {
        while !self.removals.is_empty() {
            self.remove_slice(reactor);
        }
    }

    /// Dispatches a wake-up to its handler.
    pub(crate) fn wake(&mut self, reactor: &mut Reactor, wake: Wake) {
        let key = wake.key();
        let Self { cx, tcp, udp, dns, sni, .. } = self;
        match key.kind() {
            TCP_LISTENER => self.on_listener(reactor, key, wake),
            TCP_FLOW => tcp.on_wake(cx, reactor, key, wake),
            UDP => udp.on_wake(cx, reactor, key, wake),
            DNS_SOCKET | DNS_CONNECTION | DNS_LOOKUP => dns.on_wake(cx, reactor, key, wake),
            SNI => {
                if let Some(connection) = sni.on_wake(cx, dns, reactor, key, wake) {
                    tcp.adopt(cx, reactor, connection);
                }
            }
            REPORTER => cx.on_reporter_wake(reactor, key, wake),
            QUOTA => cx.on_quota_wake(reactor, key),
            ROUTES => {
                if cx.on_routes_wake(reactor, key, wake, self.recheck.has_connecting()) {
                    self.recheck.set_connecting(tcp.connecting());
                }
            }
            MEMORY => tcp.on_memory_wake(cx, reactor, wake),
            _ => debug_assert!(false, "{key:?} is no key of egress"),
        }
        for sandbox in self.cx.take_exhausted() {
            self.end_flows(reactor, sandbox);
        }
    }

    /// Ends a turn: a slice of the flows that are to be checked again or to be ended.
    pub(crate) fn end_turn(&mut self, reactor: &mut Reactor) {
        self.recheck(reactor);
        self.remove_slice(reactor);
    }

    /// Whether there is nothing that could wake it.
    pub(crate) fn is_idle(&self) -> bool {
        let Self { cx, listeners, tcp, udp, dns, sni, .. } = self;
        let all = [cx.sandboxes(), listeners.len(), tcp.len(), udp.len(), dns.len(), sni.len()];
        all == [0; 6] && !self.is_busy()
    }

    /// Whether [`Egress::end_turn`] has more to do, so that the next turn must not wait.
    pub(crate) fn is_busy(&self) -> bool {
        !self.recheck.is_empty() || !self.removals.is_empty()
    }

    /// Ends what that key names: for the engine, when its code has panicked.
    pub(crate) fn discard(&mut self, reactor: &mut Reactor, key: Key) {
        let Self { cx, tcp, udp, dns, sni, .. } = self;
        match key.kind() {
            TCP_FLOW => tcp.cut(cx, reactor, key),
            UDP => udp.end(cx, reactor, key),
            DNS_SOCKET | DNS_CONNECTION | DNS_LOOKUP => dns.discard(reactor, key),
            SNI => sni.cut(cx, reactor, key),
            // Listeners, timers and notices serve a whole sandbox, or all: they go on.
            _ => {}
        }
    }

    /// Accepts a listener's connections.
    fn on_listener(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        if !self.listeners.on_wake(key, wake) {
            return;
        }
        let mut resets = 0;
        for _ in 0..ACCEPTS {
            match self.listeners.accept(&mut self.cx, reactor, key) {
                Accept::Connection(accepted) => {
                    let sandbox = accepted.sandbox;
                    resets += usize::from(!self.admit(reactor, accepted));
                    if resets >= RESETS && reactor.serves_others(sandbox, OTHERS) {
                        return self.listeners.slow_down(reactor, key);
                    }
                }
                Accept::Aborted => {}
                Accept::Wait => return,
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.reschedule(key);
    }

    /// Relays a connection of the sandbox's, or reads its server's name first. If it is not allowed, resets it
    /// immediately. False if that was for the rate of new flows.
    fn admit(&mut self, reactor: &mut Reactor, Accepted { sandbox, fd, service }: Accepted) -> bool {
        let Self { cx, tcp, dns, sni, .. } = self;
        // It was delivered to us whatever its destination, and has that for its own address.
        let to = service.map_or_else(|| socket::local_address(fd.as_fd()), Ok);
        let Ok(to) = to else {
            socket::disconnect(fd.as_fd());
            return true;
        };
        let by_name = service.is_none() && may_be_domain(cx, dns, reactor.now(), sandbox, to);
        // What goes to a service goes nowhere else: the policy has no say in that.
        if !by_name && service.is_none() && !cx.check(reactor, sandbox, to, Protocol::Tcp).is_allowed() {
            socket::disconnect(fd.as_fd());
            return true;
        }
        let begun = cx.begin_flow(reactor, sandbox).and_then(|()| {
            if !cx.has_room(sandbox) || tcp.is_full() || sni.is_full() {
                return Err(LimitKind::OpenFlows);
            }
            cx.acquire(sandbox, limits::TCP_FLOW).ok_or(LimitKind::Descriptors)
        });
        let permit = match begun {
            Ok(permit) => permit,
            Err(limit) => {
                socket::disconnect(fd.as_fd());
                let within_rate = !matches!(limit, LimitKind::NewFlows);
                cx.limit(sandbox, limit);
                return within_rate;
            }
        };
        let front = Socket::new(fd, Family::Tcp);
        if by_name {
            sni.begin(cx, reactor, sandbox, to, front, permit);
        } else {
            tcp.open(cx, reactor, sandbox, (to, service.is_some()), front, permit);
        }
        true
    }

    /// Checks a slice of the flows that a new policy or routing may deny.
    fn recheck(&mut self, reactor: &mut Reactor) {
        let (flows, update) = self.recheck.next();
        let Self { cx, tcp, udp, dns, sni, .. } = self;
        for key in flows {
            match key.kind() {
                TCP_FLOW => tcp.is_still_allowed(cx, reactor, key),
                SNI => sni.is_still_allowed(cx, dns, reactor, key),
                _ => udp.is_still_allowed(cx, reactor, key),
            };
        }
        self.recheck.done(update);
    }

    /// Resets every flow of a sandbox within the next turns, and what would become one.
    fn end_flows(&mut self, reactor: &mut Reactor, sandbox: u64) {
        let keys = [self.tcp.keys(sandbox), self.udp.keys(sandbox), self.sni.keys(sandbox)].concat();
        for key in self.removals.begin_now(sandbox, keys) {
            self.discard(reactor, key);
        }
    }

    /// Ends a slice of what is to be ended.
    fn remove_slice(&mut self, reactor: &mut Reactor) {
        for key in self.removals.slice() {
            self.discard(reactor, key);
        }
        if let Some((sandbox, Some(reply))) = self.removals.over() {
            self.remove_sandbox(reactor, sandbox);
            reply();
        }
    }

    /// Forgets a sandbox and ends all that is left of it.
    fn remove_sandbox(&mut self, reactor: &mut Reactor, sandbox: u64) {
        self.listeners.close(reactor, sandbox);
        for key in [self.tcp.keys(sandbox), self.sni.keys(sandbox)].concat() {
            self.discard(reactor, key);
        }
        self.udp.remove_sandbox(&mut self.cx, reactor, sandbox);
        self.dns.remove_sandbox(reactor, sandbox);
        self.recheck.forget(sandbox);
        // Last: its policy says why packets were refused, which is reported before it goes.
        self.cx.remove_sandbox(reactor, sandbox);
        if self.cx.sandboxes() == 0 {
            self.recheck.forget_connecting();
        }
    }
}

#[cfg(test)]
mod tests;
