//! The two network namespaces of a sandbox: S, whose interface gVisor takes over, and G, its gateway.
//!
//! ```text
//!  S  eth0 192.0.0.2/29, lo   ◄── veth ──►   gw0 192.0.0.1/29 (and .3–.6), lo, rules  G
//! ```
//!
//! Each pair is alone in its namespaces, so every sandbox has the same addresses: 192.0.0.0/29 is set aside
//! for uses like this (RFC 7335) and never on the Internet.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::address::{
    GATEWAY, GATEWAY_LINK, GATEWAY_MAC, GATEWAY6, INDEX, MARK, PREFIX, PREFIX6, SANDBOX, SANDBOX_LINK,
    SANDBOX_MAC, SANDBOX6, SPARE, TABLE,
};
use super::netlink::Netlink;
use super::nft;
use super::route::{self, End, LOOPBACK};
use crate::error::Result;

/// The sockets and the namespace that a keeper passed.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// NETLINK_ROUTE of G.
    pub(crate) route_g: OwnedFd,
    /// NETLINK_ROUTE of S.
    pub(crate) route_s: OwnedFd,
    /// The namespace S.
    pub(crate) ns_s: OwnedFd,
}

/// What differs from one sandbox to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The longest packet.
    pub(crate) mtu: u32,
    /// Whether the sandbox gets an IPv6 address and route.
    pub(crate) ipv6: bool,
}

/// Lays the links, with all that runsc looks for in S when it starts.
pub(crate) fn configure_links(sockets: Sockets, plan: &Plan) -> Result<()> {
    let end = |name, mac| End { name, index: INDEX, mac, mtu: plan.mtu };
    let (gateway, sandbox) = (end(GATEWAY_LINK, GATEWAY_MAC), end(SANDBOX_LINK, SANDBOX_MAC));
    let mut g = vec![
        route::veth(&gateway, &sandbox, sockets.ns_s.as_fd()),
        route::no_link_local(INDEX),
        route::up(LOOPBACK),
        route::up(INDEX),
        route::address(INDEX, GATEWAY.into(), PREFIX),
    ];
    g.extend(SPARE.map(|spare| route::address(INDEX, spare.into(), PREFIX)));
    g.extend([
        route::neighbour(INDEX, SANDBOX.into(), SANDBOX_MAC),
        route::marked_to_table(false, MARK, TABLE),
        route::all_local(false, TABLE),
    ]);
    let mut s = vec![
        route::no_link_local(INDEX),
        route::up(LOOPBACK),
        route::up(INDEX),
        route::address(INDEX, SANDBOX.into(), PREFIX),
        route::neighbour(INDEX, GATEWAY.into(), GATEWAY_MAC),
        route::default_route(INDEX, GATEWAY.into()),
    ];
    if plan.ipv6 {
        let (gateway, sandbox) = (IpAddr::V6(GATEWAY6), IpAddr::V6(SANDBOX6));
        g.extend([
            route::address(INDEX, gateway, PREFIX6),
            route::neighbour(INDEX, sandbox, SANDBOX_MAC),
            route::marked_to_table(true, MARK, TABLE),
            route::all_local(true, TABLE),
        ]);
        s.extend([
            route::address(INDEX, sandbox, PREFIX6),
            route::neighbour(INDEX, gateway, GATEWAY_MAC),
            route::default_route(INDEX, gateway),
        ]);
    }
    Netlink::new(sockets.route_g).request(g).map_err(|error| error.context("the gateway's network"))?;
    Netlink::new(sockets.route_s).request(s).map_err(|error| error.context("the sandbox's network"))
}

/// Loads the rules of G with empty sets: nothing leaves. May be done while runsc starts, but before anything
/// runs in the sandbox. Gives the socket back, for what is loaded later.
pub(crate) fn load_rules(filter_g: OwnedFd, plan: &Plan) -> Result<OwnedFd> {
    let mut netlink = Netlink::new(filter_g);
    nft::load(&mut netlink, plan.ipv6).map_err(|error| error.context("the gateway's rules (nf_tables)"))?;
    Ok(netlink.into_fd())
}
