//! Reads images that were written here: the base of a snapshot.
//!
//! The file may have been changed since, so everything that is used is checked: there is one encoding of everything,
//! directories are sorted and form a tree, and nothing lies outside the image.

use std::io;

use super::ReadAt;
use super::format::{
    self, BLOCK, BLOCK_BYTES, INODE, MAX_INLINE, MAX_NAME, RawInode, SLOT, Superblock, decode_entries,
};
use super::tree::{Attributes, Content, Device, Extent};

/// The longest target of a symbolic link.
const MAX_TARGET: u64 = 4095;

/// Why an image can't be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Io(io::Error),
    /// It isn't as it was written.
    Malformed(String),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, ReadError> {
    Err(ReadError::Malformed(what.into()))
}

/// An image that is read.
pub(crate) struct Image<'a> {
    file: &'a mut dyn ReadAt,
    superblock: Superblock,
}

/// What an inode is, as far as the reader has to know it for its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    Symlink,
    /// With its content.
    File(Extent),
    Other,
}

/// An inode of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    id: u64,
    raw: RawInode,
}

impl Inode {
    /// Its number in the image.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn links(&self) -> u32 {
        self.raw.links
    }

    pub(crate) fn attributes(&self) -> Attributes {
        let raw = &self.raw;
        let (user, group) = (raw.user, raw.group);
        let (seconds, nanoseconds) = (raw.seconds, raw.nanoseconds);
        Attributes { mode: raw.mode & !format::TYPE, user, group, seconds, nanoseconds }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.raw.mode & format::TYPE {
            format::DIRECTORY => Kind::Directory,
            format::SYMLINK => Kind::Symlink,
            format::REGULAR => Kind::File(Extent { block: self.raw.start, size: self.raw.size }),
            _ => Kind::Other,
        }
    }

    /// What it is, if that is known without its content.
    pub(crate) fn special(&self) -> Option<Content> {
        match self.raw.mode & format::TYPE {
            format::CHARACTER => Some(Content::Device(Device::Character, self.raw.start)),
            format::BLOCK_DEVICE => Some(Content::Device(Device::Block, self.raw.start)),
            format::FIFO => Some(Content::Fifo),
            format::SOCKET => Some(Content::Socket),
            _ => None,
        }
    }
}

/// An entry of a directory, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) name: Box<[u8]>,
    pub(crate) inode: u64,
    kind: u8,
}

impl Child {
    /// Whether the entry says the same of the type as the inode.
    pub(crate) fn agrees(&self, inode: &Inode) -> bool {
        self.kind == format::entry_type(inode.raw.mode)
    }
}

impl<'a> Image<'a> {
    pub(crate) fn open(file: &'a mut dyn ReadAt) -> Result<Self, ReadError> {
        let length = file.length()?;
        let mut block = vec![0; BLOCK_BYTES];
        if length < BLOCK {
            return malformed(format!("an image of {length} bytes has no superblock"));
        }
        file.read_exact_at(&mut block, 0)?;
        let Some(superblock) = Superblock::decode(&block) else {
            return malformed("its superblock isn't one of libsbx's");
        };
        if u64::from(superblock.blocks) * BLOCK != length {
            return malformed(format!("it has {} blocks, and {length} bytes", superblock.blocks));
        }
        Ok(Self { file, superblock })
    }

    pub(crate) fn root(&self) -> u64 {
        u64::from(self.superblock.root)
    }

    /// Fails if the range isn't in the image.
    fn check(&self, offset: u64, length: u64) -> Result<(), ReadError> {
        match offset.checked_add(length) {
            Some(end) if end <= u64::from(self.superblock.blocks) * BLOCK => Ok(()),
            _ => malformed(format!("{length} bytes at {offset} are outside the image")),
        }
    }

    pub(crate) fn inode(&mut self, id: u64) -> Result<Inode, ReadError> {
        let metadata = u64::from(self.superblock.metadata) * BLOCK;
        let Some(offset) = id.checked_mul(SLOT).and_then(|offset| offset.checked_add(metadata)) else {
            return malformed(format!("inode {id} is outside the image"));
        };
        self.check(offset, INODE as u64)?;
        let mut bytes = [0; INODE];
        self.file.read_exact_at(&mut bytes, offset)?;
        let Some(raw) = RawInode::decode(&bytes) else {
            return malformed(format!("inode {id} isn't one of libsbx's"));
        };
        let inode = Inode { id, raw };
        // Images have less than 2^32 blocks.
        let too_large = raw.size > BLOCK << u32::BITS;
        if raw.nanoseconds >= 1_000_000_000 || raw.links == 0 || too_large {
            return malformed(format!("inode {id} has attributes out of range"));
        }
        let whole = match inode.kind() {
            Kind::File(_) if raw.inline => return malformed(format!("inode {id} has its data behind it")),
            Kind::File(_) => raw.size.next_multiple_of(BLOCK),
            Kind::Symlink if raw.size == 0 || raw.size > MAX_TARGET => {
                return malformed(format!("inode {id} has a target of {} bytes", raw.size));
            }
            Kind::Directory | Kind::Symlink if raw.inline => raw.size - raw.size % BLOCK,
            Kind::Directory | Kind::Symlink => raw.size.next_multiple_of(BLOCK),
            Kind::Other if inode.special().is_none() || raw.inline || raw.size != 0 => {
                return malformed(format!("inode {id} has a type out of range"));
            }
            Kind::Other => 0,
        };
        if whole > 0 {
            self.check(u64::from(raw.start) * BLOCK, whole)?;
        }
        let rest = raw.size % BLOCK;
        if raw.inline
            && (rest == 0 || rest > MAX_INLINE as u64 || offset % BLOCK + INODE as u64 + rest > BLOCK)
        {
            return malformed(format!("inode {id} has a tail of {rest} bytes"));
        }
        Ok(inode)
    }

    /// Reads a block of a directory or a symbolic link, or what is used of the last one.
    fn block(&mut self, inode: &Inode, at: u64) -> Result<Vec<u8>, ReadError> {
        let left = inode.raw.size.saturating_sub(at * BLOCK).min(BLOCK);
        let offset = if inode.raw.inline && left < BLOCK {
            u64::from(self.superblock.metadata) * BLOCK + inode.id * SLOT + INODE as u64
        } else {
            (u64::from(inode.raw.start) + at) * BLOCK
        };
        self.check(offset, left)?;
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(BLOCK_BYTES)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The target of a symbolic link.
    pub(crate) fn target(&mut self, inode: &Inode) -> Result<Box<[u8]>, ReadError> {
        let target = self.block(inode, 0)?;
        if target.contains(&0) {
            return malformed(format!("inode {} has a target with a NUL", inode.id));
        }
        Ok(target.into())
    }

    /// Calls a function with each entry of a directory, in order.
    pub(crate) fn children<E: From<ReadError>>(
        &mut self,
        directory: &Inode,
        parent: u64,
        each: &mut dyn FnMut(&mut Self, Child) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut last: Option<Box<[u8]>> = None;
        let mut own = 0;
        let refused = |why: &str| ReadError::Malformed(format!("directory {} {why}", directory.id));
        for at in 0..directory.raw.size.div_ceil(BLOCK) {
            let block = self.block(directory, at)?;
            let entries = decode_entries(&block).ok_or_else(|| refused("has a block that can't be read"))?;
            for entry in entries {
                let name = entry.name;
                if last.as_deref().is_some_and(|last| last >= name) {
                    return Err(refused("isn't sorted").into());
                }
                last = Some(name.into());
                match name {
                    b"." if entry.inode == directory.id => own += 1,
                    b".." if entry.inode == parent => own += 1,
                    b"." | b".." => return Err(refused("isn't where it says").into()),
                    _ if name.is_empty()
                        || name.len() > MAX_NAME
                        || name.contains(&b'/')
                        || name.contains(&0) =>
                    {
                        return Err(refused("has a name that can't be one").into());
                    }
                    _ => each(self, Child { name: name.into(), inode: entry.inode, kind: entry.kind })?,
                }
            }
        }
        if own == 2 { Ok(()) } else { Err(refused("has no entries of its own").into()) }
    }

    /// Reads data of a file.
    pub(crate) fn read(&mut self, extent: Extent, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let begin = u64::from(extent.block) * BLOCK + offset;
        self.check(begin, into.len() as u64)?;
        self.file.read_exact_at(into, begin)?;
        Ok(())
    }
}
