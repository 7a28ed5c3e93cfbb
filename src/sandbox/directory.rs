//! Directories: one of a sandbox as a new image, and an image's files in a directory of a sandbox
//! ([`crate::image::Transfer`]).

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::files::{FileOperation, check_path};
use super::snapshot::mounts_below;
use super::{Sandbox, Shared, State, WeakSandbox};
use crate::error::{Code, Context, Error, Result};
use crate::event::{Operation, Queue};
use crate::image::{CopiedImage, Image, Images, Snapshot, Transfer};
use crate::keeper::wire::files::Totals;

/// How long reading or writing a directory may take in the sandbox.
const TIME_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether something has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Sandbox {
    /// Stores a directory as a new image whose root it is, and waits for that. `tag` is a name for it.
    ///
    /// Any directory will do, on any root: also in /tmp, and in what is mounted. Owners, modes, and hard and symbolic links
    /// are as inside; times are in whole seconds. Sockets, devices and what is mounted in the directory are left out and
    /// counted; extended attributes are left out. Of files there may be 16 GiB, holes included, and it may take 15 minutes.
    ///
    /// Programs go on meanwhile, and what they change is handled as tar does: what is removed before it is read is left out,
    /// a file has the size that it has when it is opened, and what it lacks of that later reads as zeroes. For files as they
    /// are at one moment take [`Sandbox::snapshot`].
    pub fn snapshot_directory(&self, path: impl AsRef<Path>, tag: Option<&str>) -> Result<Snapshot> {
        let taken = self.snapshot_directory_begin(path, tag, None)?.wait(None);
        self.shared().unless_ended(taken.map(|snapshot| (*snapshot).clone()))
    }

    /// Begins that and returns at once. With a queue its end is an event (`OperationDone`) there, with that cookie; its
    /// values are the bytes of the image and what was left out.
    ///
    /// The operation doesn't keep the sandbox alive.
    pub fn snapshot_directory_begin(
        &self,
        path: impl AsRef<Path>,
        tag: Option<&str>,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<Snapshot>> {
        let (images, transfer) = self.transfer(path.as_ref(), Direction::Out)?;
        images.snapshot_directory(Box::new(transfer), tag, events)
    }

    /// Copies the files of an image into a directory, and waits for that. The directory and those above are made if they are
    /// missing. What is there stays, but for files of the image's names, which are replaced; a directory on the one side and
    /// a file on the other is an error.
    ///
    /// It is a copy: it takes the sandbox's memory, or counts against its limit of the disk, as if its programs had written
    /// it, and what is changed there later changes nothing in the image. Owners, modes, and hard and symbolic links are as
    /// in the image; times are in whole seconds; devices and sockets are left out and counted. An image that is known when
    /// the sandbox is created is better mounted ([`crate::Config::mount_image`]), which costs nothing. It may take 15
    /// minutes. If it fails, or is cancelled, what was copied until then stays.
    pub fn copy_image(&self, image: &Image, path: impl AsRef<Path>) -> Result<CopiedImage> {
        let copied = self.copy_image_begin(image, path, None)?.wait(None);
        self.shared().unless_ended(copied.map(|copied| *copied))
    }

    /// Begins that and returns at once. With a queue its end is an event (`OperationDone`) there, with that cookie; its
    /// values are the bytes that were copied.
    ///
    /// The operation doesn't keep the sandbox alive.
    pub fn copy_image_begin(
        &self,
        image: &Image,
        path: impl AsRef<Path>,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<CopiedImage>> {
        let (images, transfer) = self.transfer(path.as_ref(), Direction::In)?;
        images.copy_out(image, Box::new(transfer), events)
    }

    fn transfer(&self, path: &Path, direction: Direction) -> Result<(Arc<Images>, DirectoryTransfer)> {
        check_path(path)?;
        if direction == Direction::In && path.components().nth(1).is_none() {
            return Err(Error::invalid("path \"/\": an image is copied into a directory below the root"));
        }
        match self.state() {
            State::Running => {}
            State::Starting => return Err(Error::still_starting(self.id())),
            State::Ending | State::Ended => return Err(self.shared().ended()),
        }
        let images = self.images().ok_or_else(Error::shut_down)?;
        let transfer = DirectoryTransfer {
            name: format!("{} of sandbox {}", path.display(), self.id()),
            sandbox: self.downgrade(),
            shared: Arc::clone(self.shared()),
            path: path.to_owned(),
            direction,
            operation: None,
        };
        Ok((images, transfer))
    }
}

/// Out of the sandbox, or into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

/// A directory of a sandbox that runs.
#[derive(Debug)]
struct DirectoryTransfer {
    name: String,
    sandbox: WeakSandbox,
    shared: Arc<Shared>,
    path: PathBuf,
    direction: Direction,
    operation: Option<FileOperation>,
}

impl Transfer for DirectoryTransfer {
    fn name(&self) -> &str {
        &self.name
    }

    fn left_out(&self) -> Vec<String> {
        mounts_below(&self.shared.config, &self.path)
    }

    fn begin(&mut self, limit: u64) -> Result<OwnedFd> {
        let sandbox = self.sandbox.upgrade().ok_or_else(|| self.shared.ended())?;
        let operation = match self.direction {
            Direction::Out => sandbox.begin_pack_layer(&self.path, limit, TIME_LIMIT)?,
            Direction::In => sandbox.begin_unpack_image(&self.path, limit, TIME_LIMIT)?,
        };
        let stream = UnixStream::from(operation.open_stream()?);
        self.operation = Some(operation);
        stream.set_nonblocking(false).context("a stream of a sandbox")?;
        Ok(stream.into())
    }

    fn wait(&self, ended: &AtomicBool, patience: Option<Duration>) -> Result<Totals> {
        let Some(operation) = &self.operation else {
            debug_assert!(false, "what is waited for was begun");
            return Err(Error::new(Code::Internal, "a directory that was never begun: a bug of the library"));
        };
        if let Some(patience) = patience {
            // The time that all of it may take bounds this, too.
            let begin = Instant::now();
            while !operation.has_ended() && !ended.load(Ordering::Relaxed) && begin.elapsed() < patience {
                // What it ends with is read below.
                let _ = operation.wait(Some(POLL_INTERVAL));
            }
            if !operation.has_ended() {
                operation.cancel();
            }
        }
        let totals = super::snapshot::wait_for(operation, ended)?;
        Ok(Totals { bytes: totals.bytes, entries: totals.entries, skipped: totals.skipped })
    }
}
