//! The tar format from both sides: what is written is read back, and no archive does any harm.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::keeper::tar as format;
use crate::keeper::tar::{BLOCK, Entry, Header, Kind, Overrides, padding, parse};

/// Reads headers until there is an entry, as the helper does. `None` for anything else.
fn read(mut archive: &[u8]) -> Option<(Entry, usize)> {
    let mut overrides = Overrides::default();
    let mut at = 0;
    loop {
        let (block, rest) = archive.split_first_chunk::<BLOCK>()?;
        (archive, at) = (rest, at + BLOCK);
        match parse(block, &mut overrides).ok()? {
            Header::End => return None,
            Header::Entry(entry) => return Some((entry, at)),
            Header::Extended(kind, size) => {
                assert!(size <= format::MAX_EXTENDED_HEADER, "bounded before room for it is made");
                let size = usize::try_from(size).unwrap();
                let whole = size + padding(size as u64);
                overrides.take(kind, archive.get(..size)?).ok()?;
                (archive, at) = (archive.get(whole..)?, at + whole);
            }
        }
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let part = vec(1..=255_u8, 1..90).prop_map(|part| {
        part.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect::<Vec<_>>()
    });
    vec(part, 1..8).prop_map(|parts| parts.join(&b'/'))
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind =
        prop::sample::select(vec![Kind::File, Kind::HardLink, Kind::Symlink, Kind::Directory, Kind::Fifo]);
    let sizes = prop_oneof![0..9_u64, 0..1_u64 << 40];
    let times = prop_oneof![0..2_i64, 0..1_i64 << 40];
    (name(), name(), kind, 0..0o10000_u32, any::<(u32, u32)>(), sizes, times).prop_map(
        |(mut path, target, kind, mode, owner, size, modified)| {
            if kind == Kind::Directory {
                path.push(b'/');
            }
            let target = if matches!(kind, Kind::HardLink | Kind::Symlink) { target } else { Vec::new() };
            let size = if kind == Kind::File { size } else { 0 };
            Entry { path, target, kind, mode, owner, size, modified }
        },
    )
}

proptest! {
    #[test]
    fn an_entry_comes_back(entry in entry()) {
        let header = entry.header();
        prop_assert_eq!(header.len() % BLOCK, 0);
        prop_assert_eq!(read(&header), Some((entry, header.len())));
    }

    #[test]
    fn a_damaged_header_does_no_harm(
        entry in entry(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut header = entry.header();
        for (at, value) in changes {
            let at = at.index(header.len());
            header[at] = value;
        }
        let _ = read(&header[..cut.index(header.len() + 1)]);
        let _ = read(&header);
    }

    #[test]
    fn records_of_noise_do_no_harm(content in vec(any::<u8>(), 0..200), kind in any::<u8>()) {
        let _ = Overrides::default().take(kind, &content);
    }
}

/// What a header of another writer may hold, with its checksum set right.
fn crafted(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let entry = Entry {
        path: b"name".to_vec(),
        target: Vec::new(),
        kind: Kind::File,
        mode: 0o644,
        owner: (0, 0),
        size: 0,
        modified: 0,
    };
    let mut block = entry.header();
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn numbers_are_octal_or_gnus_and_never_more_than_fits() {
    let size = |bytes: &[u8; 12]| {
        let block = crafted(|block| block[124..136].copy_from_slice(bytes));
        read(&block).map(|(entry, _)| entry.size)
    };
    assert_eq!(size(b"00000000017\0"), Some(15));
    assert_eq!(size(b"        17 \0"), Some(15));
    assert_eq!(size(b"777777777777"), Some(0o777_777_777_777));
    assert_eq!(size(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]), Some(1 << 33));
    assert_eq!(size(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "more than 64 bits");
    assert_eq!(size(&[0xff; 12]), None, "negative");
    assert_eq!(size(b"0000000008\0\0"), None);
    assert_eq!(size(b"-0000000001\0"), None);
}

#[test]
fn records_before_an_entry_count_once_and_are_whole() {
    let take = |content: &[u8]| Overrides::default().take(b'x', content).is_ok();
    assert!(take(b"12 path=ab/c\n") != take(b"13 path=ab/c\n"));
    for bad in [
        &b"11 path=ab/c\n"[..],
        b"99999999999999999999999 path=a\n",
        b"0 path=a\n",
        b"3 a\n",
        b"path=a\n",
        b"11 path=a\0b\n",
        b"12 size=1e9x\n",
        b"11 size=-5x\n",
        b" \n",
    ] {
        assert!(!take(bad), "{}", bad.escape_ascii());
    }
    // The second entry is what its own header says.
    let mut overrides = Overrides::default();
    overrides.take(b'L', b"long name\0").unwrap();
    let block: [u8; BLOCK] = crafted(|_| ()).try_into().unwrap();
    let names: Vec<_> = (0..2)
        .map(|_| match parse(&block, &mut overrides).unwrap() {
            Header::Entry(entry) => entry.path,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names, [b"long name".to_vec(), b"name".to_vec()]);
}
