//! Looks an address up in the host's routing.
//!
//! There is no cache: addresses come and go (VPN, docker, DHCP), and a list would be stale at once.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::message::{attribute, u16_at, u32_at};
use super::netlink::Netlink;
use super::route;
use crate::error::{Context, Result};
use crate::policy::Location;

// linux/rtnetlink.h
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
/// The sizes of `struct rtmsg` and `struct rtnexthop`.
const RTMSG_LENGTH: usize = 12;
const RTNEXTHOP_LENGTH: usize = 8;
/// The longest prefix that counts as a default route: 0/0, and its halves, which a VPN puts before it.
const DEFAULT: u8 = 1;

/// How a packet to an address would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteKind {
    /// To another machine (or to a namespace or container of this one).
    Unicast,
    /// To one on a link of the host's own: by a route of that prefix length without a gateway, longer than a default
    /// route, over an interface that isn't point-to-point.
    OnLink(u8),
    /// To the host itself: one of its addresses, on whatever interface.
    Local,
    /// To everybody on a link of the host's.
    Broadcast,
    /// To a group.
    Multicast,
    /// Nowhere: there is no route, or one that refuses.
    Unreachable,
}

impl From<RouteKind> for Location {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Local | RouteKind::Broadcast => Self::Host,
            RouteKind::OnLink(prefix) => Self::OnLink(prefix),
            RouteKind::Unicast | RouteKind::Multicast | RouteKind::Unreachable => Self::Elsewhere,
        }
    }
}

/// A route, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Route {
    /// RTN_...
    kind: u8,
    /// How long its prefix is.
    prefix: u8,
    /// The ways that it may go. None if the kernel names nothing but the number of a next hop object (with
    /// net.ipv4.nexthop_compat_mode=0).
    hops: Vec<Hop>,
}

/// The interface of a way, if it is named, and whether there is a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hop {
    interface: Option<u32>,
    gateway: bool,
}

impl Route {
    /// Reads RTM_NEWROUTE.
    fn read(payload: &[u8]) -> Self {
        let attributes = payload.get(RTMSG_LENGTH..).unwrap_or_default();
        let mut hops = Vec::new();
        if let Some(mut list) = attribute(attributes, RTA_MULTIPATH) {
            while let Some(length) =
                u16_at(list, 0).map(usize::from).filter(|length| *length >= RTNEXTHOP_LENGTH)
            {
                let hop = list.get(..length).unwrap_or(list);
                hops.push(Hop::read(u32_at(hop, 4), hop.get(RTNEXTHOP_LENGTH..).unwrap_or_default()));
                list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        } else if let Some(interface) = attribute(attributes, RTA_OIF) {
            hops.push(Hop::read(u32_at(interface, 0), attributes));
        }
        let byte = |at: usize, otherwise| payload.get(at).copied().unwrap_or(otherwise);
        Self { kind: byte(7, libc::RTN_UNSPEC), prefix: byte(1, u8::MAX), hops }
    }
}

impl Hop {
    fn read(interface: Option<u32>, attributes: &[u8]) -> Self {
        let gateway = [RTA_GATEWAY, RTA_VIA].iter().any(|kind| attribute(attributes, *kind).is_some());
        Self { interface, gateway }
    }
}

/// A way to ask the host's routing.
#[derive(Debug)]
pub(crate) struct Lookup {
    netlink: Netlink,
}

impl Lookup {
    /// Of the network namespace that the calling thread is in.
    pub(crate) fn open() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
            .context("a netlink socket for route look-ups")?;
        Self::over(fd)
    }

    /// Of the network namespace that this NETLINK_ROUTE socket was opened in.
    pub(crate) fn over(socket: OwnedFd) -> Result<Self> {
        Ok(Self { netlink: Netlink::new(socket)? })
    }

    /// How a packet to this address would go. No packet is sent. One question, unless the answer is a neighbour.
    pub(crate) fn route_kind(&mut self, address: IpAddr) -> Result<RouteKind> {
        // Connecting to it connects to the host itself; no route says so.
        if address.is_unspecified() {
            return Ok(RouteKind::Local);
        }
        let Some(route) = self.route(address, true)? else { return Ok(RouteKind::Unreachable) };
        Ok(match route.kind {
            libc::RTN_LOCAL => RouteKind::Local,
            libc::RTN_BROADCAST | libc::RTN_ANYCAST => RouteKind::Broadcast,
            libc::RTN_MULTICAST => RouteKind::Multicast,
            libc::RTN_UNICAST if self.is_on_link(address, &route)? => RouteKind::OnLink(route.prefix),
            libc::RTN_UNICAST => RouteKind::Unicast,
            _ => RouteKind::Unreachable,
        })
    }

    /// The route of an address, either as it stands in the table, or as it is for this one address, with the way that
    /// would be taken.
    fn route(&mut self, address: IpAddr, of_table: bool) -> Result<Option<Route>> {
        let mut route = Route::default();
        let asked = self.netlink.query(route::look_up(address, of_table), |answer| {
            if answer.kind == libc::RTM_NEWROUTE {
                route = Route::read(answer.payload);
            }
        });
        match asked {
            Ok(()) => Ok(Some(route)),
            // No route; an "unreachable", a "prohibit", a "blackhole" route; IPv6 switched off.
            Err(error) if error.os_error().is_some_and(refuses) => Ok(None),
            Err(error) => Err(error.context(format!("the route to {address}"))),
        }
    }

    fn is_on_link(&mut self, address: IpAddr, route: &Route) -> Result<bool> {
        if route.prefix <= DEFAULT {
            return Ok(false);
        }
        let taken = if route.hops.is_empty() { self.route(address, false)? } else { None };
        let hops = taken.as_ref().map_or(&route.hops, |taken| &taken.hops);
        for hop in hops {
            if !hop.gateway && !hop.interface.map_or(Ok(false), |index| self.is_point_to_point(index))? {
                return Ok(true);
            }
        }
        // A way that isn't named is taken for the nearest.
        Ok(hops.is_empty())
    }

    /// Whether an interface has one other end. No if it is gone meanwhile.
    fn is_point_to_point(&mut self, interface: u32) -> Result<bool> {
        let mut flags = 0;
        let asked = self.netlink.query(route::link_flags(interface), |answer| {
            if answer.kind == libc::RTM_NEWLINK {
                // struct ifinfomsg
                flags = u32_at(answer.payload, 8).unwrap_or(0);
            }
        });
        match asked {
            Ok(()) => Ok(flags & libc::IFF_POINTOPOINT.cast_unsigned() != 0),
            Err(error) if error.os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error.context(format!("the flags of interface {interface}"))),
        }
    }
}

fn refuses(errno: i32) -> bool {
    matches!(
        Errno::from_raw(errno),
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL | Errno::EOPNOTSUPP
    )
}

/// Whether the host has a way to public IPv6 addresses. No if that can't be found out.
pub(crate) fn host_has_ipv6_route() -> bool {
    // An address of the global unicast range; nothing is sent to it.
    let public = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 1);
    Lookup::open()
        .and_then(|mut host| host.route_kind(public.into()))
        .is_ok_and(|kind| matches!(kind, RouteKind::Unicast | RouteKind::OnLink(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_local_and_groups_are_groups() {
        let mut host = Lookup::open().unwrap();
        for local in ["127.0.0.1", "127.3.4.5", "0.0.0.0"] {
            assert_eq!(host.route_kind(local.parse().unwrap()).unwrap(), RouteKind::Local, "{local}");
        }
        assert_eq!(host.route_kind("127.255.255.255".parse().unwrap()).unwrap(), RouteKind::Broadcast);
        // Where there is no default route there is none for this either.
        let everybody = host.route_kind("255.255.255.255".parse().unwrap()).unwrap();
        assert!(matches!(everybody, RouteKind::Broadcast | RouteKind::Unreachable), "{everybody:?}");
    }

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes: Vec<u8> = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn every_way_of_a_route_is_read() {
        let header = [2, 24, 0, 0, 0, 0, 0, libc::RTN_UNICAST, 0, 0, 0, 0];
        let read = |attributes: &[Vec<u8>]| Route::read(&[&header[..], &attributes.concat()].concat());
        let oif = attribute_of(RTA_OIF, &3_u32.to_ne_bytes());
        let hop = |interface, gateway| Hop { interface, gateway };
        let route = read(std::slice::from_ref(&oif));
        assert_eq!((route.kind, route.prefix), (libc::RTN_UNICAST, 24));
        assert_eq!(route.hops, [hop(Some(3), false)]);
        for gateway in [RTA_GATEWAY, RTA_VIA] {
            let route = read(&[oif.clone(), attribute_of(gateway, &[5, 5, 5, 1])]);
            assert_eq!(route.hops, [hop(Some(3), true)]);
        }
        let way = |interface: u32, attributes: &[u8]| {
            let length = u16::try_from(RTNEXTHOP_LENGTH + attributes.len()).unwrap();
            [&length.to_ne_bytes()[..], &[0, 0], &interface.to_ne_bytes(), attributes].concat()
        };
        let ways = [way(7, &attribute_of(RTA_GATEWAY, &[5, 5, 5, 1])), way(8, &[])].concat();
        let route = read(&[attribute_of(RTA_MULTIPATH, &ways)]);
        assert_eq!(route.hops, [hop(Some(7), true), hop(Some(8), false)]);
        // Next hop objects alone (RTA_NH_ID), nothing, and lengths that lie.
        assert_eq!(read(&[attribute_of(30, &[7, 0, 0, 0])]).hops, []);
        assert_eq!(Route::read(&[]).hops, []);
        assert_eq!(read(&[attribute_of(RTA_MULTIPATH, &[4, 0, 0, 0, 1, 0, 0, 0])]).hops, []);
        assert_eq!(read(&[attribute_of(RTA_MULTIPATH, &[0xff, 0xff, 0, 0, 1, 0, 0, 0])]).hops.len(), 1);
    }
}
