//! Packs a file or a tree into a tar archive.
//!
//! Entries of a directory have paths relative to it; a single file has the last component of its path.
//! Symbolic links are packed as such and never followed. A file with several hard links is packed once per
//! link. Sockets and devices are skipped and counted.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::at::{self, In, Names};
use super::helper::{AtStep, Failure, Result, report_progress};
use super::plain::{self, CHUNK};
use super::remove::MAX_DEPTH;
use super::tar::{self, BLOCK, Entry, Kind};
use crate::wire::files::{Outcome, Stat, Step, Totals};

struct Packer {
    stream: BufWriter<UnixStream>,
    buffer: Vec<u8>,
    totals: Totals,
    limit: u64,
}

pub(super) fn pack(path: &[u8], limit: u64, stream: UnixStream) -> Result<Outcome> {
    let top = plain::open(path, libc::O_RDONLY, 0)?;
    let stat = at::stat_open(top.as_fd()).at_step(Step::Open)?;
    let stream = BufWriter::with_capacity(CHUNK, stream);
    let mut packer = Packer { stream, buffer: vec![0; CHUNK], totals: Totals::default(), limit };
    if at::is_directory(&stat) {
        packer.directory(top, &mut Vec::new(), 0)?;
    } else {
        plain::regular(&stat, Step::Read)?;
        let name = path.split(|byte| *byte == b'/').rfind(|name| !name.is_empty()).unwrap_or(b"file");
        packer.file(top, name, &stat)?;
    }
    packer.write(&[0; 2 * BLOCK])?;
    packer.stream.flush().at_step(Step::Stream)?;
    Ok(Outcome::Done(packer.totals))
}

impl Packer {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        report_progress();
        self.stream.write_all(bytes).at_step(Step::Stream)
    }

    /// Packs the contents of an open directory. `path` is the directory's own path; the call changes it and
    /// restores it.
    fn directory(&mut self, directory: OwnedFd, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        if depth == MAX_DEPTH {
            return Err(Failure::of(Step::Depth, libc::ENAMETOOLONG));
        }
        let mut names = Names::of(directory).at_step(Step::Read).map_err(|failure| failure.at(path))?;
        let length = path.len();
        while let Some(name) = names.next() {
            let name = name.at_step(Step::Read).map_err(|failure| failure.at(path))?;
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            self.entry(In::from(&names), &name, path, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(&mut self, at: In, name: &CStr, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        // The entry was removed since the directory was read.
        let Ok(stat) = at::stat(at, name, false) else { return Ok(()) };
        let here = |failure: Failure| {
            if failure.errno() == libc::EMFILE {
                Failure::of(Step::Depth, libc::ENAMETOOLONG)
            } else {
                failure.at(path)
            }
        };
        match at::kind(&stat) {
            libc::S_IFREG => {
                let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
                let file = at::open(at, name, flags, 0).at_step(Step::Open).map_err(here)?;
                let stat = at::stat_open(file.as_fd()).at_step(Step::Open).map_err(here)?;
                // Another kind of file may have replaced it.
                plain::regular(&stat, Step::Read).map_err(here)?;
                self.file(file, path, &stat).map_err(here)
            }
            libc::S_IFDIR => {
                self.header(&[path.as_slice(), b"/"].concat(), Kind::Directory, &stat, 0, Vec::new())?;
                let directory = at::open_directory(at, name).at_step(Step::Open).map_err(here)?;
                self.directory(directory, path, depth + 1)
            }
            libc::S_IFLNK => {
                let target = at::read_link(at, name).at_step(Step::Read).map_err(here)?;
                self.header(path, Kind::Symlink, &stat, 0, target)
            }
            libc::S_IFIFO => self.header(path, Kind::Fifo, &stat, 0, Vec::new()),
            _ => {
                self.totals.skipped += 1;
                Ok(())
            }
        }
    }

    fn header(&mut self, path: &[u8], kind: Kind, stat: &Stat, size: u64, target: Vec<u8>) -> Result<()> {
        let entry = Entry {
            path: path.to_vec(),
            target,
            kind,
            mode: stat.mode & 0o7777,
            owner: (stat.user, stat.group),
            size,
            modified: stat.modified.div_euclid(1_000_000_000),
        };
        self.totals.entries += 1;
        self.write(&entry.header())
    }

    /// Packs a regular file. The header promises the size at the time of opening, so exactly that many bytes
    /// follow.
    fn file(&mut self, file: OwnedFd, path: &[u8], stat: &Stat) -> Result<()> {
        if stat.size > self.limit - self.totals.bytes {
            return Err(Failure::of(Step::Limit, libc::EFBIG));
        }
        self.header(path, Kind::File, stat, stat.size, Vec::new())?;
        let mut file = File::from(file);
        let mut left = stat.size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let read = match file.read(self.buffer.get_mut(..most).unwrap_or_default()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.at_step(Step::Read)?,
            };
            if read == 0 {
                return Err(Failure::of(Step::Shrank, libc::EIO));
            }
            self.stream.write_all(self.buffer.get(..read).unwrap_or_default()).at_step(Step::Stream)?;
            report_progress();
            left -= read as u64;
        }
        self.totals.bytes += stat.size;
        self.write([0; BLOCK].get(..tar::padding(stat.size)).unwrap_or_default())
    }
}
