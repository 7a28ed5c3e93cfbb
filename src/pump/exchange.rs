//! Both directions between two ends, and how the end of one side is passed on to the other:
//!
//! - FIN or close_notify in one direction becomes FIN or close_notify in the same direction of the other side;
//! - a reset becomes a reset (from a TLS client's point of view too: no close_notify, so it sees that the
//!   stream was cut);
//! - a TLS client's FIN without close_notify is a truncated stream, which an attacker can make too, and
//!   becomes a reset, unless the server has ended its stream already: then nothing can have been lost that
//!   anybody waits for, and many clients leave like this;
//! - a reset doesn't overtake data: what the side that cut the connection had sent before is delivered first,
//!   for at most [`DRAIN`], as it would arrive first without us in between.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::flow::{self, Drained, Failure, Flow, FlowProgress, Scratch};
use crate::reactor::{Lane, Readiness};

/// How long a reset waits for the data before it to be delivered.
pub(crate) const DRAIN: Duration = Duration::from_secs(1);

/// How often a reset that waits for the data before it looks whether that was delivered.
pub(crate) const DRAIN_STEP: Duration = Duration::from_millis(10);

/// What became of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing to do until an end is ready.
    Wait,
    /// There is more to move.
    Again,
    /// Both directions have ended.
    Closed,
    /// A side has cut the connection; the other still has to take what was sent before.
    Drain,
    /// Cut both sides.
    Cut,
}

/// The bytes that a turn has moved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    /// From the front to the back.
    pub(crate) up: u64,
    /// From the back to the front.
    pub(crate) down: u64,
}

/// The state of both directions.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    up: Flow,
    down: Flow,
    /// The side that has cut the connection; what it had sent before is being delivered.
    failed: Option<Lane>,
    /// The last turn of a drain has spent its budget.
    more: bool,
}

impl Exchange {
    /// The kernel has reported that a side has failed. If that comes after the end of its stream it was reset,
    /// and no read would tell. Its peer may not have all of that stream yet, so it gets the rest first.
    pub(crate) fn note(&mut self, lane: Lane, readiness: Readiness) {
        let flow = match lane {
            Lane::Front => &self.up,
            Lane::Back => &self.down,
        };
        if readiness.failed && flow.has_ended() {
            self.failed.get_or_insert(lane);
        }
    }

    /// Whether one of the two directions has ended.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.up.has_ended() || self.down.has_ended()
    }

    /// Whether what comes from a side has ended.
    pub(crate) fn has_ended(&self, side: Lane) -> bool {
        match side {
            Lane::Front => self.up.has_ended(),
            Lane::Back => self.down.has_ended(),
        }
    }

    /// Whether a side has cut the connection.
    pub(crate) fn is_failing(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether the drain that [`Turn::Drain`] told of can go on in the next turn, without waiting for an end.
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    /// Moves data, but does no more work than so many bytes cost in each direction.
    pub(crate) fn run_at_most(
        &mut self,
        front: &mut Endpoint,
        back: &mut Endpoint,
        scratch: &mut Scratch,
        budget: usize,
        moved: &mut Moved,
    ) -> Turn {
        if let Some(side) = self.failed {
            let mut left = budget;
            let drained = match side {
                Lane::Front => flow::drain(front, back, scratch, &mut left, &mut moved.up),
                Lane::Back => flow::drain(back, front, scratch, &mut left, &mut moved.down),
            };
            self.more = matches!(drained, Ok(Drained::Again));
            return if matches!(drained, Ok(Drained::Whole) | Err(_)) { Turn::Cut } else { Turn::Drain };
        }
        let (mut up_left, mut down_left) = (budget, budget);
        let up = match self.up.run(front, back, scratch, &mut up_left, &mut moved.up) {
            // Nothing can be lost any more that the server waits for: see the module's documentation.
            Err(Failure::Truncated) if self.down.is_done() => {
                self.up.end();
                self.up.run(front, back, scratch, &mut up_left, &mut moved.up)
            }
            other => other,
        };
        let down = match &up {
            Ok(_) => self.down.run(back, front, scratch, &mut down_left, &mut moved.down),
            Err(_) => Ok(FlowProgress::Wait),
        };
        let failed = match (up, down) {
            (Ok(FlowProgress::Done), Ok(FlowProgress::Done)) => return Turn::Closed,
            (Ok(FlowProgress::Again), Ok(_)) | (Ok(_), Ok(FlowProgress::Again)) => return Turn::Again,
            (Ok(_), Ok(_)) => return Turn::Wait,
            (Err(Failure::Reading(_) | Failure::Truncated), _) | (_, Err(Failure::Writing(_))) => Lane::Front,
            (Err(Failure::Writing(_)), _) | (_, Err(Failure::Reading(_) | Failure::Truncated)) => Lane::Back,
        };
        self.failed = Some(failed);
        self.run_at_most(front, back, scratch, budget, moved)
    }
}
