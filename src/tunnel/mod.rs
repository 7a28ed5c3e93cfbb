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
mod settings;
mod stock;
mod told;
#[cfg(test)]
mod turn_tests;

use std::sync::Arc;

pub(crate) use certificate::Identity;
pub(crate) use inbound::{Drained, Inbound};
pub(crate) use listener::{Security, listen};
pub use map::{Tunnel, TunnelMap};
pub(crate) use relay::Reply;
pub(crate) use settings::{Counters, Settings};
pub(crate) use told::Told;

use std::net::IpAddr;

use crate::egress::Denied;

/// What the tunnels need of the rest of the runtime. Answered by a command to the engine, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// That many unconnected, non-blocking TCP sockets of the sandbox's gateway namespace.
    NeedSockets {
        /// The sandbox.
        key: u64,
        /// How many; fewer may be given, none means that no more can be had.
        count: usize,
    },
    /// An AF_UNIX stream that init relays to 127.0.0.1 and that port.
    NeedLoopback {
        /// The sandbox.
        key: u64,
        /// The container's port.
        port: u16,
        /// To be given back with the answer.
        ticket: u64,
    },
    /// That many unbound, non-blocking UDP sockets of the sandbox's gateway namespace.
    NeedDatagrams {
        /// The sandbox.
        key: u64,
        /// IPv6, else IPv4.
        ipv6: bool,
        /// How many; fewer may be given.
        count: usize,
    },
    /// The sandbox's resolver is about to answer the `added` addresses for a domain of its policy; the `removed`
    /// ones have run out. The rules have to follow.
    Answered {
        /// The sandbox.
        key: u64,
        /// To be let through from now on.
        added: Vec<IpAddr>,
        /// Not any more.
        removed: Vec<IpAddr>,
    },
    /// Something of a sandbox's was denied.
    Denied {
        /// The sandbox.
        key: u64,
        /// What, where to, why.
        denied: Denied,
        /// How often.
        count: u32,
    },
    /// A limit was reached; the connections concerned wait or were refused, as `what` says.
    Limit {
        /// The sandbox.
        key: u64,
        /// For people.
        what: String,
    },
}

/// Where requests go. Called on the engine's thread: it must not block.
pub(crate) type Requests = Arc<dyn Fn(Request) + Send + Sync>;
