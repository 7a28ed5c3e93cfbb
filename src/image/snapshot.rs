//! Snapshots: what a sandbox has changed in its root file system, merged with the image below into a new image.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::Digest;
use super::Watch;
use super::handle::Image;
use super::helper::{Helper, LayerInput, Summary, Whiteouts};
use super::options::ImageLimits;
use super::progress::Progress;
use super::service::Shared;
use super::store::{Origin, OriginKind, id_of_file};
use crate::error::{Context, Result};
use crate::event::operation::Completion;

/// A snapshot of a sandbox.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the sandbox had in its root file system, with the configuration of the image that it was started from.
    pub image: Image,
    /// How long the sandbox was paused for it. It isn't paused for one of a directory.
    pub paused: Duration,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files, directories and whatever else.
    pub entries: u64,
    /// How much was left out: what is mounted, and of a directory also sockets and devices.
    pub skipped: u64,
    /// Where something is mounted that was left out, as far as the sandbox's configuration says.
    pub left_out: Vec<String>,
}

/// A sandbox of which a snapshot is taken. Its functions may block; they end soon once `ended` is set.
pub(crate) trait Source: fmt::Debug + Send {
    /// What it is called, for people.
    fn name(&self) -> &str;

    /// The image below its changes.
    fn base(&self) -> Result<OwnedFd>;

    /// The configuration of that image.
    fn config_json(&self) -> &str;

    /// Where something is mounted, which isn't in the snapshot.
    fn left_out(&self) -> Vec<String>;

    /// How many bytes its changed files have. Fails if they are too large to be read.
    fn measure(&self, ended: &AtomicBool) -> Result<u64>;

    /// Writes the changes to a file, as a tar archive of at most that size. Returns its size, and how long the sandbox was
    /// paused.
    fn write(&self, file: OwnedFd, limit: u64, ended: &AtomicBool) -> Result<(u64, Duration)>;
}

/// A snapshot that is to be taken.
#[derive(Debug)]
pub(super) struct Take {
    pub(super) source: Box<dyn Source>,
    /// The name that it gets, in full.
    pub(super) tag: Option<String>,
}

impl Take {
    /// Takes it. The sandbox is paused only while its changes are written, and goes on while they are merged.
    pub(super) fn run(&self, shared: &Shared, completion: &Completion<Snapshot>) -> Result<Snapshot> {
        let (source, ended) = (&*self.source, completion.has_ended());
        let store = shared.store()?;
        let limits = ImageLimits::default();
        let base = std::fs::File::from(source.base()?);
        let base_bytes = base.metadata().context("the size of the image")?.len();
        let progress = Progress::new(completion);
        progress.step("measuring the changes");
        let changed = source.measure(ended)?;
        let archive = store.temporary("changes")?;
        archive.check_space(changed.saturating_mul(2).saturating_add(base_bytes))?;
        progress.set_total(changed.saturating_add(base_bytes));
        progress.step("writing the changes");
        let (written, paused) = source.write(archive.duplicate()?, limits.bytes, ended)?;
        progress.set_total(written.saturating_add(base_bytes));
        progress.step("merging");
        let output = store.temporary("snapshot")?;
        let mut helper: Helper = shared.helper(&output, &limits.into())?;
        let mut count = progress.counter(base_bytes);
        helper.base(base.into(), &mut Watch { cancelled: ended, progress: &mut count })?;
        drop(count);
        let mut count = progress.counter(written);
        let mut watch = Watch { cancelled: ended, progress: &mut count };
        let layer = LayerInput { fd: archive.duplicate()?, range: Some((0, written)) };
        helper.layer(layer, None, Whiteouts::Devices, &mut watch)?;
        let Summary { content_bytes: bytes, entries, .. } = helper.finish(&mut watch)?;
        drop(archive);
        let config = source.config_json();
        let id = id_of_file(output.file(), Digest::of(config.as_bytes()), &|| super::cancelled(ended))?;
        super::cancelled(ended)?;
        let origin = Origin { kind: OriginKind::Snapshot, from: source.name().to_owned() };
        let stored = store.publish(output, id, config.as_bytes(), origin, self.tag.as_deref(), ended)?;
        let left_out = source.left_out();
        let skipped = u64::try_from(left_out.len()).unwrap_or(u64::MAX);
        Ok(Snapshot { image: Image::open(stored)?, paused, bytes, entries, skipped, left_out })
    }
}
