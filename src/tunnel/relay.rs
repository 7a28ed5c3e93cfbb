//! One connection from its acceptance to its end: TLS handshake, way to the server, data, close.
//!
//! A relay does nothing by itself; [`super::Inbound`] wakes it and does what it says.
//!
//! How an end is passed on:
//! - FIN or close_notify in one direction becomes FIN or close_notify in the same direction of the other side;
//! - a reset becomes a reset (from a TLS client's point of view too: no close_notify, so it sees that the
//!   stream was cut);
//! - a TLS client's FIN without close_notify is a truncated stream, which an attacker can make too, and
//!   becomes a reset, unless the server has ended its stream already: then nothing can have been lost that
//!   anybody waits for, and many clients leave like this;
//! - a reset doesn't overtake data: what the side that cut the connection had sent before is delivered first,
//!   for at most [`DRAIN`], as it would arrive first without us in between.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::attempt::Attempt;
use super::end::End;
use super::flow::{self, Endpoint, Failure, Flow, Progress, Received, Scratch};
use super::settings::Counters;
use crate::error::Error;
use crate::reactor::{Lane, Permit, Readiness, TimerId};
use crate::sys::socket::Socket;

/// How many bytes a relay moves in each direction before others get a turn.
const BUDGET: usize = 512 * 1024;

/// How long a reset waits for the data before it to be delivered.
pub(crate) const DRAIN: Duration = Duration::from_secs(1);

/// Who is told whether a server was reached; for connections that the host itself asked for.
pub(crate) type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// The TLS handshake with the client.
    Handshake,
    /// On the way to the server.
    Reaching(Attempt, Step),
    /// Data flows.
    Open,
    /// That side has cut the connection; what it had sent before is being delivered.
    Failed(Lane),
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
    /// Whether it stands in the queue for TLS handshakes.
    pub(crate) queued: bool,
    pub(crate) reply: Option<Reply>,
    pub(crate) front: End,
    pub(crate) back: Option<End>,
    /// Data that arrived together with the end of the handshake.
    early: Vec<u8>,
    up: Flow,
    down: Flow,
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
            queued: false,
            reply: None,
            front,
            back: None,
            early: Vec::new(),
            up: Flow::default(),
            down: Flow::default(),
            _permit: permit,
        }
    }

    /// Takes note of a readiness. A side that fails after its stream has ended has been reset; no read would
    /// tell. Its peer may not have all of that stream yet, so it gets the rest first.
    pub(crate) fn note(&mut self, lane: Lane, readiness: Readiness) -> Outcome {
        let (end, flow) = match lane {
            Lane::Front => (Some(&mut self.front), &self.up),
            Lane::Back => (self.back.as_mut(), &self.down),
        };
        if let Some(end) = end {
            end.note(readiness);
        }
        match self.stage {
            Stage::Reaching(..) if readiness.failed && lane == Lane::Front => return Outcome::Cut,
            Stage::Open if readiness.failed && flow.has_ended() => self.stage = Stage::Failed(lane),
            _ => {}
        }
        Outcome::Wait
    }

    /// Whether one of the two directions has ended.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.up.has_ended() || self.down.has_ended()
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

    /// Goes on with the handshake.
    pub(crate) fn shake(&mut self, scratch: &mut Scratch) -> Outcome {
        if self.front.can_write() && self.front.queued() > 0 && self.front.flush(scratch).is_err() {
            return Outcome::Cut;
        }
        while !self.front.is_established() {
            if !self.front.can_read() {
                return Outcome::Wait;
            }
            match self.front.receive(scratch, 16 * 1024) {
                Ok(Received::Data(length)) => {
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
        let (mut inward, mut outward) = (0, 0);
        let outcome = self.transfer(scratch, &mut inward, &mut outward);
        if inward + outward > 0 {
            counters.bytes_in.fetch_add(inward, Ordering::Relaxed);
            counters.bytes_out.fetch_add(outward, Ordering::Relaxed);
            self.active = now;
        }
        outcome
    }

    fn transfer(&mut self, scratch: &mut Scratch, inward: &mut u64, outward: &mut u64) -> Outcome {
        let Some(back) = self.back.as_mut() else { return Outcome::Wait };
        if let Stage::Failed(side) = self.stage {
            let delivered = match side {
                Lane::Front => flow::drain(&mut self.front, back, scratch, inward),
                Lane::Back => flow::drain(back, &mut self.front, scratch, outward),
            };
            return if let Ok(false) = delivered { Outcome::Drain } else { Outcome::Cut };
        }
        let up = match self.up.run(&mut self.front, back, scratch, BUDGET, inward) {
            // Nothing can be lost any more that the server waits for: see the module's documentation.
            Err(Failure::Truncated) if self.down.is_done() => {
                self.up.end();
                self.up.run(&mut self.front, back, scratch, BUDGET, inward)
            }
            other => other,
        };
        let down = match &up {
            Ok(_) => self.down.run(back, &mut self.front, scratch, BUDGET, outward),
            Err(_) => Ok(Progress::Wait),
        };
        let failed = match (up, down) {
            (Ok(Progress::Done), Ok(Progress::Done)) => return Outcome::Closed,
            (Ok(Progress::Again), Ok(_)) | (Ok(_), Ok(Progress::Again)) => return Outcome::Again,
            (Ok(_), Ok(_)) => return Outcome::Wait,
            (Err(Failure::Reading(_) | Failure::Truncated), _) | (_, Err(Failure::Writing(_))) => Lane::Front,
            (Err(Failure::Writing(_)), _) | (_, Err(Failure::Reading(_) | Failure::Truncated)) => Lane::Back,
        };
        self.stage = Stage::Failed(failed);
        self.transfer(scratch, inward, outward)
    }
}
