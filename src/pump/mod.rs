//! Moves data between two sockets: what tunnels and egress have in common.
//!
//! [`Flow`] is one direction, [`Exchange`] both with all the ways in which they end, [`End`] a socket, bare or
//! under TLS. Nothing here knows where the sockets come from, or waits.

mod end;
mod exchange;
mod flow;
pub(crate) mod memory;
mod tls;

pub(crate) use end::{End, Lingering};
pub(crate) use exchange::{BUDGET, DRAIN, DRAIN_STEP, Exchange, Moved, Turn};
pub(crate) use flow::{Endpoint, Received, Scratch};
