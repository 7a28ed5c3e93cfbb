//! File operations: what a helper inside the sandbox is asked to do, and what it says of it.
//!
//! Each operation has a socket of its own, on which the helper says one [`Outcome`] and then ends (and before that, that
//! it works); bytes, the entries of a directory and changes go over a stream beside it. What comes back is read as an
//! attacker's.

use super::codec::{self, Form, Malformed, Reader, Wire, Writer, messages, wire};
use super::init::User;

/// The longest path (PATH_MAX less its NUL), and the longest name (NAME_MAX).
pub(crate) const LONGEST_PATH: usize = 4095;
/// The longest name of a directory's entry (NAME_MAX).
pub(crate) const LONGEST_NAME: usize = 255;
/// In the place of permissions: the usual ones.
pub(crate) const NO_MODE: u32 = u32::MAX;
/// The longest [`Outcome`], and the longest record of a stream.
pub(crate) const LONGEST: usize = 2 * LONGEST_PATH + 128;

wire! {
    /// What is to be done.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Job {
        /// Send a file's bytes over the stream: at most `limit`, from `offset` on. More is [`Step::Limit`].
        Read { path: Vec<u8>, offset: u64, limit: u64 } = 0,
        /// Write what comes over the stream into a file.
        Write { path: Vec<u8>, mode: u32, append: bool, exclusive: bool, parents: bool } = 1,
        /// Send a directory's entries over the stream, as [`Entry`] records.
        List { path: Vec<u8>, limit: u64 } = 2,
        /// Say what a path is.
        Stat { path: Vec<u8>, follow: bool } = 3,
        /// Make a directory.
        MakeDirectory { path: Vec<u8>, mode: u32, parents: bool } = 4,
        /// Remove a file, an empty directory, or everything below a directory too.
        Remove { path: Vec<u8>, recursive: bool, missing_ok: bool } = 5,
        /// Give something another name.
        Rename { from: Vec<u8>, to: Vec<u8>, exclusive: bool } = 6,
        /// Send a file or a tree over the stream as a tar archive.
        Pack { path: Vec<u8>, limit: u64 } = 7,
        /// Unpack the tar archive that comes over the stream into a directory.
        Unpack { path: Vec<u8>, limit: u64, parents: bool, keep_owner: bool } = 8,
        /// Send what changes in a directory over the stream, as [`Change`] records, until ended.
        Watch { path: Vec<u8>, recursive: bool } = 9,
    }

    /// An operation: what is to be done, and as whom.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Task {
        /// Whose rights it has.
        pub(crate) user: User,
        /// What is to be done.
        pub(crate) job: Job,
    }

    /// Where an operation failed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Step {
        /// The helper could not be started.
        Start = 0,
        /// The user or group is not known in the sandbox.
        User = 1,
        /// Opening, or finding.
        Open = 2,
        /// Reading.
        Read = 3,
        /// Writing.
        Write = 4,
        /// Making a directory or another kind of entry.
        Make = 5,
        /// Removing.
        Remove = 6,
        /// Renaming.
        Rename = 7,
        /// It is not a regular file (a device, a FIFO, a socket).
        Kind = 8,
        /// There is more than the limit allows.
        Limit = 9,
        /// The stream to or from the host broke.
        Stream = 10,
        /// The archive is not one, or is cut short.
        Archive = 11,
        /// An entry of the archive would lie outside of the directory.
        Escape = 12,
        /// An entry of the archive is of a kind that is not unpacked.
        Unpackable = 13,
        /// The tree is deeper than can be walked.
        Depth = 14,
        /// A file became shorter while it was copied.
        Shrank = 15,
    }

    /// What a path is (inode(7)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Stat {
        /// Type and permissions, as stat(2) gives them.
        pub(crate) mode: u32,
        /// Owner.
        pub(crate) user: u32,
        /// Group.
        pub(crate) group: u32,
        /// How many names it has.
        pub(crate) links: u32,
        /// Bytes.
        pub(crate) size: u64,
        /// When its content was last changed, in nanoseconds since 1970.
        pub(crate) modified: i64,
    }

    /// An entry of a directory, or the answer to `Stat`.
    #[derive(Clone, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Entry {
        /// Its name; empty in an answer to `Stat`.
        pub(crate) name: Vec<u8> as Text<LONGEST_NAME>,
        /// What it is.
        pub(crate) stat: Stat,
        /// Where a symbolic link leads; else empty.
        pub(crate) target: Vec<u8> as Text<LONGEST_PATH>,
    }

    /// What has been done.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Totals {
        /// Bytes of files.
        pub(crate) bytes: u64,
        /// Entries: files, directories and whatever else.
        pub(crate) entries: u64,
        /// Entries left out (sockets and devices are not copied).
        pub(crate) skipped: u64,
    }

    /// How an operation went.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Outcome {
        /// It was done.
        Done(totals: Totals) = 0,
        /// What the path is.
        Is(entry: Entry) = 1,
        /// It failed, at this path if that is another than the one asked for.
        Failed { step: Step, errno: i32, path: Vec<u8> as CutPath } = 2,
        /// The helper is still at it, and has made progress: no outcome yet. At most about one a second.
        Working = 3,
    }

    /// Something has changed in a directory.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Change {
        /// What happened, as one of inotify(7)'s bits, or `OVERFLOW`.
        pub(crate) kind: ChangeKind,
        /// Where, below the directory.
        pub(crate) path: Vec<u8> as Text<LONGEST_PATH>,
    }

    /// What happened to an entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum ChangeKind {
        /// Watching has begun: changes from now on are told.
        Ready = 0,
        /// It is new.
        Created = 1,
        /// Its content has changed.
        Modified = 2,
        /// It is gone.
        Removed = 3,
        /// It was renamed, and this was its name.
        MovedFrom = 4,
        /// It was renamed, and this is its name.
        MovedTo = 5,
        /// Its permissions, owner or times have changed.
        Attributes = 6,
        /// There were more changes than were read in time: some were not told.
        Overflow = 7,
    }
}

messages!(Outcome);

/// Bytes that are no longer than that and have no NUL, as nothing that comes from the kernel has.
struct Text<const LONGEST: usize>;

impl<const LONGEST: usize> Form<Vec<u8>> for Text<LONGEST> {
    fn put(value: &Vec<u8>, writer: &mut Writer) {
        value.put(writer);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
        let bytes = reader.bytes()?;
        if bytes.len() <= LONGEST && !bytes.contains(&0) { Ok(bytes.to_vec()) } else { Err(Malformed) }
    }
}

/// A path of which at most the first [`LONGEST_PATH`] bytes are sent.
struct CutPath;

impl Form<Vec<u8>> for CutPath {
    fn put(value: &Vec<u8>, writer: &mut Writer) {
        writer.bytes(value.get(..LONGEST_PATH).unwrap_or(value));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
        Text::<LONGEST_PATH>::take(reader)
    }
}

impl Job {
    /// Whether a stream comes with it, beside the socket for the outcome.
    pub(crate) fn has_stream(&self) -> bool {
        !matches!(
            self,
            Self::Stat { .. } | Self::MakeDirectory { .. } | Self::Remove { .. } | Self::Rename { .. }
        )
    }
}

impl Entry {
    /// As a record of the stream: its length in two bytes, then itself.
    pub(crate) fn record(&self) -> Vec<u8> {
        record(self)
    }

    /// From a record. A name is one component of a path: not empty, without a slash, and neither `.` nor `..`.
    pub(crate) fn from_record(record: &[u8]) -> Result<Self, Malformed> {
        let entry: Self = codec::decode(record)?;
        if matches!(entry.name.as_slice(), b"" | b"." | b"..") || entry.name.contains(&b'/') {
            return Err(Malformed);
        }
        Ok(entry)
    }
}

impl Change {
    /// As a record of the stream.
    pub(crate) fn record(&self) -> Vec<u8> {
        record(self)
    }

    /// From a record. The path lies below the directory: relative, and without `..`.
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
    // Bounded by LONGEST, which fits.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    [&length.to_le_bytes()[..], &body].concat()
}

/// The first record of a stream, and the rest.
type Split<'a> = (&'a [u8], &'a [u8]);

/// Splits the first record off a stream: `None` if it isn't whole yet.
pub(crate) fn split(stream: &[u8]) -> Result<Option<Split<'_>>, Malformed> {
    let Some((length, rest)) = stream.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_le_bytes(*length));
    if length > LONGEST {
        return Err(Malformed);
    }
    Ok(rest.split_at_checked(length))
}
