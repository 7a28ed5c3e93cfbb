//! Writes an image: file data as it comes, then directories and inodes, then the superblock.

use std::io;

use super::Output;
use super::format::{
    self, BLOCK, BLOCK_BYTES, Entry, INODE, MAX_INLINE, Packing, RawInode, SLOT, Superblock,
};
use super::tree::{Content, Extent, NodeId, Tree};

/// As much is written at once.
const BUFFER: usize = 64 * BLOCK_BYTES;
/// The root's number. Not 0, which readdir(3) takes for a removed entry.
const ROOT_SLOT: u16 = 2;
/// The room that a block has for an inode: fsck.erofs 1.5 looks for attributes behind each, and fails at the image's end.
const MIN_ROOM: u64 = INODE as u64 + 12;
const ZEROES: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
/// The blocks of an image have numbers of 32 bits.
const MAX_BLOCKS: u64 = 1 << 32;

/// The size of an image that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// Writes one image.
#[derive(Debug)]
pub(crate) struct Writer<O: Output> {
    output: O,
    /// What follows at `offset`: not written yet.
    buffer: Vec<u8>,
    /// A whole number of blocks.
    offset: u64,
    /// The file that is being written.
    file: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    extent: Extent,
    left: u64,
}

impl<O: Output> Writer<O> {
    pub(crate) fn new(output: O) -> Self {
        Self { output, buffer: Vec::with_capacity(BUFFER), offset: BLOCK, file: None }
    }

    /// The length of the image so far.
    pub(crate) fn length(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Begins a file of this size. All of its data has to be written before the next one begins.
    pub(crate) fn begin_file(&mut self, size: u64) -> io::Result<()> {
        debug_assert!(self.file.is_none(), "one file after another");
        self.fill_block()?;
        let end = self.length().checked_add(size).filter(|end| end.div_ceil(BLOCK) <= MAX_BLOCKS);
        let block = u32::try_from(self.length() / BLOCK).ok().filter(|_| end.is_some());
        let block = block
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "the image has too many blocks"))?;
        // An empty file has no block.
        let block = if size == 0 { 0 } else { block };
        self.file = Some(OpenFile { extent: Extent { block, size }, left: size });
        Ok(())
    }

    /// Writes data of the file that was begun.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count(bytes.len() as u64)?;
        self.push(bytes)
    }

    /// Leaves a hole in the file that was begun.
    pub(crate) fn skip(&mut self, length: u64) -> io::Result<()> {
        self.count(length)?;
        let push = |writer: &mut Self, length: u64| {
            writer.push(ZEROES.get(..usize::try_from(length).unwrap_or(BLOCK_BYTES)).unwrap_or(&ZEROES))
        };
        let head = length.min(self.length().next_multiple_of(BLOCK) - self.length());
        push(self, head)?;
        let blocks = (length - head) / BLOCK;
        if blocks > 0 {
            self.flush()?;
            self.offset += blocks * BLOCK;
        }
        push(self, (length - head) % BLOCK)
    }

    fn count(&mut self, length: u64) -> io::Result<()> {
        let left = self.file.as_mut().map(|file| &mut file.left);
        match left.and_then(|left| left.checked_sub(length).map(|less| (left, less))) {
            Some((left, less)) => {
                *left = less;
                Ok(())
            }
            None => Err(io::Error::other("more data than the file has")),
        }
    }

    /// Ends the file that was begun.
    pub(crate) fn end_file(&mut self) -> io::Result<Extent> {
        match self.file.take() {
            Some(OpenFile { extent, left: 0 }) => Ok(extent),
            _ => Err(io::Error::other("less data than the file has")),
        }
    }

    /// Writes a file whose data is in memory.
    pub(crate) fn file(&mut self, data: &[u8]) -> io::Result<Extent> {
        self.begin_file(data.len() as u64)?;
        self.write(data)?;
        self.end_file()
    }

    /// Makes the blocks of a file that no name refers to a hole.
    pub(crate) fn discard(&mut self, extent: Extent) -> io::Result<()> {
        if extent.size == 0 {
            return Ok(());
        }
        // Its last part may not be written yet.
        self.fill_block()?;
        self.flush()?;
        self.output.discard(u64::from(extent.block) * BLOCK, extent.size.next_multiple_of(BLOCK))
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER.saturating_sub(self.buffer.len())));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Fills the last block up with zeroes, which programs see that map a file.
    fn fill_block(&mut self) -> io::Result<()> {
        let length = self.buffer.len().next_multiple_of(BLOCK_BYTES);
        self.buffer.resize(length, 0);
        if length >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes the buffer, which holds whole blocks, without those of zeroes.
    fn flush(&mut self) -> io::Result<()> {
        debug_assert!(self.buffer.len().is_multiple_of(BLOCK_BYTES), "whole blocks");
        let run = |bytes: &[u8], zeroes: bool| {
            let blocks = bytes.chunks(BLOCK_BYTES);
            blocks.take_while(|block| (*block == ZEROES) == zeroes).map(<[u8]>::len).sum::<usize>()
        };
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            let (hole, behind) = rest.split_at(run(rest, true));
            let (data, behind) = behind.split_at(run(behind, false));
            self.offset += hole.len() as u64;
            if !data.is_empty() {
                self.output.write_at(data, self.offset)?;
            }
            self.offset += data.len() as u64;
            rest = behind;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Writes the tree and the superblock.
    pub(crate) fn finish(mut self, tree: &Tree) -> io::Result<(O, Totals)> {
        debug_assert!(self.file.is_none(), "the last file is whole");
        self.fill_block()?;
        let plan = Plan::new(tree, self.length())?;
        for node in &plan.order {
            let (mut whole, _) = split(content_size(tree, *node));
            plan.each_block(tree, *node, &mut |bytes| {
                if whole > 0 {
                    whole -= 1;
                    self.push(bytes)?;
                    self.fill_block()?;
                }
                Ok(())
            })?;
        }
        let begin = self.length();
        debug_assert_eq!(begin, u64::from(plan.metadata) * BLOCK, "the inodes follow");
        for (node, number) in plan.order.iter().zip(1..) {
            // An inode and what stands behind it are in one block: there may be a gap before them.
            let gap = u64::from(plan.place(*node).slot) * SLOT - (self.length() - begin);
            self.push(ZEROES.get(..usize::try_from(gap).unwrap_or(BLOCK_BYTES)).unwrap_or(&ZEROES))?;
            self.push(&plan.inode(tree, *node, number).encode())?;
            let (mut whole, inline) = split(content_size(tree, *node));
            if inline {
                plan.each_block(tree, *node, &mut |bytes| {
                    let is_last = whole == 0;
                    whole = whole.saturating_sub(1);
                    if is_last { self.push(bytes) } else { Ok(()) }
                })?;
            }
        }
        self.fill_block()?;
        self.flush()?;
        let blocks = u32::try_from(self.offset / BLOCK).map_err(io::Error::other)?;
        let inodes = plan.order.len() as u64;
        let superblock = Superblock { root: ROOT_SLOT, inodes, blocks, metadata: plan.metadata };
        self.output.write_at(&superblock.encode(), 0)?;
        Ok((self.output, Totals { bytes: self.offset, inodes }))
    }
}

/// The size of what a directory or a symbolic link has in the metadata.
fn content_size(tree: &Tree, node: NodeId) -> u64 {
    match tree.content(node) {
        Content::Directory => {
            let mut packing = Packing::default();
            for (name, _) in tree.entries(node) {
                packing.add(name.len());
            }
            packing.size()
        }
        Content::Symlink(target) => target.len() as u64,
        Content::File(_) | Content::Device(..) | Content::Fifo | Content::Socket => 0,
    }
}

/// How much of a content stands in whole blocks of its own, and whether the rest stands behind the inode.
fn split(size: u64) -> (u64, bool) {
    let rest = size % BLOCK;
    let inline = rest > 0 && rest <= MAX_INLINE as u64;
    (if inline { size / BLOCK } else { size.div_ceil(BLOCK) }, inline)
}

/// Where a node is written.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The inode's number. 0 before it has one.
    slot: u32,
    /// The first block of a directory or a symbolic link.
    start: u32,
}

/// Where everything behind the data of files is written.
#[derive(Debug)]
struct Plan {
    /// Each node once: a directory's entries follow one another.
    order: Vec<NodeId>,
    places: Vec<Place>,
    /// The first block of the inodes.
    metadata: u32,
}

impl Plan {
    fn new(tree: &Tree, length: u64) -> io::Result<Self> {
        let mut plan =
            Self { order: Vec::new(), places: vec![Place::default(); tree.capacity()], metadata: 0 };
        let mut ends = (u64::from(ROOT_SLOT) * SLOT, length / BLOCK);
        plan.add(tree, Tree::ROOT, &mut ends)?;
        let mut at = 0;
        while let Some(node) = plan.order.get(at).copied() {
            for (_, child) in tree.entries(node) {
                if plan.place(child).slot == 0 {
                    plan.add(tree, child, &mut ends)?;
                }
            }
            at += 1;
        }
        plan.metadata = u32::try_from(ends.1).map_err(io::Error::other)?;
        Ok(plan)
    }

    /// Gives a node its place at the end of the inodes and of the blocks so far.
    fn add(&mut self, tree: &Tree, node: NodeId, ends: &mut (u64, u64)) -> io::Result<()> {
        let (inodes, blocks) = ends;
        let size = content_size(tree, node);
        let (whole, inline) = split(size);
        let record = INODE as u64 + if inline { size % BLOCK } else { 0 };
        if *inodes % BLOCK + record.max(MIN_ROOM) > BLOCK {
            *inodes = inodes.next_multiple_of(BLOCK);
        }
        let slot = u32::try_from(*inodes / SLOT).map_err(io::Error::other)?;
        let start = if whole > 0 { u32::try_from(*blocks).map_err(io::Error::other)? } else { 0 };
        *inodes = (*inodes + record).next_multiple_of(SLOT);
        *blocks += whole;
        if let Some(place) = self.places.get_mut(node.index()) {
            *place = Place { slot, start };
        }
        self.order.push(node);
        Ok(())
    }

    fn place(&self, node: NodeId) -> Place {
        self.places.get(node.index()).copied().unwrap_or_default()
    }

    fn inode(&self, tree: &Tree, node: NodeId, number: u32) -> RawInode {
        let attributes = tree.attributes(node);
        let content = tree.content(node);
        let metadata = content_size(tree, node);
        let (size, start) = match content {
            Content::File(extent) => (extent.size, extent.block),
            Content::Device(_, number) => (0, *number),
            Content::Directory | Content::Symlink(_) => (metadata, self.place(node).start),
            Content::Fifo | Content::Socket => (0, 0),
        };
        RawInode {
            mode: content.type_bits() | attributes.mode & !format::TYPE,
            inline: split(metadata).1,
            size,
            start,
            number,
            user: attributes.user,
            group: attributes.group,
            seconds: attributes.seconds,
            nanoseconds: attributes.nanoseconds,
            links: tree.links(node),
        }
    }

    /// Encodes what a directory or a symbolic link has in the metadata, block by block.
    fn each_block(
        &self,
        tree: &Tree,
        node: NodeId,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Content::Symlink(target) = tree.content(node) {
            return write(target);
        }
        let mut packing = Packing::default();
        let (mut entries, mut bytes) = (Vec::new(), Vec::new());
        for (name, child) in tree.entries(node) {
            if packing.add(name.len()) {
                format::encode_entries(&entries, &mut bytes);
                write(&bytes)?;
                entries.clear();
                bytes.clear();
            }
            let inode = u64::from(self.place(child).slot);
            let mode = tree.content(child).type_bits();
            entries.push(Entry { name, inode, kind: format::entry_type(mode) });
        }
        format::encode_entries(&entries, &mut bytes);
        if bytes.is_empty() { Ok(()) } else { write(&bytes) }
    }
}
