//! Volumes: named directories of the user's that outlive sandboxes, shared by the user's processes.
//!
//! ```text
//! v1/volumes/<name>/   a volume's files; a sandbox can change everything in it, its own mode too
//! v1/locks/<name>      locked, shared, by the keeper of each sandbox that has the volume; modified when it was made
//! v1/removed/          what is being removed
//! v1/lock              held while a volume is made or removed
//! ```
//!
//! Nothing above the volumes can be reached by other users, so what modes and owners are inside matters to nobody else.
//!
//! A volume can't be removed while its lock is held. Until the keeper holds it, the library does ([`UsedVolume`]); then
//! only the keeper does, which ends with its sandbox. So a host that is killed leaves no lock, even if a forked child of it
//! lives on, unless it was forked and the host killed while a sandbox started.
//!
//! Removed volumes are moved to `removed` first, so that a name is free at once, and a kill in the middle leaves files that
//! the next removal takes.

mod removal;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use once_cell::sync::OnceCell;

use crate::config::volume::{VolumeMount, volume_name};
use crate::error::{Code, Context, Error, Result};
use crate::image::store::directories::{Lock, names, random_name, remove_file, subdirectory};
use crate::image::store::filesystem;
use crate::image::store::trust::{self, Purpose};
use crate::sys::secure;

/// The store of volumes.
const VOLUMES: &Purpose = &Purpose {
    name: "volume directory",
    option: "volume_directory",
    danger: "another user could change what sandboxes find in volumes",
    code: Code::Host,
};

/// The directory of this release's format. Those of others are left alone.
const FORMAT: &str = "v1";

/// A runtime's volumes.
#[derive(Debug)]
pub(crate) struct Volumes {
    /// Where they are, by the runtime's config and environment.
    directory: Result<PathBuf>,
    min_free_bytes: u64,
    opened: OnceCell<Directories>,
}

#[derive(Debug)]
struct Directories {
    /// The path of `v1`, without symbolic links.
    path: PathBuf,
    format: OwnedFd,
    volumes: OwnedFd,
    locks: OwnedFd,
    removed: OwnedFd,
}

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// Its directory on this machine. What sandboxes wrote there is theirs: don't follow links in it.
    pub path: PathBuf,
    /// When it was made.
    pub created: SystemTime,
    /// Whether a sandbox has it mounted.
    pub in_use: bool,
}

/// A volume that a sandbox is about to mount. It can't be removed meanwhile.
#[derive(Debug)]
pub(crate) struct UsedVolume {
    /// Its directory, by a path without symbolic links.
    pub(crate) directory: PathBuf,
    /// Device and inode of that.
    pub(crate) identity: (u64, u64),
    /// The same for its lock's file.
    pub(crate) lock_path: PathBuf,
    pub(crate) lock_identity: (u64, u64),
    /// Unlocks explicitly when it is dropped: a forked child of the host may have a copy of the descriptor.
    _lock: Flock<File>,
}

impl Volumes {
    /// The volumes in this directory, or else in the user's, by the environment. Opens nothing yet.
    pub(crate) fn new(directory: Option<&Path>, min_free_bytes: u64) -> Self {
        let directory = match directory {
            Some(directory) if directory.is_absolute() => Ok(directory.to_owned()),
            Some(directory) => Err(Error::invalid(format!(
                "volume_directory {}: must be an absolute path",
                directory.display()
            ))),
            None => directory_from(secure::variable("XDG_DATA_HOME"), secure::variable("HOME")),
        };
        Self { directory, min_free_bytes, opened: OnceCell::new() }
    }

    /// Makes sure that a volume is there as long as the result lives, for a sandbox. May hang on the host's file system.
    pub(crate) fn use_for(&self, mount: &VolumeMount) -> Result<UsedVolume> {
        let name = mount.name();
        let directories = self.directories().map_err(|error| error.context(format!("volume {name:?}")))?;
        if !mount.is_read_only() {
            directories.check_space(name, self.min_free_bytes)?;
        }
        if let Some(used) = directories.try_use(name)? {
            return Ok(used);
        }
        // It isn't there, or is just being removed or looked at, which is done under this lock.
        let _lock = directories.lock()?;
        directories.open_or_make(name, mount.is_created())?;
        directories.try_use(name)?.ok_or_else(|| not_found(name))
    }

    /// Makes a volume. If it is there already, that is an error or not.
    pub(crate) fn create(&self, name: &str, may_exist: bool) -> Result<VolumeInfo> {
        volume_name(name)?;
        let directories = self.directories()?;
        let _lock = directories.lock()?;
        if !may_exist && directories.volume(name)?.is_some() {
            return Err(Error::new(Code::Exists, format!("volume {name:?}: exists already")));
        }
        directories.open_or_make(name, true)?;
        directories.info(name)?.ok_or_else(|| not_found(name))
    }

    /// Looks a volume up.
    pub(crate) fn find(&self, name: &str) -> Result<VolumeInfo> {
        volume_name(name)?;
        let directories = self.directories()?;
        let _lock = directories.lock()?;
        directories.info(name)?.ok_or_else(|| not_found(name))
    }

    /// All volumes, by name.
    pub(crate) fn list(&self) -> Result<Vec<VolumeInfo>> {
        let directories = self.directories()?;
        let _lock = directories.lock()?;
        let mut all = Vec::new();
        for name in names(&directories.volumes)?.iter().filter(|name| volume_name(name).is_ok()) {
            match directories.info(name) {
                Ok(info) => all.extend(info),
                Err(cause) => log::warn!("{cause}"),
            }
        }
        all.sort_by(|one: &VolumeInfo, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Removes a volume with everything in it, unless a sandbox has it.
    pub(crate) fn remove(&self, name: &str, ended: &AtomicBool) -> Result<()> {
        volume_name(name)?;
        let directories = self.directories()?;
        directories.take_out(name)?;
        removal::clear(&directories.removed, ended).map_err(|error| {
            error.context(format!(
                "volume {name:?}: it is gone, but not all of its files; the next removal of a volume goes on"
            ))
        })
    }

    fn directories(&self) -> Result<&Directories> {
        self.opened.get_or_try_init(|| Directories::open(self.directory.as_ref().map_err(Clone::clone)?))
    }
}

impl Directories {
    /// Opens them, and makes what is missing.
    fn open(path: &Path) -> Result<Self> {
        let (top, path) = trust::open_directory(path, VOLUMES)?;
        if let Some(kind) = filesystem::network(&top, &path, VOLUMES)? {
            return Err(VOLUMES.error(format!(
                "volume directory {path:?}: is on {kind}, a network file system, where locks and owners of this machine \
                 don't count and a lost connection hangs sandboxes; name a directory elsewhere (the runtime's \
                 volume_directory)"
            )));
        }
        let format = subdirectory(&top, FORMAT, &path, VOLUMES)?;
        let path = path.join(FORMAT);
        let volumes = subdirectory(&format, "volumes", &path, VOLUMES)?;
        let locks = subdirectory(&format, "locks", &path, VOLUMES)?;
        let removed = subdirectory(&format, "removed", &path, VOLUMES)?;
        Ok(Self { path, format, volumes, locks, removed })
    }

    fn lock(&self) -> Result<Lock> {
        Lock::wait(&self.format, format_args!("volume store {:?}", self.path))
    }

    /// Fails if the file system has less than that free.
    fn check_space(&self, name: &str, min_free_bytes: u64) -> Result<()> {
        let found =
            fstatvfs(&self.volumes).context(format!("the free space of the volume store {:?}", self.path))?;
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        if free >= min_free_bytes {
            return Ok(());
        }
        Err(Error::new(
            Code::Limit,
            format!(
                "volume {name:?}: the file system of {:?} has {free} bytes free, fewer than the {min_free_bytes} that a new \
                 sandbox with a writable volume needs: free some, remove volumes, mount it read-only, or set the runtime's \
                 volume_min_free_bytes",
                self.path
            ),
        ))
    }

    /// Locks a volume for use, if it is there and nothing else has its lock.
    fn try_use(&self, name: &str) -> Result<Option<UsedVolume>> {
        let Some(lock) = self.open_lock(name, false)? else { return Ok(None) };
        let lock = match Flock::lock(lock, FlockArg::LockSharedNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => return Ok(None),
            Err((_, cause)) => return Err(cause).context(format!("volume {name:?}: locking it")),
        };
        let lock_stat = self.look(name, lock.as_fd())?;
        // Removed since it was opened.
        if lock_stat.st_nlink == 0 {
            return Ok(None);
        }
        let Some(volume) = self.volume(name)? else { return Ok(None) };
        Ok(Some(UsedVolume {
            directory: self.path.join("volumes").join(name),
            identity: (volume.st_dev, volume.st_ino),
            lock_path: self.path.join("locks").join(name),
            lock_identity: (lock_stat.st_dev, lock_stat.st_ino),
            _lock: lock,
        }))
    }

    /// Makes a volume, if that is wanted, and its lock's file. Under the store's lock.
    fn open_or_make(&self, name: &str, create: bool) -> Result<()> {
        let mut is_new = false;
        if create {
            match mkdirat(&self.volumes, name, Mode::S_IRWXU) {
                Ok(()) => is_new = true,
                Err(Errno::EEXIST) => {}
                Err(cause) => return Err(cause).context(format!("volume {name:?}: making it")),
            }
        }
        if self.volume(name)?.is_none() {
            return Err(not_found(name));
        }
        let locked = self.open_lock(name, true).map(drop);
        if locked.is_err() && is_new {
            // On a full disk: nothing is left of it.
            let _ = unlinkat(&self.volumes, name, UnlinkatFlags::RemoveDir);
        }
        locked
    }

    /// Opens the file of a volume's lock.
    fn open_lock(&self, name: &str, create: bool) -> Result<Option<File>> {
        let create = if create { OFlag::O_CREAT } else { OFlag::empty() };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | create;
        match openat(&self.locks, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(fd) => Ok(Some(fd.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(cause) => Err(cause).context(format!("volume {name:?}: opening its lock")),
        }
    }

    /// What a volume's directory is; `None` if there is no such volume.
    fn volume(&self, name: &str) -> Result<Option<FileStat>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = match openat(&self.volumes, name, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(None),
            Err(cause) => return Err(cause).context(format!("volume {name:?}: opening it")),
        };
        let found = self.look(name, directory.as_fd())?;
        let shown = self.path.join("volumes").join(name);
        if found.st_mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(VOLUMES.error(format!("volume {name:?}: {shown:?} is not a directory")));
        }
        if found.st_uid != geteuid().as_raw() {
            return Err(VOLUMES.error(format!(
                "volume {name:?}: {shown:?} belongs to user {}, not to user {}",
                found.st_uid,
                geteuid()
            )));
        }
        Ok(Some(found))
    }

    fn look(&self, name: &str, fd: impl AsFd) -> Result<FileStat> {
        fstat(fd).context(format!("volume {name:?}: looking at it in {:?}", self.path))
    }

    /// What is known of a volume. Under the store's lock, since it takes the volume's lock for a moment.
    fn info(&self, name: &str) -> Result<Option<VolumeInfo>> {
        if self.volume(name)?.is_none() {
            return Ok(None);
        }
        // One that was made by hand has none yet.
        let Some(lock) = self.open_lock(name, true)? else { return Ok(None) };
        let made = modified(&self.look(name, lock.as_fd())?);
        let in_use = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(_) => false,
            Err((_, Errno::EWOULDBLOCK)) => true,
            Err((_, cause)) => return Err(cause).context(format!("volume {name:?}: looking at its lock")),
        };
        let path = self.path.join("volumes").join(name);
        Ok(Some(VolumeInfo { name: name.to_owned(), path, created: made, in_use }))
    }

    /// Moves a volume that no sandbox has to the removed ones.
    fn take_out(&self, name: &str) -> Result<()> {
        let what = || format!("volume {name:?}: removing it");
        let _lock = self.lock()?;
        if self.volume(name)?.is_none() {
            return Err(not_found(name));
        }
        let lock = self.open_lock(name, true)?.ok_or_else(|| not_found(name))?;
        let _unused = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                let text = format!("volume {name:?}: a sandbox has it mounted; end that first");
                return Err(Error::new(Code::State, text));
            }
            Err((_, cause)) => return Err(cause).context(what()),
        };
        // A directory that changes its parent has to be writable, and a sandbox may have made it read-only.
        removal::make_accessible(&self.volumes, name).context(what())?;
        renameat(&self.volumes, name, &self.removed, &random_name()?[..]).context(what())?;
        remove_file(&self.locks, name)
    }
}

fn not_found(name: &str) -> Error {
    let text =
        format!("volume {name:?}: there is none of that name; make it first, or have it made (create)");
    Error::new(Code::NotFound, text)
}

fn modified(stat: &FileStat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
    let nanoseconds = Duration::from_nanos(u64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(seconds.saturating_add(nanoseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// As the XDG base directory specification has it: a relative path is ignored.
fn directory_from(data: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    match (absolute(data), absolute(home)) {
        (Some(data), _) => Ok(data.join("libsbx/volumes")),
        (None, Some(home)) => Ok(home.join(".local/share/libsbx/volumes")),
        (None, None) => Err(VOLUMES.error(
            "there is no directory for volumes: neither XDG_DATA_HOME nor HOME is set to an absolute path; set the runtime's \
             volume_directory",
        )),
    }
}
