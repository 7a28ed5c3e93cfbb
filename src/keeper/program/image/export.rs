//! Writes the tree of an image as a tar archive, which init unpacks in a sandbox.
//!
//! The image was written by this program, and may have been changed since: what can't be so is refused, and what is
//! written is bounded. Owners and modes, hard and symbolic links and FIFOs are as in the image; times are in whole seconds.
//! Devices and sockets are left out and counted, since init makes none.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::convert::Trouble;
use super::erofs::{Attributes, Content, Extent, Image, Inode, Kind, ReadAt};
use super::session::{Session, Stream};
use crate::init::files::tar::{self, BLOCK, Entry};
use crate::wire::image::{Exported, Limits};

/// As much is copied at once.
const CHUNK: usize = 256 * 1024;

/// Writes the archive, and its end.
pub(super) fn export(
    image: &mut dyn ReadAt,
    archive: OwnedFd,
    session: &Rc<Session>,
    limits: &Limits,
) -> Result<Exported, Trouble> {
    let to = BufWriter::with_capacity(CHUNK, Stream::new(archive, session));
    let exported = Exported { entries: 0, bytes: 0, skipped: 0 };
    let mut exporter = Exporter { to, limits, exported, buffer: vec![0; CHUNK] };
    exporter.tree(&mut Image::open(image)?)?;
    exporter.to.write_all(&[0; 2 * BLOCK])?;
    exporter.to.flush()?;
    Ok(exporter.exported)
}

struct Exporter<'a, W: Write> {
    to: W,
    limits: &'a Limits,
    exported: Exported,
    buffer: Vec<u8>,
}

/// A directory whose entries are yet to be written.
struct Pending {
    inode: Inode,
    parent: u64,
    path: Vec<u8>,
    depth: u32,
}

impl<W: Write> Exporter<'_, W> {
    fn tree(&mut self, image: &mut Image<'_>) -> Result<(), Trouble> {
        let root = image.inode(image.root())?;
        if root.kind() != Kind::Directory {
            return malformed(b"/", "its root is no directory");
        }
        self.header(b"./", tar::Kind::Directory, root.attributes(), 0, Vec::new())?;
        let mut seen = BTreeSet::from([root.id()]);
        // The first names of files with more than one, by their inodes.
        let mut linked: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut pending = vec![Pending { inode: root, parent: image.root(), path: Vec::new(), depth: 0 }];
        while let Some(directory) = pending.pop() {
            let Pending { inode: here, parent, path: above, depth } = directory;
            image.children::<Trouble>(&here, parent, &mut |image, child| {
                let inode = image.inode(child.inode)?;
                let path = match above.is_empty() {
                    true => child.name.to_vec(),
                    false => [&above, &b"/"[..], &child.name].concat(),
                };
                if !child.agrees(&inode) {
                    return malformed(&path, "its entry is of another type");
                }
                if let Some(first) = linked.get(&inode.id()) {
                    return self.header(&path, tar::Kind::HardLink, inode.attributes(), 0, first.clone());
                }
                // Anything else has one name, or it would be written again and again.
                let has_one_name = inode.kind() == Kind::Directory || inode.links() == 1;
                if has_one_name && !seen.insert(inode.id()) {
                    return malformed(&path, "an inode has another name");
                }
                if !self.entry(image, &inode, &path)? {
                    return Ok(());
                }
                if inode.kind() == Kind::Directory {
                    let depth = depth + 1;
                    if depth > self.limits.depth {
                        let limit = self.limits.depth;
                        return Err(Trouble::Limit(format!("more than {limit} directories in one another")));
                    }
                    pending.push(Pending { inode, parent: here.id(), path, depth });
                } else if inode.links() > 1 {
                    linked.insert(inode.id(), path);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes an entry with its content. Returns false for what is left out.
    fn entry(&mut self, image: &mut Image<'_>, inode: &Inode, path: &[u8]) -> Result<bool, Trouble> {
        let attributes = inode.attributes();
        match inode.kind() {
            Kind::Directory => {
                let path = [path, b"/"].concat();
                self.header(&path, tar::Kind::Directory, attributes, 0, Vec::new())?;
            }
            Kind::Symlink => {
                let target = image.target(inode)?.into_vec();
                self.header(path, tar::Kind::Symlink, attributes, 0, target)?;
            }
            Kind::File(extent) => {
                self.header(path, tar::Kind::File, attributes, extent.size, Vec::new())?;
                self.content(image, path, extent)?;
            }
            Kind::Other => match inode.special() {
                Some(Content::Fifo) => self.header(path, tar::Kind::Fifo, attributes, 0, Vec::new())?,
                Some(_) => {
                    self.exported.skipped += 1;
                    return Ok(false);
                }
                None => return malformed(path, "a type that isn't known"),
            },
        }
        Ok(true)
    }

    fn header(
        &mut self,
        path: &[u8],
        kind: tar::Kind,
        attributes: Attributes,
        size: u64,
        target: Vec<u8>,
    ) -> Result<(), Trouble> {
        self.exported.entries += 1;
        if self.exported.entries > self.limits.entries {
            return Err(Trouble::Limit(format!("more than {} entries", self.limits.entries)));
        }
        let Attributes { mode, user, group, seconds, .. } = attributes;
        let (mode, owner) = (u32::from(mode), (user, group));
        let entry = Entry { path: path.to_vec(), target, kind, mode, owner, size, modified: seconds };
        Ok(self.to.write_all(&entry.header())?)
    }

    fn content(&mut self, image: &mut Image<'_>, path: &[u8], extent: Extent) -> Result<(), Trouble> {
        self.exported.bytes = self.exported.bytes.saturating_add(extent.size);
        if self.exported.bytes > self.limits.bytes {
            let (path, limit) = (path.escape_ascii(), self.limits.bytes);
            return Err(Trouble::Limit(format!("{path}: the files have more than {limit} bytes")));
        }
        let mut at = 0;
        while at < extent.size {
            let left = usize::try_from(extent.size - at).unwrap_or(CHUNK);
            let piece = self.buffer.get_mut(..left.min(CHUNK)).unwrap_or_default();
            image.read(extent, at, piece)?;
            self.to.write_all(piece)?;
            at += piece.len() as u64;
        }
        let padding = tar::padding(extent.size);
        Ok(self.to.write_all([0; BLOCK].get(..padding).unwrap_or_default())?)
    }
}

fn malformed<T>(path: &[u8], why: &str) -> Result<T, Trouble> {
    Err(Trouble::Malformed(format!("the image: {}: {why}", path.escape_ascii())))
}
