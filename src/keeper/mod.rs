//! The keeper: client side, wire format, and the static program.
//!
//! One keeper a sandbox. It exists because a multi-threaded host can't enter a user namespace, because host
//! threads must not be moved between namespaces, and because something must outlive the host's SIGKILL long
//! enough to clean up.

mod client;
/// A part of the program that needs nothing of it, for its tests and for fuzzing.
#[cfg(any(test, fuzzing))]
#[allow(dead_code, reason = "the program uses the rest of it")]
#[path = "program/init/files/tar.rs"]
pub(crate) mod tar;
#[allow(dead_code, reason = "each side uses half of the format: the other half is the program's")]
pub(crate) mod wire;

pub(crate) use client::{Keeper, Origin, Program};

#[cfg(test)]
mod tests;
