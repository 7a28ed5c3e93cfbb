//! The sets that a policy's destinations are in: each policy has a generation of its own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::set::{self, KeyType};
use crate::net::message::Message;

/// The destinations that a policy allows, as the kernel's sets hold them. Empty allows none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedSets {
    /// IPv4 addresses, in any order.
    pub(crate) v4: Vec<RangeInclusive<Ipv4Addr>>,
    /// IPv6 addresses; without effect where the sandbox has no IPv6.
    pub(crate) v6: Vec<RangeInclusive<Ipv6Addr>>,
    /// TCP ports on which the addresses of [`super::Rules::answer`] may be reached too, in any order.
    pub(crate) tls: Vec<u16>,
}

impl AllowedSets {
    /// Sorted, with overlapping and touching ranges merged. Without IPv6 where that isn't relayed.
    pub(super) fn merged(&self, ipv6: bool) -> Self {
        let mut tls = self.tls.clone();
        tls.sort_unstable();
        tls.dedup();
        Self { v4: set::merged(&self.v4), v6: if ipv6 { set::merged(&self.v6) } else { Vec::new() }, tls }
    }
}

/// The most ranges of one set. The kernel lists a set in pieces, and walks it from its beginning for each of them
/// (nft_rbtree_walk in net/netfilter/nft_set_rbtree.c). A long list is split into several sets, so that the time to read
/// it back grows with its length only.
pub(super) const MAX_SET_RANGES: usize = 16_384;

/// Names the sets that the rules of one policy look up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) ipv6: bool,
    /// Whether there are TLS ports for resolved addresses.
    pub(super) tls: bool,
    /// How many sets hold the destinations of each IP version.
    parts4: usize,
    parts6: usize,
}

impl Generation {
    /// Sets for this many ranges.
    pub(super) fn new(number: u64, (v4, v6): (usize, usize), ipv6: bool, tls: bool) -> Self {
        let parts = |ranges: usize| ranges.div_ceil(MAX_SET_RANGES).max(1);
        Self { number, ipv6, tls, parts4: parts(v4), parts6: if ipv6 { parts(v6) } else { 0 } }
    }

    pub(super) fn allow4(&self) -> impl Iterator<Item = String> + use<> {
        parts("allow4", self.number, self.parts4)
    }

    pub(super) fn allow6(&self) -> impl Iterator<Item = String> + use<> {
        parts("allow6", self.number, self.parts6)
    }

    pub(super) fn tls(&self) -> String {
        format!("tls_{}", self.number)
    }

    /// The requests that make its sets.
    pub(super) fn sets(&self) -> Vec<Message> {
        let v4 = self.allow4().map(|name| (name, KeyType::Ipv4, true));
        let v6 = self.allow6().map(|name| (name, KeyType::Ipv6, true));
        let tls = self.tls.then(|| (self.tls(), KeyType::Port, false));
        // Lower ids belong to the sets that a policy update leaves alone.
        v4.chain(v6)
            .chain(tls)
            .zip(10..)
            .map(|((name, key, ranges), id)| set::new(&name, id, key, ranges))
            .collect()
    }

    /// The requests that delete them.
    pub(super) fn delete(&self) -> Vec<Message> {
        let tls = self.tls.then(|| self.tls());
        self.allow4().chain(self.allow6()).chain(tls).map(|name| set::delete(&name)).collect()
    }
}

fn parts(name: &'static str, number: u64, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |part| match part {
        0 => format!("{name}_{number}"),
        _ => format!("{name}_{number}_{part}"),
    })
}
