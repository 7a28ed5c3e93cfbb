//! Roles that this test program plays inside a namespace, started there by `Pair::play`.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::PATIENCE;
use super::packet::{self, ACK, RST, SYN, TCP, Wire};

/// Names the role.
pub(super) const ROLE: &str = "SBX_TEST_ROLE";
/// An address that the role is about.
pub(super) const ADDRESS: &str = "SBX_TEST_ADDRESS";
/// Stands before what a role says; the test runner says other things.
pub(super) const SAYS: &str = "role says: ";

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 2));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 1));
const OWN6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd73, 0x6278, 0x6e65, 0x7400, 0, 0, 0, 2));
const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd73, 0x6278, 0x6e65, 0x7400, 0, 0, 0, 1));
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));
const PUBLIC6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111));
/// Where a kernel says which multicast groups it is in (MLDv2), for each IPv6 address that it is given.
const REPORTS: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16));

#[test]
#[ignore = "a role in another test, which starts it in a namespace"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    match role.as_str() {
        "serve" => serve(),
        "listen" => listen(),
        "watch" => watch(),
        "reach" => reach(),
        "raw" => raw(),
        "raw6" => raw6(),
        other => panic!("no role {other}"),
    }
}

fn say(what: impl std::fmt::Display) {
    println!("{SAYS}{what}");
    std::io::stdout().flush().unwrap();
}

fn until_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn address() -> SocketAddr {
    std::env::var(ADDRESS).unwrap().parse().unwrap()
}

/// Listens and sends everything back.
fn serve() {
    let listener = TcpListener::bind(address()).unwrap();
    say(listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                std::io::copy(&mut stream, &mut back)
            });
        }
    });
    until_the_end();
}

/// Listens; nobody may come.
fn listen() {
    let listener = TcpListener::bind(address()).unwrap();
    say(listener.local_addr().unwrap());
    until_the_end();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Watches all links of G: nothing goes anywhere but to the sandbox, and nothing strange crosses lo.
fn watch() {
    let wire = Wire::open();
    say("ready");
    until_the_end();
    let mut count = 0;
    while let Some(seen) = wire.take() {
        count += 1;
        match (seen.link, seen.outgoing) {
            _ if seen.destination == REPORTS => {}
            (1, _) => assert!(seen.destination.is_loopback(), "across lo: {seen:?}"),
            (2, true) => assert!([OWN, OWN6].contains(&seen.destination), "leaves: {seen:?}"),
            (2, false) => {}
            _ => panic!("another link: {seen:?}"),
        }
    }
    assert!(count > 0, "the watch saw nothing at all");
}

fn refused(target: SocketAddr) {
    let error = TcpStream::connect_timeout(&target, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{target}: {error}");
}

fn refused_udp(target: SocketAddr) {
    let socket = UdpSocket::bind((OWN, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(target).unwrap();
    socket.send(b"ping").unwrap();
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{target}: {error}");
}

/// What a program in the sandbox tries first. `ADDRESS` listens in G.
fn reach() {
    for port in [22, 53, 80, 443, 9000] {
        refused((PUBLIC, port).into());
        refused_udp((PUBLIC, port).into());
        for host in [1, 3, 6] {
            let gateway: IpAddr = [192, 0, 0, host].into();
            refused((gateway, port).into());
            refused_udp((gateway, port).into());
        }
    }
    for private in [[10, 0, 0, 1], [169, 254, 169, 254], [192, 168, 0, 1], [172, 17, 0, 1]] {
        refused((private, 80).into());
    }
    refused(address());
    // No address and no route there: at once, by the sandbox's own kernel.
    let error = TcpStream::connect_timeout(&(PUBLIC6, 443).into(), PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}

/// Waits for the answer that has these ports.
fn answer(wire: &Wire, from: SocketAddr, to: SocketAddr) -> packet::Seen {
    loop {
        let seen = wire.wait();
        if seen.protocol == TCP && seen.ports() == Some((from.port(), to.port())) {
            assert_eq!((seen.source, seen.destination), (from.ip(), to.ip()));
            return seen;
        }
        assert!(seen.destination == to.ip() || seen.destination == REPORTS, "for somebody else: {seen:?}");
    }
}

fn reset_for(wire: &Wire, own: SocketAddr, target: SocketAddr, flags: u8) {
    wire.send("eth0", &packet::tcp(own, target, flags));
    let flags = answer(wire, target, own).tcp_flags().unwrap();
    assert_eq!(flags & (RST | SYN), RST, "{target}: {flags:#x}");
}

/// A sandbox whose kernel is lost. `ADDRESS` listens in G.
fn raw() {
    let wire = Wire::open();
    let mut port = 40_000;
    let mut own = || {
        port += 1;
        SocketAddr::new(OWN, port)
    };
    for flags in [SYN, SYN | 0x01, ACK, SYN | ACK] {
        reset_for(&wire, own(), (GATEWAY, 7).into(), flags);
        // A listener is not told of anything.
        reset_for(&wire, own(), address(), flags);
    }
    for flags in [SYN, ACK] {
        reset_for(&wire, own(), (PUBLIC, 443).into(), flags);
    }
    // Nobody else's address will do: nothing comes back, for anybody, although it has been looked at.
    for source in [[192, 0, 0, 1], [192, 0, 0, 5], [127, 0, 0, 1], [8, 8, 8, 8], [0, 0, 0, 0]] {
        for target in [GATEWAY, PUBLIC, Ipv4Addr::LOCALHOST.into(), Ipv4Addr::BROADCAST.into()] {
            let (source, target) = ((source, 50_000).into(), (target, address().port()).into());
            wire.send("eth0", &packet::tcp(source, target, SYN));
            wire.send("eth0", &packet::udp(source, target));
        }
        wire.send("eth0", &packet::frame(source.into(), GATEWAY, 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]));
    }
    // Nor may G's own loopback be named, and many at once are told nothing.
    wire.send("eth0", &packet::udp(own(), ([224, 0, 0, 1], 5353).into()));
    // UDP-Lite, SCTP, GRE, a protocol inside a protocol, and one that is none.
    for protocol in [136, 132, 47, 4, 41, 255] {
        wire.send("eth0", &packet::frame(OWN, PUBLIC, protocol, &[0; 32]));
        wire.send("eth0", &packet::frame(OWN, GATEWAY, protocol, &[0; 32]));
    }
    // Headers that end too early, lengths that lie.
    for length in [14, 15, 33, 34, 40] {
        let whole = packet::tcp(own(), (PUBLIC, 80).into(), SYN);
        wire.send("eth0", &whole[..length]);
    }
    // All of that has been dealt with once this is answered.
    reset_for(&wire, own(), (GATEWAY, 7).into(), SYN);
}

/// IPv6 where it isn't offered: not a word, not even to somebody who gives himself an address.
fn raw6() {
    let wire = Wire::open();
    let own = |ip| SocketAddr::new(ip, 40_000);
    let link_local: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2).into();
    let all_nodes: IpAddr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into();
    for source in [OWN6, link_local] {
        for target in [GATEWAY6, PUBLIC6, all_nodes, Ipv6Addr::LOCALHOST.into()] {
            wire.send("eth0", &packet::tcp(own(source), (target, 80).into(), SYN));
            wire.send("eth0", &packet::udp(own(source), (target, 80).into()));
        }
    }
    reset_for(&wire, (OWN, 41_000).into(), (GATEWAY, 7).into(), SYN);
}
