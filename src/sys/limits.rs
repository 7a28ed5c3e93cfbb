//! Limits of the process.
#![allow(unsafe_code, reason = "getrlimit")]

use std::io;

/// How many descriptors the process may have open: the soft and the hard limit (getrlimit(2)).
pub(crate) fn descriptors() -> io::Result<(usize, usize)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is live.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let number = |value| usize::try_from(value).unwrap_or(usize::MAX);
    Ok((number(limit.rlim_cur), number(limit.rlim_max)))
}
