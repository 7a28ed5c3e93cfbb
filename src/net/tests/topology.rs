//! Links, addresses, neighbours, routes and rules are what was meant, and nothing more.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Pair, Where};

/// The text is not all: nft leaves out comparisons that it believes to follow from others (such as "meta
/// nfproto ipv6" before "reject with tcp reset"), so the golden files begin with what the kernel really runs.
const RULES: &str = "nft --debug=netlink list ruleset";
/// How many connections the reader's namespace tracks.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn addresses(pair: &Pair, place: Where) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for link in pair.json(place, "ip -j addr") {
        for address in link["addr_info"].as_array().unwrap() {
            let (local, length) = (text(address, "local"), text(address, "prefixlen"));
            all.insert(format!("{} {local}/{length}", text(&link, "ifname")));
        }
    }
    all
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(ToString::to_string).collect()
}

#[test]
fn both_ends_have_the_addresses_that_were_meant_and_no_other() {
    for ipv6 in [false, true] {
        let pair = Pair::new(ipv6);
        let mut g = set(&["lo 127.0.0.1/8", "lo ::1/128"]);
        g.extend((1..=6).filter(|host| *host != 2).map(|host| format!("gw0 192.0.0.{host}/29")));
        let mut s = set(&["lo 127.0.0.1/8", "lo ::1/128", "eth0 192.0.0.2/29"]);
        if ipv6 {
            g.insert("gw0 fd73:6278:6e65:7400::1/64".into());
            s.insert("eth0 fd73:6278:6e65:7400::2/64".into());
        }
        assert_eq!(addresses(&pair, Where::G), g, "ipv6 {ipv6}");
        assert_eq!(addresses(&pair, Where::S), s, "ipv6 {ipv6}");
    }
}

#[test]
fn the_links_are_up_and_there_are_no_others() {
    let pair = Pair::new(true);
    for (place, name, mac) in
        [(Where::G, "gw0", "02:00:00:00:00:01"), (Where::S, "eth0", "02:00:00:00:00:02")]
    {
        let links = pair.json(place, "ip -j link");
        let names: BTreeSet<String> = links.iter().map(|link| text(link, "ifname")).collect();
        // Where the kernel has tunnels built in, each namespace gets their idle devices.
        let ours: Vec<&str> = links
            .iter()
            .filter(|link| link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP"))
            .map(|link| link["ifname"].as_str().unwrap())
            .collect();
        assert_eq!(ours, ["lo", name], "of {names:?}");
        let own = links.iter().find(|link| link["ifname"] == name).unwrap();
        assert_eq!((text(own, "address").as_str(), text(own, "ifindex").as_str()), (mac, "2"));
        assert_eq!(own["mtu"], 1500);
        let up = |link: &Value| link["flags"].as_array().unwrap().iter().any(|flag| flag == "LOWER_UP");
        assert!(up(own));
    }
}

#[test]
fn neighbours_are_permanent() {
    for ipv6 in [false, true] {
        let pair = Pair::new(ipv6);
        for (place, other, mac) in [(Where::G, 2, "02:00:00:00:00:02"), (Where::S, 1, "02:00:00:00:00:01")] {
            let neighbours = pair.json(place, "ip -j neigh");
            let mut wanted = set(&[&format!("192.0.0.{other} {mac} [\"PERMANENT\"]")]);
            if ipv6 {
                wanted.insert(format!("fd73:6278:6e65:7400::{other} {mac} [\"PERMANENT\"]"));
            }
            let found: BTreeSet<String> = neighbours
                .iter()
                .map(|one| format!("{} {} {}", text(one, "dst"), text(one, "lladdr"), one["state"]))
                .collect();
            assert_eq!(found, wanted, "{place:?}");
        }
    }
}

#[test]
fn what_is_marked_is_delivered_here_and_g_has_no_way_out() {
    let pair = Pair::new(true);
    for version in ["-4", "-6"] {
        let rules = pair.tool(Where::G, &format!("ip {version} rule"));
        assert!(rules.contains("from all fwmark 0x1 lookup 100"), "{rules}");
        let table = pair.tool(Where::G, &format!("ip {version} route show table 100"));
        assert!(table.starts_with("local default dev lo"), "{table}");
        let main = pair.tool(Where::G, &format!("ip {version} route show table main"));
        assert!(!main.contains("default"), "{main}");
        assert!(main.lines().all(|line| line.contains("dev gw0")), "{main}");
        let gateway = if version == "-4" { "192.0.0.1" } else { "fd73:6278:6e65:7400::1" };
        let main = pair.tool(Where::S, &format!("ip {version} route show default"));
        assert!(main.starts_with(&format!("default via {gateway} dev eth0")), "{main}");
    }
    let without = Pair::new(false);
    assert!(!without.tool(Where::G, "ip -6 rule").contains("fwmark"));
    assert_eq!(without.tool(Where::G, "ip -6 route show default"), "");
    assert_eq!(without.tool(Where::S, "ip -6 route show default"), "");
}

#[test]
fn the_rules_are_the_golden_ones() {
    for (ipv6, name) in [(false, "base4.nft"), (true, "base6.nft")] {
        let pair = Pair::new(ipv6);
        let rules = pair.tool(Where::G, RULES);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        if std::env::var_os("SBX_BLESS").is_some() {
            fs::write(&path, &rules).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(rules, golden, "{name}: if that is meant, bless it with SBX_BLESS=1");
        assert!(!rules.split_whitespace().any(|word| word == "ct"), "no connection tracking");
        assert_eq!(pair.tool(Where::S, "nft list ruleset"), "", "rules in S would do nothing");
    }
}

#[test]
fn nothing_is_tracked() {
    let mut pair = Pair::new(true);
    let server = super::reach::serve(&pair, "192.0.0.2:0");
    let address = server.address;
    drop(super::reach::connect(&mut pair, address).unwrap());
    for (file, nothing) in [("/proc/thread-self/net/nf_conntrack", ""), (COUNT, "0")] {
        let found = pair.file(Where::G, file).unwrap_or_else(|| nothing.to_owned());
        assert_eq!(found.trim(), nothing, "{file}");
    }
}
