//! Turns the layers of an image into one EROFS image.
//!
//! Layers come oldest first, each in one pass: decompressed, hashed, read as tar, and applied to the tree as docker
//! and umoci apply it to a directory. The data of files goes straight to its place in the output; what a later layer
//! replaces or deletes becomes a hole. So the output takes no more space than what is live, and memory holds names and
//! attributes alone.
//!
//! All of it may come from a stranger. Paths are resolved in the tree, never on the host. Everything that grows
//! has a limit, and a text that names the entry, the value and the rule says why something is refused. There are no
//! system calls, no `unsafe` and no paths of the host here; the keeper's program runs this in a confined process.

mod base;
mod decompress;
mod header;
pub(crate) mod inflate;
mod layer;
mod sparse;
mod stream;
mod tar;
mod trouble;

use std::collections::HashSet;
use std::io::{self, Read};

use super::erofs::{
    Attributes, BLOCK, Content, Device, Extent, Image, Kind, MAX_NAME, NodeId, ReadError, Tree, Writer,
};
pub(crate) use super::erofs::{Output, ReadAt};
pub(crate) use super::wire::{Limits, Summary, Whiteouts};
use stream::Stream;
pub(crate) use trouble::Trouble;
use trouble::{malformed, shown};

#[cfg(test)]
mod tests;

/// Converts the layers of one image.
#[derive(Debug)]
pub(crate) struct Converter<O: Output> {
    writer: Writer<O>,
    tree: Tree,
    limits: Limits,
    /// The number of the layer that is applied: the mark of its names.
    layer: u16,
    /// Of all layers so far, and of the base.
    entries: u64,
    /// Of all layers so far, decompressed.
    read: u64,
    content_bytes: u64,
    dropped_xattrs: u64,
    /// The first names of the layer's devices that are whiteouts.
    whiteout_devices: HashSet<Box<[u8]>>,
    diff_ids: Vec<[u8; 32]>,
}

/// The owner and mode of directories that no layer has.
const IMPLIED: Attributes = Attributes { mode: 0o755, user: 0, group: 0, seconds: 0, nanoseconds: 0 };

/// What is mounted over in every sandbox, or written by init: whether it may be a link, and its mode.
const MOUNT_POINTS: [(&[u8], bool, u16); 6] = [
    (b"proc", false, 0o755),
    (b"sys", false, 0o755),
    (b"dev", false, 0o755),
    (b".sbx", false, 0o755),
    (b"tmp", true, 0o1777),
    (b"etc", true, 0o755),
];

impl<O: Output> Converter<O> {
    pub(crate) fn new(output: O, limits: Limits) -> Self {
        Self {
            writer: Writer::new(output),
            tree: Tree::new(IMPLIED),
            limits,
            layer: 0,
            entries: 0,
            read: 0,
            content_bytes: 0,
            dropped_xattrs: 0,
            whiteout_devices: HashSet::new(),
            diff_ids: Vec::new(),
        }
    }

    /// Applies a layer: plain, or compressed by gzip or zstd. With a digest, that of what is decompressed has to be it.
    pub(crate) fn layer(
        &mut self,
        input: &mut dyn Read,
        diff_id: Option<[u8; 32]>,
        whiteouts: Whiteouts,
    ) -> Result<(), Trouble> {
        let count = self.diff_ids.len() as u64 + 1;
        self.layer = match u16::try_from(count) {
            Ok(layer) if count <= u64::from(self.limits.layers) => layer,
            _ => return Err(Trouble::Limit(format!("more than {} layers", self.limits.layers))),
        };
        let mut stream = Stream::new(input, self.limits.bytes.saturating_sub(self.read), &self.limits)?;
        let mut archive = tar::Archive::new(diff_id.is_none());
        self.whiteout_devices.clear();
        while let Some(entry) = archive.next(&mut stream)? {
            self.entries += 1;
            self.check_entries()?;
            self.apply(&entry, whiteouts, &mut archive, &mut stream)?;
        }
        let (length, found) = stream.finish()?;
        self.read += length;
        self.diff_ids.push(found);
        match diff_id {
            Some(expected) if expected != found => Err(Trouble::Digest { expected, found }),
            _ => Ok(()),
        }
    }

    /// Writes the tree, with the directories that sandboxes mount over.
    pub(crate) fn finish(mut self) -> Result<(O, Summary), Trouble> {
        for (name, may_be_link, mode) in MOUNT_POINTS {
            self.mount_point(name, may_be_link, mode)?;
        }
        self.finish_as_it_is()
    }

    /// Writes the tree of what isn't a root file system.
    pub(crate) fn finish_as_it_is(self) -> Result<(O, Summary), Trouble> {
        self.check_entries()?;
        let (output, totals) = self.writer.finish(&self.tree)?;
        let summary = Summary {
            entries: self.tree.names(),
            bytes: totals.bytes,
            content_bytes: self.content_bytes,
            dropped_xattrs: self.dropped_xattrs,
            diff_ids: self.diff_ids,
        };
        Ok((output, summary))
    }

    fn mount_point(&mut self, name: &[u8], may_be_link: bool, mode: u16) -> Result<(), Trouble> {
        let found = match self.tree.child(Tree::ROOT, name) {
            Some(link) if may_be_link && matches!(self.tree.content(link), Content::Symlink(_)) => {
                self.directory(&[name], false)?
            }
            None => {
                self.layer = 0;
                Some(self.tree.insert(Tree::ROOT, name, Attributes { mode, ..IMPLIED }, Content::Directory))
            }
            there => there,
        };
        match found {
            Some(node) if self.tree.is_directory(node) => Ok(()),
            _ => malformed(name, "is mounted over or written to in every sandbox and must be a directory"),
        }
    }

    /// Fails where there are more entries than may be, or where they take more memory.
    fn check_entries(&self) -> Result<(), Trouble> {
        let Limits { entries, memory, .. } = self.limits;
        if self.entries.max(self.tree.names()) > entries {
            return Err(Trouble::Limit(format!("more than {entries} entries")));
        }
        if self.tree.memory() > memory {
            let bytes = self.tree.memory();
            return Err(Trouble::Limit(format!(
                "names and attributes take {bytes} bytes of memory, limit {memory}"
            )));
        }
        Ok(())
    }

    /// Fails where there isn't room for this many more bytes in the image.
    fn check_bytes(&self, path: &[u8], size: u64) -> Result<(), Trouble> {
        let limit = self.limits.bytes;
        let begin = self.writer.length().next_multiple_of(BLOCK);
        if begin.checked_add(size).is_none_or(|length| length > limit) {
            let rest = format!("a file of {size} bytes, where the image may have {limit} bytes");
            return Err(Trouble::Limit(format!("{}: {rest}", shown(path))));
        }
        Ok(())
    }
}
