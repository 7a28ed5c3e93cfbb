//! Links, addresses, neighbours, routes and rules, as requests to rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::message::{Message, flags};

// linux/if_link.h, linux/veth.h, linux/fib_rules.h, linux/rtnetlink.h: what libc has no name for.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;
const RTM_F_FIB_MATCH: u32 = 0x2000;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;

/// The mark of packets that are delivered to the library's sockets whatever their destination.
pub(super) const MARK: u32 = 1;

/// The index that `lo` has in every namespace.
pub(super) const LOOPBACK: u32 = 1;

/// `struct ifinfomsg`.
fn link(index: u32, up: bool) -> Vec<u8> {
    let mask: u32 = libc::IFF_UP.cast_unsigned();
    let flags = if up { mask } else { 0 };
    let mut bytes = vec![0; 4];
    bytes.extend([index, flags, mask].into_iter().flat_map(u32::to_ne_bytes));
    bytes
}

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) name: &'a str,
    pub(super) index: u32,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
}

impl End<'_> {
    fn describe(&self, message: Message) -> Message {
        message
            .put_text(libc::IFLA_IFNAME, self.name)
            .put(libc::IFLA_ADDRESS, &self.mac)
            .put_u32(libc::IFLA_MTU, self.mtu)
    }
}

/// Makes a veth pair: `here` in the socket's namespace, `there` in that of the descriptor. Both are down.
pub(super) fn veth(here: &End<'_>, there: &End<'_>, namespace: BorrowedFd<'_>) -> Message {
    let message = Message::new("a veth pair", libc::RTM_NEWLINK, flags::CREATE | flags::EXCLUSIVE);
    here.describe(message.fixed(&link(here.index, false))).nest(libc::IFLA_LINKINFO, |info| {
        info.put(libc::IFLA_INFO_KIND, b"veth").nest(libc::IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                let peer = there.describe(peer.fixed(&link(there.index, false)));
                peer.put_u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned())
            })
        })
    })
}

/// Keeps the kernel from giving the link an address of its own (fe80::…) when it comes up; to be done before
/// that. A kernel without IPv6 has no such address and refuses.
pub(super) fn no_link_local(index: u32) -> Message {
    let inet6 = u16::from(family(Ipv6Addr::UNSPECIFIED.into()));
    Message::new("to do without a link-local address", libc::RTM_SETLINK, 0)
        .fixed(&link(index, false))
        .nest(libc::IFLA_AF_SPEC, |families| {
            families.nest(inet6, |inet6| inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]))
        })
        .tolerating(Errno::EAFNOSUPPORT)
}

/// Turns ARP and NDP off on the link: the neighbours are known. The kernel's table of learned neighbours is shared by all
/// namespaces of the machine, and has a limit.
pub(super) fn without_arp(index: u32) -> Message {
    let no_arp: u32 = libc::IFF_NOARP.cast_unsigned();
    let mut bytes = vec![0; 4];
    bytes.extend([index, no_arp, no_arp].into_iter().flat_map(u32::to_ne_bytes));
    Message::new("to do without ARP", libc::RTM_NEWLINK, 0).fixed(&bytes)
}

/// Brings a link up.
pub(super) fn up(index: u32) -> Message {
    Message::new("to bring a link up", libc::RTM_NEWLINK, 0).fixed(&link(index, true))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    // AF_INET and AF_INET6 as the headers have them, which is one byte.
    if address.is_ipv4() { 2 } else { 10 }
}

/// Gives a link an address, without duplicate address detection.
pub(super) fn address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let no_probing = u8::try_from(libc::IFA_F_NODAD).unwrap_or(0);
    let mut fixed = vec![family(address), prefix, no_probing, libc::RT_SCOPE_UNIVERSE];
    fixed.extend_from_slice(&index.to_ne_bytes());
    Message::new("an address", libc::RTM_NEWADDR, flags::CREATE | flags::EXCLUSIVE)
        .fixed(&fixed)
        .put(libc::IFA_LOCAL, &octets(address))
        .put(libc::IFA_ADDRESS, &octets(address))
}

/// A permanent neighbour entry, so that no ARP or NDP is needed and none can change it.
pub(super) fn neighbour(index: u32, address: IpAddr, mac: [u8; 6]) -> Message {
    let mut fixed = vec![family(address), 0, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    fixed.extend_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
    fixed.extend_from_slice(&[0, 0]);
    Message::new("a neighbour", libc::RTM_NEWNEIGH, flags::CREATE)
        .fixed(&fixed)
        .put(libc::NDA_DST, &octets(address))
        .put(libc::NDA_LLADDR, &mac)
}

/// `struct rtmsg`, and `struct fib_rule_hdr`, which has the same form.
fn header(family: u8, table: u8, protocol: u8, scope: u8, kind: u8) -> [u8; 12] {
    [family, 0, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]
}

/// A default route through a gateway.
pub(super) fn default_route(index: u32, gateway: IpAddr) -> Message {
    let (table, scope) = (libc::RT_TABLE_MAIN, libc::RT_SCOPE_UNIVERSE);
    Message::new("a default route", libc::RTM_NEWROUTE, flags::CREATE)
        .fixed(&header(family(gateway), table, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST))
        .put(libc::RTA_GATEWAY, &octets(gateway))
        .put_u32(libc::RTA_OIF, index)
}

/// A rule: packets with this mark use that table.
pub(super) fn marked_to_table(any: IpAddr, mark: u32, table: u8) -> Message {
    Message::new("a routing rule", libc::RTM_NEWRULE, flags::CREATE | flags::EXCLUSIVE)
        .fixed(&header(family(any), table, libc::RTPROT_STATIC, 0, FR_ACT_TO_TBL))
        .put_u32(FRA_FWMARK, mark)
        .put_u32(FRA_TABLE, u32::from(table))
}

/// A route of that table: every packet is delivered locally.
pub(super) fn all_local(any: IpAddr, table: u8) -> Message {
    Message::new("a local route", libc::RTM_NEWROUTE, flags::CREATE)
        .fixed(&header(family(any), table, libc::RTPROT_STATIC, libc::RT_SCOPE_HOST, libc::RTN_LOCAL))
        .put_u32(libc::RTA_OIF, LOOPBACK)
}

/// "Any address" of IPv4 or IPv6.
pub(super) fn any(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Asks for the route to this address: the route of the table, or the next hop.
pub(super) fn look_up(address: IpAddr, of_table: bool) -> Message {
    let mut fixed = header(family(address), 0, 0, 0, 0);
    if let Some(length) = fixed.get_mut(1) {
        *length = if address.is_ipv4() { 32 } else { 128 };
    }
    if of_table && let Some(flags) = fixed.last_chunk_mut::<4>() {
        *flags = RTM_F_FIB_MATCH.to_ne_bytes();
    }
    Message::new("a route look-up", libc::RTM_GETROUTE, 0).fixed(&fixed).put(libc::RTA_DST, &octets(address))
}

/// Asks for the flags of a link.
pub(super) fn link_flags(index: u32) -> Message {
    Message::new("the flags of a link", libc::RTM_GETLINK, 0)
        .fixed(&link(index, false))
        .put_u32(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
}
