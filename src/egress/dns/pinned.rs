//! Which addresses the sandbox's resolver answered for which names, a short while ago.
//!
//! A domain is reached at these only. The server name in a handshake proves nothing about the peer, so without this any
//! address could be reached by naming an allowed server.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// An address is kept at least this long, whatever the answer says: programs use one for longer than they may.
const MIN_LIFETIME: Duration = Duration::from_secs(60);
/// It is kept this much longer than it is good for: between question and connection some time passes.
const GRACE: Duration = Duration::from_secs(30);
/// An address is kept at most this long, whatever the answer says.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The most addresses, and names of one address, that are kept. Of more, those that run out soonest give way.
const MAX_ADDRESSES: usize = 2048;
const MAX_NAMES: usize = 32;
/// The most addresses of one answer that may be reached, the first ones.
const MAX_ADDRESSES_OF_ANSWER: usize = 64;

/// The answers for one sandbox's domains.
#[derive(Debug, Default)]
pub(crate) struct Pinned {
    addresses: HashMap<IpAddr, Names>,
    /// When the last name of each address runs out.
    order: BTreeSet<(Instant, IpAddr)>,
}

#[derive(Debug)]
struct Names {
    until: Instant,
    names: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    name: Box<str>,
    until: Instant,
}

/// What the kernel's sets have to add and remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    // Plain data.
    pub(crate) added: Vec<IpAddr>,
    pub(crate) removed: Vec<IpAddr>,
}

impl Pinned {
    /// Keeps addresses that are about to be answered for a name, for so many seconds.
    pub(crate) fn learn(&mut self, name: &str, addresses: &[IpAddr], ttl: u32, now: Instant) -> Change {
        let until = now + Duration::from_secs(ttl.into()).clamp(MIN_LIFETIME, MAX_LIFETIME) + GRACE;
        let mut change = Change { added: Vec::new(), removed: self.expire(now) };
        for address in addresses.iter().take(MAX_ADDRESSES_OF_ANSWER).map(IpAddr::to_canonical) {
            let entry = self.addresses.entry(address).or_insert_with(|| {
                change.added.push(address);
                self.order.insert((until, address));
                Names { until, names: Vec::new() }
            });
            entry.add(name, until);
            if until > entry.until {
                self.order.remove(&(entry.until, address));
                self.order.insert((until, address));
                entry.until = until;
            }
        }
        while self.addresses.len() > MAX_ADDRESSES {
            let Some((_, address)) = self.order.pop_first() else { break };
            self.addresses.remove(&address);
            match change.added.iter().position(|added| *added == address) {
                Some(new) => drop(change.added.swap_remove(new)),
                None => change.removed.push(address),
            }
        }
        // One that has run out and come again at once is there already.
        change.removed.retain(|address| !self.addresses.contains_key(address));
        change
    }

    /// Whether the address was answered for that name, which is in lower case.
    pub(crate) fn has(&self, address: IpAddr, name: &str, now: Instant) -> bool {
        let entry = self.addresses.get(&address.to_canonical());
        entry.is_some_and(|entry| entry.names.iter().any(|named| *named.name == *name && now < named.until))
    }

    /// Whether the address was answered for any name.
    pub(crate) fn has_any(&self, address: IpAddr, now: Instant) -> bool {
        self.addresses.get(&address.to_canonical()).is_some_and(|entry| now < entry.until)
    }

    /// Forgets the names that `keep` is false for. Returns the addresses that are left without any.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) -> Vec<IpAddr> {
        let mut removed = Vec::new();
        self.addresses.retain(|address, entry| {
            entry.names.retain(|named| keep(&named.name));
            let until = entry.names.iter().map(|named| named.until).max();
            if until != Some(entry.until) {
                self.order.remove(&(entry.until, *address));
            }
            match until {
                Some(until) => {
                    self.order.insert((until, *address));
                    entry.until = until;
                }
                None => removed.push(*address),
            }
            until.is_some()
        });
        removed
    }

    /// Forgets addresses whatever they were answered for.
    pub(crate) fn forget(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            if let Some(entry) = self.addresses.remove(address) {
                self.order.remove(&(entry.until, *address));
            }
        }
    }

    /// Forgets those that have run out.
    fn expire(&mut self, now: Instant) -> Vec<IpAddr> {
        let mut removed = Vec::new();
        while let Some((until, address)) = self.order.first().copied()
            && until <= now
        {
            self.order.pop_first();
            self.addresses.remove(&address);
            removed.push(address);
        }
        removed
    }
}

impl Names {
    /// Adds a name of the address. Of too many, the one that runs out soonest gives way.
    fn add(&mut self, name: &str, until: Instant) {
        match self.names.iter_mut().find(|named| *named.name == *name) {
            Some(named) => named.until = named.until.max(until),
            None => {
                if self.names.len() >= MAX_NAMES
                    && let Some(soonest) = (0..self.names.len())
                        .min_by_key(|index| self.names.get(*index).map(|named| named.until))
                {
                    self.names.swap_remove(soonest);
                }
                self.names.push(Named { name: name.into(), until });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_address_is_reached_by_the_names_it_was_answered_for_until_they_run_out() {
        let (mut pinned, start) = (Pinned::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pinned.learn("a.example", &[address(1)], 300, start).added, [address(1)]);
        let shared = pinned.learn("b.example", &[address(1), address(2)], 5, start);
        assert_eq!(shared, Change { added: vec![address(2)], removed: vec![] });
        let has = |pinned: &Pinned, name, seconds| pinned.has(address(1), name, at(seconds));
        assert!(has(&pinned, "a.example", 0) && has(&pinned, "b.example", 0));
        assert!(!has(&pinned, "c.example", 0));
        assert!(!pinned.has(address(2), "a.example", start));
        assert!(has(&pinned, "b.example", 89), "kept for a minute and the grace");
        assert!(!has(&pinned, "b.example", 90) && has(&pinned, "a.example", 329));
        assert!(pinned.has_any(address(1), at(329)) && !pinned.has_any(address(1), at(330)));
        let swept = pinned.learn("c.example", &[address(3)], 5, at(330));
        assert_eq!(swept.added, [address(3)]);
        assert_eq!(HashSet::from_iter(swept.removed), HashSet::from([address(1), address(2)]));
        assert!(pinned.has("::ffff:192.0.2.3".parse().unwrap(), "c.example", at(330)), "mapped");
    }

    #[test]
    fn one_that_runs_out_and_comes_again_is_neither_added_nor_removed() {
        let (mut pinned, start) = (Pinned::default(), Instant::now());
        pinned.learn("a.example", &[address(1)], 5, start);
        let again = pinned.learn("a.example", &[address(1)], 5, start + Duration::from_secs(600));
        // The kernel's set has it all the time, whatever the order.
        assert!(again.removed.is_empty(), "{again:?}");
    }

    #[test]
    fn names_that_a_new_policy_lacks_are_forgotten() {
        let (mut pinned, start) = (Pinned::default(), Instant::now());
        pinned.learn("a.example", &[address(1)], 5, start);
        pinned.learn("b.example", &[address(1), address(2)], 5, start);
        assert_eq!(pinned.retain(|name| name == "a.example"), [address(2)]);
        assert!(pinned.has(address(1), "a.example", start));
        assert!(!pinned.has(address(1), "b.example", start));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// A set that follows the changes has all that may be reached, and is bounded.
        #[test]
        fn the_changes_add_up_to_the_table(
            steps in prop::collection::vec((0u8..40, prop::collection::vec(any::<u16>(), 0..40), 0u32..200, 0u64..60), 1..150),
        ) {
            let (mut pinned, mut now) = (Pinned::default(), Instant::now());
            let mut kernel = HashSet::new();
            for (name, addresses, ttl, pause) in steps {
                now += Duration::from_secs(pause);
                let addresses: Vec<IpAddr> =
                    addresses.iter().map(|low| IpAddr::from([9, 9, (low >> 8).to_le_bytes()[0], low.to_le_bytes()[0]])).collect();
                let change = pinned.learn(&format!("n{name}.example"), &addresses, ttl, now);
                for address in change.removed {
                    prop_assert!(kernel.remove(&address));
                }
                kernel.extend(change.added);
                prop_assert_eq!(kernel.len(), pinned.addresses.len());
                prop_assert!(pinned.addresses.keys().all(|address| kernel.contains(address)));
                prop_assert!(kernel.len() <= MAX_ADDRESSES);
                let last = |entry: &Names| entry.names.iter().map(|named| named.until).max();
                let expected: BTreeSet<_> =
                    pinned.addresses.iter().map(|(address, entry)| (last(entry).unwrap(), *address)).collect();
                prop_assert_eq!(&pinned.order, &expected);
            }
        }
    }
}
