//! What the rules do to packets. S's kernel stands in for gVisor's stack.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use super::packets::{Packet, What, Wire};
use super::space::{Side, Space};
use crate::net::nft::{AllowedSets, rules::RELAY_PORT};
use crate::topology::{GATEWAY, GATEWAY6, SANDBOX, SANDBOX6, SPARE};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
const PUBLIC6: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 1);
const RST: u8 = 0x04;

fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// The index of an interface in its namespace.
fn index(space: &mut Space, side: Side, link: &str) -> Option<i32> {
    let shown = space.ip(side, &format!("link show dev {link}"));
    Some(shown[0]["ifindex"].as_i64().unwrap().try_into().unwrap())
}

#[test]
fn a_destination_that_is_not_allowed_is_refused_at_once_and_nothing_leaves() {
    let (mut space, _rules) = Space::with_rules(true);
    let wire = Wire::open(&mut space, Side::Gateway, None);
    for port in [80, 443, RELAY_PORT] {
        assert_eq!(space.connect(Side::Sandbox, at(PUBLIC, port)).unwrap_err(), Errno::ECONNREFUSED);
        assert_eq!(space.connect(Side::Sandbox, at(PUBLIC6, port)).unwrap_err(), Errno::ECONNREFUSED);
    }
    for (from, to) in [(at(SANDBOX, 0), at(PUBLIC, 53)), (at(SANDBOX6, 0), at(PUBLIC6, 53))] {
        let socket = space.udp(Side::Sandbox, from);
        socket.connect(to).unwrap();
        socket.send(b"?").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{to}");
    }
    let out = wire.sent_out();
    assert!(!out.is_empty() && out.iter().all(|seen| seen.to == SANDBOX), "{out:?}");
}

#[test]
fn without_ipv6_its_packets_have_no_way_and_no_answer_but_a_refusal() {
    let (mut space, _rules) = Space::with_rules(false);
    assert_eq!(space.connect(Side::Sandbox, at(PUBLIC6, 80)).unwrap_err(), Errno::ENETUNREACH);
    // A sandbox that gives itself an address gains nothing.
    space.run(Side::Sandbox, &["ip", "address", "add", "fd73:6278:6e65::2/64", "dev", "eth0", "nodad"]);
    space.run(
        Side::Sandbox,
        &["ip", "neighbour", "add", "fd73:6278:6e65::1", "lladdr", "02:00:00:00:00:01", "dev", "eth0"],
    );
    space.run(Side::Sandbox, &["ip", "-6", "route", "add", "default", "via", "fd73:6278:6e65::1"]);
    let counters = |space: &mut Space| {
        let shown = space.ip(Side::Gateway, "-s link show dev gw0");
        shown[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    };
    let before = counters(&mut space);
    let socket = space.udp(Side::Sandbox, at(SANDBOX6, 0));
    socket.send_to(b"?", at(PUBLIC6, 53)).unwrap();
    socket.send_to(b"?", at(GATEWAY6, 53)).unwrap();
    // Something that is answered, after it.
    assert_eq!(space.connect(Side::Sandbox, at(PUBLIC, 80)).unwrap_err(), Errno::ECONNREFUSED);
    assert_eq!(counters(&mut space), before + 1);
}

#[test]
fn a_forged_sender_is_neither_heard_nor_answered() {
    let (mut space, mut rules) = Space::with_rules(false);
    let resolver = space.udp(Side::Gateway, at(GATEWAY, 53));
    let relay = space.udp(Side::Gateway, at(Ipv4Addr::LOCALHOST, RELAY_PORT));
    rules.apply(&AllowedSets { v4: vec![PUBLIC..=PUBLIC], ..AllowedSets::default() }, false).unwrap();
    let index = index(&mut space, Side::Sandbox, "eth0");
    let wire = Wire::open(&mut space, Side::Sandbox, index);
    let refused = (Ipv4Addr::new(2, 2, 2, 2), 80);
    let send = |from, byte| {
        for to in [(GATEWAY, 53), (PUBLIC, 443)] {
            wire.send(&Packet { from: (from, 4000), to, what: What::Datagram(byte) });
        }
        wire.send(&Packet { from: (from, 4000 + u16::from(byte)), to: refused, what: What::Syn });
    };
    for from in ["10.1.2.3", "1.1.1.1", "192.0.0.1", "192.0.0.3", "192.0.0.7", "127.0.0.1", "0.0.0.0"] {
        send(from.parse().unwrap(), 1);
    }
    send(SANDBOX, 2);
    // The sandbox's own are the first that arrive, and that are answered.
    for socket in [resolver, relay] {
        let mut byte = [0];
        let (_, from) = socket.recv_from(&mut byte).unwrap();
        assert_eq!((from, byte), (at(SANDBOX, 4000), [2]));
    }
    let answer = wire.next();
    assert_eq!((answer.from, answer.to, answer.port), (refused.0, SANDBOX, 4002));
    assert_eq!(answer.flags & RST, RST);
}

#[test]
fn the_relay_is_out_of_reach_but_by_the_rules() {
    let (mut space, mut rules) = Space::with_rules(false);
    let relay = space.listen(Side::Gateway, at(Ipv4Addr::LOCALHOST, RELAY_PORT));
    relay.set_nonblocking(true).unwrap();
    rules.apply(&AllowedSets { v4: vec![PUBLIC..=PUBLIC], ..AllowedSets::default() }, false).unwrap();
    let index = index(&mut space, Side::Sandbox, "eth0");
    let wire = Wire::open(&mut space, Side::Sandbox, index);
    wire.send(&Packet { from: (SANDBOX, 4000), to: (Ipv4Addr::LOCALHOST, RELAY_PORT), what: What::Syn });
    wire.send(&Packet { from: (SANDBOX, 4001), to: (GATEWAY, RELAY_PORT), what: What::Syn });
    wire.send(&Packet {
        from: (SANDBOX, 4002),
        to: (Ipv4Addr::new(2, 2, 2, 2), RELAY_PORT),
        what: What::Syn,
    });
    // Until the last is answered: whatever is, is by a reset.
    loop {
        let answer = wire.next();
        assert_eq!(answer.flags & RST, RST, "{answer:?}");
        if answer.port == 4002 {
            break;
        }
    }
    assert!(relay.accept().is_err());
    assert_eq!(space.connect(Side::Sandbox, at(GATEWAY, RELAY_PORT)).unwrap_err(), Errno::ECONNREFUSED);
}

#[test]
fn servers_in_the_sandbox_are_reached_from_every_address_of_the_gateway() {
    let (mut space, _rules) = Space::with_rules(true);
    let server = space.listen(Side::Sandbox, at(Ipv4Addr::UNSPECIFIED, 8080));
    for from in [GATEWAY].into_iter().chain(SPARE) {
        let mut client = space.connect_from(from, at(SANDBOX, 8080)).unwrap();
        let (mut accepted, peer) = server.accept().unwrap();
        assert_eq!(peer.ip(), from);
        client.write_all(b"ping").unwrap();
        let mut buffer = [0; 4];
        accepted.read_exact(&mut buffer).unwrap();
        accepted.write_all(b"pong").unwrap();
        client.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"pong");
        drop(accepted);
        assert_eq!(client.read(&mut buffer).unwrap(), 0);
    }
    let server = space.listen(Side::Sandbox, at(SANDBOX6, 8081));
    let _client = space.connect(Side::Gateway, at(SANDBOX6, 8081)).unwrap();
    server.accept().unwrap();
}

#[test]
fn a_closed_port_of_the_sandbox_is_refused() {
    let (mut space, _rules) = Space::with_rules(true);
    assert_eq!(space.connect(Side::Gateway, at(SANDBOX, 8080)).unwrap_err(), Errno::ECONNREFUSED);
    assert_eq!(space.connect(Side::Gateway, at(SANDBOX6, 8080)).unwrap_err(), Errno::ECONNREFUSED);
}

#[test]
fn of_the_gateway_only_the_resolver_and_the_given_services_are_reached() {
    let (mut space, mut rules) = Space::with_rules(true);
    let service = space.listen(Side::Gateway, at(Ipv4Addr::UNSPECIFIED, 7777));
    let other = space.listen(Side::Gateway, at(Ipv4Addr::UNSPECIFIED, 7778));
    let resolver = space.listen(Side::Gateway, at(GATEWAY, 53));
    space.connect(Side::Sandbox, at(GATEWAY, 53)).unwrap();
    resolver.accept().unwrap();
    let resolver = space.udp(Side::Gateway, at(GATEWAY, 53));
    let asking = space.udp(Side::Sandbox, at(SANDBOX, 0));
    asking.send_to(b"?", at(GATEWAY, 53)).unwrap();
    resolver.recv(&mut [0; 8]).unwrap();

    assert_eq!(space.connect(Side::Sandbox, at(GATEWAY, 7777)).unwrap_err(), Errno::ECONNREFUSED);
    rules.add_services(&[7777]).unwrap();
    rules.add_services(&[]).unwrap();
    space.connect(Side::Sandbox, at(GATEWAY, 7777)).unwrap();
    service.accept().unwrap();
    // A policy that names the gateway's network opens nothing else of it, and doesn't lead it to the relay.
    let relays = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let relays = relays.map(|local| space.listen(Side::Gateway, at(local, RELAY_PORT)));
    let allowed = AllowedSets {
        v4: vec![Ipv4Addr::UNSPECIFIED..=Ipv4Addr::BROADCAST],
        v6: vec![Ipv6Addr::UNSPECIFIED..=Ipv6Addr::from_bits(u128::MAX)],
        tls: Vec::new(),
    };
    rules.apply(&allowed, true).unwrap();
    for address in [GATEWAY].into_iter().chain(SPARE) {
        assert_eq!(space.connect(Side::Sandbox, at(address, 7778)).unwrap_err(), Errno::ECONNREFUSED);
    }
    assert_eq!(space.connect(Side::Sandbox, at(SPARE[0], 7777)).unwrap_err(), Errno::ECONNREFUSED);
    assert_eq!(space.connect(Side::Sandbox, at(GATEWAY6, 7778)).unwrap_err(), Errno::ECONNREFUSED);
    for listener in [other].into_iter().chain(relays) {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
    }
}

#[test]
fn what_is_allowed_is_delivered_to_the_relay_with_its_destination_until_it_no_longer_is() {
    let (mut space, mut rules) = Space::with_rules(true);
    let relays = [
        (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(PUBLIC)),
        (IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(PUBLIC6)),
    ];
    let relays = relays.map(|(local, public)| (space.listen(Side::Gateway, at(local, RELAY_PORT)), public));
    let allowed = AllowedSets { v4: vec![PUBLIC..=PUBLIC], v6: vec![PUBLIC6..=PUBLIC6], tls: Vec::new() };
    rules.apply(&allowed, true).unwrap();
    for (relay, public) in &relays {
        let mut client = space.connect(Side::Sandbox, at(*public, 443)).unwrap();
        let (mut accepted, _) = relay.accept().unwrap();
        assert_eq!(accepted.local_addr().unwrap(), at(*public, 443));
        client.write_all(b"ping").unwrap();
        accepted.read_exact(&mut [0; 4]).unwrap();
    }
    for next in ["1.1.1.0", "1.1.1.2", "2600::", "2600::2"] {
        let to = at(next.parse::<IpAddr>().unwrap(), 443);
        assert_eq!(space.connect(Side::Sandbox, to).unwrap_err(), Errno::ECONNREFUSED, "{next}");
    }
    // UDP too.
    let relay = space.udp(Side::Gateway, at(Ipv4Addr::LOCALHOST, RELAY_PORT));
    let client = space.udp(Side::Sandbox, at(SANDBOX, 0));
    client.send_to(b"quic", at(PUBLIC, 443)).unwrap();
    relay.recv(&mut [0; 8]).unwrap();

    rules.apply(&allowed, false).unwrap();
    assert_eq!(space.connect(Side::Sandbox, at(PUBLIC6, 443)).unwrap_err(), Errno::ECONNREFUSED);
    space.connect(Side::Sandbox, at(PUBLIC, 443)).unwrap();
    rules.apply(&AllowedSets::default(), true).unwrap();
    assert_eq!(space.connect(Side::Sandbox, at(PUBLIC, 443)).unwrap_err(), Errno::ECONNREFUSED);
}

#[test]
fn an_answered_address_is_delivered_on_tls_ports_by_tcp_only_until_it_has_run_out() {
    let (mut space, mut rules) = Space::with_rules(true);
    let pairs = [
        (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(PUBLIC)),
        (IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(PUBLIC6)),
    ];
    let relays = pairs.map(|(local, public)| (space.listen(Side::Gateway, at(local, RELAY_PORT)), public));
    let refused = |space: &mut Space, address: IpAddr, port: u16| {
        assert_eq!(space.connect(Side::Sandbox, at(address, port)).unwrap_err(), Errno::ECONNREFUSED);
    };
    rules.apply(&AllowedSets { tls: vec![443], ..AllowedSets::default() }, true).unwrap();
    for (_, public) in &relays {
        refused(&mut space, *public, 443);
    }
    rules.answer(&[PUBLIC.into(), PUBLIC6.into()], &[]).unwrap();
    for (relay, public) in &relays {
        space.connect(Side::Sandbox, at(*public, 443)).unwrap();
        assert_eq!(relay.accept().unwrap().0.local_addr().unwrap(), at(*public, 443));
        refused(&mut space, *public, 80);
        let client = space.udp(
            Side::Sandbox,
            at(if public.is_ipv4() { SANDBOX.into() } else { IpAddr::from(SANDBOX6) }, 0),
        );
        client.connect(at(*public, 443)).unwrap();
        client.send(b"quic").unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap_err().raw_os_error(), Some(Errno::ECONNREFUSED as i32));
    }
    rules.answer(&[], &[PUBLIC.into(), PUBLIC6.into()]).unwrap();
    for (_, public) in &relays {
        refused(&mut space, *public, 443);
    }
}

#[test]
fn no_connection_is_tracked() {
    let (mut space, _rules) = Space::with_rules(false);
    let server = space.listen(Side::Sandbox, at(SANDBOX, 8080));
    let _client = space.connect(Side::Gateway, at(SANDBOX, 8080)).unwrap();
    server.accept().unwrap();
    // Where the kernel has no connection tracking at all, there is no such file.
    let script = "cat /proc/sys/net/netfilter/nf_conntrack_count 2>/dev/null || echo 0";
    for side in [Side::Gateway, Side::Sandbox] {
        assert_eq!(space.run(side, &["sh", "-c", script]).trim(), "0", "{side:?}");
    }
    let hooks = space.ruleset();
    assert!(!hooks.contains(" ct "), "{hooks}");
}
