//! Reads a directory of the host's as the root file system of an image.
//!
//! It is walked by descriptors and without following links, and written as a tar archive to the helper. Others may change it
//! meanwhile: then this fails, and says where. The result is the same for the same tree: names are sorted.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, openat2, readlinkat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{FileStat, fstat, fstatat, major, minor};
use nix::sys::statfs::fstatfs;
use nix::unistd::{Whence, getegid, geteuid, lseek};

use super::tar::{Archive, Entry, Extent, Kind};
use crate::error::{Code, Context, Error, Result};
use crate::image::error;
use crate::sys::signal_guard;

/// The longest path below the directory.
const MAX_PATH_BYTES: usize = 4095;
/// Bytes of names that are remembered: directories that are still to be read, files with several names, one directory.
const MAX_NAMES_BYTES: usize = 256 * 1024 * 1024;
/// Parts of one file; what is beyond is read as if it had no holes.
const MAX_EXTENTS: usize = 32 * 1024;
const CHUNK_BYTES: usize = 256 * 1024;
/// How often a writer that waits for the reader looks whether it is to stop.
const STOP_INTERVAL_MS: u8 = 50;

/// File systems of the kernel's own, whose directories are left empty (linux/magic.h): procfs, sysfs, cgroups, devpts,
/// mqueue, debugfs, tracefs, securityfs, bpf, pstore, efivarfs, configfs, fusectl, hugetlbfs, selinuxfs, binfmt_misc.
const KERNEL: &[i64] = &[
    0x9fa0,
    0x6265_6572,
    0x6367_7270,
    0x0027_e0eb,
    0x1cd1,
    0x1980_0202,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0x6265_6570,
    0x6573_5543,
    0x9584_58f6,
    0xf97c_ff8c,
    0x4249_4e4d,
];

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectorySummary {
    /// Files, directories, links and the like.
    pub(crate) entries: u64,
    /// Sockets, which an image can't hold in a useful way.
    pub(crate) left_out_sockets: u64,
}

/// Who owns what in the image.
#[derive(Clone, Copy, Debug)]
struct Owners {
    /// An ordinary user's own ids, which become root's.
    own: Option<(u32, u32)>,
}

impl Owners {
    fn of_process() -> Self {
        let (user, group) = (geteuid(), getegid());
        Self { own: (!user.is_root()).then_some((user.as_raw(), group.as_raw())) }
    }

    fn map(self, stat: &FileStat) -> (u32, u32) {
        let root_for = |id: u32, own: Option<u32>| if Some(id) == own { 0 } else { id };
        (root_for(stat.st_uid, self.own.map(|own| own.0)), root_for(stat.st_gid, self.own.map(|own| own.1)))
    }
}

/// Writes the directory `root` as a tar archive. `path` is what errors call it; `max_entries` is the image's limit.
///
/// An ordinary user's own files belong to root in the image, and its own group is root's; other owners stay.
pub(crate) fn write(
    root: OwnedFd,
    path: &Path,
    into: &mut dyn Write,
    max_entries: u64,
    cancelled: &AtomicBool,
) -> Result<DirectorySummary> {
    let walk = Walk {
        root,
        path,
        archive: Archive::new(into),
        owners: Owners::of_process(),
        links: HashMap::new(),
        pending: Vec::new(),
        names_bytes: 0,
        max_entries,
        cancelled,
        buffer: vec![0; CHUNK_BYTES],
        summary: DirectorySummary::default(),
    };
    walk.run()
}

/// The end of a pipe that is written to. A reader that has gone, or reads no more, is an error and no signal.
#[derive(Debug)]
pub(crate) struct PipeWriter<'a> {
    end: OwnedFd,
    stop: &'a AtomicBool,
}

impl<'a> PipeWriter<'a> {
    /// Writing fails as soon as `stop` is set.
    pub(crate) fn new(end: OwnedFd, stop: &'a AtomicBool) -> Result<Self> {
        fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("a pipe that doesn't block")?;
        Ok(Self { end, stop })
    }
}

impl Write for PipeWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::from_raw_os_error(libc::EPIPE));
            }
            match signal_guard::write(self.end.as_fd(), bytes) {
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            match poll(
                &mut [PollFd::new(self.end.as_fd(), PollFlags::POLLOUT)],
                PollTimeout::from(STOP_INTERVAL_MS),
            ) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Walk<'a> {
    root: OwnedFd,
    path: &'a Path,
    archive: Archive<'a>,
    owners: Owners,
    /// The first name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    /// Directories to read, the next one last, each with the device of the one above.
    pending: Vec<(PathBuf, u64)>,
    names_bytes: usize,
    max_entries: u64,
    cancelled: &'a AtomicBool,
    buffer: Vec<u8>,
    summary: DirectorySummary,
}

impl Walk<'_> {
    fn run(mut self) -> Result<DirectorySummary> {
        let device = fstat(&self.root).context(self.shown(Path::new("")))?.st_dev;
        self.pending.push((PathBuf::new(), device));
        while let Some((path, device)) = self.pending.pop() {
            self.names_bytes -= path.as_os_str().len();
            self.directory(&path, device)?;
        }
        self.archive.finish().map_err(|cause| sending(&cause))?;
        Ok(self.summary)
    }

    /// A path of the directory's, for errors.
    fn shown(&self, path: &Path) -> String {
        format!("{:?}", self.path.join(path))
    }

    fn changed(&self, path: &Path) -> Error {
        error(format!("{}: was changed while it was read", self.shown(path)))
    }

    fn open(&self, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let flags = flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match openat2(&self.root, name, OpenHow::new().flags(flags).resolve(resolve)) {
                // A rename at the same time (openat2(2)), or a signal.
                Err(Errno::EAGAIN | Errno::EINTR) if !self.is_cancelled() => {}
                Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => return Err(self.changed(path)),
                other => return other.context(format!("opening {}", self.shown(path))),
            }
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Counts an entry.
    fn count(&mut self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(Code::Closed, "the operation was cancelled"));
        }
        self.summary.entries += 1;
        if self.summary.entries > self.max_entries {
            let text = format!("{}: has more than {} entries", self.shown(Path::new("")), self.max_entries);
            return Err(Error::new(Code::Limit, text));
        }
        Ok(())
    }

    /// Counts a name that is remembered.
    fn remember(&mut self, bytes: usize) -> Result<()> {
        self.names_bytes = self.names_bytes.saturating_add(bytes);
        if self.names_bytes > MAX_NAMES_BYTES {
            let text =
                format!("{}: its names take more than {MAX_NAMES_BYTES} bytes", self.shown(Path::new("")));
            return Err(Error::new(Code::Limit, text));
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, device_above: u64) -> Result<()> {
        self.count()?;
        let directory = self.open(path, OFlag::O_DIRECTORY)?;
        let what = || format!("reading {:?}", self.path.join(path));
        let stat = fstat(&directory).context(what())?;
        let mut name =
            if path.as_os_str().is_empty() { b".".to_vec() } else { path.as_os_str().as_bytes().to_vec() };
        name.push(b'/');
        self.emit(&name, Kind::Directory, &stat)?;
        if stat.st_dev != device_above && is_of_the_kernel(&directory).context(what())? {
            return Ok(());
        }
        let names = self.names(&directory, path)?;
        let mut below = Vec::new();
        for name in &names {
            let entry = path.join(name);
            if entry.as_os_str().len() > MAX_PATH_BYTES {
                let text = format!("{}: is longer than {MAX_PATH_BYTES} bytes", self.shown(&entry));
                return Err(Error::new(Code::Limit, text));
            }
            let found = match fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => return Err(self.changed(&entry)),
                other => other.context(format!("reading {}", self.shown(&entry)))?,
            };
            if found.st_mode & libc::S_IFMT == libc::S_IFDIR {
                self.remember(entry.as_os_str().len())?;
                below.push((entry, stat.st_dev));
            } else {
                self.other(&directory, name, &entry, &found)?;
            }
        }
        self.names_bytes -= names.iter().map(|name| name.len()).sum::<usize>();
        self.pending.extend(below.into_iter().rev());
        let after = fstat(&directory).context(format!("reading {}", self.shown(path)))?;
        if (after.st_mtime, after.st_mtime_nsec) != (stat.st_mtime, stat.st_mtime_nsec) {
            return Err(self.changed(path));
        }
        Ok(())
    }

    /// The sorted names in a directory, which count as remembered.
    fn names(&mut self, directory: &OwnedFd, path: &Path) -> Result<Vec<OsString>> {
        let what = || format!("listing {:?}", self.path.join(path));
        let fd = directory.try_clone().context(what())?;
        let mut listing = Dir::from_fd(fd).context(what())?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry.context(format!("listing {}", self.shown(path)))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.remember(name.len())?;
                names.push(OsString::from_vec(name.to_vec()));
                if names.len() as u64 > self.max_entries {
                    self.summary.entries = self.max_entries;
                    self.count()?;
                }
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn emit(&mut self, path: &[u8], kind: Kind<'_>, stat: &FileStat) -> Result<()> {
        self.archive.entry(&entry(path, kind, stat, self.owners)).map_err(|cause| sending(&cause))
    }

    /// Anything but a directory.
    fn other(&mut self, directory: &OwnedFd, name: &OsStr, path: &Path, stat: &FileStat) -> Result<()> {
        let kind = stat.st_mode & libc::S_IFMT;
        if kind == libc::S_IFSOCK {
            self.summary.left_out_sockets += 1;
            return Ok(());
        }
        self.count()?;
        let bytes = path.as_os_str().as_bytes();
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                let first = first.clone();
                return self.emit(bytes, Kind::HardLink(first.as_os_str().as_bytes()), stat);
            }
            self.remember(bytes.len())?;
            self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        match kind {
            libc::S_IFREG => self.file(path, stat),
            libc::S_IFLNK => {
                let target = match readlinkat(directory, name) {
                    Err(Errno::ENOENT | Errno::EINVAL) => return Err(self.changed(path)),
                    other => other.context(format!("reading the link {}", self.shown(path)))?,
                };
                self.emit(bytes, Kind::SymbolicLink(target.as_bytes()), stat)
            }
            libc::S_IFIFO => self.emit(bytes, Kind::Fifo, stat),
            libc::S_IFCHR | libc::S_IFBLK => {
                let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
                let kind = match kind {
                    libc::S_IFCHR => Kind::CharacterDevice { major, minor },
                    _ => Kind::BlockDevice { major, minor },
                };
                self.emit(bytes, kind, stat)
            }
            _ => Err(error(format!("{}: is of an unknown kind", self.shown(path)))),
        }
    }

    fn file(&mut self, path: &Path, listed: &FileStat) -> Result<()> {
        let file = File::from(self.open(path, OFlag::O_NONBLOCK)?);
        let before = fstat(&file).context(format!("reading {}", self.shown(path)))?;
        if !is_same(listed, &before) {
            return Err(self.changed(path));
        }
        let length = u64::try_from(before.st_size).unwrap_or(0);
        let extents = extents(&file, length).context(format!("looking for holes in {}", self.shown(path)))?;
        let entry = entry(path.as_os_str().as_bytes(), Kind::File, &before, self.owners);
        let data = match extents.as_slice() {
            [] if length == 0 => self.archive.file(&entry, 0).map(|()| 0),
            [Extent { offset: 0, length: whole }] if *whole == length => {
                self.archive.file(&entry, length).map(|()| length)
            }
            extents => self.archive.sparse_file(&entry, length, extents),
        }
        .map_err(|cause| sending(&cause))?;
        for extent in &extents {
            self.content(&file, path, *extent)?;
        }
        self.archive.pad(data).map_err(|cause| sending(&cause))?;
        let after = fstat(&file).context(format!("reading {}", self.shown(path)))?;
        if is_same(&before, &after) { Ok(()) } else { Err(self.changed(path)) }
    }

    fn content(&mut self, file: &File, path: &Path, extent: Extent) -> Result<()> {
        let (mut at, mut left) = (extent.offset, extent.length);
        while left > 0 {
            if self.is_cancelled() {
                return Err(Error::new(Code::Closed, "the operation was cancelled"));
            }
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
            let got = match file.read_at(buffer, at) {
                Ok(0) => return Err(self.changed(path)),
                Ok(got) => got,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => return Err(cause).context(format!("reading {}", self.shown(path))),
            };
            let bytes = self.buffer.get(..got).unwrap_or_default();
            self.archive.content(bytes).map_err(|cause| sending(&cause))?;
            at += got as u64;
            left -= got as u64;
        }
        Ok(())
    }
}

fn entry<'a>(path: &'a [u8], kind: Kind<'a>, stat: &FileStat, owners: Owners) -> Entry<'a> {
    let (uid, gid) = owners.map(stat);
    Entry {
        path,
        kind,
        mode: stat.st_mode,
        uid,
        gid,
        seconds: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

/// Whether it is the same file with the same content, as far as that can be told.
fn is_same(a: &FileStat, b: &FileStat) -> bool {
    let key = |s: &FileStat| {
        (s.st_dev, s.st_ino, s.st_mode, s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec)
    };
    key(a) == key(b)
}

/// The parts of a file that aren't holes, as far as its file system tells.
fn extents(file: &File, length: u64) -> nix::Result<Vec<Extent>> {
    let whole = vec![Extent { offset: 0, length }];
    let Ok(end) = libc::off_t::try_from(length) else { return Ok(whole) };
    let (mut extents, mut at) = (Vec::new(), 0);
    while at < end {
        let start = match lseek(file, at, Whence::SeekData) {
            Ok(start) if start < end => start,
            // Nothing but a hole is left.
            Ok(_) | Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(whole),
            Err(cause) => return Err(cause),
        };
        at = match lseek(file, start, Whence::SeekHole) {
            Ok(hole) => hole.min(end),
            // It was cut meanwhile; its reader finds that out.
            Err(_) => end,
        };
        if extents.len() + 1 == MAX_EXTENTS {
            at = end;
        }
        let [offset, until] = [start, at].map(|value| u64::try_from(value).unwrap_or(0));
        extents.push(Extent { offset, length: until.saturating_sub(offset) });
    }
    Ok(extents)
}

fn is_of_the_kernel(directory: &OwnedFd) -> nix::Result<bool> {
    let kind = fstatfs(directory)?.filesystem_type().0 & 0xffff_ffff;
    Ok(KERNEL.contains(&kind))
}

/// The helper's own error says more, so this one only matters if it has none.
fn sending(cause: &io::Error) -> Error {
    Error::system("passing the directory to the image helper", cause)
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
