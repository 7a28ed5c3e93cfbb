//! The sockets of G that UDP's answers come from: one for each far port, of whatever address.
//!
//! Only the keeper can make them, so they are asked for when the first flow to a port begins. Until one is there,
//! answers wait in the kernel.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::reactor::{Key, Permit};
use crate::sys::datagram;
use crate::topology::NETWORK6;

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
    /// Those that began before it was there, and whose answers may have come.
    waiting: Vec<Key>,
    _permit: Permit,
}

/// One sandbox's answering sockets.
#[derive(Debug, Default)]
pub(super) struct Replies {
    answers: HashMap<Far, Answer>,
    /// What sockets were asked for and have not come, in this order: over IPv4, over IPv6.
    asked: (VecDeque<Far>, VecDeque<Far>),
}

/// What has become of a socket that was asked for.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// It is there, and these flows wait for it.
    pub(super) served: Vec<Key>,
    /// There is none, and these flows will have no answers.
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

impl Replies {
    /// Whether a flow to that port needs a socket that isn't there yet.
    pub(super) fn knows(&self, far: Far) -> bool {
        self.answers.contains_key(&far)
    }

    /// One was asked for, for which there is a permit.
    pub(super) fn expect(&mut self, far: Far, permit: Permit) {
        let answer = Answer { socket: None, users: 0, waiting: Vec::new(), _permit: permit };
        self.answers.insert(far, answer);
        self.asked(far.ipv6).push_back(far);
    }

    fn asked(&mut self, ipv6: bool) -> &mut VecDeque<Far> {
        if ipv6 { &mut self.asked.1 } else { &mut self.asked.0 }
    }

    /// A flow begins to use it.
    pub(super) fn join(&mut self, far: Far, flow: Key) {
        if let Some(answer) = self.answers.get_mut(&far) {
            answer.users += 1;
            if answer.socket.is_none() {
                answer.waiting.push(flow);
            }
        }
    }

    /// A flow has ended. The last one takes the socket with it.
    pub(super) fn leave(&mut self, far: Far) {
        let Some(answer) = self.answers.get_mut(&far) else { return };
        answer.users = answer.users.saturating_sub(1);
        if answer.users == 0 {
            self.answers.remove(&far);
        }
    }

    /// The next of those that were asked for has come, or there is none to be had. They are asked for one by one, and
    /// come in that order.
    pub(super) fn arrived(&mut self, ipv6: bool, socket: Option<OwnedFd>) -> Arrival {
        let far = self.asked(ipv6).pop_front();
        let waits = far.and_then(|far| Some((far, self.answers.get_mut(&far)?)));
        // All its flows may have ended since, or it came for those before them.
        let Some((far, answer)) = waits.filter(|(_, answer)| answer.socket.is_none()) else {
            return Arrival::default();
        };
        let flows = std::mem::take(&mut answer.waiting);
        let Some(socket) = socket else { return Arrival { lost: flows, ..Arrival::default() } };
        match datagram::answer_from(socket.as_fd(), unused(ipv6), far.port) {
            Ok(()) => {
                answer.socket = Some(socket);
                Arrival { served: flows, ..Arrival::default() }
            }
            Err(error) => {
                log::error!("UDP from port {} can't be answered: {error}", far.port);
                Arrival { lost: flows, ..Arrival::default() }
            }
        }
    }

    /// The socket that answers from that port, if it is there.
    pub(super) fn get(&self, far: Far) -> Option<BorrowedFd<'_>> {
        self.answers.get(&far)?.socket.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Budget, Kind, Slab, Use};

    fn far(port: u16) -> Far {
        Far { ipv6: false, port }
    }

    #[test]
    fn what_comes_is_for_the_port_that_was_asked_for_first() {
        let (budget, mut flows, mut replies) = (Budget::new(20), Slab::new(Kind(6)), Replies::default());
        let mut begin = |replies: &mut Replies, port| {
            let flow = flows.insert(());
            if !replies.knows(far(port)) {
                replies.expect(far(port), budget.acquire(1, Use::Egress, 1).unwrap());
            }
            replies.join(far(port), flow);
            flow
        };
        let first = [begin(&mut replies, 1111), begin(&mut replies, 1111)];
        let second = begin(&mut replies, 2222);
        let third = begin(&mut replies, 3333);
        // There is none for the first port, which says nothing about the others.
        assert_eq!(replies.arrived(false, None).lost, first);
        // The flow to the second has ended, and another has begun: one more is on its way for that.
        replies.leave(far(2222));
        let again = begin(&mut replies, 2222);
        assert_eq!(replies.arrived(false, None).lost, [again], "what was asked for {second:?} is as good");
        assert_eq!(replies.arrived(true, None).lost, [], "it was of the other version");
        assert_eq!(replies.arrived(false, None).lost, [third]);
        assert_eq!(replies.arrived(false, None).lost, []);
    }
}
