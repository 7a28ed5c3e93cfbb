//! Removes what sandboxes have left in volumes: any depth, any mode, any number of files, and no link is followed.
//!
//! A directory that isn't empty is moved to the top and emptied there. So the depth takes neither memory nor descriptors,
//! and no path of more than one name is looked up.

use std::ffi::{CStr, CString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::error::{Code, Context, Error, Result};
use crate::image::store::directories::random_name;

/// As many names are read at a time.
const BATCH: usize = 1024;

/// Removes everything in this directory. Other processes may do the same.
pub(super) fn clear(top: &OwnedFd, ended: &AtomicBool) -> Result<()> {
    loop {
        let names = some_names(top)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            let Some(directory) = remove(top, &name)? else { continue };
            empty(&directory, top, ended)?;
            // A process that does the same may have been faster.
            let _ = unlinkat(top, name.as_c_str(), UnlinkatFlags::RemoveDir);
        }
    }
}

/// Removes what is in a directory; directories that aren't empty are moved to the top.
fn empty(directory: &OwnedFd, top: &OwnedFd, ended: &AtomicBool) -> Result<()> {
    loop {
        let names = some_names(directory)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if ended.load(Ordering::Relaxed) {
                return Err(Error::new(Code::Closed, "the operation was cancelled"));
            }
            if remove(directory, &name)?.is_some() {
                let moved = renameat(directory, name.as_c_str(), top, &random_name()?[..]);
                gone_or(moved).context("moving a directory of a removed volume")?;
            }
        }
    }
}

/// Removes one name. A directory that isn't empty is returned instead, made accessible.
fn remove(directory: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>> {
    const WHAT: &str = "removing a file of a removed volume";
    let refused = match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(None),
        Err(refused @ (Errno::EISDIR | Errno::EPERM)) => refused,
        Err(cause) => return Err(cause).context(WHAT),
    };
    match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
        // A file that may not be removed (chattr +i).
        Err(Errno::ENOTDIR) => return Err(refused).context(WHAT),
        Err(cause) => return Err(cause).context(WHAT),
    }
    make_accessible(directory, name).context(WHAT)
}

/// Opens a directory that its owner may not be allowed to read, write or search, and allows that. `None` if it is gone.
pub(super) fn make_accessible<P: ?Sized + NixPath>(at: impl AsFd, name: &P) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = match openat(at, name, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(cause) => return Err(cause.into()),
    };
    if fstat(&directory)?.st_mode & libc::S_IRWXU != libc::S_IRWXU {
        // By its descriptor, so that it is this directory whatever the name stands for by now.
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        fs::set_permissions(path, Permissions::from_mode(libc::S_IRWXU))?;
    }
    Ok(Some(directory))
}

/// Some of the names in a directory; none if it is empty.
fn some_names(directory: &OwnedFd) -> Result<Vec<CString>> {
    const WHAT: &str = "listing a directory of a removed volume";
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = match Dir::openat(directory, ".", flags, Mode::empty()) {
        Ok(listing) => listing,
        // Another process has removed it.
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(cause) => return Err(cause).context(WHAT),
    };
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry.context(WHAT)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
        if names.len() >= BATCH {
            break;
        }
    }
    Ok(names)
}

fn gone_or(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}
