//! Creates the sandbox's root file system, entry by entry, below `/rootfs`.
//!
//! Every entry is in a directory of the tmpfs, never in one of the host: nothing is written to bound
//! directories.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};

use super::mounts::{self, Access};
use super::{Failure, Step};
use crate::system;
use crate::wire::keeper::{Bind, Entry};

/// The root file system under construction.
pub(super) struct RootFs {
    /// The device of the tmpfs; anything on another device belongs to the host.
    device: u64,
}

/// The directory and name of an entry.
struct Place {
    directory: OwnedFd,
    name: std::ffi::CString,
}

impl RootFs {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { device: std::fs::metadata("/rootfs")?.dev() })
    }

    /// Creates one entry.
    pub(super) fn add(&self, entry: &Entry) -> Result<(), Failure> {
        let path = match entry {
            Entry::Directory { path, .. } | Entry::Symlink { path, .. } => path,
            Entry::File { path, .. } | Entry::Bind { path, .. } | Entry::Cover { path } => path,
        };
        if let Entry::Cover { path } = entry {
            return cover(path).step(format!("covering {}", String::from_utf8_lossy(path)));
        }
        let made = self.place(path).and_then(|place| match entry {
            Entry::Directory { mode, .. } => place.directory(*mode),
            Entry::Symlink { target, .. } => place.symlink(target),
            Entry::File { mode, content, .. } => place.file(*mode, content),
            Entry::Bind { bind, .. } => place.bind(bind),
            Entry::Cover { .. } => Ok(()),
        });
        made.step(format!("{} in the root file system", String::from_utf8_lossy(path)))
    }

    fn place(&self, path: &[u8]) -> io::Result<Place> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let mut parts = path.rsplitn(2, |byte| *byte == b'/');
        let (name, parent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if name.is_empty() || name == b"." || name == b".." {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let directory = mounts::open_below(c"/rootfs", parent)?;
        if mounts::status(&directory)?.dev() != self.device {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        Ok(Place { directory, name: system::c_path(name)? })
    }
}

/// Mounts something empty over a bound file or directory of the host.
fn cover(path: &[u8]) -> io::Result<()> {
    let target = match mounts::open_below(c"/rootfs", path) {
        Ok(target) => target,
        // It was removed since the plan was made, or is below something that is covered.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let (source, made) = if mounts::status(&target)?.is_dir() {
        (c"/cover-directory", DirBuilder::new().mode(0o000).create("/cover-directory"))
    } else {
        let file = File::options().write(true).create_new(true).mode(0o000).open("/cover-file");
        (c"/cover-file", file.map(|_| ()))
    };
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => mounts::bind(&mounts::target(source)?, &target, Access::ReadOnly),
    }
}

impl Place {
    fn directory(&self, mode: u32) -> io::Result<()> {
        // SAFETY: the name ends with NUL.
        let made = unsafe { libc::mkdirat(self.directory.as_raw_fd(), self.name.as_ptr(), 0o700) };
        match system::check(made) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        let directory = self.open(libc::O_RDONLY | libc::O_DIRECTORY)?;
        File::from(directory).set_permissions(Permissions::from_mode(mode & 0o7777))
    }

    fn symlink(&self, target: &[u8]) -> io::Result<()> {
        let target = system::c_path(target)?;
        // SAFETY: both strings end with NUL.
        let made =
            unsafe { libc::symlinkat(target.as_ptr(), self.directory.as_raw_fd(), self.name.as_ptr()) };
        system::check(made).map(|_| ())
    }

    fn file(&self, mode: u32, content: &[u8]) -> io::Result<()> {
        let mut file = File::from(self.open(libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?);
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode & 0o7777))
    }

    fn bind(&self, bind: &Bind) -> io::Result<()> {
        let source = mounts::open_below(c"/old", &bind.source)?;
        let target = if mounts::status(&source)?.is_dir() {
            self.directory(0o755)?;
            self.open(libc::O_PATH | libc::O_DIRECTORY)?
        } else {
            self.open(libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
            self.open(libc::O_PATH)?
        };
        mounts::bind(&source, &target, if bind.writable { Access::Writable } else { Access::ReadOnly })
    }

    fn open(&self, flags: i32) -> io::Result<OwnedFd> {
        let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
        // SAFETY: the name ends with NUL.
        system::owned(unsafe { libc::openat(self.directory.as_raw_fd(), self.name.as_ptr(), flags, 0o600) })
    }
}
