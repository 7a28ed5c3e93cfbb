//! An endpoint over real sockets: what it holds for its peer, and floods of TLS records.

use super::*;
use crate::pump::flow::Flow;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[test]
fn what_is_kept_for_a_peer_that_leaves_a_little_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let writer = listener.accept().unwrap().0;
    writer.set_nonblocking(true).unwrap();
    let (mut end, mut scratch) = (Endpoint::plain(Socket::new(writer.into(), Family::Tcp)), Scratch::new());
    end.enqueue(vec![7; 32 << 20], &mut scratch);
    let mut taken = 0;
    loop {
        end.flush(&mut scratch).unwrap();
        if end.queued() == 0 {
            break;
        }
        assert_eq!(scratch.held, end.queue.capacity());
        taken += reader.read(&mut [0; 1 << 18]).unwrap();
    }
    assert!(taken > 0);
    assert_eq!((scratch.held, end.queue.capacity()), (0, 0));
}

/// What a server and a client that trusts it need.
pub(crate) fn configs() -> (Arc<ServerConfig>, ClientConfig) {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(config), client)
}

/// A TLS connection to an end of ours, after its handshake.
pub(crate) fn encrypted() -> (StreamOwned<ClientConnection, TcpStream>, Endpoint, Scratch) {
    let (config, mut client) = configs();
    client.enable_secret_extraction = true;
    let client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = StreamOwned::new(client, TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let socket = listener.accept().unwrap().0;
    socket.set_nonblocking(true).unwrap();
    client.sock.set_nonblocking(true).unwrap();
    let mut end = Endpoint::encrypted(Socket::new(socket.into(), Family::Tcp), config).unwrap();
    let mut scratch = Scratch::new();
    while !end.is_established() || client.conn.is_handshaking() {
        let _ = client.conn.complete_io(&mut client.sock);
        end.readable = true;
        end.receive(&mut scratch, CHUNK).unwrap();
    }
    (client, end, scratch)
}

#[test]
fn a_flood_of_tiny_records_is_bounded_a_turn_and_loses_nothing() {
    let (mut client, mut front, mut scratch) = encrypted();
    // Where the data goes: a stream that takes all.
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut back = Endpoint::plain(Socket::adopt(ours.into(), Family::Unix).unwrap());
    let mut records = Vec::new();
    for n in 0..9_000_u16 {
        client.conn.writer().write_all(&n.to_be_bytes()[1..]).unwrap();
        client.conn.write_tls(&mut records).unwrap();
    }
    let (mut sent, mut total, mut arrived, mut turns, mut flow) = (0, 0, Vec::new(), 0, Flow::default());
    while arrived.len() < 9_000 {
        sent += client.sock.write(&records[sent..]).unwrap_or(0);
        front.readable = true;
        let (mut left, mut moved) = (512 * 1024, 0);
        flow.run(&mut front, &mut back, &mut scratch, &mut left, &mut moved).unwrap();
        assert!(moved <= 512, "{moved} records in one turn");
        assert_eq!(scratch.held, front.held() + back.held());
        let mut bytes = vec![0; usize::try_from(moved).unwrap()];
        theirs.read_exact(&mut bytes).unwrap();
        arrived.extend(bytes);
        (total, turns) = (total + moved, turns + 1);
        assert!(turns < 100_000, "stuck");
    }
    assert_eq!(total, 9_000);
    assert!(arrived.iter().zip(0..9_000_u16).all(|(byte, n)| *byte == n.to_be_bytes()[1]));
    front.reset(&mut scratch);
    assert_eq!(scratch.held, 0);
}

#[test]
fn an_end_of_the_stream_behind_more_records_than_a_turn_takes_is_seen() {
    let (mut client, mut front, mut scratch) = encrypted();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut back = Endpoint::plain(Socket::adopt(ours.into(), Family::Unix).unwrap());
    let mut records = Vec::new();
    for _ in 0..1000 {
        client.conn.writer().write_all(b"x").unwrap();
        client.conn.write_tls(&mut records).unwrap();
    }
    client.conn.send_close_notify();
    client.conn.write_tls(&mut records).unwrap();
    client.sock.set_nonblocking(false).unwrap();
    client.sock.write_all(&records).unwrap();
    let (mut flow, mut moved, mut turns) = (Flow::default(), 0, 0);
    // There is one edge for all of it, and none for what is kept.
    front.readable = true;
    while !flow.has_ended() {
        flow.run(&mut front, &mut back, &mut scratch, &mut (512 * 1024), &mut moved).unwrap();
        turns += 1;
        assert!(turns < 10, "stuck");
    }
    assert_eq!(moved, 1000);
}

#[test]
fn full_records_use_the_whole_budget() {
    let (mut client, mut front, mut scratch) = encrypted();
    client.sock.set_nonblocking(false).unwrap();
    let writer = std::thread::spawn(move || client.write_all(&[5; 1 << 20]).map(|()| client));
    let (mut work, mut length) = (0, 0);
    while length < 1 << 20 {
        front.readable = true;
        if let Received::Data { length: more, work: cost } = front.receive(&mut scratch, CHUNK).unwrap() {
            (work, length) = (work + cost, length + more);
        }
    }
    assert!(work < length + length / 10, "{work} for {length}");
    writer.join().unwrap().unwrap();
}
