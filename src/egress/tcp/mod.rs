//! TCP flows.
//!
//! | file | |
//! |---|---|
//! | `listener` | the sockets of G that take a sandbox's connections |
//! | `flow` | connect, data, end |

mod flow;
mod listener;

pub(super) use flow::Tcp;
pub(super) use listener::{Accept, Accepted, Listeners, listen, serve};
