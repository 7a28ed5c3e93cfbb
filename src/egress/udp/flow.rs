//! UDP flows: one is what goes from a port of the sandbox to a port of an address, and back.
//!
//! Each has a socket of its own in the host's namespace, connected, so that only the destination can answer. An answer is
//! sent back with the destination's address as its sender. A flow ends when nothing has passed for a while, or when the
//! destination is unreachable (ICMP). A datagram that finds no room anywhere is dropped, as datagrams are.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::reply_sockets::RemoteAddr;
use super::table::{Ends, Table};
use crate::egress::cx::{Cx, Epoch};
use crate::egress::kinds::UDP;
use crate::egress::limit::LimitKind;
use crate::egress::local_ports;
use crate::egress::request::Request;
use crate::limits;
use crate::policy::Protocol;
use crate::reactor::{FdPermit, FdSlot, Key, PortBudget, Reactor, Slab, TimerId, Use, Wake};
use crate::sys::datagram::{self, Delivered};

/// How many datagrams of one socket are moved before others get a turn.
const DATAGRAMS: usize = 64;

/// How long a flow lives without a datagram: one that was never answered, and one that was.
const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWERED_TIMEOUT: Duration = Duration::from_secs(180);

/// A flow that was silent for so long gives way to another when there is no room.
const EVICT_AFTER_IDLE: Duration = Duration::from_secs(1);
/// How many flows are looked at for one that gives way.
const MAX_EVICTION_LOOKS: usize = 8;

/// The local ports of UDP that are kept for each sandbox.
const KEPT_PORTS: usize = 4;

/// The local ports of UDP that the library takes, for all sandboxes. Flows beyond what is kept for each sandbox take at
/// most a quarter of those that the kernel hands out, and all of them a third: a connected port can't be used by another
/// program, whatever its destination, and the host's own programs need some.
fn local_ports() -> PortBudget {
    PortBudget::for_egress(local_ports::of_host() / 3, KEPT_PORTS)
}

/// What a key of the UDP kind names.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are flows")]
enum Entry {
    Socket(GatewaySocket),
    Flow(Flow),
}

/// A socket of G that the rules deliver datagrams to.
#[derive(Debug)]
struct GatewaySocket {
    sandbox: u64,
    socket: OwnedFd,
}

/// What goes from a port of the sandbox to a port of an address.
#[derive(Debug)]
struct Flow {
    sandbox: u64,
    /// The port of the sandbox.
    from: SocketAddr,
    /// The destination.
    to: SocketAddr,
    /// The policy and the routing that it was checked by last.
    epoch: Epoch,
    /// In the host's namespace.
    socket: OwnedFd,
    active: Instant,
    answered: bool,
    timer: Option<TimerId>,
    /// Its number in the order in which flows give way.
    number: u64,
    _room: Room,
}

/// What a flow takes of what all flows share.
#[derive(Debug)]
struct Room {
    _descriptor: FdPermit,
    /// A local port of the host's.
    _port: FdPermit,
}

/// The UDP flows of all sandboxes.
pub(in crate::egress) struct Udp {
    entries: Slab<Entry>,
    tables: HashMap<u64, Table>,
    /// Local ports.
    ports: PortBudget,
}

impl Udp {
    pub(in crate::egress) fn new() -> Self {
        Self { entries: Slab::new(UDP), tables: HashMap::new(), ports: local_ports() }
    }

    pub(in crate::egress) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A sandbox's flows.
    pub(in crate::egress) fn keys(&self, sandbox: u64) -> Vec<Key> {
        self.tables.get(&sandbox).map(Table::flows).unwrap_or_default()
    }

    /// Relays the datagrams of a sandbox that the rules deliver to these sockets.
    pub(in crate::egress) fn add_sandbox(
        &mut self,
        cx: &Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        sockets: Vec<OwnedFd>,
    ) {
        let mut table = Table::new(self.ports.admit(sandbox, 0));
        for socket in sockets {
            let key = self.entries.insert(Entry::Socket(GatewaySocket { sandbox, socket }));
            reactor.join(key, sandbox);
            let Some(Entry::Socket(gateway)) = self.entries.get_mut(key) else {
                debug_assert!(false, "it was just inserted");
                continue;
            };
            match reactor.register(gateway.socket.as_fd(), key, FdSlot::First) {
                Ok(()) => table.add_socket(key),
                Err(error) => {
                    self.entries.remove(key);
                    cx.report(sandbox, format!("egress over UDP can't be watched ({error}) and is closed"));
                }
            }
        }
        self.tables.insert(sandbox, table);
    }

    /// Ends all of a sandbox's UDP.
    pub(in crate::egress) fn remove_sandbox(&mut self, cx: &mut Cx, reactor: &mut Reactor, sandbox: u64) {
        for key in self.keys(sandbox) {
            self.end(cx, reactor, key);
        }
        let sockets = self.tables.remove(&sandbox).map(|table| table.sockets());
        for key in sockets.unwrap_or_default() {
            if let Some(Entry::Socket(gateway)) = self.entries.remove(key) {
                reactor.deregister(gateway.socket.as_fd());
            }
        }
    }

    /// Sockets of G have come for answers. Flows that wait for one that didn't come end.
    pub(in crate::egress) fn on_sockets(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        ipv6: bool,
        sockets: Vec<OwnedFd>,
    ) {
        // The sandbox may have been removed since they were requested.
        let Some(table) = self.tables.get_mut(&sandbox) else { return };
        let arrival = table.reply_sockets().arrived(ipv6, sockets.into_iter().next());
        // Answers may have come long ago.
        arrival.served.into_iter().for_each(|key| reactor.reschedule(key));
        if !arrival.lost.is_empty() {
            arrival.lost.into_iter().for_each(|key| self.end(cx, reactor, key));
            cx.limit(sandbox, LimitKind::Descriptors);
        }
    }

    /// Handles a wake-up of a socket or a flow.
    pub(in crate::egress) fn on_wake(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, wake: Wake) {
        match (self.entries.get_mut(key), wake) {
            (Some(Entry::Socket(_)), _) => self.on_datagrams(cx, reactor, key),
            (Some(Entry::Flow(_)), Wake::Timer(_)) => self.on_timer(cx, reactor, key),
            (Some(Entry::Flow(_)), _) => self.on_answers(cx, reactor, key),
            // A wake-up can come after its flow has ended.
            (None, _) => {}
        }
    }

    /// Takes datagrams of the sandbox.
    fn on_datagrams(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        cx.read_route_notices(reactor);
        for _ in 0..DATAGRAMS {
            let Some(Entry::Socket(gateway)) = self.entries.get_mut(key) else {
                debug_assert!(false, "sockets stay as long as their sandbox");
                return;
            };
            let sandbox = gateway.sandbox;
            if cx.allowance(reactor, sandbox, key).is_none() {
                return;
            }
            match datagram::receive_delivered(gateway.socket.as_fd(), &mut cx.scratch().plain) {
                Ok(Some(delivered)) => self.relay(cx, reactor, sandbox, delivered),
                Ok(None) => {}
                // Nothing more, or no memory at the moment: the next datagram wakes us.
                Err(_) => return,
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.reschedule(key);
    }

    /// Sends a datagram of the sandbox on; its bytes are at the front of the shared buffer.
    fn relay(&mut self, cx: &mut Cx, reactor: &mut Reactor, sandbox: u64, delivered: Delivered) {
        let ends = (delivered.from, delivered.to);
        let known = self.tables.get(&sandbox).and_then(|table| table.find(ends));
        let Some(key) = known.or_else(|| self.begin(cx, reactor, sandbox, ends)) else { return };
        if !self.is_still_allowed(cx, reactor, key) {
            return;
        }
        let Some(flow) = self.flow(key) else {
            debug_assert!(false, "it was allowed, not ended");
            return;
        };
        let bytes = cx.scratch().plain.get(..delivered.length).unwrap_or_default();
        match datagram::send(flow.socket.as_fd(), bytes) {
            Ok(()) => {
                flow.active = reactor.now();
                let count = bytes.len() as u64;
                if let Some(counters) = cx.counters(sandbox) {
                    counters.bytes_out.fetch_add(count, Ordering::Relaxed);
                }
                cx.spend(sandbox, count);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => self.on_error(cx, reactor, key, &error),
        }
    }

    /// Begins a flow for a datagram that belongs to none, if it is allowed.
    fn begin(&mut self, cx: &mut Cx, reactor: &mut Reactor, sandbox: u64, (from, to): Ends) -> Option<Key> {
        if !cx.check(reactor, sandbox, to, Protocol::Udp).is_allowed() {
            return None;
        }
        if let Err(limit) = cx.begin_flow(reactor, sandbox) {
            cx.limit(sandbox, limit);
            return None;
        }
        let remote = RemoteAddr::of(to);
        let Some((room, answers)) = self.room(cx, reactor, sandbox, remote) else {
            cx.limit(sandbox, LimitKind::OpenFlows);
            return None;
        };
        let socket = match datagram::connected(to) {
            Ok(socket) => socket,
            Err(error) => {
                cx.unreachable(reactor, sandbox, to, Protocol::Udp, &error);
                return None;
            }
        };
        let now = reactor.now();
        let epoch = cx.epoch(sandbox)?;
        let key = self.entries.insert(Entry::Flow(Flow {
            sandbox,
            from,
            to,
            epoch,
            socket,
            active: now,
            answered: false,
            timer: None,
            number: 0,
            _room: room,
        }));
        reactor.join(key, sandbox);
        let (Some(Entry::Flow(flow)), Some(table)) =
            (self.entries.get_mut(key), self.tables.get_mut(&sandbox))
        else {
            debug_assert!(false, "it was just inserted, for a sandbox that has an epoch");
            return None;
        };
        if let Err(error) = reactor.register(flow.socket.as_fd(), key, FdSlot::First) {
            self.entries.remove(key);
            cx.unreachable(reactor, sandbox, to, Protocol::Udp, &error);
            return None;
        }
        flow.number = table.insert((from, to), key);
        flow.timer = Some(reactor.schedule(now + UNANSWERED_TIMEOUT, key));
        cx.opened(sandbox);
        if let Some(permit) = answers {
            table.reply_sockets().expect(remote, permit);
            cx.request(Request::NeedDatagrams { key: sandbox, ipv6: remote.ipv6, count: 1 });
        }
        table.reply_sockets().join(remote, key);
        Some(key)
    }

    /// Room for another flow, and for the socket that its answers are sent from if there is none yet. Where there isn't
    /// any, silent flows of this sandbox give way.
    fn room(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        remote: RemoteAddr,
    ) -> Option<(Room, Option<FdPermit>)> {
        for _ in 0..MAX_EVICTION_LOOKS {
            let table = self.tables.get_mut(&sandbox)?;
            let known = table.reply_sockets().contains(remote);
            if cx.has_room(sandbox) && !self.entries.is_full() {
                let descriptor = cx.acquire(sandbox, limits::UDP_FLOW);
                let answers = if known { None } else { cx.acquire(sandbox, limits::UDP_ANSWERS) };
                let port = self.ports.acquire(sandbox, Use::Egress, 1);
                if let Some((descriptor, port)) = descriptor.zip(port)
                    && (known || answers.is_some())
                {
                    return Some((Room { _descriptor: descriptor, _port: port }, answers));
                }
            }
            let oldest = table.pop_oldest()?;
            let Some(Entry::Flow(flow)) = self.entries.get_mut(oldest) else {
                debug_assert!(false, "a flow that ends leaves the order");
                continue;
            };
            if reactor.now().saturating_duration_since(flow.active) >= EVICT_AFTER_IDLE {
                self.end(cx, reactor, oldest);
            } else {
                flow.number = table.touch(oldest);
            }
        }
        None
    }

    /// Takes datagrams of a destination.
    fn on_answers(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        if !self.is_still_allowed(cx, reactor, key) {
            return;
        }
        for _ in 0..DATAGRAMS {
            let Some(Entry::Flow(flow)) = self.entries.get_mut(key) else {
                debug_assert!(false, "it was allowed, not ended");
                return;
            };
            if cx.allowance(reactor, flow.sandbox, key).is_none() {
                return;
            }
            let Some(table) = self.tables.get_mut(&flow.sandbox) else {
                debug_assert!(false, "flows end before their table");
                return;
            };
            // Without a socket to send them from they wait in the kernel.
            let Some(socket) = table.reply_sockets().get(RemoteAddr::of(flow.to)) else { return };
            match datagram::receive(flow.socket.as_fd(), &mut cx.scratch().plain) {
                Ok(length) => {
                    let bytes = cx.scratch().plain.get(..length).unwrap_or_default();
                    flow.active = reactor.now();
                    flow.answered = true;
                    let sent = datagram::send_from(socket, flow.to.ip(), flow.from, bytes);
                    match (sent, cx.counters(flow.sandbox)) {
                        (Ok(()), Some(counters)) => {
                            counters.bytes_in.fetch_add(length as u64, Ordering::Relaxed);
                        }
                        (Ok(()), None) => {}
                        (Err(error), _) => log::trace!("an answer from {} was dropped: {error}", flow.to),
                    }
                    cx.spend(flow.sandbox, length as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.on_error(cx, reactor, key, &error),
            }
        }
        reactor.reschedule(key);
    }

    fn on_timer(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        let Some(flow) = self.flow(key) else { return };
        flow.timer = None;
        let at = flow.active + if flow.answered { ANSWERED_TIMEOUT } else { UNANSWERED_TIMEOUT };
        if at <= reactor.now() {
            self.end(cx, reactor, key);
        } else {
            flow.timer = Some(reactor.schedule(at, key));
        }
    }

    /// Ends a flow whose destination can't be reached.
    fn on_error(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, error: &io::Error) {
        let Some(flow) = self.flow(key) else { return };
        let (sandbox, to) = (flow.sandbox, flow.to);
        self.end(cx, reactor, key);
        cx.unreachable(reactor, sandbox, to, Protocol::Udp, error);
    }

    /// Whether a flow may go on: if the policy or the host's routing has changed since it was checked, it is checked
    /// now, and ended if it is denied.
    pub(in crate::egress) fn is_still_allowed(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        key: Key,
    ) -> bool {
        // It may have ended before its turn to be checked, or before its wake-up.
        let Some(flow) = self.flow(key) else { return false };
        if cx.is_current(flow.sandbox, flow.epoch) {
            return true;
        }
        let Some(epoch) = cx.epoch(flow.sandbox) else { return false };
        let is_allowed = cx.check(reactor, flow.sandbox, flow.to, Protocol::Udp).is_allowed();
        if is_allowed {
            flow.epoch = epoch;
        } else {
            self.end(cx, reactor, key);
        }
        is_allowed
    }

    /// Ends a flow.
    pub(in crate::egress) fn end(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        // It may have ended before its turn to be ended, or be a socket.
        if self.flow(key).is_none() {
            return;
        }
        let Some(Entry::Flow(flow)) = self.entries.remove(key) else { return };
        reactor.deregister(flow.socket.as_fd());
        if let Some(timer) = flow.timer {
            reactor.cancel(timer);
        }
        if let Some(table) = self.tables.get_mut(&flow.sandbox) {
            table.remove((flow.from, flow.to), flow.number);
            table.reply_sockets().leave(RemoteAddr::of(flow.to));
            cx.closed(flow.sandbox);
        }
    }

    fn flow(&mut self, key: Key) -> Option<&mut Flow> {
        match self.entries.get_mut(key)? {
            Entry::Flow(flow) => Some(flow),
            Entry::Socket(_) => None,
        }
    }
}

/// Whether only this datagram is lost.
fn is_passing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests;
