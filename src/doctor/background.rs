//! The doctor's check for hosts that must not block: a thread of its own does it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Report;
use super::host_check::HostCheck;
use crate::config::RuntimeConfig;
use crate::error::{Code, Context, Error, Result};
use crate::event::operation::{Notice, Operation};
use crate::event::{EventKind, Queue};
use crate::sys::thread::with_signals_blocked;

/// The most checks at the same time, of all that the process has begun.
const MAX_CHECKS: usize = 8;

/// How many there are.
static GOING_ON: AtomicUsize = AtomicUsize::new(0);

/// Reads the environment and starts the thread.
pub(super) fn begin(config: &RuntimeConfig, events: Option<(&Queue, u64)>) -> Result<Operation<Report>> {
    let permit = Permit::take()?;
    let check = HostCheck::new(config);
    let notice = Notice::new(events, EventKind::Checked, |report: &Report| [u64::from(report.usable()), 0])?;
    let lost = Error::new(Code::Internal, "the check's thread was lost");
    let (operation, completion) = Operation::new("the check of this machine".to_owned(), lost);
    let run = move || {
        let report = catch_unwind(AssertUnwindSafe(|| check.report()));
        // Before the end is known: who hears of it may begin another.
        drop(permit);
        completion.complete(
            report.map_err(|_| Error::new(Code::Panic, "the check panicked: a bug of the library")),
        );
    };
    with_signals_blocked(|| std::thread::Builder::new().name("sbx-check".to_owned()).spawn(run))?
        .context("a thread for the check")?;
    operation.notify(notice);
    Ok(operation)
}

/// One of the places for checks.
struct Permit;

impl Permit {
    fn take() -> Result<Self> {
        let one_more = |count| (count < MAX_CHECKS).then_some(count + 1);
        match GOING_ON.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Self),
            Err(_) => Err(Error::new(
                Code::Limit,
                format!("{MAX_CHECKS} checks go on already: wait for one of them"),
            )),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        GOING_ON.fetch_sub(1, Ordering::Relaxed);
    }
}
