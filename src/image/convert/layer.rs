//! Applies the entries of a layer to the tree.

use super::stream::Stream;
use super::tar::{Archive, Entry, Kind};
use super::{
    Content, Converter, Device, Extent, IMPLIED, MAX_NAME, NodeId, Output, Tree, Trouble, Whiteouts,
    malformed, shown,
};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// How many of a layer's devices that are whiteouts are remembered, for the hard links to them.
const MAX_WHITEOUT_DEVICES: usize = 1024;
/// What AUFS kept for itself in the root directory; docker leaves it out.
const AUFS: &[u8] = b".wh..wh.";
/// As many links are followed in a path, as in Linux.
const MAX_LINKS: u32 = 40;
/// The most names of a path and of the links in it together. Links that lead through one another would else take as much
/// work for each entry as a whole layer.
const MAX_STEPS: usize = 4096;

/// The names of a path.
fn components<'a>(entry: &[u8], path: &'a [u8]) -> Result<Vec<&'a [u8]>, Trouble> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names
        .map(|name| match name {
            b".." => malformed(entry, "a path in a layer must not contain .."),
            _ if name.len() > MAX_NAME => {
                malformed(entry, &format!("a name of {} bytes, limit {MAX_NAME}", name.len()))
            }
            _ => Ok(name),
        })
        .collect()
}

impl<O: Output> Converter<O> {
    pub(super) fn apply(
        &mut self,
        entry: &Entry,
        whiteouts: Whiteouts,
        archive: &mut Archive,
        stream: &mut Stream<'_>,
    ) -> Result<(), Trouble> {
        if entry.path.is_empty() {
            return Err(Trouble::Malformed("an entry of the layer has no name".into()));
        }
        let names = components(&entry.path, &entry.path)?;
        if whiteouts == Whiteouts::Oci && self.whiteout(entry, &names)? {
            return Ok(());
        }
        self.dropped_xattrs += entry.xattrs;
        let Some((name, parents)) = names.split_last() else {
            if entry.kind != Kind::Directory {
                return malformed(&entry.path, "the root must be a directory");
            }
            self.tree.set_attributes(Tree::ROOT, entry.attributes);
            return if whiteouts == Whiteouts::Devices && entry.opaque {
                self.clear(Tree::ROOT)
            } else {
                Ok(())
            };
        };
        if whiteouts == Whiteouts::Devices && self.is_whiteout_device(entry) {
            return self.remove_lower(parents, name);
        }
        let Some(parent) = self.directory_of(&entry.path, parents, true)? else {
            debug_assert!(false, "missing directories are made");
            return Ok(());
        };
        let old = self.tree.child(parent, name);
        let node = match (&entry.kind, old) {
            (Kind::Directory, Some(old)) if self.tree.is_directory(old) => {
                self.tree.set_attributes(old, entry.attributes);
                if whiteouts == Whiteouts::Devices && entry.opaque {
                    self.clear(old)?;
                }
                old
            }
            (Kind::HardLink(target), old) => {
                let found = self.linked(entry, target)?;
                if old != Some(found) {
                    self.remove(parent, name)?;
                    // It may have been the target.
                    let found = self.linked(entry, target)?;
                    self.tree.link(parent, name, found);
                }
                found
            }
            _ => {
                self.remove(parent, name)?;
                let content = self.content(entry, parent, archive, stream)?;
                self.tree.insert(parent, name, entry.attributes, content)
            }
        };
        debug_assert_eq!(self.tree.child(parent, name), Some(node), "the entry is in the tree");
        self.tree.mark(parent, name, self.layer);
        self.check_entries()
    }

    /// Applies a whiteout; returns false if the entry is none.
    fn whiteout(&mut self, entry: &Entry, names: &[&[u8]]) -> Result<bool, Trouble> {
        let Some((name, parents)) = names.split_last() else { return Ok(false) };
        if names.first().is_some_and(|first| first.starts_with(AUFS) && *first != OPAQUE) {
            return Ok(true);
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(false) };
        if *name == OPAQUE {
            if let Some(directory) = self.directory_of(&entry.path, parents, false)? {
                self.clear(directory)?;
            }
        } else if matches!(hidden, b"" | b"." | b"..") {
            return malformed(&entry.path, "a whiteout must name an entry of its directory");
        } else {
            self.remove_lower(parents, hidden)?;
        }
        Ok(true)
    }

    /// Whether the entry is a device that stands for a whiteout. gVisor has one device for all of them: the first is a
    /// device, and the others are hard links to it.
    fn is_whiteout_device(&mut self, entry: &Entry) -> bool {
        match &entry.kind {
            Kind::Device(Device::Character, 0, 0) => {
                if self.whiteout_devices.len() < MAX_WHITEOUT_DEVICES {
                    self.whiteout_devices.insert(entry.path.as_slice().into());
                }
                true
            }
            Kind::HardLink(target) => self.whiteout_devices.contains(target.as_slice()),
            _ => false,
        }
    }

    /// Removes what the layers below have at a path.
    fn remove_lower(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), Trouble> {
        let Some(parent) = self.directory(parents, false)? else { return Ok(()) };
        let Self { tree, writer, content_bytes, layer, .. } = self;
        tree.remove_unmarked(parent, name, *layer, &mut |extent| {
            *content_bytes -= extent.size;
            writer.discard(extent).map_err(Trouble::Io)
        })
    }

    /// Removes what the layers below have in a directory.
    fn clear(&mut self, directory: NodeId) -> Result<(), Trouble> {
        let Self { tree, writer, content_bytes, layer, .. } = self;
        tree.clear_unmarked(directory, *layer, &mut |extent| {
            *content_bytes -= extent.size;
            writer.discard(extent).map_err(Trouble::Io)
        })
    }

    fn remove(&mut self, parent: NodeId, name: &[u8]) -> Result<(), Trouble> {
        let Self { tree, writer, content_bytes, .. } = self;
        tree.remove(parent, name, &mut |extent| {
            *content_bytes -= extent.size;
            writer.discard(extent).map_err(Trouble::Io)
        })
    }

    /// [`Converter::directory`], with the entry in errors.
    fn directory_of(&mut self, entry: &[u8], path: &[&[u8]], make: bool) -> Result<Option<NodeId>, Trouble> {
        self.directory(path, make).map_err(|trouble| match trouble {
            Trouble::Malformed(text) => Trouble::Malformed(format!("{}: {text}", shown(entry))),
            Trouble::Limit(text) => Trouble::Limit(format!("{}: {text}", shown(entry))),
            other => other,
        })
    }

    /// Finds a directory, through symbolic links within the tree. Makes what is missing, or returns nothing.
    pub(super) fn directory(&mut self, path: &[&[u8]], make: bool) -> Result<Option<NodeId>, Trouble> {
        let mut here = Tree::ROOT;
        // The next one is the last.
        let mut rest: Vec<Box<[u8]>> = path.iter().rev().map(|name| (*name).into()).collect();
        let (mut links, mut steps) = (0, rest.len());
        while let Some(name) = rest.pop() {
            if *name == *b".." {
                here = self.tree.parent(here);
                continue;
            }
            let Some(child) = self.tree.child(here, &name) else {
                if !make {
                    return Ok(None);
                }
                here = self.make_directory(here, &name)?;
                continue;
            };
            match self.tree.content(child) {
                Content::Directory => here = child,
                Content::Symlink(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return malformed(&name, &format!("more than {MAX_LINKS} symbolic links in a path"));
                    }
                    if target.first() == Some(&b'/') {
                        here = Tree::ROOT;
                    }
                    let names = target.split(|byte| *byte == b'/');
                    let before = rest.len();
                    rest.extend(names.rev().filter(|name| !matches!(*name, b"" | b".")).map(Into::into));
                    steps += rest.len() - before;
                    if steps > MAX_STEPS {
                        let text = format!("more than {MAX_STEPS} names in a path and its symbolic links");
                        return malformed(&name, &text);
                    }
                }
                _ => return malformed(&name, "is not a directory"),
            }
        }
        Ok(Some(here))
    }

    /// Whether the layers so far have a directory at this path, links followed.
    pub(crate) fn has_directory(&mut self, path: &[u8]) -> Result<bool, Trouble> {
        let names = components(path, path)?;
        match self.directory(&names, false) {
            Ok(found) => Ok(found.is_some()),
            // A file or a link in a circle is none.
            Err(Trouble::Malformed(_)) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    /// Makes a directory that no entry has yet.
    fn make_directory(&mut self, parent: NodeId, name: &[u8]) -> Result<NodeId, Trouble> {
        if name.len() > MAX_NAME {
            return malformed(name, &format!("a name of {} bytes, limit {MAX_NAME}", name.len()));
        }
        self.check_depth(parent)?;
        let directory = self.tree.insert(parent, name, IMPLIED, Content::Directory);
        self.tree.mark(parent, name, self.layer);
        self.check_entries()?;
        Ok(directory)
    }

    /// Fails if a directory can't have directories in it.
    fn check_depth(&self, parent: NodeId) -> Result<(), Trouble> {
        let limit = self.limits.depth;
        if self.tree.depth(parent) < limit {
            Ok(())
        } else {
            Err(Trouble::Limit(format!("more than {limit} directories in one another")))
        }
    }

    /// The target of a hard link.
    fn linked(&mut self, entry: &Entry, target: &[u8]) -> Result<NodeId, Trouble> {
        let names = components(&entry.path, target)?;
        let missing =
            |why: &str| malformed(&entry.path, &format!("a hard link to {}, which {why}", shown(target)));
        let Some((name, parents)) = names.split_last() else { return missing("is a directory") };
        let parent = self.directory_of(&entry.path, parents, false)?;
        match parent.and_then(|parent| self.tree.child(parent, name)) {
            Some(node) if self.tree.is_directory(node) => missing("is a directory"),
            Some(node) => Ok(node),
            None => missing("isn't there"),
        }
    }

    /// Writes the data of an entry, and returns what is in the tree of it.
    fn content(
        &mut self,
        entry: &Entry,
        parent: NodeId,
        archive: &mut Archive,
        stream: &mut Stream<'_>,
    ) -> Result<Content, Trouble> {
        Ok(match &entry.kind {
            Kind::Directory => {
                self.check_depth(parent)?;
                Content::Directory
            }
            Kind::File => Content::File(self.file(entry, archive, stream)?),
            Kind::Symlink(target) => Content::Symlink(target.clone().into()),
            Kind::Device(device, major, minor) => match device_number(*major, *minor) {
                Some(number) => Content::Device(*device, number),
                None => {
                    return malformed(&entry.path, &format!("a device {major}/{minor}, limit 4095/1048575"));
                }
            },
            Kind::Fifo => Content::Fifo,
            Kind::HardLink(_) => {
                debug_assert!(false, "a link has no content of its own");
                Content::Fifo
            }
        })
    }

    fn file(
        &mut self,
        entry: &Entry,
        archive: &mut Archive,
        stream: &mut Stream<'_>,
    ) -> Result<Extent, Trouble> {
        self.check_bytes(&entry.path, entry.size)?;
        self.writer.begin_file(entry.size)?;
        let whole = [(0, entry.size)];
        let segments = entry.segments.as_deref().unwrap_or(&whole);
        let mut at = 0;
        for (offset, length) in segments {
            self.writer.skip(offset - at)?;
            at = offset + length;
            let mut left = *length;
            while left > 0 {
                let piece = archive.content(stream)?;
                let piece = piece.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(piece);
                self.writer.write(piece)?;
                let length = piece.len();
                if length == 0 {
                    debug_assert!(false, "the parts are as long as the content");
                    break;
                }
                left -= length as u64;
                archive.consume(length, stream);
            }
        }
        self.writer.skip(entry.size - at)?;
        self.content_bytes += entry.size;
        Ok(self.writer.end_file()?)
    }
}

/// A device's number as stat(2) has it in 32 bits.
fn device_number(major: u64, minor: u64) -> Option<u32> {
    let (major, minor) = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
    (major < 1 << 12 && minor < 1 << 20).then_some(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}
