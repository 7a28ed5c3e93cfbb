//! Descriptors that arrive as plain numbers.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// A close-on-exec copy of a descriptor of the host's, or EBADF.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: only used to duplicate the number, which the kernel checks.
    let host = unsafe { BorrowedFd::borrow_raw(fd) };
    host.try_clone_to_owned()
}
