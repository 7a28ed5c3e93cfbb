//! What the host's threads and the control thread know together of one sandbox.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Exit, State};
use crate::config::Config;
use crate::egress;
use crate::error::{Code, Error, Result};
use crate::event::queue::{self, Ring};
use crate::event::{EventKind, EventRecord, Queue};
use crate::image::Snapshot;
use crate::keeper::wire::keeper::Usage;
use crate::process::Capture;
use crate::runsc::command::SandboxId;
use crate::tunnel::{Counters, TunnelMap};

/// One sandbox, seen from all threads. The control thread writes, everybody reads and waits.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The runtime's own number for it, never used twice.
    pub(crate) number: u64,
    /// Its id: `sb-` and 16 hexadecimal digits.
    pub(crate) id: SandboxId,
    /// What it was asked to be.
    pub(crate) config: Config,
    /// Where its events go.
    events: Option<queue::Sender>,
    /// What its connections have done.
    pub(crate) counters: Arc<Counters>,
    /// What has left it.
    pub(crate) egress: Arc<egress::Counters>,
    /// The time that the library's threads have spent on it, in nanoseconds.
    pub(crate) time: Arc<AtomicU64>,
    facts: Mutex<Facts>,
    changed: Condvar,
}

/// What is known of it now.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Its state.
    pub(crate) state: State,
    /// Why it could not be created.
    pub(crate) failure: Option<Error>,
    /// Why it is ending or has ended, in words.
    pub(crate) why: Option<String>,
    /// Its tunnels, once the listeners exist.
    pub(crate) tunnels: Option<TunnelMap>,
    /// Whether the server inside has answered.
    pub(crate) ready: bool,
    /// How it ended.
    pub(crate) exit: Option<Exit>,
    /// When its program was started.
    pub(crate) started: Option<Instant>,
    /// When it began to end, set under the lock: no caller sees a longer uptime than the final one.
    pub(crate) stopped: Option<Instant>,
    /// What it used of the host when that was last asked.
    pub(crate) usage: Usage,
    /// The exit snapshot, or why there is none.
    pub(crate) exit_snapshot: Option<Result<Snapshot>>,
    /// The host has freed it: waiters return.
    pub(crate) closed: bool,
    /// C's handles to it.
    pub(crate) handles: usize,
    /// The host's ends of its program's streams, until they are taken.
    pub(crate) descriptors: [Option<OwnedFd>; 3],
    /// Captures of its program's output streams.
    pub(crate) captures: [Option<Capture>; 3],
}

impl Shared {
    /// A sandbox that is about to be created.
    pub(crate) fn new(number: u64, id: SandboxId, config: Config) -> Result<Self> {
        let saves = config.exit_snapshot().is_some();
        let sender = |(queue, cookie): (&Queue, u64)| match saves {
            true => queue.sender_with_exit_snapshot(cookie),
            false => queue.sender(cookie),
        };
        let events = config.queue().map(sender).transpose()?;
        let facts = Facts {
            state: State::Starting,
            failure: None,
            why: None,
            tunnels: None,
            ready: false,
            exit: None,
            started: None,
            stopped: None,
            usage: Usage::default(),
            exit_snapshot: None,
            closed: false,
            handles: 0,
            descriptors: [None, None, None],
            captures: [None, None, None],
        };
        Ok(Self {
            number,
            id,
            config,
            events,
            counters: Arc::default(),
            egress: Arc::default(),
            time: Arc::default(),
            facts: Mutex::new(facts),
            changed: Condvar::new(),
        })
    }

    /// What is known now. Held for moments only.
    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error for a request that comes too late: why the sandbox ended.
    pub(crate) fn ended(&self) -> Error {
        self.facts().ended(&self.id)
    }

    /// The outcome of what was asked for. If the sandbox has ended meanwhile, that and why is more precise than the
    /// error of the part that noticed.
    pub(crate) fn unless_ended<T>(&self, outcome: Result<T>) -> Result<T> {
        let facts = self.facts();
        match outcome {
            Err(error)
                if facts.state > State::Running && matches!(error.code(), Code::State | Code::Closed) =>
            {
                Err(facts.ended(&self.id))
            }
            other => other,
        }
    }

    /// Changes what is known and wakes the waiters.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts());
        self.changed.notify_all();
    }

    /// Changes what is known and sends the event, as one step: a waiter that is woken finds the event in the queue.
    pub(crate) fn update_and_notify(
        &self,
        change: impl FnOnce(&mut Facts),
        kind: EventKind,
        fill: impl FnOnce(&mut EventRecord),
    ) {
        let mut facts = self.facts();
        change(&mut facts);
        let ring = self.notify(kind, fill);
        drop(facts);
        self.changed.notify_all();
        drop(ring);
    }

    /// Waits until `look` finds what it looks for, the time runs out, or the sandbox is freed.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut Facts) -> Option<Result<T>>,
    ) -> Result<T> {
        let found = wait_on(&self.facts, &self.changed, timeout, |facts| {
            look(facts).or_else(|| {
                facts.closed.then(|| Err(Error::new(Code::Closed, format!("sandbox {} was freed", self.id))))
            })
        });
        found.unwrap_or_else(|| {
            let waited = timeout.unwrap_or_default().as_millis();
            Err(Error::new(Code::TimedOut, format!("sandbox {} {what} within {waited} ms", self.id)))
        })
    }

    /// It can't be created, or not go on.
    pub(crate) fn fail(&self, error: Error) {
        let failure = error.clone();
        let ended = |facts: &mut Facts| {
            facts.state = State::Ended;
            facts.failure = Some(error);
        };
        self.update_and_notify(ended, EventKind::Failed, |event| event.set_failure(&failure));
    }

    /// Its exit snapshot is stored, or there is none.
    pub(crate) fn saved(&self, result: Result<Snapshot>) {
        let stored = result.clone();
        let saved = |facts: &mut Facts| facts.exit_snapshot = Some(stored);
        self.update_and_notify(saved, EventKind::ExitSnapshot, |event| match &result {
            Ok(taken) => {
                let paused = u64::try_from(taken.paused.as_micros()).unwrap_or(u64::MAX);
                event.value = [taken.image.info().bytes, paused];
                event.detail = taken.image.id().to_owned();
            }
            Err(error) => event.set_failure(error),
        });
    }

    /// It has ended.
    pub(crate) fn end(&self, exit: Exit, detail: String) {
        let ended = |facts: &mut Facts| {
            facts.state = State::Ended;
            facts.exit = Some(exit);
        };
        self.update_and_notify(ended, EventKind::Exited, |event| {
            event.code = exit.code;
            event.reason = exit.reason.into();
            event.detail = detail;
        });
    }

    /// Sends an event, if the host has given a queue.
    pub(crate) fn notify(&self, kind: EventKind, fill: impl FnOnce(&mut EventRecord)) -> Option<Ring> {
        self.events.as_ref().and_then(|sender| sender.send(kind, fill))
    }
}

impl Facts {
    /// The error for a request that comes too late.
    pub(crate) fn ended(&self, id: &SandboxId) -> Error {
        let why = self.why.as_deref().or(self.failure.as_ref().map(Error::message));
        Error::sandbox_ended(&format!("sandbox {id}"), why)
    }

    /// Whether the program was started, once that is known. One that was may have ended before anybody looked.
    pub(super) fn outcome_of_start(&self, id: &SandboxId) -> Option<Result<()>> {
        match (self.state, &self.failure) {
            (State::Starting, _) => None,
            // A failure is reported once everything of it is gone.
            (State::Ending, Some(_)) => None,
            (State::Ended, Some(failure)) => Some(Err(failure.clone())),
            (State::Ended, None) if self.started.is_none() => Some(Err(self.ended(id))),
            _ => Some(Ok(())),
        }
    }
}

/// Waits until `look` finds what it looks for; `None` if the time has run out before.
pub(crate) fn wait_on<F, T>(
    facts: &Mutex<F>,
    changed: &Condvar,
    timeout: Option<Duration>,
    mut look: impl FnMut(&mut F) -> Option<T>,
) -> Option<T> {
    // A timeout beyond what the clock can say is as good as none.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut facts = facts.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(found) = look(&mut facts) {
            return Some(found);
        }
        facts = match deadline {
            None => changed.wait(facts).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                changed.wait_timeout(facts, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_has_ended_before_anybody_looks_was_started() {
        let id = SandboxId::random().unwrap();
        let shared = Shared::new(1, id.clone(), Config::new()).unwrap();
        let mut facts = shared.facts();
        assert!(facts.outcome_of_start(&id).is_none());
        facts.state = State::Ended;
        assert_eq!(facts.outcome_of_start(&id).unwrap().unwrap_err().code(), Code::State);
        facts.started = Some(Instant::now());
        assert!(facts.outcome_of_start(&id).unwrap().is_ok());
        facts.failure = Some(Error::new(Code::Engine, "it failed"));
        assert_eq!(facts.outcome_of_start(&id).unwrap().unwrap_err().code(), Code::Engine);
    }
}
