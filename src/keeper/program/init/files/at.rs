//! System calls on paths and on names in open directories, with their errors as `io::Error`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use crate::system::{self, check, owned};
use crate::wire::files::Stat;

/// The directory that a name is looked up in: an open one, or the root for absolute paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct In(RawFd);

impl In {
    pub(super) const ROOT: Self = Self(libc::AT_FDCWD);
}

impl<T: AsRawFd> From<&T> for In {
    fn from(directory: &T) -> Self {
        Self(directory.as_raw_fd())
    }
}

/// Converts a path or name to a C string.
pub(super) fn name(bytes: &[u8]) -> io::Result<CString> {
    system::c_path(bytes)
}

pub(super) fn open(at: In, name: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: the name ends with NUL.
    owned(unsafe { libc::openat(at.0, name.as_ptr(), flags | libc::O_CLOEXEC | libc::O_NOCTTY, mode) })
}

/// Opens a directory for lookups, without following a symbolic link.
///
/// Opens the name with O_PATH and then checks its type, because gVisor follows a link for O_DIRECTORY despite
/// O_NOFOLLOW when it opens for reading.
pub(super) fn enter(at: In, name: &CStr) -> io::Result<OwnedFd> {
    let found = open(at, name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
    match kind(&stat_open(found.as_fd())?) {
        libc::S_IFDIR => Ok(found),
        libc::S_IFLNK => Err(io::Error::from_raw_os_error(libc::ELOOP)),
        _ => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
    }
}

/// Opens a directory for reading, without following a symbolic link.
pub(super) fn open_directory(at: In, name: &CStr) -> io::Result<OwnedFd> {
    let directory = enter(at, name)?;
    open(In::from(&directory), c".", libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

fn status(fill: impl FnOnce(*mut libc::stat) -> i32) -> io::Result<libc::stat> {
    // SAFETY: stat is a plain C struct for which all zeroes is a valid value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    check(fill(&raw mut status))?;
    Ok(status)
}

/// fstatat(2).
pub(super) fn stat(at: In, name: &CStr, follow: bool) -> io::Result<Stat> {
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    // SAFETY: the name ends with NUL, and the struct is live.
    status(|status| unsafe { libc::fstatat(at.0, name.as_ptr(), status, flags) }).map(|status| brief(&status))
}

/// fstatat(2) without following a symbolic link, with everything that it says.
pub(super) fn full_stat(at: In, name: &CStr) -> io::Result<libc::stat> {
    // SAFETY: the name ends with NUL, and the struct is live.
    status(|status| unsafe { libc::fstatat(at.0, name.as_ptr(), status, libc::AT_SYMLINK_NOFOLLOW) })
}

/// fstat(2).
pub(super) fn stat_open(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    full_stat_open(fd).map(|status| brief(&status))
}

/// fstat(2), with everything that it says.
pub(super) fn full_stat_open(fd: BorrowedFd<'_>) -> io::Result<libc::stat> {
    // SAFETY: the struct is live.
    status(|status| unsafe { libc::fstat(fd.as_raw_fd(), status) })
}

/// What the library needs of it.
#[allow(clippy::useless_conversion, reason = "the types differ between architectures")]
pub(super) fn brief(status: &libc::stat) -> Stat {
    Stat {
        mode: status.st_mode,
        user: status.st_uid,
        group: status.st_gid,
        links: u32::try_from(status.st_nlink).unwrap_or(u32::MAX),
        size: u64::try_from(status.st_size).unwrap_or(0),
        modified: i64::from(status.st_mtime)
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(status.st_mtime_nsec)),
    }
}

/// The file type (S_IFMT).
pub(super) fn kind(stat: &Stat) -> u32 {
    stat.mode & libc::S_IFMT
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    kind(stat) == libc::S_IFDIR
}

/// The target of a symbolic link.
pub(super) fn read_link(at: In, name: &CStr) -> io::Result<Vec<u8>> {
    let mut target = vec![0_u8; 4096];
    // SAFETY: the name ends with NUL, and the buffer is live and as long as said.
    let length =
        check(unsafe { libc::readlinkat(at.0, name.as_ptr(), target.as_mut_ptr().cast(), target.len()) })?;
    target.truncate(usize::try_from(length).unwrap_or(0));
    Ok(target)
}

pub(super) fn make_directory(at: In, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    check(unsafe { libc::mkdirat(at.0, name.as_ptr(), mode) }).map(|_| ())
}

pub(super) fn make_fifo(at: In, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    check(unsafe { libc::mkfifoat(at.0, name.as_ptr(), mode) }).map(|_| ())
}

pub(super) fn make_symlink(target: &CStr, at: In, name: &CStr) -> io::Result<()> {
    // SAFETY: both end with NUL.
    check(unsafe { libc::symlinkat(target.as_ptr(), at.0, name.as_ptr()) }).map(|_| ())
}

/// Creates a hard link, without following a symbolic link.
pub(super) fn link(from: In, old: &CStr, to: In, new: &CStr) -> io::Result<()> {
    // SAFETY: both end with NUL.
    check(unsafe { libc::linkat(from.0, old.as_ptr(), to.0, new.as_ptr(), 0) }).map(|_| ())
}

/// Removes a file, or an empty directory.
pub(super) fn unlink(at: In, name: &CStr, directory: bool) -> io::Result<()> {
    let flags = if directory { libc::AT_REMOVEDIR } else { 0 };
    // SAFETY: the name ends with NUL.
    check(unsafe { libc::unlinkat(at.0, name.as_ptr(), flags) }).map(|_| ())
}

/// Renames; replaces an existing file unless `exclusive`.
pub(super) fn rename(old: &CStr, new: &CStr, exclusive: bool) -> io::Result<()> {
    let flags = if exclusive { libc::RENAME_NOREPLACE } else { 0 };
    // SAFETY: both end with NUL.
    let done = unsafe {
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, old.as_ptr(), libc::AT_FDCWD, new.as_ptr(), flags)
    };
    check(done).map(|_| ())
}

pub(super) fn set_owner(at: In, name: &CStr, user: u32, group: u32) -> io::Result<()> {
    // SAFETY: the name ends with NUL.
    check(unsafe { libc::fchownat(at.0, name.as_ptr(), user, group, libc::AT_SYMLINK_NOFOLLOW) }).map(|_| ())
}

pub(super) fn set_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // SAFETY: fchmod takes numbers.
    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) }).map(|_| ())
}

/// Sets the modification time in seconds since 1970, without following a symbolic link.
pub(super) fn set_modified(at: In, name: &CStr, seconds: i64) -> io::Result<()> {
    set_modified_exactly(at, name, seconds, 0)
}

/// Sets the modification time, without following a symbolic link.
pub(super) fn set_modified_exactly(at: In, name: &CStr, seconds: i64, nanoseconds: i64) -> io::Result<()> {
    let time = |nanoseconds| libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = [time(libc::UTIME_NOW), time(nanoseconds)];
    // SAFETY: the name ends with NUL, and there are two times.
    let done = unsafe { libc::utimensat(at.0, name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    check(done).map(|_| ())
}

pub(super) fn seek(fd: BorrowedFd<'_>, offset: u64) -> io::Result<()> {
    let offset = i64::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: lseek takes numbers.
    check(unsafe { libc::lseek(fd.as_raw_fd(), offset, libc::SEEK_SET) }).map(|_| ())
}

/// Closes a file and returns the error: some file systems report a full disk only on close.
pub(super) fn close(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is owned, and not used after.
    check(unsafe { libc::close(fd.into_raw_fd()) }).map(|_| ())
}

/// Iterates over the names in an open directory, without `.` and `..`.
#[derive(Debug)]
pub(super) struct Names {
    stream: *mut libc::DIR,
    fd: RawFd,
}

impl Names {
    /// Takes over the directory.
    pub(super) fn of(directory: OwnedFd) -> io::Result<Self> {
        let fd = directory.as_raw_fd();
        // SAFETY: the descriptor is open.
        let stream = unsafe { libc::fdopendir(fd) };
        if stream.is_null() {
            return Err(io::Error::last_os_error());
        }
        // The stream owns the descriptor now.
        let _ = directory.into_raw_fd();
        Ok(Self { stream, fd })
    }

    /// Starts from the beginning again.
    pub(super) fn rewind(&mut self) {
        // SAFETY: the stream is open.
        unsafe { libc::rewinddir(self.stream) };
    }
}

impl AsRawFd for Names {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl AsFd for Names {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream keeps it open as long as this lives.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Iterator for Names {
    type Item = io::Result<CString>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // SAFETY: the call takes nothing.
            let errno = unsafe { libc::__errno_location() };
            // SAFETY: the pointer leads to this thread's own errno.
            unsafe { *errno = 0 };
            // SAFETY: the stream is open, and nobody else reads from it.
            let entry = unsafe { libc::readdir(self.stream) };
            if entry.is_null() {
                let error = io::Error::last_os_error();
                return (error.raw_os_error() != Some(0)).then_some(Err(error));
            }
            // SAFETY: the entry is valid until the next call.
            let name = unsafe { &raw const (*entry).d_name };
            // SAFETY: the name ends with NUL, and is valid until the next call.
            let name = unsafe { CStr::from_ptr(name.cast()) };
            if !matches!(name.to_bytes(), b"." | b"..") {
                return Some(Ok(name.to_owned()));
            }
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: the stream is open and not used after; it closes the descriptor.
        unsafe { libc::closedir(self.stream) };
    }
}

/// Duplicates a descriptor.
pub(super) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number.
    let copy = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
