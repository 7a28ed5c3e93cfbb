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

/// The bytes that a file of a program started here may have: the hard limit, which such a program takes.
pub(crate) fn file_size() -> u64 {
    limit(libc::RLIMIT_FSIZE).map_or(u64::MAX, |limit| limit.rlim_max)
}

/// The bytes of address space that a program started here may have.
pub(crate) fn address_space() -> u64 {
    limit(libc::RLIMIT_AS).map_or(u64::MAX, |limit| limit.rlim_cur)
}

/// The processes and threads that this process's user may have.
pub(crate) fn processes() -> u64 {
    limit(libc::RLIMIT_NPROC).map_or(u64::MAX, |limit| limit.rlim_cur)
}

fn limit(which: libc::__rlimit_resource_t) -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is live.
    (unsafe { libc::getrlimit(which, &raw mut limit) } == 0).then_some(limit)
}
