//! The image that a snapshot was taken of, as the lowest layer.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Content, Converter, Extent, Image, Kind, NodeId, Output, ReadAt, Tree, Trouble, malformed, shown,
};

/// As much is copied at once.
const CHUNK: usize = 256 * 1024;

impl<O: Output> Converter<O> {
    /// Takes an image that was written here as the lowest layer: before all layers.
    pub(crate) fn base(&mut self, image: &mut dyn ReadAt) -> Result<(), Trouble> {
        if self.layer > 0 || self.tree.names() > 1 || !self.diff_ids.is_empty() {
            return Err(Trouble::Malformed("a base image is below all layers".into()));
        }
        let mut image = Image::open(image)?;
        let root = image.inode(image.root())?;
        self.tree.set_attributes(Tree::ROOT, root.attributes());
        let mut directories = vec![(root, image.root(), Tree::ROOT)];
        let mut seen = BTreeSet::from([root.id()]);
        // Files with more than one name, by their inodes.
        let mut linked: BTreeMap<u64, (NodeId, u32)> = BTreeMap::new();
        while let Some((directory, parent, node)) = directories.pop() {
            image.children::<Trouble>(&directory, parent, &mut |image, child| {
                self.entries += 1;
                self.check_entries()?;
                let inode = image.inode(child.inode)?;
                if !child.agrees(&inode) {
                    return malformed(&child.name, "the base image: its entry is of another type");
                }
                if let Some((file, left)) = linked.get_mut(&inode.id()) {
                    self.tree.link(node, &child.name, *file);
                    *left = left.saturating_sub(1);
                    return Ok(());
                }
                // Anything else has one name, or it would be copied again and again.
                let has_one_name = inode.kind() == Kind::Directory || inode.links() == 1;
                if has_one_name && !seen.insert(inode.id()) {
                    return malformed(&child.name, "the base image: an inode has another name");
                }
                let content = match inode.kind() {
                    Kind::Directory => {
                        let limit = self.limits.depth;
                        if self.tree.depth(node) >= limit {
                            let text = format!(
                                "{}: more than {limit} directories in one another",
                                shown(&child.name)
                            );
                            return Err(Trouble::Limit(text));
                        }
                        Content::Directory
                    }
                    Kind::Symlink => Content::Symlink(image.target(&inode)?),
                    Kind::File(extent) => Content::File(self.copy(image, &child.name, extent)?),
                    Kind::Other => match inode.special() {
                        Some(content) => content,
                        None => return malformed(&child.name, "the base image: a type that isn't known"),
                    },
                };
                let id = self.tree.insert(node, &child.name, inode.attributes(), content);
                if inode.kind() == Kind::Directory {
                    directories.push((inode, directory.id(), id));
                } else if inode.links() > 1 {
                    linked.insert(inode.id(), (id, inode.links() - 1));
                }
                Ok(())
            })?;
        }
        match linked.values().find(|(_, left)| *left > 0) {
            Some(_) => Err(Trouble::Malformed("the base image: an inode has fewer names than links".into())),
            None => Ok(()),
        }
    }

    fn copy(&mut self, image: &mut Image<'_>, name: &[u8], extent: Extent) -> Result<Extent, Trouble> {
        self.check_bytes(name, extent.size)?;
        self.writer.begin_file(extent.size)?;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < extent.size {
            let left = usize::try_from(extent.size - at).unwrap_or(CHUNK);
            let piece = buffer.get_mut(..left.min(CHUNK)).unwrap_or_default();
            image.read(extent, at, piece)?;
            self.writer.write(piece)?;
            at += piece.len() as u64;
        }
        self.content_bytes += extent.size;
        Ok(self.writer.end_file()?)
    }
}
