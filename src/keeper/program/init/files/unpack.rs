//! Unpacks a tar archive into a directory.
//!
//! Creates nothing outside the directory. An absolute path, a path with `..`, and a path through a symbolic
//! link are errors, whether the link existed before or came with the archive. Each component is opened by
//! itself and without following links, so other processes that change the tree meanwhile can't redirect it.
//! An existing file is replaced, as tar(1) does; an existing directory is kept.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::at::{self, In};
use super::helper::{AtStep, Failure, Result, report_progress};
use super::plain::{self, CHUNK};
use super::tar::{self, BLOCK, Entry, Header, Kind, Overrides};
use crate::wire::files::{Outcome, Step, Totals};

/// The mode of directories that the archive has no entry for.
const DIRECTORY_MODE: u32 = 0o755;

/// The options of an unpacking.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) parents: bool,
    pub(super) keep_owner: bool,
    pub(super) keep_root: bool,
}

pub(super) fn unpack(path: &[u8], limit: u64, how: How, stream: UnixStream) -> Result<Outcome> {
    if how.parents {
        plain::make_all(path)?;
    }
    let top = plain::open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut tree = Tree { top, last: None, how, directories: Vec::new(), root: None };
    let mut input = Input { stream, buffer: vec![0; CHUNK], from: 0, to: 0 };
    let mut totals = Totals::default();
    let mut overrides = Overrides::default();
    loop {
        let mut block = [0; BLOCK];
        input.exact(&mut block)?;
        match tar::parse(&block, &mut overrides).map_err(|_| malformed())? {
            Header::End => break,
            Header::Extended(kind, size) => {
                let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
                input.exact(&mut content)?;
                input.exact(&mut vec![0; tar::padding(size)])?;
                overrides.take(kind, &content).map_err(|_| malformed())?;
            }
            Header::Entry(entry) => {
                if entry.size > limit - totals.bytes {
                    return Err(Failure::of(Step::Limit, libc::EFBIG).at(&entry.path));
                }
                tree.make(&entry, &mut input).map_err(|failure| failure.at(&entry.path))?;
                totals.entries += 1;
                totals.bytes += entry.size;
            }
        }
    }
    // Writers pad the last record. Read it all, or they would get a broken pipe.
    while input.more()? > 0 {
        input.from = input.to;
    }
    tree.finish()?;
    Ok(Outcome::Done(totals))
}

fn malformed() -> Failure {
    Failure::of(Step::Archive, libc::EBADMSG)
}

/// The archive, read in large chunks.
struct Input {
    stream: UnixStream,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Input {
    /// The number of buffered bytes, after reading more if there were none; 0 at the end of the stream.
    fn more(&mut self) -> Result<usize> {
        report_progress();
        while self.from == self.to {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => return Ok(0),
                read => (self.from, self.to) = (0, read.at_step(Step::Stream)?),
            }
        }
        Ok(self.to - self.from)
    }

    fn take(&mut self, most: usize) -> Result<&[u8]> {
        let length = self.more()?.min(most);
        if length == 0 {
            // The archive has no end marker: it was cut short.
            return Err(malformed());
        }
        let from = self.from;
        self.from += length;
        Ok(self.buffer.get(from..from + length).unwrap_or_default())
    }

    fn exact(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            let piece = self.take(into.len())?;
            let (now, later) = into.split_at_mut(piece.len());
            now.copy_from_slice(piece);
            into = later;
        }
        Ok(())
    }
}

struct Tree {
    top: OwnedFd,
    /// The directory of the last entry, with its path.
    last: Option<(Vec<u8>, OwnedFd)>,
    how: How,
    /// Directories get their modes and times at the end: creating entries in them needs permissions and
    /// changes the times.
    directories: Vec<Entry>,
    /// What the directory itself gets.
    root: Option<Entry>,
}

impl Tree {
    fn make(&mut self, entry: &Entry, input: &mut Input) -> Result<()> {
        if matches!(entry.kind, Kind::Other(_)) {
            return Err(Failure::of(Step::Unpackable, libc::EOPNOTSUPP));
        }
        let parts = parts(&entry.path)?;
        let Some((name, parents)) = parts.split_last() else {
            // The target directory itself, which exists.
            if entry.kind != Kind::Directory {
                return Err(malformed());
            }
            self.root = Some(entry.clone()).filter(|_| self.how.keep_root);
            return Ok(());
        };
        let name = at::name(name).at_step(Step::Make)?;
        // Looked up first, because `descend` replaces the cached directory.
        let old = if entry.kind == Kind::HardLink { Some(self.linked(&entry.target)?) } else { None };
        let parent = In::from(self.descend(parents)?);
        if entry.kind != Kind::Directory {
            match at::unlink(parent, &name, false) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).at_step(Step::Make),
                _ => {}
            }
        }
        match entry.kind {
            Kind::Directory => {
                match at::make_directory(parent, &name, 0o700) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        let stat = at::stat(parent, &name, false).at_step(Step::Make)?;
                        if !at::is_directory(&stat) {
                            return Err(Failure::of(Step::Make, libc::EEXIST));
                        }
                    }
                    made => made.at_step(Step::Make)?,
                }
                self.directories.push(entry.clone());
                return Ok(());
            }
            Kind::File => return self.file(entry, &name, input),
            Kind::Symlink => {
                let target = at::name(&entry.target).at_step(Step::Make)?;
                at::make_symlink(&target, parent, &name).at_step(Step::Make)?;
            }
            Kind::Fifo => {
                at::make_fifo(parent, &name, entry.mode & 0o777).at_step(Step::Make)?;
            }
            Kind::HardLink => {
                let Some((directory, old)) = old else { return Err(malformed()) };
                return at::link(In::from(&directory), &old, parent, &name).at_step(Step::Make);
            }
            Kind::Other(_) => {}
        }
        self.set_attributes(parent, &name, entry)
    }

    fn file(&mut self, entry: &Entry, name: &CStr, input: &mut Input) -> Result<()> {
        let parent = In::from(self.last.as_ref().map_or(&self.top, |(_, directory)| directory));
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let mut file = File::from(at::open(parent, name, flags, 0o600).at_step(Step::Make)?);
        let mut left = entry.size;
        while left > 0 {
            let piece = input.take(usize::try_from(left).unwrap_or(CHUNK))?;
            file.write_all(piece).at_step(Step::Write)?;
            left -= piece.len() as u64;
        }
        let mut rest = [0; BLOCK];
        input.exact(rest.get_mut(..tar::padding(entry.size)).unwrap_or_default())?;
        // The owner first: chown clears set-id bits.
        self.set_attributes(parent, name, entry)?;
        at::set_mode(file.as_fd(), entry.mode).at_step(Step::Make)?;
        at::close(file.into()).at_step(Step::Write)
    }

    /// Sets owner and time, without following a link.
    fn set_attributes(&self, parent: In, name: &CStr, entry: &Entry) -> Result<()> {
        if self.how.keep_owner {
            at::set_owner(parent, name, entry.owner.0, entry.owner.1).at_step(Step::Make)?;
        }
        at::set_modified(parent, name, entry.modified).at_step(Step::Make)
    }

    /// Opens the directory of an entry, and creates it if it is missing.
    fn descend(&mut self, parents: &[&[u8]]) -> Result<&OwnedFd> {
        let path = parents.join(&b'/');
        if parents.is_empty() {
            self.last = None;
            return Ok(&self.top);
        }
        if self.last.as_ref().is_none_or(|(last, _)| *last != path) {
            let directory = walk(&self.top, parents, true)?;
            self.last = Some((path, directory));
        }
        Ok(self.last.as_ref().map_or(&self.top, |(_, directory)| directory))
    }

    /// The target of a hard link: a file below the directory.
    fn linked(&self, target: &[u8]) -> Result<(OwnedFd, CString)> {
        let parts = parts(target)?;
        let (name, parents) = parts.split_last().ok_or(malformed())?;
        Ok((walk(&self.top, parents, false)?, at::name(name).at_step(Step::Make)?))
    }

    fn finish(mut self) -> Result<()> {
        // Children before their parents.
        while let Some(entry) = self.directories.pop() {
            report_progress();
            let here = |failure: Failure| failure.at(&entry.path);
            let parts = parts(&entry.path)?;
            let (name, parents) = parts.split_last().ok_or(malformed())?;
            let parent = walk(&self.top, parents, false).map_err(here)?;
            let name = at::name(name).at_step(Step::Make).map_err(here)?;
            let directory = at::open_directory(In::from(&parent), &name).at_step(Step::Make).map_err(here)?;
            self.finish_directory(In::from(&parent), &name, &directory, &entry).map_err(here)?;
        }
        match self.root.take() {
            Some(entry) => self.finish_directory(In::from(&self.top), c".", &self.top, &entry),
            None => Ok(()),
        }
    }

    fn finish_directory(&self, parent: In, name: &CStr, directory: &OwnedFd, entry: &Entry) -> Result<()> {
        if self.how.keep_owner {
            at::set_owner(parent, name, entry.owner.0, entry.owner.1).at_step(Step::Make)?;
        }
        at::set_mode(directory.as_fd(), entry.mode).at_step(Step::Make)?;
        at::set_modified(parent, name, entry.modified).at_step(Step::Make)
    }
}

/// Splits a relative path into its components.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>> {
    let escape = || Failure::of(Step::Escape, libc::EXDEV);
    if path.is_empty() {
        return Err(malformed());
    }
    if path.starts_with(b"/") {
        return Err(escape());
    }
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.map(|part| if part == b".." { Err(escape()) } else { Ok(part) }).collect()
}

/// Opens a directory below `top`, component by component.
fn walk(top: &OwnedFd, parts: &[&[u8]], make: bool) -> Result<OwnedFd> {
    let mut here = at::duplicate(top.as_fd()).at_step(Step::Open)?;
    for part in parts {
        let name = at::name(part).at_step(Step::Make)?;
        here = match at::enter(In::from(&here), &name) {
            Err(error) if make && error.kind() == ErrorKind::NotFound => {
                at::make_directory(In::from(&here), &name, DIRECTORY_MODE).at_step(Step::Make)?;
                at::enter(In::from(&here), &name).at_step(Step::Open)?
            }
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(Failure::of(Step::Escape, libc::ELOOP));
            }
            opened => opened.at_step(Step::Open)?,
        };
    }
    Ok(here)
}
