//! The image that has init, for sandboxes whose root file system is an image: a file in memory that all sandboxes of the
//! process share.

use std::os::fd::OwnedFd;

use crate::error::{Context, Result};
use crate::sys::memfd;

const BLOCK: usize = 4096;
/// Where its parts are, in blocks. The superblock is in the first.
const INODES: u32 = 1;
const DIRECTORY: u32 = 2;
const PROGRAM: u32 = 3;
/// The numbers of the two inodes, which count from the file's beginning in units of 32 bytes.
const ROOT: u16 = 128;
const INIT: u16 = ROOT + 2;

/// Makes the image of this program.
pub(super) fn make(program: &[u8]) -> Result<OwnedFd> {
    memfd::sealed(&bytes(program)).context("init's image in memory")
}

/// An EROFS image with one file, `init` (erofs_fs.h in the kernel's sources).
fn bytes(program: &[u8]) -> Vec<u8> {
    let blocks = PROGRAM + u32::try_from(program.len().div_ceil(BLOCK)).unwrap_or(u32::MAX);
    let mut image = Vec::with_capacity(program.len() + 4 * BLOCK);
    image.resize(1024, 0);
    superblock(&mut image, blocks);
    image.resize(BLOCK, 0);
    let directory = directory();
    inode(&mut image, 0o040_755, directory.len(), DIRECTORY, 2);
    inode(&mut image, 0o100_555, program.len(), PROGRAM, 1);
    image.resize(2 * BLOCK, 0);
    image.extend_from_slice(&directory);
    image.resize(3 * BLOCK, 0);
    image.extend_from_slice(program);
    image.resize(image.len().next_multiple_of(BLOCK), 0);
    image
}

fn superblock(image: &mut Vec<u8>, blocks: u32) {
    image.extend_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
    // No checksum, no features; blocks of 2^12 bytes.
    image.extend_from_slice(&[0; 8]);
    image.extend_from_slice(&[12, 0]);
    image.extend_from_slice(&ROOT.to_le_bytes());
    // Two inodes, no time.
    image.extend_from_slice(&2_u64.to_le_bytes());
    image.extend_from_slice(&[0; 12]);
    image.extend_from_slice(&blocks.to_le_bytes());
}

/// An extended inode whose data is in whole blocks.
fn inode(image: &mut Vec<u8>, mode: u16, size: usize, block: u32, links: u32) {
    let start = image.len();
    image.extend_from_slice(&1_u16.to_le_bytes());
    image.extend_from_slice(&[0; 2]);
    image.extend_from_slice(&mode.to_le_bytes());
    image.extend_from_slice(&[0; 2]);
    image.extend_from_slice(&u64::try_from(size).unwrap_or(u64::MAX).to_le_bytes());
    image.extend_from_slice(&block.to_le_bytes());
    image.extend_from_slice(&INODES.to_le_bytes());
    // Root's, of no time.
    image.resize(start + 44, 0);
    image.extend_from_slice(&links.to_le_bytes());
    image.resize(start + 64, 0);
}

/// The root directory: entries of 12 bytes, then their names.
fn directory() -> Vec<u8> {
    const ENTRIES: [(&[u8], u16, u8); 3] = [(b".", ROOT, 2), (b"..", ROOT, 2), (b"init", INIT, 1)];
    let mut directory = Vec::new();
    let mut at = 12 * u16::try_from(ENTRIES.len()).unwrap_or(0);
    for (name, number, kind) in ENTRIES {
        directory.extend_from_slice(&u64::from(number).to_le_bytes());
        directory.extend_from_slice(&at.to_le_bytes());
        directory.extend_from_slice(&[kind, 0]);
        at = at.saturating_add(u16::try_from(name.len()).unwrap_or(0));
    }
    directory.extend(ENTRIES.into_iter().flat_map(|(name, ..)| name));
    directory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_parts_are_where_it_says() {
        let image = bytes(&[7; 5000]);
        assert_eq!(image.len(), 5 * BLOCK);
        let number = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        assert_eq!((number(1024), number(1024 + 36)), (0xe0f5_e1e2, 5));
        let init = 32 * usize::from(INIT);
        assert_eq!((number(init + 8), number(init + 16)), (5000, PROGRAM));
        assert_eq!(image[3 * BLOCK..3 * BLOCK + 5000], [7; 5000]);
        assert!(image[3 * BLOCK + 5000..].iter().all(|byte| *byte == 0));
    }
}
