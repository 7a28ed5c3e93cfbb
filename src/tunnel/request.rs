//! What the tunnels request from the rest of the runtime.

use std::sync::Arc;

/// A request to the rest of the runtime. Answered by a command to the engine, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Unconnected, non-blocking TCP sockets of the sandbox's gateway namespace.
    NeedSockets {
        /// The sandbox.
        key: u64,
        /// How many. The answer may have fewer; none means that no more can be had.
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
    /// A limit was reached; the connections concerned wait or were refused, as `what` says.
    Limit {
        /// The sandbox.
        key: u64,
        /// A sentence for people.
        what: String,
    },
}

/// Where requests go. Called on the engine's thread: it must not block.
pub(crate) type Requests = Arc<dyn Fn(Request) + Send + Sync>;
