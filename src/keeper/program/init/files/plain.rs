//! Operations on a single path: read, write, list, stat, create a directory, rename.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use super::at::{self, In, Names};
use super::helper::{AtStep, Failure, Result, report_progress};
use crate::wire::files::{Entry, NO_MODE, Outcome, Stat, Step, Totals};

/// Bytes moved by one call: system calls are expensive in gVisor.
pub(super) const CHUNK: usize = 1 << 20;
/// The permissions of new files and directories, if none are given.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// The options of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) mode: u32,
    pub(super) append: bool,
    pub(super) exclusive: bool,
    pub(super) parents: bool,
}

/// Refuses everything but regular files: others block, never end, or have side effects.
pub(super) fn regular(stat: &Stat, step: Step) -> Result<()> {
    match at::kind(stat) {
        libc::S_IFREG => Ok(()),
        libc::S_IFDIR => Err(Failure::of(step, libc::EISDIR)),
        _ => Err(Failure::of(Step::Kind, libc::EINVAL)),
    }
}

/// Opens a path without waiting for the other end of a FIFO.
pub(super) fn open(path: &[u8], flags: i32, mode: u32) -> Result<OwnedFd> {
    let path = at::name(path).at_step(Step::Open)?;
    match at::open(In::ROOT, &path, flags | libc::O_NONBLOCK, mode) {
        // A FIFO without a reader, or a socket.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Err(Failure::of(Step::Kind, libc::ENXIO)),
        other => other.at_step(Step::Open),
    }
}

pub(super) fn read(path: &[u8], offset: u64, limit: u64, mut stream: UnixStream) -> Result<Outcome> {
    let file = open(path, libc::O_RDONLY, 0)?;
    regular(&at::stat_open(file.as_fd()).at_step(Step::Open)?, Step::Read)?;
    if offset > 0 {
        at::seek(file.as_fd(), offset).at_step(Step::Read)?;
    }
    let mut file = File::from(file);
    let mut buffer = vec![0_u8; CHUNK];
    let mut totals = Totals { entries: 1, ..Totals::default() };
    loop {
        let chunk = match file.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => buffer.get(..read.at_step(Step::Read)?).unwrap_or_default(),
        };
        if chunk.is_empty() {
            return Ok(Outcome::Done(totals));
        }
        if chunk.len() as u64 > limit - totals.bytes {
            return Err(Failure::of(Step::Limit, libc::EFBIG));
        }
        stream.write_all(chunk).at_step(Step::Stream)?;
        report_progress();
        totals.bytes += chunk.len() as u64;
    }
}

pub(super) fn write(path: &[u8], how: How, mut stream: UnixStream) -> Result<Outcome> {
    if how.parents
        && let Some(end) = path.iter().rposition(|byte| *byte == b'/').filter(|end| *end > 0)
    {
        make_all(path.get(..end).unwrap_or_default())?;
    }
    let flag = |yes: bool, flag: i32| if yes { flag } else { 0 };
    let flags = flag(how.append, libc::O_APPEND) | flag(how.exclusive, libc::O_EXCL);
    let mode = if how.mode == NO_MODE { FILE_MODE } else { how.mode };
    let file = open(path, libc::O_WRONLY | libc::O_CREAT | flags, mode)?;
    regular(&at::stat_open(file.as_fd()).at_step(Step::Open)?, Step::Write)?;
    let mut file = File::from(file);
    if !how.append {
        file.set_len(0).at_step(Step::Write)?;
    }
    if how.mode != NO_MODE {
        at::set_mode(file.as_fd(), mode).at_step(Step::Write)?;
    }
    let mut buffer = vec![0_u8; CHUNK];
    let mut totals = Totals { entries: 1, ..Totals::default() };
    loop {
        let chunk = match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => buffer.get(..read.at_step(Step::Stream)?).unwrap_or_default(),
        };
        if chunk.is_empty() {
            // Writing clears the set-id bits.
            if how.mode != NO_MODE && mode & 0o6000 != 0 {
                at::set_mode(file.as_fd(), mode).at_step(Step::Write)?;
            }
            at::close(file.into()).at_step(Step::Write)?;
            return Ok(Outcome::Done(totals));
        }
        file.write_all(chunk).at_step(Step::Write)?;
        report_progress();
        totals.bytes += chunk.len() as u64;
    }
}

pub(super) fn list(path: &[u8], limit: u64, stream: UnixStream) -> Result<Outcome> {
    let directory = open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut names = Names::of(directory).at_step(Step::Read)?;
    let mut stream = BufWriter::with_capacity(CHUNK, stream);
    let mut totals = Totals::default();
    while let Some(name) = names.next() {
        let name = name.at_step(Step::Read)?;
        // The entry was removed since the directory was read.
        let Some(entry) = entry(In::from(&names), &name) else { continue };
        if totals.entries == limit {
            return Err(Failure::of(Step::Limit, libc::EFBIG));
        }
        stream.write_all(&entry.record()).at_step(Step::Stream)?;
        report_progress();
        totals.entries += 1;
    }
    stream.flush().at_step(Step::Stream)?;
    Ok(Outcome::Done(totals))
}

fn entry(at: In, name: &std::ffi::CStr) -> Option<Entry> {
    let stat = at::stat(at, name, false).ok()?;
    Some(Entry { name: name.to_bytes().to_vec(), target: target(at, name, &stat), stat })
}

/// The target if the entry is a symbolic link, else empty.
fn target(at: In, name: &std::ffi::CStr, stat: &Stat) -> Vec<u8> {
    if at::kind(stat) != libc::S_IFLNK {
        return Vec::new();
    }
    at::read_link(at, name).unwrap_or_default()
}

pub(super) fn stat(path: &[u8], follow: bool) -> Result<Outcome> {
    let path = at::name(path).at_step(Step::Open)?;
    let stat = at::stat(In::ROOT, &path, follow).at_step(Step::Open)?;
    Ok(Outcome::Is(Entry { name: Vec::new(), target: target(In::ROOT, &path, &stat), stat }))
}

pub(super) fn make_directory(path: &[u8], mode: u32, parents: bool) -> Result<Outcome> {
    let given = (mode != NO_MODE).then_some(mode);
    if parents {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let trimmed = path.get(..end).unwrap_or_default();
        if let Some(end) = trimmed.iter().rposition(|byte| *byte == b'/').filter(|end| *end > 0) {
            make_all(trimmed.get(..end).unwrap_or_default())?;
        }
    }
    let name = at::name(path).at_step(Step::Make)?;
    match at::make_directory(In::ROOT, &name, given.unwrap_or(DIRECTORY_MODE)) {
        // The directory exists already and is left as it is.
        Err(error) if parents && error.kind() == ErrorKind::AlreadyExists && is_directory(path) => {}
        made => made.at_step(Step::Make)?,
    }
    Ok(Outcome::Done(Totals { entries: 1, ..Totals::default() }))
}

fn is_directory(path: &[u8]) -> bool {
    let stat = at::name(path).and_then(|path| at::stat(In::ROOT, &path, true));
    stat.is_ok_and(|stat| at::is_directory(&stat))
}

/// Creates a directory and its missing parents.
pub(super) fn make_all(path: &[u8]) -> Result<()> {
    if is_directory(path) {
        return Ok(());
    }
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    for end in ends.chain([path.len()]) {
        let part = path.get(..end).unwrap_or_default();
        let name = at::name(part).at_step(Step::Make)?;
        match at::make_directory(In::ROOT, &name, DIRECTORY_MODE) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // A read-only file system reports EROFS even for a directory that exists.
            Err(_) if is_directory(part) => {}
            made => made.at_step(Step::Make).map_err(|failure| failure.at(part))?,
        }
    }
    Ok(())
}

/// Writes a file in the place of what is there: a link is replaced, not followed. Does nothing where the host has mounted
/// something of its own, at the path or above it.
pub(super) fn replace(path: &[u8], content: &[u8]) -> Result<()> {
    let end = path.iter().rposition(|byte| *byte == b'/').ok_or(Failure::of(Step::Open, libc::EINVAL))?;
    let (directory, name) = path.split_at(end);
    let name = at::name(name.get(1..).unwrap_or_default()).at_step(Step::Open)?;
    make_all(directory)?;
    let directory = at::name(directory).at_step(Step::Open)?;
    let directory =
        at::open(In::ROOT, &directory, libc::O_PATH | libc::O_DIRECTORY, 0).at_step(Step::Open)?;
    let device = |fd: OwnedFd| File::from(fd).metadata().map(|metadata| metadata.dev()).at_step(Step::Open);
    let root = at::open(In::ROOT, c"/", libc::O_PATH | libc::O_DIRECTORY, 0).at_step(Step::Open)?;
    let copy = directory.try_clone().at_step(Step::Open)?;
    if device(copy)? != device(root)? {
        return Ok(());
    }
    let directory = In::from(&directory);
    match at::unlink(directory, &name, false) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed.at_step(Step::Remove)?,
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let file = at::open(directory, &name, flags, FILE_MODE).at_step(Step::Open)?;
    at::set_mode(file.as_fd(), FILE_MODE).at_step(Step::Write)?;
    File::from(file).write_all(content).at_step(Step::Write)
}

pub(super) fn rename(from: &[u8], to: &[u8], exclusive: bool) -> Result<Outcome> {
    let (from, to) = (at::name(from).at_step(Step::Rename)?, at::name(to).at_step(Step::Rename)?);
    at::rename(&from, &to, exclusive).at_step(Step::Rename)?;
    Ok(Outcome::Done(Totals { entries: 1, ..Totals::default() }))
}
