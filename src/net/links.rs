//! Configures the links, addresses and routes of a sandbox's two network namespaces ([`crate::topology`]).

use std::os::fd::{AsFd, OwnedFd};

use super::message::Message;
use super::netlink::Netlink;
use super::nft::Rules;
use super::route::{self, End, LOOPBACK, MARK};
use crate::error::{Context, Error, Result};
use crate::topology::{
    GATEWAY, GATEWAY_LINK, GATEWAY_MAC, GATEWAY6, PREFIX, PREFIX6, SANDBOX, SANDBOX_LINK, SANDBOX_MAC,
    SANDBOX6, SPARE,
};

/// The index of both ends in their namespaces. Not 2: where net.core.fb_tunnels_only_for_init_net is 0, new namespaces
/// have a few tunnels from the start (tunl0, sit0, ...).
const LINK_INDEX: u32 = 100;

/// The routing table of packets with the [`MARK`].
const TABLE: u8 = 100;

/// The smallest MTU: for IPv4 by RFC 791, for IPv6 by RFC 8200.
const MIN_MTU: u32 = 68;
const MIN_MTU6: u32 = 1280;
/// The largest MTU of a veth pair.
const MAX_MTU: u32 = 65535;

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
    pub(crate) mtu: u32,
    /// Whether the sandbox gets an IPv6 address and route.
    pub(crate) ipv6: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { mtu: 1500, ipv6: false }
    }
}

/// Configures the links, with everything that runsc reads in S when it starts. On failure nothing needs to be undone: the
/// namespaces disappear with their keeper.
pub(crate) fn configure_links(sockets: Sockets, plan: &Plan) -> Result<()> {
    check_mtu(plan)?;
    let end = |name, mac| End { name, index: LINK_INDEX, mac, mtu: plan.mtu };
    let (gateway, sandbox) = (end(GATEWAY_LINK, GATEWAY_MAC), end(SANDBOX_LINK, SANDBOX_MAC));
    let mut g = vec![route::veth(&gateway, &sandbox, sockets.ns_s.as_fd())];
    g.extend(gateway_requests(plan.ipv6));
    Netlink::new(sockets.route_g)?.request(g).context("the gateway's network")?;
    Netlink::new(sockets.route_s)?.request(sandbox_requests(plan.ipv6)).context("the sandbox's network")
}

fn gateway_requests(ipv6: bool) -> Vec<Message> {
    let mut requests = vec![
        route::no_link_local(LINK_INDEX),
        route::without_arp(LINK_INDEX),
        route::up(LOOPBACK),
        route::up(LINK_INDEX),
        route::address(LINK_INDEX, GATEWAY.into(), PREFIX),
    ];
    requests.extend(SPARE.map(|spare| route::address(LINK_INDEX, spare.into(), PREFIX)));
    requests.push(route::neighbour(LINK_INDEX, SANDBOX.into(), SANDBOX_MAC));
    if ipv6 {
        requests.push(route::address(LINK_INDEX, GATEWAY6.into(), PREFIX6));
        requests.push(route::neighbour(LINK_INDEX, SANDBOX6.into(), SANDBOX_MAC));
    }
    for any in versions(ipv6).map(route::any) {
        requests.push(route::marked_to_table(any, MARK, TABLE));
        requests.push(route::all_local(any, TABLE));
    }
    requests
}

fn sandbox_requests(ipv6: bool) -> Vec<Message> {
    let mut requests = vec![
        route::no_link_local(LINK_INDEX),
        route::up(LOOPBACK),
        route::up(LINK_INDEX),
        route::address(LINK_INDEX, SANDBOX.into(), PREFIX),
        route::neighbour(LINK_INDEX, GATEWAY.into(), GATEWAY_MAC),
        route::default_route(LINK_INDEX, GATEWAY.into()),
    ];
    // The gateway answers no ARP.
    requests.extend(SPARE.map(|spare| route::neighbour(LINK_INDEX, spare.into(), GATEWAY_MAC)));
    if ipv6 {
        requests.push(route::address(LINK_INDEX, SANDBOX6.into(), PREFIX6));
        requests.push(route::neighbour(LINK_INDEX, GATEWAY6.into(), GATEWAY_MAC));
        requests.push(route::default_route(LINK_INDEX, GATEWAY6.into()));
    }
    requests
}

/// Whether IPv6, for each version that is offered.
fn versions(ipv6: bool) -> impl Iterator<Item = bool> {
    [false, true].into_iter().filter(move |version| ipv6 || !version)
}

fn check_mtu(plan: &Plan) -> Result<()> {
    let (least, version) = if plan.ipv6 { (MIN_MTU6, "with") } else { (MIN_MTU, "without") };
    if (least..=MAX_MTU).contains(&plan.mtu) {
        return Ok(());
    }
    let rule = format!("{version} IPv6 it must be {least} to {MAX_MTU}");
    Err(Error::invalid(format!("mtu {}: {rule}", plan.mtu)))
}

/// Loads the rules of G with empty sets: nothing leaves. May be done while runsc starts, but before anything
/// runs in the sandbox.
pub(crate) fn load_rules(filter_g: OwnedFd, plan: &Plan) -> Result<Rules> {
    Rules::load(filter_g, plan.ipv6).context("the gateway's rules (nf_tables)")
}
