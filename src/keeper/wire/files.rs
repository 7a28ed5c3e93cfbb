//! File operations: what a helper inside the sandbox is asked to do, and what it says of it.
//!
//! Each operation has a socket of its own, on which the helper says one [`Outcome`] and then ends (and before that, that
//! it works); bytes, the entries of a directory and changes go over a stream beside it. What comes back is read as an
//! attacker's.

use super::init::User;
use super::{Malformed, Reader, Writer};

/// The longest path (PATH_MAX less its NUL), and the longest name (NAME_MAX).
pub(crate) const LONGEST_PATH: usize = 4095;
/// The longest name of a directory's entry (NAME_MAX).
pub(crate) const LONGEST_NAME: usize = 255;
/// In the place of permissions: the usual ones.
pub(crate) const NO_MODE: u32 = u32::MAX;
/// The longest [`Outcome`], and the longest record of a stream.
pub(crate) const LONGEST: usize = 2 * LONGEST_PATH + 128;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Send a file's bytes over the stream: at most `limit`, from `offset` on. More is [`Step::Limit`].
    Read { path: Vec<u8>, offset: u64, limit: u64 },
    /// Write what comes over the stream into a file.
    Write { path: Vec<u8>, mode: u32, append: bool, exclusive: bool, parents: bool },
    /// Send a directory's entries over the stream, as [`Entry`] records.
    List { path: Vec<u8>, limit: u64 },
    /// Say what a path is.
    Stat { path: Vec<u8>, follow: bool },
    /// Make a directory.
    MakeDirectory { path: Vec<u8>, mode: u32, parents: bool },
    /// Remove a file, an empty directory, or everything below a directory too.
    Remove { path: Vec<u8>, recursive: bool, missing_ok: bool },
    /// Give something another name.
    Rename { from: Vec<u8>, to: Vec<u8>, exclusive: bool },
    /// Send a file or a tree over the stream as a tar archive.
    Pack { path: Vec<u8>, limit: u64 },
    /// Unpack the tar archive that comes over the stream into a directory.
    Unpack { path: Vec<u8>, limit: u64, parents: bool, keep_owner: bool },
    /// Send what changes in a directory over the stream, as [`Change`] records, until ended.
    Watch { path: Vec<u8>, recursive: bool },
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
#[repr(u8)]
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

impl Step {
    const ALL: [Self; 16] = [
        Self::Start,
        Self::User,
        Self::Open,
        Self::Read,
        Self::Write,
        Self::Make,
        Self::Remove,
        Self::Rename,
        Self::Kind,
        Self::Limit,
        Self::Stream,
        Self::Archive,
        Self::Escape,
        Self::Unpackable,
        Self::Depth,
        Self::Shrank,
    ];

    fn from(value: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|step| *step as u8 == value).ok_or(Malformed)
    }
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
    pub(crate) name: Vec<u8>,
    /// What it is.
    pub(crate) stat: Stat,
    /// Where a symbolic link leads; else empty.
    pub(crate) target: Vec<u8>,
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
    Done(Totals),
    /// What the path is.
    Is(Entry),
    /// It failed, at this path if that is another than the one asked for.
    Failed { step: Step, errno: i32, path: Vec<u8> },
    /// The helper is still at it, and has made progress: no outcome yet. At most about one a second.
    Working,
}

/// Something has changed in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// What happened, as one of inotify(7)'s bits, or `OVERFLOW`.
    pub(crate) kind: ChangeKind,
    /// Where, below the directory.
    pub(crate) path: Vec<u8>,
}

/// What happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
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

impl ChangeKind {
    fn from(value: u8) -> Result<Self, Malformed> {
        [
            Self::Ready,
            Self::Created,
            Self::Modified,
            Self::Removed,
            Self::MovedFrom,
            Self::MovedTo,
            Self::Attributes,
            Self::Overflow,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == value)
        .ok_or(Malformed)
    }
}

impl Task {
    /// Puts it into a message.
    pub(super) fn put(&self, writer: Writer) -> Writer {
        let writer = writer.bytes(self.user.user.as_bytes()).bytes(self.user.group.as_bytes());
        match &self.job {
            Job::Read { path, offset, limit } => writer.byte(0).bytes(path).long(*offset).long(*limit),
            Job::Write { path, mode, append, exclusive, parents } => {
                writer.byte(1).bytes(path).number(*mode).flag(*append).flag(*exclusive).flag(*parents)
            }
            Job::List { path, limit } => writer.byte(2).bytes(path).long(*limit),
            Job::Stat { path, follow } => writer.byte(3).bytes(path).flag(*follow),
            Job::MakeDirectory { path, mode, parents } => {
                writer.byte(4).bytes(path).number(*mode).flag(*parents)
            }
            Job::Remove { path, recursive, missing_ok } => {
                writer.byte(5).bytes(path).flag(*recursive).flag(*missing_ok)
            }
            Job::Rename { from, to, exclusive } => writer.byte(6).bytes(from).bytes(to).flag(*exclusive),
            Job::Pack { path, limit } => writer.byte(7).bytes(path).long(*limit),
            Job::Unpack { path, limit, parents, keep_owner } => {
                writer.byte(8).bytes(path).long(*limit).flag(*parents).flag(*keep_owner)
            }
            Job::Watch { path, recursive } => writer.byte(9).bytes(path).flag(*recursive),
        }
    }

    /// Takes it out of a message.
    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let user = User { user: reader.text()?, group: reader.text()? };
        let job = match reader.byte()? {
            0 => Job::Read { path: reader.bytes()?, offset: reader.long()?, limit: reader.long()? },
            1 => Job::Write {
                path: reader.bytes()?,
                mode: reader.number()?,
                append: reader.flag()?,
                exclusive: reader.flag()?,
                parents: reader.flag()?,
            },
            2 => Job::List { path: reader.bytes()?, limit: reader.long()? },
            3 => Job::Stat { path: reader.bytes()?, follow: reader.flag()? },
            4 => {
                Job::MakeDirectory { path: reader.bytes()?, mode: reader.number()?, parents: reader.flag()? }
            }
            5 => Job::Remove { path: reader.bytes()?, recursive: reader.flag()?, missing_ok: reader.flag()? },
            6 => Job::Rename { from: reader.bytes()?, to: reader.bytes()?, exclusive: reader.flag()? },
            7 => Job::Pack { path: reader.bytes()?, limit: reader.long()? },
            8 => Job::Unpack {
                path: reader.bytes()?,
                limit: reader.long()?,
                parents: reader.flag()?,
                keep_owner: reader.flag()?,
            },
            9 => Job::Watch { path: reader.bytes()?, recursive: reader.flag()? },
            _ => return Err(Malformed),
        };
        Ok(Self { user, job })
    }
}

impl Stat {
    fn put(&self, writer: Writer) -> Writer {
        writer
            .number(self.mode)
            .number(self.user)
            .number(self.group)
            .number(self.links)
            .long(self.size)
            .long(self.modified.cast_unsigned())
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            mode: reader.number()?,
            user: reader.number()?,
            group: reader.number()?,
            links: reader.number()?,
            size: reader.long()?,
            modified: reader.long()?.cast_signed(),
        })
    }
}

/// Bytes that are no longer than that and have no NUL, as nothing that comes from the kernel has.
fn text(reader: &mut Reader<'_>, longest: usize) -> Result<Vec<u8>, Malformed> {
    reader.bytes().and_then(|bytes| {
        if bytes.len() <= longest && !bytes.contains(&0) { Ok(bytes) } else { Err(Malformed) }
    })
}

impl Entry {
    fn put(&self, writer: Writer) -> Writer {
        self.stat.put(writer.bytes(&self.name)).bytes(&self.target)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: text(reader, LONGEST_NAME)?,
            stat: Stat::take(reader)?,
            target: text(reader, LONGEST_PATH)?,
        })
    }

    /// As a record of the stream: its length in two bytes, then itself.
    pub(crate) fn record(&self) -> Vec<u8> {
        record(self.put(Writer::default()))
    }

    /// From a record. A name is one component of a path: not empty, without a slash, and neither `.` nor `..`.
    pub(crate) fn from_record(record: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(record);
        let entry = Self::take(&mut reader)?;
        if matches!(entry.name.as_slice(), b"" | b"." | b"..") || entry.name.contains(&b'/') {
            return Err(Malformed);
        }
        reader.end(entry)
    }
}

impl Change {
    /// As a record of the stream.
    pub(crate) fn record(&self) -> Vec<u8> {
        record(Writer::of(self.kind as u8).bytes(&self.path))
    }

    /// From a record. The path lies below the directory: relative, and without `..`.
    pub(crate) fn from_record(record: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(record);
        let kind = ChangeKind::from(reader.byte()?)?;
        let path = text(&mut reader, LONGEST_PATH)?;
        let inside =
            |path: &[u8]| path.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
        if !path.is_empty() && !inside(&path) {
            return Err(Malformed);
        }
        reader.end(Self { kind, path })
    }
}

fn record(writer: Writer) -> Vec<u8> {
    let body = writer.done();
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

impl Outcome {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done(totals) => {
                Writer::of(0).long(totals.bytes).long(totals.entries).long(totals.skipped).done()
            }
            Self::Is(entry) => entry.put(Writer::of(1)).done(),
            Self::Failed { step, errno, path } => {
                let path = path.get(..LONGEST_PATH).unwrap_or(path);
                Writer::of(2).byte(*step as u8).signed(*errno).bytes(path).done()
            }
            Self::Working => Writer::of(3).done(),
        }
    }

    /// From bytes.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let outcome = match reader.byte()? {
            0 => {
                Self::Done(Totals { bytes: reader.long()?, entries: reader.long()?, skipped: reader.long()? })
            }
            1 => Self::Is(Entry::take(&mut reader)?),
            2 => Self::Failed {
                step: Step::from(reader.byte()?)?,
                errno: reader.signed()?,
                path: text(&mut reader, LONGEST_PATH)?,
            },
            3 => Self::Working,
            _ => return Err(Malformed),
        };
        reader.end(outcome)
    }
}
