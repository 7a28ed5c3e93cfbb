//! Packs a file or a tree into a tar archive.
//!
//! Entries of a directory have paths relative to it; a single file has the last component of its path.
//! Symbolic links are packed as such and never followed. A file with several hard links is packed once per
//! link. Sockets and devices are skipped and counted.
//!
//! What is packed as a layer of an image has an entry for the directory itself, and of a file with several hard links the
//! first has the content and the others are links to it. What is mounted in the directory is skipped and counted. Programs
//! may change the directory meanwhile, which is handled as tar(1) does: what is removed before it is read is left out, a
//! file has the size that it has when it is opened, and what it lacks of that later reads as zeroes.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::at::{self, In, Names};
use super::helper::{AtStep, Failure, Result, report_progress};
use super::measure::is_gone;
use super::mounted::mounted_below;
use super::plain::{self, CHUNK};
use super::remove::MAX_DEPTH;
use super::tar::{self, BLOCK, Entry, Kind};
use crate::wire::files::{Outcome, Stat, Step, Totals};

/// The most files with several hard links of which the first name is remembered. Others are packed once per link.
const MAX_LINKED: usize = 1 << 20;

/// The most bytes of /proc/self/mountinfo that are read. A program inside may mount as well.
const MAX_MOUNTINFO: u64 = 16 << 20;

struct Packer {
    stream: BufWriter<UnixStream>,
    buffer: Vec<u8>,
    totals: Totals,
    limit: u64,
    layer: Option<Layer>,
}

/// What is known of a directory that is packed as a layer of an image.
struct Layer {
    /// The device of its directories. What is mounted in them has another.
    device: libc::dev_t,
    /// Where something is mounted below it, relative to it: a file may be, too.
    mounted: HashSet<Vec<u8>>,
    /// The first names of files that have several, by device and inode.
    first_names: HashMap<(libc::dev_t, libc::ino_t), Vec<u8>>,
}

impl Layer {
    fn new(top: BorrowedFd<'_>, device: libc::dev_t) -> Result<Self> {
        let path = CString::new(format!("/proc/self/fd/{}", top.as_raw_fd())).unwrap_or_default();
        let path = at::read_link(In::ROOT, &path).at_step(Step::Open)?;
        let mut mounts = Vec::new();
        let file = File::from(plain::open(b"/proc/self/mountinfo", libc::O_RDONLY, 0)?);
        let read = file.take(MAX_MOUNTINFO).read_to_end(&mut mounts).at_step(Step::Read)?;
        if read as u64 == MAX_MOUNTINFO {
            return Err(Failure::of(Step::Read, libc::E2BIG));
        }
        Ok(Self { device, mounted: mounted_below(&mounts, &path), first_names: HashMap::new() })
    }

    /// The name under which the file was packed before. If it wasn't, this one is remembered.
    fn first_name(&mut self, stat: &libc::stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let has_room = self.first_names.len() < MAX_LINKED;
        match self.first_names.get(&(stat.st_dev, stat.st_ino)) {
            Some(first) => Some(first.clone()),
            None if has_room => {
                self.first_names.insert((stat.st_dev, stat.st_ino), path.to_vec());
                None
            }
            None => None,
        }
    }
}

pub(super) fn pack(path: &[u8], limit: u64, as_layer: bool, stream: UnixStream) -> Result<Outcome> {
    let top = plain::open(path, libc::O_RDONLY | if as_layer { libc::O_DIRECTORY } else { 0 }, 0)?;
    let full = at::full_stat_open(top.as_fd()).at_step(Step::Open)?;
    let stat = at::brief(&full);
    let stream = BufWriter::with_capacity(CHUNK, stream);
    let layer = as_layer.then(|| Layer::new(top.as_fd(), full.st_dev)).transpose()?;
    let mut packer = Packer { stream, buffer: vec![0; CHUNK], totals: Totals::default(), limit, layer };
    if as_layer {
        packer.header(b"./", Kind::Directory, &stat, 0, Vec::new())?;
    }
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
            if name.as_ref().is_err_and(|error| self.may_be_gone(error)) {
                break;
            }
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

    /// Whether the error is that something was removed meanwhile, where that is none.
    fn may_be_gone(&self, error: &std::io::Error) -> bool {
        self.layer.is_some() && is_gone(error)
    }

    /// Whether something is mounted there, which isn't packed.
    fn is_mounted(&self, path: &[u8]) -> bool {
        self.layer.as_ref().is_some_and(|layer| layer.mounted.contains(path))
    }

    fn entry(&mut self, at: In, name: &CStr, path: &mut Vec<u8>, depth: usize) -> Result<()> {
        // The entry was removed since the directory was read.
        let Ok(full) = at::full_stat(at, name) else { return Ok(()) };
        let stat = at::brief(&full);
        let here = |failure: Failure| {
            if failure.errno() == libc::EMFILE {
                Failure::of(Step::Depth, libc::ENAMETOOLONG)
            } else {
                failure.at(path)
            }
        };
        let is_mounted = self.is_mounted(path);
        match at::kind(&stat) {
            kind if is_mounted && kind != libc::S_IFDIR => {
                self.totals.skipped += 1;
                Ok(())
            }
            libc::S_IFREG => {
                let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
                let file = match at::open(at, name, flags, 0) {
                    Err(error) if self.may_be_gone(&error) => return Ok(()),
                    opened => opened.at_step(Step::Open).map_err(here)?,
                };
                let full = at::full_stat_open(file.as_fd()).at_step(Step::Open).map_err(here)?;
                let stat = at::brief(&full);
                // Another kind of file may have replaced it.
                if self.layer.is_some() && at::kind(&stat) != libc::S_IFREG {
                    self.totals.skipped += 1;
                    return Ok(());
                }
                plain::regular(&stat, Step::Read).map_err(here)?;
                match self.layer.as_mut().and_then(|layer| layer.first_name(&full, path)) {
                    Some(first) => self.header(path, Kind::HardLink, &stat, 0, first),
                    None => self.file(file, path, &stat).map_err(here),
                }
            }
            libc::S_IFDIR => {
                self.header(&[path.as_slice(), b"/"].concat(), Kind::Directory, &stat, 0, Vec::new())?;
                if is_mounted || self.layer.as_ref().is_some_and(|layer| layer.device != full.st_dev) {
                    self.totals.skipped += 1;
                    return Ok(());
                }
                let directory = match at::open_directory(at, name) {
                    Err(error) if self.may_be_gone(&error) => return Ok(()),
                    opened => opened.at_step(Step::Open).map_err(here)?,
                };
                self.directory(directory, path, depth + 1)
            }
            libc::S_IFLNK => {
                let target = match at::read_link(at, name) {
                    // EINVAL: it is no link any more.
                    Err(error)
                        if self.may_be_gone(&error)
                            || self.layer.is_some() && error.raw_os_error() == Some(libc::EINVAL) =>
                    {
                        return Ok(());
                    }
                    target => target.at_step(Step::Read).map_err(here)?,
                };
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
            if read == 0 && self.layer.is_none() {
                return Err(Failure::of(Step::Shrank, libc::EIO));
            }
            let read = if read == 0 {
                self.buffer.get_mut(..most).unwrap_or_default().fill(0);
                most
            } else {
                read
            };
            self.stream.write_all(self.buffer.get(..read).unwrap_or_default()).at_step(Step::Stream)?;
            report_progress();
            left -= read as u64;
        }
        self.totals.bytes += stat.size;
        self.write([0; BLOCK].get(..tar::padding(stat.size)).unwrap_or_default())
    }
}
