//! Links, addresses, neighbours, routes and rules (rtnetlink(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::message::{Message, flags};
use super::netlink::{Netlink, request};
use crate::error::{Context, Result};

// linux/if_link.h and linux/if_addr.h, where libc has no name for them.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const IFA_F_NODAD: u8 = 0x02;
const FRA_TABLE: u16 = 15;
const FRA_FWMARK: u16 = 10;
/// FR_ACT_TO_TBL
const TO_TABLE: u8 = 1;

/// The index that `lo` has in every namespace.
pub(super) const LOOPBACK: u32 = 1;

fn number(value: i32) -> u16 {
    u16::try_from(value).unwrap_or(0)
}

/// `struct ifinfomsg`.
fn link(index: u32, up: bool) -> Vec<u8> {
    let flags: u32 = if up { libc::IFF_UP.cast_unsigned() } else { 0 };
    let change: u32 = libc::IFF_UP.cast_unsigned();
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&change.to_ne_bytes());
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
    let message = request("a veth pair", libc::RTM_NEWLINK, flags::CREATE | flags::EXCLUSIVE);
    here.describe(message.fixed(&link(here.index, false))).nest(libc::IFLA_LINKINFO, |info| {
        info.put(libc::IFLA_INFO_KIND, b"veth").nest(libc::IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                let peer = there.describe(peer.fixed(&link(there.index, false)));
                peer.put_u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned())
            })
        })
    })
}

/// Keeps the kernel from giving the link an address of its own (fe80::…) when it comes up.
pub(super) fn no_link_local(index: u32) -> Message {
    request("no link-local address", libc::RTM_SETLINK, 0).fixed(&link(index, false)).nest(
        libc::IFLA_AF_SPEC,
        |spec| {
            spec.nest(number(libc::AF_INET6), |inet6| {
                inet6.put(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE])
            })
        },
    )
}

/// Brings a link up.
pub(super) fn up(index: u32) -> Message {
    request("bringing a link up", libc::RTM_NEWLINK, 0).fixed(&link(index, true))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or(0)
}

/// Gives a link an address.
pub(super) fn address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let mut fixed = vec![family(address), prefix, IFA_F_NODAD, libc::RT_SCOPE_UNIVERSE];
    fixed.extend_from_slice(&index.to_ne_bytes());
    request("an address", libc::RTM_NEWADDR, flags::CREATE | flags::EXCLUSIVE)
        .fixed(&fixed)
        .put(libc::IFA_LOCAL, &octets(address))
        .put(libc::IFA_ADDRESS, &octets(address))
}

/// Says for good who has an address, so that nobody is asked (ARP, NDP) and nobody can claim it.
pub(super) fn neighbour(index: u32, address: IpAddr, mac: [u8; 6]) -> Message {
    let mut fixed = vec![family(address), 0, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    fixed.extend_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
    fixed.extend_from_slice(&[0, 0]);
    request("a neighbour", libc::RTM_NEWNEIGH, flags::CREATE)
        .fixed(&fixed)
        .put(libc::NDA_DST, &octets(address))
        .put(libc::NDA_LLADDR, &mac)
}

/// `struct rtmsg` (and `struct fib_rule_hdr`, which has the same form).
fn route(family: u8, table: u8, protocol: u8, scope: u8, kind: u8) -> [u8; 12] {
    [family, 0, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]
}

/// Everything goes through that gateway.
pub(super) fn default_route(index: u32, gateway: IpAddr) -> Message {
    let fixed = route(
        family(gateway),
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
    );
    request("a default route", libc::RTM_NEWROUTE, flags::CREATE)
        .fixed(&fixed)
        .put(libc::RTA_GATEWAY, &octets(gateway))
        .put_u32(libc::RTA_OIF, index)
}

/// What has this mark is looked up in that table.
pub(super) fn marked_to_table(ipv6: bool, mark: u32, table: u8) -> Message {
    let family = family(any(ipv6));
    request("a routing rule", libc::RTM_NEWRULE, flags::CREATE | flags::EXCLUSIVE)
        .fixed(&route(family, table, libc::RTPROT_STATIC, 0, TO_TABLE))
        .put_u32(FRA_FWMARK, mark)
        .put_u32(FRA_TABLE, u32::from(table))
}

/// In that table everything is delivered here.
pub(super) fn all_local(ipv6: bool, table: u8) -> Message {
    let family = family(any(ipv6));
    request("a local route", libc::RTM_NEWROUTE, flags::CREATE)
        .fixed(&route(family, table, libc::RTPROT_STATIC, libc::RT_SCOPE_HOST, libc::RTN_LOCAL))
        .put_u32(libc::RTA_OIF, LOOPBACK)
}

fn any(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Whether the host has a way to public IPv6 addresses, by its own routing at this moment.
pub(crate) fn host_has_ipv6_route() -> bool {
    // An address of the global unicast range; nothing is sent to it.
    let public = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 1);
    kind(public.into()).is_ok_and(|kind| kind == libc::RTN_UNICAST)
}

/// What the host's own routing says of an address: RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST …
fn kind(address: IpAddr) -> Result<u8> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
        .context("a netlink socket for a route look-up")?;
    let mut fixed = route(family(address), 0, 0, 0, 0);
    if let Some(length) = fixed.get_mut(1) {
        *length = u8::try_from(octets(address).len() * 8).unwrap_or(0);
    }
    let question = Message::new("a route look-up", libc::RTM_GETROUTE, 0)
        .fixed(&fixed)
        .put(libc::RTA_DST, &octets(address));
    let mut kind = libc::RTN_UNSPEC;
    Netlink::new(socket).query(question, |answer| {
        if answer.kind == libc::RTM_NEWROUTE {
            kind = answer.payload.get(7).copied().unwrap_or(libc::RTN_UNSPEC);
        }
    })?;
    Ok(kind)
}
