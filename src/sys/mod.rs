//! Thin wrappers of system calls.
#![allow(unsafe_code, reason = "system calls are made here, so that nobody else needs to")]

pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod fork;
pub(crate) mod handle_page;
pub(crate) mod signal_guard;
