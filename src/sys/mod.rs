//! Thin wrappers of system calls.
#![allow(unsafe_code, reason = "system calls are made here, so that nobody else needs to")]

pub(crate) mod netlink;
