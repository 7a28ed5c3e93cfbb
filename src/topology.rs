//! The addresses of a sandbox's network: of S, whose interface gVisor takes over, and of G, its gateway.
//!
//! ```text
//!  S  eth0 192.0.0.2/29, lo   ◄── veth ──►   gw0 192.0.0.1/29 (and .3–.6), lo, rules  G
//! ```
//!
//! Each pair is alone in its namespaces, so every sandbox has the same addresses: 192.0.0.0/29 is set aside
//! for uses like this (RFC 7335) and never on the Internet. The keeper's program includes this file, too.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The interface of G.
pub(crate) const GATEWAY_LINK: &str = "gw0";
/// The interface of S, which the sandbox sees.
pub(crate) const SANDBOX_LINK: &str = "eth0";

/// The gateway.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
/// The sandbox.
pub(crate) const SANDBOX: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
/// Further addresses of the gateway, to connect into the sandbox from when the ports of the first run out.
pub(crate) const SPARE: [Ipv4Addr; 4] = [
    Ipv4Addr::new(192, 0, 0, 3),
    Ipv4Addr::new(192, 0, 0, 4),
    Ipv4Addr::new(192, 0, 0, 5),
    Ipv4Addr::new(192, 0, 0, 6),
];
/// The network of all these addresses, and the length of its prefix.
pub(crate) const NETWORK: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 0);
pub(crate) const PREFIX: u8 = 29;

/// The IPv6 network, a unique local one (RFC 4193) whose global ID spells "sbxne", and its prefix.
pub(crate) const NETWORK6: Ipv6Addr = Ipv6Addr::new(0xfd73, 0x6278, 0x6e65, 0, 0, 0, 0, 0);
pub(crate) const PREFIX6: u8 = 64;
/// The gateway in it.
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd73, 0x6278, 0x6e65, 0, 0, 0, 0, 1);
/// The sandbox in it.
pub(crate) const SANDBOX6: Ipv6Addr = Ipv6Addr::new(0xfd73, 0x6278, 0x6e65, 0, 0, 0, 0, 2);

/// Locally administered; the only ones on their link.
pub(crate) const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
pub(crate) const SANDBOX_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 2];
