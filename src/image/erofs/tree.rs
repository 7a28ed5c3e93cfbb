//! The tree of an image in memory, before it is written: names, attributes, and where each file's data is.
//!
//! A million entries have to fit beside the data of a host, so a node is a few words in one vector and what the tree
//! takes is counted.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Bound::{Excluded, Unbounded};

use super::format;

/// What a node takes at most: the vector grows by doubling, and writing needs 16 bytes more of each.
const NODE_COST: u64 = 2 * size_of::<Node>() as u64 + 16;
/// What a name takes at most without its bytes: its part of a map's node, and of an allocation.
const NAME_COST: u64 = 80;
/// What a directory with a single entry takes at most.
const DIRECTORY_COST: u64 = 320;

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

impl NodeId {
    /// Its place in a vector with one element for each node.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The attributes that every node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permissions, with the setuid, setgid and sticky bits.
    pub(crate) mode: u16,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The time of modification: seconds since 1970, and nanoseconds after them.
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// Where a file's data is in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) block: u32,
    pub(crate) size: u64,
}

/// Whether a device is one of characters or of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    Character,
    Block,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Directory,
    File(Extent),
    Symlink(Box<[u8]>),
    /// With its number as stat(2) has it in 32 bits.
    Device(Device, u32),
    Fifo,
    Socket,
}

impl Content {
    pub(super) fn type_bits(&self) -> u16 {
        match self {
            Self::Directory => format::DIRECTORY,
            Self::File(_) => format::REGULAR,
            Self::Symlink(_) => format::SYMLINK,
            Self::Device(Device::Character, _) => format::CHARACTER,
            Self::Device(Device::Block, _) => format::BLOCK_DEVICE,
            Self::Fifo => format::FIFO,
            Self::Socket => format::SOCKET,
        }
    }

    fn cost(&self) -> u64 {
        match self {
            Self::Directory => NODE_COST + DIRECTORY_COST,
            Self::Symlink(target) => NODE_COST + 32 + target.len() as u64,
            _ => NODE_COST,
        }
    }
}

#[derive(Debug)]
struct Node {
    attributes: Attributes,
    /// The number of its names.
    links: u32,
    content: Content,
    directory: Option<Box<Directory>>,
}

#[derive(Debug)]
struct Directory {
    children: BTreeMap<Box<[u8]>, Child>,
    parent: NodeId,
    depth: u32,
    subdirectories: u32,
    /// The last mark of its name.
    mark: u16,
    /// The mark for which it was cleared: nothing in it is without that.
    cleared: u16,
}

#[derive(Clone, Copy, Debug)]
struct Child {
    node: NodeId,
    /// The last mark of the name, where it isn't a directory's.
    mark: u16,
}

/// The tree of an image.
///
/// Names can be marked: with the number of the layer that made them. A directory is marked with its descendants.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    /// The number of names, the root among them.
    names: u64,
    memory: u64,
}

impl Tree {
    /// The root directory.
    pub(crate) const ROOT: NodeId = NodeId(0);

    pub(crate) fn new(root: Attributes) -> Self {
        let mut tree =
            Self { nodes: Vec::new(), free: Vec::new(), names: 1, memory: Content::Directory.cost() };
        tree.nodes.push(Node {
            attributes: root,
            links: 1,
            content: Content::Directory,
            directory: Some(Box::new(Directory {
                children: BTreeMap::new(),
                parent: Self::ROOT,
                depth: 0,
                subdirectories: 0,
                mark: 0,
                cleared: 0,
            })),
        });
        tree
    }

    /// The number of names in the tree, the root's among them.
    pub(crate) fn names(&self) -> u64 {
        self.names
    }

    /// What the tree takes of memory at most.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// A number above that of every node.
    pub(super) fn capacity(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, node: NodeId) -> Option<&Node> {
        let found = self.nodes.get(node.index());
        debug_assert!(found.is_some(), "nodes are made by this tree");
        found
    }

    fn directory(&self, node: NodeId) -> Option<&Directory> {
        self.nodes.get(node.index())?.directory.as_deref()
    }

    fn directory_mut(&mut self, node: NodeId) -> Option<&mut Directory> {
        self.nodes.get_mut(node.index())?.directory.as_deref_mut()
    }

    pub(crate) fn attributes(&self, node: NodeId) -> Attributes {
        self.node(node).map(|node| node.attributes).unwrap_or_default()
    }

    pub(crate) fn set_attributes(&mut self, node: NodeId, attributes: Attributes) {
        if let Some(node) = self.nodes.get_mut(node.index()) {
            node.attributes = attributes;
        }
    }

    pub(crate) fn content(&self, node: NodeId) -> &Content {
        self.node(node).map_or(&Content::Socket, |node| &node.content)
    }

    pub(crate) fn is_directory(&self, node: NodeId) -> bool {
        self.directory(node).is_some()
    }

    /// The number of links as stat(2) has it: of a directory its own two and one of each subdirectory.
    pub(super) fn links(&self, node: NodeId) -> u32 {
        self.node(node).map_or(0, |node| match &node.directory {
            Some(directory) => directory.subdirectories.saturating_add(2),
            None => node.links,
        })
    }

    /// The parent of a directory; the root's is the root.
    pub(crate) fn parent(&self, directory: NodeId) -> NodeId {
        self.directory(directory).map_or(Self::ROOT, |directory| directory.parent)
    }

    /// The number of directories above a directory.
    pub(crate) fn depth(&self, directory: NodeId) -> u32 {
        self.directory(directory).map_or(0, |directory| directory.depth)
    }

    pub(crate) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.directory(directory)?.children.get(name).map(|child| child.node)
    }

    /// The entries of a directory in the order of their names, with `.` and `..`.
    pub(super) fn entries(&self, node: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        const OWN: &[u8] = b".";
        const PARENT: &[u8] = b"..";
        self.directory(node).into_iter().flat_map(move |directory| {
            let range = |from, to| {
                directory.children.range::<[u8], _>((from, to)).map(|(name, child)| (&**name, child.node))
            };
            // Names begin with bytes below and above the dot's.
            range(Unbounded, Excluded(OWN))
                .chain(iter::once((OWN, node)))
                .chain(range(Excluded(OWN), Excluded(PARENT)))
                .chain(iter::once((PARENT, directory.parent)))
                .chain(range(Excluded(PARENT), Unbounded))
        })
    }

    /// Adds an entry. The directory must not have the name yet.
    pub(crate) fn insert(
        &mut self,
        parent: NodeId,
        name: &[u8],
        attributes: Attributes,
        content: Content,
    ) -> NodeId {
        self.memory += content.cost();
        let directory = (content == Content::Directory).then(|| {
            let depth = self.depth(parent).saturating_add(1);
            let children = BTreeMap::new();
            Box::new(Directory { children, parent, depth, subdirectories: 0, mark: 0, cleared: 0 })
        });
        let is_directory = directory.is_some();
        let node = Node { attributes, links: 0, content, directory };
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(place) = self.nodes.get_mut(id.index()) {
                    *place = node;
                }
                id
            }
            None => {
                self.nodes.push(node);
                // Memory is counted and limited long before that many nodes.
                NodeId(u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX))
            }
        };
        if is_directory && let Some(parent) = self.directory_mut(parent) {
            parent.subdirectories += 1;
        }
        self.link(parent, name, id);
        id
    }

    /// Gives a node that isn't a directory another name. The directory must not have the name yet.
    pub(crate) fn link(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        let Some(directory) = self.directory_mut(parent) else {
            debug_assert!(false, "entries are added to directories");
            return;
        };
        let before = directory.children.insert(name.into(), Child { node, mark: 0 });
        debug_assert!(before.is_none(), "a name is removed before it is used again");
        if let Some(node) = self.nodes.get_mut(node.index()) {
            node.links = node.links.saturating_add(1);
        }
        self.names += 1;
        self.memory += NAME_COST + name.len() as u64;
    }

    /// Marks a name, and the directories above it.
    pub(crate) fn mark(&mut self, parent: NodeId, name: &[u8], mark: u16) {
        let mut above = parent;
        if let Some(child) = self.directory_mut(parent).and_then(|directory| directory.children.get_mut(name))
        {
            child.mark = mark;
            let node = child.node;
            if self.is_directory(node) {
                above = node;
            }
        }
        while let Some(directory) = self.directory_mut(above) {
            // Then those above it are marked, too.
            if directory.mark == mark {
                break;
            }
            directory.mark = mark;
            let parent = directory.parent;
            if above == Self::ROOT {
                break;
            }
            above = parent;
        }
    }

    fn is_marked(&self, child: Child, mark: u16) -> bool {
        self.directory(child.node).map_or(child.mark, |directory| directory.mark) == mark
    }

    /// Removes an entry with everything below it. `freed` receives the extents of files that have no name any more.
    pub(crate) fn remove<E>(
        &mut self,
        parent: NodeId,
        name: &[u8],
        freed: &mut dyn FnMut(Extent) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(child) = self.detach(parent, name) else { return Ok(()) };
        let mut rest = vec![child];
        while let Some(id) = rest.pop() {
            let Some(node) = self.nodes.get_mut(id.index()) else {
                debug_assert!(false, "nodes are made by this tree");
                continue;
            };
            node.links = node.links.saturating_sub(1);
            if node.links > 0 {
                continue;
            }
            self.memory = self.memory.saturating_sub(node.content.cost());
            if let Some(directory) = node.directory.take() {
                for (name, child) in directory.children {
                    self.names -= 1;
                    self.memory = self.memory.saturating_sub(NAME_COST + name.len() as u64);
                    rest.push(child.node);
                }
            }
            if let Content::File(extent) = std::mem::replace(&mut node.content, Content::Socket) {
                freed(extent)?;
            }
            self.free.push(id);
        }
        Ok(())
    }

    /// Takes an entry out of its directory; its node still counts this name.
    fn detach(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let child = self.directory_mut(parent)?.children.remove(name)?;
        if self.is_directory(child.node)
            && let Some(parent) = self.directory_mut(parent)
        {
            parent.subdirectories = parent.subdirectories.saturating_sub(1);
        }
        self.names -= 1;
        self.memory = self.memory.saturating_sub(NAME_COST + name.len() as u64);
        Some(child.node)
    }

    /// Removes an entry and what is below it, without what has this mark.
    pub(crate) fn remove_unmarked<E>(
        &mut self,
        parent: NodeId,
        name: &[u8],
        mark: u16,
        freed: &mut dyn FnMut(Extent) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(child) = self.directory(parent).and_then(|directory| directory.children.get(name)) else {
            return Ok(());
        };
        match child.node {
            _ if !self.is_marked(*child, mark) => self.remove(parent, name, freed),
            node if self.is_directory(node) => self.clear_unmarked(node, mark, freed),
            _ => Ok(()),
        }
    }

    /// Removes everything below a directory, without what has this mark.
    pub(crate) fn clear_unmarked<E>(
        &mut self,
        directory: NodeId,
        mark: u16,
        freed: &mut dyn FnMut(Extent) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = vec![directory];
        while let Some(id) = rest.pop() {
            // A layer may ask for it again and again: what it added since has its mark.
            match self.directory_mut(id) {
                Some(directory) if directory.cleared != mark => directory.cleared = mark,
                _ => continue,
            }
            let mut old = Vec::new();
            for (name, child) in self.directory(id).iter().flat_map(|directory| &directory.children) {
                if !self.is_marked(*child, mark) {
                    old.push(name.clone());
                } else if self.is_directory(child.node) {
                    rest.push(child.node);
                }
            }
            for name in old {
                self.remove(id, &name, freed)?;
            }
        }
        Ok(())
    }
}
