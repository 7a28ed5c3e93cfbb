//! One end of a relay: a TCP or AF_UNIX stream, bare or under TLS, and what waits to be written to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::ServerConfig;

use super::flow::{CHUNK, Endpoint, Received, SMALL_CHUNK, Scratch};
use super::tls::Tls;
use crate::reactor::Readiness;
use crate::sys::socket::{Family, Socket};

/// What a record of TLS costs, however little is in it: as much as moving so many bytes.
const RECORD: usize = 1024;

/// How many reads an end that lingers has in a turn.
const LINGER_READS: usize = 16;

/// What a read means that brings less than it could have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShortReads {
    /// Nothing, until EWOULDBLOCK was seen once: what the kernel said before this end was there, nobody has noted.
    Untried,
    /// That a TCP stream has been emptied: its next byte is a new edge (epoll(7)).
    Last,
    /// Nothing: a read also stops in front of urgent data, the end of the stream is no byte, and of an AF_UNIX stream
    /// it stops where the sender's credentials change.
    Nothing,
}

/// A socket with its readiness and its queue.
#[derive(Debug)]
pub(crate) struct End {
    socket: Socket,
    tls: Option<Box<Tls>>,
    /// What the socket didn't take, from `written` on; without any memory when there is nothing. All of it counts as held
    /// until it is freed: a peer that takes it bit by bit and leaves a little has all of it kept.
    queue: Vec<u8>,
    written: usize,
    readable: bool,
    writable: bool,
    /// Whether a read that brings less than it could have taken was the last one for now.
    short_reads: ShortReads,
    closing: bool,
    finished: bool,
    /// The peer was told of a fatal error of TLS.
    alerted: bool,
}

/// What becomes of an end that lingers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lingering {
    /// It goes on when the socket is ready.
    Wait,
    /// It has had its turn and there may be more.
    Again,
    /// The peer has ended its stream or is gone, or it has sent as much as may be thrown away.
    Over,
}

impl End {
    /// A bare end. Both directions are tried before the first readiness arrives.
    pub(crate) fn plain(socket: Socket) -> Self {
        let short_reads = match socket.family() {
            Family::Tcp => ShortReads::Untried,
            Family::Unix => ShortReads::Nothing,
        };
        Self {
            socket,
            tls: None,
            queue: Vec::new(),
            written: 0,
            readable: true,
            writable: true,
            short_reads,
            closing: false,
            finished: false,
            alerted: false,
        }
    }

    /// An end whose peer has to make a TLS handshake first.
    pub(crate) fn encrypted(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Self { tls: Some(Box::new(Tls::new(config)?)), ..Self::plain(socket) })
    }

    /// Takes note of what the kernel said.
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        if readiness.more_follows {
            self.short_reads = ShortReads::Nothing;
        }
    }

    /// A read has brought `count` of the `room` bytes that it could have.
    fn note_read(&mut self, count: usize, room: usize) {
        if count < room && self.short_reads == ShortReads::Last {
            self.readable = false;
        }
    }

    /// A read has found nothing.
    fn note_empty(&mut self) {
        self.readable = false;
        if self.short_reads == ShortReads::Untried {
            self.short_reads = ShortReads::Last;
        }
    }

    /// The error that waits on the socket, if one does: for a connect that has just ended.
    pub(crate) fn pending_error(&self) -> io::Result<()> {
        self.socket.pending_error()
    }

    /// Whether data can pass: true from the start without TLS.
    pub(crate) fn is_established(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_established())
    }

    /// Queues data that came before the other end existed.
    pub(crate) fn enqueue(&mut self, bytes: Vec<u8>, scratch: &mut Scratch) {
        scratch.held += bytes.len();
        self.queue = bytes;
    }

    /// Cuts the connection with a reset.
    pub(crate) fn reset(self, scratch: &mut Scratch) {
        scratch.held = scratch.held.saturating_sub(self.held());
        self.socket.reset();
    }

    /// What is held for this end.
    fn held(&self) -> usize {
        self.queue.len() + self.tls.as_ref().map_or(0, |tls| tls.kept())
    }

    /// Whether the peer was told of a fatal error of TLS. It gets to know only if the connection lingers.
    pub(crate) fn has_alerted(&self) -> bool {
        self.alerted
    }

    /// Ends our direction behind what is queued, and throws away what the peer still sends, no more than `left` bytes:
    /// a socket that is closed with unread data is reset, and a reset overtakes what was written last.
    pub(crate) fn linger(&mut self, scratch: &mut Scratch, left: &mut usize) -> Lingering {
        if self.writable && self.queued() > 0 && self.flush(scratch).is_err() {
            return Lingering::Over;
        }
        if self.queued() == 0 && !self.finished {
            if self.socket.finish().is_err() {
                return Lingering::Over;
            }
            self.finished = true;
        }
        for _ in 0..LINGER_READS {
            if !self.readable {
                return Lingering::Wait;
            }
            let limit = SMALL_CHUNK.min(*left);
            match self.socket.receive(scratch.plain.get_mut(..limit).unwrap_or_default()) {
                // This is the end of the stream, or nothing more may come.
                Ok(0) if self.finished || limit == 0 => return Lingering::Over,
                // It is still to be told, as soon as it takes something.
                Ok(0) => return Lingering::Wait,
                Ok(count) => *left -= count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(_) => return Lingering::Over,
            }
        }
        Lingering::Again
    }

    /// Ends the connection in order, after what is queued was tried once more (an alert, most often).
    pub(crate) fn close(mut self, scratch: &mut Scratch) {
        let _ = self.flush(scratch);
        if !self.finished {
            let _ = self.socket.finish();
        }
        scratch.held = scratch.held.saturating_sub(self.held());
    }

    fn write_through(&mut self, bytes: &[u8], held: &mut usize) -> io::Result<()> {
        let mut rest = bytes;
        while self.queue.is_empty() && self.writable && !rest.is_empty() {
            match self.socket.send(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        if !rest.is_empty() {
            *held += rest.len();
            self.queue.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Reads and decrypts; what is kept of it counts as held.
    fn receive_sealed(&mut self, scratch: &mut Scratch, limit: usize) -> io::Result<Received> {
        scratch.held = scratch.held.saturating_sub(self.tls.as_ref().map_or(0, |tls| tls.kept()));
        let received = self.receive_records(scratch, limit);
        scratch.held += self.tls.as_ref().map_or(0, |tls| tls.kept());
        received
    }

    fn receive_records(&mut self, scratch: &mut Scratch, limit: usize) -> io::Result<Received> {
        let Some(tls) = self.tls.as_mut() else { return Err(io::Error::other("no TLS")) };
        if tls.peer_has_closed() {
            return Ok(Received::End);
        }
        let backlog = tls.has_backlog();
        let kept = tls.restore(&mut scratch.sealed)?;
        if backlog {
            return self.take_records(scratch, kept, limit);
        }
        // A record that is longer than the small chunk still has to find room.
        let end = (kept + tls.ask(limit)).min(CHUNK);
        let room = scratch.sealed.get_mut(kept..end).unwrap_or_default();
        if room.is_empty() {
            tls.keep(scratch.sealed.get(..kept).unwrap_or_default());
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too long"));
        }
        let count = match self.socket.receive(room) {
            Ok(count) => count,
            Err(error) => {
                tls.keep(scratch.sealed.get(..kept).unwrap_or_default());
                if error.kind() == io::ErrorKind::WouldBlock {
                    self.note_empty();
                    return Ok(Received::Blocked);
                }
                return Err(error);
            }
        };
        if count == 0 {
            tls.keep(scratch.sealed.get(..kept).unwrap_or_default());
            return Ok(Received::Truncated);
        }
        self.note_read(count, end - kept);
        self.take_records(scratch, kept + count, limit)
    }

    /// Takes in the first `filled` bytes of `scratch.sealed`, but no more records than cost as much as `limit` bytes.
    fn take_records(&mut self, scratch: &mut Scratch, filled: usize, limit: usize) -> io::Result<Received> {
        let Some(tls) = self.tls.as_mut() else { return Err(io::Error::other("no TLS")) };
        let filled = scratch.sealed.get_mut(..filled).unwrap_or_default();
        let most = (limit.max(SMALL_CHUNK) / RECORD).max(1);
        let mut talk = Vec::new();
        let taken = tls.take_some(filled, most, &mut scratch.plain, &mut talk);
        if let Ok((used, ..)) = taken {
            tls.keep(filled.get(used..).unwrap_or_default());
        }
        if !talk.is_empty() && !self.closing {
            self.alerted |= taken.is_err();
            self.write_through(&talk, &mut scratch.held)?;
        }
        taken.map(|(used, length, records)| Received::Data { length, work: used + records * RECORD })
    }
}

impl Endpoint for End {
    fn can_read(&self) -> bool {
        // The end of the stream may have been in what was taken in, and is the next to be received.
        self.readable || self.tls.as_ref().is_some_and(|tls| tls.has_backlog() || tls.peer_has_closed())
    }

    fn can_write(&self) -> bool {
        self.writable
    }

    fn receive(&mut self, scratch: &mut Scratch, limit: usize) -> io::Result<Received> {
        if self.tls.is_some() {
            return self.receive_sealed(scratch, limit);
        }
        let room = scratch.plain.get_mut(..limit).unwrap_or_default();
        match self.socket.receive(room) {
            Ok(0) => Ok(Received::End),
            Ok(count) => {
                self.note_read(count, limit);
                Ok(Received::Data { length: count, work: count })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.note_empty();
                Ok(Received::Blocked)
            }
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, scratch: &mut Scratch, length: usize) -> io::Result<()> {
        let Scratch { plain, sealed, held } = scratch;
        let plain = plain.get(..length).unwrap_or_default();
        let Some(tls) = self.tls.as_mut() else { return self.write_through(plain, held) };
        let mut talk = Vec::new();
        let count = tls.seal(plain, sealed, &mut talk)?;
        if !talk.is_empty() {
            self.write_through(&talk, held)?;
        }
        self.write_through(sealed.get(..count).unwrap_or_default(), held)
    }

    fn flush(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        while self.written < self.queue.len() {
            match self.socket.send(self.queue.get(self.written..).unwrap_or_default()) {
                Ok(count) => {
                    self.written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        scratch.held = scratch.held.saturating_sub(self.queue.len());
        self.queue = Vec::new();
        self.written = 0;
        Ok(())
    }

    fn queued(&self) -> usize {
        self.queue.len() - self.written
    }

    fn is_delivered(&self) -> bool {
        self.socket.unsent() == 0
    }

    fn finish(&mut self, scratch: &mut Scratch) -> io::Result<bool> {
        if !self.closing {
            self.closing = true;
            if let Some(tls) = self.tls.as_mut() {
                let mut talk = Vec::new();
                tls.close(&mut talk)?;
                self.write_through(&talk, &mut scratch.held)?;
            }
        }
        self.flush(scratch)?;
        if self.queued() == 0 && !self.finished {
            self.socket.finish()?;
            self.finished = true;
        }
        Ok(self.finished)
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod fragments;

#[cfg(test)]
mod tests {
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
        let (mut end, mut scratch) = (End::plain(Socket::new(writer.into(), Family::Tcp)), Scratch::new());
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
    pub(super) fn configs() -> (Arc<ServerConfig>, ClientConfig) {
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
    pub(super) fn encrypted() -> (StreamOwned<ClientConnection, TcpStream>, End, Scratch) {
        let (config, mut client) = configs();
        client.enable_secret_extraction = true;
        let client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client =
            StreamOwned::new(client, TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let socket = listener.accept().unwrap().0;
        socket.set_nonblocking(true).unwrap();
        client.sock.set_nonblocking(true).unwrap();
        let mut end = End::encrypted(Socket::new(socket.into(), Family::Tcp), config).unwrap();
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
        let mut back = End::plain(Socket::adopt(ours.into(), Family::Unix).unwrap());
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
        let mut back = End::plain(Socket::adopt(ours.into(), Family::Unix).unwrap());
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
}
