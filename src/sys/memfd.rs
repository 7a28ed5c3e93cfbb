//! A program in memory that can be run: a sealed memfd, or an unlinked file where that is forbidden.
#![allow(unsafe_code, reason = "memfd_create with MFD_EXEC")]

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::signal_guard;

const MFD_NOEXEC_SEAL: libc::c_uint = 0x8;
const MFD_EXEC: libc::c_uint = 0x10;

/// A read-only descriptor of a program with these bytes, to be run by `execveat(AT_EMPTY_PATH)`.
///
/// Where `vm.memfd_noexec=2` forbids executable memfds (sysctl/vm, Linux 6.3), an unlinked file in one of
/// `directories` takes its place.
pub(crate) fn program(bytes: &[u8], directories: &[&Path]) -> io::Result<OwnedFd> {
    match in_memory(c"sbx-keeper", MFD_EXEC, bytes) {
        Ok(fd) => Ok(fd),
        Err(first) => {
            directories.iter().find_map(|directory| in_directory(bytes, directory).ok()).ok_or(first)
        }
    }
}

/// A descriptor of a file in memory with these bytes, which nothing can change. It isn't a program.
pub(crate) fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    in_memory(c"sbx-image", MFD_NOEXEC_SEAL, bytes)
}

/// `kind` says whether it may be run. Before Linux 6.3 such flags are unknown, and every memfd may be.
fn in_memory(name: &CStr, kind: libc::c_uint, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: the name is NUL-terminated.
    let mut fd = unsafe { libc::memfd_create(name.as_ptr(), flags | kind) };
    if fd < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // SAFETY: as above.
        fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
    }
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is an open descriptor that nothing else owns.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    fill(&file, bytes)?;
    seal(&file)?;
    Ok(file.into())
}

/// Nothing of the file can be changed any more.
///
/// With F_SEAL_WRITE the kernel would wait until nothing holds a page of the file, and on a busy machine give up with
/// EBUSY (memfd_wait_for_pins in mm/memfd.c). What that guards against, a writable mapping from before, isn't there:
/// so F_SEAL_FUTURE_WRITE (Linux 5.1) forbids as much.
fn seal(file: &File) -> io::Result<()> {
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_FUTURE_WRITE;
    // SAFETY: F_ADD_SEALS takes a number.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The file has no name at any time (O_TMPFILE), so nothing is left behind whatever happens.
fn in_directory(bytes: &[u8], directory: &Path) -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o500)
        .custom_flags(libc::O_TMPFILE)
        .open(directory)?;
    fill(&file, bytes)?;
    // A file that is open for writing can't be run (ETXTBSY): open it anew, then let the writer go.
    let readable = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok(readable.into())
}

/// Writes all of it. A host whose RLIMIT_FSIZE is too small for it gets EFBIG, not the signal that kills.
fn fill(file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match signal_guard::write(file.as_fd(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn both_ways_hold_the_bytes_and_forbid_writing() {
        for fd in
            [in_memory(c"sbx-test", MFD_EXEC, b"\x7fELF"), in_directory(b"\x7fELF", &std::env::temp_dir())]
        {
            let fd = fd.unwrap();
            let mut text = Vec::new();
            File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().read_to_end(&mut text).unwrap();
            assert_eq!(text, b"\x7fELF");
            assert!(File::from(fd).write_all(b"x").is_err());
        }
    }

    #[test]
    fn a_page_that_somebody_holds_does_not_keep_it_from_being_sealed() {
        // SAFETY: the name is a NUL-terminated literal.
        let fd = unsafe { libc::memfd_create(c"held".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        assert!(fd >= 0);
        // SAFETY: the call succeeded, so this is an open descriptor that nothing else owns.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        file.write_all(&[1; 4096]).unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        let mut offset = 0;
        // SAFETY: both descriptors are open, and the offset is written to while the call lasts.
        let spliced = unsafe {
            libc::splice(file.as_raw_fd(), &raw mut offset, writer.as_raw_fd(), std::ptr::null_mut(), 4096, 0)
        };
        assert_eq!(spliced, 4096);
        seal(&file).unwrap();
        assert!(file.write_all(b"x").is_err());
    }
}
