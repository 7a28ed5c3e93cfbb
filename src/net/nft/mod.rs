//! The rules of G, in nf_tables (linux/netfilter/nf_tables.h; the text form: nft(8)).
//!
//! One chain at the prerouting hook sees every packet that leaves the sandbox, before routing. Its policy is drop. What
//! it accepts is delivered to a socket of the library's in G and nowhere else: G has no uplink. There is no connection
//! tracking: an address that was allowed once does not stay allowed. (Fragments are reassembled before the rules see
//! them, because a rule with tproxy makes the kernel do that.)
//!
//! Not a crate: `rustables` is under the GPL, `nftnl` needs C libraries, and `netlink-packet-netfilter` lacks the
//! tproxy, log, limit and reject expressions.

mod expression;
mod generation;
mod message;
pub(crate) mod rules;
mod set;
mod transaction;

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::message::{Message, attribute, flags};
use super::netlink::Netlink;
use crate::error::{Code, Context, Error, Result};
use crate::topology::{GATEWAY, SPARE};
pub(crate) use generation::AllowedSets;
use generation::{Generation, MAX_SET_RANGES};
use message::{NFPROTO_INET, TABLE, family, kind};
use rules::{EGRESS, REFUSED};
use set::KeyType;
use transaction::{
    NFT_MSG_GETRULE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, batches, chain, flush, hook,
    rule, table, transaction,
};

/// The chain that the kernel calls. The other chains are in [`rules`].
const PREROUTING: &str = "prerouting";

/// The rules of one G, loaded.
#[derive(Debug)]
pub(crate) struct Rules {
    netlink: Netlink,
    /// What is in force.
    current: Generation,
    /// The number of the last generation that was tried.
    tried: u64,
    /// Whether the sandbox has an IPv6 address at all.
    ipv6: bool,
    /// Whether refused packets are logged.
    logged: bool,
    /// The addresses of [`Rules::answer`] that are there now, and those of them that are to be removed.
    answered: HashSet<IpAddr>,
    overdue: HashSet<IpAddr>,
}

impl Rules {
    /// Loads everything in one transaction over a NETLINK_NETFILTER socket of G. The sets are empty. Refused
    /// packets are logged to [`super::nflog`] if the kernel supports that; else they are counted only.
    pub(crate) fn load(filter_g: OwnedFd, ipv6: bool) -> Result<Self> {
        let mut netlink = Netlink::new(filter_g)?;
        let logged = match Self::load_all(&mut netlink, ipv6, true) {
            Ok(()) => true,
            // The kernel's error for an expression that it doesn't support.
            Err(error) if error.os_error() == Some(libc::ENOENT) => {
                Self::load_all(&mut netlink, ipv6, false)?;
                log::info!("this kernel can't log which packets were refused: {error}");
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            netlink,
            current: Generation::new(0, (0, 0), ipv6, false),
            tried: 0,
            ipv6,
            logged,
            answered: HashSet::new(),
            overdue: HashSet::new(),
        })
    }

    /// Whether refused packets are logged, and not only counted.
    pub(crate) fn log_refused(&self) -> bool {
        self.logged
    }

    fn load_all(netlink: &mut Netlink, ipv6: bool, logged: bool) -> Result<()> {
        let current = Generation::new(0, (0, 0), ipv6, false);
        let own = SPARE.into_iter().chain([GATEWAY]).map(|address| address.octets().to_vec());
        let mut changes = vec![table()];
        changes.push(set::new(set::GATEWAY4, 3, KeyType::Ipv4, false));
        changes.extend(set::add_values(set::GATEWAY4, own));
        changes.push(set::new(set::SERVICES, 4, KeyType::Port, false));
        changes.push(set::new(set::RESOLVED4, 6, KeyType::Ipv4, false));
        if ipv6 {
            changes.push(set::new(set::RESOLVED6, 7, KeyType::Ipv6, false));
        }
        changes.extend(current.sets());
        changes.extend([chain(EGRESS), chain(REFUSED), hook(chain(PREROUTING))]);
        changes.extend(rules::egress(&current).iter().map(|steps| rule(EGRESS, steps)));
        changes.extend(rules::refused(logged).iter().map(|steps| rule(REFUSED, steps)));
        changes.extend(rules::prerouting(ipv6).iter().map(|steps| rule(PREROUTING, steps)));
        netlink.request(transaction(changes))
    }

    /// Replaces the allowed destinations: fills new sets, reads them back and compares them, then switches over in one
    /// small transaction. Returns the new generation. On failure, the old rules stay in force. `ipv6` says whether IPv6
    /// is relayed at the moment; it can't be where the sandbox has no IPv6 address.
    pub(crate) fn apply(&mut self, allowed: &AllowedSets, ipv6: bool) -> Result<u64> {
        self.tried = self.tried.saturating_add(1);
        let ipv6 = ipv6 && self.ipv6;
        let wanted = allowed.merged(ipv6);
        let lengths = (wanted.v4.len(), wanted.v6.len());
        let next = Generation::new(self.tried, lengths, ipv6, !wanted.tls.is_empty());
        self.netlink.request(transaction(next.sets())).context("new sets of destinations")?;
        if let Err(error) = self.fill(next, &wanted).and_then(|()| self.switch(next)) {
            // No rule refers to them yet. If this fails too, they only use memory until G ends.
            let _ = self.netlink.request(transaction(next.delete()));
            return Err(error);
        }
        self.current = next;
        Ok(next.number)
    }
}

/// Changes while the sandbox runs.
impl Rules {
    /// Allows these further TCP ports of the gateway's address.
    pub(crate) fn add_services(&mut self, ports: &[u16]) -> Result<()> {
        let ports = ports.iter().map(|port| port.to_be_bytes().to_vec());
        let changes = set::add_values(set::SERVICES, ports);
        if changes.is_empty() {
            return Ok(());
        }
        self.netlink.request(transaction(changes)).context("services of the host")
    }

    /// Updates the addresses that the resolver answered for the policy's domains: `added` ones are allowed, `removed`
    /// ones have expired. On failure none of the added ones is allowed; what could not be removed is tried again the
    /// next time.
    ///
    /// (Not by the kernel's element time-outs: before Linux 6.12 that of an existing element can't be renewed.)
    pub(crate) fn answer(&mut self, added: &[IpAddr], removed: &[IpAddr]) -> Result<()> {
        let offered = |address: &&IpAddr| address.is_ipv4() || self.ipv6;
        let added: HashSet<IpAddr> = added.iter().filter(offered).copied().collect();
        self.overdue.extend(removed);
        self.overdue.retain(|address| self.answered.contains(address) && !added.contains(address));
        let added: Vec<IpAddr> =
            added.into_iter().filter(|address| !self.answered.contains(address)).collect();
        let done = self.remove_overdue().and_then(|()| self.add_answered(&added));
        if done.is_err() {
            self.overdue.extend(added.iter().filter(|address| self.answered.contains(*address)));
            // The rest is tried again the next time.
            let _ = self.remove_overdue();
        }
        done
    }

    fn add_answered(&mut self, addresses: &[IpAddr]) -> Result<()> {
        let max = max_elements(self.netlink.room()?);
        for part in addresses.chunks(max) {
            self.netlink.request(transaction(elements(part, set::add_values))).context(RESOLVED)?;
            self.answered.extend(part);
        }
        Ok(())
    }

    fn remove_overdue(&mut self) -> Result<()> {
        if self.overdue.is_empty() {
            return Ok(());
        }
        let max = max_elements(self.netlink.room()?);
        let overdue: Vec<IpAddr> = self.overdue.iter().copied().collect();
        for part in overdue.chunks(max) {
            self.netlink.request(transaction(elements(part, set::remove_values))).context(RESOLVED)?;
            for address in part {
                self.answered.remove(address);
                self.overdue.remove(address);
            }
        }
        Ok(())
    }

    /// Reads the rules in force back from the kernel.
    #[cfg(test)]
    pub(crate) fn in_force(&mut self) -> Result<(u64, AllowedSets)> {
        Ok((self.current.number, self.read(self.current)?))
    }

    /// Whether the kernel's sets are those that were loaded for these destinations.
    pub(crate) fn is_in_force(&mut self, wanted: &AllowedSets) -> Result<bool> {
        Ok(self.read(self.current)? == wanted.merged(self.current.ipv6))
    }

    /// How many packets were refused since the rules were loaded.
    pub(crate) fn refused(&mut self) -> Result<u64> {
        let question = Message::new("to list rules", kind(NFT_MSG_GETRULE), flags::DUMP)
            .fixed(&family(NFPROTO_INET, 0))
            .put_text(NFTA_RULE_TABLE, TABLE)
            .put_text(NFTA_RULE_CHAIN, REFUSED);
        let mut total: u64 = 0;
        self.netlink.query(question, |answer| {
            let rule = answer.payload.get(4..).unwrap_or_default();
            let expressions = attribute(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
            total = total.saturating_add(expression::counted(expressions).unwrap_or(0));
        })?;
        Ok(total)
    }

    fn read(&mut self, generation: Generation) -> Result<AllowedSets> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for name in generation.allow4() {
            v4.extend(set::read_ranges(&mut self.netlink, &name)?);
        }
        for name in generation.allow6() {
            v6.extend(set::read_ranges(&mut self.netlink, &name)?);
        }
        let tls = match generation.tls {
            true => set::read_ports(&mut self.netlink, &generation.tls())?,
            false => Vec::new(),
        };
        Ok(AllowedSets { v4, v6, tls })
    }

    /// Fills the sets with ranges that are merged already, and reads them back.
    fn fill(&mut self, generation: Generation, wanted: &AllowedSets) -> Result<()> {
        let mut changes = Vec::new();
        for (name, ranges) in generation.allow4().zip(wanted.v4.chunks(MAX_SET_RANGES)) {
            changes.extend(set::add_ranges(&name, ranges));
        }
        for (name, ranges) in generation.allow6().zip(wanted.v6.chunks(MAX_SET_RANGES)) {
            changes.extend(set::add_ranges(&name, ranges));
        }
        let ports = wanted.tls.iter().map(|port| port.to_be_bytes().to_vec());
        changes.extend(set::add_values(&generation.tls(), ports));
        let room = self.netlink.room()?;
        for batch in batches(changes, room) {
            self.netlink.request(transaction(batch)).context("filling a set of destinations")?;
        }
        if self.read(generation)? != *wanted {
            let text = "the kernel's set of destinations differs from what was loaded; the old policy stays";
            return Err(Error::new(Code::Internal, text));
        }
        Ok(())
    }

    fn switch(&mut self, next: Generation) -> Result<()> {
        let mut changes = vec![flush(EGRESS)];
        changes.extend(rules::egress(&next).iter().map(|steps| rule(EGRESS, steps)));
        changes.extend(self.current.delete());
        self.netlink.request(transaction(changes)).context("switching to new destinations")
    }
}

const RESOLVED: &str = "addresses that the resolver answered";

/// How many addresses one transaction adds or removes: limited by what may be sent at once, and by the length of one
/// message. Each takes 28 bytes with its headers.
fn max_elements(room: usize) -> usize {
    (room.saturating_sub(1024) / 32).clamp(1, 1024)
}

/// The requests that change the sets of resolved addresses.
fn elements(addresses: &[IpAddr], change: fn(&str, Vec<Vec<u8>>) -> Vec<Message>) -> Vec<Message> {
    let of_version = |ipv6: bool| -> Vec<Vec<u8>> {
        addresses.iter().filter(|address| address.is_ipv6() == ipv6).map(bytes).collect()
    };
    let mut changes = change(set::RESOLVED4, of_version(false));
    changes.extend(change(set::RESOLVED6, of_version(true)));
    changes
}

/// An address as it is in a packet.
fn bytes(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn what_was_answered_is_sent_in_parts_that_may_be_sent_at_once() {
        let addresses: Vec<IpAddr> = (0..4096_u32)
            .flat_map(|index| [Ipv6Addr::from_bits(index.into()).into(), Ipv4Addr::from_bits(index).into()])
            .collect();
        for room in [4608 - 32, 65_536, 212_992 - 32, 1 << 20] {
            for change in [set::add_values, set::remove_values] as [fn(&str, Vec<Vec<u8>>) -> Vec<Message>; 2]
            {
                for part in addresses.chunks(max_elements(room)) {
                    let length: usize = transaction(elements(part, change)).iter().map(Message::len).sum();
                    assert!(length <= room, "{length} in {room}");
                }
                let six: Vec<IpAddr> = addresses.iter().copied().filter(IpAddr::is_ipv6).collect();
                let part = six.get(..max_elements(room)).unwrap_or(&six);
                let length: usize = transaction(elements(part, change)).iter().map(Message::len).sum();
                assert!(length <= room, "{length} in {room}");
            }
        }
    }
}
