//! Verdicts: whether a policy allows an address, and why.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::intervals::Intervals;
use super::special::{self, Class, METADATA, RANGES, Range};
use super::{Policy, PolicyMode, Protocol};

/// Why an address may or may not be reached. The numbers are part of the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Reason {
    /// Allowed: a public address, and the policy is open.
    Open = 1,
    /// Allowed by an entry.
    Listed = 2,
    /// Allowed: TLS to a domain that an entry names.
    Domain = 3,
    /// Denied: the policy is blocked.
    Blocked = -1,
    /// Denied by an entry, which wins over everything.
    Denied = -2,
    /// Denied: no entry of the allowlist matches.
    NotListed = -3,
    /// Denied: private, link-local or otherwise special, and no entry lies inside that range.
    Protected = -4,
    /// Denied: a cloud's metadata service, and no entry is for this very address.
    Metadata = -5,
    /// Denied: an address of the host, and no entry is for this very address.
    Host = -6,
    /// Denied whatever the entries say: multicast, reserved, IPv4-embedded, the sandbox's own network.
    Reserved = -7,
    /// Denied: neither TCP nor UDP, and nothing else leaves.
    Protocol = -8,
    /// Denied: a name that the policy doesn't let be asked for, or another record of it than its addresses. It was not
    /// asked for.
    DnsName = -9,
    /// Denied: an address in an answer to a question for a name, which points at something protected. It was
    /// taken out of the answer.
    Rebinding = -10,
    /// Denied: reached only as a domain, by TLS, and what was sent is not TLS.
    NotTls = -11,
    /// Denied: reached only as a domain, and the TLS handshake names no server (no SNI).
    NoServerName = -12,
    /// Denied: reached only as a domain, and the TLS handshake names a server that no entry is for.
    ServerName = -13,
    /// Denied: the TLS handshake names an allowed server, but the sandbox's resolver did not answer this address
    /// for that name, or too long ago.
    NotResolved = -14,
    /// Denied: reached only as a domain, and the TLS handshake did not begin in time.
    TlsTimeout = -15,
    /// Denied: the policy allows it, but the gateway doesn't let it through: IPv6 where the sandbox has none, or
    /// a policy that was changed at that very moment.
    Gateway = -16,
    /// Denied: on a link of the host's own, though at a public address, and no entry for such neighbours is around it
    /// ([`Policy::allow_local_cidr`], or an allowed range that lies inside the link's).
    OnLink = -17,
}

/// Where an address is, by the host's routing at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// The host itself, or a broadcast address of one of its links.
    Host,
    /// On one of the host's own links, in a range with this prefix length.
    OnLink(u8),
    /// Behind a gateway, or at the other end of a point-to-point link, or nowhere.
    Elsewhere,
}

/// A policy's answer for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// Why.
    pub reason: Reason,
    /// The entry that decided: its index in [`Policy::entries`].
    pub entry: Option<u32>,
    /// The special range that contains the address, if that decided.
    pub range: Option<&'static str>,
}

impl Verdict {
    /// Whether it may be reached.
    pub fn is_allowed(&self) -> bool {
        matches!(self.reason, Reason::Open | Reason::Listed | Reason::Domain)
    }

    fn new(reason: Reason) -> Self {
        Self { reason, entry: None, range: None }
    }

    /// A verdict that doesn't depend on an address alone.
    pub(crate) fn of(reason: Reason) -> Self {
        Self::new(reason)
    }

    fn by(reason: Reason, entry: u32) -> Self {
        Self { entry: Some(entry), ..Self::new(reason) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.reason {
            Reason::Open => "allowed: a public address, and the policy is open",
            Reason::Listed => "allowed by an entry",
            Reason::Blocked => "denied: the policy is blocked",
            Reason::Denied => "denied by an entry",
            Reason::NotListed => "denied: no entry of the allowlist matches",
            Reason::Protected => "denied: protected, and no entry lies inside that range",
            Reason::Metadata => "denied: a metadata service, and no entry is for this very address",
            Reason::Host => "denied: an address of the host, and no entry is for this very address",
            Reason::Reserved => "denied, whatever the entries say",
            Reason::Protocol => "denied: neither TCP nor UDP",
            Reason::Domain => "allowed: TLS to a domain that an entry names",
            Reason::DnsName => "denied: the policy doesn't let this be asked for",
            Reason::Rebinding => "denied: a name's address points at something protected",
            Reason::NotTls => "denied: allowed only as a domain, by TLS, and this is not TLS",
            Reason::NoServerName => "denied: allowed only as a domain, and the TLS handshake names no server",
            Reason::ServerName => "denied: no entry is for the server that the TLS handshake names",
            Reason::NotResolved => {
                "denied: the sandbox's resolver did not answer this address for that server"
            }
            Reason::Gateway => "denied: the policy allows it, but the gateway doesn't let it through",
            Reason::OnLink => "denied: a neighbour on the host's own link, and no entry is for such",
            Reason::TlsTimeout => {
                "denied: allowed only as a domain, and the TLS handshake did not begin in time"
            }
        };
        out.write_str(text)?;
        match (self.entry, self.range) {
            (Some(entry), _) => write!(out, " (entry {entry})"),
            (None, Some(range)) => write!(out, " ({range})"),
            (None, None) => Ok(()),
        }
    }
}

impl Policy {
    /// Evaluates the policy for an address. `locate` looks up where the address is, by the host's routing at this moment;
    /// it is called only where that decides.
    pub(crate) fn verdict(&self, address: IpAddr, locate: impl FnOnce(IpAddr) -> Location) -> Verdict {
        let address = address.to_canonical();
        if self.mode == PolicyMode::Blocked {
            return Verdict::new(Reason::Blocked);
        }
        if let Some((_, entry)) = self.denied.matching(address).next() {
            return Verdict::by(Reason::Denied, entry);
        }
        let class = special::class(address);
        if let Class::Never(range) = class {
            return Verdict { range: Some(range.name), ..Verdict::new(Reason::Reserved) };
        }
        // The least prefix of an entry that allows this address, and the reason if there is none.
        let found = if class == Class::Metadata { Location::Elsewhere } else { locate(address) };
        let (narrowest, refusal, range) = match (class, found) {
            (Class::Metadata, _) => (whole(address), Reason::Metadata, None),
            (_, Location::Host) => (whole(address), Reason::Host, None),
            (Class::Protected(range), _) => (range.prefix, Reason::Protected, Some(range.name)),
            (_, Location::OnLink(prefix)) => (prefix, Reason::OnLink, None),
            _ if self.mode == PolicyMode::Open => return Verdict::new(Reason::Open),
            _ => (0, Reason::NotListed, None),
        };
        // An open policy's entries allow neighbours and nothing else.
        let entries = if refusal == Reason::OnLink && self.mode == PolicyMode::Open {
            &self.local
        } else {
            &self.allowed
        };
        let opens = |(entry, rule): (IpNetwork, u32)| {
            (self.mode == PolicyMode::Open || entry.prefix() >= narrowest).then_some(rule)
        };
        match entries.matching(address).find_map(opens) {
            Some(entry) => Verdict::by(Reason::Listed, entry),
            None => Verdict { range, ..Verdict::new(refusal) },
        }
    }

    /// Evaluates the policy for traffic of this IP protocol (6 is TCP, 17 is UDP) to an address.
    pub(crate) fn verdict_on(
        &self,
        address: IpAddr,
        protocol: u8,
        locate: impl FnOnce(IpAddr) -> Location,
    ) -> Verdict {
        let verdict = self.verdict(address, locate);
        match Protocol::of(protocol) {
            Some(_) => verdict,
            None if !verdict.is_allowed() => verdict,
            None => Verdict::new(Reason::Protocol),
        }
    }

    /// What the entries allow, for the kernel's sets: IPv4, IPv6. The host's own and its neighbours' addresses are
    /// included; the verdict excludes those.
    pub(crate) fn reachable(&self) -> (Intervals, Intervals) {
        (self.reachable_of(false), self.reachable_of(true))
    }
    fn reachable_of(&self, ipv6: bool) -> Intervals {
        let of_version = |range: &IpNetwork| range.is_ipv6() == ipv6;
        let special: Vec<IpNetwork> = RANGES
            .iter()
            .filter_map(|range| IpNetwork::new(range.first, range.prefix).ok())
            .chain(METADATA.iter().filter_map(|address| IpNetwork::new(*address, whole(*address)).ok()))
            .filter(of_version)
            .collect();
        let everything = if ipv6 { "::/0" } else { "0.0.0.0/0" };
        let entries: Vec<IpNetwork> = match self.mode {
            PolicyMode::Blocked => Vec::new(),
            PolicyMode::Open => everything.parse().into_iter().collect(),
            PolicyMode::Allowlist => self.allowed.ranges().filter(of_version).collect(),
        };
        // An entry allows its range, except the special ranges within it.
        let mut open = Vec::with_capacity(entries.len());
        for entry in entries {
            let within: Vec<_> = special
                .iter()
                .filter(|range| range.prefix() > entry.prefix() && entry.contains(range.ip()))
                .map(ends)
                .collect();
            if within.is_empty() {
                open.push(ends(&entry));
            } else {
                open.extend(
                    Intervals::from_any(vec![ends(&entry)]).minus(&Intervals::from_any(within)).iter(),
                );
            }
        }
        let never = Intervals::from_any(never_of(ipv6));
        let denied =
            Intervals::from_any(self.denied.ranges().filter(of_version).map(|range| ends(&range)).collect());
        Intervals::from_any(open).minus(&never).minus(&denied)
    }
}
/// The ranges that no entry can allow, without the ranges inside them that one can (::1 in ::/8).
fn never_of(ipv6: bool) -> Vec<(u128, u128)> {
    let of_version = |range: &&Range| range.first.is_ipv6() == ipv6;
    let network = |range: &Range| IpNetwork::new(range.first, range.prefix).ok().map(|range| ends(&range));
    let mut all = Vec::new();
    for never in RANGES.iter().filter(|range| !range.openable).filter(of_version) {
        let inside = RANGES.iter().filter(|range| range.openable && range.prefix > never.prefix);
        let inside = inside.filter(|range| never.contains(range.first)).filter_map(network).collect();
        let around = Intervals::from_any(network(never).into_iter().collect());
        all.extend(around.minus(&Intervals::from_any(inside)).iter());
    }
    all
}

fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The first and the last address of a range, as numbers.
fn ends(range: &IpNetwork) -> (u128, u128) {
    match range {
        IpNetwork::V4(range) => (range.network().to_bits().into(), range.broadcast().to_bits().into()),
        IpNetwork::V6(range) => (range.network().to_bits(), range.broadcast().to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn allowlist(entries: &[&str]) -> Policy {
        let mut policy = Policy::allowlist();
        for entry in entries {
            policy.allow_cidr(entry).unwrap();
        }
        policy
    }

    fn reason(policy: &Policy, address: &str) -> Reason {
        policy.verdict(address.parse().unwrap(), routed).reason
    }

    /// A host that has 8.8.4.4, on a link with 5.5.5.0/24, 10.0.0.0/8, 2a05:5:5::/64 and a gateway 6.6.6.1 that its
    /// provider has put on no network of its own.
    fn routed(address: IpAddr) -> Location {
        let links: [(&str, u8); 4] =
            [("5.5.5.0/24", 24), ("10.0.0.0/8", 8), ("2a05:5:5::/64", 64), ("6.6.6.1/32", 32)];
        if address == Ipv4Addr::new(8, 8, 4, 4) {
            return Location::Host;
        }
        let on = |(range, _): &&(&str, u8)| range.parse::<IpNetwork>().unwrap().contains(address);
        links.iter().find(on).map_or(Location::Elsewhere, |(_, prefix)| Location::OnLink(*prefix))
    }

    #[test]
    fn neighbours_on_the_hosts_own_links_are_not_the_internet() {
        let mut open = Policy::open();
        for address in ["5.5.5.1", "2a05:5:5::1", "6.6.6.1"] {
            assert_eq!(reason(&open, address), Reason::OnLink, "{address}");
        }
        assert_eq!(reason(&open, "10.1.2.3"), Reason::Protected);
        // Entries for neighbours open them, and nothing that is denied for another reason.
        open.allow_local_cidr("5.5.5.0/25").unwrap().allow_local_cidr("10.0.0.0/8").unwrap();
        open.allow_local_cidr("8.8.4.4/32").unwrap().allow_local_cidr("169.254.169.254/32").unwrap();
        open.deny_cidr("5.5.5.9/32").unwrap();
        for (address, expected) in [
            ("5.5.5.1", Reason::Listed),
            ("5.5.5.200", Reason::OnLink),
            ("5.5.5.9", Reason::Denied),
            ("10.1.2.3", Reason::Protected),
            ("8.8.4.4", Reason::Host),
            ("169.254.169.254", Reason::Metadata),
            ("8.8.8.8", Reason::Open),
        ] {
            assert_eq!(reason(&open, address), expected, "{address}");
        }
        assert_eq!(open.verdict("5.5.5.1".parse().unwrap(), routed).entry, Some(0));
        // However wide: it is about neighbours.
        let mut all = Policy::open();
        all.allow_local_cidr("::/0").unwrap();
        assert_eq!(reason(&all, "2a05:5:5::1"), Reason::Listed);
    }

    #[test]
    fn an_allowlist_opens_neighbours_from_inside_their_range() {
        for (entry, address, expected) in [
            ("0.0.0.0/0", "5.5.5.1", Reason::OnLink),
            ("5.5.0.0/16", "5.5.5.1", Reason::OnLink),
            ("5.5.5.0/24", "5.5.5.1", Reason::Listed),
            ("5.5.5.1/32", "5.5.5.1", Reason::Listed),
            ("5.5.5.2/32", "5.5.5.1", Reason::OnLink),
            ("6.6.6.0/24", "6.6.6.1", Reason::OnLink),
            ("6.6.6.1/32", "6.6.6.1", Reason::Listed),
            ("2a05::/16", "2a05:5:5::1", Reason::OnLink),
            ("2a05:5:5::/64", "2a05:5:5::1", Reason::Listed),
            ("10.0.0.0/8", "10.1.2.3", Reason::Listed),
        ] {
            assert_eq!(reason(&allowlist(&[entry]), address), expected, "{entry} {address}");
        }
    }

    #[test]
    fn open_means_public_and_nothing_else() {
        let mut policy = Policy::open();
        policy.deny_cidr("1.1.1.0/24").unwrap();
        for (address, expected) in [
            ("8.8.8.8", Reason::Open),
            ("2600::1", Reason::Open),
            ("1.1.1.1", Reason::Denied),
            ("::ffff:1.1.1.1", Reason::Denied),
            ("::ffff:10.0.0.1", Reason::Protected),
            ("10.0.0.1", Reason::Protected),
            ("127.0.0.1", Reason::Protected),
            ("169.254.169.254", Reason::Metadata),
            ("168.63.129.16", Reason::Metadata),
            ("169.254.42.42", Reason::Metadata),
            ("fd00:c1::a9fe:a9fe", Reason::Metadata),
            ("161.26.0.10", Reason::Protected),
            ("166.9.0.1", Reason::Protected),
            ("8.8.4.4", Reason::Host),
            ("0.0.0.0", Reason::Reserved),
            ("192.0.0.1", Reason::Reserved),
            ("64:ff9b::808:808", Reason::Reserved),
            ("fe80::1", Reason::Reserved),
            ("fd00::1", Reason::Protected),
        ] {
            assert_eq!(reason(&policy, address), expected, "{address}");
        }
        assert_eq!(reason(&Policy::blocked(), "8.8.8.8"), Reason::Blocked);
    }

    #[test]
    fn an_entry_opens_a_protected_range_only_from_inside() {
        let wide = allowlist(&["0.0.0.0/0", "::/0"]);
        for (address, expected) in [
            ("8.8.8.8", Reason::Listed),
            ("10.1.2.3", Reason::Protected),
            ("169.254.169.254", Reason::Metadata),
            ("8.8.4.4", Reason::Host),
            ("224.0.0.1", Reason::Reserved),
            ("::1", Reason::Protected),
        ] {
            assert_eq!(reason(&wide, address), expected, "{address}");
        }
        let inside =
            allowlist(&["10.1.0.0/16", "169.254.0.0/16", "224.0.0.0/8", "192.0.0.0/24", "8.8.4.4/32"]);
        for (address, expected) in [
            ("10.1.2.3", Reason::Listed),
            ("10.2.0.0", Reason::Protected),
            ("169.254.1.1", Reason::Listed),
            ("169.254.169.254", Reason::Metadata),
            ("224.0.0.1", Reason::Reserved),
            ("192.0.0.9", Reason::Listed),
            ("192.0.0.192", Reason::Metadata),
            ("192.0.0.2", Reason::Reserved),
            ("8.8.4.4", Reason::Listed),
            ("8.8.8.8", Reason::NotListed),
        ] {
            assert_eq!(reason(&inside, address), expected, "{address}");
        }
        assert_eq!(reason(&allowlist(&["169.254.169.254/32"]), "169.254.169.254"), Reason::Listed);
        assert_eq!(reason(&allowlist(&[]), "8.8.8.8"), Reason::NotListed);
    }

    #[test]
    fn the_entry_that_decided_is_named() {
        let mut policy = allowlist(&["1.0.0.0/8", "1.2.0.0/16"]);
        policy.deny_cidr("1.2.3.0/24").unwrap();
        let rule = |address: &str| policy.verdict(address.parse().unwrap(), |_| Location::Elsewhere).entry;
        assert_eq!(
            (rule("1.1.1.1"), rule("1.2.1.1"), rule("1.2.3.4"), rule("2.2.2.2")),
            (Some(0), Some(1), Some(2), None)
        );
    }

    fn v4_entry() -> impl Strategy<Value = String> {
        // Mostly near the edges of the special ranges.
        let near =
            prop::sample::select(RANGES.iter().filter(|range| range.first.is_ipv4()).collect::<Vec<_>>());
        let base = prop_oneof![
            near.prop_map(|range| u32::from_be_bytes(match range.first {
                IpAddr::V4(first) => first.octets(),
                IpAddr::V6(_) => [0; 4],
            })),
            any::<u32>(),
        ];
        (base, 0u8..=32).prop_map(|(bits, prefix)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            format!("{}/{prefix}", Ipv4Addr::from_bits(bits & mask))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// The kernel's sets and the verdict agree at every edge, and one beyond.
        #[test]
        fn sets_and_verdict_agree(
            open: bool,
            allowed in prop::collection::vec(v4_entry(), 0..8),
            denied in prop::collection::vec(v4_entry(), 0..4),
        ) {
            let mut policy = if open { Policy::open() } else { Policy::allowlist() };
            if !open {
                for entry in &allowed {
                    policy.allow_cidr(entry).unwrap();
                }
            }
            for entry in &denied {
                policy.deny_cidr(entry).unwrap();
            }
            let (v4, v6) = policy.reachable();
            let special = RANGES.iter().filter_map(|range| IpNetwork::new(range.first, range.prefix).ok());
            let entries = allowed.iter().chain(&denied).map(|entry| entry.parse::<IpNetwork>().unwrap());
            let mut points = Vec::new();
            for range in special.chain(entries) {
                let (first, last) = ends(&range);
                points.extend([first.saturating_sub(1), first, last, last.saturating_add(1)].map(|point| (range.is_ipv6(), point)));
            }
            for (ipv6, point) in points {
                let (address, set): (IpAddr, _) = if ipv6 {
                    (Ipv6Addr::from_bits(point).into(), &v6)
                } else {
                    (Ipv4Addr::from_bits(u32::try_from(point).unwrap_or(u32::MAX)).into(), &v4)
                };
                if address.to_canonical() != address {
                    continue;
                }
                let number = match address { IpAddr::V4(a) => a.to_bits().into(), IpAddr::V6(a) => a.to_bits() };
                let verdict = policy.verdict(address, |_| Location::Elsewhere);
                prop_assert_eq!(set.contains(number), verdict.is_allowed(), "{} {:?}", address, verdict);
            }
        }
    }
}
