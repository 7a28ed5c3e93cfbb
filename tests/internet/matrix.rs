//! What each kind of policy reaches, with the capture as judge.

use sbx::Policy;

use crate::far::{Internet, allowlist, internet};

/// The addresses of `destinations` that are marked so.
fn destinations(mark: &str) -> Vec<&'static str> {
    let list = include_str!("../harness/internet/destinations");
    let marked = list.lines().filter_map(|line| line.strip_prefix(mark)?.strip_prefix(' '));
    marked.filter_map(|line| line.split(' ').next()).collect()
}

fn reach(addresses: &[&str]) -> Vec<String> {
    addresses
        .iter()
        .flat_map(|to| ["53", "80", "443", "853"].map(|port| format!("reach {to} {port}")))
        .collect()
}

fn all_reached(lines: &[String]) -> bool {
    lines.iter().all(|line| line.ends_with(" reached"))
}

fn none_reached(lines: &[String]) -> bool {
    lines.iter().all(|line| !line.ends_with(" reached"))
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn open_reaches_every_public_address_and_no_other() {
    let internet = internet();
    let (open, never) = (destinations("open"), destinations("never"));
    assert!(open.len() > 5 && never.len() > 30);
    let _alone = Internet::host_alone();
    let contacts = internet.contacts();
    let lines = internet.try_from_inside(&Policy::open(), &reach(&open));
    assert!(all_reached(&lines), "{lines:#?}");
    let lines = internet.try_from_inside(&Policy::open(), &reach(&never));
    assert!(none_reached(&lines), "{lines:#?}");
    let packets = internet.packets();
    let leaked: Vec<_> =
        packets.iter().filter(|words| words.get(3).is_some_and(|to| never.contains(&&**to))).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
    assert_eq!(internet.contacts(), contacts, "the host's own sockets were reached");
    // They come from the host, and nobody else is seen out there.
    let from_host = |words: &&Vec<String>| words[1] == "5.5.5.2" || words[1] == "2a05:5:5::2";
    assert!(packets.iter().filter(|words| words[0] == "tcp").all(|words| from_host(&words)));
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_allowlist_reaches_what_it_names_up_to_the_last_address() {
    let internet = internet();
    let mut policy = allowlist(&[
        "20.0.0.0/24",
        "20.0.1.7/32",
        "10.77.0.0/16",
        "2a00:77::/64",
        "169.254.170.23/32",
        "fd12:3456::/32",
        "223.255.255.0/24",
    ]);
    policy.deny_cidr("20.0.0.128/26").unwrap().deny_cidr("20.0.0.5/32").unwrap();
    let inside = [
        "20.0.0.0",
        "20.0.0.4",
        "20.0.0.6",
        "20.0.0.127",
        "20.0.0.192",
        "20.0.0.255",
        "20.0.1.7",
        "10.77.0.0",
        "10.77.255.255",
        "2a00:77::",
        "2a00:77::ffff:ffff:ffff:ffff",
        "169.254.170.23",
        "fd12:3456::1",
        "::ffff:20.0.0.1",
        "223.255.255.255",
    ];
    let outside = [
        "19.255.255.255",
        "20.0.0.5",
        "20.0.0.128",
        "20.0.0.191",
        "20.0.1.6",
        "20.0.1.8",
        "10.76.255.255",
        "10.78.0.0",
        "2a00:76:ffff:ffff:ffff:ffff:ffff:ffff",
        "2a00:77:0:1::",
        "169.254.169.253",
        "fd12:3455::1",
        "::ffff:20.0.0.5",
        "223.255.254.255",
        "9.1.1.1",
        "2620:9::1",
    ];
    let lines = internet.try_from_inside(&policy, &reach(&inside));
    assert!(all_reached(&lines), "{lines:#?}");
    let lines = internet.try_from_inside(&policy, &reach(&outside));
    assert!(lines.iter().all(|line| line.ends_with(" ECONNREFUSED")), "{lines:#?}");
    let packets = internet.packets();
    assert!(packets.iter().all(|words| words.get(3).is_none_or(|to| !outside.contains(&&**to))));
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn a_wide_entry_opens_no_protected_range() {
    let internet = internet();
    let policy = allowlist(&["0.0.0.0/1", "128.0.0.0/1", "::/0", "168.63.129.0/24", "169.254.0.0/16"]);
    let lines =
        internet.try_from_inside(&policy, &reach(&["21.0.0.1", "200.0.0.1", "2a00:78::1", "168.63.129.15"]));
    assert!(all_reached(&lines), "{lines:#?}");
    // Link-local lies in its entry, and each metadata service needs one of its own.
    let lines = internet.try_from_inside(&policy, &reach(&["169.254.7.7"]));
    assert!(all_reached(&lines), "{lines:#?}");
    let never = [
        "10.5.0.1",
        "192.168.5.1",
        "127.0.0.1",
        "100.64.5.1",
        "168.63.129.16",
        "169.254.169.254",
        "fd00:5::1",
    ];
    let lines = internet.try_from_inside(&policy, &reach(&never));
    assert!(none_reached(&lines), "{lines:#?}");
    assert!(never.iter().all(|to| internet.packets_to(to) == 0));
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_empty_allowlist_and_a_blocked_policy_reach_nothing() {
    let internet = internet();
    let to = ["22.0.0.1", "2a00:79::1", "5.5.5.2"];
    for policy in [Policy::allowlist(), Policy::blocked()] {
        let lines = internet.try_from_inside(&policy, &reach(&to));
        assert!(none_reached(&lines), "{lines:#?}");
    }
    assert!(to.iter().all(|to| internet.packets_to(to) == 0));
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn eight_sandboxes_do_not_reach_each_other() {
    let internet = internet();
    let server = "import socket,time; s=socket.create_server(('0.0.0.0',8421)); print('up',flush=True); c,_=s.accept(); \
                  print('visited',flush=True)";
    let servers: Vec<_> = (0..4)
        .map(|_| {
            let mut config = crate::common::config(&["/usr/bin/python3", "-I", "-c", server]);
            config.add_port(8421, sbx::PortKind::Unencrypted).unwrap();
            internet.runtime.create(&config).unwrap()
        })
        .collect();
    let ports = servers
        .iter()
        .map(|sandbox| sandbox.tunnels(crate::common::PATIENCE).unwrap().get(8421).unwrap().port());
    // Itself at 192.0.0.2, the gateway, and the tunnels of the others on the host.
    let mut attempts: Vec<String> = (1..=6).map(|last| format!("reach 192.0.0.{last} 8421")).collect();
    attempts.extend(
        ["127.0.0.1", "5.5.5.2"]
            .into_iter()
            .flat_map(|host| ports.clone().map(move |port| format!("reach {host} {port}"))),
    );
    attempts.push("reach fd73:6278:6e65::1 8421".to_owned());
    let policies = [
        Policy::open(),
        allowlist(&["0.0.0.0/0", "192.0.0.0/24", "::/0"]),
        allowlist(&["192.0.0.0/29"]),
        Policy::open(),
    ];
    let clients: Vec<_> = policies
        .iter()
        .map(|policy| internet.runtime.create(&crate::far::trying(policy, &attempts)).unwrap())
        .collect();
    for client in clients {
        let lines = internet.finish(&client);
        assert!(none_reached(&lines), "{lines:#?}");
    }
    for server in servers {
        server.terminate().unwrap();
        server.wait(crate::common::PATIENCE).unwrap();
        assert!(!crate::common::output(&server).contains("visited"));
    }
}
