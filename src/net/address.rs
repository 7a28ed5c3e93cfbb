//! Names and addresses of the two namespaces: the same for every sandbox.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The interface of G.
pub(super) const GATEWAY_LINK: &str = "gw0";
/// The interface of S, and so inside.
pub(super) const SANDBOX_LINK: &str = "eth0";
/// Both have this index in their namespace: 1 is lo.
pub(super) const INDEX: u32 = 2;

/// The gateway.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
/// The sandbox.
pub(super) const SANDBOX: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
/// Further addresses of the gateway, to connect into the sandbox from when the ports of the first run out.
pub(super) const SPARE: [Ipv4Addr; 4] = [
    Ipv4Addr::new(192, 0, 0, 3),
    Ipv4Addr::new(192, 0, 0, 4),
    Ipv4Addr::new(192, 0, 0, 5),
    Ipv4Addr::new(192, 0, 0, 6),
];
/// The length of the network's prefix.
pub(super) const PREFIX: u8 = 29;

/// The gateway's IPv6 address: a unique local one (RFC 4193) whose global ID spells "sbx net".
pub(super) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd73, 0x6278, 0x6e65, 0x7400, 0, 0, 0, 1);
/// The sandbox's.
pub(super) const SANDBOX6: Ipv6Addr = Ipv6Addr::new(0xfd73, 0x6278, 0x6e65, 0x7400, 0, 0, 0, 2);
pub(super) const PREFIX6: u8 = 64;

/// Locally administered, and alone on their link.
pub(super) const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
pub(super) const SANDBOX_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 2];

/// The mark of what is delivered to a socket of ours whatever its destination, and the table for it.
pub(super) const MARK: u32 = 1;
pub(super) const TABLE: u8 = 100;
