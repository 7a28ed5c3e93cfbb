//! TCP flows: connect, data, end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::egress::cx::{Cx, Epoch};
use crate::egress::kinds::{MEMORY, TCP_FLOW};
use crate::egress::limit::LimitKind;
use crate::egress::local_ports::{self, LocalPorts};
use crate::egress::sni::Adopt;
use crate::policy::Protocol;
use crate::pump::memory::{self, Excess, Next, Walk};
use crate::pump::{DRAIN, DRAIN_STEP, End, Exchange, Moved, Turn};
use crate::reactor::{Key, Lane, Permit, Reactor, Readiness, Slab, TimerId, Wake};
use crate::sys::socket::{self, Family, Socket};

/// One TCP connection of a sandbox.
#[derive(Debug)]
struct Flow {
    sandbox: u64,
    /// Its destination.
    to: SocketAddr,
    /// The domain that it was let through for, if no range allows it.
    domain: Option<Box<str>>,
    /// Whether it goes to a service of the host, which no policy denies.
    to_service: bool,
    /// The policy and the routing that it was checked by last.
    epoch: Epoch,
    front: End,
    back: End,
    /// Whether the destination has accepted it. What the sandbox sends before that waits in the kernel.
    connected: bool,
    exchange: Exchange,
    timer: Option<TimerId>,
    /// When something last moved.
    active: Instant,
    /// The destination closed first, so that the port isn't in TIME_WAIT here.
    closed_remotely_first: bool,
    /// When a drain must be over.
    drained_by: Option<Instant>,
    _permit: Permit,
}

/// The TCP flows of all sandboxes.
pub(in crate::egress) struct Tcp {
    flows: Slab<Flow>,
    ports: LocalPorts,
    /// Looks at the kernel's memory that all flows hold, under that key.
    memory: Walk,
    memory_key: Key,
}

impl Tcp {
    pub(in crate::egress) fn new() -> Self {
        Self {
            flows: Slab::new(TCP_FLOW),
            ports: LocalPorts::new(local_ports::of_host()),
            memory: Walk::new(),
            memory_key: Slab::new(MEMORY).insert(()),
        }
    }

    pub(in crate::egress) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is no room for another flow.
    pub(in crate::egress) fn is_full(&self) -> bool {
        self.flows.is_full()
    }

    /// A sandbox's flows.
    pub(in crate::egress) fn keys(&self, sandbox: u64) -> Vec<Key> {
        self.flows.iter().filter(|(_, flow)| flow.sandbox == sandbox).map(|(key, _)| key).collect()
    }

    /// The flows that are not connected yet.
    pub(in crate::egress) fn connecting(&self) -> Vec<Key> {
        self.flows.iter().filter(|(_, flow)| !flow.connected).map(|(key, _)| key).collect()
    }

    /// Begins a flow that was let through by its address, or that goes to a service of the host's.
    pub(in crate::egress) fn open(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        (to, to_service): (SocketAddr, bool),
        front: Socket,
        permit: Permit,
    ) {
        let Some((back, epoch)) = self.connect(cx, reactor, sandbox, to) else { return front.reset() };
        let flow = Flow::new(sandbox, to, (front, back), epoch, reactor.now(), permit);
        self.insert(cx, reactor, Flow { to_service, ..flow });
    }

    /// Begins a flow that was let through by the name of its server.
    pub(in crate::egress) fn adopt(&mut self, cx: &mut Cx, reactor: &mut Reactor, connection: Adopt) {
        let Adopt { sandbox, to, socket: front, permit, name, sent } = connection;
        let Some((back, epoch)) = self.connect(cx, reactor, sandbox, to) else { return front.reset() };
        let mut flow = Flow::new(sandbox, to, (front, back), epoch, reactor.now(), permit);
        flow.domain = Some(name);
        let count = sent.len() as u64;
        if let Some(counters) = cx.counters(sandbox) {
            counters.bytes_out.fetch_add(count, Ordering::Relaxed);
        }
        flow.back.enqueue(sent, cx.scratch());
        if self.insert(cx, reactor, flow) {
            cx.spend(sandbox, count);
        }
    }

    /// Begins to connect to a destination, from a local port of the sandbox's share.
    fn connect(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
    ) -> Option<(Socket, Epoch)> {
        let epoch = cx.epoch(sandbox)?;
        if !self.ports.take(reactor.now(), to, sandbox, cx.sandboxes()) {
            cx.limit(sandbox, LimitKind::LocalPorts);
            return None;
        }
        match connect(to) {
            Ok(back) => Some((back, epoch)),
            Err(error) => {
                self.ports.give_back(to, sandbox);
                cx.unreachable(reactor, sandbox, to, Protocol::Tcp, &error);
                None
            }
        }
    }

    /// Has the reactor watch a flow; false if that fails and it was cut.
    fn insert(&mut self, cx: &mut Cx, reactor: &mut Reactor, flow: Flow) -> bool {
        let Flow { sandbox, to, active: now, .. } = flow;
        let limit = now + cx.settings(sandbox).map_or(Duration::ZERO, |settings| settings.connect);
        cx.opened(sandbox);
        let key = self.flows.insert(flow);
        reactor.join(key, sandbox);
        let Some(flow) = self.flows.get_mut(key) else { return false };
        flow.timer = Some(reactor.schedule(limit, key));
        let watched = reactor
            .register(flow.front.as_fd(), key, Lane::Front)
            .and_then(|()| reactor.register(flow.back.as_fd(), key, Lane::Back));
        if let Err(error) = watched {
            cx.unreachable(reactor, sandbox, to, Protocol::Tcp, &error);
            self.cut(cx, reactor, key);
            return false;
        }
        self.memory.begun(sandbox, flow.ends());
        if self.memory.wants(cx.open(sandbox)) {
            reactor.schedule(now + Walk::FIRST, self.memory_key);
        }
        true
    }

    /// Looks at the kernel's memory that flows hold.
    pub(in crate::egress) fn on_memory_wake(&mut self, cx: &mut Cx, reactor: &mut Reactor, wake: Wake) {
        if let Wake::Timer(_) = wake {
            self.memory.begin(self.flows.iter().map(|(key, _)| key), cx.sandboxes());
        }
        let mut steps = 0;
        loop {
            match self.memory.next(&mut steps) {
                Next::Look(key) => {
                    if let Some(flow) = self.flows.get_mut(key) {
                        self.memory.looked(flow.sandbox, key, memory::held(flow.ends()), flow.active);
                    }
                    for (sandbox, excess) in self.memory.judge() {
                        cx.limit(
                            sandbox,
                            match excess {
                                Excess::Twice => LimitKind::TwiceTheMemory,
                                _ => LimitKind::Memory,
                            },
                        );
                    }
                }
                Next::Shrink(key, size) => {
                    if let Some(flow) = self.flows.get_mut(key) {
                        memory::shrink(flow.ends(), size);
                    }
                }
                Next::Cut(key) => self.cut(cx, reactor, key),
                Next::Later => return reactor.again(self.memory_key),
                Next::Over(pause) => {
                    if self.memory.wants(cx.max_open()) {
                        reactor.schedule(reactor.now() + pause, self.memory_key);
                    }
                    return;
                }
            }
        }
    }

    /// Handles a wake-up of a flow.
    pub(in crate::egress) fn on_wake(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, wake: Wake) {
        match wake {
            Wake::Ready(_, lane, readiness) => {
                // A wake-up can come after its flow has ended.
                let Some(flow) = self.flows.get_mut(key) else { return };
                flow.note(lane, readiness);
                match lane {
                    _ if flow.connected => self.drive(cx, reactor, key),
                    // The sandbox has given up.
                    Lane::Front if readiness.failed => self.cut(cx, reactor, key),
                    Lane::Back if readiness.writable || readiness.failed => {
                        self.on_connected(cx, reactor, key)
                    }
                    _ => {}
                }
            }
            Wake::Again(_) => self.drive(cx, reactor, key),
            Wake::Timer(_) => self.on_timer(cx, reactor, key),
        }
    }

    /// The connect under way has succeeded or failed.
    fn on_connected(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if let Err(error) = flow.back.pending_error() {
            let (sandbox, to) = (flow.sandbox, flow.to);
            self.cut(cx, reactor, key);
            return cx.unreachable(reactor, sandbox, to, Protocol::Tcp, &error);
        }
        // The address may belong to another machine than before: nothing is passed on before that is known.
        if !self.check_again(cx, reactor, key) {
            return;
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.connected = true;
        flow.active = reactor.now();
        if let Some(timer) = flow.timer.take() {
            reactor.cancel(timer);
        }
        self.drive(cx, reactor, key);
    }

    /// Moves data.
    fn drive(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        if !self.is_still_allowed(cx, reactor, key) {
            return;
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        if !flow.connected {
            return;
        }
        let sandbox = flow.sandbox;
        let Some(budget) = cx.allowance(reactor, sandbox, key) else { return };
        let mut moved = Moved::default();
        let turn =
            flow.exchange.run_at_most(&mut flow.front, &mut flow.back, cx.scratch(), budget, &mut moved);
        if moved.up + moved.down > 0 {
            if let Some(counters) = cx.counters(sandbox) {
                counters.bytes_out.fetch_add(moved.up, Ordering::Relaxed);
                counters.bytes_in.fetch_add(moved.down, Ordering::Relaxed);
            }
            flow.active = now;
        }
        let (near, far) = (flow.exchange.has_ended(Lane::Front), flow.exchange.has_ended(Lane::Back));
        flow.closed_remotely_first |= far && !near;
        let mut again = false;
        match turn {
            Turn::Wait if flow.exchange.is_half_closed() && flow.timer.is_none() => {
                let Some(settings) = cx.settings(sandbox) else { return };
                flow.timer = Some(reactor.schedule(now + settings.half_closed, key));
            }
            Turn::Wait => {}
            Turn::Again => again = true,
            Turn::Closed => {
                let Some(flow) = self.take(cx, reactor, key) else { return };
                if flow.closed_remotely_first {
                    self.ports.give_back(flow.to, sandbox);
                } else {
                    self.ports.linger(now, flow.to, sandbox);
                }
                flow.front.close(cx.scratch());
                flow.back.close(cx.scratch());
            }
            Turn::Drain if now < *flow.drained_by.get_or_insert(now + DRAIN) => {
                if let Some(old) = flow.timer.replace(reactor.schedule(now + DRAIN_STEP, key)) {
                    reactor.cancel(old);
                }
                again = flow.exchange.has_more();
            }
            Turn::Drain | Turn::Cut => self.cut(cx, reactor, key),
        }
        cx.spend(sandbox, moved.up + moved.down);
        if again {
            reactor.again(key);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Some(half_closed) = cx.settings(flow.sandbox).map(|settings| settings.half_closed) else {
            return;
        };
        flow.timer = None;
        if !flow.connected {
            let (sandbox, to) = (flow.sandbox, flow.to);
            self.cut(cx, reactor, key);
            let error = io::Error::from_raw_os_error(libc::ETIMEDOUT);
            return cx.unreachable(reactor, sandbox, to, Protocol::Tcp, &error);
        }
        if flow.exchange.is_failing() {
            return self.drive(cx, reactor, key);
        }
        let at = flow.active + half_closed;
        if at <= reactor.now() {
            self.cut(cx, reactor, key);
        } else {
            flow.timer = Some(reactor.schedule(at, key));
        }
    }

    /// Whether a flow may go on: if the policy or the host's routing has changed since it was checked, it is checked
    /// now, and reset if it is denied.
    pub(in crate::egress) fn is_still_allowed(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        key: Key,
    ) -> bool {
        let Some(flow) = self.flows.get_mut(key) else { return false };
        cx.is_current(flow.sandbox, flow.epoch) || self.check_again(cx, reactor, key)
    }

    /// Checks a flow, and resets it if it is denied.
    fn check_again(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) -> bool {
        let Some(flow) = self.flows.get_mut(key) else { return false };
        if flow.to_service {
            return true;
        }
        let Some(epoch) = cx.epoch(flow.sandbox) else { return false };
        let verdict = match &flow.domain {
            None => cx.check(reactor, flow.sandbox, flow.to, Protocol::Tcp),
            Some(name) => cx.check_domain(reactor, flow.sandbox, flow.to, name),
        };
        if verdict.is_allowed() {
            flow.epoch = epoch;
        } else {
            self.cut(cx, reactor, key);
        }
        verdict.is_allowed()
    }

    /// Ends a flow with a reset on both sides.
    pub(in crate::egress) fn cut(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.take(cx, reactor, key) else { return };
        self.ports.give_back(flow.to, flow.sandbox);
        flow.front.reset(cx.scratch());
        flow.back.reset(cx.scratch());
    }

    fn take(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) -> Option<Flow> {
        let mut flow = self.flows.remove(key)?;
        if let Some(timer) = flow.timer.take() {
            reactor.cancel(timer);
        }
        reactor.deregister(flow.front.as_fd());
        reactor.deregister(flow.back.as_fd());
        cx.closed(flow.sandbox);
        Some(flow)
    }
}

impl Flow {
    fn new(
        sandbox: u64,
        to: SocketAddr,
        (front, back): (Socket, Socket),
        epoch: Epoch,
        now: Instant,
        permit: Permit,
    ) -> Self {
        Self {
            sandbox,
            to,
            domain: None,
            to_service: false,
            epoch,
            front: End::plain(front),
            back: End::plain(back),
            connected: false,
            exchange: Exchange::default(),
            timer: None,
            active: now,
            closed_remotely_first: false,
            drained_by: None,
            _permit: permit,
        }
    }

    fn ends(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.front.as_fd()), Some(self.back.as_fd())]
    }

    fn note(&mut self, lane: Lane, readiness: Readiness) {
        let end = match lane {
            Lane::Front => &mut self.front,
            Lane::Back => &mut self.back,
        };
        end.note(readiness);
        if self.connected {
            self.exchange.note(lane, readiness);
        }
    }
}

/// Begins to connect to a destination, from the host's own namespace.
fn connect(to: SocketAddr) -> io::Result<Socket> {
    let fd = socket::tcp(to.is_ipv6())?;
    socket::set_no_delay(fd.as_fd())?;
    socket::set_keep_alive(fd.as_fd())?;
    socket::connect(fd.as_fd(), to)?;
    Ok(Socket::new(fd, Family::Tcp))
}

#[cfg(test)]
mod tests;
