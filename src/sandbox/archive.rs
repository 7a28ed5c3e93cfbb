//! The archive of what a sandbox has changed in its root file system, which a snapshot is made of.
//!
//! The keeper's process for snapshots pauses the sandbox, has runsc write the archive, and resumes it. Here that is asked
//! for and its end reported; what is done with the archive is [`super::snapshot`]'s.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::errors;
use crate::error::{Code, Error};
use crate::event::operation::Completion;
use crate::keeper::wire::keeper::{Request as ToKeeper, SnapshotEnd};
use crate::reactor::FdPermit;

/// Numbers archives, for all runtimes of the process.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// An archive that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// Its size.
    pub(crate) bytes: u64,
    /// How long the sandbox was paused for it.
    pub(crate) paused: Duration,
}

/// An archive that is to be written. Dropped before that, it ends its operation with an error.
#[derive(Debug)]
pub(crate) struct ArchiveTask {
    /// The number of its sandbox.
    pub(crate) sandbox: u64,
    /// Its own, of [`next_number`].
    pub(crate) number: u64,
    /// The file that it is written to.
    pub(crate) file: OwnedFd,
    /// How many bytes it may have.
    pub(crate) bytes: u64,
    /// How long writing it may take.
    pub(crate) time: Duration,
    /// It is for the exit snapshot.
    pub(crate) at_exit: bool,
    /// Where its end is reported.
    pub(crate) completion: Completion<Archive>,
}

/// A number for an archive, never used twice.
pub(super) fn next_number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// The archive of a sandbox that is being written, if there is one.
#[derive(Debug, Default)]
pub(super) struct ArchiveWriter {
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    number: u64,
    completion: Completion<Archive>,
    limit: u64,
    _permit: FdPermit,
}

/// How an archive has ended, for the sandbox's life.
#[derive(Debug)]
pub(super) struct Ended {
    /// The sandbox can't be resumed, and why.
    pub(super) lost: Option<Error>,
}

impl ArchiveWriter {
    /// What the keeper is to be asked, if no other archive is being written.
    pub(super) fn begin(&mut self, task: ArchiveTask, permit: FdPermit) -> Option<(ToKeeper, OwnedFd)> {
        let ArchiveTask { number, file, bytes, time, completion, .. } = task;
        if self.pending.is_some() {
            let text = "another snapshot of the sandbox is being taken: wait for its end";
            completion.complete(Err(Error::new(Code::State, text)));
            return None;
        }
        self.pending = Some(Pending { number, completion, limit: bytes, _permit: permit });
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some((ToKeeper::Snapshot { bytes, milliseconds }, file))
    }

    /// The keeper reports its end. One that nobody waits for is an answer to nothing.
    pub(super) fn on_end(&mut self, end: &SnapshotEnd, archive: Archive, is_paused: bool) -> Option<Ended> {
        let Pending { completion, limit, .. } = self.pending.take()?;
        let error = match end {
            SnapshotEnd::Complete => None,
            end => Some(errors::snapshot(end, limit)),
        };
        let lost = is_paused.then(|| {
            let error =
                error.clone().unwrap_or_else(|| Error::new(Code::Engine, "the keeper gave no reason"));
            error.with_code(Code::Engine).context("the sandbox could not be resumed after a snapshot")
        });
        completion.complete(match lost.clone().or(error) {
            Some(error) => Err(error),
            None => Ok(archive),
        });
        Some(Ended { lost })
    }

    /// Whether the archive of this number is being written.
    pub(super) fn writes(&self, number: u64) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.number == number)
    }

    /// The sandbox is ending, and there will be none.
    pub(super) fn clear(&mut self) {
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Operation;
    use crate::reactor::{FdBudget, Use};

    /// A task, and its operation.
    fn task(number: u64) -> (ArchiveTask, Operation<Archive>) {
        let (operation, completion) = Operation::new("archive".into(), Error::new(Code::Closed, "lost"));
        let file = std::fs::File::open("/dev/null").unwrap().into();
        let (time, at_exit) = (Duration::ZERO, false);
        let task = ArchiveTask { sandbox: 1, number, file, bytes: 1, time, at_exit, completion };
        (task, operation)
    }

    #[test]
    fn only_the_archive_of_its_number_is_ended() {
        let budget = FdBudget::new(100);
        let permit = || budget.acquire(1, Use::Host, 1).unwrap();
        let (first, second) = (next_number(), next_number());
        assert_ne!(first, second);
        let mut writer = ArchiveWriter::default();
        assert!(!writer.writes(first));
        let (begun, _operation) = task(first);
        assert!(writer.begin(begun, permit()).is_some());
        // One that was refused is cancelled, and the other goes on.
        let (refused, operation) = task(second);
        assert!(writer.begin(refused, permit()).is_none());
        assert_eq!(operation.result().unwrap_err().code(), Code::State);
        assert!(!writer.writes(second) && writer.writes(first));
        // The cancellation of one that has ended comes when the next is being written.
        let archive = Archive { bytes: 1, paused: Duration::ZERO };
        assert!(writer.on_end(&SnapshotEnd::Complete, archive, false).is_some());
        let (next, _operation) = task(second);
        assert!(writer.begin(next, permit()).is_some());
        assert!(!writer.writes(first) && writer.writes(second));
    }
}
