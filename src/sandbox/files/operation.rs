//! An operation, as the host's threads see it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::entry::{DirectoryEntry, FileChange, FileInfo, FileTotals};
use crate::error::{Code, Error, Result};
use crate::event::queue::Ring;
use crate::sandbox::{Command, Control, wait_on};

/// The most changes that wait for the host; further ones wait in the sandbox.
pub(super) const CHANGES: usize = 4096;

/// What an operation gave.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) totals: FileTotals,
    pub(super) info: Option<FileInfo>,
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<DirectoryEntry>,
}

#[derive(Debug, Default)]
struct State {
    /// How it ended.
    result: Option<Result<Arc<Answer>>>,
    /// The host's end of the stream, until it is taken.
    stream: Option<OwnedFd>,
    changes: VecDeque<FileChange>,
    /// The host was not told of the changes that wait, or has found none since.
    quiet: bool,
}

/// What the control thread and the host know together of an operation.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What it is called in messages.
    pub(super) title: String,
    state: Mutex<State>,
    changed: Condvar,
}

impl Progress {
    pub(super) fn new(title: String, stream: Option<OwnedFd>) -> Self {
        let state = State { stream, quiet: true, ..State::default() };
        Self { title, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the end. Calls `notify` in the same step.
    pub(super) fn finish(&self, result: Result<Answer>, notify: impl FnOnce() -> Option<Ring>) {
        let mut state = self.state();
        let mut ring = None;
        if state.result.is_none() {
            state.result = Some(result.map(Arc::new));
            ring = notify();
        }
        drop(state);
        self.changed.notify_all();
        drop(ring);
    }

    /// How it ended, if it has.
    #[cfg(test)]
    pub(super) fn result(&self) -> Option<Result<Arc<Answer>>> {
        self.state().result.clone()
    }

    /// The host's end of the stream, once.
    pub(super) fn take_stream(&self) -> Option<OwnedFd> {
        self.state().stream.take()
    }

    /// How many more changes may wait.
    pub(super) fn room(&self) -> usize {
        CHANGES.saturating_sub(self.state().changes.len())
    }

    /// Records a change. Calls `notify` if the host has taken all earlier ones.
    pub(super) fn add(&self, change: FileChange, notify: impl FnOnce() -> Option<Ring>) {
        let mut state = self.state();
        state.changes.push_back(change);
        let ring = if std::mem::take(&mut state.quiet) { notify() } else { None };
        drop(state);
        self.changed.notify_all();
        drop(ring);
    }

    fn wait<T>(&self, timeout: Option<Duration>, look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        wait_on(&self.state, &self.changed, timeout, look)
    }
}

/// An operation on files that was begun. Clones are handles to the same one; dropping the last ends it, if it
/// still goes on.
#[derive(Clone, Debug)]
pub struct FileOperation(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    number: u64,
    progress: Arc<Progress>,
    control: Control,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.progress.state().result.is_none() {
            // A runtime that is gone has ended it already.
            let _ = self.control.send(Command::EndFile(self.number));
        }
    }
}

impl FileOperation {
    pub(super) fn new(number: u64, progress: Arc<Progress>, control: Control) -> Self {
        Self(Arc::new(Handle { number, progress, control }))
    }

    fn answer(&self, timeout: Option<Duration>) -> Result<Arc<Answer>> {
        let progress = &self.0.progress;
        progress.wait(timeout, |state| state.result.clone()).unwrap_or_else(|| {
            let waited = timeout.unwrap_or_default().as_millis();
            let message = format!("{} did not end within {waited} ms", progress.title);
            Err(Error::new(Code::TimedOut, message))
        })
    }

    /// Waits until it has ended, and says how it went. `None` waits for ever.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<FileTotals> {
        self.answer(timeout).map(|answer| answer.totals)
    }

    /// What it has done, without waiting for it. It must have ended well.
    pub fn totals(&self) -> Result<FileTotals> {
        self.finished().map(|answer| answer.totals)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.0.progress.state().result.is_some()
    }

    /// Ends it; what it has done so far stays done. It fails with [`Code::Closed`], if it has not ended.
    pub fn cancel(&self) {
        // A runtime that is gone has ended it already.
        let _ = self.0.control.send(Command::EndFile(self.0.number));
    }

    /// The host's end of its stream, once: an AF_UNIX stream, non-blocking. What is read from it is complete
    /// only if the operation ends well; what is written to it is, when its end was shut down and the operation
    /// has ended well.
    pub fn open_stream(&self) -> Result<OwnedFd> {
        self.0.progress.take_stream().ok_or_else(|| {
            let message = format!("{}: it has no stream, or that was taken before", self.0.progress.title);
            Error::new(Code::State, message)
        })
    }

    /// The bytes that were read whole. It must have ended well.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.finished().map(|answer| answer.bytes.clone())
    }

    /// The entries that were listed. It must have ended well.
    pub fn entries(&self) -> Result<Vec<DirectoryEntry>> {
        self.finished().map(|answer| answer.entries.clone())
    }

    /// What the path is. It must have ended well.
    pub fn info(&self) -> Result<FileInfo> {
        let info = self.finished()?.info.clone();
        info.ok_or_else(|| {
            Error::invalid(format!("{}: it did not ask what the path is", self.0.progress.title))
        })
    }

    /// What was read whole, as it lies, for as long as the operation is held. It must have ended well.
    pub(crate) fn with_bytes<T>(&self, look: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.finished().map(|answer| look(&answer.bytes))
    }

    /// The answer, once it has ended well.
    pub(super) fn finished(&self) -> Result<Arc<Answer>> {
        let result = self.0.progress.state().result.clone();
        result.unwrap_or_else(|| {
            Err(Error::new(Code::State, format!("{} has not ended yet: wait for it", self.0.progress.title)))
        })
    }

    /// The next change, in the order in which they happened. Waits for it; [`Code::TimedOut`] when none came in
    /// time. The error with which the operation ended comes after the last.
    pub fn next_change(&self, timeout: Option<Duration>) -> Result<FileChange> {
        let progress = &self.0.progress;
        let found = progress.wait(timeout, |state| match (state.changes.pop_front(), &state.result) {
            (Some(change), _) => Some((Ok(change), state.changes.len() + 1 == CHANGES)),
            (None, Some(Err(error))) => Some((Err(error.clone()), false)),
            (None, Some(Ok(_))) => {
                let message = format!("{} has ended: the directory is gone", progress.title);
                Some((Err(Error::new(Code::State, message)), false))
            }
            (None, None) => {
                state.quiet = true;
                None
            }
        });
        let Some((change, was_full)) = found else {
            let waited = timeout.unwrap_or_default().as_millis();
            let message = format!("{}: nothing changed within {waited} ms", progress.title);
            return Err(Error::new(Code::TimedOut, message));
        };
        if was_full {
            // The control thread has stopped reading for want of room.
            let _ = self.0.control.send(Command::ReadFile(self.0.number));
        }
        change
    }
}
