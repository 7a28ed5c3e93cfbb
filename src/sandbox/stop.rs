//! A graceful end: the program is asked to end, its connections are let go by themselves, and what is left after
//! the grace period is killed.

use std::time::{Duration, Instant};

use super::Command;
use super::life::{Bench, Cause, Life, PROGRAM};
use crate::engine;
use crate::keeper::wire::init::Request;
use crate::reactor::TimerId;

/// What is known of a stop that is under way.
#[derive(Debug)]
pub(super) struct Stopping {
    timer: TimerId,
    at: Instant,
    /// No connection is left, and none is accepted.
    drained: bool,
    /// How the program has ended, if it has.
    cause: Option<Cause>,
}

impl Life {
    /// The host asks for its end, in this way. Asking again sends the signal again, and may shorten the time.
    pub(crate) fn stop(&mut self, bench: &mut Bench<'_>, signal: i32, grace: Duration) {
        if !self.is_running() {
            // A sandbox that is being created has nothing that could end by itself.
            return self.terminate(bench);
        }
        let now = bench.reactor.now();
        // A time beyond what the clock can say never comes; the lifetime does.
        let at = now.checked_add(grace).unwrap_or(now + Duration::from_secs(1 << 30));
        let Some(key) = self.key else { return };
        match &mut self.stopping {
            Some(stopping) => {
                stopping.at = stopping.at.min(at);
                bench.reactor.cancel(stopping.timer);
                stopping.timer = bench.reactor.schedule(stopping.at, key);
            }
            None => {
                let timer = bench.reactor.schedule(at, key);
                self.stopping = Some(Stopping { timer, at, drained: !self.attached, cause: None });
                self.drain(bench);
            }
        }
        if self.shared.config.command().is_empty() {
            self.signal_execs(bench, signal);
        } else {
            self.ask_init(bench, &Request::Signal { id: PROGRAM, signal, group: false });
        }
        self.mind_stop(bench);
    }

    /// No further connection is accepted, and the engine tells when the last has ended.
    fn drain(&self, bench: &mut Bench<'_>) {
        if self.attached {
            let (key, control) = (self.shared.number, bench.control.clone());
            let reply = Box::new(move || drop(control.send(Command::Drained(key))));
            // An engine that is gone has no connections; the grace period bounds it.
            let _ = bench.engine.send(engine::Command::Drain { key, reply });
        }
    }

    /// Whether it is being ended by [`Life::stop`].
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The last connection has ended.
    pub(crate) fn drained(&mut self, bench: &mut Bench<'_>) {
        if let Some(stopping) = &mut self.stopping {
            stopping.drained = true;
            self.mind_stop(bench);
        }
    }

    /// The program has ended: so does the sandbox, unless connections may still deliver what it sent.
    pub(super) fn program_ended(&mut self, bench: &mut Bench<'_>, status: i32) {
        match &mut self.stopping {
            None => self.end(bench, Cause::Program(status)),
            Some(stopping) => {
                stopping.cause.get_or_insert(Cause::Program(status));
                self.mind_stop(bench);
            }
        }
    }

    /// How the program has ended while it was being stopped: that counts, whatever comes after.
    pub(super) fn end_before(&mut self) -> Option<Cause> {
        self.stopping.as_mut().and_then(|stopping| stopping.cause.take())
    }

    /// Ends it if nothing is left to be waited for, or not any longer.
    pub(super) fn mind_stop(&mut self, bench: &mut Bench<'_>) {
        let Some(stopping) = self.stopping.as_ref().filter(|_| self.is_running()) else { return };
        let idle = self.shared.config.command().is_empty() && self.execs.is_empty();
        let over = stopping.drained && (stopping.cause.is_some() || idle);
        if over || bench.reactor.now() >= stopping.at {
            self.end(bench, Cause::Terminated);
        }
    }
}
