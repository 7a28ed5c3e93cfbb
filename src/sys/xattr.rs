//! Extended attributes (xattr(7)).

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A short attribute of a file; a longer one is ERANGE.
pub(crate) fn get(path: &Path, name: &CStr) -> io::Result<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut value = vec![0_u8; 64];
    // SAFETY: both texts end with NUL, and the buffer is live and as long as said.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(length) {
        Ok(length) => {
            value.truncate(length);
            Ok(value)
        }
        Err(_) => Err(io::Error::last_os_error()),
    }
}
