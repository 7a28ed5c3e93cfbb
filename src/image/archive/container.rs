//! A directory or a tar archive with an image's parts, read by name.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::fstat;

use crate::error::{Context, Result};
use crate::image::helper::ArchiveEntry;
use crate::image::json::MAX_JSON_BYTES;
use crate::image::store::Temporary;
use crate::image::{Digest, error};

/// Links from one entry of an archive to another. `docker save` makes one.
const MAX_LINKS: u32 = 8;

/// The parts.
#[derive(Debug)]
pub(super) enum Container {
    Directory(OwnedFd),
    Archive {
        file: Arc<File>,
        entries: HashMap<Vec<u8>, ArchiveEntry>,
        /// Keeps the file, if it is the store's.
        _spool: Option<Temporary>,
    },
}

/// A part of a file.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Container {
    /// An archive. Of several entries of one name the last counts, as for tar.
    pub(super) fn archive(file: File, spool: Option<Temporary>, entries: Vec<ArchiveEntry>) -> Self {
        let entries = entries.into_iter().map(|entry| (normal(&entry.name), entry)).collect();
        Self::Archive { file: Arc::new(file), entries, _spool: spool }
    }

    /// A part by its name; the empty name is the archive itself. `None` if it isn't there.
    pub(super) fn open(&self, name: &str) -> Result<Option<Part>> {
        match self {
            Self::Directory(directory) => open_beneath(directory, name),
            Self::Archive { file, .. } if name.is_empty() => {
                let length = file.metadata().context("the size of an archive")?.len();
                Ok(Some(Part { file: Arc::clone(file), offset: 0, length }))
            }
            Self::Archive { file, entries, .. } => {
                let part = |entry: &ArchiveEntry| Part {
                    file: Arc::clone(file),
                    offset: entry.offset,
                    length: entry.length,
                };
                Ok(resolve(entries, name.as_bytes())?.map(part))
            }
        }
    }

    /// A part that has to be there.
    pub(super) fn require(&self, name: &str) -> Result<Part> {
        check_name(name)?;
        self.open(name)?.ok_or_else(|| error(format!("{name:?}: is missing")))
    }

    /// Reads a part of at most [`MAX_JSON_BYTES`].
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        let part = self.require(name)?;
        let length =
            usize::try_from(part.length).ok().filter(|length| *length <= MAX_JSON_BYTES).ok_or_else(
                || error(format!("{name:?}: has {} bytes; the limit is {MAX_JSON_BYTES}", part.length)),
            )?;
        let mut bytes = vec![0; length];
        part.file.read_exact_at(&mut bytes, part.offset).context(format!("reading {name:?}"))?;
        Ok(bytes)
    }

    /// Reads a part of at most [`MAX_JSON_BYTES`] that has this digest.
    pub(super) fn read_checked(&self, name: &str, digest: Digest) -> Result<Vec<u8>> {
        let bytes = self.read(name)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(error(format!("{name:?}: has the digest {found}, not {digest}")));
        }
        Ok(bytes)
    }
}

/// The path of a blob.
pub(super) fn blob(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest in the name of a blob, or of a configuration as `docker save` has long named it.
pub(super) fn digest_of_name(name: &str) -> Option<Digest> {
    Digest::from_hex(name.strip_prefix("blobs/sha256/").or_else(|| name.strip_suffix(".json"))?)
}

/// Refuses names that lead elsewhere. They come from the image.
fn check_name(name: &str) -> Result<()> {
    let leads_elsewhere =
        name.starts_with('/') || name.contains('\0') || name.split('/').any(|part| part == "..");
    if leads_elsewhere {
        return Err(error(format!("{name:?}: leads out of the image")));
    }
    Ok(())
}

/// Opens a regular file below a directory, through no link.
fn open_beneath(directory: &OwnedFd, name: &str) -> Result<Option<Part>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let fd = loop {
        match openat2(directory, name, OpenHow::new().flags(flags).resolve(resolve)) {
            // A rename at the same time (openat2(2)), or a signal.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(Errno::ELOOP) => return Err(error(format!("{name:?}: is reached through a symbolic link"))),
            other => break other.context(format!("opening {name:?}"))?,
        }
    };
    let found = fstat(&fd).context(format!("looking at {name:?}"))?;
    if found.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(error(format!("{name:?}: is not a regular file")));
    }
    let length = u64::try_from(found.st_size).unwrap_or(0);
    Ok(Some(Part { file: Arc::new(File::from(fd)), offset: 0, length }))
}

/// The entry of a name, through links within the archive. A symbolic link's target is relative to its directory, a hard
/// link's to the archive.
fn resolve<'a>(entries: &'a HashMap<Vec<u8>, ArchiveEntry>, name: &[u8]) -> Result<Option<&'a ArchiveEntry>> {
    let mut name = normal(name);
    for _ in 0..MAX_LINKS {
        let Some(entry) = entries.get(&name) else { return Ok(None) };
        let Some(target) = &entry.link else { return Ok(Some(entry)) };
        let directory = name.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
        let beside = normal(&[directory, b"/", target].concat());
        name = if entries.contains_key(&beside) { beside } else { normal(target) };
    }
    Err(error(format!("{:?}: is a link to a link, and so on", String::from_utf8_lossy(&name))))
}

/// A name without empty parts, `.` and `..`, which stops at the archive's top.
fn normal(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_however_they_are_written() {
        for (name, expected) in
            [("./a/b", "a/b"), ("a//b/", "a/b"), ("a/../b", "b"), ("../../b", "b"), ("", ""), (".", "")]
        {
            assert_eq!(normal(name.as_bytes()), expected.as_bytes(), "{name}");
        }
        for bad in ["/a", "../a", "a/..", "a\0b"] {
            check_name(bad).unwrap_err();
        }
        check_name("a..b/c").unwrap();
    }

    #[test]
    fn a_digest_is_recognised_in_a_name() {
        let digest = Digest::of(b"x");
        assert_eq!(digest_of_name(&blob(digest)), Some(digest));
        assert_eq!(digest_of_name(&format!("{}.json", digest.hex())), Some(digest));
        assert_eq!(digest_of_name(&digest.hex()), None);
        assert_eq!(digest_of_name("config.json"), None);
    }

    #[test]
    fn links_are_followed_within_the_archive_only_and_not_for_ever() {
        let entry = |name: &str, link: Option<&str>| ArchiveEntry {
            name: name.as_bytes().to_vec(),
            offset: name.len() as u64,
            length: 1,
            link: link.map(|link| link.as_bytes().to_vec()),
        };
        let list = [
            entry("./a/layer.tar", None),
            entry("b/layer.tar", Some("../a/layer.tar")),
            entry("c/layer.tar", Some("a/layer.tar")),
            entry("d", Some("d")),
            entry("e", Some("/etc/passwd")),
            entry("f", Some("../../../../a/layer.tar")),
        ];
        let entries = list.into_iter().map(|entry| (normal(&entry.name), entry)).collect();
        for name in ["a/layer.tar", "b/layer.tar", "c/layer.tar", "./b//layer.tar", "f"] {
            assert_eq!(resolve(&entries, name.as_bytes()).unwrap().unwrap().offset, 13, "{name}");
        }
        assert!(resolve(&entries, b"e").unwrap().is_none());
        assert!(resolve(&entries, b"x").unwrap().is_none());
        resolve(&entries, b"d").unwrap_err();
    }
}
