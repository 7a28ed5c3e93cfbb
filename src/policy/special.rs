//! Addresses that are not the public Internet.
//!
//! From the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and what it lists), the multicast
//! registries, and the addresses at which clouds serve metadata and credentials.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::topology;

/// The class of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// An address of the public Internet.
    Public,
    /// Protected: allowed only by an entry that lies inside this range.
    Protected(&'static Range),
    /// A cloud's metadata service: allowed only by an entry for this one address.
    Metadata,
    /// Always denied, whatever the entries are.
    Never(&'static Range),
}

/// A range with a special purpose.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// Its first address.
    pub(crate) first: IpAddr,
    /// The length of its prefix.
    pub(crate) prefix: u8,
    /// What it is.
    pub(crate) name: &'static str,
    /// Whether an entry inside it can allow its addresses.
    pub(crate) openable: bool,
}

const fn v4(octets: [u8; 4], prefix: u8, name: &'static str) -> Range {
    let [a, b, c, d] = octets;
    Range { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix, name, openable: true }
}

const fn v6(parts: [u16; 4], prefix: u8, name: &'static str) -> Range {
    let [a, b, c, d] = parts;
    Range { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), prefix, name, openable: true }
}

const fn never(range: Range) -> Range {
    Range { openable: false, ..range }
}

/// The special ranges. They are nested or disjoint; of nested ones the longest prefix counts.
pub(crate) const RANGES: &[Range] = &[
    never(v4([0, 0, 0, 0], 8, "\"this network\" (RFC 791): on Linux the host itself")),
    v4([10, 0, 0, 0], 8, "private (RFC 1918)"),
    v4([100, 64, 0, 0], 10, "shared, carrier-grade NAT (RFC 6598)"),
    v4([127, 0, 0, 0], 8, "loopback (RFC 1122)"),
    // Public addresses that lead to the provider's own services, from its machines only.
    v4([161, 26, 0, 0], 16, "provider-internal (IBM Cloud)"),
    v4([166, 8, 0, 0], 14, "provider-internal (IBM Cloud)"),
    v4([169, 254, 0, 0], 16, "link-local (RFC 3927)"),
    v4([172, 16, 0, 0], 12, "private (RFC 1918)"),
    v4([192, 0, 0, 0], 24, "IETF protocol assignments (RFC 6890)"),
    Range {
        first: IpAddr::V4(topology::NETWORK),
        prefix: topology::PREFIX,
        name: "the sandbox's own network (RFC 7335)",
        openable: false,
    },
    v4([192, 0, 2, 0], 24, "documentation (RFC 5737)"),
    v4([192, 31, 196, 0], 24, "AS112 (RFC 7535)"),
    v4([192, 52, 193, 0], 24, "AMT (RFC 7450)"),
    v4([192, 88, 99, 0], 24, "6to4 relays (RFC 7526)"),
    v4([192, 168, 0, 0], 16, "private (RFC 1918)"),
    v4([192, 175, 48, 0], 24, "AS112 (RFC 7534)"),
    v4([198, 18, 0, 0], 15, "benchmarking (RFC 2544)"),
    v4([198, 51, 100, 0], 24, "documentation (RFC 5737)"),
    v4([203, 0, 113, 0], 24, "documentation (RFC 5737)"),
    never(v4([224, 0, 0, 0], 4, "multicast (RFC 5771)")),
    never(v4([240, 0, 0, 0], 4, "reserved and broadcast (RFC 1112, RFC 8190)")),
    // Everything outside 2000::/3 is not global unicast; what has a use of its own stands beside it.
    never(v6([0, 0, 0, 0], 8, "unspecified, IPv4-mapped and IPv4-compatible (RFC 4291)")),
    Range {
        first: IpAddr::V6(Ipv6Addr::LOCALHOST),
        prefix: 128,
        name: "loopback (RFC 4291)",
        openable: true,
    },
    never(v6([0x64, 0xff9b, 0, 0], 96, "NAT64 (RFC 6052): embeds an IPv4 address")),
    never(v6([0x64, 0xff9b, 1, 0], 48, "NAT64, local use (RFC 8215)")),
    never(v6([0x100, 0, 0, 0], 8, "discard-only and reserved (RFC 6666)")),
    never(v6([0x200, 0, 0, 0], 7, "reserved")),
    never(v6([0x400, 0, 0, 0], 6, "reserved")),
    never(v6([0x800, 0, 0, 0], 5, "reserved")),
    never(v6([0x1000, 0, 0, 0], 4, "reserved")),
    v6([0x2001, 0, 0, 0], 23, "IETF protocol assignments (RFC 2928)"),
    never(v6([0x2001, 0, 0, 0], 32, "Teredo (RFC 4380): embeds an IPv4 address")),
    v6([0x2001, 0xdb8, 0, 0], 32, "documentation (RFC 3849)"),
    never(v6([0x2002, 0, 0, 0], 16, "6to4 (RFC 3056): embeds an IPv4 address")),
    v6([0x2620, 0x4f, 0x8000, 0], 48, "AS112 (RFC 7534)"),
    v6([0x3fff, 0, 0, 0], 20, "documentation (RFC 9637)"),
    never(v6([0x4000, 0, 0, 0], 2, "reserved, and segment routing (RFC 9602)")),
    never(v6([0x8000, 0, 0, 0], 1, "reserved")),
    v6([0xfc00, 0, 0, 0], 7, "unique local (RFC 4193)"),
    Range {
        first: IpAddr::V6(topology::NETWORK6),
        prefix: topology::PREFIX6,
        name: "the sandbox's own network",
        openable: false,
    },
    never(v6([0xfe80, 0, 0, 0], 10, "link-local (RFC 4291)")),
    never(v6([0xfec0, 0, 0, 0], 10, "site-local (RFC 3879)")),
    never(v6([0xff00, 0, 0, 0], 8, "multicast (RFC 4291)")),
];

/// The addresses where clouds serve metadata and credentials to any process on the machine.
pub(crate) const METADATA: &[IpAddr] = &[
    // AWS, Google, Azure, DigitalOcean, Oracle, Hetzner, IBM and others
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // AWS: ECS credentials, EKS pod identity, DNS, time
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 123)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253)),
    // Google, IPv6
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Oracle, Akamai (Linode) and Scaleway, IPv6
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    // Scaleway, Tencent
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    // Azure's host agent, a public address
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba, Oracle (classic)
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Classifies an address. IPv4-mapped ones must have been converted to IPv4 (`to_canonical`).
pub(crate) fn class(address: IpAddr) -> Class {
    if METADATA.contains(&address) {
        return Class::Metadata;
    }
    let containing = RANGES.iter().filter(|range| range.contains(address));
    match containing.max_by_key(|range| range.prefix) {
        None => Class::Public,
        Some(range) if range.openable => Class::Protected(range),
        Some(range) => Class::Never(range),
    }
}

impl Range {
    /// Whether the address lies in it.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                (first.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                (first.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Class {
        class(text.parse().unwrap())
    }

    #[test]
    fn the_public_internet_is_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "161.25.255.255",
            "161.27.0.0",
            "166.7.255.255",
            "166.12.0.0",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::",
            "2600::1",
            "2a00::1",
            "3ffe:ffff::1",
        ] {
            assert_eq!(of(text), Class::Public, "{text}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for text in [
            "0.0.0.0",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "161.26.0.1",
            "166.8.0.0",
            "166.11.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.168.255.255",
            "198.19.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::",
            "5f00::1",
            "8000::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert_ne!(of(text), Class::Public, "{text}");
        }
    }

    #[test]
    fn the_innermost_range_counts() {
        assert!(matches!(of("::1"), Class::Protected(range) if range.prefix == 128));
        assert!(matches!(of("192.0.0.9"), Class::Protected(range) if range.prefix == 24));
        assert!(matches!(of("192.0.0.2"), Class::Never(range) if range.prefix == 29));
        assert!(matches!(of("2001:0:1::"), Class::Never(range) if range.prefix == 32));
        assert!(matches!(of("fd73:6278:6e65::2"), Class::Never(_)));
        assert!(matches!(of("fd73::2"), Class::Protected(_)));
    }
}
