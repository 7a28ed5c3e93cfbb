//! Mounts volumes. A sandbox that runs may be changing what is in one, so a sub-path is walked once, by descriptors, follows no
//! link, and what it leads to is mounted by its descriptor.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::mounts::{self, Access};
use super::{Failure, Step};
use crate::system;
use crate::wire::keeper::Volume;

/// No path in a volume leads out of it, and no link is followed.
const BELOW: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;

/// Mounts a volume at `/mounts/volume-INDEX`. Returns its lock, which lasts as long as this process.
pub(super) fn mount(volume: &Volume, index: usize) -> Result<OwnedFd, Failure> {
    let name = format!("volume {:?}", String::from_utf8_lossy(&volume.name));
    let lock = lock(volume).step(&name)?;
    let top = mounts::open_below(c"/old", &volume.directory)
        .and_then(|top| same(top, volume.identity))
        .step(&name)?;
    let source = if volume.sub_path.is_empty() {
        top
    } else {
        let step = format!("{name}, sub-path {:?}", String::from_utf8_lossy(&volume.sub_path));
        open_sub_path(top, &volume.sub_path, volume.create_sub_path).step(step)?
    };
    let path = format!("/mounts/volume-{index}");
    let access = if volume.writable { Access::Writable } else { Access::ReadOnly };
    fs::create_dir(&path)
        .and_then(|()| mounts::target(&system::c_path(path.as_bytes())?))
        .and_then(|target| mounts::bind(&source, &target, access))
        .step(&name)?;
    Ok(lock)
}

/// The volume's lock, shared. The library has it, too, until this is done, so it can't be refused.
fn lock(volume: &Volume) -> io::Result<OwnedFd> {
    let found = same(mounts::open_below(c"/old", &volume.lock)?, volume.lock_identity)?;
    let path = system::c_path(format!("/proc/self/fd/{}", found.as_raw_fd()).as_bytes())?;
    let lock = system::open(&path, libc::O_RDONLY)?;
    // SAFETY: flock takes numbers.
    system::check(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) })?;
    Ok(lock)
}

/// Fails if the library has seen another file or directory there.
fn same(found: OwnedFd, identity: (u64, u64)) -> io::Result<OwnedFd> {
    let now = mounts::status(&found)?;
    if (now.dev(), now.ino()) == identity {
        Ok(found)
    } else {
        Err(io::Error::from_raw_os_error(libc::ESTALE))
    }
}

/// Opens a directory of a volume, and makes what is missing on the way if that is wanted.
fn open_sub_path(top: OwnedFd, path: &[u8], create: bool) -> io::Result<OwnedFd> {
    const FLAGS: i32 = libc::O_PATH | libc::O_DIRECTORY;
    if !create {
        return mounts::open_at(&top, path, FLAGS, BELOW);
    }
    let mut at = top;
    for name in path.split(|byte| *byte == b'/') {
        at = match mounts::open_at(&at, name, FLAGS, BELOW) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                let c_name = system::c_path(name)?;
                // SAFETY: the name ends with NUL.
                let made = unsafe { libc::mkdirat(at.as_raw_fd(), c_name.as_ptr(), 0o755) };
                match system::check(made) {
                    // Another sandbox makes it at the same time.
                    Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
                    _ => mounts::open_at(&at, name, FLAGS, BELOW)?,
                }
            }
            other => other?,
        };
    }
    Ok(at)
}
