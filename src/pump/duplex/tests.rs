//! A relay between two real peers on socket pairs, without a reactor: the test passes on the readiness, and says what
//! time it is.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::pump::endpoint::tests::encrypted;
use crate::pump::flow::CHUNK;
use crate::sys::socket::{Family, Socket};

const IDLE: Duration = Duration::from_secs(100);
const HALF_CLOSED: Duration = Duration::from_secs(10);
const TIMEOUTS: IdleTimeouts = IdleTimeouts { idle: Some(IDLE), half_closed: HALF_CLOSED };
const SIDES: [Side; 2] = [Side::Downstream, Side::Upstream];
const READY: Readiness = Readiness { readable: true, writable: true, failed: false, more_follows: true };
const FAILED: Readiness = Readiness { failed: true, ..READY };

/// A relay with its peers, which are streams of type `T`.
struct Rig<T> {
    duplex: Duplex,
    scratch: Scratch,
    /// Downstream's, then upstream's.
    peers: [T; 2],
    start: Instant,
    moved: BytesMoved,
}

impl<T> Rig<T> {
    fn new(pair: impl Fn() -> (Endpoint, T)) -> Self {
        let ((downstream, client), (upstream, server)) = (pair(), pair());
        let start = Instant::now();
        let duplex = Duplex::new(downstream, upstream, TIMEOUTS, start);
        Self { duplex, scratch: Scratch::new(), peers: [client, server], start, moved: BytesMoved::default() }
    }

    /// The peers, the one of `side` first.
    fn peers(&mut self, side: Side) -> [&mut T; 2] {
        let [client, server] = &mut self.peers;
        if side == Side::Downstream { [client, server] } else { [server, client] }
    }

    /// Relays all that can be, as if it were that time.
    fn advance_at(&mut self, now: Instant) -> Progress {
        SIDES.into_iter().for_each(|side| self.duplex.note(side, READY));
        loop {
            let (progress, moved) = self.duplex.advance(now, BUDGET, &mut self.scratch);
            self.moved.up += moved.up;
            self.moved.down += moved.down;
            if progress != Progress::Again {
                return progress;
            }
        }
    }

    fn advance(&mut self) -> Progress {
        self.advance_at(self.start)
    }

    /// Bytes that came from a side.
    fn moved_from(&self, side: Side) -> u64 {
        if side == Side::Downstream { self.moved.up } else { self.moved.down }
    }

    fn fail(&mut self, side: Side) {
        self.duplex.note(side, FAILED);
    }

    /// Ends both connections; nothing is held for them afterwards.
    fn reset(self) -> [T; 2] {
        let Self { duplex, mut scratch, peers, .. } = self;
        duplex.reset(&mut scratch);
        assert_eq!(scratch.held, 0);
        peers
    }
}

fn unix() -> (Endpoint, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (Endpoint::plain(Socket::adopt(ours.into(), Family::Unix).unwrap()), theirs)
}

fn tcp() -> (Endpoint, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = listener.accept().unwrap().0;
    (Endpoint::plain(Socket::adopt(ours.into(), Family::Tcp).unwrap()), theirs)
}

/// Has a peer's socket closed with a reset when it is dropped.
fn resets_on_close(peer: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&peer.as_fd(), sockopt::Linger, &linger).unwrap();
}

/// Shuts a peer's socket down with a reset, and keeps what stands in for it.
fn reset_peer(peer: &mut TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    resets_on_close(peer);
    drop(std::mem::replace(peer, other));
}

/// Has a relay go on until `done`: on loopback, too, what a peer has sent may take a moment to arrive.
fn until(duplex: &mut Duplex, scratch: &mut Scratch, done: impl Fn(&Duplex, Progress) -> bool) -> Progress {
    let (start, now) = (Instant::now(), duplex.active());
    loop {
        SIDES.into_iter().for_each(|side| duplex.note(side, READY));
        let (progress, _) = duplex.advance(now, BUDGET, scratch);
        if done(duplex, progress) {
            return progress;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{progress:?}");
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n / 251 + n) % 256).unwrap()).collect()
}

#[test]
fn a_stream_that_ends_ends_on_the_other_side_and_the_other_direction_goes_on() {
    for first in SIDES {
        let mut rig = Rig::new(unix);
        let [ender, other] = rig.peers(first);
        ender.write_all(b"last words").unwrap();
        ender.shutdown(Shutdown::Write).unwrap();
        other.write_all(b"before").unwrap();
        assert_eq!(rig.advance(), Progress::Wait);
        let [ender, other] = rig.peers(first);
        let mut heard = Vec::new();
        other.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"last words");
        other.write_all(b", after").unwrap();
        other.shutdown(Shutdown::Write).unwrap();
        assert_eq!(ender.read(&mut [0; 6]).unwrap(), 6);
        assert_eq!(rig.advance(), Progress::Closed);
        assert_eq!(rig.duplex.upstream_ended_first(), first == Side::Upstream);
        assert_eq!((rig.moved_from(first), rig.moved.total()), (10, 23));
        let [ender, _] = rig.peers(first);
        heard.clear();
        ender.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b", after");
        rig.duplex.close(&mut rig.scratch);
        assert_eq!(rig.scratch.held, 0);
    }
}

#[test]
fn streams_that_end_in_one_turn_are_taken_as_ended_downstream_first() {
    let mut rig = Rig::new(unix);
    rig.peers.iter().for_each(|peer| peer.shutdown(Shutdown::Write).unwrap());
    assert_eq!(rig.advance(), Progress::Closed);
    assert!(!rig.duplex.upstream_ended_first());
}

/// Goes on until the peer's kernel has acknowledged what was delivered.
fn until_cut(rig: &mut Rig<TcpStream>) {
    // The time-out of a drain is never over.
    until(&mut rig.duplex, &mut rig.scratch, |_, progress| progress == Progress::Cut);
}

#[test]
fn a_reset_becomes_a_reset_behind_the_data_before_it() {
    for first in SIDES {
        let mut rig = Rig::new(tcp);
        let [resetter, _] = rig.peers(first);
        resetter.write_all(b"before").unwrap();
        reset_peer(resetter);
        until_cut(&mut rig);
        let peers = rig.reset();
        let mut other = &peers[usize::from(first == Side::Downstream)];
        let mut heard = [0; 7];
        other.read_exact(&mut heard[..6]).unwrap();
        assert_eq!(&heard[..6], b"before");
        assert_eq!(other.read(&mut heard).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_reset_after_the_end_of_a_stream_is_known_from_the_kernels_report_alone() {
    for first in SIDES {
        let mut rig = Rig::new(tcp);
        let [ender, _] = rig.peers(first);
        ender.shutdown(Shutdown::Write).unwrap();
        until(&mut rig.duplex, &mut rig.scratch, |duplex, _| duplex.is_half_closed());
        rig.fail(first);
        until_cut(&mut rig);
        rig.reset();
    }
}

/// Sends until neither the relay nor the other peer's kernel takes more for a while.
fn fill(rig: &mut Rig<TcpStream>, side: Side) -> usize {
    let (chunk, mut sent, mut quiet) = (vec![7; 1 << 16], 0, 0);
    rig.peers(side)[0].set_nonblocking(true).unwrap();
    while quiet < 30 {
        match rig.peers(side)[0].write(&chunk) {
            Ok(count) => (sent, quiet) = (sent + count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        let before = rig.moved.total();
        assert_eq!(rig.advance(), Progress::Wait);
        quiet = if rig.moved.total() == before && rig.scratch.held > 0 { quiet + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(1));
    }
    sent
}

/// Resets a peer whose data waits in the relay. That shows when something is written to it.
fn reset_while_full(rig: &mut Rig<TcpStream>, side: Side) {
    let [peer, other] = rig.peers(side);
    reset_peer(peer);
    other.write_all(b"x").unwrap();
    while rig.duplex.failed.is_none() {
        assert_eq!(rig.advance(), Progress::Wait);
    }
    assert_eq!(rig.duplex.failed, Some(side));
    assert!(rig.scratch.held > 0, "bytes are in flight");
}

#[test]
fn a_cut_waits_until_the_bytes_in_flight_are_delivered() {
    for first in SIDES {
        let mut rig = Rig::new(tcp);
        let sent = fill(&mut rig, first);
        reset_while_full(&mut rig, first);
        assert_eq!(rig.advance(), Progress::Wait);
        assert_eq!(rig.duplex.deadline(), Some(rig.start + DRAIN_INTERVAL));
        assert_eq!(rig.duplex.on_deadline(rig.start + DRAIN_INTERVAL), Expired::Drain);
        let (mut heard, mut buffer) = (0, vec![0; 1 << 16]);
        rig.peers(first)[1].set_nonblocking(true).unwrap();
        let mut progress = Progress::Wait;
        while progress != Progress::Cut {
            progress = rig.advance();
            while let Ok(count @ 1..) = rig.peers(first)[1].read(&mut buffer) {
                heard += count;
            }
        }
        assert_eq!((rig.moved_from(first), rig.scratch.held), (heard as u64, 0));
        assert!(heard <= sent && heard > CHUNK);
        rig.reset();
    }
}

#[test]
fn a_cut_does_not_wait_for_long_for_a_peer_that_takes_nothing() {
    for first in SIDES {
        let mut rig = Rig::new(tcp);
        fill(&mut rig, first);
        reset_while_full(&mut rig, first);
        assert_eq!(rig.advance(), Progress::Wait);
        assert_eq!(rig.advance_at(rig.start + DRAIN_TIMEOUT - DRAIN_INTERVAL), Progress::Wait);
        assert_eq!(rig.advance_at(rig.start + DRAIN_TIMEOUT), Progress::Cut);
        rig.reset();
    }
}

#[test]
fn a_reader_that_stops_holds_its_writer_back_and_loses_nothing() {
    for first in SIDES {
        let mut rig = Rig::new(unix);
        let data = bytes(4 << 20);
        let mut sent = 0;
        loop {
            let [writer, _] = rig.peers(first);
            match writer.write(&data[sent..]) {
                Ok(count) => sent += count,
                Err(_) if rig.scratch.held > 0 => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert_eq!(rig.advance(), Progress::Wait);
            assert!(rig.scratch.held <= CHUNK);
            assert!(sent < data.len(), "all of it was taken although nobody reads");
        }
        let (mut heard, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while heard.len() < data.len() {
            let [writer, reader] = rig.peers(first);
            sent += writer.write(&data[sent..]).unwrap_or(0);
            if let Ok(count) = reader.read(&mut buffer) {
                heard.extend_from_slice(&buffer[..count]);
            }
            rig.advance();
        }
        assert!(heard == data);
        assert_eq!((rig.moved_from(first), rig.scratch.held), (data.len() as u64, 0));
    }
}

#[test]
fn a_turn_moves_no_more_than_its_budget_and_the_next_needs_no_readiness() {
    let mut rig = Rig::new(unix);
    for first in SIDES {
        let [writer, _] = rig.peers(first);
        writer.write_all(&bytes(50_000)).unwrap();
    }
    let (mut total, mut turns) = (BytesMoved::default(), 0);
    loop {
        let (progress, moved) = rig.duplex.advance(rig.start, 20_000, &mut rig.scratch);
        assert!(moved.up <= 20_000 && moved.down <= 20_000, "{moved:?}");
        (total.up, total.down, turns) = (total.up + moved.up, total.down + moved.down, turns + 1);
        match progress {
            Progress::Again => {}
            other => break assert_eq!(other, Progress::Wait),
        }
    }
    assert_eq!((total, turns), (BytesMoved { up: 50_000, down: 50_000 }, 3));
    for peer in &mut rig.peers {
        let mut heard = vec![0; 50_000];
        peer.read_exact(&mut heard).unwrap();
        assert!(heard == bytes(50_000));
    }
}

#[test]
fn silence_has_a_limit_that_data_puts_off_and_an_end_shortens() {
    let mut rig = Rig::new(unix);
    let start = rig.start;
    assert_eq!(rig.duplex.deadline(), Some(start + IDLE));
    rig.peers[0].write_all(b"x").unwrap();
    let later = start + Duration::from_secs(60);
    assert_eq!(rig.advance_at(later), Progress::Wait);
    assert_eq!(rig.duplex.deadline(), Some(start + IDLE), "no timer is set again for a byte");
    assert_eq!(rig.duplex.on_deadline(start + IDLE), Expired::NotYet);
    assert_eq!(rig.duplex.deadline(), Some(later + IDLE));
    rig.peers[1].shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.advance_at(later), Progress::Wait);
    assert_eq!(rig.duplex.deadline(), Some(later + HALF_CLOSED));
    rig.peers[0].write_all(b"x").unwrap();
    let last = later + Duration::from_secs(5);
    assert_eq!(rig.advance_at(last), Progress::Wait);
    assert_eq!(rig.duplex.on_deadline(later + HALF_CLOSED), Expired::NotYet);
    assert_eq!(rig.duplex.on_deadline(last + HALF_CLOSED), Expired::Idle);
}

#[test]
fn without_an_idle_time_out_only_a_half_closed_relay_has_a_deadline() {
    let ((downstream, client), (upstream, _server)) = (unix(), unix());
    let (now, mut scratch) = (Instant::now(), Scratch::new());
    let timeouts = IdleTimeouts { idle: None, half_closed: HALF_CLOSED };
    let mut duplex = Duplex::new(downstream, upstream, timeouts, now);
    assert_eq!(duplex.advance(now, BUDGET, &mut scratch).0, Progress::Wait);
    assert_eq!(duplex.deadline(), None);
    client.shutdown(Shutdown::Write).unwrap();
    duplex.note(Side::Downstream, READY);
    assert_eq!(duplex.advance(now, BUDGET, &mut scratch).0, Progress::Wait);
    assert_eq!(duplex.deadline(), Some(now + HALF_CLOSED));
}

#[test]
fn a_tls_clients_bare_end_is_a_cut_unless_the_server_ended_first() {
    for server_first in [false, true] {
        let (client, downstream, mut scratch) = encrypted();
        let (upstream, mut server) = tcp();
        let now = Instant::now();
        let mut duplex = Duplex::new(downstream, upstream, TIMEOUTS, now);
        if server_first {
            server.shutdown(Shutdown::Write).unwrap();
            until(&mut duplex, &mut scratch, |duplex, _| duplex.is_half_closed());
        }
        client.sock.shutdown(Shutdown::Write).unwrap();
        let progress = until(&mut duplex, &mut scratch, |_, progress| progress != Progress::Wait);
        if server_first {
            assert_eq!(progress, Progress::Closed);
            duplex.close(&mut scratch);
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
        } else {
            assert_eq!((progress, duplex.has_alerted()), (Progress::Cut, false));
            duplex.reset(&mut scratch);
            assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }
}

#[test]
fn close_notify_is_passed_on_as_an_end_and_the_answer_is_sealed() {
    let (mut client, downstream, mut scratch) = encrypted();
    let (upstream, mut server) = tcp();
    let now = Instant::now();
    let mut duplex = Duplex::new(downstream, upstream, TIMEOUTS, now);
    client.write_all(b"question").unwrap();
    client.conn.send_close_notify();
    client.conn.complete_io(&mut client.sock).unwrap();
    until(&mut duplex, &mut scratch, |duplex, _| duplex.is_half_closed());
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"question");
    server.write_all(b"answer").unwrap();
    drop(server);
    until(&mut duplex, &mut scratch, |_, progress| progress == Progress::Closed);
    duplex.close(&mut scratch);
    client.sock.set_nonblocking(false).unwrap();
    heard.clear();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!((&heard[..], scratch.held), (&b"answer"[..], 0));
}

#[test]
fn a_forged_record_is_answered_by_an_alert_and_the_server_reset() {
    let (mut client, downstream, mut scratch) = encrypted();
    let (upstream, mut server) = tcp();
    let now = Instant::now();
    let mut duplex = Duplex::new(downstream, upstream, TIMEOUTS, now);
    client.sock.write_all(&[&[23, 3, 3, 0, 100][..], &[7; 100]].concat()).unwrap();
    until(&mut duplex, &mut scratch, |_, progress| progress == Progress::Cut);
    assert!(duplex.has_alerted());
    let downstream = duplex.into_downstream(&mut scratch);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    client.sock.set_nonblocking(false).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    downstream.reset(&mut scratch);
    assert_eq!(scratch.held, 0);
}
