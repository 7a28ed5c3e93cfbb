//! Random numbers from the kernel.
#![allow(unsafe_code, reason = "getrandom")]

use std::io;

/// Fills `bytes` (256 at most, which come whole or not at all) with unpredictable numbers (getrandom(2)).
pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are of one live slice.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(got) {
        Ok(got) if got == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
