//! What the kernel has of links, addresses, neighbours, routes and rules.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::packets::Wire;
use super::space::{Side, Space};
use crate::error::Code;
use crate::net::links::{Plan, configure_links};
use crate::topology::GATEWAY;

fn laid(ipv6: bool) -> Space {
    let mut space = Space::new();
    configure_links(space.sockets(), &Plan { mtu: 1400, ipv6 }).unwrap();
    space
}

/// The addresses of an interface as `address/prefix`, sorted.
fn addresses(space: &mut Space, side: Side, link: &str) -> Vec<String> {
    let list = space.ip(side, &format!("address show dev {link}"));
    let infos = list[0]["addr_info"].as_array().unwrap().clone();
    let text = |info: &Value| format!("{}/{}", info["local"].as_str().unwrap(), info["prefixlen"]);
    let mut addresses: Vec<String> = infos.iter().map(text).collect();
    addresses.sort_unstable();
    addresses
}

fn neighbours(space: &mut Space, side: Side) -> Vec<(String, String, Value)> {
    let list = space.ip(side, "neighbour show nud permanent");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (text(&entry["dst"]), text(&entry["lladdr"]), entry["state"].clone()))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

const OWN: [&str; 5] = ["192.0.0.1/29", "192.0.0.3/29", "192.0.0.4/29", "192.0.0.5/29", "192.0.0.6/29"];

#[test]
fn without_ipv6_there_is_no_ipv6_address_on_either_end() {
    let mut space = laid(false);
    assert_eq!(addresses(&mut space, Side::Sandbox, "eth0"), ["192.0.0.2/29"]);
    assert_eq!(addresses(&mut space, Side::Gateway, "gw0"), OWN);
    for side in [Side::Sandbox, Side::Gateway] {
        assert_eq!(space.ip(side, "-6 route show default"), json!([]));
        assert!(!space.run(side, &["ip", "address"]).contains("fe80"), "{side:?}");
    }
}

#[test]
fn with_ipv6_there_are_the_ones_of_the_plan_and_no_link_local_ones() {
    let mut space = laid(true);
    let sandbox = addresses(&mut space, Side::Sandbox, "eth0");
    assert_eq!(sandbox, ["192.0.0.2/29", "fd73:6278:6e65::2/64"]);
    let gateway = addresses(&mut space, Side::Gateway, "gw0");
    assert_eq!(gateway, OWN.iter().copied().chain(["fd73:6278:6e65::1/64"]).collect::<Vec<_>>());
    for side in [Side::Sandbox, Side::Gateway] {
        assert!(!space.run(side, &["ip", "address"]).contains("fe80"), "{side:?}");
        // Nothing is being probed: an address can be used at once.
        assert!(!space.run(side, &["ip", "address"]).contains("tentative"), "{side:?}");
    }
    let route = space.ip(Side::Sandbox, "-6 route show default");
    assert_eq!(route[0]["gateway"], "fd73:6278:6e65::1");
    assert_eq!(space.ip(Side::Gateway, "-6 route show default"), json!([]));
    let rule = space.ip(Side::Gateway, "-6 rule show table 100");
    assert_eq!(rule[0]["fwmark"], "0x1");
    let local = space.ip(Side::Gateway, "-6 route show table 100");
    assert_eq!(
        (&local[0]["type"], &local[0]["dst"], &local[0]["dev"]),
        (&json!("local"), &json!("default"), &json!("lo"))
    );
    let sandbox = neighbours(&mut space, Side::Sandbox);
    assert_eq!(sandbox.len(), 6, "{sandbox:?}");
    assert_eq!((&*sandbox[5].0, &*sandbox[5].1), ("fd73:6278:6e65::1", "02:00:00:00:00:01"));
    assert_eq!(neighbours(&mut space, Side::Gateway).len(), 2);
}

#[test]
fn the_links_are_up_and_as_long_and_named_as_planned() {
    let mut space = laid(false);
    for (side, link, mac) in
        [(Side::Sandbox, "eth0", "02:00:00:00:00:02"), (Side::Gateway, "gw0", "02:00:00:00:00:01")]
    {
        let shown = space.ip(side, &format!("link show dev {link}"));
        assert_eq!((&shown[0]["mtu"], &shown[0]["address"]), (&json!(1400), &json!(mac)));
        for link in [link, "lo"] {
            let flags = space.ip(side, &format!("link show dev {link}"))[0]["flags"].clone();
            assert!(flags.as_array().unwrap().contains(&json!("UP")), "{link}: {flags}");
        }
    }
}

#[test]
fn the_ways_are_the_sandboxs_to_the_gateway_and_the_gateways_nowhere() {
    let mut space = laid(false);
    let route = space.ip(Side::Sandbox, "route show default");
    assert_eq!((&route[0]["gateway"], &route[0]["dev"]), (&json!("192.0.0.1"), &json!("eth0")));
    assert_eq!(space.ip(Side::Gateway, "route show default"), json!([]));
    let rule = space.ip(Side::Gateway, "rule show table 100");
    assert_eq!(rule[0]["fwmark"], "0x1");
    let local = space.ip(Side::Gateway, "route show table 100");
    assert_eq!(
        (&local[0]["type"], &local[0]["dst"], &local[0]["dev"]),
        (&json!("local"), &json!("default"), &json!("lo"))
    );
    let permanent = json!(["PERMANENT"]);
    let (mac_g, mac_s) = ("02:00:00:00:00:01".to_owned(), "02:00:00:00:00:02".to_owned());
    let own = [1, 3, 4, 5, 6].map(|last| (format!("192.0.0.{last}"), mac_g.clone(), permanent.clone()));
    assert_eq!(neighbours(&mut space, Side::Sandbox), own);
    assert_eq!(neighbours(&mut space, Side::Gateway), [("192.0.0.2".to_owned(), mac_s, permanent)]);
}

/// The table of neighbours is one for the whole machine (net.ipv4.neigh.default.gc_thresh3).
#[test]
fn whoever_asks_by_arp_gets_no_entry_in_the_gateways_table() {
    let mut space = laid(true);
    // As on a host where that is the default, which the namespace has where nothing can be set.
    let script = "for i in all gw0; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done 2>/dev/null || :";
    space.run(Side::Gateway, &["sh", "-c", script]);
    let index = i32::try_from(space.ip(Side::Sandbox, "link show dev eth0")[0]["ifindex"].as_i64().unwrap());
    let wire = Wire::open(&mut space, Side::Sandbox, Some(index.unwrap()));
    for number in 0..200_u8 {
        for sender in [[10, 1, 2, number], [192, 0, 0, number], [203, 0, 113, number]] {
            wire.ask_arp(Ipv4Addr::from(sender), GATEWAY);
        }
    }
    let known = space.ip(Side::Gateway, "neighbour show nud all dev gw0");
    let of_ipv4 = |entry: &&Value| entry["dst"].as_str().unwrap().contains('.');
    let known: Vec<&Value> = known.as_array().unwrap().iter().filter(of_ipv4).collect();
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!((&known[0]["dst"], &known[0]["lladdr"]), (&json!("192.0.0.2"), &json!("02:00:00:00:00:02")));
    let flags = space.ip(Side::Gateway, "link show dev gw0")[0]["flags"].clone();
    assert!(flags.as_array().unwrap().contains(&json!("NOARP")), "{flags}");
}

#[test]
fn a_length_that_links_cannot_have_is_refused_by_name() {
    for (mtu, ipv6, rule) in [(67, false, "68 to 65535"), (65536, false, "68"), (1279, true, "1280 to 65535")]
    {
        let mut space = Space::new();
        let error = configure_links(space.sockets(), &Plan { mtu, ipv6 }).unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
        assert!(error.message().contains(&format!("mtu {mtu}")) && error.message().contains(rule), "{error}");
    }
    for (mtu, ipv6) in [(68, false), (1279, false), (1280, true), (65535, true)] {
        let mut space = Space::new();
        configure_links(space.sockets(), &Plan { mtu, ipv6 }).unwrap();
        assert!(!space.run(Side::Sandbox, &["ip", "address"]).contains("fe80"), "{mtu}");
    }
}

#[test]
fn what_is_there_already_is_an_error_that_names_it() {
    let mut space = laid(false);
    let error = configure_links(space.sockets(), &Plan { mtu: 1400, ipv6: false }).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EEXIST), "{error}");
    assert!(error.message().contains("the gateway's network: the kernel refuses a veth pair"), "{error}");
}
