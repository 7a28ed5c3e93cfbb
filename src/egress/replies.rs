//! The sockets of G that UDP's answers come from: one for each far port, of whatever address.
//!
//! Only the keeper can make them, so they are asked for when the first flow to a port begins. Until one is there,
//! answers wait in the kernel.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::net::topology::NETWORK6;
use crate::reactor::Permit;
use crate::sys::datagram;

/// What an answering socket is of: a far port, over IPv6 or IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Far {
    pub(super) ipv6: bool,
    pub(super) port: u16,
}

impl Far {
    /// The one of a destination.
    pub(super) fn of(to: SocketAddr) -> Self {
        Self { ipv6: to.is_ipv6(), port: to.port() }
    }
}

#[derive(Debug)]
struct Answer {
    socket: Option<OwnedFd>,
    /// How many flows use it.
    users: usize,
    _permit: Permit,
}

/// One sandbox's answering sockets.
#[derive(Debug, Default)]
pub(super) struct Replies(HashMap<Far, Answer>);

/// Where such a socket is bound: the rules let nothing through to these addresses.
fn unused(ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from_bits(NETWORK6.to_bits() | 0x5350_4152).into()
    } else {
        Ipv4Addr::new(127, 0, 0, 2).into()
    }
}

impl Replies {
    /// Whether a flow to that port needs a socket that isn't there yet.
    pub(super) fn knows(&self, far: Far) -> bool {
        self.0.contains_key(&far)
    }

    /// One is to come, for which there is a permit.
    pub(super) fn expect(&mut self, far: Far, permit: Permit) {
        self.0.insert(far, Answer { socket: None, users: 0, _permit: permit });
    }

    /// A flow begins to use it.
    pub(super) fn join(&mut self, far: Far) {
        if let Some(answer) = self.0.get_mut(&far) {
            answer.users += 1;
        }
    }

    /// A flow has ended. The last one takes the socket with it.
    pub(super) fn leave(&mut self, far: Far) {
        let Some(answer) = self.0.get_mut(&far) else { return };
        answer.users = answer.users.saturating_sub(1);
        if answer.users == 0 {
            self.0.remove(&far);
        }
    }

    /// Sockets have come: each goes to a port that waits for one. Says which ports got none, or one that can't
    /// be used.
    pub(super) fn arrived(&mut self, ipv6: bool, sockets: Vec<OwnedFd>) -> Vec<Far> {
        let mut sockets = sockets.into_iter();
        let waiting = self.0.iter_mut().filter(|(far, answer)| far.ipv6 == ipv6 && answer.socket.is_none());
        let mut lacking = Vec::new();
        for (far, answer) in waiting {
            let Some(socket) = sockets.next() else {
                lacking.push(*far);
                continue;
            };
            match datagram::answer_from(socket.as_fd(), unused(ipv6), far.port) {
                Ok(()) => answer.socket = Some(socket),
                Err(error) => {
                    log::error!("UDP from port {} can't be answered: {error}", far.port);
                    lacking.push(*far);
                }
            }
        }
        lacking
    }

    /// The socket that answers from that port, if it is there.
    pub(super) fn get(&self, far: Far) -> Option<BorrowedFd<'_>> {
        self.0.get(&far)?.socket.as_ref().map(AsFd::as_fd)
    }
}
