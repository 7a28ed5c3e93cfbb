//! The plan of a sandbox's root file system, as data.
//!
//! The keeper carries the plan out, in order, on an empty tmpfs in its own mount namespace. The host doesn't see it, and
//! nothing of the host is written: gVisor puts a memory overlay above, so that the sandbox can write everywhere without
//! reaching the files below.
//!
//! # Symbolic links
//!
//! No link leads out of a plan. All directories above an entry are [`Entry::Dir`]s of the same plan, on the tmpfs, so no
//! destination path contains a link. Source paths contain no links when the plan is made, and the keeper opens them with
//! `RESOLVE_NO_SYMLINKS`, so replacing a part with a link later is an error. Links themselves become [`Entry::Symlink`]s:
//! text that only the sandbox follows, inside.
mod etc;
mod host;
mod target;
mod user;
mod view;

use std::path::{Path, PathBuf};

pub(crate) use etc::Names;
pub(crate) use target::check_mount;

use crate::error::{Code, Error, Result};

/// The path of init; the keeper binds its own program there.
pub(crate) const INIT: &str = "/.sbx/init";

/// The directory of [`INIT`], in every plan; on an image, where init's own is mounted.
pub(crate) const OURS: &str = "/.sbx";

/// The most entries of a plan. Each is a mount or a file in the keeper's namespace.
const MAX_ENTRIES: usize = 8192;

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

/// The plan for the caller's root file system directory, or for the default one.
pub(crate) fn plan(directory: Option<&Path>, names: &Names<'_>) -> Result<Vec<Entry>> {
    match directory {
        Some(directory) => user::user(directory, names),
        None => host::host(names),
    }
}

/// Scans the host's programs unless that was done before, as [`plan`] would. May take a while, or hang.
pub(crate) fn look() {
    view::View::current();
}

/// Whether [`look`] has to scan, which is worth a thread.
pub(crate) fn is_unseen() -> bool {
    view::View::is_first()
}

/// Builds a plan.
#[derive(Debug, Default)]
struct Plan(Vec<Entry>);

impl Plan {
    fn dir(&mut self, path: impl Into<PathBuf>, mode: u32) {
        self.0.push(Entry::Dir { path: path.into(), mode });
    }

    fn symlink(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.0.push(Entry::Symlink { path: path.into(), target: target.into() });
    }

    fn file(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        self.0.push(Entry::File { path: path.into(), mode: 0o644, content: content.into() });
    }

    /// Read-only: writes inside go to the overlay. Recursive, because in a user namespace a tree with mounts of another
    /// owner can only be bound whole.
    fn bind(&mut self, source: impl Into<PathBuf>, path: impl Into<PathBuf>) {
        self.0.push(Entry::Bind {
            source: source.into(),
            path: path.into(),
            writable: false,
            recursive: true,
        });
    }

    fn cover(&mut self, path: impl Into<PathBuf>) {
        self.0.push(Entry::Cover { path: path.into() });
    }

    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|entry| entry.path() == path)
    }

    fn finish(self) -> Result<Vec<Entry>> {
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
fn assert_closed(plan: &[Entry]) {
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
