//! The end of a sandbox that nobody uses.
//!
//! What counts as use: a program of the host's that runs or is being started, an operation on files (but not a
//! watch), a byte through a tunnel or a connection, something written to the standard input. The timer is set for the
//! earliest moment at which it could be idle for long enough, and looks then at what has happened since.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::life::{Bench, Cause, Life, register};
use crate::reactor::{Key, Lane, TimerId};

/// The sandbox's end of its program's standard input, watched for what the host writes to it. (The kernel wakes
/// every watcher of the open file when something arrives, also if gVisor is quicker to read it.)
#[derive(Debug)]
pub(crate) struct Input {
    /// The sandbox's number.
    pub(crate) sandbox: u64,
    fd: OwnedFd,
}

/// What is known of the use of a sandbox.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// The last use that isn't the engine's to count.
    active: Option<Instant>,
    timer: Option<TimerId>,
    input: Option<Key>,
}

impl Life {
    /// It is used now.
    pub(crate) fn note_activity(&mut self, bench: &mut Bench<'_>) {
        self.idle.active = Some(bench.reactor.now());
        if self.idle.timer.is_none() {
            self.mind_idleness(bench);
        }
    }

    /// Ends it if it was idle for too long, else looks again when that may be.
    pub(super) fn mind_idleness(&mut self, bench: &mut Bench<'_>) {
        let now = bench.reactor.now();
        if self.idle.timer.is_some_and(|timer| timer.at() > now) {
            return;
        }
        self.idle.timer = None;
        let (Some(limit), Some(active)) = (self.shared.config.idle_timeout(), self.idle.active) else {
            return;
        };
        // The last one's end is noted, and is when this is asked again.
        if !self.is_running() || !self.execs.is_empty() || self.files > 0 {
            return;
        }
        let active = active.max(self.shared.counters.last_active());
        // On overflow there is no deadline.
        let Some(due) = active.checked_add(limit) else { return };
        if due <= now {
            return self.end(bench, Cause::Idle);
        }
        self.idle.timer = self.key.map(|key| bench.reactor.schedule(due, key));
    }

    /// Has the standard input watched, if that matters. One that can't be watched is not a reason to end it, but the
    /// host is to know.
    pub(super) fn watch_input(&mut self, bench: &mut Bench<'_>, theirs: Option<&OwnedFd>) {
        let Some(fd) = theirs.filter(|_| self.shared.config.idle_timeout().is_some()) else { return };
        let watched = fd.try_clone().map_err(|error| error.to_string()).and_then(|fd| {
            let key = bench.inputs.insert(Input { sandbox: self.shared.number, fd });
            bench.reactor.join(key, self.shared.number);
            let Some(input) = bench.inputs.get_mut(key) else { return Ok(key) };
            match register(bench.reactor, input.fd.as_fd(), key, Lane::Front) {
                Ok(()) => Ok(key),
                Err(error) => {
                    bench.inputs.remove(key);
                    Err(error.to_string())
                }
            }
        });
        match watched {
            Ok(key) => self.idle.input = Some(key),
            Err(error) => log::error!("sandbox {}: its input can't be watched: {error}", self.shared.id),
        }
    }

    /// It is ending.
    pub(super) fn stop_minding_idleness(&mut self, bench: &mut Bench<'_>) {
        if let Some(timer) = self.idle.timer.take() {
            bench.reactor.cancel(timer);
        }
        if let Some(input) = self.idle.input.take().and_then(|key| bench.inputs.remove(key)) {
            bench.reactor.deregister(input.fd.as_fd());
        }
    }
}
