//! What each thing costs in descriptors, and how many are kept back.
//!
//! [`crate::reactor::Budget`] shares the process's descriptors out among the sandboxes by these prices.

/// Descriptors that are left to the host, whatever its limit.
pub(crate) const RESERVE: usize = 256;

/// What a sandbox needs at most, beside its listeners and connections: two channels, a pidfd, four of netlink and
/// namespaces, egress's listeners, three streams, and some on their way.
pub(crate) const SANDBOX: usize = 18;

/// What a tunnel's listener needs.
pub(crate) const LISTENER: usize = 1;

/// What a connection through a tunnel needs: both its sockets.
pub(crate) const CONNECTION: usize = 2;

/// What a stream through init to 127.0.0.1 inside needs, beside its connection, until it is there.
pub(crate) const LOOPBACK: usize = 1;

/// What a socket of the gateway needs that waits for a connection.
pub(crate) const POOLED_SOCKET: usize = 1;

/// How few and how many of these are fetched at once for a sandbox; the first is what a quiet one keeps.
pub(crate) const MIN_POOLED_SOCKETS: usize = 4;
pub(crate) const MAX_POOLED_SOCKETS: usize = 64;

/// What a TCP flow out needs: both its sockets.
pub(crate) const TCP_FLOW: usize = 2;

/// What a UDP flow out needs, and each socket that answers to the sandbox come from.
pub(crate) const UDP_FLOW: usize = 1;
pub(crate) const UDP_ANSWERS: usize = 1;

/// What a connection to the resolver needs, and each question that is asked further.
pub(crate) const DNS_CLIENT: usize = 1;
pub(crate) const DNS_LOOKUP: usize = 1;

/// What an operation on files needs: our end of the socket for its outcome, the stream (of one that the host moves itself
/// both ends, until the host takes its own), and a pipe that says when it is done.
pub(crate) const FILE_OPERATION: usize = 4;

/// What is kept back for every sandbox for what the host asks for: a program with three streams and an operation on files,
/// with what both send to init, and a connection.
pub(crate) const KEPT_FOR_HOST: usize = 11;

/// The same for tunnels: a connection that is being made through init, and one that is open.
pub(crate) const KEPT_FOR_TUNNELS: usize = 6;

/// The same for egress: a connection, and two questions of names.
pub(crate) const KEPT_FOR_EGRESS: usize = 4;

/// The same for all uses.
pub(crate) const KEPT: usize = KEPT_FOR_HOST + KEPT_FOR_TUNNELS + KEPT_FOR_EGRESS;
