//! What the host's routing calls a neighbour: never the way to the Internet, however that is laid.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::space::{Side, Space};
use crate::net::lookup::{Lookup, RouteKind};
use crate::policy::{Policy, Reason};

/// A namespace that plays the host, with an Ethernet link `up0` that is up, and these commands for `ip`.
fn host(commands: &[&str]) -> (Space, Lookup) {
    let mut space = Space::new();
    let links =
        ["link set lo up", "link add up0 type veth peer name far0", "link set up0 up", "link set far0 up"];
    for command in links.iter().chain(commands) {
        ip(&mut space, command);
    }
    let lookup = lookup(&mut space);
    (space, lookup)
}

fn ip(space: &mut Space, command: &str) {
    space.run(Side::Gateway, &["ip"].into_iter().chain(command.split(' ')).collect::<Vec<_>>());
}

fn lookup(space: &mut Space) -> Lookup {
    Lookup::over(space.socket(Side::Gateway, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)).unwrap()
}

fn expect(lookup: &mut Lookup, expected: &[(&str, RouteKind)]) {
    for (address, kind) in expected {
        let address: IpAddr = address.parse().unwrap();
        // The kernel adds the route of an own IPv6 address when it has time.
        let begin = Instant::now();
        while lookup.route_kind(address).unwrap() != *kind && begin.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        assert_eq!(lookup.route_kind(address).unwrap(), *kind, "{address}");
        // And so an open policy lets the Internet be reached, and no neighbour.
        let reason = Policy::open().verdict(address, |at| lookup.route_kind(at).unwrap().into()).reason;
        match kind {
            RouteKind::Unicast => assert_eq!(reason, Reason::Open, "{address}"),
            RouteKind::OnLink(_) => assert_eq!(reason, Reason::OnLink, "{address}"),
            _ => assert_eq!(reason, Reason::Host, "{address}"),
        }
    }
}

const ETHERNET: [&str; 4] = [
    "address add 5.5.5.2/24 dev up0",
    "address add 2a05:5:5::2/64 dev up0 nodad",
    "route add default via 5.5.5.1",
    // As a router's advertisement has it.
    "-6 route add default via fe80::1 dev up0 proto ra",
];

#[test]
fn ethernet_has_neighbours_and_a_gateway() {
    let (_space, mut lookup) = host(&ETHERNET);
    expect(
        &mut lookup,
        &[
            ("5.5.5.1", RouteKind::OnLink(24)),
            ("5.5.5.77", RouteKind::OnLink(24)),
            ("2a05:5:5::1", RouteKind::OnLink(64)),
            ("5.5.5.2", RouteKind::Local),
            ("2a05:5:5::2", RouteKind::Local),
            ("5.5.5.255", RouteKind::Broadcast),
            ("8.8.8.8", RouteKind::Unicast),
            ("2600::1", RouteKind::Unicast),
        ],
    );
}

#[test]
fn a_gateway_that_is_on_no_network_of_the_hosts_is_a_neighbour_and_leads_to_the_internet() {
    let (_space, mut lookup) = host(&[
        "address add 5.5.5.2/32 dev up0",
        "route add 6.6.6.1 dev up0",
        "route add default via 6.6.6.1 dev up0 onlink",
    ]);
    expect(&mut lookup, &[("6.6.6.1", RouteKind::OnLink(32)), ("8.8.8.8", RouteKind::Unicast)]);
}

#[test]
fn a_default_route_without_a_gateway_is_no_neighbourhood_nor_are_its_halves() {
    for (routes, six) in [
        (["default", "default"], ["default", "default"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["::/1", "8000::/1"]),
    ] {
        let (mut space, mut lookup) =
            host(&["address add 5.5.5.2/32 dev up0", "address add 2a05:5:5::2/128 dev up0 nodad"]);
        for (route, six) in routes.iter().zip(six) {
            ip(&mut space, &format!("route replace {route} dev up0"));
            ip(&mut space, &format!("-6 route replace {six} dev up0"));
        }
        expect(
            &mut lookup,
            &[
                ("5.5.5.1", RouteKind::Unicast),
                ("8.8.8.8", RouteKind::Unicast),
                ("193.0.0.1", RouteKind::Unicast),
                ("2600::1", RouteKind::Unicast),
            ],
        );
    }
}

#[test]
fn of_several_ways_one_without_a_gateway_is_enough() {
    let (mut space, mut lookup) = host(&ETHERNET);
    for command in [
        "route add 9.0.0.0/8 nexthop via 5.5.5.1 dev up0 nexthop dev far0",
        "route add 11.0.0.0/8 nexthop via 5.5.5.1 dev up0 nexthop via 5.5.5.3 dev up0",
        "route add 12.0.0.0/8 via inet6 fe80::1 dev up0",
        "-6 route add 2a09::/32 nexthop via fe80::1 dev up0 nexthop via fe80::2 dev up0",
        "nexthop add id 7 dev far0",
        "nexthop add id 8 via 5.5.5.1 dev up0",
        "route add 13.0.0.0/8 nhid 7",
        "route add 14.0.0.0/8 nhid 8",
    ] {
        ip(&mut space, command);
    }
    let expected = [
        ("9.1.1.1", RouteKind::OnLink(8)),
        ("11.1.1.1", RouteKind::Unicast),
        ("12.1.1.1", RouteKind::Unicast),
        ("2a09::1", RouteKind::Unicast),
        ("13.1.1.1", RouteKind::OnLink(8)),
        ("14.1.1.1", RouteKind::Unicast),
    ];
    expect(&mut lookup, &expected);
    // Where it may be set (it is read-only in some containers), the kernel names next hop objects by number only.
    space.run(Side::Gateway, &["sh", "-c", "echo 0 >/proc/sys/net/ipv4/nexthop_compat_mode || :"]);
    expect(&mut lookup, &expected);
}

/// Needs /dev/net/tun, which not everybody may open: nothing else that is point-to-point can be made everywhere.
#[test]
fn a_point_to_point_link_has_no_neighbours() {
    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_err() {
        return;
    }
    // As ppp has it: a peer, and everything by it. As WireGuard has it: everything, or its halves.
    for routes in [&["default"][..], &["0.0.0.0/1", "128.0.0.0/1"]] {
        let (mut space, mut lookup) = host(&ETHERNET);
        for command in
            ["tuntap add ppp0 mode tun", "link set ppp0 up", "address add 7.7.7.2 peer 7.7.7.1 dev ppp0"]
        {
            ip(&mut space, command);
        }
        for route in routes {
            ip(&mut space, &format!("route replace {route} dev ppp0"));
        }
        ip(&mut space, "-6 route add 2a0a::/32 dev ppp0");
        ip(&mut space, "route add 7.7.8.0/24 dev ppp0");
        expect(
            &mut lookup,
            &[
                ("7.7.7.1", RouteKind::Unicast),
                ("7.7.7.2", RouteKind::Local),
                ("7.7.8.8", RouteKind::Unicast),
                ("8.8.8.8", RouteKind::Unicast),
                ("193.0.0.1", RouteKind::Unicast),
                ("2a0a::1", RouteKind::Unicast),
                ("5.5.5.1", RouteKind::OnLink(24)),
            ],
        );
    }
}
