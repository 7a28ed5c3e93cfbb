//! What the library does with an operation's stream, a piece at a time.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};

use super::entry::{DirectoryEntry, FileChange};
use super::operation::Progress;
use super::request::StreamUse;
use crate::error::{Code, Error, Result};
use crate::event::queue::Ring;
use crate::keeper::wire::files::{self, Change, Entry};
use crate::sys::socket::Socket;

/// Bytes moved a wake-up, so that no sandbox holds up the others.
const BUDGET: usize = 512 * 1024;
/// Bytes moved at once.
const CHUNK: usize = 64 * 1024;
/// The most bytes of records that one listing may have, whatever their number: a hostile init's names and
/// targets can be long.
const MOST_LISTED: usize = 128 << 20;

/// A stream, and what it is for.
#[derive(Debug)]
pub(super) struct Pump {
    socket: Socket,
    work: Work,
    /// Nothing more comes, or is to be sent.
    over: bool,
    /// How many bytes were moved.
    moved: u64,
}

#[derive(Debug)]
enum Work {
    Bytes { limit: usize, bytes: Vec<u8> },
    Entries { limit: usize, rest: Vec<u8>, seen: usize, entries: Vec<DirectoryEntry> },
    Write { bytes: Vec<u8>, sent: usize },
    Changes { rest: Vec<u8> },
}

/// Why it stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The other side is to move.
    Waiting,
    /// There may be more; others first.
    More,
    /// The host is to take something first.
    Full,
    /// It is done.
    Over,
}

impl Pump {
    /// Over the library's end of a stream; `None` if it has no use for one.
    pub(super) fn new(socket: Socket, purpose: StreamUse) -> Option<Self> {
        let work = match purpose {
            StreamUse::Bytes(limit) => Work::Bytes { limit, bytes: Vec::new() },
            StreamUse::Entries(limit) => {
                Work::Entries { limit, rest: Vec::new(), seen: 0, entries: Vec::new() }
            }
            StreamUse::Write(bytes) => Work::Write { bytes, sent: 0 },
            StreamUse::Changes => Work::Changes { rest: Vec::new() },
            StreamUse::None | StreamUse::Host => return None,
        };
        Some(Self { socket, work, over: false, moved: 0 })
    }

    /// Whether it must be over before the operation is.
    pub(super) fn brings_the_answer(&self) -> bool {
        !matches!(self.work, Work::Write { .. })
    }

    /// How many bytes were moved so far.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves what can be moved now.
    pub(super) fn go_on(&mut self, progress: &Progress, notify: impl Fn() -> Option<Ring>) -> Result<Left> {
        if self.over {
            return Ok(Left::Over);
        }
        let mut moved = 0;
        while moved < BUDGET {
            let left = match &mut self.work {
                Work::Write { bytes, sent } => write(&self.socket, bytes, sent)?,
                work => read(&self.socket, work, progress, &notify)?,
            };
            match left {
                Ok(count) => {
                    moved += count;
                    self.moved += count as u64;
                }
                Err(Left::Over) => {
                    self.over = true;
                    return Ok(Left::Over);
                }
                Err(left) => return Ok(left),
            }
        }
        Ok(Left::More)
    }

    /// What it has brought.
    pub(super) fn take(self) -> (Vec<u8>, Vec<DirectoryEntry>) {
        match self.work {
            Work::Bytes { bytes, .. } => (bytes, Vec::new()),
            Work::Entries { entries, .. } => (Vec::new(), entries),
            Work::Write { .. } | Work::Changes { .. } => (Vec::new(), Vec::new()),
        }
    }
}

impl AsFd for Pump {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn write(socket: &Socket, bytes: &[u8], sent: &mut usize) -> Result<std::result::Result<usize, Left>> {
    let rest = bytes.get(*sent..).unwrap_or_default();
    if rest.is_empty() {
        // A helper that is gone says why on its own socket, or not at all.
        let _ = socket.finish();
        return Ok(Err(Left::Over));
    }
    match socket.send(rest.get(..CHUNK).unwrap_or(rest)) {
        Ok(count) => {
            *sent += count;
            Ok(Ok(count))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Err(Left::Waiting)),
        // It has stopped reading: its outcome tells why.
        Err(_) => Ok(Err(Left::Over)),
    }
}

fn read(
    socket: &Socket,
    work: &mut Work,
    progress: &Progress,
    notify: &impl Fn() -> Option<Ring>,
) -> Result<std::result::Result<usize, Left>> {
    if matches!(work, Work::Changes { .. }) {
        // What waits from the last time comes first; and what has no room stays with the sender.
        if !work.take(&[], progress, notify)? {
            return Ok(Err(Left::Full));
        }
    }
    let mut buffer = [0_u8; CHUNK];
    match socket.receive(&mut buffer) {
        Ok(0) => Ok(Err(Left::Over)),
        Ok(count) => {
            let room = work.take(buffer.get(..count).unwrap_or_default(), progress, notify)?;
            Ok(if room { Ok(count) } else { Err(Left::Full) })
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Err(Left::Waiting)),
        Err(_) => Ok(Err(Left::Over)),
    }
}

impl Work {
    /// Takes what came. False if there was no room for all of it.
    fn take(&mut self, came: &[u8], progress: &Progress, notify: &impl Fn() -> Option<Ring>) -> Result<bool> {
        match self {
            Self::Bytes { limit, bytes } => {
                if came.len() > *limit - bytes.len() {
                    let message = format!("the sandbox sent more than the limit of {limit} bytes");
                    return Err(Error::new(Code::Limit, message));
                }
                bytes.extend_from_slice(came);
            }
            Self::Entries { limit, rest, seen, entries } => {
                *seen += came.len();
                if *seen > MOST_LISTED {
                    let message = format!("the listing is longer than {MOST_LISTED} bytes");
                    return Err(Error::new(Code::Limit, message));
                }
                rest.extend_from_slice(came);
                let mut stream = &rest[..];
                while let Some((record, more)) = files::split(stream).map_err(|_| malformed())? {
                    if entries.len() == *limit {
                        let message = format!("the sandbox listed more than the limit of {limit} entries");
                        return Err(Error::new(Code::Limit, message));
                    }
                    entries.push(DirectoryEntry::new(Entry::from_record(record).map_err(|_| malformed())?));
                    stream = more;
                }
                *rest = stream.to_vec();
            }
            Self::Changes { rest } => {
                rest.extend_from_slice(came);
                let mut stream = &rest[..];
                while let Some((record, more)) = files::split(stream).map_err(|_| malformed())? {
                    // Asked anew each time: who makes room in a full queue has us go on, and nobody else.
                    if progress.room() == 0 {
                        *rest = stream.to_vec();
                        return Ok(false);
                    }
                    let change = Change::from_record(record).map_err(|_| malformed())?;
                    progress.add(FileChange::new(change), notify);
                    stream = more;
                }
                *rest = stream.to_vec();
            }
            Self::Write { .. } => debug_assert!(false, "a stream that is written isn't read"),
        }
        Ok(true)
    }

    /// Whether something is left that is not whole.
    fn is_torn(&self) -> bool {
        match self {
            Self::Entries { rest, .. } | Self::Changes { rest } => !rest.is_empty(),
            Self::Bytes { .. } | Self::Write { .. } => false,
        }
    }
}

impl Pump {
    /// An error if the stream ended in the middle of something.
    pub(super) fn check_end(&self) -> Result<()> {
        if self.work.is_torn() { Err(malformed()) } else { Ok(()) }
    }
}

fn malformed() -> Error {
    Error::new(Code::Engine, "the sandbox sent something malformed")
}
