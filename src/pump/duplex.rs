//! A relay between two endpoints: moves data both ways, and decides when and how both connections end.
//!
//! - FIN or close_notify in one direction becomes FIN or close_notify in the same direction of the other side.
//! - A reset becomes a reset. A TLS client gets no close_notify then, so it sees that the stream was cut.
//! - A TLS client's FIN without close_notify is a truncated stream, which an attacker can make too. It becomes a reset,
//!   unless the server has ended its stream already: then no data can have been lost that the server waits for, and many
//!   clients leave like this.
//! - A reset doesn't overtake data: what the side that cut the connection had sent before is delivered first, for at most
//!   [`DRAIN_TIMEOUT`], as it would arrive first without a relay in between.
//!
//! A `Duplex` has no reactor and no clock. Its owner passes on what the kernel says ([`Duplex::note`]), lets it move data
//! ([`Duplex::advance`]), and calls [`Duplex::on_deadline`] at [`Duplex::deadline`].

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::flow::{self, Drained, Failure, Flow, FlowProgress, Scratch};
use crate::reactor::{FdSlot, Readiness};

/// How many bytes are moved in each direction before others get a turn.
pub(crate) const BUDGET: usize = 512 * 1024;

/// How long a reset waits for the data before it to be delivered.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a reset that waits for the data before it checks whether that was delivered.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);

/// One of the two sides of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The connection that was accepted: a tunnel's client, or the sandbox.
    Downstream,
    /// The connection that was made for it: to a tunnel's server, or to the remote end.
    Upstream,
}

impl Side {
    /// The slot of the reactor that this side's socket is registered for.
    pub(crate) fn slot(self) -> FdSlot {
        match self {
            Self::Downstream => FdSlot::First,
            Self::Upstream => FdSlot::Second,
        }
    }
}

impl From<FdSlot> for Side {
    fn from(slot: FdSlot) -> Self {
        match slot {
            FdSlot::First => Self::Downstream,
            FdSlot::Second => Self::Upstream,
        }
    }
}

/// How long a relay may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleTimeouts {
    /// While both directions are open; `None` sets no limit.
    pub(crate) idle: Option<Duration>,
    /// Once one direction has ended.
    pub(crate) half_closed: Duration,
}

/// What a relay needs after [`Duplex::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing until an endpoint is ready or the deadline has come.
    Wait,
    /// Another turn: there is more to move.
    Again,
    /// Both directions have ended: [`Duplex::close`].
    Closed,
    /// A side has cut the connection: [`Duplex::reset`].
    Cut,
}

/// The bytes that [`Duplex::advance`] has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BytesMoved {
    /// From downstream to upstream.
    pub(crate) up: u64,
    /// From upstream to downstream.
    pub(crate) down: u64,
}

impl BytesMoved {
    /// Both directions together.
    pub(crate) fn total(self) -> u64 {
        self.up + self.down
    }
}

/// What [`Duplex::on_deadline`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    /// A reset waits for the data before it: call [`Duplex::advance`].
    Drain,
    /// Data has moved since the deadline was set, and there is another one now.
    NotYet,
    /// The relay was silent for too long: [`Duplex::reset`].
    Idle,
}

/// Two endpoints and the state of both directions between them.
#[derive(Debug)]
pub(crate) struct Duplex {
    downstream: Endpoint,
    upstream: Endpoint,
    /// From downstream to upstream.
    up: Flow,
    /// From upstream to downstream.
    down: Flow,
    timeouts: IdleTimeouts,
    /// When a byte was last moved.
    active: Instant,
    /// Kept when data moves, and put off only once it has come: a timer that is set again for each read costs too much.
    deadline: Option<Instant>,
    /// The side that has cut the connection; what it had sent before is being delivered.
    failed: Option<Side>,
    /// When the delivery is given up.
    drain_until: Option<Instant>,
    upstream_ended_first: bool,
}

impl Duplex {
    /// Relays between two connections that are both established.
    pub(crate) fn new(
        downstream: Endpoint,
        upstream: Endpoint,
        timeouts: IdleTimeouts,
        now: Instant,
    ) -> Self {
        Self {
            downstream,
            upstream,
            up: Flow::default(),
            down: Flow::default(),
            timeouts,
            active: now,
            deadline: timeouts.idle.map(|idle| now + idle),
            failed: None,
            drain_until: None,
            upstream_ended_first: false,
        }
    }

    /// Records what the kernel has reported of a side's socket.
    ///
    /// An error after the end of a side's stream is a reset that no read would return. The peer may not have all of that
    /// stream yet, so it gets the rest first.
    pub(crate) fn note(&mut self, side: Side, readiness: Readiness) {
        let (endpoint, flow) = match side {
            Side::Downstream => (&mut self.downstream, &self.up),
            Side::Upstream => (&mut self.upstream, &self.down),
        };
        endpoint.note(readiness);
        if readiness.failed && flow.has_ended() {
            self.failed.get_or_insert(side);
        }
    }

    /// Moves data, for no more work in each direction than `budget` bytes cost.
    pub(crate) fn advance(
        &mut self,
        now: Instant,
        budget: usize,
        scratch: &mut Scratch,
    ) -> (Progress, BytesMoved) {
        let mut moved = BytesMoved::default();
        let progress = match self.relay(budget, scratch, &mut moved) {
            Ok(progress) => {
                self.upstream_ended_first |= self.down.has_ended() && !self.up.has_ended();
                self.shorten_deadline(now, progress);
                progress
            }
            Err(side) => {
                self.failed = Some(side);
                self.drain(side, now, budget, scratch, &mut moved)
            }
        };
        if moved.total() > 0 {
            self.active = now;
        }
        (progress, moved)
    }

    /// Moves data both ways. Fails with the side that has cut the connection.
    fn relay(
        &mut self,
        budget: usize,
        scratch: &mut Scratch,
        moved: &mut BytesMoved,
    ) -> Result<Progress, Side> {
        if let Some(side) = self.failed {
            return Err(side);
        }
        let Self { downstream, upstream, up, down, .. } = self;
        let (mut up_left, mut down_left) = (budget, budget);
        let upward = match up.run(downstream, upstream, scratch, &mut up_left, &mut moved.up) {
            // The server waits for no more data: see the module's documentation.
            Err(Failure::Truncated) if down.is_done() => {
                up.end();
                up.run(downstream, upstream, scratch, &mut up_left, &mut moved.up)
            }
            other => other,
        };
        let downward = match &upward {
            Ok(_) => down.run(upstream, downstream, scratch, &mut down_left, &mut moved.down),
            Err(_) => Ok(FlowProgress::Wait),
        };
        match (upward, downward) {
            (Ok(FlowProgress::Done), Ok(FlowProgress::Done)) => Ok(Progress::Closed),
            (Ok(FlowProgress::Again), Ok(_)) | (Ok(_), Ok(FlowProgress::Again)) => Ok(Progress::Again),
            (Ok(_), Ok(_)) => Ok(Progress::Wait),
            (Err(Failure::Reading(_) | Failure::Truncated), _) | (_, Err(Failure::Writing(_))) => {
                Err(Side::Downstream)
            }
            (Err(Failure::Writing(_)), _) | (_, Err(Failure::Reading(_) | Failure::Truncated)) => {
                Err(Side::Upstream)
            }
        }
    }

    /// Delivers what the side that has failed had sent before.
    fn drain(
        &mut self,
        failed: Side,
        now: Instant,
        budget: usize,
        scratch: &mut Scratch,
        moved: &mut BytesMoved,
    ) -> Progress {
        let Self { downstream, upstream, .. } = self;
        let mut left = budget;
        let drained = match failed {
            Side::Downstream => flow::drain(downstream, upstream, scratch, &mut left, &mut moved.up),
            Side::Upstream => flow::drain(upstream, downstream, scratch, &mut left, &mut moved.down),
        };
        let progress = match drained {
            Ok(Drained::Whole) | Err(_) => return Progress::Cut,
            Ok(Drained::Wait) => Progress::Wait,
            Ok(Drained::Again) => Progress::Again,
        };
        if now >= *self.drain_until.get_or_insert(now + DRAIN_TIMEOUT) {
            return Progress::Cut;
        }
        self.deadline = Some(now + DRAIN_INTERVAL);
        progress
    }

    /// The shorter time-out begins when the first direction has ended.
    fn shorten_deadline(&mut self, now: Instant, progress: Progress) {
        let at = now + self.timeouts.half_closed;
        if progress == Progress::Wait && self.is_half_closed() && self.deadline.is_none_or(|old| old > at) {
            self.deadline = Some(at);
        }
    }

    /// When [`Duplex::on_deadline`] is to be called, unless this changes before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Decides what happens at the deadline.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Expired {
        if self.failed.is_some() {
            return Expired::Drain;
        }
        let limit = if self.is_half_closed() { Some(self.timeouts.half_closed) } else { self.timeouts.idle };
        self.deadline = limit.map(|limit| self.active + limit);
        if self.deadline.is_some_and(|at| at <= now) { Expired::Idle } else { Expired::NotYet }
    }

    fn is_half_closed(&self) -> bool {
        self.up.has_ended() || self.down.has_ended()
    }

    /// Whether upstream ended its stream before downstream did.
    pub(crate) fn upstream_ended_first(&self) -> bool {
        self.upstream_ended_first
    }

    /// Whether the peer downstream was sent a fatal TLS alert. It reads that only if the connection lingers.
    pub(crate) fn has_alerted(&self) -> bool {
        self.downstream.has_alerted()
    }

    /// When a byte was last moved.
    pub(crate) fn active(&self) -> Instant {
        self.active
    }

    /// Both sockets, downstream's first.
    pub(crate) fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.downstream.as_fd()), Some(self.upstream.as_fd())]
    }

    /// Ends both connections in order.
    pub(crate) fn close(self, scratch: &mut Scratch) {
        self.downstream.close(scratch);
        self.upstream.close(scratch);
    }

    /// Resets both connections.
    pub(crate) fn reset(self, scratch: &mut Scratch) {
        self.downstream.reset(scratch);
        self.upstream.reset(scratch);
    }

    /// Resets the connection upstream, and returns the other one.
    pub(crate) fn into_downstream(self, scratch: &mut Scratch) -> Endpoint {
        self.upstream.reset(scratch);
        self.downstream
    }
}

#[cfg(test)]
mod tests;
