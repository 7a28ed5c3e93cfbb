//! The structures on disk: superblock, inode, directory block (the kernel's fs/erofs/erofs_fs.h).

/// The size of a block.
pub(crate) const BLOCK: u64 = 4096;
/// The longest name of an entry.
pub(crate) const MAX_NAME: usize = 255;

/// [`BLOCK`], of memory.
pub(super) const BLOCK_BYTES: usize = 4096;
/// An inode's number is its place in the metadata in units of this many bytes.
pub(super) const SLOT: u64 = 32;
/// The size of an extended inode.
pub(super) const INODE: usize = 64;
/// The longest content that stands behind its inode: both are in one block.
pub(super) const MAX_INLINE: usize = BLOCK_BYTES - INODE;
/// The size of an entry in a directory block, without its name.
pub(super) const ENTRY: usize = 12;

const BLOCK_BITS: u8 = 12;
/// Where the superblock is.
pub(crate) const SUPERBLOCK: usize = 1024;
/// What it begins with.
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
/// The superblock has a checksum; inodes have the time of modification.
const COMPATIBLE_FEATURES: u32 = 1 | 2;

const LAYOUT_PLAIN: u16 = 1;
const LAYOUT_INLINE: u16 = 1 | 2 << 1;

/// The type bits of a mode.
pub(super) const TYPE: u16 = 0o170_000;
pub(super) const FIFO: u16 = 0o010_000;
pub(super) const CHARACTER: u16 = 0o020_000;
pub(super) const DIRECTORY: u16 = 0o040_000;
pub(super) const BLOCK_DEVICE: u16 = 0o060_000;
pub(super) const REGULAR: u16 = 0o100_000;
pub(super) const SYMLINK: u16 = 0o120_000;
pub(super) const SOCKET: u16 = 0o140_000;

/// What a directory entry says of the type.
pub(super) fn entry_type(mode: u16) -> u8 {
    match mode & TYPE {
        REGULAR => 1,
        DIRECTORY => 2,
        CHARACTER => 3,
        BLOCK_DEVICE => 4,
        FIFO => 5,
        SOCKET => 6,
        SYMLINK => 7,
        _ => 0,
    }
}

/// Takes a number from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) root: u16,
    pub(super) inodes: u64,
    /// The length of the image in blocks.
    pub(super) blocks: u32,
    /// The first block of the inodes.
    pub(super) metadata: u32,
}

impl Superblock {
    /// Encodes block 0.
    pub(super) fn encode(self) -> Vec<u8> {
        let without_checksum = self.encode_with(0);
        self.encode_with(checksum(without_checksum.get(SUPERBLOCK..).unwrap_or_default()))
    }

    fn encode_with(self, checksum: u32) -> Vec<u8> {
        let mut block = vec![0; SUPERBLOCK];
        for number in [MAGIC, checksum, COMPATIBLE_FEATURES] {
            block.extend(number.to_le_bytes());
        }
        // No slots behind the superblock.
        block.extend([BLOCK_BITS, 0]);
        block.extend(self.root.to_le_bytes());
        block.extend(self.inodes.to_le_bytes());
        // The time of building is 1970.
        block.extend([0; 8 + 4]);
        block.extend(self.blocks.to_le_bytes());
        block.extend(self.metadata.to_le_bytes());
        // No attributes, no UUID, no name, no incompatible features.
        block.resize(BLOCK_BYTES, 0);
        block
    }

    /// Decodes block 0 of an image that [`Superblock::encode`] made.
    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        let mut rest = block.get(SUPERBLOCK + 12 + 2..)?;
        let root = u16::from_le_bytes(take(&mut rest)?);
        let inodes = u64::from_le_bytes(take(&mut rest)?);
        let _time: [u8; 12] = take(&mut rest)?;
        let blocks = u32::from_le_bytes(take(&mut rest)?);
        let metadata = u32::from_le_bytes(take(&mut rest)?);
        let superblock = Self { root, inodes, blocks, metadata };
        // It has one encoding.
        (superblock.encode() == block).then_some(superblock)
    }
}

/// CRC-32C, without the last inversion, as the kernel computes it.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// An extended inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawInode {
    pub(super) mode: u16,
    /// The last part of the content, which isn't a whole block, stands behind the inode.
    pub(super) inline: bool,
    pub(super) size: u64,
    /// The first block of the content, or a device's number.
    pub(super) start: u32,
    pub(super) number: u32,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) links: u32,
}

impl RawInode {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(INODE);
        let layout = if self.inline { LAYOUT_INLINE } else { LAYOUT_PLAIN };
        for number in [layout, 0, self.mode, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.size.to_le_bytes());
        for number in [self.start, self.number, self.user, self.group] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.seconds.to_le_bytes());
        bytes.extend(self.nanoseconds.to_le_bytes());
        bytes.extend(self.links.to_le_bytes());
        bytes.resize(INODE, 0);
        bytes
    }

    /// Decodes what [`RawInode::encode`] made.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut short = || take(&mut rest).map(u16::from_le_bytes);
        let (layout, _attributes, mode, _reserved) = (short()?, short()?, short()?, short()?);
        let size = u64::from_le_bytes(take(&mut rest)?);
        let mut long = || take(&mut rest).map(u32::from_le_bytes);
        let (start, number, user, group) = (long()?, long()?, long()?, long()?);
        let seconds = i64::from_le_bytes(take(&mut rest)?);
        let mut long = || take(&mut rest).map(u32::from_le_bytes);
        let (nanoseconds, links) = (long()?, long()?);
        let inline = layout == LAYOUT_INLINE;
        let inode = Self { mode, inline, size, start, number, user, group, seconds, nanoseconds, links };
        // It has one encoding: other layouts, attributes and what is reserved are refused.
        (inode.encode() == bytes).then_some(inode)
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u64,
    pub(super) kind: u8,
}

/// How the entries of a directory are laid out in blocks, by the lengths of their names.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packing {
    full: u64,
    used: usize,
}

impl Packing {
    /// Adds a name; whether it begins another block than the one before.
    pub(super) fn add(&mut self, length: usize) -> bool {
        let needed = ENTRY + length;
        let another = self.used + needed > BLOCK_BYTES;
        if another {
            self.full += 1;
            self.used = 0;
        }
        self.used += needed;
        another
    }

    /// The size of the directory.
    pub(super) fn size(&self) -> u64 {
        self.full * BLOCK + self.used as u64
    }
}

/// Encodes the entries of one block, without what fills it up: entries, then names.
pub(super) fn encode_entries(entries: &[Entry<'_>], bytes: &mut Vec<u8>) {
    let mut at = entries.len() * ENTRY;
    for entry in entries {
        bytes.extend(entry.inode.to_le_bytes());
        // A block is smaller than 64 KiB.
        bytes.extend(u16::try_from(at).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend([entry.kind, 0]);
        at += entry.name.len();
    }
    entries.iter().for_each(|entry| bytes.extend(entry.name));
}

/// Decodes a block that [`encode_entries`] made: the whole of it, or what is used of the last one.
pub(super) fn decode_entries(block: &[u8]) -> Option<Vec<Entry<'_>>> {
    let offset = |at: usize| {
        let entry = block.get(at * ENTRY..)?;
        entry.get(8..10)?.first_chunk().map(|bytes| usize::from(u16::from_le_bytes(*bytes)))
    };
    let first = offset(0)?;
    let count = first / ENTRY;
    if first % ENTRY != 0 || count == 0 {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    for at in 0..count {
        let mut rest = block.get(at * ENTRY..)?;
        let inode = u64::from_le_bytes(take(&mut rest)?);
        let begin = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let [kind, reserved] = take(&mut rest)?;
        let name = if at + 1 < count {
            block.get(begin..offset(at + 1)?)?
        } else {
            // Zeroes behind the last name fill the block up.
            block.get(begin..)?.split(|byte| *byte == 0).next()?
        };
        if reserved != 0 {
            return None;
        }
        entries.push(Entry { name, inode, kind });
    }
    Some(entries)
}
