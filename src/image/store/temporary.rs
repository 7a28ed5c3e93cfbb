//! Files that an import writes before anything is published.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, OFlag, fallocate, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::fstatvfs;

use super::directories::{self, Directories, Lock, random_name};
use crate::error::{Code, Context, Error, Result};
use crate::image::error;

/// Attempts to make one: a collector of another process takes at most a few from under us.
const MAX_ATTEMPTS: u32 = 16;

/// A file in the store's `tmp`, mode 0600. It is removed on drop, or by the next process that opens the store if this one
/// is killed: it is locked as long as a process has it open.
#[derive(Debug)]
pub(crate) struct Temporary {
    directories: Arc<Directories>,
    name: String,
    file: Flock<File>,
    published: bool,
}

impl Temporary {
    pub(super) fn new(directories: &Arc<Directories>, purpose: &str) -> Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let what = || format!("creating a temporary file in the image store {:?}", directories.path());
        for _ in 0..MAX_ATTEMPTS {
            let name = format!("{purpose}.{}", random_name()?);
            let fd = openat(&directories.temporary, &name[..], flags, Mode::S_IRUSR | Mode::S_IWUSR)
                .context(what())?;
            // Before the lock is taken, a collector may take the file for a dead process's.
            let file = match Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => continue,
                Err((_, cause)) => return Err(cause).context(what()),
            };
            if fstat(file.as_fd()).context(what())?.st_nlink == 1 {
                return Ok(Self { directories: Arc::clone(directories), name, file, published: false });
            }
        }
        Err(error(format!("{}: it is removed again at once", what())))
    }

    /// The file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// One more descriptor of it.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd> {
        self.file().try_clone().map(OwnedFd::from).context("a descriptor of a temporary file")
    }

    /// The file now has another name, and stays.
    pub(super) fn set_published(&mut self) {
        self.published = true;
    }

    /// The bytes that the file system has free for it.
    pub(crate) fn free_space(&self) -> Result<u64> {
        let found = fstatvfs(&self.directories.temporary)
            .context(format!("the free space of the image store {:?}", self.directories.path()))?;
        Ok(found.blocks_available().saturating_mul(found.fragment_size()))
    }

    /// Fails if the file system has less than `bytes` free, so that a full disk is an error before any work.
    pub(crate) fn check_space(&self, bytes: u64) -> Result<()> {
        let free = self.free_space()?;
        if free < bytes { Err(self.full(bytes, Some(free))) } else { Ok(()) }
    }

    /// Has the file system set `bytes` aside for a file that will be that long. Where it can't (ZFS), the space is only
    /// checked. Not for an image: its holes would become blocks.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<()> {
        self.check_space(bytes)?;
        let length = libc::off_t::try_from(bytes).map_err(|_| self.full(bytes, None))?;
        if length == 0 {
            return Ok(());
        }
        loop {
            match fallocate(self.file.as_fd(), FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
                Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => return Err(self.full(bytes, None)),
                Err(cause) => {
                    let what =
                        format!("reserving {bytes} bytes in the image store {:?}", self.directories.path());
                    return Err(cause).context(what);
                }
            }
        }
    }

    fn full(&self, bytes: u64, free: Option<u64>) -> Error {
        let free = free.map_or_else(String::new, |free| format!(", and {free} are free"));
        let text = format!(
            "the image store {:?} needs {bytes} bytes{free}: free some, prune images, or name another directory (the \
             runtime's image_directory)",
            self.directories.path()
        );
        Error::system(text, &io::Error::from_raw_os_error(libc::ENOSPC)).with_code(Code::System)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published
            && let Err(cause) = directories::remove_file(&self.directories.temporary, &self.name)
        {
            log::warn!("{cause}");
        }
    }
}

/// Removes the files of dead processes. One that lives has its files locked, or the store.
pub(super) fn collect(directories: &Directories, _: &Lock) -> Result<()> {
    for name in directories::names(&directories.temporary)? {
        let flags =
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // Gone meanwhile, or nothing of the store's.
        let Ok(fd) = openat(&directories.temporary, &name[..], flags, Mode::empty()) else { continue };
        let Ok(_lock) = Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock) else { continue };
        directories::remove_file(&directories.temporary, &name)?;
    }
    Ok(())
}
