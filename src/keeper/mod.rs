//! The keeper: client side, wire format, and the static program.
//!
//! One keeper a sandbox. It exists because a multi-threaded host can't enter a user namespace, because host
//! threads must not be moved between namespaces, and because something must outlive the host's SIGKILL long
//! enough to clean up.

mod client;
#[allow(dead_code, reason = "each side uses half of the format: the other half is the program's")]
pub(crate) mod wire;

pub(crate) use client::{Keeper, Origin, Program};

#[cfg(test)]
mod tests;
