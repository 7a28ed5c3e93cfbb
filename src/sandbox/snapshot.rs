//! Snapshots: a sandbox as the source of a new image ([`crate::image::Snapshot`]).

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Archive, ArchiveTask, Command, Control, Sandbox, Shared, State, WeakSandbox, archive};
use crate::config::image::RootImage;
use crate::error::{Code, Error, Result};
use crate::event::{Operation, Queue};
use crate::image::{Snapshot, Source};

/// How long writing the changes may take, in which the sandbox is paused. Less than what a stalled operation on files has.
const ARCHIVE_TIME: Duration = Duration::from_secs(50);
/// The largest file that is read, whatever memory is free.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// The sentry reads each file whole. With what its collector has not freed yet, that takes up to three times the size of
/// the largest (measured), and is freed minutes later: some is left to the programs.
const MEMORY_FACTOR: u64 = 4;
/// How often it is looked whether the operation was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Sandbox {
    /// Stores what is in its root file system as a new image, and waits for that. `tag` is a name for it.
    ///
    /// The sandbox must have been started from an image. Its programs are paused while their changes are written (some 30
    /// ms, and about a second for a gigabyte); its connections stay open. They go on before the changes are merged with the
    /// image. What is mounted is not in a snapshot: /tmp, /dev, /dev/shm, mounted directories and images. Neither are
    /// sockets, and extended attributes; times of modification are rounded to seconds.
    ///
    /// A file may have at most a quarter of the memory that is free, since gVisor reads each one whole: beyond that the
    /// snapshot fails with [`Code::Limit`], and the sandbox goes on. What reading takes counts as the sandbox's memory until
    /// gVisor gives it back, which may be minutes later.
    pub fn snapshot(&self, tag: Option<&str>) -> Result<Snapshot> {
        let taken = self.snapshot_begin(tag, None)?.wait(None);
        self.shared().unless_ended(taken.map(|snapshot| (*snapshot).clone()))
    }

    /// Begins that and returns at once. With a queue its end is an event (`OperationDone`) there, with that cookie; its
    /// values are the bytes of the image and the microseconds in which the sandbox was paused.
    ///
    /// The operation doesn't keep the sandbox alive. If it is cancelled, the sandbox is resumed soon after.
    pub fn snapshot_begin(
        &self,
        tag: Option<&str>,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<Snapshot>> {
        let running = self.snapshot_source()?;
        let images = self.images().ok_or_else(Error::shut_down)?;
        images.snapshot(running, tag, events)
    }

    /// The sandbox as what a snapshot is taken of.
    pub(crate) fn snapshot_source(&self) -> Result<Box<dyn Source>> {
        let Some(base) = self.shared().config.image().cloned() else {
            let text = format!(
                "sandbox {}: only a sandbox that was started from an image has snapshots; import its root directory as an \
                 image, and start from that",
                self.id()
            );
            return Err(Error::new(Code::Unsupported, text));
        };
        match self.state() {
            State::Running => {}
            State::Starting => return Err(Error::still_starting(self.id())),
            State::Ending | State::Ended => return Err(self.shared().ended()),
        }
        let (shared, control) = (Arc::clone(self.shared()), self.control().clone());
        let name = format!("sandbox {}", self.id());
        Ok(Box::new(Running { name, sandbox: self.downgrade(), shared, control, base }))
    }
}

/// A sandbox that runs.
#[derive(Debug)]
struct Running {
    name: String,
    sandbox: WeakSandbox,
    shared: Arc<Shared>,
    control: Control,
    base: RootImage,
}

impl Running {
    fn sandbox(&self) -> Result<Sandbox> {
        self.sandbox.upgrade().ok_or_else(|| self.shared.ended())
    }

    /// The largest file that can be read with the memory that is free: of the sandbox's own limit, or of the host's.
    fn largest_file(&self) -> Result<u64> {
        let free = match self.shared.config.limits().memory {
            Some(limit) => limit.saturating_sub(self.sandbox()?.stats()?.memory.unwrap_or(0)),
            None => available_memory().unwrap_or(u64::MAX),
        };
        Ok((free / MEMORY_FACTOR).min(MAX_FILE_BYTES))
    }

    /// Waits for the operation, and calls `cancel` once if it is to end before.
    fn wait<T>(operation: &Operation<T>, ended: &AtomicBool, cancel: impl FnOnce()) -> Result<Arc<T>> {
        let mut cancel = Some(cancel);
        while !operation.has_ended() {
            // What it ends with is read below.
            let _ = operation.wait(Some(POLL_INTERVAL));
            if ended.load(Ordering::Relaxed)
                && let Some(cancel) = cancel.take()
            {
                cancel();
            }
        }
        operation.result()
    }
}

impl Source for Running {
    fn name(&self) -> &str {
        &self.name
    }

    fn base(&self) -> Result<OwnedFd> {
        self.base.file.open()
    }

    fn config_json(&self) -> &str {
        self.base.file.config_json()
    }

    fn measure(&self, ended: &AtomicBool) -> Result<u64> {
        let operation = self.sandbox()?.begin_measure(self.largest_file()?)?;
        while !operation.has_ended() {
            // What it ends with is read below.
            let _ = operation.wait(Some(POLL_INTERVAL));
            if ended.load(Ordering::Relaxed) {
                operation.cancel();
            }
        }
        operation.totals().map(|totals| totals.bytes)
    }

    fn write(&self, file: OwnedFd, limit: u64, ended: &AtomicBool) -> Result<(u64, Duration)> {
        let (sandbox, number) = (self.shared.number, archive::next_number());
        let title = format!("writing the changes of {}", self.name);
        let lost = Error::sandbox_ended(&self.name, None);
        let (operation, completion) = Operation::new(title, lost);
        let task = ArchiveTask { sandbox, number, file, bytes: limit, time: ARCHIVE_TIME, completion };
        self.control.send(Command::Archive(Box::new(task)))?;
        // The sandbox is resumed before the operation ends, also if it is cancelled.
        let written = Self::wait(&operation, ended, || {
            // A runtime that is gone has ended the sandbox.
            let _ = self.control.send(Command::EndArchive { sandbox, number });
        });
        let Archive { bytes, paused } = *self.shared.unless_ended(written)?;
        log::debug!("{}: paused for {paused:?} while {bytes} bytes were written", self.name);
        Ok((bytes, paused))
    }
}

/// The host's memory that is available for programs (proc_meminfo(5)).
pub(super) fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_memory_is_read() {
        let bytes = available_memory().unwrap();
        assert!((1 << 24..1 << 50).contains(&bytes), "{bytes}");
    }
}
