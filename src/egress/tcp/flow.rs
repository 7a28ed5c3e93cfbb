//! TCP flows: connect, data, end.
//!
//! One file: these are the stages of one state, and what ends a flow ends it in each of them.

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
use crate::pump::memory::{self, Excess, Look, Walk, Walked};
use crate::pump::{Duplex, Endpoint, Expired, IdleTimeouts, Progress, Side};
use crate::reactor::{FdPermit, Key, Reactor, Slab, TimerId, Wake};
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
    stage: Stage,
    timer: Option<TimerId>,
    _permit: FdPermit,
}

/// How far a flow is.
#[derive(Debug)]
enum Stage {
    Connecting(Connecting),
    /// Data flows, or what was sent before one side cut the connection is being delivered.
    Open(Duplex),
    /// While the endpoints move from one stage to the next.
    Empty,
}

/// A flow that its destination has not accepted yet. What the sandbox sends before that waits in the kernel.
#[derive(Debug)]
struct Connecting {
    downstream: Endpoint,
    upstream: Endpoint,
    since: Instant,
    deadline: Instant,
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
        self.flows.iter().filter(|(_, flow)| flow.is_connecting()).map(|(key, _)| key).collect()
    }

    /// Begins a flow that was let through by its address, or that goes to a service of the host's.
    pub(in crate::egress) fn open(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        (to, to_service): (SocketAddr, bool),
        downstream: Socket,
        permit: FdPermit,
    ) {
        let Some((upstream, epoch)) = self.connect(cx, reactor, sandbox, to) else {
            return downstream.reset();
        };
        let connecting = Connecting::new(cx, reactor, sandbox, (downstream, upstream), Vec::new());
        let flow = Flow::new(sandbox, to, connecting, epoch, permit);
        self.insert(cx, reactor, Flow { to_service, ..flow });
    }

    /// Begins a flow that was let through by the name of its server.
    pub(in crate::egress) fn adopt(&mut self, cx: &mut Cx, reactor: &mut Reactor, connection: Adopt) {
        let Adopt { sandbox, to, socket: downstream, permit, name, sent } = connection;
        let Some((upstream, epoch)) = self.connect(cx, reactor, sandbox, to) else {
            return downstream.reset();
        };
        let count = sent.len() as u64;
        if let Some(counters) = cx.counters(sandbox) {
            counters.bytes_out.fetch_add(count, Ordering::Relaxed);
        }
        let connecting = Connecting::new(cx, reactor, sandbox, (downstream, upstream), sent);
        let mut flow = Flow::new(sandbox, to, connecting, epoch, permit);
        flow.domain = Some(name);
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
            Ok(upstream) => Some((upstream, epoch)),
            Err(error) => {
                self.ports.give_back(to, sandbox);
                cx.unreachable(reactor, sandbox, to, Protocol::Tcp, &error);
                None
            }
        }
    }

    /// Has the reactor watch a flow; false if that fails and it was cut.
    fn insert(&mut self, cx: &mut Cx, reactor: &mut Reactor, flow: Flow) -> bool {
        let Flow { sandbox, to, .. } = flow;
        cx.opened(sandbox);
        let key = self.flows.insert(flow);
        reactor.join(key, sandbox);
        let Some(flow) = self.flows.get_mut(key) else {
            debug_assert!(false, "it was just inserted");
            return false;
        };
        let deadline = flow.deadline();
        reactor.rearm(&mut flow.timer, key, deadline);
        let sides = [Side::Downstream, Side::Upstream].into_iter().zip(flow.fds());
        let watched = sides
            .filter_map(|(side, fd)| fd.map(|fd| reactor.register(fd, key, side.slot())))
            .collect::<io::Result<()>>();
        if let Err(error) = watched {
            cx.unreachable(reactor, sandbox, to, Protocol::Tcp, &error);
            self.cut(cx, reactor, key);
            return false;
        }
        self.memory.on_new(sandbox, flow.fds());
        if self.memory.should_begin(cx.open(sandbox)) {
            reactor.schedule(reactor.now() + Walk::FIRST_WALK, self.memory_key);
        }
        true
    }

    /// Looks at the kernel's memory that flows hold.
    pub(in crate::egress) fn on_memory_wake(&mut self, cx: &mut Cx, reactor: &mut Reactor, wake: Wake) {
        memory::on_wake(&mut Flows { tcp: self, cx }, reactor, wake);
    }

    /// Handles a wake-up of a flow.
    pub(in crate::egress) fn on_wake(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, wake: Wake) {
        match wake {
            Wake::Ready(_, slot, readiness) => {
                // A wake-up can come after its flow has ended.
                let Some(flow) = self.flows.get_mut(key) else { return };
                let side = Side::from(slot);
                match &mut flow.stage {
                    Stage::Open(duplex) => {
                        duplex.note(side, readiness);
                        self.drive(cx, reactor, key);
                    }
                    Stage::Connecting(connecting) => {
                        connecting.endpoint(side).note(readiness);
                        match side {
                            // The sandbox has given up.
                            Side::Downstream if readiness.failed => self.cut(cx, reactor, key),
                            Side::Upstream if readiness.writable || readiness.failed => {
                                self.on_connected(cx, reactor, key);
                            }
                            _ => {}
                        }
                    }
                    Stage::Empty => {}
                }
            }
            Wake::Rescheduled(_) => self.drive(cx, reactor, key),
            Wake::Timer(_) => self.on_timer(cx, reactor, key),
        }
    }

    /// The connect under way has succeeded or failed.
    fn on_connected(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Stage::Connecting(connecting) = &flow.stage else {
            debug_assert!(false, "only a flow that is being connected gets connected");
            return;
        };
        if let Err(error) = connecting.upstream.pending_error() {
            let (sandbox, to) = (flow.sandbox, flow.to);
            self.cut(cx, reactor, key);
            return cx.unreachable(reactor, sandbox, to, Protocol::Tcp, &error);
        }
        // The address may belong to another machine than before: nothing is passed on before that is known.
        if !self.check_again(cx, reactor, key) {
            return;
        }
        let Some(flow) = self.flows.get_mut(key) else {
            debug_assert!(false, "a flow that was checked and let through is there");
            return;
        };
        let Some(half_closed) = cx.settings(flow.sandbox).map(|settings| settings.half_closed) else {
            return;
        };
        flow.relay(IdleTimeouts { idle: None, half_closed }, reactor.now());
        let deadline = flow.deadline();
        reactor.rearm(&mut flow.timer, key, deadline);
        self.drive(cx, reactor, key);
    }

    /// Moves data.
    fn drive(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        if !self.is_still_allowed(cx, reactor, key) {
            return;
        }
        let Some(flow) = self.flows.get_mut(key) else {
            debug_assert!(false, "a flow that is still allowed is there");
            return;
        };
        // It is still being connected.
        let Stage::Open(duplex) = &mut flow.stage else { return };
        let sandbox = flow.sandbox;
        let Some(budget) = cx.allowance(reactor, sandbox, key) else { return };
        let (progress, moved) = duplex.advance(now, budget, cx.scratch());
        if moved.total() > 0
            && let Some(counters) = cx.counters(sandbox)
        {
            counters.bytes_out.fetch_add(moved.up, Ordering::Relaxed);
            counters.bytes_in.fetch_add(moved.down, Ordering::Relaxed);
        }
        match progress {
            Progress::Wait | Progress::Again => reactor.rearm(&mut flow.timer, key, duplex.deadline()),
            Progress::Closed => self.close(cx, reactor, key),
            Progress::Cut => self.cut(cx, reactor, key),
        }
        cx.spend(sandbox, moved.total());
        if progress == Progress::Again {
            reactor.reschedule(key);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        // A wake-up can come after its flow has ended.
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.timer = None;
        match &mut flow.stage {
            Stage::Connecting(_) => {
                let (sandbox, to) = (flow.sandbox, flow.to);
                self.cut(cx, reactor, key);
                let error = io::Error::from_raw_os_error(libc::ETIMEDOUT);
                cx.unreachable(reactor, sandbox, to, Protocol::Tcp, &error);
            }
            Stage::Open(duplex) => match duplex.on_deadline(reactor.now()) {
                Expired::Drain => self.drive(cx, reactor, key),
                Expired::NotYet => reactor.rearm(&mut flow.timer, key, duplex.deadline()),
                Expired::Idle => self.cut(cx, reactor, key),
            },
            Stage::Empty => {}
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
        // It may have ended before its turn to be checked, or before its wake-up.
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

    /// Ends a flow in order.
    fn close(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.take(cx, reactor, key) else { return };
        let Stage::Open(duplex) = flow.stage else {
            debug_assert!(false, "only a relay ends in order");
            return;
        };
        if duplex.upstream_ended_first() {
            // The port isn't in TIME_WAIT on this side.
            self.ports.give_back(flow.to, flow.sandbox);
        } else {
            self.ports.linger(reactor.now(), flow.to, flow.sandbox);
        }
        duplex.close(cx.scratch());
    }

    /// Ends a flow with a reset on both sides.
    pub(in crate::egress) fn cut(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        // It may have ended before its turn to be cut.
        let Some(flow) = self.take(cx, reactor, key) else { return };
        self.ports.give_back(flow.to, flow.sandbox);
        match flow.stage {
            Stage::Connecting(Connecting { downstream, upstream, .. }) => {
                downstream.reset(cx.scratch());
                upstream.reset(cx.scratch());
            }
            Stage::Open(duplex) => duplex.reset(cx.scratch()),
            Stage::Empty => {}
        }
    }

    fn take(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) -> Option<Flow> {
        let mut flow = self.flows.remove(key)?;
        reactor.rearm(&mut flow.timer, key, None);
        flow.fds().into_iter().flatten().for_each(|fd| reactor.deregister(fd));
        cx.closed(flow.sandbox);
        Some(flow)
    }
}

/// The flows that the walk over their memory looks at.
struct Flows<'a> {
    tcp: &'a mut Tcp,
    cx: &'a mut Cx,
}

impl Walked for Flows<'_> {
    fn walk(&mut self) -> &mut Walk {
        &mut self.tcp.memory
    }

    fn walk_key(&self) -> Key {
        self.tcp.memory_key
    }

    fn keys(&self) -> Vec<Key> {
        self.tcp.flows.iter().map(|(key, _)| key).collect()
    }

    fn sandbox_count(&self) -> usize {
        self.cx.sandboxes()
    }

    fn max_open(&mut self) -> usize {
        self.cx.max_open()
    }

    fn look(&mut self, key: Key) -> Option<Look<'_>> {
        let flow = self.tcp.flows.get_mut(key)?;
        Some(Look { sandbox: flow.sandbox, sockets: flow.fds(), active: flow.active()? })
    }

    fn report(&mut self, _: Instant, sandbox: u64, excess: Excess) {
        let kind = match excess {
            Excess::Over => LimitKind::Memory,
            Excess::Twice => LimitKind::TwiceTheMemory,
        };
        self.cx.limit(sandbox, kind);
    }

    fn cut(&mut self, reactor: &mut Reactor, key: Key) {
        self.tcp.cut(self.cx, reactor, key);
    }
}

impl Flow {
    fn new(sandbox: u64, to: SocketAddr, connecting: Connecting, epoch: Epoch, permit: FdPermit) -> Self {
        Self {
            sandbox,
            to,
            domain: None,
            to_service: false,
            epoch,
            stage: Stage::Connecting(connecting),
            timer: None,
            _permit: permit,
        }
    }

    /// Relays from now on: the destination has accepted the connection.
    fn relay(&mut self, timeouts: IdleTimeouts, now: Instant) {
        match std::mem::replace(&mut self.stage, Stage::Empty) {
            Stage::Connecting(Connecting { downstream, upstream, .. }) => {
                self.stage = Stage::Open(Duplex::new(downstream, upstream, timeouts, now));
            }
            other => self.stage = other,
        }
    }

    fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting(_))
    }

    /// When something last moved.
    fn active(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Connecting(connecting) => Some(connecting.since),
            Stage::Open(duplex) => Some(duplex.active()),
            Stage::Empty => None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Connecting(connecting) => Some(connecting.deadline),
            Stage::Open(duplex) => duplex.deadline(),
            Stage::Empty => None,
        }
    }

    fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        match &self.stage {
            Stage::Connecting(Connecting { downstream, upstream, .. }) => {
                [Some(downstream.as_fd()), Some(upstream.as_fd())]
            }
            Stage::Open(duplex) => duplex.fds(),
            Stage::Empty => [None, None],
        }
    }
}

impl Connecting {
    /// `sent` is what was read of the connection already.
    fn new(
        cx: &mut Cx,
        reactor: &Reactor,
        sandbox: u64,
        (downstream, upstream): (Socket, Socket),
        sent: Vec<u8>,
    ) -> Self {
        let since = reactor.now();
        let timeout = cx.settings(sandbox).map_or(Duration::ZERO, |settings| settings.connect);
        let mut upstream = Endpoint::plain(upstream);
        if !sent.is_empty() {
            upstream.enqueue(sent, cx.scratch());
        }
        Self { downstream: Endpoint::plain(downstream), upstream, since, deadline: since + timeout }
    }

    fn endpoint(&mut self, side: Side) -> &mut Endpoint {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
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
