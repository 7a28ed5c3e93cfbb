//! An image in the store: its record, and its file, which are checked whenever they are opened.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::stat::{FileStat, futimens};
use nix::sys::time::TimeSpec;

use super::directories::{Directories, open_file, read_file};
use super::record::{self, ImageId, Origin, OriginKind, Record};
use super::tags::Tags;
use crate::error::{Code, Context, Error, Result};
use crate::image::erofs::{MAGIC, SUPERBLOCK};
use crate::image::{ImageConfig, error};

/// The mode of what is published.
pub(super) const MODE: u32 = 0o400;

/// An image in the store, as it was when it was looked up. A cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct StoredImage {
    directories: Arc<Directories>,
    record: Arc<Record>,
    blocks: u64,
    last_used: SystemTime,
    tags: Vec<String>,
}

impl StoredImage {
    /// The image with that id, which `tags` may name. `None` if it isn't there.
    pub(super) fn load(directories: &Arc<Directories>, id: ImageId, tags: &Tags) -> Result<Option<Self>> {
        let images = &directories.images;
        let record = read_file(images, &record_name(id), record::MAX_RECORD_BYTES)
            .map_err(|cause| damaged(id, &cause))?;
        let Some((json, stat)) = record else { return Ok(None) };
        let record = Record::parse(id, &json).map_err(|cause| damaged(id, &cause))?;
        let (_, blocks) = match open_image(directories, &record) {
            Ok(opened) => opened,
            // Another process has removed it since.
            Err(_)
                if read_file(images, &record_name(id), record::MAX_RECORD_BYTES)
                    .is_ok_and(|r| r.is_none()) =>
            {
                return Ok(None);
            }
            Err(cause) => return Err(cause),
        };
        let last_used = last_used(&stat);
        let tags = tags.of(id);
        let directories = Arc::clone(directories);
        Ok(Some(Self { directories, record: Arc::new(record), blocks, last_used, tags }))
    }

    /// Opens the file for reading, checks it, and counts this as a use. The descriptor stays good when the image is removed.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let (file, _) = open_image(&self.directories, &self.record)?;
        self.touch();
        Ok(file.into())
    }

    /// Counts a use. It only decides what is pruned first; the image may have been removed by now.
    pub(crate) fn touch(&self) {
        if let Err(cause) = touch(&self.directories, self.record.id) {
            log::debug!("{cause}");
        }
    }

    /// The id.
    pub(crate) fn id(&self) -> ImageId {
        self.record.id
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &ImageConfig {
        &self.record.config
    }

    /// The configuration's JSON, as the image has it.
    pub(crate) fn config_json(&self) -> &str {
        &self.record.config_json
    }

    /// The size of the file.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.record.bytes
    }

    /// What the file takes on disk; it may have holes.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.blocks
    }

    /// When it was published.
    pub(crate) fn created(&self) -> SystemTime {
        self.record.created
    }

    /// When it was last opened or published.
    pub(crate) fn last_used(&self) -> SystemTime {
        self.last_used
    }

    /// Where it comes from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.record.origin
    }

    /// Whether it is what a build's step has left, and has no name.
    pub(super) fn is_intermediate(&self) -> bool {
        self.tags.is_empty() && self.record.origin.kind == OriginKind::Build
    }

    /// Its tags, sorted.
    pub(crate) fn tags(&self) -> &[String] {
        &self.tags
    }
}

/// Opens an image's file if it is as it was published; also what it takes on disk.
fn open_image(directories: &Directories, record: &Record) -> Result<(File, u64)> {
    let id = record.id;
    let Some((file, stat)) =
        open_file(&directories.images, &file_name(id)).map_err(|cause| damaged(id, &cause))?
    else {
        return Err(Error::new(Code::NotFound, format!("image {id}: is not in the store any more")));
    };
    let refuse = |what: String| Err(damaged(id, &error(what)));
    if stat.st_mode & 0o7777 != MODE {
        return refuse(format!("its file has mode {:04o}, not {MODE:04o}", stat.st_mode & 0o7777));
    }
    if stat.st_nlink != 1 {
        return refuse(format!("its file has {} names", stat.st_nlink));
    }
    if u64::try_from(stat.st_size) != Ok(record.bytes) {
        return refuse(format!("its file has {} bytes, not {}", stat.st_size, record.bytes));
    }
    check_magic(&file, &file_name(id)).map_err(|cause| damaged(id, &cause))?;
    Ok((file, u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)))
}

pub(super) fn damaged(id: ImageId, cause: &Error) -> Error {
    error(format!("image {id}: is damaged; remove it, and get it again: {}", cause.message()))
}

pub(super) fn check_magic(file: &File, name: &str) -> Result<()> {
    let mut magic = [0; 4];
    match file.read_exact_at(&mut magic, SUPERBLOCK as u64) {
        Ok(()) if u32::from_le_bytes(magic) == MAGIC => Ok(()),
        Ok(()) => Err(error(format!("{name}: is not an EROFS file"))),
        Err(cause) => Err(cause).context(format!("{name}: reading the superblock")),
    }
}

pub(super) fn touch(directories: &Directories, id: ImageId) -> Result<()> {
    let what = || format!("image {id}: marking it as used");
    match open_file(&directories.images, &record_name(id))? {
        Some((file, _)) => futimens(&file, &TimeSpec::UTIME_OMIT, &TimeSpec::UTIME_NOW).context(what()),
        None => Ok(()),
    }
}

fn last_used(record: &FileStat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(record.st_mtime).unwrap_or(0));
    let nanoseconds = Duration::from_nanos(u64::try_from(record.st_mtime_nsec).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(seconds.saturating_add(nanoseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn file_name(id: ImageId) -> String {
    format!("{}.erofs", id.hex())
}

pub(super) fn record_name(id: ImageId) -> String {
    format!("{}.json", id.hex())
}
