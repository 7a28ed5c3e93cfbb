//! One direction of a relay: what is read from one transport is written to the other, the end of the stream is passed
//! on, and nothing more is read while the receiver is slow.
//!
//! It is written against a trait, so that a test can drive it through many odd interleavings.

use std::io;

/// How much one read takes at most, and so the most that one endpoint holds for a reader that has stopped.
pub(crate) const CHUNK: usize = 256 * 1024;

/// The same while the relays together hold more than [`PRESSURE`] bytes.
pub(super) const SMALL_CHUNK: usize = 16 * 1024;

/// The bytes that all relays together may hold before each new read is kept small.
const PRESSURE: usize = 32 * 1024 * 1024;

/// Room for records: 16 KiB of data become at most 16 KiB and 256 bytes of TLS.
const SEALED: usize = CHUNK + (CHUNK / 16384 + 2) * 256;

/// The buffers that all relays of an engine share. An idle connection has none.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Data on its way.
    pub(crate) plain: Vec<u8>,
    /// TLS records on their way.
    pub(crate) sealed: Vec<u8>,
    /// The bytes that wait in the queues of all endpoints together.
    pub(crate) held: usize,
}

impl Scratch {
    /// Buffers of full size; the kernel gives the memory when they are first used.
    pub(crate) fn new() -> Self {
        Self { plain: vec![0; CHUNK], sealed: vec![0; SEALED], held: 0 }
    }

    /// How much to read now.
    fn limit(&self) -> usize {
        if self.held > PRESSURE { SMALL_CHUNK } else { CHUNK }
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Data, or messages of TLS itself.
    Data {
        /// How many bytes of data, at the front of [`Scratch::plain`]; 0 if there were only messages of TLS itself.
        length: usize,
        /// The work of the read, as the number of bytes that cost as much to move. TLS records count, full or empty.
        work: usize,
    },
    /// The peer has ended its stream.
    End,
    /// The stream broke off: the end of a TLS stream without close_notify.
    Truncated,
    /// Nothing for now.
    Blocked,
}

/// What a relay reads from and writes to.
pub(crate) trait Transport {
    /// Whether a read may bring something.
    fn can_read(&self) -> bool;
    /// Whether a write may take something.
    fn can_write(&self) -> bool;
    /// Reads about `limit` bytes at most into `scratch.plain`; of TLS, no more records than cost as much.
    fn receive(&mut self, scratch: &mut Scratch, limit: usize) -> io::Result<Received>;
    /// Writes the first `length` bytes of `scratch.plain`; what the socket doesn't take is queued.
    fn send(&mut self, scratch: &mut Scratch, length: usize) -> io::Result<()>;
    /// Writes as much of the queue as the socket takes.
    fn flush(&mut self, scratch: &mut Scratch) -> io::Result<()>;
    /// How many bytes are queued.
    fn queued(&self) -> usize;
    /// Whether the peer's kernel has acknowledged everything that was written.
    fn is_delivered(&self) -> bool;
    /// Ends the outgoing stream once the queue is written; true when that has happened.
    fn finish(&mut self, scratch: &mut Scratch) -> io::Result<bool>;
}

/// Why a direction stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowProgress {
    /// Readiness of one of the two wakes the relay.
    Wait,
    /// The budget is spent and there may be more.
    Again,
    /// The end of the stream was passed on.
    Done,
}

/// Why a direction failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Reading failed: the peer has cut the connection.
    Reading(#[allow(dead_code, reason = "shown by Debug")] io::Error),
    /// The stream broke off without TLS's close_notify.
    Truncated,
    /// Writing failed: the receiver has cut the connection.
    Writing(#[allow(dead_code, reason = "shown by Debug")] io::Error),
}

/// The state of one direction.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    ended: bool,
    done: bool,
}

impl Flow {
    /// Whether the source has ended its stream.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the end of the stream was passed on.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Treats the source's stream as ended in order.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Moves data until one of the two isn't ready, the stream has ended, or `left` is used up, from which the work is
    /// subtracted. `moved` counts bytes.
    pub(crate) fn run(
        &mut self,
        from: &mut impl Transport,
        to: &mut impl Transport,
        scratch: &mut Scratch,
        left: &mut usize,
        moved: &mut u64,
    ) -> Result<FlowProgress, Failure> {
        if self.done {
            return Ok(FlowProgress::Done);
        }
        loop {
            if !to.can_write() && (to.queued() > 0 || self.ended) {
                return Ok(FlowProgress::Wait);
            }
            if self.ended {
                self.done = to.finish(scratch).map_err(Failure::Writing)?;
                return Ok(if self.done { FlowProgress::Done } else { FlowProgress::Wait });
            }
            if to.queued() > 0 {
                to.flush(scratch).map_err(Failure::Writing)?;
                if to.queued() > 0 {
                    return Ok(FlowProgress::Wait);
                }
            }
            if !from.can_read() {
                return Ok(FlowProgress::Wait);
            }
            if *left == 0 {
                return Ok(FlowProgress::Again);
            }
            let limit = scratch.limit().min(*left);
            match from.receive(scratch, limit).map_err(Failure::Reading)? {
                Received::Data { length, work } => {
                    *left = left.saturating_sub(work.max(SMALL_CHUNK));
                    if length > 0 {
                        *moved += length as u64;
                        to.send(scratch, length).map_err(Failure::Writing)?;
                    }
                }
                Received::End => self.ended = true,
                Received::Truncated => return Err(Failure::Truncated),
                Received::Blocked => return Ok(FlowProgress::Wait),
            }
        }
    }
}

/// The result of [`drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The receiver has everything.
    Whole,
    /// The receiver still has to take some of it.
    Wait,
    /// The budget is spent and there may be more.
    Again,
}

/// Delivers what `from` had sent before it failed, until `left` is used up. Once the receiver has all of it, a reset can
/// follow the data as it would have without a relay in between.
pub(crate) fn drain(
    from: &mut impl Transport,
    to: &mut impl Transport,
    scratch: &mut Scratch,
    left: &mut usize,
    moved: &mut u64,
) -> io::Result<Drained> {
    loop {
        if to.queued() > 0 {
            if to.can_write() {
                to.flush(scratch)?;
            }
            if to.queued() > 0 {
                return Ok(Drained::Wait);
            }
        }
        if !from.can_read() {
            break;
        }
        // A peer that fails in one direction may go on sending in the other without an end.
        if *left == 0 {
            return Ok(Drained::Again);
        }
        let limit = scratch.limit().min(*left);
        match from.receive(scratch, limit) {
            Ok(Received::Data { length, work }) => {
                *left = left.saturating_sub(work.max(SMALL_CHUNK));
                if length > 0 {
                    *moved += length as u64;
                    to.send(scratch, length)?;
                }
            }
            // It has failed already, and any other failure changes nothing.
            Ok(Received::End | Received::Truncated | Received::Blocked) | Err(_) => break,
        }
    }
    Ok(if to.is_delivered() { Drained::Whole } else { Drained::Wait })
}

#[cfg(test)]
mod tests;
