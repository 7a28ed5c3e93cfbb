//! What is said of files.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::keeper::wire::files::{Change, ChangeKind, Entry, Stat, Totals};

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum FileKind {
    /// A regular file.
    File = 1,
    /// A directory.
    Directory = 2,
    /// A symbolic link.
    Symlink = 3,
    /// A FIFO.
    Fifo = 4,
    /// A socket.
    Socket = 5,
    /// A character or block device.
    Device = 6,
    /// Something else.
    Other = 7,
}

impl FileKind {
    fn of(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR | libc::S_IFBLK => Self::Device,
            _ => Self::Other,
        }
    }
}

/// What is known of a file, as the sandbox says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// What it is.
    pub kind: FileKind,
    /// Its permissions, from 0 to 0o7777.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// How many names it has.
    pub links: u32,
    /// Its length in bytes.
    pub size: u64,
    /// When its content was last changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Where a symbolic link leads.
    pub target: Option<PathBuf>,
}

impl FileInfo {
    pub(super) fn new(stat: &Stat, target: Vec<u8>) -> Self {
        let kind = FileKind::of(stat.mode);
        Self {
            kind,
            mode: stat.mode & 0o7777,
            user: stat.user,
            group: stat.group,
            links: stat.links,
            size: stat.size,
            modified_ns: stat.modified,
            target: (kind == FileKind::Symlink).then(|| PathBuf::from(OsString::from_vec(target))),
        }
    }

    /// When its content was last changed.
    pub fn modified(&self) -> SystemTime {
        let distance = Duration::from_nanos(self.modified_ns.unsigned_abs());
        let moved = if self.modified_ns < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        moved.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryEntry {
    /// Its name: bytes, not always UTF-8, never empty, `.` or `..`, and without a slash.
    pub name: OsString,
    /// What it is; of a symbolic link, the link itself.
    pub info: FileInfo,
}

impl DirectoryEntry {
    pub(super) fn new(entry: Entry) -> Self {
        let info = FileInfo::new(&entry.stat, entry.target);
        Self { name: OsString::from_vec(entry.name), info }
    }
}

/// What an operation has done, as the sandbox says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileTotals {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories and whatever else.
    pub entries: u64,
    /// What was left out: sockets and devices are not copied.
    pub skipped: u64,
}

impl From<Totals> for FileTotals {
    fn from(totals: Totals) -> Self {
        Self { bytes: totals.bytes, entries: totals.entries, skipped: totals.skipped }
    }
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum FileChangeKind {
    /// Watching has begun: what changes from now on is told. The path is empty.
    Ready = 1,
    /// It is new.
    Created = 2,
    /// Its content has changed.
    Modified = 3,
    /// It is gone.
    Removed = 4,
    /// It was renamed, and this was its name.
    MovedFrom = 5,
    /// It was renamed, and this is its name now.
    MovedTo = 6,
    /// Its permissions, owner or times have changed.
    Attributes = 7,
    /// Some changes were lost because there were too many at once, or there are directories that are not watched because
    /// they are beyond the limits (8,192, and 1,000 deep): look for yourself. The path is empty.
    Overflow = 8,
}

/// A change in a directory that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileChange {
    /// What happened.
    pub kind: FileChangeKind,
    /// Where, relative to the directory; empty for the directory itself.
    pub path: PathBuf,
}

impl FileChange {
    pub(super) fn new(change: Change) -> Self {
        let kind = match change.kind {
            ChangeKind::Ready => FileChangeKind::Ready,
            ChangeKind::Created => FileChangeKind::Created,
            ChangeKind::Modified => FileChangeKind::Modified,
            ChangeKind::Removed => FileChangeKind::Removed,
            ChangeKind::MovedFrom => FileChangeKind::MovedFrom,
            ChangeKind::MovedTo => FileChangeKind::MovedTo,
            ChangeKind::Attributes => FileChangeKind::Attributes,
            ChangeKind::Overflow => FileChangeKind::Overflow,
        };
        Self { kind, path: PathBuf::from(OsString::from_vec(change.path)) }
    }
}
