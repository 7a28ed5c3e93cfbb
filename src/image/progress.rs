//! How far an operation is, reported at most ten times a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Code, Error};
use crate::event::operation::Completion;

/// The least time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Counts the bytes of an operation and reports them. Several threads may count.
#[derive(Debug)]
pub(super) struct Progress<'a, T> {
    completion: &'a Completion<T>,
    state: Mutex<State>,
    stage: Option<Stage>,
}

/// A step of a build, of which the bytes aren't reported.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// The steps before it, and all.
    pub(super) steps: [u64; 2],
    /// What it is called.
    pub(super) title: String,
    /// When the whole has to be done.
    pub(super) deadline: Instant,
    /// When something of the build was reported last.
    pub(super) reported: Arc<Mutex<Option<Instant>>>,
}

#[derive(Debug, Default)]
struct State {
    done: u64,
    total: u64,
    step: String,
    reported: Option<Instant>,
}

impl<'a, T> Progress<'a, T> {
    pub(super) fn new(completion: &'a Completion<T>) -> Self {
        Self { completion, state: Mutex::default(), stage: None }
    }

    /// For a step of a build: steps are counted in place of bytes, and the operation ends at the deadline.
    pub(super) fn of_stage(completion: &'a Completion<T>, stage: Stage) -> Self {
        Self { completion, state: Mutex::default(), stage: Some(stage) }
    }

    /// So many more bytes there are to do.
    pub(super) fn add_total(&self, bytes: u64) {
        self.update(|state| state.total = state.total.saturating_add(bytes));
    }

    /// How many bytes there are to do in all: what was said before was an estimate.
    pub(super) fn set_total(&self, bytes: u64) {
        self.update(|state| state.total = bytes);
    }

    /// This is being done now.
    pub(super) fn step(&self, step: impl Into<String>) {
        self.update(|state| state.step = step.into());
    }

    /// Counts what one step does, which says itself how far it is, and has at most so many bytes to do.
    pub(super) fn counter(&self, most: u64) -> impl FnMut(u64) + '_ {
        let mut before = 0;
        move |now| {
            let now = now.min(most);
            // A download that begins again has less than before.
            let more = now.saturating_sub(before);
            before = before.max(now);
            self.update(|state| state.done = state.done.saturating_add(more));
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let now = Instant::now();
        if self.stage.as_ref().is_some_and(|stage| now >= stage.deadline) {
            self.completion.abandon(Error::new(Code::TimedOut, "the build took longer than its timeout"));
        }
        let is_due = match &self.stage {
            Some(stage) => is_due(&mut stage.reported.lock().unwrap_or_else(PoisonError::into_inner), now),
            None => is_due(&mut state.reported, now),
        };
        if !is_due {
            return;
        }
        let (bytes, step) = match &self.stage {
            None => ([state.done, state.total], state.step.clone()),
            Some(stage) if state.step.is_empty() => (stage.steps, stage.title.clone()),
            Some(stage) => (stage.steps, format!("{}: {}", stage.title, state.step)),
        };
        drop(state);
        self.completion.report(bytes, &step);
    }
}

/// Whether something may be reported again. It is then.
pub(super) fn is_due(reported: &mut Option<Instant>, now: Instant) -> bool {
    if reported.is_some_and(|before| now.duration_since(before) < REPORT_INTERVAL) {
        return false;
    }
    *reported = Some(now);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::operation::{Notice, Operation};
    use crate::event::{EventKind, Queue};

    #[test]
    fn bytes_are_counted_and_reports_are_few() {
        let queue = Queue::new(100).unwrap();
        let (operation, completion) = Operation::<u32>::new("it".to_owned(), Error::shut_down());
        operation.notify(Notice::new(Some((&queue, 1)), EventKind::OperationDone, |_| [0; 2]).unwrap());
        let progress = Progress::new(&completion);
        progress.add_total(1000);
        let mut count = progress.counter(450);
        for bytes in (0..400).chain(100..500) {
            count(bytes);
        }
        let waiting: Vec<_> = std::iter::from_fn(|| queue.next_record()).map(|event| event.value).collect();
        assert!((1..20).contains(&waiting.len()), "{waiting:?}");
        std::thread::sleep(REPORT_INTERVAL);
        progress.step("the rest");
        let last = queue.next_record().unwrap();
        assert_eq!((last.value, last.detail.as_str()), ([450, 1000], "the rest"));
    }
}
