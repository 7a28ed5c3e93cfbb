//! What the host's threads and the control thread know together of one executed program.

use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Stream;
use crate::error::{Code, Error, Result};
use crate::event::queue::{self, Ring};
use crate::event::{EventKind, EventRecord};
use crate::process::Capture;
use crate::reactor::FdPermit;
use crate::sandbox::Exit;
use crate::sandbox::shared::wait_on;

/// One program, seen from all threads. The control thread writes, the others read and wait. The open fields never change.
#[derive(Debug)]
pub(crate) struct Record {
    /// For messages: its name and its sandbox.
    pub(super) what: String,
    /// Its working directory, for messages too.
    pub(super) directory: String,
    events: Option<queue::Sender>,
    facts: Mutex<Facts>,
    changed: Condvar,
}

/// What is known of it now. Open fields: read and changed under the record's lock only.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) state: State,
    /// How it ended, or why it could not be started.
    pub(super) end: Option<Result<Exit>>,
    /// The host has freed it: waiters return.
    pub(super) closed: bool,
    pub(super) streams: [Have; 3],
    pub(super) terminal: Have,
}

/// Where it is in its life. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Starting,
    Running,
    Ended,
}

/// The host's side of a stream.
#[derive(Debug, Default)]
pub(super) enum Have {
    /// Not asked for.
    #[default]
    Nothing,
    /// To be taken once, with its part of the budget.
    Descriptor(OwnedFd, FdPermit),
    /// Taken, or closed with the handle.
    Taken,
    Capture(Capture),
}

impl Record {
    /// One that is about to be started.
    pub(super) fn new(
        what: String,
        directory: String,
        events: Option<queue::Sender>,
        streams: [Have; 3],
        terminal: Have,
    ) -> Self {
        let facts = Facts { state: State::Starting, end: None, closed: false, streams, terminal };
        Self { what, directory, events, facts: Mutex::new(facts), changed: Condvar::new() }
    }

    /// What is known now. Held for moments only.
    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It runs.
    pub(super) fn started(&self) {
        let mut facts = self.facts();
        if facts.state == State::Starting {
            facts.state = State::Running;
            let ring = self.notify(EventKind::ProcessStarted, |_| ());
            drop(facts);
            self.changed.notify_all();
            drop(ring);
        }
    }

    /// Records the outcome: it has ended, or can't be started. Only the first call takes effect.
    pub(super) fn end(&self, end: Result<Exit>) {
        let mut facts = self.facts();
        if facts.state == State::Ended {
            return;
        }
        facts.state = State::Ended;
        let ring = self.notify(EventKind::ProcessExited, |event| match &end {
            Ok(exit) => (event.code, event.reason) = (exit.code, exit.reason.into()),
            Err(error) => event.set_failure(error),
        });
        facts.end = Some(end);
        drop(facts);
        self.changed.notify_all();
        drop(ring);
    }

    /// The host holds it no longer: what it hasn't taken is closed.
    pub(super) fn close(&self) {
        let mut facts = self.facts();
        facts.closed = true;
        let Facts { streams, terminal, .. } = &mut *facts;
        let untaken =
            streams.iter_mut().chain([terminal]).filter(|have| matches!(have, Have::Descriptor(..)));
        let untaken: Vec<Have> = untaken.map(|have| std::mem::replace(have, Have::Taken)).collect();
        drop(facts);
        drop(untaken);
        self.changed.notify_all();
    }

    /// Waits until `look` finds what it looks for, the time runs out, or the host frees it.
    pub(super) fn wait_for<T>(
        &self,
        what: &str,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut Facts) -> Option<Result<T>>,
    ) -> Result<T> {
        let found = wait_on(&self.facts, &self.changed, timeout, |facts| {
            look(facts).or_else(|| {
                facts.closed.then(|| Err(Error::new(Code::Closed, format!("{} was freed", self.what))))
            })
        });
        found.unwrap_or_else(|| {
            let waited = timeout.unwrap_or_default().as_millis();
            Err(Error::new(Code::TimedOut, format!("{} {what} within {waited} ms", self.what)))
        })
    }

    /// The host's side of a stream, once.
    pub(super) fn take(&self, stream: Option<Stream>) -> Result<OwnedFd> {
        let name = stream.map_or_else(|| "the terminal".to_owned(), |stream| stream.to_string());
        let mut facts = self.facts();
        let has_terminal = !matches!(facts.terminal, Have::Nothing);
        let Facts { streams, terminal, .. } = &mut *facts;
        let have = stream.map_or(Some(terminal), |stream| streams.get_mut(stream.index()));
        let Some(have) = have else { return Err(Error::new(Code::Internal, "a fourth stream")) };
        match std::mem::replace(have, Have::Taken) {
            Have::Descriptor(fd, permit) => {
                // It is the host's own from now on.
                drop(permit);
                Ok(fd)
            }
            Have::Taken => Err(Error::new(Code::State, format!("{name} of {} was opened before", self.what))),
            other => {
                *have = other;
                let hint = if has_terminal { ": it has a terminal instead" } else { "" };
                let text = format!("{name} of {} was not configured as a descriptor{hint}", self.what);
                Err(Error::new(Code::NotFound, text))
            }
        }
    }

    fn notify(&self, kind: EventKind, fill: impl FnOnce(&mut EventRecord)) -> Option<Ring> {
        self.events.as_ref().and_then(|sender| sender.send(kind, fill))
    }
}
