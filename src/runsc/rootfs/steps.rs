//! The steps of a plan, and what collects them.

use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// The directory of [`INIT`], in every plan; on an image, where init's own is mounted.
pub(crate) const OURS: &str = "/.sbx";

/// The most entries of a plan. Each is a mount or a file in the keeper's namespace.
pub(super) const MAX_ENTRIES: usize = 8192;

/// One step. Paths are absolute in the sandbox; the keeper puts its base before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Make a directory.
    Dir { path: PathBuf, mode: u32 },
    /// Make a symbolic link; the target is not checked.
    Symlink { path: PathBuf, target: PathBuf },
    /// Make a file.
    File { path: PathBuf, mode: u32, content: Vec<u8> },
    /// Make an empty file or directory, like the source, and bind the source there. The source must be opened without
    /// following links.
    Bind { source: PathBuf, path: PathBuf, writable: bool, recursive: bool },
    /// Mount something empty and unreadable over a path in a part of the host that was bound before.
    Cover { path: PathBuf },
}

impl Entry {
    /// The path in the sandbox.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Dir { path, .. }
            | Self::Symlink { path, .. }
            | Self::File { path, .. }
            | Self::Bind { path, .. }
            | Self::Cover { path } => path,
        }
    }
}

/// Builds a plan.
#[derive(Debug, Default)]
pub(super) struct Plan(Vec<Entry>);

impl Plan {
    pub(super) fn dir(&mut self, path: impl Into<PathBuf>, mode: u32) {
        self.0.push(Entry::Dir { path: path.into(), mode });
    }

    pub(super) fn symlink(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.0.push(Entry::Symlink { path: path.into(), target: target.into() });
    }

    pub(super) fn file(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        self.0.push(Entry::File { path: path.into(), mode: 0o644, content: content.into() });
    }

    /// Read-only: writes inside go to the overlay. Recursive, because in a user namespace a tree with mounts of another
    /// owner can only be bound whole.
    pub(super) fn bind(&mut self, source: impl Into<PathBuf>, path: impl Into<PathBuf>) {
        self.0.push(Entry::Bind {
            source: source.into(),
            path: path.into(),
            writable: false,
            recursive: true,
        });
    }

    pub(super) fn cover(&mut self, path: impl Into<PathBuf>) {
        self.0.push(Entry::Cover { path: path.into() });
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|entry| entry.path() == path)
    }

    pub(super) fn finish(self) -> Result<Vec<Entry>> {
        if self.0.len() > MAX_ENTRIES {
            return Err(Error::new(
                Code::Limit,
                format!(
                    "the root file system takes {} steps to compose; at most {MAX_ENTRIES}",
                    self.0.len()
                ),
            ));
        }
        Ok(self.0)
    }
}

#[cfg(test)]
pub(super) fn assert_closed(plan: &[Entry]) {
    use std::collections::HashSet;
    let mut directories: HashSet<&Path> = HashSet::from([Path::new("/")]);
    let mut seen = HashSet::new();
    for entry in plan {
        let path = entry.path();
        assert!(path.is_absolute() && seen.insert(path), "{entry:?} comes twice");
        assert!(!path.components().any(|part| part == std::path::Component::ParentDir), "{entry:?}");
        let covers = matches!(entry, Entry::Cover { .. });
        assert!(
            covers || directories.contains(path.parent().unwrap()),
            "{entry:?} has no directory of ours above it"
        );
        if let Entry::Dir { path, .. } = entry {
            directories.insert(path);
        }
        if let Entry::Bind { source, .. } = entry {
            assert_eq!(source, &source.canonicalize().unwrap(), "a link on the way to the source");
        }
    }
    assert!(directories.contains(Path::new(OURS)));
}
