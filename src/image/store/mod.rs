//! The store: a directory of the user's with the images that were imported, shared by the user's processes.
//!
//! ```text
//! v1/images/<64 hex digits>.erofs   an image, mode 0400
//! v1/images/<64 hex digits>.json    its record; modified when the image was last used
//! v1/tags.json                      which name stands for which image
//! v1/tags.next.json                 the same with one tag more, while the image of that is published
//! v1/steps.json                     which image a build's step has made
//! v1/tmp/                           what is being written; locked by its process
//! v1/lock                           held while something is published, tagged or removed
//! ```
//!
//! An image is there once its record is: both are written elsewhere, synchronised and renamed, the record last; and the
//! record goes first when an image is removed. So a kill at any moment leaves the image or a file that nothing believes,
//! which the next change of the store removes. An image that is published with a tag has it, or is not there: the tags are
//! written before the record is, and take their place after it; where a kill comes between, the next change of the store does
//! that. Readers take no lock. `v1` is the format: another release's directory is
//! neither read nor removed.
//!
//! A file is checked when it is opened, and a sandbox gets the descriptor: it runs on when the image is removed, and the
//! space is free when the last of them has ended.

pub(crate) mod directories;
pub(crate) mod filesystem;
mod record;
mod steps;
mod stored;
mod tags;
mod temporary;
#[cfg(test)]
mod tests;
pub(crate) mod trust;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::fcntl::renameat;
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{fsync, ftruncate};
use sha2::{Digest as _, Sha256};

use directories::{Directories, Lock, open_file, read_file, remove_file};
use record::Record;
pub(crate) use record::{ImageId, Origin, OriginKind};
use steps::Steps;
pub(crate) use stored::StoredImage;
use stored::{MODE, check_magic, file_name, record_name, touch};
use tags::Tags;
pub(crate) use temporary::Temporary;

use super::{Digest, cancelled, error};
use crate::error::{Code, Context, Error, Result};
use crate::sys::secure;

/// Changes whenever the same layers would make another file.
const WRITER_VERSION: u32 = 1;
/// As many digits of an id name an image.
const MIN_PREFIX_DIGITS: usize = 12;
/// The id of an image that is made of layers: its configuration's digest, its layers' (uncompressed), and the writer.
pub(crate) fn id_of_layers(config: Digest, diff_ids: &[Digest]) -> ImageId {
    let mut hash = Sha256::new();
    hash.update(format!("libsbx image of layers, writer {WRITER_VERSION}\n"));
    hash.update(config.bytes());
    for id in diff_ids {
        hash.update(id.bytes());
    }
    ImageId::from(<[u8; 32]>::from(hash.finalize()))
}

/// The id of an image that has no layers with digests (a directory, a tarball, a snapshot): that of its own file.
pub(crate) fn id_of_file(file: &File, config: Digest, check: &dyn Fn() -> Result<()>) -> Result<ImageId> {
    let length = file.metadata().context("the size of an image")?.len();
    let content = Digest::of_file(file, 0, length, check)?;
    let mut hash = Sha256::new();
    hash.update("libsbx image by content\n");
    hash.update(config.bytes());
    hash.update(content.bytes());
    Ok(ImageId::from(<[u8; 32]>::from(hash.finalize())))
}

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    directories: Arc<Directories>,
}

/// What pruning has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pruned {
    /// What was removed: what is damaged, then the longest unused first.
    pub(crate) removed: Vec<ImageId>,
    /// The bytes on disk that these took.
    pub(crate) freed_bytes: u64,
    /// The bytes on disk that the others take.
    pub(crate) kept_bytes: u64,
}

impl Store {
    /// The user's directory for images: `$XDG_CACHE_HOME/libsbx/images`, or `$HOME/.cache/libsbx/images`. Reads the
    /// environment, so it is called when a runtime is made.
    pub(crate) fn directory_from_environment() -> Result<PathBuf> {
        directory_from(secure::variable("XDG_CACHE_HOME"), secure::variable("HOME"))
    }

    /// Opens the store in a directory, which is made if it is missing. Fails where other users could change it, and where
    /// images can't be used from ([`trust`], [`filesystem`]).
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let store = Self { directories: Arc::new(Directories::open(directory)?) };
        // What another process is changing, it also cleans up.
        if let Some(lock) = store.directories.try_lock()? {
            store.settle_tags()?;
            store.collect(&lock)?;
        }
        Ok(store)
    }

    /// The device and inode of its directory, which a copy of the directories above leaves out.
    pub(crate) fn device_and_inode(&self) -> Result<(u64, u64)> {
        let found = fstat(&self.directories.format).context("looking at the image store")?;
        Ok((found.st_dev, found.st_ino))
    }

    /// A new temporary file. `purpose` is the beginning of its name.
    pub(crate) fn temporary(&self, purpose: &str) -> Result<Temporary> {
        Temporary::new(&self.directories, purpose)
    }

    /// Makes a finished file an image, and gives it a tag. No process may have the file open for writing any more. If the
    /// image is there already, it stays as it is. Does neither once `ended` is set.
    pub(crate) fn publish(
        &self,
        mut file: Temporary,
        id: ImageId,
        config: &[u8],
        origin: Origin,
        tag: Option<&str>,
        ended: &AtomicBool,
    ) -> Result<StoredImage> {
        let what = || format!("publishing the image {id} in {:?}", self.directories.path());
        if let Some(tag) = tag {
            tags::check(tag)?;
        }
        let length = file.file().metadata().context(what())?.len();
        check_magic(file.file(), &file_name(id))?;
        let record = Record::new(id, length, config, origin)?;
        // Gives back what was reserved beyond the end.
        ftruncate(file.file(), libc::off_t::try_from(length).unwrap_or(libc::off_t::MAX)).context(what())?;
        fchmod(file.file(), Mode::from_bits_truncate(MODE)).context(what())?;
        // Before the lock is taken: this may last.
        fsync(file.file()).context(what())?;

        let lock = self.lock()?;
        // Its operation may have been given up meanwhile. From here on it is done.
        cancelled(ended)?;
        if self.is_whole(id) {
            self.touch(id)?;
            if let Some(tag) = tag {
                self.change_tags(&lock, |tags| tags.set(tag, id).map(|()| true))?;
            }
        } else {
            // On a full disk this fails, and nothing has happened.
            if let Some(tag) = tag {
                self.prepare_tag(&lock, tag, id)?;
            }
            let linked = self.link(&lock, &mut file, &record);
            // What was prepared takes its place now, or goes.
            let settled = self.settle_tags();
            linked?;
            if let Err(cause) = settled {
                self.unlink(id)?;
                return Err(cause);
            }
        }
        // Still under the lock, so that no other process has removed it.
        self.get(id)?.ok_or_else(|| error(format!("{}: it is not there", what())))
    }

    /// Gives an image's files their names, or none of them.
    fn link(&self, lock: &Lock, file: &mut Temporary, record: &Record) -> Result<()> {
        let id = record.id;
        let what = || format!("publishing the image {id} in {:?}", self.directories.path());
        let images = self.directories.images.as_fd();
        renameat(&self.directories.temporary, file.name(), images, &file_name(id)[..]).context(what())?;
        file.set_published();
        let linked = fsync(images)
            .context(what())
            .and_then(|()| self.directories.replace(lock, images, &record_name(id), &record.write()));
        if linked.is_err() {
            remove_file(images, &file_name(id))?;
        }
        linked
    }

    /// The image of a name: a full reference that it was tagged with, its id, or at least 12 digits of that.
    pub(crate) fn find(&self, name: &str) -> Result<Option<StoredImage>> {
        if let Some(id) = ImageId::parse(name) {
            return self.get(id);
        }
        if let Some(id) = self.tags()?.get(name) {
            return self.get(id);
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        let is_prefix = prefix.len() >= MIN_PREFIX_DIGITS
            && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_prefix {
            return Ok(None);
        }
        let mut found: Vec<ImageId> =
            self.ids()?.into_iter().filter(|id| id.hex().starts_with(prefix)).collect();
        match (found.pop(), found.len()) {
            (Some(id), 0) => self.get(id),
            (None, _) => Ok(None),
            (Some(_), others) => Err(Error::invalid(format!(
                "image {name:?}: is the beginning of {} images' ids; give more digits",
                others + 1
            ))),
        }
    }

    /// An image by its id. One whose files are damaged is an error that says so.
    pub(crate) fn get(&self, id: ImageId) -> Result<Option<StoredImage>> {
        let tags = self.tags()?;
        StoredImage::load(&self.directories, id, &tags)
    }

    /// All images, the one used last first. What is damaged is left out, and logged.
    pub(crate) fn list(&self) -> Result<Vec<StoredImage>> {
        let tags = self.tags()?;
        let mut images = Vec::new();
        for id in self.ids()? {
            match StoredImage::load(&self.directories, id, &tags) {
                Ok(image) => images.extend(image),
                Err(cause) => log::warn!("{cause}"),
            }
        }
        images.sort_by_key(|image| (std::cmp::Reverse(image.last_used()), image.id()));
        Ok(images)
    }

    /// Gives an image a tag, and takes it from the one that had it.
    pub(crate) fn tag(&self, id: ImageId, tag: &str) -> Result<()> {
        tags::check(tag)?;
        let lock = self.lock()?;
        if !self.is_whole(id) {
            return Err(Error::new(Code::NotFound, format!("image {id}: is not in the store")));
        }
        self.change_tags(&lock, |tags| tags.set(tag, id).map(|()| true))
    }

    /// The image that a build's step has made, if it is still there and not older.
    pub(crate) fn step(&self, key: Digest, max_age: Option<Duration>) -> Result<Option<StoredImage>> {
        self.steps().get(key, max_age).map_or(Ok(None), |id| self.get(id))
    }

    /// Notes that a build's step has made an image.
    pub(crate) fn set_step(&self, key: Digest, id: ImageId) -> Result<()> {
        let lock = self.lock()?;
        self.change_steps(&lock, |steps| {
            steps.set(key, id);
            true
        })
    }

    /// Removes a tag; the image stays. Whether there was one.
    pub(crate) fn untag(&self, tag: &str) -> Result<bool> {
        let lock = self.lock()?;
        let mut was_there = false;
        self.change_tags(&lock, |tags| {
            was_there = tags.remove(tag);
            Ok(was_there)
        })?;
        Ok(was_there)
    }

    /// Removes an image and its tags, also a damaged one. Whether it was there. Sandboxes that run on it aren't affected.
    pub(crate) fn remove(&self, id: ImageId) -> Result<bool> {
        let lock = self.lock()?;
        self.collect(&lock)?;
        let was_there =
            open_file(&self.directories.images, &record_name(id)).map_or(true, |found| found.is_some());
        self.unlink_all(&lock, &BTreeSet::from([id]))?;
        Ok(was_there)
    }

    /// Removes damaged images, then those without a tag that builds have made, then the others, until the rest takes no more
    /// than `max_bytes` on disk; of each kind those that weren't used for the longest time first.
    /// Sandboxes that run on a removed image aren't affected; they hold its space until they end.
    pub(crate) fn prune(&self, max_bytes: u64) -> Result<Pruned> {
        let lock = self.lock()?;
        self.collect(&lock)?;
        let mut images = self.list()?;
        images.sort_by_key(|image| image.is_intermediate());
        let whole: BTreeSet<ImageId> = images.iter().map(StoredImage::id).collect();
        let damaged = self.ids()?.difference(&whole).copied().collect();
        let kept_bytes = images.iter().map(StoredImage::disk_bytes).sum();
        let mut pruned = Pruned { removed: damaged, freed_bytes: 0, kept_bytes };
        while pruned.kept_bytes > max_bytes {
            let Some(image) = images.pop() else { break };
            pruned.removed.push(image.id());
            pruned.freed_bytes += image.disk_bytes();
            pruned.kept_bytes -= image.disk_bytes();
        }
        let removed: BTreeSet<ImageId> = pruned.removed.iter().copied().collect();
        self.unlink_all(&lock, &removed)?;
        Ok(pruned)
    }

    /// Whether an image is there and undamaged.
    fn is_whole(&self, id: ImageId) -> bool {
        StoredImage::load(&self.directories, id, &Tags::default()).is_ok_and(|image| image.is_some())
    }

    /// The ids for which there is a record, in their order.
    fn ids(&self) -> Result<BTreeSet<ImageId>> {
        let names = directories::names(&self.directories.images)?;
        Ok(names.iter().filter_map(|name| ImageId::from_hex(name.strip_suffix(".json")?)).collect())
    }

    fn tags(&self) -> Result<Tags> {
        match read_file(&self.directories.format, tags::FILE, tags::MAX_BYTES)? {
            Some((json, _)) => Tags::parse(&json),
            None => Ok(Tags::default()),
        }
    }

    /// Changes the tags, and writes them if `change` says so.
    fn change_tags(&self, lock: &Lock, change: impl FnOnce(&mut Tags) -> Result<bool>) -> Result<()> {
        let mut tags = self.tags()?;
        if change(&mut tags)? {
            self.directories.replace(lock, self.directories.format.as_fd(), tags::FILE, &tags.write())?;
        }
        Ok(())
    }

    /// The index of steps. One that can't be read counts as empty.
    fn steps(&self) -> Steps {
        match read_file(&self.directories.format, steps::FILE, steps::MAX_BYTES) {
            Ok(found) => found.map(|(json, _)| Steps::parse(&json)).unwrap_or_default(),
            Err(cause) => {
                log::warn!("{cause}: it counts as empty");
                Steps::default()
            }
        }
    }

    /// Changes the index of steps, and writes it if `change` says so.
    fn change_steps(&self, lock: &Lock, change: impl FnOnce(&mut Steps) -> bool) -> Result<()> {
        let mut steps = self.steps();
        if change(&mut steps) {
            self.directories.replace(lock, self.directories.format.as_fd(), steps::FILE, &steps.write())?;
        }
        Ok(())
    }

    /// The lock. What a killed process has begun to tag is settled: this is before anything else changes the tags.
    fn lock(&self) -> Result<Lock> {
        let lock = self.directories.lock()?;
        self.settle_tags()?;
        Ok(lock)
    }

    /// Writes the tags with one more, for an image that is about to be published.
    fn prepare_tag(&self, lock: &Lock, tag: &str, id: ImageId) -> Result<()> {
        let mut next = self.tags()?;
        next.set(tag, id)?;
        self.directories.replace(lock, self.directories.format.as_fd(), tags::NEXT, &next.write())
    }

    /// Puts prepared tags in their place if the image that they add is there, and else removes them. Writes nothing, so a
    /// full disk is no hindrance. Under the lock.
    fn settle_tags(&self) -> Result<()> {
        let format = &self.directories.format;
        // What can't be read was written by no process of ours.
        let next = match read_file(format, tags::NEXT, tags::MAX_BYTES) {
            Ok(None) => return Ok(()),
            Ok(Some((json, _))) => Tags::parse(&json),
            Err(cause) => Err(cause),
        };
        let is_there = |next: &Tags| -> Result<bool> {
            Ok(next.differing(&self.tags()?).iter().all(|id| self.is_whole(*id)))
        };
        match next.and_then(|next| is_there(&next)) {
            Ok(true) => {
                let what =
                    || format!("writing {} in the image store {:?}", tags::FILE, self.directories.path());
                renameat(format, tags::NEXT, format, tags::FILE).context(what())?;
                fsync(format).context(what())
            }
            Ok(false) => remove_file(format, tags::NEXT),
            Err(cause) => {
                log::warn!("{cause}: {} is removed", tags::NEXT);
                remove_file(format, tags::NEXT)
            }
        }
    }

    /// Removes images, their tags, and the steps that have made them. On a full disk the files still go: nothing can be
    /// written before they have.
    fn unlink_all(&self, lock: &Lock, ids: &BTreeSet<ImageId>) -> Result<()> {
        let untag =
            || self.change_tags(lock, |tags| Ok(ids.iter().filter(|id| tags.remove_image(**id)).count() > 0));
        let untagged = untag();
        ids.iter().try_for_each(|id| self.unlink(*id))?;
        // A step whose image is gone is done again.
        let forget = |steps: &mut Steps| ids.iter().filter(|id| steps.remove_image(**id)).count() > 0;
        if let Err(cause) = self.change_steps(lock, forget) {
            log::debug!("image store: {}: {cause}", steps::FILE);
        }
        untagged.or_else(|_| untag())
    }

    /// Removes an image's files, the record first.
    fn unlink(&self, id: ImageId) -> Result<()> {
        let images = &self.directories.images;
        remove_file(images, &record_name(id))?;
        fsync(images).context(format!("removing the image {id} from {:?}", self.directories.path()))?;
        remove_file(images, &file_name(id))
    }

    /// Removes what killed processes have left: temporary files, and images without a record.
    fn collect(&self, lock: &Lock) -> Result<()> {
        temporary::collect(&self.directories, lock)?;
        let believed = self.ids()?;
        for name in directories::names(&self.directories.images)? {
            let id = name.strip_suffix(".erofs").and_then(ImageId::from_hex);
            if id.is_some_and(|id| !believed.contains(&id)) {
                remove_file(&self.directories.images, &name)?;
            }
        }
        Ok(())
    }

    fn touch(&self, id: ImageId) -> Result<()> {
        touch(&self.directories, id)
    }
}

/// As the XDG base directory specification has it: a relative path is ignored.
fn directory_from(cache: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    match (absolute(cache), absolute(home)) {
        (Some(cache), _) => Ok(cache.join("libsbx/images")),
        (None, Some(home)) => Ok(home.join(".cache/libsbx/images")),
        (None, None) => Err(error(
            "there is no directory for images: neither XDG_CACHE_HOME nor HOME is set to an absolute path; set the runtime's \
             image_directory",
        )),
    }
}
