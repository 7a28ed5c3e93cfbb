//! One endpoint of a relay: a TCP or AF_UNIX stream, bare or under TLS, and what waits to be written to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::ServerConfig;

use super::flow::{CHUNK, Received, SMALL_CHUNK, Scratch, Transport};
use super::tls::Tls;
use crate::reactor::Readiness;
use crate::sys::socket::{Family, Socket};

/// The work of a TLS record, however short, as the number of bytes that cost as much to move.
const RECORD_COST: usize = 1024;

/// How many reads [`Endpoint::discard`] makes in a turn.
const DISCARD_READS: usize = 16;

/// What a short read means: one that brings less than it could have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShortReads {
    /// Nothing before the first EWOULDBLOCK: readiness that the kernel reported before this endpoint existed was missed.
    Untried,
    /// The TCP stream has been emptied, and its next byte is a new edge (epoll(7)).
    Last,
    /// Nothing: a read also stops in front of urgent data, before the end of the stream, and, on an AF_UNIX stream,
    /// where the sender's credentials change.
    Nothing,
}

/// A socket with its readiness and its queue.
#[derive(Debug)]
pub(crate) struct Endpoint {
    socket: Socket,
    tls: Option<Box<Tls>>,
    /// What the socket didn't take, from `written` on. Empty, it has no allocation. Its whole length counts as held until
    /// it is freed, because a peer that leaves a little of it keeps all of it in memory.
    queue: Vec<u8>,
    written: usize,
    readable: bool,
    writable: bool,
    short_reads: ShortReads,
    closing: bool,
    finished: bool,
    /// A fatal TLS alert was written.
    alerted: bool,
}

/// The result of [`Endpoint::discard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discard {
    /// Call it again when the socket is ready.
    Wait,
    /// Call it again in the next turn: there may be more.
    Again,
    /// The peer has ended its stream or is gone, or it has sent as much as may be thrown away.
    Over,
}

impl Endpoint {
    /// An endpoint without TLS. Both directions are tried before the first readiness arrives.
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

    /// An endpoint whose peer has to make a TLS handshake first.
    pub(crate) fn encrypted(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Self { tls: Some(Box::new(Tls::new(config)?)), ..Self::plain(socket) })
    }

    /// Records what the kernel has reported of the socket.
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        if readiness.more_follows {
            self.short_reads = ShortReads::Nothing;
        }
    }

    /// A read has brought `count` bytes into a buffer of `room`.
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

    /// The error that is pending on the socket, if any: for a connect that has just ended.
    pub(crate) fn pending_error(&self) -> io::Result<()> {
        self.socket.pending_error()
    }

    /// Whether data can pass: true from the start without TLS.
    pub(crate) fn is_established(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_established())
    }

    /// Queues data that came before this endpoint existed.
    pub(crate) fn enqueue(&mut self, bytes: Vec<u8>, scratch: &mut Scratch) {
        scratch.held += bytes.len();
        self.queue = bytes;
    }

    /// Cuts the connection with a reset.
    pub(crate) fn reset(self, scratch: &mut Scratch) {
        scratch.held = scratch.held.saturating_sub(self.held());
        self.socket.reset();
    }

    /// How many bytes are held in memory for this endpoint.
    pub(crate) fn held(&self) -> usize {
        self.queue.len() + self.tls.as_ref().map_or(0, |tls| tls.kept())
    }

    /// Whether a fatal TLS alert was written. The peer reads it only if the connection lingers.
    pub(crate) fn has_alerted(&self) -> bool {
        self.alerted
    }

    /// Ends our direction behind what is queued, and throws away what the peer still sends, no more than `left` bytes.
    pub(crate) fn discard(&mut self, scratch: &mut Scratch, left: &mut usize) -> Discard {
        if self.writable && self.queued() > 0 && self.flush(scratch).is_err() {
            return Discard::Over;
        }
        if self.queued() == 0 && !self.finished {
            if self.socket.finish().is_err() {
                return Discard::Over;
            }
            self.finished = true;
        }
        for _ in 0..DISCARD_READS {
            if !self.readable {
                return Discard::Wait;
            }
            let limit = SMALL_CHUNK.min(*left);
            match self.socket.receive(scratch.plain.get_mut(..limit).unwrap_or_default()) {
                // This is the end of the stream, or nothing more may come.
                Ok(0) if self.finished || limit == 0 => return Discard::Over,
                // The peer has ended its stream, and gets what is queued once it takes it.
                Ok(0) => return Discard::Wait,
                Ok(count) => *left -= count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(_) => return Discard::Over,
            }
        }
        Discard::Again
    }

    /// Ends the connection in order, after one more try to write what is queued (an alert, most often).
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

    /// Reads and decrypts. What is kept for the next read counts as held.
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
        let end = (kept + tls.read_size(limit)).min(CHUNK);
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

    /// Decrypts the first `filled` bytes of `scratch.sealed`, but no more records than cost as much as `limit` bytes.
    fn take_records(&mut self, scratch: &mut Scratch, filled: usize, limit: usize) -> io::Result<Received> {
        let Some(tls) = self.tls.as_mut() else { return Err(io::Error::other("no TLS")) };
        let filled = scratch.sealed.get_mut(..filled).unwrap_or_default();
        let max_records = (limit.max(SMALL_CHUNK) / RECORD_COST).max(1);
        let mut messages = Vec::new();
        let taken = tls.decrypt(filled, max_records, &mut scratch.plain, &mut messages);
        if let Ok((used, ..)) = taken {
            tls.keep(filled.get(used..).unwrap_or_default());
        }
        if !messages.is_empty() && !self.closing {
            self.alerted |= taken.is_err();
            self.write_through(&messages, &mut scratch.held)?;
        }
        taken.map(|(used, length, records)| Received::Data { length, work: used + records * RECORD_COST })
    }
}

impl Transport for Endpoint {
    fn can_read(&self) -> bool {
        // A close_notify that was decrypted already is received next, without a read.
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
        let mut messages = Vec::new();
        let count = tls.seal(plain, sealed, &mut messages)?;
        if !messages.is_empty() {
            self.write_through(&messages, held)?;
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
                let mut messages = Vec::new();
                tls.close(&mut messages)?;
                self.write_through(&messages, &mut scratch.held)?;
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

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod fragments;
#[cfg(test)]
pub(crate) mod tests;
