//! Moves data between two sockets: what tunnels and egress have in common.
//!
//! [`Endpoint`] is a socket, bare or under TLS, [`Duplex`] a relay between two of them with all the ways in which it ends,
//! [`Linger`] an endpoint that is kept until its peer has read an alert. Nothing here knows where the sockets come from,
//! or waits.

mod duplex;
mod endpoint;
mod flow;
mod linger;
pub(crate) mod memory;
mod tls;

pub(crate) use duplex::{BUDGET, Duplex, Expired, IdleTimeouts, Progress, Side};
pub(crate) use endpoint::{Discard, Endpoint};
pub(crate) use flow::{Received, Scratch, Transport};
pub(crate) use linger::Linger;

#[cfg(test)]
pub(crate) use endpoint::tests;
