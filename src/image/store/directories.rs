//! The store's directories, and files in them by descriptor.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, geteuid, unlinkat};

use super::trust::{IMAGES, Purpose};
use super::{filesystem, trust};
use crate::error::{Code, Context, Error, Result};
use crate::image::error;
use crate::sys::{random, signal_guard};

/// The directory of this release's format. Those of others are left alone.
const FORMAT: &str = "v1";
/// How long an operation waits for another process's.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it looks; flock(2) can't wait for a limited time.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// `v1` in the store's directory, with `images` and `tmp` in it.
#[derive(Debug)]
pub(super) struct Directories {
    path: PathBuf,
    pub(super) format: OwnedFd,
    pub(super) images: OwnedFd,
    pub(super) temporary: OwnedFd,
}

/// No other process changes the store meanwhile, and no other thread.
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Waits for the lock of the store in this directory.
    pub(crate) fn wait(directory: &OwnedFd, store: fmt::Arguments<'_>) -> Result<Self> {
        let deadline = Instant::now().checked_add(LOCK_TIMEOUT);
        loop {
            if let Some(lock) = Self::try_take(directory, store)? {
                return Ok(lock);
            }
            if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
                let text = format!("the {store} is locked by another process");
                return Err(Error::new(Code::TimedOut, text));
            }
            thread::sleep(LOCK_INTERVAL);
        }
    }

    /// The lock, if nothing else has it.
    fn try_take(directory: &OwnedFd, store: fmt::Arguments<'_>) -> Result<Option<Self>> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(directory, "lock", flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .context(format!("opening the lock of the {store}"))?;
        match Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, cause)) => Err(cause).context(format!("locking the {store}")),
        }
    }
}

impl Directories {
    /// Opens them, and makes what is missing.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (top, _) = trust::open_directory(path, IMAGES)?;
        filesystem::check(&top, path)?;
        let format = subdirectory(&top, FORMAT, path, IMAGES)?;
        let path = path.join(FORMAT);
        let images = subdirectory(&format, "images", &path, IMAGES)?;
        let temporary = subdirectory(&format, "tmp", &path, IMAGES)?;
        Ok(Self { path, format, images, temporary })
    }

    /// Their path, for errors.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no other thread or process changes the store.
    pub(super) fn lock(&self) -> Result<Lock> {
        Lock::wait(&self.format, format_args!("image store {:?}", self.path))
    }

    /// The lock, if nothing else has it.
    pub(super) fn try_lock(&self) -> Result<Option<Lock>> {
        Lock::try_take(&self.format, format_args!("image store {:?}", self.path))
    }

    /// Puts a file of mode 0400 with these bytes in the place of `name`: a reader sees the old one or the new one, also after
    /// a loss of power. Under the lock, so that the new one isn't collected as a dead process's.
    pub(super) fn replace(
        &self,
        _: &Lock,
        directory: BorrowedFd<'_>,
        name: &str,
        bytes: &[u8],
    ) -> Result<()> {
        let what = || format!("writing {name} in the image store {:?}", self.path);
        let fresh = format!("{name}.{}", random_name()?);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.temporary, &fresh[..], flags, Mode::S_IRUSR).context(what())?;
        let written = write_all(file.as_fd(), bytes)
            .context(what())
            .and_then(|()| fsync(&file).context(what()))
            .and_then(|()| renameat(&self.temporary, &fresh[..], directory, name).context(what()))
            .and_then(|()| fsync(directory).context(what()));
        if written.is_err() {
            let _ = unlinkat(&self.temporary, &fresh[..], UnlinkatFlags::NoRemoveDir);
        }
        written
    }
}

/// Opens a directory of a store, made if it is missing.
pub(crate) fn subdirectory(at: &OwnedFd, name: &str, path: &Path, purpose: &Purpose) -> Result<OwnedFd> {
    let Purpose { name: what, option, .. } = purpose;
    let shown = path.join(name);
    match mkdirat(at, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(cause) => return Err(cause).context(format!("creating the {what} {shown:?}")),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(at, name, flags, Mode::empty()).context(format!("opening the {what} {shown:?}"))?;
    let found = fstat(&fd).context(format!("looking at the {what} {shown:?}"))?;
    if found.st_uid != geteuid().as_raw() || found.st_mode & 0o077 != 0 {
        return Err(purpose.error(format!(
            "{what}: {shown:?} belongs to user {} and has mode {:04o}; it must belong to user {} and have mode 0700: \
             remove it, or name another directory (the runtime's {option})",
            found.st_uid,
            found.st_mode & 0o7777,
            geteuid()
        )));
    }
    Ok(fd)
}

/// 16 random hexadecimal digits.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0; 8];
    random::fill(&mut bytes).context("a random number")?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

/// Opens a regular file of this user's for reading. `None` if there is none of that name; anything else is an error.
pub(super) fn open_file(directory: impl AsFd, name: &str) -> Result<Option<(File, FileStat)>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP) => return Err(error(format!("image store: {name}: is a symbolic link"))),
        Err(cause) => return Err(cause).context(format!("image store: opening {name}")),
    };
    let found = fstat(&file).context(format!("image store: looking at {name}"))?;
    if found.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(error(format!("image store: {name}: is not a regular file")));
    }
    if found.st_uid != geteuid().as_raw() || found.st_mode & 0o022 != 0 {
        return Err(error(format!(
            "image store: {name}: belongs to user {} and has mode {:04o}: another user could have changed it",
            found.st_uid,
            found.st_mode & 0o7777
        )));
    }
    Ok(Some((file, found)))
}

/// Reads a small file of the store's.
pub(super) fn read_file(directory: impl AsFd, name: &str, max: u64) -> Result<Option<(Vec<u8>, FileStat)>> {
    let Some((file, found)) = open_file(directory, name)? else { return Ok(None) };
    let mut bytes = Vec::new();
    (&file).take(max + 1).read_to_end(&mut bytes).context(format!("image store: reading {name}"))?;
    if bytes.len() as u64 > max {
        return Err(error(format!("image store: {name}: has more than {max} bytes")));
    }
    Ok(Some((bytes, found)))
}

/// Writes all of it. A host whose RLIMIT_FSIZE is too small for it gets EFBIG, not the signal that kills.
pub(super) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match signal_guard::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

/// The names in a directory, in no order; not `.` and `..`, and none that isn't UTF-8 (none of ours).
pub(crate) fn names(directory: &OwnedFd) -> Result<Vec<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing =
        Dir::openat(directory, ".", flags, Mode::empty()).context("listing a directory of the store")?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry.context("listing a directory of the store")?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if let Some(name) = name.to_str().filter(|name| !matches!(*name, "." | "..")) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes a file; one that isn't there is fine.
pub(crate) fn remove_file(directory: impl AsFd, name: &str) -> Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(cause) => Err(cause).context(format!("removing {name} from the store")),
    }
}
