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
mod storage;
mod tree;
mod writer;

pub(crate) use format::{BLOCK, MAGIC, MAX_NAME, SUPERBLOCK};
pub(crate) use reader::{Image, Inode, Kind, ReadError};
pub(crate) use storage::{Output, ReadAt};
pub(crate) use tree::{Attributes, Content, Device, Extent, NodeId, Tree};
pub(crate) use writer::{Totals, Writer};

#[cfg(test)]
pub(crate) mod tests;
