//! What the host's own routing says of an address, at this moment.
//!
//! Asked instead of kept: addresses come and go (VPN, docker, DHCP), and a list is stale as soon as it is
//! made.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::netlink::Netlink;
use super::route;
use crate::error::{Context, Result};

/// How a packet to an address would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteKind {
    /// To another machine (or to a namespace or container of this one).
    Unicast,
    /// To the host itself: one of its addresses, on whatever interface.
    Local,
    /// To everybody on a link of the host's.
    Broadcast,
    /// To a group.
    Multicast,
    /// Nowhere: there is no route, or one that refuses.
    Unreachable,
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

    /// How a packet to this address would go. No packet is sent.
    pub(crate) fn route_kind(&mut self, address: IpAddr) -> Result<RouteKind> {
        let mut kind = libc::RTN_UNSPEC;
        let asked = self.netlink.query(route::look_up(address), |answer| {
            if answer.kind == libc::RTM_NEWROUTE {
                kind = answer.payload.get(7).copied().unwrap_or(libc::RTN_UNSPEC);
            }
        });
        match asked {
            Ok(()) => Ok(match kind {
                libc::RTN_LOCAL => RouteKind::Local,
                libc::RTN_BROADCAST | libc::RTN_ANYCAST => RouteKind::Broadcast,
                libc::RTN_MULTICAST => RouteKind::Multicast,
                libc::RTN_UNICAST => RouteKind::Unicast,
                _ => RouteKind::Unreachable,
            }),
            // No route; an "unreachable", a "prohibit", a "blackhole" route; IPv6 switched off.
            Err(error) if error.os_error().is_some_and(refuses) => Ok(RouteKind::Unreachable),
            Err(error) => Err(error.context(format!("the route to {address}"))),
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
        .is_ok_and(|kind| kind == RouteKind::Unicast)
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
}
