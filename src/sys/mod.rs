//! Thin wrappers of system calls.
