//! The doctor's check for hosts that must not block: a thread of its own does it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::{HostCheck, Report};
use crate::config::RuntimeConfig;
use crate::error::{Code, Context, Error, Result};
use crate::event::{EventKind, Queue, queue};
use crate::sys::thread::with_signals_blocked;

/// The most checks at the same time, of all that the process has begun.
const MOST: usize = 8;

/// How many there are.
static GOING_ON: AtomicUsize = AtomicUsize::new(0);

/// A check that was begun. Dropping it doesn't end the check.
#[derive(Clone, Debug)]
pub struct CheckHandle {
    found: Found,
}

type Found = Arc<OnceLock<Result<Report>>>;

impl CheckHandle {
    /// Reads the environment and starts the thread.
    pub(super) fn begin(config: &RuntimeConfig, queue: &Queue, cookie: u64) -> Result<Self> {
        let place = Place::take()?;
        let check = HostCheck::new(config);
        let found = Found::default();
        let mut told =
            Told { found: Arc::clone(&found), events: queue.sender_of_one(cookie)?, place: Some(place) };
        let run = move || {
            let report = catch_unwind(AssertUnwindSafe(|| check.report()));
            told.tell(
                report.map_err(|_| Error::new(Code::Panic, "the check panicked: a bug of the library")),
            );
        };
        with_signals_blocked(|| std::thread::Builder::new().name("sbx-check".to_owned()).spawn(run))?
            .context("a thread for the check")?;
        Ok(Self { found })
    }

    /// What was found, once that has been told.
    pub fn report(&self) -> Result<&Report> {
        let unfinished = || Error::new(Code::State, "the check still goes on: wait for its event");
        self.found.get().ok_or_else(unfinished)?.as_ref().map_err(Clone::clone)
    }
}

/// One of the places for checks.
struct Place;

impl Place {
    fn take() -> Result<Self> {
        let one_more = |count| (count < MOST).then_some(count + 1);
        match GOING_ON.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Self),
            Err(_) => {
                Err(Error::new(Code::Limit, format!("{MOST} checks go on already: wait for one of them")))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        GOING_ON.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who is told, and how.
struct Told {
    found: Found,
    events: queue::Sender,
    place: Option<Place>,
}

impl Told {
    fn tell(&mut self, report: Result<Report>) {
        let failure = report.as_ref().err().cloned();
        let usable = report.as_ref().is_ok_and(Report::usable);
        // Before the event: who has it may look, and begin another.
        let _ = self.found.set(report);
        self.place = None;
        self.events.tell(EventKind::Checked, |event| match failure {
            Some(error) => event.set_failure(&error),
            None => event.value = [u64::from(usable), 0],
        });
    }
}
