//! Encrypted tunnels.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use super::rig::{
    Rig, accept, client_config, connect, echo, noise, on_loopback, read_all, reset, roots, server,
    tls_client, wait_until, write_in_background,
};
use crate::tunnel::Security;

const MUCH: usize = 20 * 1024 * 1024;

#[test]
fn each_direction_ends_by_itself_with_close_notify() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.tls(address);
    let up = noise(MUCH, 1);

    // The client ends first, the server answers after that.
    let mut client = tls_client(&rig, tunnel);
    let mut backend = accept(&listener);
    let expected = up.clone();
    let reader = std::thread::spawn(move || (read_all(&mut backend) == expected, backend));
    client.write_all(&up).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    let (whole, backend) = reader.join().unwrap();
    assert!(whole);
    let down = noise(MUCH, 2);
    let writer = write_in_background(backend, down.clone());
    assert!(read_all(&mut client) == down, "read to a close_notify: rustls fails on a bare end");
    writer.join().unwrap();
    drop(client);

    // The server ends first; the client still sends.
    let mut client = tls_client(&rig, tunnel);
    let mut backend = accept(&listener);
    backend.write_all(b"that is all").unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"that is all");
    let expected = up.clone();
    let reader = std::thread::spawn(move || read_all(&mut backend) == expected);
    client.write_all(&up).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert!(reader.join().unwrap());
    drop(client);
    rig.finish();
}

#[test]
fn a_truncated_stream_reaches_the_server_as_a_reset() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let mut client = tls_client(&rig, rig.tls(address));
    let mut backend = accept(&listener);
    client.write_all(b"half of").unwrap();
    client.sock.shutdown(Shutdown::Write).unwrap();
    let mut buffer = [0; 7];
    backend.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"half of");
    assert_eq!(backend.read(&mut buffer).unwrap_err().kind(), ErrorKind::ConnectionReset);
    rig.finish();
}

#[test]
fn a_bare_end_after_the_servers_own_end_is_in_order() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let mut client = tls_client(&rig, rig.tls(address));
    let mut backend = accept(&listener);
    backend.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), b"");
    client.sock.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut backend), b"");
    rig.finish();
}

#[test]
fn a_reset_of_the_server_reaches_a_tls_client_as_a_cut_stream() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let mut client = tls_client(&rig, rig.tls(address));
    let mut backend = accept(&listener);
    backend.write_all(b"before").unwrap();
    let mut buffer = [0; 6];
    client.read_exact(&mut buffer).unwrap();
    reset(backend);
    assert!(client.read(&mut buffer).is_err());
    rig.finish();
}

#[test]
fn what_is_no_tls_is_refused_without_touching_the_server() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    listener.set_nonblocking(true).unwrap();
    let tunnel = rig.tls(address);
    let unfinished = vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc];
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), noise(100_000, 4), unfinished] {
        let mut client = connect(tunnel);
        let _ = client.write_all(&bytes);
        let _ = client.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[0] == 21, "an alert or nothing");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    rig.finish();
}

/// A record that no key has sealed.
fn forged() -> Vec<u8> {
    let mut record = vec![23, 3, 3, 0, 100];
    record.extend(noise(100, 5));
    record
}

#[test]
fn a_fatal_alert_reaches_a_client_that_goes_on_writing() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.tls(address);
    // In the handshake, where the alert is readable.
    let mut client = connect(tunnel);
    for _ in 0..16 {
        client.write_all(&[b'x'; 32 * 1024]).unwrap();
    }
    let answer = read_all(&mut client);
    assert!(answer.starts_with(&[21, 3]), "{answer:?}");
    drop(client);
    // Later, where it is sealed; the server sees a reset.
    let mut client = tls_client(&rig, tunnel);
    let mut backend = accept(&listener);
    client.sock.write_all(&forged()).unwrap();
    for _ in 0..16 {
        client.sock.write_all(&[b'x'; 32 * 1024]).unwrap();
    }
    let error = client.read(&mut [0]).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert_eq!(backend.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(client);
    rig.finish();
}

#[test]
fn how_many_linger_and_how_much_they_send_is_bounded() {
    let rig = Rig::new(on_loopback());
    let (_listener, address) = server();
    let tunnel = rig.tls(address);
    let clients: Vec<_> = (0..80)
        .map(|_| {
            let mut client = connect(tunnel);
            client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            client
        })
        .collect();
    wait_until("those beyond the bound were cut", || {
        rig.counters.total.load(Ordering::SeqCst) == 80 && rig.open() <= 64
    });
    drop(clients);
    wait_until("all have gone", || rig.open() == 0);
    let mut endless = connect(tunnel);
    let sent = (0..1_000).take_while(|_| endless.write_all(&[b'x'; 64 * 1024]).is_ok()).count();
    assert!(sent < 1_000, "62 MiB were taken");
    rig.finish();
}

#[test]
fn a_handshake_byte_by_byte_and_data_in_tiny_records_go_through() {
    let rig = Rig::new(on_loopback());
    let tunnel = rig.tls(echo());
    let config = client_config(rig.identity.ca_pem(), &[]);
    let mut connection = ClientConnection::new(config, ServerName::from(tunnel.ip())).unwrap();
    let mut socket = connect(tunnel);
    socket.set_nodelay(true).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    for byte in hello {
        socket.write_all(&[byte]).unwrap();
    }
    let mut client = StreamOwned::new(connection, socket);
    let bytes = noise(3000, 8);
    for byte in &bytes {
        client.write_all(&[*byte]).unwrap();
        client.flush().unwrap();
    }
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert!(read_all(&mut client) == bytes);
    drop(client);
    rig.finish();
}

#[test]
fn h2_is_offered_on_h2_ports_only() {
    let rig = Rig::new(on_loopback());
    let server = echo();
    for (h2, expected) in [(true, &b"h2"[..]), (false, b"http/1.1")] {
        let config = rig.identity.server_config(h2).unwrap();
        let tunnel = rig.add(server.port(), Security::Tls(config), &[]);
        let config = client_config(rig.identity.ca_pem(), &[b"h2", b"http/1.1"]);
        let mut connection = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        let mut socket = connect(tunnel);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).unwrap();
        }
        assert_eq!(connection.alpn_protocol(), Some(expected));
    }
    rig.finish();
}

/// OpenSSL's client, which verifies by this authority and the address.
fn openssl_client(tunnel: SocketAddr, ca: &Path, version: &str) -> Process {
    let mut client = Process::new("openssl");
    client
        .args(["s_client", "-verify_return_error", "-verify_ip", "127.0.0.1", version])
        .args(["-connect", &tunnel.to_string(), "-CAfile"])
        .arg(ca)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    client
}

/// OpenSSL's client as a second opinion: TLS 1.2 and 1.3, verification by CA and address.
#[test]
fn openssl_agrees() {
    if Process::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let rig = Rig::new(on_loopback());
    let tunnel = rig.tls(echo());
    let ca = std::env::temp_dir().join(format!("sbx-test-ca-{}.pem", std::process::id()));
    std::fs::write(&ca, rig.identity.ca_pem()).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = openssl_client(tunnel, &ca, version).arg("-quiet").spawn().unwrap();
        let mut input = client.stdin.take().unwrap();
        input.write_all(b"hello openssl\n").unwrap();
        let mut line = [0; 14];
        client.stdout.take().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"hello openssl\n");
        drop(input);
        client.kill().unwrap();
        client.wait().unwrap();
    }
    std::fs::remove_file(ca).unwrap();
    rig.finish();
}

/// Connects once more with a client's configuration, and sends and gets a byte, so that a ticket has come.
fn handshake(config: &Arc<ClientConfig>, tunnel: SocketAddr) -> (HandshakeKind, bool) {
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let early = connection.early_data().is_some();
    let mut socket = connect(tunnel);
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).unwrap();
    }
    let kind = connection.handshake_kind().unwrap();
    let mut client = StreamOwned::new(connection, socket);
    client.write_all(b"k").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client.conn.send_close_notify();
    client.flush().unwrap();
    assert_eq!(read_all(&mut client), b"");
    (kind, early)
}

#[test]
fn a_session_is_resumed_by_the_sandbox_that_began_it_and_by_no_other() {
    let (rig, other) = (Rig::new(on_loopback()), Rig::new(on_loopback()));
    // Both have the same certificate, as if it were the host's own.
    let identity = rig.identity.clone();
    let server = echo().port();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots(identity.ca_pem()))
            .with_no_client_auth();
        config.enable_early_data = true;
        let config = Arc::new(config);
        let [ours, theirs] = [&rig, &other]
            .map(|rig| rig.add(server, Security::Tls(identity.server_config(false).unwrap()), &[]));
        assert_eq!(handshake(&config, ours), (HandshakeKind::Full, false), "{version:?}");
        assert_eq!(handshake(&config, ours), (HandshakeKind::Resumed, false), "{version:?}");
        assert_eq!(handshake(&config, ours), (HandshakeKind::Resumed, false), "{version:?}");
        // The client offers what it has from the first, which has the same name.
        assert_eq!(handshake(&config, theirs), (HandshakeKind::Full, false), "{version:?}");
        assert_eq!(handshake(&config, theirs), (HandshakeKind::Resumed, false), "{version:?}");
    }
    rig.finish();
    other.finish();
}

#[test]
fn openssl_resumes_a_session_and_finds_early_data_off() {
    if Process::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let rig = Rig::new(on_loopback());
    let tunnel = rig.tls(echo());
    let path = |name: &str| std::env::temp_dir().join(format!("sbx-test-{name}-{}.pem", std::process::id()));
    let (ca, session) = (path("resumption-ca"), path("session"));
    std::fs::write(&ca, rig.identity.ca_pem()).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let connect = |more: &str| {
            let mut client = openssl_client(tunnel, &ca, version).arg(more).arg(&session).spawn().unwrap();
            // The echo comes behind the ticket of TLS 1.3. The client leaves when its input ends.
            let mut input = client.stdin.take().unwrap();
            input.write_all(b"all is here\n").unwrap();
            let mut output = client.stdout.take().unwrap();
            let (mut said, mut part) = (Vec::new(), [0; 4096]);
            while !said.windows(11).any(|window| window == b"all is here") {
                let count = output.read(&mut part).unwrap();
                assert!(count > 0, "{}", String::from_utf8_lossy(&said));
                said.extend_from_slice(&part[..count]);
            }
            drop(input);
            assert!(client.wait().unwrap().success());
            String::from_utf8_lossy(&said).into_owned()
        };
        let said = connect("-sess_out");
        assert!(said.contains("\nNew, TLSv1"), "{version}: {said}");
        let said = connect("-sess_in");
        assert!(said.contains("\nReused, TLSv1"), "{version}: {said}");
        assert!(
            !said.contains("Max Early Data: ") || said.contains("Max Early Data: 0\n"),
            "{version}: {said}"
        );
    }
    std::fs::remove_file(ca).unwrap();
    std::fs::remove_file(session).unwrap();
    rig.finish();
}

/// While others make handshakes and throw bytes without a pause, a victim's round trips go on.
#[test]
fn a_flood_of_handshakes_and_bytes_starves_nobody() {
    let rig = Rig::new(on_loopback());
    let server = echo();
    let (plain, tls) = (rig.plain(server), rig.tls(server));
    let mut victim = connect(plain);
    victim.set_nodelay(true).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut flooders = Vec::new();
    for _ in 0..2 {
        let stop = Arc::clone(&stop);
        let config = client_config(rig.identity.ca_pem(), &[]);
        flooders.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let hello = || {
                    let mut connection =
                        ClientConnection::new(Arc::clone(&config), ServerName::from(tls.ip())).unwrap();
                    let mut socket = connect(tls);
                    connection.write_tls(&mut socket).unwrap();
                    socket
                };
                let hellos: Vec<_> = (0..20).map(|_| hello()).collect();
                hellos.into_iter().for_each(reset);
            }
        }));
    }
    let flood = {
        let stop = Arc::clone(&stop);
        let mut socket = connect(plain);
        let mut sink = socket.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut sink, &mut std::io::sink()));
        std::thread::spawn(move || {
            let bytes = vec![0; 1 << 20];
            while !stop.load(Ordering::Relaxed) {
                socket.write_all(&bytes).unwrap();
            }
            let _ = socket.shutdown(Shutdown::Both);
        })
    };
    for _ in 0..200 {
        victim.write_all(b"ping").unwrap();
        victim.read_exact(&mut [0; 4]).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    flooders.into_iter().for_each(|flooder| flooder.join().unwrap());
    flood.join().unwrap();
    drop(victim);
    rig.finish();
}
