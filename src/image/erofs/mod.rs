//! Writes EROFS images as gVisor maps them, and reads those that were written here.
//!
//! An image is one file. The data of its files comes first, each in consecutive blocks and in the order in which it
//! was written; the directories and inodes follow, and the superblock in block 0 is written last. So data can be
//! streamed to its final place before the tree is known. Whatever isn't written is a hole.
//!
//! What gVisor asks for decides the format (pkg/erofs there): blocks of 4 KiB, no incompatible features, no extended
//! attributes, extended inodes (32-bit ids, nanoseconds), regular files in whole blocks so that they can be mapped.
//! Directories and symbolic links have their last part behind their inode, where it fits. Nothing depends on a clock,
//! a hash seed or an address: the same input makes the same bytes.
//!
//! Not a crate, because none fits: `erofs-rs` wants a newer Rust and builds from a directory, `composefs` writes
//! the extended attributes that gVisor refuses, and mkfs.erofs is a program that users would have to install.

mod format;
mod reader;
mod tree;
mod writer;

use std::io;

pub(crate) use format::{BLOCK, MAGIC, MAX_NAME, SUPERBLOCK};
pub(crate) use reader::{Image, Inode, Kind, ReadError};
pub(crate) use tree::{Attributes, Content, Device, Extent, NodeId, Tree};
pub(crate) use writer::{Totals, Writer};

#[cfg(test)]
pub(crate) mod tests;

/// Where an image is written to.
pub(crate) trait Output {
    /// Writes all bytes at an offset. What was never written reads as zeroes; blocks of zeroes are never passed.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range of whole blocks zeroes again, and frees its space.
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()>;
}

/// An image to read.
pub(crate) trait ReadAt {
    /// Fills the buffer from an offset.
    fn read_exact_at(&mut self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// The length of the image.
    fn length(&mut self) -> io::Result<u64>;
}

/// In memory.
impl Output for Vec<u8> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let end =
            begin.checked_add(bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if self.len() < end {
            self.resize(end, 0);
        }
        if let Some(place) = self.get_mut(begin..end) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).map_err(io::Error::other)?.min(self.len());
        let end = usize::try_from(offset.saturating_add(length)).map_err(io::Error::other)?.min(self.len());
        self.get_mut(begin..end).unwrap_or_default().fill(0);
        Ok(())
    }
}

impl ReadAt for &[u8] {
    fn read_exact_at(&mut self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.get(begin..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn length(&mut self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}
