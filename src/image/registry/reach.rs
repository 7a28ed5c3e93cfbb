//! Which addresses a server may send a pull to.
//!
//! A registry's answers name further servers: its token service, and the storage behind a redirect. What the user named may
//! have any address. What a server names must not be nearer to this machine than that server is, so that a registry on the
//! Internet can't reach the private network or this machine through a pull; and it is never link-local or a cloud's metadata
//! service.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::Result;
use crate::image::error;
use crate::policy::special::{self, Class};

/// How near to this machine an address is, from afar to near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    Public,
    /// Private networks, unique local addresses and the like.
    Private,
    Loopback,
}

/// Who named a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// The user, by the reference or the settings.
    User,
    /// A server with this reach.
    Server(Reach),
}

impl Reach {
    /// The reach of an address; `None` for one that no server may name.
    pub(super) fn of(address: IpAddr) -> Option<Self> {
        let address = address.to_canonical();
        let address = translated(address).map_or(address, IpAddr::V4);
        match special::class(address) {
            Class::Public => Some(Self::Public),
            _ if address.is_loopback() => Some(Self::Loopback),
            Class::Protected(_) if is_link_local(address) => None,
            Class::Protected(_) => Some(Self::Private),
            Class::Metadata | Class::Never(_) => None,
        }
    }
}

impl NamedBy {
    /// Whether a server so named may have this address.
    pub(super) fn check(self, host: &str, address: IpAddr) -> Result<()> {
        let Self::Server(by) = self else { return Ok(()) };
        match Reach::of(address) {
            Some(reach) if reach <= by => Ok(()),
            Some(Reach::Loopback) => Err(refused(host, address, "this machine's own address")),
            Some(_) => Err(refused(host, address, "a private address")),
            None => Err(refused(host, address, "an address that no registry may lead to")),
        }
    }
}

fn refused(host: &str, address: IpAddr, what: &str) -> crate::error::Error {
    error(format!("the registry leads to {host} at {address}, {what}: refused"))
}

/// The IPv4 address that a NAT64 gateway with the well-known prefix leads to: networks without IPv4 have such addresses for
/// everything (DNS64).
fn translated(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(by: NamedBy, address: &str) -> bool {
        by.check("host.example", address.parse().unwrap()).is_ok()
    }

    const NEVER: [&str; 11] = [
        "169.254.169.254",
        "169.254.1.1",
        "168.63.129.16",
        "100.100.100.200",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "::",
        "64:ff9b::a9fe:a9fe",
    ];

    #[test]
    fn a_server_leads_no_nearer_than_it_is() {
        for (by, expected) in [
            (NamedBy::Server(Reach::Public), [true, false, false]),
            (NamedBy::Server(Reach::Private), [true, true, false]),
            (NamedBy::Server(Reach::Loopback), [true, true, true]),
            (NamedBy::User, [true, true, true]),
        ] {
            for (addresses, expected) in [
                (["1.1.1.1", "2600::1", "64:ff9b::101:101", "::ffff:1.1.1.1"], expected[0]),
                (["10.0.0.1", "192.168.1.1", "fc00::1", "100.64.0.1"], expected[1]),
                (["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"], expected[2]),
            ] {
                for address in addresses {
                    assert_eq!(allowed(by, address), expected, "{by:?} {address}");
                }
            }
            for address in NEVER {
                assert_eq!(allowed(by, address), by == NamedBy::User, "{by:?} {address}");
            }
        }
    }
}
