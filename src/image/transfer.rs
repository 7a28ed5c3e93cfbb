//! Trees that move between a sandbox and an image: a directory of a sandbox becomes an image, and an image is copied into a
//! sandbox.
//!
//! Both are a tar archive on a stream. Its one end has a process in the sandbox, its other end the confined process that
//! reads and writes images, so that the library itself reads none of it.

use std::fmt;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::archive::plain_config;
use super::handle::Image;
use super::helper::{Exported, Helper, LayerInput, Summary, Whiteouts};
use super::options::ImageLimits;
use super::progress::Progress;
use super::registry::Platform;
use super::service::Shared;
use super::snapshot::Snapshot;
use super::store::{Origin, OriginKind, id_of_file};
use super::{Digest, Watch, cancelled};
use crate::error::{Code, Context, Error, Result};
use crate::event::operation::Completion;
use crate::keeper::wire::files::Totals;

/// What a directory leaves free in the image store's file system.
const SPACE_MARGIN: u64 = 64 << 20;
/// How long the sandbox may take to say how its part has ended once it has no stream any more. What is inside may be hostile,
/// and say only that it works.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// After how many bytes of a directory the free space is looked at again: others write there, too.
const SPACE_INTERVAL: u64 = 16 << 20;

/// What was copied of an image into a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopiedImage {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories and whatever else.
    pub entries: u64,
    /// What was left out: devices and sockets.
    pub skipped: u64,
}

/// The sandbox's side of a tree that moves. Dropping it ends what it has begun. Its functions may block; they end soon once
/// `ended` is set.
pub(crate) trait Transfer: fmt::Debug + Send {
    /// What it is called, for people.
    fn name(&self) -> &str;

    /// Where something is mounted in the directory, which isn't taken along.
    fn left_out(&self) -> Vec<String>;

    /// Begins it, with at most so many bytes of files. Returns the other end of its stream, which blocks.
    fn begin(&mut self, limit: u64) -> Result<OwnedFd>;

    /// Waits until the sandbox has done its part. After `patience` that is cancelled.
    fn wait(&self, ended: &AtomicBool, patience: Option<Duration>) -> Result<Totals>;
}

/// A directory of a sandbox of which a snapshot is to be taken.
#[derive(Debug)]
pub(super) struct TakeDirectory {
    pub(super) transfer: Box<dyn Transfer>,
    /// The name that it gets, in full.
    pub(super) tag: Option<String>,
}

impl TakeDirectory {
    pub(super) fn run(mut self, shared: &Shared, completion: &Completion<Snapshot>) -> Result<Snapshot> {
        let ended = completion.has_ended();
        let store = shared.store()?;
        let limits = ImageLimits::default();
        let progress = Progress::new(completion);
        progress.step("reading the directory");
        let output = store.temporary("snapshot")?;
        let mut helper = shared.helper(&output, &limits.into())?;
        output.check_space(SPACE_MARGIN)?;
        let room = output.free_space()?.saturating_sub(SPACE_MARGIN);
        let stream = self.transfer.begin(limits.bytes.min(room))?;
        let mut count = progress.counter(u64::MAX);
        let mut space = SpaceCheck::default();
        let mut count_and_check = |bytes| {
            count(bytes);
            if space.is_due(bytes)
                && let Err(full) = output.check_space(SPACE_MARGIN)
            {
                completion.abandon(full);
            }
        };
        let mut watch = Watch { cancelled: ended, progress: &mut count_and_check };
        let layer = LayerInput { fd: stream, range: None };
        let read = helper.layer(layer, None, Whiteouts::None, &mut watch);
        let (helper, (), totals) =
            both(helper, read, &*self.transfer, ended, Some(ANSWER_TIMEOUT)).map_err(|error| match error
                .code()
            {
                Code::Limit if room < limits.bytes => {
                    error.context(format!("the image store has {room} bytes free for it"))
                }
                _ => error,
            })?;
        progress.step("writing the image");
        let Summary { content_bytes: bytes, entries, .. } =
            helper.finish_as_it_is(&mut Watch { cancelled: ended, progress: &mut |_| () })?;
        let config = plain_config(&Platform::host());
        let id = id_of_file(output.file(), Digest::of(&config), &|| cancelled(ended))?;
        cancelled(ended)?;
        let origin = Origin { kind: OriginKind::Snapshot, from: self.transfer.name().to_owned() };
        let stored = store.publish(output, id, &config, origin, self.tag.as_deref(), ended)?;
        let (image, paused, skipped) = (Image::open(stored)?, Duration::ZERO, totals.skipped);
        Ok(Snapshot { image, paused, bytes, entries, skipped, left_out: self.transfer.left_out() })
    }
}

/// When the free space is looked at again.
#[derive(Debug, Default)]
struct SpaceCheck {
    /// After so many bytes.
    next: u64,
}

impl SpaceCheck {
    fn is_due(&mut self, bytes: u64) -> bool {
        let is_due = bytes >= self.next;
        if is_due {
            self.next = bytes.saturating_add(SPACE_INTERVAL);
        }
        is_due
    }
}

/// An image that is to be copied into a sandbox.
#[derive(Debug)]
pub(super) struct CopyOut {
    pub(super) image: Image,
    pub(super) transfer: Box<dyn Transfer>,
}

impl CopyOut {
    pub(super) fn run(
        mut self,
        shared: &Shared,
        completion: &Completion<CopiedImage>,
    ) -> Result<CopiedImage> {
        let ended = completion.has_ended();
        let limits = ImageLimits::default();
        let progress = Progress::new(completion);
        progress.set_total(self.image.info().bytes);
        progress.step("copying the image");
        // The process writes into the stream only; its own output stays empty.
        let output = shared.store()?.temporary("question")?;
        let mut helper = shared.helper(&output, &limits.into())?;
        let stream = UnixStream::from(self.transfer.begin(limits.bytes)?);
        let end = stream.try_clone().context("a copy of a stream")?;
        let mut count = progress.counter(self.image.info().bytes);
        let mut watch = Watch { cancelled: ended, progress: &mut count };
        let written = helper.export(self.image.open_file()?, stream.into(), &mut watch);
        if written.is_ok() {
            // A forked child of the host may hold a copy of the descriptor. A stream that is broken shows in the sandbox's
            // answer.
            let _ = end.shutdown(Shutdown::Write);
        }
        drop(end);
        let (_helper, Exported { skipped, .. }, totals) =
            both(helper, written, &*self.transfer, ended, None)?;
        Ok(CopiedImage { bytes: totals.bytes, entries: totals.entries, skipped })
    }
}

/// How a transfer has ended, if the process on this side has done its part.
fn both<T>(
    helper: Helper,
    done: Result<T>,
    transfer: &dyn Transfer,
    ended: &AtomicBool,
    patience: Option<Duration>,
) -> Result<(Helper, T, Totals)> {
    match done {
        Ok(done) => match transfer.wait(ended, patience) {
            Err(error) if error.code() == Code::Closed => {
                cancelled(ended)?;
                let text = format!("{}: the sandbox does not say that it is done", transfer.name());
                Err(Error::new(Code::Engine, text))
            }
            waited => Ok((helper, done, waited?)),
        },
        Err(error) => Err(cause(helper, error, transfer, ended)),
    }
}

/// Why the process on this side has failed: what the sandbox says counts, unless that is that its stream was closed.
fn cause(helper: Helper, error: Error, transfer: &dyn Transfer, ended: &AtomicBool) -> Error {
    if let Err(error) = cancelled(ended) {
        return error;
    }
    // With it its end of the stream is closed, which ends the sandbox's part.
    drop(helper);
    match transfer.wait(ended, Some(ANSWER_TIMEOUT)) {
        Err(inside) if inside.code() != Code::Closed => inside,
        _ => error.context(transfer.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_free_space_is_looked_at_now_and_then() {
        let mut check = SpaceCheck::default();
        let mut due = |bytes| check.is_due(bytes);
        assert!(due(0) && !due(1) && !due(SPACE_INTERVAL - 1));
        assert!(due(3 * SPACE_INTERVAL) && !due(4 * SPACE_INTERVAL - 1) && due(4 * SPACE_INTERVAL));
    }
}
