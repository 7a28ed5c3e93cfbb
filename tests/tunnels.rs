//! Tunnels, end to end: real clients, gVisor in between, real servers inside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use common::client::{self, Half, curl, is_over, tcp, tls, tls_as};
use common::{PATIENCE, Scratch, config, eventually, output, processes_with, runtime, servers};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use sbx::{Code, Config, PortKind, Probe, Sandbox, Stdio, Stream, TunnelMap};

fn ready(sandbox: &Sandbox) -> TunnelMap {
    sandbox.wait_ready(PATIENCE).unwrap();
    sandbox.tunnels(PATIENCE).unwrap()
}

fn with_ports(mut config: Config, ports: &[(u16, PortKind)]) -> Config {
    for (port, kind) in ports {
        config.add_port(*port, *kind).unwrap();
    }
    config
}

/// A bound port of the host that nobody listens on once this returns.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_main_job() {
    let runtime = runtime();
    let config =
        with_ports(config(&["python3", "-m", "http.server", "12345"]), &[(12345, PortKind::Encrypted)]);
    let sandbox = runtime.create(&config).unwrap();
    let map = ready(&sandbox);
    let scratch = Scratch::new("main");
    let ca = scratch.file("ca.pem", map.ca_pem().unwrap());
    let url = map.get(12345).unwrap().url().unwrap();

    let got = curl(&["--cacert", &ca, url]);
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert!(String::from_utf8_lossy(&got.stdout).contains("Directory listing for /"));
    let got = curl(&["--cacert", &ca, "--pinnedpubkey", map.spki_pin().unwrap(), url]);
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    let wrong_pin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(curl(&["-k", "--pinnedpubkey", wrong_pin, url]).status.code(), Some(90));
    assert_eq!(curl(&[url]).status.code(), Some(60), "without the CA it must not be trusted");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let other = scratch.file("other.pem", &made.cert.pem());
    assert_eq!(curl(&["--cacert", &other, url]).status.code(), Some(60), "another CA");

    let mut client = tls(&map, 12345);
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut page = String::new();
    client.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.0 200 OK"), "{page}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn several_kinds_at_once() {
    let runtime = runtime();
    let config = with_ports(
        servers(&["echo 7000", "echo 7001", "echo 7002", "echo 7003"]),
        &[
            (7000, PortKind::Unencrypted),
            (7001, PortKind::Encrypted),
            (7002, PortKind::H2),
            (7003, PortKind::Unencrypted),
        ],
    );
    let sandbox = runtime.create(&config).unwrap();
    let map = ready(&sandbox);
    assert_eq!(map.len(), 4);
    assert!(map.get(7000).unwrap().url().is_none());
    for port in [7000, 7003] {
        assert_eq!(client::echo(&mut tcp(map.get(port).unwrap())).unwrap(), "hello\n");
    }
    for port in [7001, 7002] {
        assert_eq!(client::echo(&mut tls(&map, port)).unwrap(), "hello\n");
    }
    let agreed = |port, offered: &[&str]| {
        let mut tls = tls_as(&map, port, "localhost", offered)?;
        client::echo(&mut tls)?;
        Ok::<_, std::io::Error>(
            tls.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        )
    };
    assert_eq!(agreed(7002, &["h2", "http/1.1"]).unwrap().as_deref(), Some("h2"));
    assert_eq!(agreed(7002, &["http/1.1"]).unwrap().as_deref(), Some("http/1.1"));
    assert_eq!(agreed(7001, &["h2", "http/1.1"]).unwrap().as_deref(), Some("http/1.1"));
    // A raw client at a TLS port gets nothing through.
    let mut raw = tcp(map.get(7001).unwrap());
    raw.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut back = Vec::new();
    let _ = raw.read_to_end(&mut back);
    assert!(!back.windows(3).any(|part| part == b"GET"), "{back:?}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_fixed_port_and_a_taken_one() {
    let runtime = runtime();
    let at = free_port();
    let mut config = with_ports(servers(&["echo 7000"]), &[(7000, PortKind::Unencrypted)]);
    config.bind_port(7000, at).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let map = ready(&sandbox);
    assert_eq!(map.get(7000).unwrap().port(), at.port());
    assert_eq!(client::echo(&mut tcp(map.get(7000).unwrap())).unwrap(), "hello\n");

    let error = runtime.create(&config).unwrap_err();
    assert_eq!((error.code(), error.os_error()), (Code::Exists, Some(libc::EADDRINUSE)), "{error}");
    assert!(error.message().contains(&at.to_string()) && error.message().contains("7000"), "{error}");
    assert_eq!(runtime.sandboxes().len(), 1, "nothing is left of it");

    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
    let again = runtime.create(&config).unwrap();
    assert_eq!(ready(&again).get(7000).unwrap().port(), at.port());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_client_of_a_sandbox_does_not_talk_to_the_next_one_on_its_port() {
    let runtime = runtime();
    let at = free_port();
    let mut config = with_ports(servers(&["echo 7000"]), &[(7000, PortKind::Encrypted)]);
    config.bind_port(7000, at).unwrap();
    let one = runtime.create(&config).unwrap();
    let first = ready(&one);
    // One client for both, with what it remembers of sessions.
    let settings = client::tls_config(first.ca_pem().unwrap(), &[]);
    let ask = |map: &TunnelMap| {
        let mut socket = tcp(map.get(7000).unwrap());
        let mut tls = ClientConnection::new(Arc::clone(&settings), ServerName::from(at.ip())).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        client::echo(&mut StreamOwned::new(tls, socket))
    };
    assert_eq!(ask(&first).unwrap(), "hello\n");
    one.terminate().unwrap();
    one.wait(PATIENCE).unwrap();

    let two = runtime.create(&config).unwrap();
    let second = ready(&two);
    assert_eq!(second.get(7000).unwrap().tcp_socket(), first.get(7000).unwrap().tcp_socket());
    let error = ask(&second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_ne!(first.spki_pin(), second.spki_pin());
    assert_eq!(client::echo(&mut tls(&second, 7000)).unwrap(), "hello\n");

    // OpenSSL looks at the authority's name and its constraints, too.
    let scratch = Scratch::new("authority");
    let (old, new) =
        (scratch.file("old.pem", first.ca_pem().unwrap()), scratch.file("new.pem", second.ca_pem().unwrap()));
    let url = second.get(7000).unwrap().url().unwrap();
    let curl = |ca: &str| curl(&["--http0.9", "--max-time", "20", "--cacert", ca, url]);
    assert_eq!(curl(&old).status.code(), Some(60));
    let got = curl(&new);
    assert!(String::from_utf8_lossy(&got.stdout).contains("GET /"), "{got:?}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn servers_that_are_hard_to_reach() {
    let runtime = runtime();
    let kinds = [(7000, PortKind::Unencrypted), (7001, PortKind::Encrypted), (7002, PortKind::Unencrypted)];
    let sandbox = runtime
        .create(&with_ports(
            servers(&["echo 7000 127.0.0.1", "echo 7001 127.0.0.1", "echo 7002 ::1"]),
            &kinds,
        ))
        .unwrap();
    let map = ready(&sandbox);
    // All in both ways: a line, then half-closes.
    for _ in 0..3 {
        let mut plain = tcp(map.get(7000).unwrap());
        assert_eq!(client::echo(&mut plain).unwrap(), "hello\n");
        plain.end();
        assert!(is_over(&mut plain));
        assert_eq!(client::echo(&mut tls(&map, 7001)).unwrap(), "hello\n");
    }
    assert_eq!(client::echo(&mut tcp(map.get(7002).unwrap())).unwrap(), "hello\n", "a server on ::1");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_server_that_listens_late_or_never() {
    let runtime = runtime();
    // It listens on 7000 when it is told to, on 7001 at once.
    let mut config = with_ports(
        servers(&["told 7000", "hold 7001"]),
        &[(7000, PortKind::Unencrypted), (7009, PortKind::Unencrypted)],
    );
    config.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
    config.set_readiness_probe(Probe::tcp(7001)).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let map = ready(&sandbox);
    let mut early = tcp(map.get(7000).unwrap());
    early.write_all(b"hello\n").unwrap();
    UnixStream::from(sandbox.open_stream(Stream::Stdin).unwrap()).write_all(b"now\n").unwrap();
    let mut back = [0; 6];
    early.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello\n");
    let mut never = tcp(map.get(7009).unwrap());
    let error = never.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn who_may_come_in() {
    let runtime = runtime();
    let create = |list: &[&str]| {
        let mut config = with_ports(servers(&["echo 7000"]), &[(7000, PortKind::Unencrypted)]);
        config.set_inbound_cidr_allowlist(list).unwrap();
        let sandbox = runtime.create(&config).unwrap();
        let map = ready(&sandbox);
        (sandbox, map)
    };
    let from = |source: [u8; 4], map: &TunnelMap| {
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let address = |ip: [u8; 4], port| nix::sys::socket::SockaddrIn::new(ip[0], ip[1], ip[2], ip[3], port);
        nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address(source, 0)).unwrap();
        let port = map.get(7000).unwrap().port();
        nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address([127, 0, 0, 1], port))
            .unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(PATIENCE).unwrap();
        client::echo(&mut stream).is_ok()
    };
    let (_one, map) = create(&["127.0.0.2/32", "10.0.0.0/8"]);
    assert!(from([127, 0, 0, 2], &map));
    assert!(!from([127, 0, 0, 1], &map));
    let (_none, map) = create(&[]);
    assert!(!from([127, 0, 0, 2], &map));
    assert!(!from([127, 0, 0, 1], &map));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_hundred_megabytes_each_way() {
    let runtime = runtime();
    for mtu in [1280, 1500, 9000] {
        for kind in [PortKind::Unencrypted, PortKind::Encrypted] {
            let mut config =
                with_ports(servers(&["sink 7000", "source 7001"]), &[(7000, kind), (7001, kind)]);
            config.set_mtu(mtu).unwrap();
            let sandbox = runtime.create(&config).unwrap();
            let map = ready(&sandbox);
            if kind == PortKind::Unencrypted {
                client::upload(&mut tcp(map.get(7000).unwrap()), 100);
                client::download(&mut tcp(map.get(7001).unwrap()));
            } else {
                client::upload(&mut tls(&map, 7000), 100);
                client::download(&mut tls(&map, 7001));
            }
            assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0);
            assert_eq!(output(&sandbox), "yes\n", "mtu {mtu}, {kind:?}");
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_reset_inside_is_a_reset_outside() {
    let runtime = runtime();
    let config = with_ports(servers(&["reset 7000"]), &[(7000, PortKind::Unencrypted)]);
    let sandbox = runtime.create(&config).unwrap();
    let map = ready(&sandbox);
    let mut stream = tcp(map.get(7000).unwrap());
    stream.write_all(b"x").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn two_hundred_connections_at_once() {
    let runtime = runtime();
    let config = with_ports(
        servers(&["echo 7000", "echo 7001"]),
        &[(7000, PortKind::Unencrypted), (7001, PortKind::Encrypted)],
    );
    let sandbox = runtime.create(&config).unwrap();
    let map = ready(&sandbox);
    let mut plain: Vec<_> = (0..100).map(|_| tcp(map.get(7000).unwrap())).collect();
    let mut secret: Vec<_> = (0..100).map(|_| tls(&map, 7001)).collect();
    for _ in 0..2 {
        plain.iter_mut().for_each(|stream| assert_eq!(client::echo(stream).unwrap(), "hello\n"));
        secret.iter_mut().for_each(|stream| assert_eq!(client::echo(stream).unwrap(), "hello\n"));
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_hosts_own_certificate_and_further_names() {
    let runtime = runtime();
    let made = rcgen::generate_simple_self_signed(vec!["box.example".to_owned()]).unwrap();
    let mut own = with_ports(servers(&["echo 7000"]), &[(7000, PortKind::Encrypted)]);
    own.set_tls_certificate(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
    let sandbox = runtime.create(&own).unwrap();
    let map = ready(&sandbox);
    assert_eq!(client::echo(&mut tls_as(&map, 7000, "box.example", &[]).unwrap()).unwrap(), "hello\n");
    assert!(tls_as(&map, 7000, "localhost", &[]).is_err());

    let mut names = with_ports(servers(&["echo 7000"]), &[(7000, PortKind::Encrypted)]);
    names.add_tls_name("box.example").unwrap().add_tls_name("192.0.2.7").unwrap();
    let sandbox = runtime.create(&names).unwrap();
    let map = ready(&sandbox);
    for name in ["box.example", "192.0.2.7", "localhost", "127.0.0.1", "::1"] {
        assert_eq!(client::echo(&mut tls_as(&map, 7000, name, &[]).unwrap()).unwrap(), "hello\n", "{name}");
    }
    assert!(tls_as(&map, 7000, "other.example", &[]).is_err());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_end_of_a_sandbox_ends_its_connections() {
    let runtime = runtime();
    let config = with_ports(
        servers(&["echo 7000", "hold 7001"]),
        &[(7000, PortKind::Unencrypted), (7001, PortKind::Encrypted)],
    );
    let sandbox = runtime.create(&config).unwrap();
    let map = ready(&sandbox);
    let mut plain = tcp(map.get(7000).unwrap());
    client::echo(&mut plain).unwrap();
    let mut secret = tls(&map, 7001);
    let id = sandbox.id().to_owned();
    sandbox.terminate().unwrap();
    assert_eq!(plain.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    // What the server's half of the handshake left unread comes first.
    assert!(matches!(secret.sock.read_to_end(&mut Vec::new()), Ok(_) | Err(_)));
    assert!(is_over(&mut secret.sock));
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(processes_with(&id), Vec::<String>::new());
    assert_eq!(sandbox.tunnels(PATIENCE).unwrap_err().code(), Code::State);
    let at = map.get(7000).unwrap().tcp_socket();
    eventually("the port is free again", || TcpListener::bind(at).is_ok());
    drop(sandbox);
    drop(runtime);
    assert!(map.get(7001).unwrap().url().unwrap().starts_with("https://127.0.0.1:"), "the map outlives both");
    assert!(map.ca_pem().is_some());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn connect_needs_no_tunnel() {
    let runtime = runtime();
    let mut config = servers(&["echo 7000", "echo 7001 127.0.0.1"]);
    config.set_readiness_probe(sbx::Probe::tcp(7001)).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    sandbox.wait_ready(PATIENCE).unwrap();
    for port in [7000, 7001] {
        let stream = sandbox.connect(port).unwrap();
        let mut stream = UnixStream::from(stream);
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(PATIENCE).unwrap();
        stream.write_all(b"through").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        assert_eq!(back, "through");
    }
    let error = sandbox.connect(7002).unwrap_err();
    assert_eq!(error.code(), Code::Refused, "{error}");
    assert!(error.message().contains("7002"), "{error}");
    assert_eq!(sandbox.connect(0).unwrap_err().code(), Code::Invalid);
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(sandbox.connect(7000).unwrap_err().code(), Code::State);
}
