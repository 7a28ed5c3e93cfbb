//! Small EROFS images, written by the tests' own hand: trees with any owners and modes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use sbx::ImageFile;

const BLOCK: usize = 4096;
/// The first inode's number: they follow the superblock's block, and are counted in units of 32 bytes.
const FIRST: usize = BLOCK / 32;

enum Data {
    Directory,
    File(Vec<u8>),
    Link(String),
}

struct Node {
    mode: u32,
    owner: (u32, u32),
    data: Data,
}

/// A tree of files, by absolute path.
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    /// An empty root, which others may read.
    pub fn new() -> Self {
        let mut tree = Self(BTreeMap::new());
        tree.add("", 0o040_755, (0, 0), Data::Directory);
        tree
    }

    fn add(&mut self, path: &str, mode: u32, owner: (u32, u32), data: Data) -> &mut Self {
        if let Some((parent, _)) = path.rsplit_once('/')
            && !self.0.contains_key(parent)
        {
            self.add(parent, 0o040_755, (0, 0), Data::Directory);
        }
        self.0.insert(path.to_owned(), Node { mode, owner, data });
        self
    }

    /// A directory.
    pub fn directory(&mut self, path: &str, mode: u32, owner: (u32, u32)) -> &mut Self {
        self.add(path, 0o040_000 | mode, owner, Data::Directory)
    }

    /// A file.
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        owner: (u32, u32),
        content: impl Into<Vec<u8>>,
    ) -> &mut Self {
        self.add(path, 0o100_000 | mode, owner, Data::File(content.into()))
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, 0o120_777, (0, 0), Data::Link(target.to_owned()))
    }

    /// Programs of the host in /bin, with the libraries that they load.
    pub fn programs(&mut self, names: &[&str]) -> &mut Self {
        for name in names {
            let path = format!("/usr/bin/{name}");
            self.file(&format!("/bin/{name}"), 0o755, (0, 0), std::fs::read(&path).unwrap());
            let output = Command::new("ldd").arg(&path).output().unwrap();
            for word in String::from_utf8(output.stdout).unwrap().split_whitespace() {
                if word.starts_with('/') && !self.0.contains_key(word) {
                    self.file(word, 0o755, (0, 0), std::fs::read(word).unwrap());
                }
            }
        }
        self
    }

    /// The image's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let number = |path: &str| FIRST + 2 * self.0.keys().position(|key| key == path).unwrap();
        let blocks = |length: usize| length.div_ceil(BLOCK);
        let data: Vec<Vec<u8>> = self.0.iter().map(|(path, node)| self.data(path, node, &number)).collect();
        let mut next = 1 + blocks(64 * self.0.len());
        let mut inodes = Vec::new();
        for (node, data) in self.0.values().zip(&data) {
            let mut inode = vec![0_u8; 64];
            let mut put = |at: usize, bytes: &[u8]| inode[at..at + bytes.len()].copy_from_slice(bytes);
            put(0, &1_u16.to_le_bytes());
            put(4, &u16::try_from(node.mode).unwrap().to_le_bytes());
            put(8, &(data.len() as u64).to_le_bytes());
            put(16, &u32::try_from(next).unwrap().to_le_bytes());
            put(20, &1_u32.to_le_bytes());
            put(24, &node.owner.0.to_le_bytes());
            put(28, &node.owner.1.to_le_bytes());
            put(44, &1_u32.to_le_bytes());
            next += blocks(data.len());
            inodes.extend(inode);
        }
        let mut superblock = vec![0_u8; 40];
        let mut put = |at: usize, bytes: &[u8]| superblock[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &0xe0f5_e1e2_u32.to_le_bytes());
        put(12, &[12]);
        put(14, &u16::try_from(FIRST).unwrap().to_le_bytes());
        put(16, &(self.0.len() as u64).to_le_bytes());
        put(36, &u32::try_from(next).unwrap().to_le_bytes());
        let mut image = vec![0_u8; 1024];
        image.extend(superblock);
        image.resize(BLOCK, 0);
        image.extend(inodes);
        for data in data {
            image.resize(image.len().next_multiple_of(BLOCK), 0);
            image.extend(data);
        }
        image.resize(image.len().next_multiple_of(BLOCK), 0);
        image
    }

    fn data(&self, path: &str, node: &Node, number: &dyn Fn(&str) -> usize) -> Vec<u8> {
        match &node.data {
            Data::File(content) => return content.clone(),
            Data::Link(target) => return target.clone().into_bytes(),
            Data::Directory => {}
        }
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let mut entries = vec![(".", number(path), 2_u8), ("..", number(parent), 2)];
        for (child, node) in &self.0 {
            if let Some((parent, name)) = child.rsplit_once('/')
                && parent == path
            {
                let kind = match node.data {
                    Data::File(_) => 1,
                    Data::Directory => 2,
                    Data::Link(_) => 7,
                };
                entries.push((name, number(child), kind));
            }
        }
        entries.sort_unstable();
        let size: usize = entries.iter().map(|(name, ..)| 12 + name.len()).sum();
        assert!(size <= BLOCK, "{path} has too many entries");
        let (mut heads, mut names) = (Vec::new(), Vec::new());
        for (name, number, kind) in &entries {
            heads.extend((*number as u64).to_le_bytes());
            heads.extend(u16::try_from(12 * entries.len() + names.len()).unwrap().to_le_bytes());
            heads.extend([*kind, 0]);
            names.extend(name.bytes());
        }
        [heads, names].concat()
    }

    /// Writes the image to a file and opens that.
    pub fn write(&self, path: impl AsRef<Path>) -> ImageFile {
        let path = path.as_ref();
        File::create(path).unwrap().write_all(&self.bytes()).unwrap();
        ImageFile::new(File::open(path).unwrap())
    }
}
