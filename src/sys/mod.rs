//! Thin wrappers of system calls. `unsafe` is here, in `ffi` and in the keeper's program only.
//!
//! `channel` and `spawn` are shared with the keeper's program and use nothing but `std` and `libc`.
#![allow(unsafe_code, reason = "system calls are made here")]

pub(crate) mod channel;
pub(crate) mod datagram;
pub(crate) mod descriptor;
pub(crate) mod fork;
pub(crate) mod handle_page;
pub(crate) mod limits;
pub(crate) mod memfd;
pub(crate) mod mountinfo;
pub(crate) mod netlink;
pub(crate) mod pidfd;
pub(crate) mod random;
pub(crate) mod secure;
pub(crate) mod session;
pub(crate) mod signal_guard;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod thread;
pub(crate) mod wait;
pub(crate) mod xattr;
