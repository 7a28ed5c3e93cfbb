//! TCP flows: accept, verdict, connect, data, end.
//!
//! The connection of the sandbox is accepted before anything is known of the far end, and so its connect()
//! succeeds at once. What is denied, refused, unreachable or silent for too long shows as a reset.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::denials::Denied;
use super::listener::REST;
use super::outbound::Outbound;
use super::sweep::Asked;
use crate::limits;
use crate::policy::Protocol;
use crate::pump::memory::{self, Excess, Next, Walk};
use crate::pump::{DRAIN, DRAIN_STEP, End, Exchange, Moved, Turn};
use crate::reactor::{Key, Lane, Permit, Reactor, Readiness, TimerId, Use, Wake};
use crate::sys::socket::{self, Family, Socket};

/// How many connections one listener accepts before others get a turn.
const ACCEPTS: usize = 64;

/// One TCP connection of a sandbox.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) sandbox: u64,
    /// Where it goes: what the policy is asked about.
    pub(super) to: SocketAddr,
    /// The domain by which it was let through, if no range allows it.
    pub(super) domain: Option<Box<str>>,
    /// Whether it goes to a service of the host's, about which no policy is asked.
    pub(super) to_service: bool,
    /// By what it was asked about last.
    pub(super) asked: Asked,
    front: End,
    back: End,
    /// Whether the far end has taken it. What the sandbox sends before that waits in the kernel.
    connected: bool,
    exchange: Exchange,
    timer: Option<TimerId>,
    /// When something last moved.
    active: Instant,
    /// The far end was the first to close, and the port isn't in TIME_WAIT here.
    far_first: bool,
    /// When a drain must be over.
    drained_by: Option<Instant>,
    _permit: Permit,
}

impl Outbound {
    pub(super) fn wake_listener(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        match wake {
            Wake::Timer(_) => listener.rest = None,
            _ if listener.rest.is_some() => return,
            _ => {}
        }
        self.accept(reactor, key);
    }

    fn accept(&mut self, reactor: &mut Reactor, key: Key) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get_mut(key) else { return };
            let (sandbox, service) = (listener.sandbox, listener.service);
            match listener.accept() {
                Ok(fd) => self.admit(reactor, sandbox, fd, service),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // There is nothing to take a connection with: they wait in the queue.
                Err(error) if socket::is_shortage(&error) => {
                    listener.rest = Some(reactor.schedule(reactor.now() + REST, key));
                    return self.report_once(sandbox, "can't be accepted", || {
                        format!("egress: further connections can't be accepted ({error}) and wait")
                    });
                }
                // The errors of a connection that was over before it was accepted: see accept(2).
                Err(_) => {}
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.again(key);
    }

    /// A connection of the sandbox's. If it isn't allowed it is reset at once.
    fn admit(&mut self, reactor: &mut Reactor, sandbox: u64, fd: OwnedFd, service: Option<SocketAddr>) {
        let refuse = |fd: OwnedFd| socket::disconnect(fd.as_fd());
        // It was delivered to us whatever its destination, and has that for its own address.
        let Ok(to) = service.map_or_else(|| socket::local_address(fd.as_fd()), Ok) else { return refuse(fd) };
        let domain = service.is_none() && self.may_be_domain(reactor, sandbox, to);
        // What leads to a service leads nowhere else: that is for no policy to decide.
        if !domain
            && service.is_none()
            && self
                .verdict_on(reactor, sandbox, to, Protocol::Tcp)
                .is_none_or(|verdict| !verdict.is_allowed())
        {
            return refuse(fd);
        }
        let now = reactor.now();
        if let Some(Err(why)) = self.gates.get_mut(&sandbox).map(|gate| gate.pace.begin(now)) {
            refuse(fd);
            return self.limited(sandbox, why);
        }
        if self.gates.get(&sandbox).is_none_or(|gate| !gate.has_room()) || self.flows.is_full() {
            refuse(fd);
            return self.limited(sandbox, "are refused: as many are open as may be");
        }
        let Some(permit) = self.budget.acquire(sandbox, Use::Egress, limits::TCP_FLOW) else {
            refuse(fd);
            return self.limited(sandbox, "are refused: the library's budget of descriptors is used up");
        };
        if domain {
            return self.greet(reactor, sandbox, to, fd, permit);
        }
        let front = Socket::new(fd, Family::Tcp);
        let opened = self.open_flow(reactor, sandbox, to, front, permit, None);
        if let Some(flow) = opened.and_then(|key| self.flows.get_mut(key)) {
            flow.to_service = service.is_some();
        }
    }

    /// Begins a flow that was let through. One to a domain comes with what was read of it.
    pub(super) fn open_flow(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        front: Socket,
        permit: Permit,
        domain: Option<(Box<str>, Vec<u8>)>,
    ) -> Option<Key> {
        let sandboxes = self.gates.len();
        if !self.gates.contains_key(&sandbox) || !self.tcp_ports.take(reactor.now(), to, sandbox, sandboxes) {
            front.reset();
            self.limited(
                sandbox,
                "to a destination are refused: its share of the host's local ports is in use",
            );
            return None;
        }
        match begin(to) {
            Ok(back) => self.insert(reactor, sandbox, to, (front, back), permit, domain),
            Err(error) => {
                front.reset();
                self.tcp_ports.give_back(to, sandbox);
                self.failed(reactor, sandbox, to, Protocol::Tcp, &error);
                None
            }
        }
    }

    fn insert(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        (front, back): (Socket, Socket),
        permit: Permit,
        domain: Option<(Box<str>, Vec<u8>)>,
    ) -> Option<Key> {
        let gate = self.gates.get_mut(&sandbox)?;
        let now = reactor.now();
        gate.opened();
        let limit = now + gate.settings.connect;
        let mut back = End::plain(back);
        let mut sent = 0;
        let domain = domain.map(|(name, early)| {
            sent = early.len() as u64;
            gate.counters.bytes_out.fetch_add(sent, Ordering::Relaxed);
            back.enqueue(early, &mut self.scratch);
            name
        });
        let key = self.flows.insert(Flow {
            sandbox,
            to,
            domain,
            to_service: false,
            asked: Asked { policy: gate.generation, routes: self.routes.generation() },
            front: End::plain(front),
            back,
            connected: false,
            exchange: Exchange::default(),
            timer: None,
            active: now,
            far_first: false,
            drained_by: None,
            _permit: permit,
        });
        reactor.join(key, sandbox);
        let flow = self.flows.get_mut(key)?;
        flow.timer = Some(reactor.schedule(limit, key));
        let watched = reactor
            .register(flow.front.as_fd(), key, Lane::Front)
            .and_then(|()| reactor.register(flow.back.as_fd(), key, Lane::Back));
        if let Err(error) = watched {
            self.failed(reactor, sandbox, to, Protocol::Tcp, &error);
            self.cut(reactor, key);
            return None;
        }
        self.memory.0.begun(sandbox, flow.ends());
        let open = self.gates.get(&sandbox).map_or(0, |gate| gate.open);
        if self.memory.0.wants(open) {
            reactor.schedule(now + Walk::FIRST, self.memory.1);
        }
        self.spend(reactor, sandbox, sent);
        Some(key)
    }

    /// Looks at the kernel's memory that flows hold.
    pub(super) fn walk(&mut self, reactor: &mut Reactor, wake: Wake) {
        if let Wake::Timer(_) = wake {
            self.memory.0.begin(self.flows.iter().map(|(key, _)| key), self.gates.len());
        }
        let mut steps = 0;
        loop {
            match self.memory.0.next(&mut steps) {
                Next::Look(key) => {
                    if let Some(flow) = self.flows.get_mut(key) {
                        self.memory.0.looked(flow.sandbox, key, memory::held(flow.ends()), flow.active);
                    }
                    for (sandbox, excess) in self.memory.0.judge() {
                        let what = match excess {
                            Excess::Twice => {
                                "egress: its connections hold twice as much of the host's memory as they may, and some \
                                 are reset"
                            }
                            _ => {
                                "egress: its connections hold too much of the host's memory and get small buffers"
                            }
                        };
                        self.report_once(sandbox, what, || what.to_owned());
                    }
                }
                Next::Shrink(key, size) => {
                    if let Some(flow) = self.flows.get_mut(key) {
                        memory::shrink(flow.ends(), size);
                    }
                }
                Next::Cut(key) => self.cut(reactor, key),
                Next::Later => return reactor.again(self.memory.1),
                Next::Over(pause) => {
                    let most = self.gates.values().map(|gate| gate.open).max().unwrap_or(0);
                    if self.memory.0.wants(most) {
                        reactor.schedule(reactor.now() + pause, self.memory.1);
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn wake_flow(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        match wake {
            Wake::Ready(_, lane, readiness) => {
                let Some(flow) = self.flows.get_mut(key) else { return };
                flow.note(lane, readiness);
                match lane {
                    _ if flow.connected => self.drive(reactor, key),
                    // The sandbox has given up.
                    Lane::Front if readiness.failed => self.cut(reactor, key),
                    Lane::Back if readiness.writable || readiness.failed => self.connected(reactor, key),
                    _ => {}
                }
            }
            Wake::Again(_) => self.drive(reactor, key),
            Wake::Timer(_) => self.flow_timer(reactor, key),
        }
    }

    /// The connect under way has ended, one way or the other.
    fn connected(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        if let Err(error) = flow.back.pending_error() {
            let (sandbox, to) = (flow.sandbox, flow.to);
            self.cut(reactor, key);
            return self.failed(reactor, sandbox, to, Protocol::Tcp, &error);
        }
        // The address may be another's than it was: nothing is passed on before that is known.
        if !self.judge_again(reactor, key) {
            return;
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        flow.connected = true;
        flow.active = reactor.now();
        if let Some(timer) = flow.timer.take() {
            reactor.cancel(timer);
        }
        self.drive(reactor, key);
    }

    /// Moves data.
    fn drive(&mut self, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        if !self.is_still_allowed(reactor, key) {
            return;
        }
        let Some(flow) = self.flows.get_mut(key) else { return };
        if !flow.connected {
            return;
        }
        let sandbox = flow.sandbox;
        let Some(budget) = self.allowance(reactor, sandbox, key) else { return };
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Some(gate) = self.gates.get(&sandbox) else { return };
        let mut moved = Moved::default();
        let turn =
            flow.exchange.run_at_most(&mut flow.front, &mut flow.back, &mut self.scratch, budget, &mut moved);
        if moved.up + moved.down > 0 {
            gate.counters.bytes_out.fetch_add(moved.up, Ordering::Relaxed);
            gate.counters.bytes_in.fetch_add(moved.down, Ordering::Relaxed);
            flow.active = now;
        }
        let (near, far) = (flow.exchange.has_ended(Lane::Front), flow.exchange.has_ended(Lane::Back));
        flow.far_first |= far && !near;
        let mut again = false;
        match turn {
            Turn::Wait if flow.exchange.is_half_closed() && flow.timer.is_none() => {
                flow.timer = Some(reactor.schedule(now + gate.settings.half_closed, key));
            }
            Turn::Wait => {}
            Turn::Again => again = true,
            Turn::Closed => {
                let Some(flow) = self.take_out(reactor, key) else { return };
                if flow.far_first {
                    self.tcp_ports.give_back(flow.to, sandbox);
                } else {
                    self.tcp_ports.linger(now, flow.to, sandbox);
                }
                flow.front.close(&mut self.scratch);
                flow.back.close(&mut self.scratch);
            }
            Turn::Drain if now < *flow.drained_by.get_or_insert(now + DRAIN) => {
                if let Some(old) = flow.timer.replace(reactor.schedule(now + DRAIN_STEP, key)) {
                    reactor.cancel(old);
                }
                again = flow.exchange.has_more();
            }
            Turn::Drain | Turn::Cut => self.cut(reactor, key),
        }
        self.spend(reactor, sandbox, moved.up + moved.down);
        if again {
            reactor.again(key);
        }
    }

    fn flow_timer(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.flows.get_mut(key) else { return };
        let Some(gate) = self.gates.get(&flow.sandbox) else { return };
        flow.timer = None;
        if !flow.connected {
            let (sandbox, to) = (flow.sandbox, flow.to);
            self.cut(reactor, key);
            return self.failed(
                reactor,
                sandbox,
                to,
                Protocol::Tcp,
                &io::Error::from_raw_os_error(libc::ETIMEDOUT),
            );
        }
        if flow.exchange.is_failing() {
            return self.drive(reactor, key);
        }
        let at = flow.active + gate.settings.half_closed;
        if at <= reactor.now() {
            self.cut(reactor, key);
        } else {
            flow.timer = Some(reactor.schedule(at, key));
        }
    }

    /// The flows that the far end hasn't taken yet.
    pub(super) fn connecting(&self) -> Vec<Key> {
        self.flows.iter().filter(|(_, flow)| !flow.connected).map(|(key, _)| key).collect()
    }

    /// Ends a flow with a reset on both sides.
    pub(super) fn cut(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.take_out(reactor, key) else { return };
        self.tcp_ports.give_back(flow.to, flow.sandbox);
        flow.front.reset(&mut self.scratch);
        flow.back.reset(&mut self.scratch);
    }

    /// Resets every flow of which that is true.
    pub(super) fn cut_flows(&mut self, reactor: &mut Reactor, mut which: impl FnMut(&Flow) -> bool) {
        let found = self.flows.iter().filter(|(_, flow)| which(flow)).map(|(key, _)| key);
        for key in found.collect::<Vec<_>>() {
            self.cut(reactor, key);
        }
    }

    fn take_out(&mut self, reactor: &mut Reactor, key: Key) -> Option<Flow> {
        let mut flow = self.flows.remove(key)?;
        if let Some(timer) = flow.timer.take() {
            reactor.cancel(timer);
        }
        reactor.deregister(flow.front.as_fd());
        reactor.deregister(flow.back.as_fd());
        if let Some(gate) = self.gates.get_mut(&flow.sandbox) {
            gate.closed();
        }
        Some(flow)
    }

    /// The far end didn't take it.
    pub(super) fn failed(
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

    /// A flow was refused; `what` goes on after "further connections".
    pub(super) fn limited(&mut self, sandbox: u64, what: &'static str) {
        self.report_once(sandbox, what, || format!("egress: further connections {what}"));
    }

    /// Tells the host of a limit, unless it was told of the same lately.
    pub(super) fn report_once(
        &mut self,
        sandbox: u64,
        limit: &'static str,
        sentence: impl FnOnce() -> String,
    ) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        if gate.reported.is_news(limit, Instant::now()) {
            self.report(sandbox, sentence());
        }
    }
}

impl Flow {
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

/// Begins to connect to the far end, from the host's own namespace.
fn begin(to: SocketAddr) -> io::Result<Socket> {
    let fd = socket::tcp(to.is_ipv6())?;
    socket::set_no_delay(fd.as_fd())?;
    socket::set_keep_alive(fd.as_fd())?;
    socket::connect(fd.as_fd(), to)?;
    Ok(Socket::new(fd, Family::Tcp))
}
