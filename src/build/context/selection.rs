//! What an instruction copies, its digest, and the archive that the image is made of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, fstat, major, minor};
use sha2::{Digest as _, Sha256};

use super::directory::Context;
use crate::error::{Context as _, Error, Result};
use crate::image::tar::{self, Archive};

/// The bytes that are read at a time.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Where a directory comes from that is made because something is copied into it.
const MADE_DIRECTORY_MODE: u32 = 0o755;

/// What is in the image afterwards, by its path there without the first slash.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    context: &'a Context,
    entries: BTreeMap<Vec<u8>, Entry>,
}

/// Something that is copied, or made for that.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it is in the context. A directory that is made comes from nowhere.
    source: PathBuf,
    content: Content,
    mode: u32,
    seconds: i64,
    nanoseconds: u32,
}

/// What an entry is, with all that its digest is made of.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    Directory,
    /// A directory that is missing in the image.
    MadeDirectory,
    File {
        length: u64,
        digest: [u8; 32],
    },
    Symlink(Vec<u8>),
    Fifo,
    CharacterDevice(u64),
    BlockDevice(u64),
}

impl Entry {
    /// What was found at `source` in the context.
    pub(super) fn new(content: Content, stat: &FileStat, source: PathBuf) -> Self {
        Self {
            source,
            content,
            mode: stat.st_mode & 0o7777,
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        }
    }

    /// A directory that is missing in the image.
    pub(super) fn made_directory() -> Self {
        Self {
            source: PathBuf::new(),
            content: Content::MadeDirectory,
            mode: MADE_DIRECTORY_MODE,
            seconds: 0,
            nanoseconds: 0,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory | Content::MadeDirectory)
    }
}

impl<'a> Selection<'a> {
    pub(super) fn new(context: &'a Context, entries: BTreeMap<Vec<u8>, Entry>) -> Self {
        Self { context, entries }
    }
}

impl Selection<'_> {
    /// A digest of everything that is copied: names, kinds, modes and contents. As in docker times make no difference.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"libsbx context 1\n");
        for (path, entry) in &self.entries {
            hash_bytes(&mut hash, path);
            hash.update(entry.mode.to_le_bytes());
            match &entry.content {
                Content::Directory => hash.update(b"d"),
                Content::MadeDirectory => hash.update(b"m"),
                Content::File { length, digest, .. } => {
                    hash.update(b"f");
                    hash.update(length.to_le_bytes());
                    hash.update(digest);
                }
                Content::Symlink(target) => {
                    hash.update(b"l");
                    hash_bytes(&mut hash, target);
                }
                Content::Fifo => hash.update(b"p"),
                Content::CharacterDevice(number) => {
                    hash.update(b"c");
                    hash.update(number.to_le_bytes());
                }
                Content::BlockDevice(number) => {
                    hash.update(b"b");
                    hash.update(number.to_le_bytes());
                }
            }
        }
        hash.finalize().into()
    }

    /// Whether the same files, directories and links are copied, wherever to.
    pub(crate) fn has_files_of(&self, other: &Self) -> bool {
        self.sources() == other.sources()
    }

    /// What is there of the context, each with its mode and content.
    fn sources(&self) -> Vec<(&Path, u32, &Content)> {
        let mut sources: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.content != Content::MadeDirectory)
            .map(|entry| (entry.source.as_path(), entry.mode, &entry.content))
            .collect();
        sources.sort_unstable();
        sources
    }

    /// How many files, directories and links there are.
    pub(crate) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| match entry.content {
                Content::File { length, .. } => length,
                _ => 0,
            })
            .sum()
    }

    /// Writes it as a tar archive. Everything belongs to `owner`, and has the mode `chmod` if there is one.
    pub(crate) fn write_tar(
        &self,
        into: &mut dyn Write,
        owner: (u32, u32),
        chmod: Option<u32>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let newest = self
            .entries
            .values()
            .filter(|entry| !matches!(entry.content, Content::MadeDirectory))
            .map(|entry| (entry.seconds, entry.nanoseconds))
            .max();
        let mut archive = Archive::new(into);
        let mut buffer = vec![0; CHUNK_BYTES];
        for (path, entry) in &self.entries {
            check()?;
            let mut name = path.clone();
            let mut length = None;
            let (mut seconds, mut nanoseconds) = (entry.seconds, entry.nanoseconds);
            let mut mode = chmod.unwrap_or(entry.mode);
            let kind = match &entry.content {
                Content::Directory => tar::Kind::Directory,
                Content::MadeDirectory => {
                    mode = entry.mode;
                    (seconds, nanoseconds) = newest.unwrap_or_default();
                    tar::Kind::Directory
                }
                Content::File { length: bytes, .. } => {
                    length = Some(*bytes);
                    tar::Kind::File
                }
                Content::Symlink(target) => tar::Kind::SymbolicLink(target),
                Content::Fifo => tar::Kind::Fifo,
                Content::CharacterDevice(number) => {
                    tar::Kind::CharacterDevice { major: major(*number), minor: minor(*number) }
                }
                Content::BlockDevice(number) => {
                    tar::Kind::BlockDevice { major: major(*number), minor: minor(*number) }
                }
            };
            if kind == tar::Kind::Directory {
                name.push(b'/');
            }
            let header =
                tar::Entry { path: &name, kind, mode, uid: owner.0, gid: owner.1, seconds, nanoseconds };
            match length {
                None => archive.entry(&header),
                Some(length) => archive.file(&header, length),
            }
            .map_err(|cause| sending(&cause))?;
            if let Content::File { length, digest } = &entry.content {
                let source = &entry.source;
                let mut content = |bytes: &[u8]| archive.content(bytes).map_err(|cause| sending(&cause));
                let found = read(self.context, source, *length, &mut buffer, check, &mut content)?;
                if found != *digest {
                    return Err(self.context.changed(source));
                }
                archive.pad(*length).map_err(|cause| sending(&cause))?;
            }
        }
        archive.finish().map_err(|cause| sending(&cause))
    }
}

fn hash_bytes(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The helper's own error says more, so this one only matters if it has none.
fn sending(cause: &io::Error) -> Error {
    Error::system("passing the files to the image helper", cause)
}

/// Reads a file that has a length, and returns the digest of its content.
pub(super) fn read(
    context: &Context,
    path: &Path,
    length: u64,
    buffer: &mut [u8],
    check: &dyn Fn() -> Result<()>,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<[u8; 32]> {
    let mut file = File::from(context.open_found(path, OFlag::O_NONBLOCK)?);
    let stat = fstat(&file).context(format!("reading {}", context.shown(path)))?;
    let is_same = stat.st_mode & libc::S_IFMT == libc::S_IFREG && u64::try_from(stat.st_size) == Ok(length);
    if !is_same {
        return Err(context.changed(path));
    }
    let (mut hash, mut left) = (Sha256::new(), length);
    while left > 0 {
        check()?;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let got = match file.read(buffer.get_mut(..wanted).unwrap_or_default()) {
            Ok(0) => return Err(context.changed(path)),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            other => other.context(format!("reading {}", context.shown(path)))?,
        };
        let bytes = buffer.get(..got).unwrap_or_default();
        hash.update(bytes);
        each(bytes)?;
        left = left.saturating_sub(got as u64);
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
impl Selection<'_> {
    /// The entries' contents, by their paths in the image.
    pub(super) fn contents(&self) -> BTreeMap<&[u8], &Content> {
        self.entries.iter().map(|(path, entry)| (path.as_slice(), &entry.content)).collect()
    }
}
