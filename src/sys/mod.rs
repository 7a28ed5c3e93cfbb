//! Thin wrappers of system calls: the places, beside `ffi` and the keeper's program, where `unsafe` is.
//!
//! `channel` and `spawn` are shared with the keeper's program and use nothing but `std` and `libc`.

pub(crate) mod channel;
pub(crate) mod memfd;
pub(crate) mod pidfd;
pub(crate) mod probe;
pub(crate) mod spawn;
