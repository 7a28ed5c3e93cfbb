//! How many descriptors each thing takes, and how many are kept in reserve.
//!
//! [`crate::reactor::FdBudget`] divides the process's descriptors among the sandboxes by these numbers.

/// Descriptors that are left to the host program, whatever the limit.
pub(crate) const RESERVE: usize = 256;

/// The most that a sandbox takes, beside its listeners and connections: two channels, a pidfd, four of netlink and
/// namespaces, egress's listeners, three streams, and some in transit.
pub(crate) const SANDBOX: usize = 18;

/// A tunnel's listener.
pub(crate) const LISTENER: usize = 1;

/// A connection through a tunnel: both its sockets.
pub(crate) const CONNECTION: usize = 2;

/// A stream through init to 127.0.0.1 inside, beside its connection, until it arrives.
pub(crate) const LOOPBACK: usize = 1;

/// A socket of the gateway that waits for a connection.
pub(crate) const POOLED_SOCKET: usize = 1;

/// The least and the most of these that are fetched at once for a sandbox. A quiet sandbox keeps the least.
pub(crate) const MIN_POOLED_SOCKETS: usize = 4;
pub(crate) const MAX_POOLED_SOCKETS: usize = 64;

/// An outbound TCP flow: both its sockets.
pub(crate) const TCP_FLOW: usize = 2;

/// An outbound UDP flow, and each socket that answers to the sandbox are sent from.
pub(crate) const UDP_FLOW: usize = 1;
pub(crate) const UDP_ANSWERS: usize = 1;

/// A TCP connection to the resolver, and each query that it forwards.
pub(crate) const DNS_CLIENT: usize = 1;
pub(crate) const DNS_LOOKUP: usize = 1;

/// An operation on files: the library's end of the socket for its outcome, the stream (both ends, until the host takes its
/// own), and a pipe that reports the end.
pub(crate) const FILE_OPERATION: usize = 4;

/// Reserved for every sandbox for the host's requests: a program with three streams and an operation on files, with what
/// both send to init, and a connection.
pub(crate) const KEPT_FOR_HOST: usize = 11;

/// The same for tunnels: a connection that is being made through init, and one that is open.
pub(crate) const KEPT_FOR_TUNNELS: usize = 6;

/// The same for egress: a connection, and two questions of names.
pub(crate) const KEPT_FOR_EGRESS: usize = 4;

/// The same for all uses.
pub(crate) const KEPT: usize = KEPT_FOR_HOST + KEPT_FOR_TUNNELS + KEPT_FOR_EGRESS;
