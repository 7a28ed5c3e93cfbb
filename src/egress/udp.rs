//! UDP flows: one is what goes from a port of the sandbox to a port of an address, and back.
//!
//! Each has a socket of its own in the host's namespace, connected, so that nobody else can answer. An answer goes
//! back with the far end's address as its sender. A flow ends when nothing has passed for a while, or when the far
//! end says that nobody is there (ICMP port unreachable). A datagram that finds no room anywhere is dropped, as
//! datagrams are.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::outbound::Outbound;
use super::replies::{Far, Replies};
use super::request::Request;
use super::sweep::Asked;
use crate::limits;
use crate::policy::Protocol;
use crate::reactor::{Budget, Key, Lane, Permit, Reactor, TimerId, Use, Wake};
use crate::sys::datagram::{self, Delivered};

/// How many datagrams of one socket are moved before others get a turn.
const DATAGRAMS: usize = 64;

/// How long a flow lives without a datagram: one that was never answered, and one that was.
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(180);

/// A flow that was silent for so long gives way to another when there is no room.
const GIVES_WAY: Duration = Duration::from_secs(1);
/// How many flows are looked at for one that gives way.
const LOOKS: usize = 8;

/// The local ports of UDP that are kept for each sandbox.
const KEPT_PORTS: usize = 4;

/// The local ports of UDP that the library takes, for all sandboxes. Flows beyond what is kept for each sandbox take a
/// quarter of those that the kernel hands out at most, and all a third: one that is connected is nobody else's, whatever
/// its far end, and the host's own programs need some.
pub(super) fn ports() -> Budget {
    Budget::for_egress(super::ports::of_host() / 3, KEPT_PORTS)
}

/// What the UDP kind of key names.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are flows")]
pub(super) enum Udp {
    /// Hears all datagrams of a sandbox.
    Listener(Listener),
    /// One flow.
    Flow(Flow),
}

/// A socket of G that the rules deliver datagrams to.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) sandbox: u64,
    socket: OwnedFd,
}

/// What goes from a port of the sandbox to a port of an address.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) sandbox: u64,
    /// The port of the sandbox.
    from: SocketAddr,
    /// The far end.
    pub(super) to: SocketAddr,
    /// By what it was asked about last.
    pub(super) asked: Asked,
    /// In the host's namespace.
    socket: OwnedFd,
    active: Instant,
    answered: bool,
    timer: Option<TimerId>,
    /// Its place in the order in which flows give way.
    turn: u64,
    _room: Room,
}

/// What a flow takes of what all have together.
#[derive(Debug)]
struct Room {
    _descriptor: Permit,
    /// A local port of the host's, which nobody else's UDP can have.
    _port: Permit,
}

/// One sandbox's UDP flows.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The sockets that hear the sandbox.
    pub(super) listeners: Vec<Key>,
    /// By both ends.
    flows: HashMap<(SocketAddr, SocketAddr), Key>,
    /// In the order in which they give way.
    turns: BTreeMap<u64, Key>,
    last_turn: u64,
    replies: Replies,
}

impl Table {
    fn next_turn(&mut self, key: Key) -> u64 {
        self.last_turn += 1;
        self.turns.insert(self.last_turn, key);
        self.last_turn
    }

    /// Every flow.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.flows.values().copied().collect()
    }
}

impl Outbound {
    /// A flow, if the key is one's.
    pub(super) fn udp_flow(&mut self, key: Key) -> Option<&mut Flow> {
        match self.udp.get_mut(key)? {
            Udp::Flow(flow) => Some(flow),
            Udp::Listener(_) => None,
        }
    }

    /// A flow was asked about.
    pub(super) fn udp_was_asked(&mut self, key: Key, asked: Asked) {
        if let Some(flow) = self.udp_flow(key) {
            flow.asked = asked;
        }
    }

    /// Hears the datagrams of a sandbox that the rules deliver to this socket.
    pub(super) fn add_udp(&mut self, reactor: &mut Reactor, sandbox: u64, socket: OwnedFd) {
        let key = self.udp.insert(Udp::Listener(Listener { sandbox, socket }));
        reactor.join(key, sandbox);
        let Some(Udp::Listener(listener)) = self.udp.get_mut(key) else { return };
        let watched = reactor.register(listener.socket.as_fd(), key, Lane::Front);
        match (watched, self.gates.get_mut(&sandbox)) {
            (Ok(()), Some(gate)) => gate.udp.listeners.push(key),
            (watched, _) => {
                self.udp.remove(key);
                if let Err(error) = watched {
                    self.report(sandbox, format!("egress over UDP can't be watched ({error}) and is closed"));
                }
            }
        }
    }

    /// Ends all of a sandbox's UDP.
    pub(super) fn remove_udp(&mut self, reactor: &mut Reactor, sandbox: u64) {
        let Some(gate) = self.gates.get(&sandbox) else { return };
        let (listeners, flows) = (gate.udp.listeners.clone(), gate.udp.keys());
        for key in flows {
            self.end_udp(reactor, key);
        }
        for key in listeners {
            if let Some(Udp::Listener(listener)) = self.udp.remove(key) {
                reactor.deregister(listener.socket.as_fd());
            }
        }
    }

    /// Sockets of G have come for answers. Flows that wait for one that didn't come end.
    pub(crate) fn datagram_sockets(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        ipv6: bool,
        sockets: Vec<OwnedFd>,
    ) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        let arrival = gate.udp.replies.arrived(ipv6, sockets.into_iter().next());
        // Their answers may have come long ago.
        arrival.served.into_iter().for_each(|key| reactor.again(key));
        if !arrival.lost.is_empty() {
            arrival.lost.into_iter().for_each(|key| self.end_udp(reactor, key));
            self.limited(sandbox, "are refused: the library's budget of descriptors is used up");
        }
    }

    pub(super) fn wake_udp(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        match (self.udp.get_mut(key), wake) {
            (Some(Udp::Listener(_)), _) => self.hear(reactor, key),
            (Some(Udp::Flow(_)), Wake::Timer(_)) => self.udp_timer(reactor, key),
            (Some(Udp::Flow(_)), _) => self.answer(reactor, key),
            (None, _) => {}
        }
    }

    /// Datagrams of the sandbox.
    fn hear(&mut self, reactor: &mut Reactor, key: Key) {
        self.hear_routes(reactor);
        for _ in 0..DATAGRAMS {
            let Some(Udp::Listener(listener)) = self.udp.get_mut(key) else { return };
            let sandbox = listener.sandbox;
            if self.allowance(reactor, sandbox, key).is_none() {
                return;
            }
            let Some(Udp::Listener(listener)) = self.udp.get_mut(key) else { return };
            match datagram::receive_delivered(listener.socket.as_fd(), &mut self.scratch.plain) {
                Ok(Some(delivered)) => self.pass(reactor, sandbox, delivered),
                Ok(None) => {}
                // Nothing more, or no memory at the moment: the next datagram wakes us.
                Err(_) => return,
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.again(key);
    }

    /// Sends a datagram of the sandbox on.
    fn pass(&mut self, reactor: &mut Reactor, sandbox: u64, delivered: Delivered) {
        let ends = (delivered.from, delivered.to);
        let Some(gate) = self.gates.get(&sandbox) else { return };
        let known = gate.udp.flows.get(&ends).copied();
        let Some(key) = known.or_else(|| self.begin_udp(reactor, sandbox, ends)) else { return };
        if !self.is_still_allowed(reactor, key) {
            return;
        }
        let (Some(Udp::Flow(flow)), Some(gate)) = (self.udp.get_mut(key), self.gates.get(&sandbox)) else {
            return;
        };
        let bytes = self.scratch.plain.get(..delivered.length).unwrap_or_default();
        match datagram::send(flow.socket.as_fd(), bytes) {
            Ok(()) => {
                flow.active = reactor.now();
                let count = bytes.len() as u64;
                gate.counters.bytes_out.fetch_add(count, Ordering::Relaxed);
                self.spend(reactor, sandbox, count);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => self.udp_failed(reactor, key, &error),
        }
    }

    /// A flow for a datagram that belongs to none, if it may be.
    fn begin_udp(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        (from, to): (SocketAddr, SocketAddr),
    ) -> Option<Key> {
        if !self.verdict_on(reactor, sandbox, to, Protocol::Udp)?.is_allowed() {
            return None;
        }
        let now = reactor.now();
        if let Err(why) = self.gates.get_mut(&sandbox)?.pace.begin(now) {
            self.limited(sandbox, why);
            return None;
        }
        let Some((room, answer)) = self.room_for_udp(reactor, sandbox, Far::of(to)) else {
            self.limited(sandbox, "are refused: as many are open as may be");
            return None;
        };
        let socket = match datagram::connected(to) {
            Ok(socket) => socket,
            Err(error) => {
                self.failed(reactor, sandbox, to, Protocol::Udp, &error);
                return None;
            }
        };
        let now = reactor.now();
        let gate = self.gates.get_mut(&sandbox)?;
        let flow = Flow {
            sandbox,
            from,
            to,
            asked: Asked { policy: gate.generation, routes: self.routes.generation() },
            socket,
            active: now,
            answered: false,
            timer: None,
            turn: 0,
            _room: room,
        };
        let key = self.udp.insert(Udp::Flow(flow));
        reactor.join(key, sandbox);
        let Some(Udp::Flow(flow)) = self.udp.get_mut(key) else { return None };
        if let Err(error) = reactor.register(flow.socket.as_fd(), key, Lane::Front) {
            self.udp.remove(key);
            self.failed(reactor, sandbox, to, Protocol::Udp, &error);
            return None;
        }
        flow.turn = gate.udp.next_turn(key);
        flow.timer = Some(reactor.schedule(now + UNANSWERED, key));
        gate.udp.flows.insert((from, to), key);
        gate.opened();
        let far = Far::of(to);
        if let Some(permit) = answer {
            gate.udp.replies.expect(far, permit);
            (self.requests)(Request::NeedDatagrams { key: sandbox, ipv6: far.ipv6, count: 1 });
        }
        gate.udp.replies.join(far, key);
        Some(key)
    }

    /// Room for one flow more, and for the socket that its answers come from if there is none yet. Where there
    /// isn't any, flows of this sandbox that are silent give way.
    fn room_for_udp(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        far: Far,
    ) -> Option<(Room, Option<Permit>)> {
        for _ in 0..LOOKS {
            let gate = self.gates.get_mut(&sandbox)?;
            let known = gate.udp.replies.knows(far);
            if gate.has_room() && !self.udp.is_full() {
                let descriptor = self.budget.acquire(sandbox, Use::Egress, limits::UDP_FLOW);
                let answer =
                    if known { None } else { self.budget.acquire(sandbox, Use::Egress, limits::UDP_ANSWERS) };
                let port = self.ports.acquire(sandbox, Use::Egress, 1);
                if let Some((descriptor, port)) = descriptor.zip(port)
                    && (known || answer.is_some())
                {
                    return Some((Room { _descriptor: descriptor, _port: port }, answer));
                }
            }
            let (_, oldest) = gate.udp.turns.pop_first()?;
            let Some(Udp::Flow(flow)) = self.udp.get_mut(oldest) else { continue };
            if reactor.now().saturating_duration_since(flow.active) >= GIVES_WAY {
                self.end_udp(reactor, oldest);
            } else {
                flow.turn = gate.udp.next_turn(oldest);
            }
        }
        None
    }

    /// Datagrams of the far end.
    fn answer(&mut self, reactor: &mut Reactor, key: Key) {
        if !self.is_still_allowed(reactor, key) {
            return;
        }
        for _ in 0..DATAGRAMS {
            let Some(sandbox) = self.udp_flow(key).map(|flow| flow.sandbox) else { return };
            if self.allowance(reactor, sandbox, key).is_none() {
                return;
            }
            let Some(Udp::Flow(flow)) = self.udp.get_mut(key) else { return };
            let Some(gate) = self.gates.get(&flow.sandbox) else { return };
            // Without a socket to answer from they wait in the kernel.
            let Some(socket) = gate.udp.replies.get(Far::of(flow.to)) else { return };
            match datagram::receive(flow.socket.as_fd(), &mut self.scratch.plain) {
                Ok(length) => {
                    let bytes = self.scratch.plain.get(..length).unwrap_or_default();
                    flow.active = reactor.now();
                    flow.answered = true;
                    match datagram::send_from(socket, flow.to.ip(), flow.from, bytes) {
                        Ok(()) => drop(gate.counters.bytes_in.fetch_add(length as u64, Ordering::Relaxed)),
                        Err(error) => log::trace!("an answer from {} was dropped: {error}", flow.to),
                    }
                    self.spend(reactor, sandbox, length as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.udp_failed(reactor, key, &error),
            }
        }
        reactor.again(key);
    }

    fn udp_timer(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(Udp::Flow(flow)) = self.udp.get_mut(key) else { return };
        flow.timer = None;
        let at = flow.active + if flow.answered { ANSWERED } else { UNANSWERED };
        if at <= reactor.now() {
            self.end_udp(reactor, key);
        } else {
            flow.timer = Some(reactor.schedule(at, key));
        }
    }

    /// The far end says that nobody is there, or can't be reached.
    fn udp_failed(&mut self, reactor: &mut Reactor, key: Key, error: &io::Error) {
        let Some(Udp::Flow(flow)) = self.udp.get_mut(key) else { return };
        let (sandbox, to) = (flow.sandbox, flow.to);
        self.end_udp(reactor, key);
        self.failed(reactor, sandbox, to, Protocol::Udp, error);
    }

    /// Ends a flow.
    pub(super) fn end_udp(&mut self, reactor: &mut Reactor, key: Key) {
        if !matches!(self.udp.get_mut(key), Some(Udp::Flow(_))) {
            return;
        }
        let Some(Udp::Flow(flow)) = self.udp.remove(key) else { return };
        reactor.deregister(flow.socket.as_fd());
        if let Some(timer) = flow.timer {
            reactor.cancel(timer);
        }
        if let Some(gate) = self.gates.get_mut(&flow.sandbox) {
            gate.udp.flows.remove(&(flow.from, flow.to));
            gate.udp.turns.remove(&flow.turn);
            gate.udp.replies.leave(Far::of(flow.to));
            gate.closed();
        }
    }
}

/// Whether only this datagram is lost.
fn is_passing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::Use;

    #[test]
    fn most_local_ports_are_left_to_the_host() {
        let ports = super::ports();
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let ends: Vec<usize> = range.split_whitespace().map(|end| end.parse().unwrap()).collect();
        let quarter = (ends[1] - ends[0] + 1) / 4;
        let _admitted = [1, 2, 3].map(|sandbox| ports.admit(sandbox, 0).unwrap());
        // And one sandbox doesn't get all of those.
        let share = quarter / 4;
        assert!(ports.acquire(1, Use::Egress, share + 4).is_none());
        let _of_one = ports.acquire(1, Use::Egress, share / 2 + 4).unwrap();
        assert!(ports.acquire(1, Use::Egress, share / 2).is_none());
        assert!(ports.acquire(2, Use::Egress, share / 2).is_some());
    }
}
