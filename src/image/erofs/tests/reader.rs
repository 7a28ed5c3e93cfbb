//! A reader of the tests' own, which follows the kernel's description and shares no code with the writer.

use std::collections::BTreeMap;

/// What a path is in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// With the type.
    pub(crate) mode: u16,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    pub(crate) links: u32,
    /// A file's data, a link's target.
    pub(crate) data: Vec<u8>,
    pub(crate) device: u32,
    /// Equal for the names of one file.
    pub(crate) inode: u64,
}

fn number<const N: usize>(image: &[u8], at: usize) -> [u8; N] {
    image[at..at + N].try_into().unwrap()
}

fn u16_at(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(image, at))
}

fn u32_at(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(image, at))
}

fn u64_at(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(image, at))
}

/// The CRC-32C of the kernel's crc32c(), by a table.
fn crc32c(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| (0..8).fold(byte, |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 }))
        .collect();
    bytes.iter().fold(u32::MAX, |sum, byte| table[(sum ^ u32::from(*byte)) as usize & 0xff] ^ sum >> 8)
}

/// Reads a whole image: paths without the leading slash; the root's is empty.
pub(crate) fn read(image: &[u8]) -> BTreeMap<Vec<u8>, Seen> {
    let superblock = &image[1024..1152];
    assert_eq!(u32_at(superblock, 0), 0xe0f5_e1e2, "magic");
    let mut summed = image[1024..4096].to_vec();
    summed[4..8].fill(0);
    assert_eq!(u32_at(superblock, 4), crc32c(&summed), "checksum");
    assert_eq!(u32_at(superblock, 8), 3, "compatible features");
    assert_eq!(superblock[12], 12, "blocks of 4 KiB");
    assert_eq!(u32_at(superblock, 80), 0, "incompatible features");
    assert_eq!(u32_at(superblock, 36) as usize * 4096, image.len(), "blocks");
    let root = u64::from(u16_at(superblock, 14));
    let mut found = BTreeMap::new();
    let metadata = u32_at(superblock, 40) as usize * 4096;
    walk(image, metadata, root, root, Vec::new(), &mut found);
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
    found.values().for_each(|seen| *names.entry(seen.inode).or_default() += 1);
    assert_eq!(u64_at(superblock, 16), names.len() as u64, "inodes");
    for seen in found.values().filter(|seen| seen.mode & 0o170_000 != 0o040_000) {
        assert_eq!(seen.links, names[&seen.inode], "the names of inode {}", seen.inode);
    }
    found
}

fn content(image: &[u8], metadata: usize, inode: u64) -> Vec<u8> {
    let at = metadata + 32 * usize::try_from(inode).unwrap();
    let size = usize::try_from(u64_at(image, at + 8)).unwrap();
    let begin = u32_at(image, at + 16) as usize * 4096;
    match u16_at(image, at) {
        1 => {
            let end = begin + size;
            // What programs see behind the end of a file that they map.
            assert!(size == 0 || image[end..end.next_multiple_of(4096)].iter().all(|byte| *byte == 0));
            image[begin..end].to_vec()
        }
        5 => {
            let tail = size % 4096;
            assert!(tail > 0, "something is inline");
            let inline = at + 64;
            assert_eq!(inline / 4096, (inline + tail - 1) / 4096, "in one block");
            assert_eq!(at / 4096, inline / 4096, "in the block of its inode");
            [&image[begin..begin + size - tail], &image[inline..inline + tail]].concat()
        }
        other => panic!("layout {other}"),
    }
}

fn walk(
    image: &[u8],
    metadata: usize,
    inode: u64,
    parent: u64,
    path: Vec<u8>,
    found: &mut BTreeMap<Vec<u8>, Seen>,
) {
    let at = metadata + 32 * usize::try_from(inode).unwrap();
    let mode = u16_at(image, at + 4);
    let kind = mode & 0o170_000;
    let mut seen = Seen {
        mode,
        user: u32_at(image, at + 24),
        group: u32_at(image, at + 28),
        seconds: u64_at(image, at + 32).cast_signed(),
        nanoseconds: u32_at(image, at + 40),
        links: u32_at(image, at + 44),
        inode,
        ..Seen::default()
    };
    match kind {
        0o040_000 => {}
        0o100_000 => {
            assert_eq!(u16_at(image, at), 1, "files can be mapped");
            seen.data = content(image, metadata, inode);
        }
        0o120_000 => seen.data = content(image, metadata, inode),
        _ => seen.device = u32_at(image, at + 16),
    }
    let links = seen.links;
    found.insert(path.clone(), seen);
    if kind != 0o040_000 {
        return;
    }
    let directory = content(image, metadata, inode);
    let (mut names, mut subdirectories) = (Vec::<Vec<u8>>::new(), 0);
    for block in directory.chunks(4096) {
        let count = usize::from(u16_at(block, 8)) / 12;
        for at in 0..count {
            let begin = usize::from(u16_at(block, at * 12 + 8));
            let name = if at + 1 < count {
                &block[begin..usize::from(u16_at(block, at * 12 + 20))]
            } else {
                block[begin..].split(|byte| *byte == 0).next().unwrap()
            };
            let child = u64_at(block, at * 12);
            names.push(name.to_vec());
            match name {
                b"." => assert_eq!(child, inode),
                b".." => assert_eq!(child, parent),
                _ => {
                    let below = if path.is_empty() { name.to_vec() } else { [&path, name].join(&b'/') };
                    walk(image, metadata, child, inode, below.clone(), found);
                    let kind = found[&below].mode >> 12;
                    let kinds = [0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6];
                    assert_eq!(block[at * 12 + 10], kinds[usize::from(kind)], "the type in the entry");
                    subdirectories += u32::from(kind == 4);
                }
            }
        }
    }
    assert!(names.is_sorted_by(|one, next| one < next), "sorted, and each once");
    assert!(names.contains(&b".".to_vec()) && names.contains(&b"..".to_vec()));
    assert_eq!(links, subdirectories + 2);
}
