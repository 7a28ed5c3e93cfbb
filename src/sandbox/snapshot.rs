//! Snapshots: a sandbox as the source of a new image ([`crate::image::Snapshot`]).

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::files::{FileOperation, FileTotals, begin_measure};
use super::stamp::available_memory;
use super::stats::wait_for_stats;
use super::{Archive, ArchiveTask, Command, Control, Sandbox, Shared, State, archive};
use crate::config::image::RootImage;
use crate::config::{Config, Mount};
use crate::error::{Code, Error, Result};
use crate::event::{Operation, Queue};
use crate::image::{Images, Snapshot, Source};

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
    /// ms, and up to two seconds for a gigabyte); its connections stay open. They go on before the changes are merged with the
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
        Ok(Box::new(Root { name, shared, control, base, at_exit: false }))
    }

    /// The exit snapshot, once the sandbox has ended: [`crate::Config::set_exit_snapshot`]. If there is none, the error is
    /// why.
    pub fn exit_snapshot(&self) -> Result<Snapshot> {
        let shared = self.shared();
        if shared.config.exit_snapshot().is_none() {
            let text = format!("sandbox {}: was created without an exit snapshot", self.id());
            return Err(Error::new(Code::NotFound, text));
        }
        let facts = shared.facts();
        match (&facts.exit_snapshot, &facts.failure) {
            (Some(taken), _) => taken.clone(),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => {
                let text = format!("sandbox {}: its exit snapshot is there once it has ended", self.id());
                Err(Error::new(Code::State, text))
            }
        }
    }
}

/// Begins the exit snapshot of a sandbox, whose programs were killed. `began` is called when its turn has come, `then` at
/// its end.
pub(super) fn begin_at_exit(
    shared: &Arc<Shared>,
    control: &Control,
    images: &Images,
    began: impl FnOnce() + Send + 'static,
    then: impl FnOnce() + Send + 'static,
) -> Result<Operation<Snapshot>> {
    let (Some(base), Some(tag)) = (shared.config.image().cloned(), shared.config.exit_snapshot()) else {
        debug_assert!(false, "a sandbox with an exit snapshot is on an image");
        return Err(Error::new(Code::Internal, "no exit snapshot was asked for: a bug of the library"));
    };
    let name = format!("sandbox {}", shared.id);
    let root = Root { name, shared: Arc::clone(shared), control: control.clone(), base, at_exit: true };
    images.snapshot_at_exit(Box::new(root), tag.as_deref(), began, then)
}

/// The root file system of a sandbox that runs, or of one that is ending.
#[derive(Debug)]
struct Root {
    name: String,
    shared: Arc<Shared>,
    control: Control,
    base: RootImage,
    /// Its programs were killed, and this is its exit snapshot.
    at_exit: bool,
}

impl Root {
    /// The largest file that can be read with the memory that is free: of the sandbox's own limit, or of the host's.
    fn largest_file(&self) -> Result<u64> {
        let free = match self.shared.config.limits().memory {
            Some(limit) => {
                let asks = self.at_exit || self.shared.facts().state == State::Running;
                let stats = wait_for_stats(&self.shared, &self.control, asks)?;
                limit.saturating_sub(stats.memory.unwrap_or(0))
            }
            None => available_memory().unwrap_or(u64::MAX),
        };
        Ok((free / MEMORY_FACTOR).min(MAX_FILE_BYTES))
    }
}

/// Waits for something: calls `wait`, which waits for a short while and returns whether it has ended, and `cancel` once if it
/// is to end before.
fn wait_until(ended: &AtomicBool, mut wait: impl FnMut() -> bool, cancel: impl FnOnce()) {
    let mut cancel = Some(cancel);
    while !wait() {
        if ended.load(Ordering::Relaxed)
            && let Some(cancel) = cancel.take()
        {
            cancel();
        }
    }
}

/// Waits for an operation on files, which is cancelled once `ended` is set.
pub(super) fn wait_for(operation: &FileOperation, ended: &AtomicBool) -> Result<FileTotals> {
    let wait = || {
        // What it ends with is read below.
        let _ = operation.wait(Some(POLL_INTERVAL));
        operation.has_ended()
    };
    wait_until(ended, wait, || operation.cancel());
    operation.totals()
}

impl Source for Root {
    fn name(&self) -> &str {
        &self.name
    }

    fn base(&self) -> Result<OwnedFd> {
        self.base.file.open()
    }

    fn config_json(&self) -> &str {
        self.base.file.config_json()
    }

    fn left_out(&self) -> Vec<String> {
        mounts_below(&self.shared.config, Path::new("/"))
    }

    fn measure(&self, ended: &AtomicBool) -> Result<u64> {
        let operation = begin_measure(&self.shared, &self.control, self.largest_file()?, self.at_exit)?;
        wait_for(&operation, ended).map(|totals| totals.bytes)
    }

    fn write(&self, file: OwnedFd, limit: u64, ended: &AtomicBool) -> Result<(u64, Duration)> {
        let (sandbox, number) = (self.shared.number, archive::next_number());
        let title = format!("writing the changes of {}", self.name);
        let lost = Error::sandbox_ended(&self.name, None);
        let (operation, completion) = Operation::new(title, lost);
        let (time, at_exit) = (ARCHIVE_TIME, self.at_exit);
        let task = ArchiveTask { sandbox, number, file, bytes: limit, time, at_exit, completion };
        self.control.send(Command::Archive(Box::new(task)))?;
        let wait = || {
            // What it ends with is read below.
            let _ = operation.wait(Some(POLL_INTERVAL));
            operation.has_ended()
        };
        // The sandbox is resumed before the operation ends, also if it is cancelled.
        wait_until(ended, wait, || {
            // A runtime that is gone has ended the sandbox.
            let _ = self.control.send(Command::EndArchive { sandbox, number });
        });
        let written = operation.result();
        let written = if self.at_exit { written } else { self.shared.unless_ended(written) };
        let Archive { bytes, paused } = *written?;
        log::debug!("{}: paused for {paused:?} while {bytes} bytes were written", self.name);
        Ok((bytes, paused))
    }
}

/// Where something is mounted below a directory of a sandbox, in order.
pub(super) fn mounts_below(config: &Config, directory: &Path) -> Vec<String> {
    const ALWAYS: [&str; 5] = ["/dev", "/dev/shm", "/proc", "/sys", "/tmp"];
    let mounts = config.mounts().iter().map(Mount::destination);
    let images = config.image_mounts().iter().map(|mount| mount.destination.as_str());
    let volumes = config.volumes().iter().map(|volume| volume.destination.as_str());
    let always = ALWAYS.into_iter().filter(|place| *place != "/tmp" || !config.has_tmp_in_root());
    let is_below = |place: &&str| Path::new(place).starts_with(directory) && Path::new(place) != directory;
    let all: BTreeSet<&str> = always.chain(mounts).chain(images).chain(volumes).filter(is_below).collect();
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VolumeMount;

    #[test]
    fn what_is_mounted_below_a_directory_is_named_once() {
        let mut config = Config::new();
        config.mount_read_only("/srv", "/data/b").unwrap().mount_writable("/srv", "/tmp").unwrap();
        config.mount_writable("/srv", "/database").unwrap();
        let below = |directory: &str| mounts_below(&config, Path::new(directory));
        assert_eq!(below("/data"), ["/data/b"]);
        assert_eq!(below("/data/"), ["/data/b"]);
        assert_eq!(below("/data/b"), [""; 0], "itself is taken");
        let all = ["/data/b", "/database", "/dev", "/dev/shm", "/proc", "/sys", "/tmp"];
        assert_eq!(below("/"), all);
        let mut config = Config::new();
        config.mount_volume(&VolumeMount::new("models"), "/models").unwrap().keep_tmp_in_root();
        assert_eq!(mounts_below(&config, Path::new("/")), ["/dev", "/dev/shm", "/models", "/proc", "/sys"]);
    }
}
