//! What egress asks the rest of the runtime for, and reports to it.

use std::net::IpAddr;
use std::sync::Arc;

use super::denials::Denied;

/// What egress needs of the rest of the runtime, or has to tell it. Answered by a command to the engine, in any order.
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
