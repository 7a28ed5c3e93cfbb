//! Connections into a sandbox: listeners, TLS, dial, relay, certificates.
//!
//! [`Tunnels`] has every tunnel of a runtime and moves their data when it is woken. It has no thread and no poll of its
//! own: the engine turns the reactor and passes the wake-ups on. What it needs from the rest of the runtime (sockets of a
//! gateway namespace, streams through init) it requests with a [`Request`], and gets later; nothing here waits.
//!
//! A connection goes from [`listener`] to [`connections`], which wakes it; [`connection`] is one connection from its
//! handshake to its end, [`dial`] its way to the server.

mod certificate;
mod connection;
mod connections;
mod counters;
mod cx;
mod dial;
mod listener;
mod map;
mod pace;
mod request;
mod retry;
mod sandbox_state;
mod settings;
mod socket_pool;
mod tunnels;
#[cfg(test)]
mod turn_tests;

pub(crate) use certificate::Identity;
pub(crate) use connection::Reply;
pub(crate) use counters::Counters;
pub(crate) use listener::{Security, listen};
pub use map::{Tunnel, TunnelMap};
pub(crate) use request::Request;
pub(crate) use sandbox_state::Drained;
pub(crate) use settings::Settings;
pub(crate) use tunnels::Tunnels;
