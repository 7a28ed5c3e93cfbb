//! Requests and reports of egress to the layer above.

use std::net::IpAddr;
use std::sync::Arc;

use super::denials::Denied;

/// A request or a report to the layer above. Requests are answered by commands to the engine, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// That many unbound, non-blocking UDP sockets of the sandbox's gateway namespace.
    NeedDatagrams {
        /// The sandbox.
        key: u64,
        /// IPv6, else IPv4.
        ipv6: bool,
        /// How many; fewer may be given.
        count: usize,
    },
    /// The sandbox's resolver is about to answer the `added` addresses for a domain of its policy, and the `removed` ones
    /// have expired: the gateway's rules have to follow.
    Answered {
        /// The sandbox.
        key: u64,
        /// Addresses to let through from now on.
        added: Vec<IpAddr>,
        /// Addresses to let through no longer.
        removed: Vec<IpAddr>,
    },
    /// Traffic of a sandbox was denied or could not be sent.
    Denied {
        /// The sandbox.
        key: u64,
        /// What, where to, why.
        denied: Denied,
        /// How often.
        count: u32,
    },
    /// A limit was reached: connections wait or were refused, as `what` says.
    Limit {
        /// The sandbox.
        key: u64,
        /// A sentence for people.
        what: String,
    },
}

/// Where requests go. Called on the engine's thread: it must not block.
pub(crate) type Requests = Arc<dyn Fn(Request) + Send + Sync>;
