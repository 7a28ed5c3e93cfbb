//! The sockets of G that answers over UDP are sent from: one for each port of destinations, whatever their addresses.
//!
//! Only the keeper can make them, so they are requested when the first flow to a port begins. Until one is there,
//! answers wait in the kernel.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::reactor::{FdPermit, Key};
use crate::sys::datagram;
use crate::topology::NETWORK6;

/// What a reply socket is for: a port of destinations, over IPv6 or IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RemoteAddr {
    // Plain data.
    pub(super) ipv6: bool,
    pub(super) port: u16,
}

impl RemoteAddr {
    /// That of a destination.
    pub(super) fn of(to: SocketAddr) -> Self {
        Self { ipv6: to.is_ipv6(), port: to.port() }
    }
}

#[derive(Debug)]
struct Reply {
    socket: Option<OwnedFd>,
    /// How many flows use it.
    users: usize,
    /// Those that began before it was there, and whose answers may have come.
    waiting: Vec<Key>,
    _permit: FdPermit,
}

/// One sandbox's reply sockets.
#[derive(Debug, Default)]
pub(super) struct ReplySockets {
    sockets: HashMap<RemoteAddr, Reply>,
    /// The requested sockets that have not come, in the order of the requests: over IPv4, over IPv6.
    requested: (VecDeque<RemoteAddr>, VecDeque<RemoteAddr>),
}

/// What has become of a requested socket.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// These flows waited for it, and it is there.
    pub(super) served: Vec<Key>,
    /// These flows waited for it, and there is none: they get no answers.
    pub(super) lost: Vec<Key>,
}

/// Where such a socket is bound: the rules let nothing through to these addresses.
fn unused(ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from_bits(NETWORK6.to_bits() | 0x5350_4152).into()
    } else {
        Ipv4Addr::new(127, 0, 0, 2).into()
    }
}

impl ReplySockets {
    /// Whether the socket is there or was requested.
    pub(super) fn contains(&self, remote: RemoteAddr) -> bool {
        self.sockets.contains_key(&remote)
    }

    /// Notes that a socket was requested.
    pub(super) fn expect(&mut self, remote: RemoteAddr, permit: FdPermit) {
        let reply = Reply { socket: None, users: 0, waiting: Vec::new(), _permit: permit };
        self.sockets.insert(remote, reply);
        self.requested(remote.ipv6).push_back(remote);
    }

    fn requested(&mut self, ipv6: bool) -> &mut VecDeque<RemoteAddr> {
        if ipv6 { &mut self.requested.1 } else { &mut self.requested.0 }
    }

    /// Notes that a flow begins to use it.
    pub(super) fn join(&mut self, remote: RemoteAddr, flow: Key) {
        if let Some(reply) = self.sockets.get_mut(&remote) {
            reply.users += 1;
            if reply.socket.is_none() {
                reply.waiting.push(flow);
            }
        }
    }

    /// Notes that a flow has ended. The last one closes the socket.
    pub(super) fn leave(&mut self, remote: RemoteAddr) {
        let Some(reply) = self.sockets.get_mut(&remote) else {
            debug_assert!(false, "a socket stays as long as its users");
            return;
        };
        reply.users = reply.users.saturating_sub(1);
        if reply.users == 0 {
            self.sockets.remove(&remote);
        }
    }

    /// The next requested socket has come, or there is none. They are requested one by one, and come in that order.
    pub(super) fn arrived(&mut self, ipv6: bool, socket: Option<OwnedFd>) -> Arrival {
        let remote = self.requested(ipv6).pop_front();
        let waits = remote.and_then(|remote| Some((remote, self.sockets.get_mut(&remote)?)));
        // All its flows may have ended since, or it came for those before them.
        let Some((remote, reply)) = waits.filter(|(_, reply)| reply.socket.is_none()) else {
            return Arrival::default();
        };
        let flows = std::mem::take(&mut reply.waiting);
        let Some(socket) = socket else { return Arrival { lost: flows, ..Arrival::default() } };
        match datagram::answer_from(socket.as_fd(), unused(ipv6), remote.port) {
            Ok(()) => {
                reply.socket = Some(socket);
                Arrival { served: flows, ..Arrival::default() }
            }
            Err(error) => {
                log::error!("UDP from port {} can't be answered: {error}", remote.port);
                Arrival { lost: flows, ..Arrival::default() }
            }
        }
    }

    /// The socket that sends from that port, if it is there.
    pub(super) fn get(&self, remote: RemoteAddr) -> Option<BorrowedFd<'_>> {
        self.sockets.get(&remote)?.socket.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::kinds::UDP;
    use crate::reactor::{FdBudget, Slab, Use};

    fn remote(port: u16) -> RemoteAddr {
        RemoteAddr { ipv6: false, port }
    }

    #[test]
    fn what_comes_is_for_the_port_that_was_requested_first() {
        let (budget, mut flows, mut replies) = (FdBudget::new(20), Slab::new(UDP), ReplySockets::default());
        let mut begin = |replies: &mut ReplySockets, port| {
            let flow = flows.insert(());
            if !replies.contains(remote(port)) {
                replies.expect(remote(port), budget.acquire(1, Use::Egress, 1).unwrap());
            }
            replies.join(remote(port), flow);
            flow
        };
        let first = [begin(&mut replies, 1111), begin(&mut replies, 1111)];
        let second = begin(&mut replies, 2222);
        let third = begin(&mut replies, 3333);
        // There is none for the first port, which says nothing about the others.
        assert_eq!(replies.arrived(false, None).lost, first);
        // The flow to the second has ended, and another has begun: one more is on its way for that.
        replies.leave(remote(2222));
        let again = begin(&mut replies, 2222);
        assert_eq!(replies.arrived(false, None).lost, [again], "what was asked for {second:?} is as good");
        assert_eq!(replies.arrived(true, None).lost, [], "it was of the other version");
        assert_eq!(replies.arrived(false, None).lost, [third]);
        assert_eq!(replies.arrived(false, None).lost, []);
    }
}
