//! One sandbox's UDP flows. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::reply_sockets::ReplySockets;
use crate::reactor::{Admission, Key};

/// A port of the sandbox, and the destination.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// One sandbox's UDP flows.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The sockets of G that its datagrams are delivered to.
    sockets: Vec<Key>,
    flows: HashMap<Ends, Key>,
    /// The flows in the order in which they give way, by the number that each got last.
    lru: BTreeMap<u64, Key>,
    last_use: u64,
    reply_sockets: ReplySockets,
    /// Its place among those that share the local ports.
    _ports: Option<Admission>,
}

impl Table {
    pub(super) fn new(ports: Option<Admission>) -> Self {
        Self { _ports: ports, ..Self::default() }
    }

    pub(super) fn add_socket(&mut self, key: Key) {
        self.sockets.push(key);
    }

    /// The sockets that its datagrams are delivered to.
    pub(super) fn sockets(&self) -> Vec<Key> {
        self.sockets.clone()
    }

    /// Every flow.
    pub(super) fn flows(&self) -> Vec<Key> {
        self.flows.values().copied().collect()
    }

    pub(super) fn find(&self, ends: Ends) -> Option<Key> {
        self.flows.get(&ends).copied()
    }

    /// Adds a flow; returns its number for [`Table::remove`].
    pub(super) fn insert(&mut self, ends: Ends, key: Key) -> u64 {
        self.flows.insert(ends, key);
        self.touch(key)
    }

    /// Removes a flow.
    pub(super) fn remove(&mut self, ends: Ends, number: u64) {
        self.flows.remove(&ends);
        self.lru.remove(&number);
    }

    /// Makes a flow that was taken out by [`Table::pop_oldest`] the last to give way; returns its new number.
    pub(super) fn touch(&mut self, key: Key) -> u64 {
        self.last_use += 1;
        self.lru.insert(self.last_use, key);
        self.last_use
    }

    /// Takes the flow out of the order that gives way first.
    pub(super) fn pop_oldest(&mut self) -> Option<Key> {
        self.lru.pop_first().map(|(_, key)| key)
    }

    pub(super) fn reply_sockets(&mut self) -> &mut ReplySockets {
        &mut self.reply_sockets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::kinds::UDP;
    use crate::reactor::Slab;

    fn ends(port: u16) -> Ends {
        (SocketAddr::from(([192, 0, 0, 3], port)), SocketAddr::from(([198, 51, 100, 1], 53)))
    }

    #[test]
    fn flows_give_way_in_the_order_in_which_they_were_touched() {
        let (mut slab, mut table) = (Slab::new(UDP), Table::default());
        let keys = [1, 2, 3].map(|port| (port, slab.insert(())));
        let numbers = keys.map(|(port, key)| table.insert(ends(port), key));
        assert_eq!(table.find(ends(2)), Some(keys[1].1));
        assert_eq!(table.pop_oldest(), Some(keys[0].1));
        table.touch(keys[0].1);
        table.remove(ends(2), numbers[1]);
        assert_eq!(table.find(ends(2)), None);
        assert_eq!(table.pop_oldest(), Some(keys[2].1));
        assert_eq!(table.pop_oldest(), Some(keys[0].1));
        assert_eq!(table.pop_oldest(), None);
        assert_eq!(table.flows().len(), 2, "one that was taken out of the order is still found");
    }
}
