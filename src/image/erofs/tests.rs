//! The writer against a reader of the tests' own, which follows the kernel's description and shares no code with it.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{
    Attributes, Content, Device, Extent, Image, Inode, Kind, NodeId, Output, ReadError, Tree, Writer,
};

// ImageFile, by which a sandbox is given an image's file, is there for tests alone.
#[cfg(feature = "test-hooks")]
mod gvisor;
mod reader;

pub(crate) use reader::{Seen, read};

/// A tree as a test describes it: names to nodes, and the paths of further names of earlier nodes.
#[derive(Clone, Debug)]
enum Node {
    Directory(Attributes, BTreeMap<Vec<u8>, Node>),
    /// With runs of zeroes of whole blocks before its data.
    File(Attributes, u64, Vec<u8>),
    Symlink(Attributes, Vec<u8>),
    Device(Attributes, bool, u32),
    Fifo(Attributes),
    Socket(Attributes),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![Just(b'.'), Just(b'-'), Just(b'a'), 1_u8..=255];
    let long = (byte(), byte(), 1_usize..=254)
        .prop_map(|(first, next, more)| [vec![first], vec![next; more]].concat());
    let name = prop_oneof![3 => vec(byte(), 1..4), 1 => long];
    name.prop_map(|mut name| {
        name.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
        if name == b"." || name == b".." { b"x".to_vec() } else { name }
    })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    (0_u16..=0o7777, any::<u32>(), any::<u32>(), any::<i64>(), 0_u32..1_000_000_000).prop_map(
        |(mode, user, group, seconds, nanoseconds)| Attributes { mode, user, group, seconds, nanoseconds },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let length = prop_oneof![3 => 0_usize..100, 1 => 4000_usize..9000];
    let data = (any::<u8>(), length).prop_map(|(byte, length)| vec![byte; length]);
    let length = prop_oneof![3 => 1_usize..100, 1 => 4000_usize..=4095];
    let target = (1_u8..=255, length).prop_map(|(byte, length)| vec![byte; length]);
    let leaf = prop_oneof![
        8 => (attributes(), 0_u64..3, data).prop_map(|(own, hole, data)| Node::File(own, hole * 4096, data)),
        4 => (attributes(), target).prop_map(|(own, target)| Node::Symlink(own, target)),
        1 => (attributes(), any::<bool>(), any::<u32>()).prop_map(|(own, kind, id)| Node::Device(own, kind, id)),
        1 => attributes().prop_map(Node::Fifo),
        1 => attributes().prop_map(Node::Socket),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        (attributes(), btree_map(name(), inner, 0..6))
            .prop_map(|(own, children)| Node::Directory(own, children))
    })
}

fn children() -> impl Strategy<Value = BTreeMap<Vec<u8>, Node>> {
    btree_map(name(), node(), 0..8)
}

fn root() -> impl Strategy<Value = (Attributes, BTreeMap<Vec<u8>, Node>)> {
    (attributes(), children())
}

#[derive(Default)]
struct Made {
    files: Vec<(NodeId, Vec<u8>)>,
    expected: BTreeMap<Vec<u8>, Seen>,
}

fn add(
    tree: &mut Tree,
    writer: &mut Writer<Vec<u8>>,
    parent: NodeId,
    path: &[u8],
    children: &BTreeMap<Vec<u8>, Node>,
    made: &mut Made,
) {
    for (name, node) in children {
        let path = if path.is_empty() { name.clone() } else { [path, name].join(&b'/') };
        let (own, kind, content, data, device) = match node {
            Node::Directory(own, children) => {
                let id = tree.insert(parent, name, *own, Content::Directory);
                add(tree, writer, id, &path, children, made);
                (own, 0o040_000, None, Vec::new(), 0)
            }
            Node::File(own, hole, data) => {
                writer.begin_file(hole + data.len() as u64).unwrap();
                writer.skip(*hole).unwrap();
                writer.write(data).unwrap();
                let extent = writer.end_file().unwrap();
                let all = [vec![0; usize::try_from(*hole).unwrap()], data.clone()].concat();
                (own, 0o100_000, Some(Content::File(extent)), all, 0)
            }
            Node::Symlink(own, target) => {
                (own, 0o120_000, Some(Content::Symlink(target.clone().into())), target.clone(), 0)
            }
            Node::Device(own, true, id) => {
                (own, 0o060_000, Some(Content::Device(Device::Block, *id)), Vec::new(), *id)
            }
            Node::Device(own, false, id) => {
                (own, 0o020_000, Some(Content::Device(Device::Character, *id)), Vec::new(), *id)
            }
            Node::Fifo(own) => (own, 0o010_000, Some(Content::Fifo), Vec::new(), 0),
            Node::Socket(own) => (own, 0o140_000, Some(Content::Socket), Vec::new(), 0),
        };
        if let Some(content) = content {
            let id = tree.insert(parent, name, *own, content);
            made.files.push((id, path.clone()));
        }
        made.expected.insert(path, seen(own, kind, data, device));
    }
}

fn seen(own: &Attributes, kind: u16, data: Vec<u8>, device: u32) -> Seen {
    Seen {
        mode: kind | own.mode,
        user: own.user,
        group: own.group,
        seconds: own.seconds,
        nanoseconds: own.nanoseconds,
        data,
        device,
        ..Seen::default()
    }
}

/// Without what the reader has checked already, and what depends on the place.
pub(crate) fn plain(found: &BTreeMap<Vec<u8>, Seen>) -> BTreeMap<Vec<u8>, Seen> {
    let plain = |seen: &Seen| Seen { links: 0, inode: 0, ..seen.clone() };
    found.iter().map(|(path, seen)| (path.clone(), plain(seen))).collect()
}

/// The paths of one file.
type Names = Vec<Vec<u8>>;

/// Makes an image of a tree, with further names for some of its files, and what it is to be read as.
fn make(
    own: &Attributes,
    children: &BTreeMap<Vec<u8>, Node>,
    names: &[(usize, Vec<u8>)],
) -> (Vec<u8>, BTreeMap<Vec<u8>, Seen>, Vec<Names>) {
    let mut tree = Tree::new(*own);
    let mut writer = Writer::new(Vec::new());
    let mut made = Made::default();
    add(&mut tree, &mut writer, Tree::ROOT, b"", children, &mut made);
    made.expected.insert(Vec::new(), seen(own, 0o040_000, Vec::new(), 0));
    let mut groups: BTreeMap<Vec<u8>, Names> = BTreeMap::new();
    for (which, name) in names {
        if made.files.is_empty() || tree.child(Tree::ROOT, name).is_some() {
            continue;
        }
        let (id, path) = &made.files[which % made.files.len()];
        tree.link(Tree::ROOT, name, *id);
        made.expected.insert(name.clone(), made.expected[path].clone());
        groups.entry(path.clone()).or_insert_with(|| vec![path.clone()]).push(name.clone());
    }
    assert_eq!(tree.names(), made.expected.len() as u64);
    let (image, totals) = writer.finish(&tree).unwrap();
    assert_eq!(totals.bytes, image.len() as u64);
    (image, made.expected, groups.into_values().collect())
}

/// Brings times and ids to what every program takes.
fn tame(children: &mut BTreeMap<Vec<u8>, Node>) {
    for node in children.values_mut() {
        if let Node::Directory(_, children) = node {
            tame(children);
        }
        let (Node::Directory(own, _)
        | Node::File(own, ..)
        | Node::Symlink(own, _)
        | Node::Device(own, ..)
        | Node::Fifo(own)
        | Node::Socket(own)) = node;
        own.seconds = own.seconds.rem_euclid(1 << 33);
        own.user = own.user.min(u32::MAX - 1);
        own.group = own.group.min(u32::MAX - 1);
    }
}

/// Images of trees that other programs can make, too.
pub(crate) fn arbitrary_image() -> impl Strategy<Value = Vec<u8>> {
    (root(), vec((any::<usize>(), name()), 0..4)).prop_map(|((own, mut children), names)| {
        tame(&mut children);
        make(&Attributes { seconds: 0, ..own }, &children, &names).0
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_tree_is_read_as_it_was_written(
        (own, children) in root(),
        names in vec((any::<usize>(), name()), 0..4),
    ) {
        let (image, expected, groups) = make(&own, &children, &names);
        let found = read(&image);
        prop_assert_eq!(plain(&found), expected);
        for group in groups {
            let inodes: Vec<u64> = group.iter().map(|path| found[path].inode).collect();
            prop_assert!(inodes.iter().all(|inode| *inode == inodes[0]));
        }
        prop_assert_eq!(make(&own, &children, &names).0, image, "the same bytes again");
    }
}

/// The image read by the reader of libsbx, in the same form.
fn read_back(mut image: &[u8]) -> Result<BTreeMap<Vec<u8>, Seen>, ReadError> {
    let mut image = Image::open(&mut image)?;
    let mut found = BTreeMap::new();
    let root = image.root();
    let mut rest = vec![(Vec::new(), root, root)];
    // A changed image may have a directory in two places.
    while let Some((path, id, parent)) = rest.pop().filter(|_| found.len() < 10_000) {
        let inode = image.inode(id)?;
        if inode.kind() == Kind::Directory {
            image.children::<ReadError>(&inode, parent, &mut |_, child| {
                let below =
                    if path.is_empty() { child.name.to_vec() } else { [&path[..], &child.name].join(&b'/') };
                rest.push((below, child.inode, id));
                Ok(())
            })?;
        }
        found.insert(path, back(&mut image, &inode)?);
    }
    Ok(found)
}

fn back(image: &mut Image<'_>, inode: &Inode) -> Result<Seen, ReadError> {
    let (kind, data, device) = match (inode.kind(), inode.special()) {
        (Kind::Directory, _) => (0o040_000, Vec::new(), 0),
        (Kind::Symlink, _) => (0o120_000, image.target(inode)?.to_vec(), 0),
        (Kind::File(extent), _) => {
            let mut data = vec![0; usize::try_from(extent.size).unwrap()];
            image.read(extent, 0, &mut data)?;
            (0o100_000, data, 0)
        }
        (_, Some(Content::Device(Device::Character, device))) => (0o020_000, Vec::new(), device),
        (_, Some(Content::Device(Device::Block, device))) => (0o060_000, Vec::new(), device),
        (_, Some(Content::Fifo)) => (0o010_000, Vec::new(), 0),
        _ => (0o140_000, Vec::new(), 0),
    };
    Ok(seen(&inode.attributes(), kind, data, device))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_image_is_read_back(
        (own, children) in root(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut image, expected, _) = make(&own, &children, &[]);
        prop_assert_eq!(read_back(&image).unwrap(), expected);
        // One that was changed may be refused; nothing worse.
        for (at, byte) in changes {
            let at = at.index(image.len() - 4096) + 4096;
            image[at] = byte;
            drop(read_back(&image));
        }
    }
}

fn attributes_of(mode: u16) -> Attributes {
    Attributes { mode, ..Attributes::default() }
}

#[test]
fn an_empty_image_is_two_blocks() {
    let (image, _) = Writer::new(Vec::new()).finish(&Tree::new(attributes_of(0o755))).unwrap();
    assert_eq!(image.len(), 2 * 4096);
    assert_eq!(read(&image)[&b""[..]].mode, 0o040_755);
}

#[test]
fn an_image_of_another_length_or_superblock_is_refused() {
    let (image, _) = Writer::new(Vec::new()).finish(&Tree::new(attributes_of(0o755))).unwrap();
    let refused = |image: &[u8]| match read_back(image) {
        Err(ReadError::Malformed(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&image[..100]), "an image of 100 bytes has no superblock");
    assert_eq!(refused(&image[..4096]), "it has 2 blocks, and 4096 bytes");
    for at in [0, 1024, 1028, 1032, 1036, 1037, 1104, 2000] {
        let mut image = image.clone();
        image[at] ^= 1;
        assert_eq!(refused(&image), "its superblock isn't one of libsbx's", "{at}");
    }
}

#[test]
fn a_directory_of_many_blocks_is_sorted() {
    let mut tree = Tree::new(attributes_of(0o755));
    // As long as may be, in an order that isn't theirs, around the dots.
    let names: Vec<Vec<u8>> =
        (0..2000_u32).map(|at| format!("{:.>255}", at.wrapping_mul(7919) % 2000).into_bytes()).collect();
    for name in &names {
        tree.insert(Tree::ROOT, name, attributes_of(0o644), Content::Fifo);
    }
    for name in [&b"!"[..], b"-", b".-", b"...", b".a", b"a"] {
        tree.insert(Tree::ROOT, name, attributes_of(0o644), Content::Fifo);
    }
    let (image, _) = Writer::new(Vec::new()).finish(&tree).unwrap();
    let found = read(&image);
    assert_eq!(found.len(), 2007);
    assert!(names.iter().all(|name| found.contains_key(name)));
    assert_eq!(read_back(&image).unwrap().len(), 2007);
}

#[test]
fn a_hundred_thousand_files_take_little_memory() {
    let mut tree = Tree::new(attributes_of(0o755));
    for directory in 0..1000_u32 {
        let name = format!("directory-{directory}");
        let directory = tree.insert(Tree::ROOT, name.as_bytes(), attributes_of(0o755), Content::Directory);
        for file in 0..100_u32 {
            let (name, content) = (format!("file-{file}.js"), Content::File(Extent::default()));
            tree.insert(directory, name.as_bytes(), attributes_of(0o644), content);
        }
    }
    // A million of them stay below the limit.
    assert!(tree.memory() < 27 << 20, "{}", tree.memory());
    let (image, totals) = Writer::new(Vec::new()).finish(&tree).unwrap();
    assert_eq!(totals.inodes, 101_001);
    assert_eq!(read(&image).len(), 101_001);
}

/// Remembers what is written, not what with.
#[derive(Default)]
struct Written {
    ranges: Vec<(u64, u64)>,
    discarded: Vec<(u64, u64)>,
}

impl Output for Written {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        assert_eq!((offset % 4096, bytes.len() % 4096), (0, 0), "whole blocks");
        assert!(bytes.chunks(4096).all(|block| block.iter().any(|byte| *byte != 0)), "no block of zeroes");
        self.ranges.push((offset, bytes.len() as u64));
        Ok(())
    }

    fn discard(&mut self, offset: u64, length: u64) -> std::io::Result<()> {
        self.discarded.push((offset, length));
        Ok(())
    }
}

#[test]
fn a_sparse_file_of_4_gib_is_two_writes() {
    let mut tree = Tree::new(attributes_of(0o755));
    let mut writer = Writer::new(Written::default());
    let size = (4_u64 << 30) + 8;
    writer.begin_file(size).unwrap();
    writer.write(b"begin").unwrap();
    writer.skip(size - 8).unwrap();
    writer.write(b"end").unwrap();
    let extent = writer.end_file().unwrap();
    assert_eq!(extent, Extent { block: 1, size });
    let file = tree.insert(Tree::ROOT, b"sparse", attributes_of(0o644), Content::File(extent));
    writer.begin_file(1 << 40).unwrap();
    writer.write(&[1]).unwrap();
    writer.skip((1 << 40) - 1).unwrap();
    let huge = writer.end_file().unwrap();
    writer.discard(huge).unwrap();
    assert_eq!(tree.content(file), &Content::File(extent));
    let (written, totals) = writer.finish(&tree).unwrap();
    let last = 4096 + (4 << 30);
    let end = last + 4096 + (1 << 40);
    assert_eq!(written.ranges, [(4096, 4096), (last, 2 * 4096), (end, 4096), (0, 4096)]);
    assert_eq!(written.discarded, [(last + 4096, 1 << 40)]);
    assert_eq!(totals.bytes, end + 4096);
}

#[test]
fn a_file_has_as_much_data_as_it_was_said_to_have() {
    let mut writer = Writer::new(Vec::new());
    writer.begin_file(3).unwrap();
    assert!(writer.write(b"four").is_err());
    writer.write(b"tw").unwrap();
    assert!(writer.end_file().is_err());
    assert!(writer.begin_file(u64::MAX).is_err());
    assert!(writer.begin_file(1 << 45).is_err());
}

#[test]
fn what_is_removed_is_freed_with_its_last_name() {
    let mut tree = Tree::new(attributes_of(0o755));
    let before = (tree.names(), tree.memory());
    let mut freed = Vec::new();
    let directory = tree.insert(Tree::ROOT, b"directory", attributes_of(0o755), Content::Directory);
    let extent = Extent { block: 7, size: 3 };
    let file = tree.insert(directory, b"file", attributes_of(0o644), Content::File(extent));
    tree.link(Tree::ROOT, b"other", file);
    tree.insert(directory, b"link", attributes_of(0o777), Content::Symlink((*b"file").into()));
    let mut free = |extent| {
        freed.push(extent);
        Ok::<(), ReadError>(())
    };
    tree.remove(Tree::ROOT, b"nothing", &mut free).unwrap();
    tree.remove(Tree::ROOT, b"directory", &mut free).unwrap();
    assert_eq!(tree.child(Tree::ROOT, b"other"), Some(file));
    tree.remove(Tree::ROOT, b"other", &mut free).unwrap();
    assert_eq!(freed, [extent]);
    assert_eq!((tree.names(), tree.memory()), before);
    // Their places are used again.
    let again = tree.insert(Tree::ROOT, b"again", attributes_of(0o644), Content::Fifo);
    assert!(again <= file.max(directory) || again.index() < tree.capacity());
    assert_eq!(tree.capacity(), 4);
}

#[test]
fn what_is_marked_stays() {
    let mut tree = Tree::new(attributes_of(0o755));
    let old = tree.insert(Tree::ROOT, b"old", attributes_of(0o755), Content::Directory);
    let inner = tree.insert(old, b"inner", attributes_of(0o755), Content::Directory);
    for name in [&b"a"[..], b"b"] {
        tree.insert(inner, name, attributes_of(0o644), Content::Fifo);
        tree.insert(old, name, attributes_of(0o644), Content::Fifo);
    }
    tree.mark(inner, b"b", 2);
    let mut free = |_| Ok::<(), ReadError>(());
    tree.remove_unmarked(Tree::ROOT, b"old", 2, &mut free).unwrap();
    let (image, _) = Writer::new(Vec::new()).finish(&tree).unwrap();
    let paths: Vec<_> = read(&image).into_keys().collect();
    assert_eq!(paths, [&b""[..], b"old", b"old/inner", b"old/inner/b"]);
    tree.remove_unmarked(Tree::ROOT, b"old", 3, &mut free).unwrap();
    assert_eq!(tree.names(), 1);
}

#[test]
fn a_directory_is_cleared_once_for_a_mark() {
    let mut tree = Tree::new(Attributes::default());
    let mut free = |_| Ok::<(), ReadError>(());
    for name in [b"a", b"b"] {
        tree.insert(Tree::ROOT, name, Attributes::default(), Content::Fifo);
        tree.mark(Tree::ROOT, name, 1);
    }
    tree.clear_unmarked(Tree::ROOT, 2, &mut free).unwrap();
    assert_eq!(tree.names(), 1);
    // Without a mark it would be removed, were the directory walked again.
    tree.insert(Tree::ROOT, b"c", Attributes::default(), Content::Fifo);
    tree.clear_unmarked(Tree::ROOT, 2, &mut free).unwrap();
    assert_eq!(tree.names(), 2, "the directory isn't walked again");
    tree.clear_unmarked(Tree::ROOT, 3, &mut free).unwrap();
    assert_eq!(tree.names(), 1);
}
