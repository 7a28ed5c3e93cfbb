//! Inbound connections: listeners, TLS, relay, certificates.
//!
//! [`Inbound`] has every tunnel of a runtime and moves their data when it is woken. It holds no thread and no
//! poll of its own: the engine turns the reactor and passes the wake-ups on. What it needs from others
//! (sockets of a gateway namespace, connections through init) it asks for with a [`Request`] and is given
//! later; nothing here waits.

mod attempt;
mod certificate;
mod inbound;
mod listener;
mod map;
mod reach;
mod relay;
mod request;
mod settings;
mod stock;
#[cfg(test)]
mod turn_tests;

pub(crate) use certificate::Identity;
pub(crate) use inbound::{Drained, Inbound};
pub(crate) use listener::{Security, listen};
pub use map::{Tunnel, TunnelMap};
pub(crate) use relay::Reply;
pub(crate) use request::Request;
pub(crate) use settings::{Counters, Settings};
