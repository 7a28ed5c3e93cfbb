//! Handshake messages that come in pieces: while one is incomplete, rustls keeps its pieces in our buffer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig,
};

use super::tests::{configs, encrypted};
use super::*;

/// The head of a ClientHello of 65535 bytes, in a record of its own.
const HEAD: [u8; 9] = [0x16, 3, 1, 0, 4, 1, 0, 0xff, 0xff];

/// What all cases share, since the key takes a while to make.
fn shared() -> &'static (Arc<ServerConfig>, Arc<ClientConfig>) {
    static SHARED: OnceLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let (server, client) = configs();
        (server, Arc::new(client))
    })
}

/// An end that waits for a handshake, and its peer's socket.
fn waiting() -> (UnixStream, Endpoint, Scratch) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let ours = Socket::adopt(ours.into(), Family::Unix).unwrap();
    (theirs, Endpoint::encrypted(ours, Arc::clone(&shared().0)).unwrap(), Scratch::new())
}

/// The record of `payload`.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 1, high, low], payload].concat()
}

/// Has the end read until it has nothing more to read, and gives the data.
fn read(end: &mut Endpoint, scratch: &mut Scratch, limit: usize) -> io::Result<Vec<u8>> {
    end.readable = true;
    let mut data = Vec::new();
    for _ in 0..1000 {
        if !end.can_read() {
            return Ok(data);
        }
        let received = end.receive(scratch, limit);
        assert_eq!(scratch.held, end.held());
        match received? {
            Received::Data { length, .. } => data.extend(&scratch.plain[..length]),
            Received::Blocked => {}
            Received::End | Received::Truncated => return Ok(data),
        }
    }
    panic!("stuck");
}

/// Sends `bytes` and has the end read them.
fn pass(
    peer: &mut impl Write,
    end: &mut Endpoint,
    scratch: &mut Scratch,
    bytes: &[u8],
    limit: usize,
) -> io::Result<Vec<u8>> {
    peer.write_all(bytes).unwrap();
    read(end, scratch, limit)
}

#[test]
fn a_byte_after_the_pieces_of_a_message_is_not_taken_for_all_of_it() {
    for limit in [SMALL_CHUNK, CHUNK] {
        let (mut peer, mut end, mut scratch) = waiting();
        for bytes in [&HEAD[..], &record(0x16, &[0; 256]), &[0x16]] {
            assert!(pass(&mut peer, &mut end, &mut scratch, bytes, limit).unwrap().is_empty());
        }
        assert_eq!(end.held(), 9 + 261 + 1);
        end.reset(&mut scratch);
        assert_eq!(scratch.held, 0);
    }
}

#[test]
fn pieces_that_look_like_as_many_records_as_a_turn_takes_are_no_backlog() {
    let (mut peer, mut end, mut scratch) = waiting();
    // Put together behind the head these are 15 records, the last of which ends where the second one here has ended.
    let pieces = [[0x16, 3, 1, 0, 0].repeat(14), vec![0x16, 3, 1, 0, 5]].concat();
    for bytes in [&HEAD[..], &record(0x16, &pieces), &[0x16]] {
        assert!(pass(&mut peer, &mut end, &mut scratch, bytes, SMALL_CHUNK).unwrap().is_empty());
    }
    assert_eq!(end.held(), 9 + 80 + 1);
}

#[test]
fn a_message_in_more_records_than_a_turn_takes_is_put_together() {
    let (mut peer, mut end, mut scratch) = waiting();
    let mut hello = Vec::new();
    let mut client = ClientConnection::new(Arc::clone(&shared().1), "localhost".try_into().unwrap()).unwrap();
    client.write_tls(&mut hello).unwrap();
    let records: Vec<u8> = hello[5..].iter().flat_map(|byte| record(0x16, &[*byte])).collect();
    pass(&mut peer, &mut end, &mut scratch, &records, SMALL_CHUNK).unwrap();
    assert_eq!(end.held(), 0);
    client.read_tls(&mut peer).unwrap();
    client.process_new_packets().unwrap();
    assert!(!client.is_handshaking());
}

#[test]
fn what_may_not_follow_the_piece_of_a_message_ends_the_connection_in_order() {
    let unexpected = [0x17, 3, 3, 0, 1, 0];
    let too_long = [0x16, 3, 1, 0xff, 0xff];
    let alert = [0x15, 3, 1, 0, 2, 1, 0];
    for (bytes, alerted) in [
        (&[0x55; 64][..], true),
        (&too_long, true),
        (&[0x16, 3, 1, 0, 0], true),
        (&unexpected, false),
        (&alert, false),
    ] {
        for together in [true, false] {
            let (mut peer, mut end, mut scratch) = waiting();
            let mut all = HEAD.to_vec();
            if together {
                all.extend(bytes);
            } else {
                pass(&mut peer, &mut end, &mut scratch, &HEAD, CHUNK).unwrap();
                all = bytes.to_vec();
            }
            pass(&mut peer, &mut end, &mut scratch, &all, CHUNK).unwrap_err();
            assert_eq!(end.has_alerted(), alerted, "{bytes:?}");
            let mut said = [0; 64];
            let count = peer.read(&mut said).unwrap_or(0);
            assert_eq!(
                said[..count].first_chunk(),
                alerted.then_some(&[0x15, 3, 3, 0, 2, 2, 50]),
                "{bytes:?}"
            );
            // Whatever else comes finds what rustls had seen gone.
            pass(&mut peer, &mut end, &mut scratch, &HEAD, CHUNK).unwrap_err();
            end.send(&mut scratch, 1).unwrap_err();
            assert_eq!((scratch.held, end.held()), (0, 0));
        }
    }
}

#[test]
fn a_message_that_is_too_long_ends_the_connection_in_order() {
    let (mut peer, mut end, mut scratch) = waiting();
    let head = record(0x16, &[1, 1, 0, 0]);
    pass(&mut peer, &mut end, &mut scratch, &head, CHUNK).unwrap_err();
    pass(&mut peer, &mut end, &mut scratch, &head, CHUNK).unwrap_err();
}

#[test]
fn a_message_in_too_many_records_ends_the_connection_in_order() {
    let (mut peer, mut end, mut scratch) = waiting();
    let all = [HEAD.to_vec(), record(0x16, &[0]).repeat(CHUNK / 6 + 1)].concat();
    let mut failed = false;
    for bytes in all.chunks(16 * 1024) {
        failed = pass(&mut peer, &mut end, &mut scratch, bytes, CHUNK).is_err();
        assert!(end.held() <= CHUNK);
    }
    assert!(failed);
    end.send(&mut scratch, 1).unwrap_err();
    read(&mut end, &mut scratch, CHUNK).unwrap_err();
    end.reset(&mut scratch);
    assert_eq!(scratch.held, 0);
}

/// What seals a client's records after its handshake.
struct Sealer {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Sealer {
    fn seal(&mut self, typ: ContentType, bytes: &[u8]) -> Vec<u8> {
        let payload = OutboundChunks::Single(bytes);
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_3, payload };
        self.sequence += 1;
        self.encrypter.encrypt(message, self.sequence - 1).unwrap().encode()
    }
}

/// An end after its handshake, and a client that may send what no client sends.
fn established() -> (TcpStream, Sealer, Endpoint, Scratch) {
    let (client, mut end, mut scratch) = encrypted();
    let (conn, mut sock) = (client.conn, client.sock);
    let suite = conn.negotiated_cipher_suite().unwrap().tls13().unwrap();
    let (sequence, secrets) = conn.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another suite") };
    let _ = read(&mut end, &mut scratch, CHUNK).unwrap();
    let _ = sock.read(&mut [0; 4096]);
    (sock, Sealer { encrypter: suite.aead_alg.encrypter(key, iv), sequence }, end, scratch)
}

/// Waits until the end has read all of `bytes`, which TCP may bring in several turns.
fn pass_tcp(
    peer: &mut TcpStream,
    end: &mut Endpoint,
    scratch: &mut Scratch,
    bytes: &[u8],
    done: impl Fn(&Endpoint, &[u8]) -> bool,
) -> Vec<u8> {
    let mut data = pass(peer, end, scratch, bytes, CHUNK).unwrap();
    while !done(end, &data) {
        data.extend(read(end, scratch, CHUNK).unwrap());
    }
    data
}

#[test]
fn an_end_writes_while_half_a_key_update_has_come() {
    let (mut peer, mut sealer, mut end, mut scratch) = established();
    peer.set_nonblocking(false).unwrap();
    // The one that asks for ours in return.
    for (piece, held) in [(&[24, 0, 0][..], 25), (&[1], 48)] {
        let bytes = sealer.seal(ContentType::Handshake, piece);
        pass_tcp(&mut peer, &mut end, &mut scratch, &bytes, |end, _| end.held() == held);
        end.send(&mut scratch, 1).unwrap();
        peer.read_exact(&mut [0; 5 + 1 + 1 + 16]).unwrap();
    }
    let bytes = sealer.seal(ContentType::Handshake, &[1]);
    pass_tcp(&mut peer, &mut end, &mut scratch, &bytes, |end, _| end.held() == 0);
    end.send(&mut scratch, 1).unwrap();
    // Our own update goes before the data.
    peer.read_exact(&mut [0; 5 + 5 + 1 + 16]).unwrap();
    peer.read_exact(&mut [0; 5 + 1 + 1 + 16]).unwrap();
}

#[test]
fn an_end_closes_while_half_a_key_update_has_come() {
    let (mut peer, mut sealer, mut end, mut scratch) = established();
    peer.set_nonblocking(false).unwrap();
    let bytes = sealer.seal(ContentType::Handshake, &[24, 0, 0]);
    pass_tcp(&mut peer, &mut end, &mut scratch, &bytes, |end, _| end.held() > 0);
    assert!(end.finish(&mut scratch).unwrap());
    let mut said = Vec::new();
    peer.read_to_end(&mut said).unwrap();
    assert_eq!(said.len(), 5 + 2 + 1 + 16);
}

#[test]
fn empty_pieces_between_the_data_lose_nothing() {
    // rustls takes them for the beginning of a message, and keeps what it has seen from there on.
    let (mut peer, mut sealer, mut end, mut scratch) = established();
    let mut sent = Vec::new();
    for n in 0..200_u8 {
        let bytes = [
            sealer.seal(ContentType::Handshake, &[]),
            sealer.seal(ContentType::ApplicationData, &[n, n]),
            sealer.seal(ContentType::ApplicationData, &[n]),
        ];
        sent.extend([n; 3]);
        let data = pass_tcp(&mut peer, &mut end, &mut scratch, &bytes.concat(), |_, data| data.len() == 3);
        assert_eq!(data, [n; 3]);
        end.send(&mut scratch, 1).unwrap();
    }
    let bytes = sealer.seal(ContentType::Handshake, &[24, 0, 0, 1, 0]);
    pass_tcp(&mut peer, &mut end, &mut scratch, &bytes, |end, _| end.held() == 0);
}

/// Cuts `bytes` into pieces of the lengths that `lengths` has in turn.
fn pieces<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut all = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).clamp(1, bytes.len()));
        all.push(piece);
        bytes = rest;
    }
    all
}

/// Makes a handshake whose ClientHello is cut into `records`; all that the client sends arrives in `reads`, but for what
/// `spoil` does to it.
fn shake_hands(
    records: &[usize],
    reads: &[usize],
    limit: usize,
    spoil: impl Fn(&mut Vec<u8>),
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut peer, mut end, mut scratch) = waiting();
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(&shared().1), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes = pieces(&bytes[5..], records).into_iter().flat_map(|piece| record(0x16, piece)).collect();
    spoil(&mut bytes);
    let mut data = Vec::new();
    for _ in 0..10 {
        for piece in pieces(&bytes, reads) {
            data.extend(pass(&mut peer, &mut end, &mut scratch, piece, limit)?);
        }
        bytes.clear();
        let mut said = vec![0; 1 << 16];
        let count = peer.read(&mut said).unwrap_or(0);
        let mut said = &said[..count];
        while !said.is_empty() {
            client.read_tls(&mut said)?;
            client.process_new_packets()?;
        }
        if end.is_established() && !client.is_handshaking() {
            if data == b"hello" {
                assert_eq!((scratch.held, end.held()), (0, 0));
                return Ok(());
            }
            client.writer().write_all(b"hello").unwrap();
        }
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
    }
    Err("the handshake doesn't end".into())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_handshake_in_any_records_and_reads_succeeds(
        records in prop::collection::vec(prop_oneof![1..8_usize, 1..600_usize], 1..40),
        reads in prop::collection::vec(prop_oneof![1..16_usize, 1..3000_usize], 1..40),
        limit in prop_oneof![Just(SMALL_CHUNK), Just(CHUNK)],
    ) {
        shake_hands(&records, &reads, limit, |_| {}).unwrap();
    }

    #[test]
    fn a_spoilt_handshake_in_any_records_and_reads_ends_somehow(
        records in prop::collection::vec(prop_oneof![1..8_usize, 1..600_usize], 1..40),
        reads in prop::collection::vec(prop_oneof![1..16_usize, 1..3000_usize], 1..40),
        limit in prop_oneof![Just(SMALL_CHUNK), Just(CHUNK)],
        at in any::<prop::sample::Index>(),
        cut in 0..32_usize,
        instead in prop::collection::vec(prop_oneof![Just(0_u8), Just(3), 0x14..0x19_u8, any::<u8>()], 0..64),
    ) {
        let _ = shake_hands(&records, &reads, limit, |bytes| {
            let at = at.index(bytes.len());
            bytes.splice(at..(at + cut).min(bytes.len()), instead.iter().copied());
        });
    }
}
