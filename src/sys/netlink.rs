//! The options of a netlink socket that have no safe wrapper.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

// linux/netlink.h
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;

/// Asks for answers that hold the kernel's own words about a refusal and don't repeat the request (which may
/// be 60 KiB of set elements).
pub(crate) fn explain_refusals(socket: BorrowedFd<'_>) -> io::Result<()> {
    switch_on(socket, NETLINK_EXT_ACK)?;
    switch_on(socket, NETLINK_CAP_ACK)
}

fn switch_on(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: setsockopt reads one int, to which `on` is a valid pointer for the length of the call, and the
    // length given is that of an int; the descriptor is open because it is borrowed.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
