//! The operations on a runtime's images: each runs on one of its threads and ends with one result.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::handle::{Image, ImageInfo};
use super::helper::{Helper, Limits};
use super::import::Import;
use super::options::{ImageLimits, ImageOptions, ImageSource, PrunedImages};
use super::progress::Progress;
use super::pull::Pull;
use super::reference::Reference;
use super::registry::RegistrySettings;
use super::snapshot::{Snapshot, Source, Take};
use super::store::{ImageId, Store, StoredImage, Temporary};
use super::transfer::{CopiedImage, CopyOut, TakeDirectory, Transfer};
use super::workers::{Pace, Threads, Workers};
use super::workshop::{BuildLimits, Workshop};
use crate::error::{Code, Context, Error, Result};
use crate::event::operation::{Completion, Notice, Operation};
use crate::event::{EventKind, Queue};
use crate::keeper::Program;

/// How often a thread that waits for another's pull looks whether its operation has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Where the event of an operation's end goes.
type Events<'a> = Option<(&'a Queue, u64)>;

/// Where the keeper's program comes from when it is needed.
type ProgramSource = Box<dyn Fn() -> Result<Arc<Program>> + Send + Sync>;

/// A runtime's images.
#[derive(Debug)]
pub(crate) struct Images {
    shared: Arc<Shared>,
    workers: Workers,
}

/// What its threads share.
pub(super) struct Shared {
    /// Where the store is, by the runtime's config and environment.
    directory: Result<PathBuf>,
    pub(super) registry: RegistrySettings,
    program: ProgramSource,
    store: OnceCell<Store>,
    /// Images that are being made, so that the same one isn't made twice at once.
    being_made: Mutex<HashSet<ImageId>>,
    made: Condvar,
}

impl Images {
    /// The images in this directory. Reads nothing yet.
    pub(crate) fn new(
        directory: Result<PathBuf>,
        registry: RegistrySettings,
        program: ProgramSource,
    ) -> Self {
        let shared = Shared {
            directory,
            registry,
            program,
            store: OnceCell::new(),
            being_made: Mutex::default(),
            made: Condvar::new(),
        };
        Self { shared: Arc::new(shared), workers: Workers::new() }
    }

    /// What its threads share.
    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Ends every operation.
    pub(crate) fn shutdown(&self) {
        self.workers.shutdown();
    }

    /// Begins to pull an image.
    pub(crate) fn pull(
        &self,
        reference: &str,
        options: &ImageOptions,
        events: Events<'_>,
    ) -> Result<Operation<Image>> {
        let pull = Pull::new(reference, options, &self.shared.registry)?;
        let title = format!("pulling the image {}", pull.reference);
        self.begin(Pace::Slow, title, events, size, move |shared, threads, completion| {
            pull.run(shared, threads, &Progress::new(completion), completion.has_ended())
        })
    }

    /// Begins to import one.
    pub(crate) fn import(
        &self,
        source: ImageSource,
        options: &ImageOptions,
        events: Events<'_>,
    ) -> Result<Operation<Image>> {
        let import = Import::new(source, options)?;
        let title = format!("importing the image {}", import.name());
        self.begin(Pace::Slow, title, events, size, move |shared, threads, completion| {
            import.run(shared, threads, completion)
        })
    }

    /// Begins to take a snapshot of a sandbox.
    pub(crate) fn snapshot(
        &self,
        source: Box<dyn Source>,
        tag: Option<&str>,
        events: Events<'_>,
    ) -> Result<Operation<Snapshot>> {
        self.snapshot_with(Pace::Slow, source, tag, events, || (), || ())
    }

    /// The same at a sandbox's end, before which only others of these go. Calls `began` when it begins and `then` when it
    /// has ended, in its own thread.
    pub(crate) fn snapshot_at_exit(
        &self,
        source: Box<dyn Source>,
        tag: Option<&str>,
        began: impl FnOnce() + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<Operation<Snapshot>> {
        self.snapshot_with(Pace::Exit, source, tag, None, began, then)
    }

    fn snapshot_with(
        &self,
        pace: Pace,
        source: Box<dyn Source>,
        tag: Option<&str>,
        events: Events<'_>,
        began: impl FnOnce() + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<Operation<Snapshot>> {
        let tag = tag.map(parse_tag).transpose()?;
        let title = format!("taking a snapshot of {}", source.name());
        let value = |taken: &Snapshot| {
            [taken.image.info().bytes, u64::try_from(taken.paused.as_micros()).unwrap_or(u64::MAX)]
        };
        let take = Take { source, tag };
        let work = move |shared: &Shared, _: &Threads, completion: &Completion<Snapshot>| {
            began();
            take.run(shared, completion)
        };
        self.begin_then(pace, title, events, value, work, then)
    }

    /// Begins to take a snapshot of a directory of a sandbox.
    pub(crate) fn snapshot_directory(
        &self,
        transfer: Box<dyn Transfer>,
        tag: Option<&str>,
        events: Events<'_>,
    ) -> Result<Operation<Snapshot>> {
        let tag = tag.map(parse_tag).transpose()?;
        let title = format!("taking a snapshot of {}", transfer.name());
        let value = |taken: &Snapshot| [taken.image.info().bytes, taken.skipped];
        let take = TakeDirectory { transfer, tag };
        self.begin(Pace::Slow, title, events, value, move |shared, _, completion| {
            take.run(shared, completion)
        })
    }

    /// Begins to build one.
    pub(crate) fn build(
        &self,
        title: String,
        limits: BuildLimits,
        events: Events<'_>,
        work: impl FnOnce(&Workshop<'_>) -> Result<Image> + Send + 'static,
    ) -> Result<Operation<Image>> {
        self.begin(Pace::Build, title, events, size, move |shared, threads, completion| {
            work(&Workshop::new(shared, threads, completion, limits))
        })
    }

    /// Begins to copy an image into a sandbox.
    pub(crate) fn copy_out(
        &self,
        image: &Image,
        transfer: Box<dyn Transfer>,
        events: Events<'_>,
    ) -> Result<Operation<CopiedImage>> {
        let title = format!("copying the image {} to {}", image.id(), transfer.name());
        let value = |copied: &CopiedImage| [copied.bytes; 2];
        let copy = CopyOut { image: image.clone(), transfer };
        self.begin(Pace::Slow, title, events, value, move |shared, _, completion| {
            copy.run(shared, completion)
        })
    }

    /// Begins to look one up.
    pub(crate) fn find(&self, name: &str, events: Events<'_>) -> Result<Operation<Image>> {
        let name = Name::parse(name)?;
        let title = format!("looking for the image {name}");
        self.begin(Pace::Quick, title, events, size, move |shared, _, _| Image::open(shared.find(&name)?))
    }

    /// Begins to list all.
    pub(crate) fn list(&self, events: Events<'_>) -> Result<Operation<Vec<ImageInfo>>> {
        let title = "listing the images".to_owned();
        self.begin(
            Pace::Quick,
            title,
            events,
            |_| [0; 2],
            |shared, _, _| Ok(shared.store()?.list()?.iter().map(ImageInfo::new).collect()),
        )
    }

    /// Begins to give one another name.
    pub(crate) fn tag(&self, name: &str, tag: &str, events: Events<'_>) -> Result<Operation<()>> {
        let (name, tag) = (Name::parse(name)?, parse_tag(tag)?);
        let title = format!("tagging the image {name}");
        self.begin(
            Pace::Quick,
            title,
            events,
            |_| [0; 2],
            move |shared, _, _| {
                let id = shared.find(&name)?.id();
                shared.store()?.tag(id, &tag)
            },
        )
    }

    /// Begins to remove a name, or an image with all of its names.
    pub(crate) fn remove(&self, name: &str, events: Events<'_>) -> Result<Operation<()>> {
        let name = Name::parse(name)?;
        let title = format!("removing the image {name}");
        self.begin(Pace::Quick, title, events, |_| [0; 2], move |shared, _, _| shared.remove(&name))
    }

    /// Begins to remove those that weren't used for longest.
    pub(crate) fn prune(&self, max_bytes: u64, events: Events<'_>) -> Result<Operation<PrunedImages>> {
        let title = "pruning the images".to_owned();
        let value = |pruned: &PrunedImages| [pruned.bytes; 2];
        self.begin(Pace::Quick, title, events, value, move |shared, _, _| {
            let pruned = shared.store()?.prune(max_bytes)?;
            let images = u64::try_from(pruned.removed.len()).unwrap_or(u64::MAX);
            Ok(PrunedImages { images, bytes: pruned.freed_bytes })
        })
    }

    /// Begins an operation of another kind on the same threads.
    pub(crate) fn begin_other<T: fmt::Debug + Send + Sync + 'static>(
        &self,
        pace: Pace,
        title: String,
        events: Events<'_>,
        work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static,
    ) -> Result<Operation<T>> {
        let run = move |_: &Shared, _: &Threads, completion: &Completion<T>| work(completion.has_ended());
        self.begin(pace, title, events, |_| [0; 2], run)
    }

    fn begin<T: fmt::Debug + Send + Sync + 'static>(
        &self,
        pace: Pace,
        title: String,
        events: Events<'_>,
        value: fn(&T) -> [u64; 2],
        work: impl FnOnce(&Shared, &Threads, &Completion<T>) -> Result<T> + Send + 'static,
    ) -> Result<Operation<T>> {
        self.begin_then(pace, title, events, value, work, || ())
    }

    fn begin_then<T: fmt::Debug + Send + Sync + 'static>(
        &self,
        pace: Pace,
        title: String,
        events: Events<'_>,
        value: fn(&T) -> [u64; 2],
        work: impl FnOnce(&Shared, &Threads, &Completion<T>) -> Result<T> + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<Operation<T>> {
        let notice = Notice::new(events, EventKind::OperationDone, value)?;
        let (operation, completion) = Operation::new(title, Error::shut_down());
        let shared = Arc::clone(&self.shared);
        let stop = completion.stop();
        // The work begins once its events have somewhere to go: its first progress would be lost. Not before it is
        // accepted, or an event would come for what was refused.
        let gate = Arc::new(Mutex::new(()));
        let opened = Arc::clone(&gate);
        let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let run = move |threads: &Threads| {
            drop(opened.lock().unwrap_or_else(PoisonError::into_inner));
            let result = catch_unwind(AssertUnwindSafe(|| work(&shared, threads, &completion)));
            let panicked = || {
                Error::new(Code::Panic, "an operation on images or volumes panicked: a bug of the library")
            };
            completion.complete(result.unwrap_or_else(|_| Err(panicked())));
            then();
        };
        self.workers.submit(pace, stop, run)?;
        operation.notify(notice);
        drop(closed);
        Ok(operation)
    }
}

impl Shared {
    /// The store, opened by the first operation that gets so far.
    pub(super) fn store(&self) -> Result<&Store> {
        self.store.get_or_try_init(|| Store::open(self.directory.as_ref().map_err(Clone::clone)?))
    }

    /// The image of that id, with one more name, if the store has it. A damaged one counts as missing: it is made again.
    pub(super) fn stored(&self, id: ImageId, tag: Option<&str>) -> Result<Option<StoredImage>> {
        let store = self.store()?;
        let found = store.get(id).unwrap_or_default();
        match (found, tag) {
            (Some(found), Some(tag)) => {
                store.tag(id, tag)?;
                Ok(Some(store.get(id)?.unwrap_or(found)))
            }
            (found, _) => Ok(found),
        }
    }

    pub(super) fn find(&self, name: &Name) -> Result<StoredImage> {
        let store = self.store()?;
        let by_tag = name.tag.as_deref().map_or(Ok(None), |tag| store.find(tag))?;
        let found = match by_tag {
            None => store.find(&name.text)?,
            found => found,
        };
        found.ok_or_else(|| {
            Error::new(
                Code::NotFound,
                format!("image {name}: the store has none of that name; pull or import it first"),
            )
        })
    }

    fn remove(&self, name: &Name) -> Result<()> {
        let store = self.store()?;
        let image = self.find(name)?;
        match name.tag.as_ref().filter(|tag| image.tags().contains(tag)) {
            Some(tag) if image.tags().len() > 1 => store.untag(tag).map(drop),
            _ => store.remove(image.id()).map(drop),
        }
    }

    /// The process that unpacks into this file. It ends with this thread.
    pub(super) fn helper(&self, output: &Temporary, limits: &Limits) -> Result<Helper> {
        let program = (self.program)()?;
        let output = output.file().try_clone().context("a descriptor of the image")?;
        Helper::start(&program, output.into(), limits)
    }

    /// Waits until no other operation here makes the image of that id, and keeps others from it.
    pub(super) fn take_turn(&self, id: ImageId, check: &dyn Fn() -> Result<()>) -> Result<Turn<'_>> {
        let mut being_made = self.being_made.lock().unwrap_or_else(PoisonError::into_inner);
        while !being_made.insert(id) {
            check()?;
            let waited = self.made.wait_timeout(being_made, POLL_INTERVAL);
            being_made = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(Turn { shared: self, id })
    }
}

/// Stops another thread of the same operation, however this one ends.
#[derive(Default)]
pub(super) struct StopOnDrop(Arc<AtomicBool>);

impl StopOnDrop {
    /// What the other thread looks at.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The right to make an image.
pub(crate) struct Turn<'a> {
    shared: &'a Shared,
    id: ImageId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.shared.being_made.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.shared.made.notify_all();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// How a program names an image of the store.
#[derive(Clone, Debug)]
pub(super) struct Name {
    text: String,
    /// As a tag, in full, if it can be one.
    tag: Option<String>,
}

impl Name {
    pub(super) fn parse(text: &str) -> Result<Self> {
        // An id could be a tag as well, of a repository with the name sha256.
        let tag = match ImageId::parse(text) {
            Some(_) => None,
            None => Some(Reference::parse(text)?.to_string()),
        };
        Ok(Self { text: text.to_owned(), tag })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A tag in full.
pub(crate) fn parse_tag(tag: &str) -> Result<String> {
    let reference = Reference::parse(tag)?;
    if reference.digest().is_some() {
        return Err(Error::invalid(format!("tag {tag}: must be a name without a digest")));
    }
    tag_of(&reference)
}

/// The tag that a reference is. One that reads as an id, or as the beginning of one, is refused.
pub(super) fn tag_of(reference: &Reference) -> Result<String> {
    let name = reference.repository().strip_prefix("library/");
    if reference.registry() == "docker.io"
        && name.is_some_and(|name| name == "sha256" || ImageId::from_hex(name).is_some())
    {
        return Err(Error::invalid(format!("tag {reference}: reads as an image's id")));
    }
    Ok(reference.to_string())
}

impl From<ImageLimits> for Limits {
    fn from(limits: ImageLimits) -> Self {
        let ImageLimits { bytes, entries, ratio, memory, depth, layers } = limits;
        Self { bytes, entries, ratio, depth, layers, memory }
    }
}

/// The sizes in the event of the end.
fn size(image: &Image) -> [u64; 2] {
    [image.info().bytes; 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_tag() {
        let id = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(Name::parse(&id).unwrap().tag, None);
        assert_eq!(Name::parse("a").unwrap().tag.as_deref(), Some("docker.io/library/a:latest"));
        let full = format!("docker.io/library/{id}");
        let digits = "ab".repeat(32);
        for tag in [&*id, &full, &digits, "sha256:0123456789ab", "sha256"] {
            let error = parse_tag(tag).unwrap_err();
            assert!(error.message().ends_with("reads as an image's id"), "{error}");
            let settings = RegistrySettings::from_environment();
            assert!(Pull::new(tag, &ImageOptions::default(), &settings).is_err(), "{tag}");
        }
        assert!(parse_tag("owner/sha256:a").is_ok());
    }
}
