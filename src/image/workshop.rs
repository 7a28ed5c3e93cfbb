//! What a build needs of the store: images to begin with, layers on them, and the index of its steps.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::handle::Image;
use super::helper::{Helper, LayerInput, Whiteouts};
use super::options::{ImageLimits, ImageOptions};
use super::progress::{self, Progress, Stage};
use super::pull::Pull;
use super::registry::Platform;
use super::service::{Name, Shared, Turn};
use super::snapshot::Source;
use super::store::{Origin, OriginKind, Temporary, id_of_file};
use super::workers::Threads;
use super::{Digest, Watch, cancelled};
use crate::error::{Code, Context, Error, Result};
use crate::event::operation::Completion;

/// The most characters of where an image comes from.
const MAX_DESCRIPTION: usize = 500;

/// What a build may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildLimits {
    /// For all of it.
    pub(crate) timeout: Duration,
    /// Of what its images are longer than those below them, together.
    pub(crate) max_bytes: u64,
}

/// The store and the operation, as a build works with them.
pub(crate) struct Workshop<'a> {
    shared: &'a Shared,
    threads: &'a Threads,
    completion: &'a Completion<Image>,
    deadline: Instant,
    max_bytes: u64,
    /// What the images that were made are longer than those below them.
    added_bytes: AtomicU64,
    stage: Mutex<Current>,
    /// When something was reported last.
    reported: Arc<Mutex<Option<Instant>>>,
}

/// The step that goes on.
#[derive(Debug, Default)]
struct Current {
    steps: [u64; 2],
    title: String,
    /// Whether its beginning was reported.
    is_reported: bool,
}

/// What a sandbox has changed: a tar archive of gVisor's.
#[derive(Debug)]
pub(crate) struct Changes {
    archive: Temporary,
    bytes: u64,
}

/// An image in the making.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    workshop: &'a Workshop<'a>,
    helper: Helper,
}

impl<'a> Workshop<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        threads: &'a Threads,
        completion: &'a Completion<Image>,
        limits: BuildLimits,
    ) -> Self {
        let BuildLimits { timeout, max_bytes } = limits;
        let now = Instant::now();
        // A time that the clock can't hold is as good as none.
        let deadline = now.checked_add(timeout).unwrap_or_else(|| now + Duration::from_secs(1 << 30));
        Self {
            shared,
            threads,
            completion,
            deadline,
            max_bytes,
            added_bytes: AtomicU64::new(0),
            stage: Mutex::default(),
            reported: Arc::default(),
        }
    }

    /// How many bytes the next step may add.
    fn step_limit(&self) -> u64 {
        let left = self.max_bytes.saturating_sub(self.added_bytes.load(Ordering::Relaxed));
        left.min(ImageLimits::default().bytes)
    }

    /// Says so where the build's own limit is what an image exceeds.
    fn explain(&self, error: Error) -> Error {
        let added = self.added_bytes.load(Ordering::Relaxed);
        if error.code() != Code::Limit || self.step_limit() == ImageLimits::default().bytes {
            return error;
        }
        let limit = self.max_bytes;
        error.context(format!(
            "the build's steps may add {limit} bytes together (its max_bytes), and have added {added}"
        ))
    }

    /// When the build has to be done.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Set once the operation has ended.
    pub(crate) fn ended(&self) -> &'a AtomicBool {
        self.completion.has_ended()
    }

    /// Fails once the operation has ended, or its time is over. Called often, also to report what goes on.
    pub(crate) fn check(&self) -> Result<()> {
        self.report();
        if Instant::now() >= self.deadline {
            return Err(Error::new(Code::TimedOut, "the build took longer than its timeout"));
        }
        cancelled(self.ended())
    }

    /// A step begins: so many are done, of so many.
    pub(crate) fn begin_step(&self, steps: [u64; 2], title: &str) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        *stage = Current { steps, title: title.to_owned(), is_reported: false };
        drop(stage);
        self.report();
    }

    /// Reports the step that goes on, unless that was done, or something else was reported just now.
    fn report(&self) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if !stage.is_reported && progress::is_due(&mut reported, Instant::now()) {
            stage.is_reported = true;
            self.completion.report(stage.steps, &stage.title);
        }
    }

    fn progress(&self) -> Progress<'a, Image> {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let (steps, title) = (stage.steps, stage.title.clone());
        let reported = Arc::clone(&self.reported);
        Progress::of_stage(self.completion, Stage { steps, title, deadline: self.deadline, reported })
    }

    /// The image of that name in the store.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Image>> {
        match self.shared.find(&Name::parse(name)?) {
            Ok(stored) => Image::open(stored).map(Some),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls the image of that name.
    pub(crate) fn pull(&self, name: &str) -> Result<Image> {
        let pull = Pull::new(name, &ImageOptions::new(), &self.shared.registry)?;
        pull.run(self.shared, self.threads, &self.progress(), self.ended())
    }

    /// The configuration of an image that begins with nothing.
    pub(crate) fn empty_config() -> String {
        let platform = Platform::host();
        serde_json::json!({ "os": platform.os(), "architecture": platform.architecture() }).to_string()
    }

    /// Waits until no other build here does this step.
    pub(crate) fn take_turn(&self, key: Digest) -> Result<Turn<'a>> {
        self.shared.take_turn(key, &|| self.check())
    }

    /// What a step has made before, at most so long ago.
    pub(crate) fn find_step(&self, key: Digest, max_age: Option<Duration>) -> Result<Option<Image>> {
        // An image that is damaged is made again.
        let stored = self.shared.store()?.step(key, max_age).unwrap_or_default();
        Ok(stored.and_then(|stored| Image::open(stored).ok()))
    }

    /// Notes what a step has made. Where that can't be written, the step is done again the next time.
    pub(crate) fn remember_step(&self, key: Digest, image: &Image) {
        let noted = Digest::parse(image.id())
            .ok_or_else(|| Error::new(Code::Internal, format!("image {}: its id is none", image.id())))
            .and_then(|id| self.shared.store()?.set_step(key, id));
        if let Err(cause) = noted {
            log::warn!("a build's step is not remembered: {cause}");
        }
    }

    /// The image, with one more name.
    pub(crate) fn tag(&self, image: &Image, tag: &str) -> Result<Image> {
        let store = self.shared.store()?;
        let id = Digest::parse(image.id())
            .ok_or_else(|| Error::new(Code::Internal, format!("image {}: its id is none", image.id())))?;
        store.tag(id, tag)?;
        store.get(id)?.map_or_else(|| Ok(image.clone()), Image::open)
    }

    /// Writes down what a sandbox has changed, while it is paused.
    pub(crate) fn changes(&self, source: &dyn Source) -> Result<Changes> {
        let progress = self.progress();
        progress.step("measuring the changes");
        let changed = source.measure(self.ended())?;
        let archive = self.shared.store()?.temporary("changes")?;
        archive.check_space(changed.saturating_mul(2))?;
        progress.step("writing the changes");
        let (bytes, _) = source
            .write(archive.duplicate()?, self.step_limit(), self.ended())
            .map_err(|error| self.explain(error))?;
        Ok(Changes { archive, bytes })
    }

    /// Makes an image: another one's files, and what `add` adds to them, with this configuration. `from` says for people
    /// what made it.
    pub(crate) fn make(
        &self,
        base: Option<&Image>,
        config: &str,
        from: &str,
        add: impl FnOnce(&mut Layers<'_>) -> Result<()>,
    ) -> Result<Image> {
        self.make_within(base, config, from, add).map_err(|error| self.explain(error))
    }

    fn make_within(
        &self,
        base: Option<&Image>,
        config: &str,
        from: &str,
        add: impl FnOnce(&mut Layers<'_>) -> Result<()>,
    ) -> Result<Image> {
        let store = self.shared.store()?;
        let output = store.temporary("build")?;
        let base_file = base.map(|base| base.open_file().map(std::fs::File::from)).transpose()?;
        let base_bytes = match &base_file {
            Some(file) => file.metadata().context("the size of the image")?.len(),
            None => 0,
        };
        let limit = self.step_limit().saturating_add(base_bytes).min(ImageLimits::default().bytes);
        let limits = ImageLimits { bytes: limit, ..ImageLimits::default() };
        let helper = self.shared.helper(&output, &limits.into())?;
        let mut layers = Layers { workshop: self, helper };
        if let Some(file) = base_file {
            output.check_space(base_bytes)?;
            let progress = self.progress();
            progress.step("reading the image below");
            let mut count = progress.counter(u64::MAX);
            layers.helper.base(file.into(), &mut Watch { cancelled: self.ended(), progress: &mut count })?;
        }
        add(&mut layers)?;
        let progress = self.progress();
        progress.step("writing the image");
        let mut count = progress.counter(u64::MAX);
        layers.helper.finish(&mut Watch { cancelled: self.ended(), progress: &mut count })?;
        let bytes = output.file().metadata().context("the size of the image")?.len();
        if bytes > limit {
            return Err(Error::new(
                Code::Limit,
                format!("the step's image has {bytes} bytes, limit {limit}"),
            ));
        }
        let id = id_of_file(output.file(), Digest::of(config.as_bytes()), &|| self.check())?;
        self.check()?;
        let from = from.chars().take(MAX_DESCRIPTION).collect();
        let origin = Origin { kind: OriginKind::Build, from };
        let stored = store.publish(output, id, config.as_bytes(), origin, None, self.ended())?;
        self.added_bytes.fetch_add(bytes.saturating_sub(base_bytes), Ordering::Relaxed);
        Image::open(stored)
    }
}

impl Layers<'_> {
    /// Whether there is a directory at a path, links followed.
    pub(crate) fn has_directory(&mut self, path: &str) -> Result<bool> {
        let mut watch = Watch { cancelled: self.workshop.ended(), progress: &mut |_| () };
        self.helper.has_directory(path.as_bytes(), &mut watch)
    }

    /// Adds what a sandbox has changed.
    pub(crate) fn add_changes(&mut self, changes: &Changes) -> Result<()> {
        self.add_archive(&changes.archive, changes.bytes, Whiteouts::Devices, "merging")
    }

    /// Adds a tar archive, as `write` writes it, of files that have so many bytes.
    pub(crate) fn add_tar(
        &mut self,
        bytes: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let limit = self.workshop.step_limit();
        if bytes > limit {
            return Err(Error::new(
                Code::Limit,
                format!("the step's files have {bytes} bytes, limit {limit}"),
            ));
        }
        let archive = self.workshop.shared.store()?.temporary("files")?;
        // For the archive, and for the image.
        archive.check_space(bytes.saturating_mul(2))?;
        let mut into = io::BufWriter::with_capacity(
            256 * 1024,
            Counted {
                file: archive.file(),
                bytes: 0,
                limit: ImageLimits::default().bytes,
                of: self.workshop,
            },
        );
        write(&mut into)?;
        let bytes = into.into_inner().map_err(io::IntoInnerError::into_error).context("copying files")?.bytes;
        self.add_archive(&archive, bytes, Whiteouts::None, "copying files")
    }

    fn add_archive(&mut self, file: &Temporary, bytes: u64, whiteouts: Whiteouts, what: &str) -> Result<()> {
        file.check_space(bytes)?;
        let progress = self.workshop.progress();
        progress.step(what);
        let mut count = progress.counter(bytes);
        let mut watch = Watch { cancelled: self.workshop.ended(), progress: &mut count };
        let input = LayerInput { fd: file.duplicate()?, range: Some((0, bytes)) };
        self.helper.layer(input, None, whiteouts, &mut watch)
    }
}

/// A file that counts what is written to it, and ends with the operation.
struct Counted<'a> {
    file: &'a std::fs::File,
    bytes: u64,
    limit: u64,
    of: &'a Workshop<'a>,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.of.check().map_err(|error| io::Error::other(error.message().to_owned()))?;
        if self.bytes.saturating_add(bytes.len() as u64) > self.limit {
            return Err(io::Error::other(format!("more than {} bytes are copied", self.limit)));
        }
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Workshop<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workshop").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
