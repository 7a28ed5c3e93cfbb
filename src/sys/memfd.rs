//! A program in memory that can be run: a sealed memfd, or an unlinked file where that is forbidden.
#![allow(unsafe_code, reason = "memfd_create with MFD_EXEC")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const MFD_EXEC: libc::c_uint = 0x10;

/// A read-only descriptor of a program with these bytes, to be run by `execveat(AT_EMPTY_PATH)`.
///
/// Where `vm.memfd_noexec=2` forbids executable memfds (sysctl/vm, Linux 6.3), an unlinked file in one of
/// `directories` takes its place.
pub(crate) fn program(bytes: &[u8], directories: &[&Path]) -> io::Result<OwnedFd> {
    match in_memory(bytes) {
        Ok(fd) => Ok(fd),
        Err(first) => {
            directories.iter().find_map(|directory| in_directory(bytes, directory).ok()).ok_or(first)
        }
    }
}

fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is a NUL-terminated literal.
    let mut fd = unsafe { libc::memfd_create(c"sbx-keeper".as_ptr(), flags | MFD_EXEC) };
    if fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // Before Linux 6.3 the flag is unknown and every memfd may be run.
        // SAFETY: as above.
        fd = unsafe { libc::memfd_create(c"sbx-keeper".as_ptr(), flags) };
    }
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is an open descriptor that nobody else owns.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(bytes)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: F_ADD_SEALS takes a number.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file.into())
}

/// The file has no name at any time (O_TMPFILE), so nothing is left behind whatever happens.
fn in_directory(bytes: &[u8], directory: &Path) -> io::Result<OwnedFd> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o500)
        .custom_flags(libc::O_TMPFILE)
        .open(directory)?;
    file.write_all(bytes)?;
    // A file that is open for writing can't be run (ETXTBSY): open it anew, then let the writer go.
    let readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(readable.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn both_ways_hold_the_bytes_and_forbid_writing() {
        for fd in [in_memory(b"\x7fELF"), in_directory(b"\x7fELF", &std::env::temp_dir())] {
            let fd = fd.unwrap();
            let mut text = Vec::new();
            File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().read_to_end(&mut text).unwrap();
            assert_eq!(text, b"\x7fELF");
            assert!(File::from(fd).write_all(b"x").is_err());
        }
    }
}
