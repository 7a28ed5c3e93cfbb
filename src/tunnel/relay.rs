//! One connection from its acceptance to its end: TLS handshake, way to the server, data, close.
//!
//! A relay does nothing by itself; [`super::Inbound`] wakes it and does what it says.
//! How the ends of a connection are passed on is in [`Exchange`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::attempt::Attempt;
use super::settings::Counters;
use crate::error::Error;
use crate::pump::{End, Endpoint, Exchange, Moved, Received, Scratch, Turn};
use crate::reactor::{Lane, Permit, Readiness, TimerId};
use crate::sys::socket::Socket;

/// Who is told whether a server was reached; for connections that the host itself asked for.
pub(crate) type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// How many reads a handshake has in a wake-up. A whole one needs two.
const READS: usize = 4;

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The TLS handshake with the client.
    Handshake,
    /// On the way to the server.
    Reaching(Attempt, Step),
    /// Data flows, or what was sent before one side cut the connection is being delivered.
    Open,
    /// The client was told of a fatal error of TLS and still sends; so many bytes are thrown away at most.
    Lingering(usize),
}

/// What the way to the server waits for.
#[derive(Debug)]
pub(crate) enum Step {
    /// A socket from the stock.
    Socket,
    /// The TCP connection.
    Connect(Socket),
    /// Init's answer to the request of that number.
    Init(u64),
    /// The next repetition.
    Pause,
}

/// What became of a wake-up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing to do until it is woken.
    Wait,
    /// It wants another turn.
    Again,
    /// The handshake is over: find the server.
    Established,
    /// Both directions have ended.
    Closed,
    /// The client can't be talked to in TLS; an alert was written.
    Refused,
    /// A side has cut the connection; the other still has to take what was sent before.
    Drain,
    /// Cut both sides.
    Cut,
}

/// A connection.
pub(crate) struct Relay {
    pub(crate) sandbox: u64,
    pub(crate) port: u16,
    pub(crate) stage: Stage,
    pub(crate) timer: Option<TimerId>,
    /// When something last happened, or when the current stage must be over.
    pub(crate) active: Instant,
    /// When a drain must be over.
    pub(crate) drained_by: Option<Instant>,
    pub(crate) reply: Option<Reply>,
    pub(crate) front: End,
    pub(crate) back: Option<End>,
    /// Data that arrived together with the end of the handshake.
    early: Vec<u8>,
    pub(crate) exchange: Exchange,
    _permit: Permit,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sandbox, port, stage, .. } = self;
        write!(formatter, "Relay({sandbox}:{port}, {stage:?})")
    }
}

impl Relay {
    pub(crate) fn new(sandbox: u64, port: u16, front: End, now: Instant, permit: Permit) -> Self {
        Self {
            sandbox,
            port,
            stage: Stage::Handshake,
            timer: None,
            active: now,
            drained_by: None,
            reply: None,
            front,
            back: None,
            early: Vec::new(),
            exchange: Exchange::default(),
            _permit: permit,
        }
    }

    /// Its sockets, as far as there are any.
    pub(crate) fn ends(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.front.as_fd()), self.back.as_ref().map(AsFd::as_fd)]
    }

    /// Takes note of a readiness.
    pub(crate) fn note(&mut self, lane: Lane, readiness: Readiness) -> Outcome {
        let end = match lane {
            Lane::Front => Some(&mut self.front),
            Lane::Back => self.back.as_mut(),
        };
        if let Some(end) = end {
            end.note(readiness);
        }
        match self.stage {
            Stage::Reaching(..) if readiness.failed && lane == Lane::Front => return Outcome::Cut,
            Stage::Open => self.exchange.note(lane, readiness),
            _ => {}
        }
        Outcome::Wait
    }

    /// The server was reached.
    pub(crate) fn open(&mut self, mut back: End, scratch: &mut Scratch, counters: &Counters) {
        let early = std::mem::take(&mut self.early);
        if !early.is_empty() {
            counters.bytes_in.fetch_add(early.len() as u64, Ordering::Relaxed);
            back.enqueue(early, scratch);
        }
        self.back = Some(back);
        self.stage = Stage::Open;
    }

    /// Goes on with the handshake, for a few reads.
    pub(crate) fn shake(&mut self, scratch: &mut Scratch) -> Outcome {
        if self.front.can_write() && self.front.queued() > 0 && self.front.flush(scratch).is_err() {
            return Outcome::Cut;
        }
        let mut reads = 0;
        while !self.front.is_established() {
            if reads == READS {
                return Outcome::Again;
            }
            reads += 1;
            if !self.front.can_read() {
                return Outcome::Wait;
            }
            match self.front.receive(scratch, 16 * 1024) {
                Ok(Received::Data { length, .. }) => {
                    self.early.extend_from_slice(scratch.plain.get(..length).unwrap_or_default());
                }
                Ok(Received::Blocked) => return Outcome::Wait,
                Ok(Received::End | Received::Truncated) => return Outcome::Refused,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Outcome::Refused,
                Err(_) => return Outcome::Cut,
            }
        }
        Outcome::Established
    }

    /// Moves data.
    pub(crate) fn work(&mut self, now: Instant, scratch: &mut Scratch, counters: &Counters) -> Outcome {
        let Some(back) = self.back.as_mut() else { return Outcome::Wait };
        let mut moved = Moved::default();
        let turn = self.exchange.run(&mut self.front, back, scratch, &mut moved);
        if moved.up + moved.down > 0 {
            counters.bytes_in.fetch_add(moved.up, Ordering::Relaxed);
            counters.bytes_out.fetch_add(moved.down, Ordering::Relaxed);
            counters.note_activity(now);
            self.active = now;
        }
        match turn {
            Turn::Wait => Outcome::Wait,
            Turn::Again => Outcome::Again,
            Turn::Closed => Outcome::Closed,
            Turn::Drain => Outcome::Drain,
            Turn::Cut => Outcome::Cut,
        }
    }
}
