//! What every message to nf_tables begins with.

use crate::net::message::Message;

/// The library's table.
pub(super) const TABLE: &str = "sbx";

// linux/netfilter/nfnetlink.h
pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10;

// linux/netfilter.h; NFPROTO_INET is one table for IPv4 and IPv6.
pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_IPV6: u8 = 10;

/// The type of a message to nf_tables.
pub(super) fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// `struct nfgenmsg`.
pub(super) fn family(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

pub(super) fn change(what: &'static str, message: u16, more: u16) -> Message {
    Message::new(what, kind(message), more).fixed(&family(NFPROTO_INET, 0))
}
