//! Changes of the host's addresses and routes are heard of.

use super::space::{Side, Space};
use crate::net::notices::{Heard, Notices};

#[test]
fn addresses_routes_rules_and_links_are_told_and_nothing_else_is() {
    let mut space = Space::new();
    let route = |space: &mut Space| {
        space.socket(Side::Gateway, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)
    };
    let fd = route(&mut space);
    let notices = Notices::over(fd).unwrap();
    let silence = Heard { changed: false, more: false };
    assert_eq!(notices.hear(), silence);
    for command in [
        "ip link set lo up",
        "ip address add 9.9.9.10/32 dev lo",
        "ip -6 address add 2a05::1/128 dev lo nodad",
        "ip route add 44.0.0.0/8 dev lo",
        "ip -6 route add 2a06::/32 dev lo",
        "ip rule add fwmark 7 lookup 77",
        "ip -6 rule add fwmark 7 lookup 77",
        "ip address delete 9.9.9.10/32 dev lo",
    ] {
        space.run(Side::Gateway, &command.split(' ').collect::<Vec<_>>());
        // The kernel has told by the time the command returns.
        assert!(notices.hear().changed, "{command}");
        while notices.hear().changed {}
    }
    // What follows from an IPv6 address comes later, from a work queue of the kernel's.
    let reads_are_silent = (0..50).any(|_| {
        while notices.hear().changed {}
        space.run(Side::Gateway, &["ip", "route", "get", "44.0.0.1"]);
        notices.hear() == silence
    });
    assert!(reads_are_silent);
}

#[test]
fn a_flood_is_taken_in_pieces_and_what_is_lost_counts() {
    let mut space = Space::new();
    let fd = space.socket(Side::Gateway, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
    let notices = Notices::over(fd).unwrap();
    let many = "i=0; while [ $i -lt 3000 ]; do echo address add 9.9.$((i / 250)).$((i % 250))/32 dev lo; i=$((i + 1)); done | ip -batch -";
    space.run(Side::Gateway, &["sh", "-c", many]);
    assert_eq!(notices.hear(), Heard { changed: true, more: true });
    while notices.hear().more {}
    space.run(Side::Gateway, &["ip", "address", "add", "9.10.0.1/32", "dev", "lo"]);
    assert!(notices.hear().changed);
}
