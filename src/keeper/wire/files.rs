//! File operations: the task of a helper in the sandbox, and what it sends back.
//!
//! Each operation has its own socket, on which the helper sends one [`Outcome`] and then exits; until then it
//! sends [`Outcome::Working`] now and then. File contents, directory entries and changes go over a separate
//! stream. The library reads all of it as it would an attacker's.

use super::codec::{self, Form, Malformed, Reader, Wire, Writer, messages, wire};
use super::user::User;

/// The longest path (PATH_MAX without its NUL).
pub(crate) const MAX_PATH_BYTES: usize = 4095;
/// The longest name of a directory's entry (NAME_MAX).
pub(crate) const MAX_NAME_BYTES: usize = 255;
/// Instead of a mode: the default one.
pub(crate) const NO_MODE: u32 = u32::MAX;
/// The longest [`Outcome`], and the longest record of a stream.
pub(crate) const MAX_MESSAGE: usize = 2 * MAX_PATH_BYTES + 128;

wire! {
    /// The operation.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Job {
        /// Send a file's content over the stream, from `offset`. More than `limit` bytes is [`Step::Limit`].
        Read { path: Vec<u8>, offset: u64, limit: u64 } = 0,
        /// Write the stream to a file.
        Write { path: Vec<u8>, mode: u32, append: bool, exclusive: bool, parents: bool } = 1,
        /// Send a directory's entries over the stream, as [`Entry`] records.
        List { path: Vec<u8>, limit: u64 } = 2,
        /// Send the metadata of a path.
        Stat { path: Vec<u8>, follow: bool } = 3,
        /// Create a directory.
        MakeDirectory { path: Vec<u8>, mode: u32, parents: bool } = 4,
        /// Remove a file or an empty directory; with `recursive` a whole tree.
        Remove { path: Vec<u8>, recursive: bool, missing_ok: bool } = 5,
        /// Rename a file or directory.
        Rename { from: Vec<u8>, to: Vec<u8>, exclusive: bool } = 6,
        /// Send a file or a tree over the stream as a tar archive. As a layer of an image it is a directory, with an entry
        /// of its own and hard links as such, and what changes meanwhile is no error.
        Pack { path: Vec<u8>, limit: u64, as_layer: bool } = 7,
        /// Unpack a tar archive from the stream into a directory. With `keep_root` the archive's entry for the directory
        /// itself sets what that has.
        Unpack { path: Vec<u8>, limit: u64, parents: bool, keep_owner: bool, keep_root: bool } = 8,
        /// Send changes in a directory over the stream, as [`Change`] records, until ended.
        Watch { path: Vec<u8>, recursive: bool } = 9,
        /// Count the files that were changed in the root file system, and their bytes. A file with more than `limit`
        /// bytes is [`Step::Limit`].
        Measure { limit: u64 } = 10,
    }

    /// An operation and its user.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Task {
        /// The user whose rights it has.
        pub(crate) user: User,
        /// The operation.
        pub(crate) job: Job,
    }

    /// The step at which an operation failed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Step {
        /// Starting the helper.
        Start = 0,
        /// Looking up the user or group in the sandbox.
        User = 1,
        /// Opening or finding the path.
        Open = 2,
        /// Reading.
        Read = 3,
        /// Writing.
        Write = 4,
        /// Creating a directory or another kind of entry.
        Make = 5,
        /// Removing.
        Remove = 6,
        /// Renaming.
        Rename = 7,
        /// Not a regular file (a device, a FIFO, a socket).
        Kind = 8,
        /// More bytes or entries than the limit.
        Limit = 9,
        /// Reading or writing the stream.
        Stream = 10,
        /// The archive is malformed or truncated.
        Archive = 11,
        /// An entry of the archive would be outside the directory.
        Escape = 12,
        /// An entry of the archive has a type that is not unpacked.
        Unpackable = 13,
        /// The tree is too deep.
        Depth = 14,
        /// A file shrank while it was packed.
        Shrank = 15,
    }

    /// The metadata of a file (inode(7)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Stat {
        /// Type and permissions, as in stat(2).
        pub(crate) mode: u32,
        /// Owner.
        pub(crate) user: u32,
        /// Group.
        pub(crate) group: u32,
        /// The number of hard links.
        pub(crate) links: u32,
        /// The size in bytes.
        pub(crate) size: u64,
        /// The modification time in nanoseconds since 1970.
        pub(crate) modified: i64,
    }

    /// An entry of a directory, or the answer to `Stat`.
    #[derive(Clone, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Entry {
        /// The name; empty in the answer to `Stat`.
        pub(crate) name: Vec<u8> as Text<MAX_NAME_BYTES>,
        /// The metadata.
        pub(crate) stat: Stat,
        /// The target of a symbolic link; else empty.
        pub(crate) target: Vec<u8> as Text<MAX_PATH_BYTES>,
    }

    /// The totals of an operation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Totals {
        /// Bytes of file contents.
        pub(crate) bytes: u64,
        /// Entries of any kind.
        pub(crate) entries: u64,
        /// Skipped entries (sockets and devices are not copied).
        pub(crate) skipped: u64,
    }

    /// The outcome of an operation.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Outcome {
        /// The operation succeeded.
        Done(totals: Totals) = 0,
        /// The answer to `Stat`.
        Is(entry: Entry) = 1,
        /// The operation failed, at this path if it is not the operation's own.
        Failed { step: Step, errno: i32, path: Vec<u8> as CutPath } = 2,
        /// Not an outcome yet: the helper is making progress. Sent about once a second at most.
        Working = 3,
    }

    /// A change in a directory.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Change {
        /// The kind of change.
        pub(crate) kind: ChangeKind,
        /// The path relative to the directory.
        pub(crate) path: Vec<u8> as Text<MAX_PATH_BYTES>,
    }

    /// A kind of change.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum ChangeKind {
        /// The watch is active: changes from now on are reported.
        Ready = 0,
        /// The entry is new.
        Created = 1,
        /// The content changed.
        Modified = 2,
        /// The entry was removed.
        Removed = 3,
        /// The entry was renamed; this is the old path.
        MovedFrom = 4,
        /// The entry was renamed; this is the new path.
        MovedTo = 5,
        /// Permissions, owner or times changed.
        Attributes = 6,
        /// Some changes were lost, because there were more than could be read in time.
        Overflow = 7,
    }
}

messages!(Outcome);

/// Bytes of a limited length and without NUL, like every path from the kernel.
struct Text<const MAX: usize>;

impl<const MAX: usize> Form<Vec<u8>> for Text<MAX> {
    fn put(value: &Vec<u8>, writer: &mut Writer) {
        value.put(writer);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
        let bytes = reader.bytes()?;
        if bytes.len() <= MAX && !bytes.contains(&0) { Ok(bytes.to_vec()) } else { Err(Malformed) }
    }
}

/// A path of which at most the first [`MAX_PATH_BYTES`] bytes are sent.
struct CutPath;

impl Form<Vec<u8>> for CutPath {
    fn put(value: &Vec<u8>, writer: &mut Writer) {
        writer.bytes(value.get(..MAX_PATH_BYTES).unwrap_or(value));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
        Text::<MAX_PATH_BYTES>::take(reader)
    }
}

impl Job {
    /// Whether the operation has a stream, beside the socket for the outcome.
    pub(crate) fn has_stream(&self) -> bool {
        !matches!(
            self,
            Self::Stat { .. }
                | Self::MakeDirectory { .. }
                | Self::Remove { .. }
                | Self::Rename { .. }
                | Self::Measure { .. }
        )
    }
}

impl Entry {
    /// Encodes a record of the stream: its length in two bytes, then the entry.
    pub(crate) fn record(&self) -> Vec<u8> {
        record(self)
    }

    /// Decodes a record. A name is one path component: not empty, without a slash, and neither `.` nor `..`.
    pub(crate) fn from_record(record: &[u8]) -> Result<Self, Malformed> {
        let entry: Self = codec::decode(record)?;
        if matches!(entry.name.as_slice(), b"" | b"." | b"..") || entry.name.contains(&b'/') {
            return Err(Malformed);
        }
        Ok(entry)
    }
}

impl Change {
    /// Encodes a record of the stream.
    pub(crate) fn record(&self) -> Vec<u8> {
        record(self)
    }

    /// Decodes a record. The path is below the directory: relative, and without `..`.
    pub(crate) fn from_record(record: &[u8]) -> Result<Self, Malformed> {
        let change: Self = codec::decode(record)?;
        let mut names = change.path.split(|byte| *byte == b'/');
        if !change.path.is_empty() && names.any(|name| matches!(name, b"" | b"." | b"..")) {
            return Err(Malformed);
        }
        Ok(change)
    }
}

fn record(value: &impl Wire) -> Vec<u8> {
    let body = codec::encode(value);
    // At most MAX_MESSAGE, which fits.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [&length.to_le_bytes()[..], &body].concat()
}

/// The first record of a stream, and the rest.
type Split<'a> = (&'a [u8], &'a [u8]);

/// Splits the first record off a stream: `None` if it is incomplete.
pub(crate) fn split(stream: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    let Some((length, rest)) = stream.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_le_bytes(*length));
    if length > MAX_MESSAGE {
        return Err(Malformed);
    }
    Ok(rest.split_at_checked(length))
}
