//! Who asked a question, and so where its answer goes.

use std::net::SocketAddr;

use crate::policy::Protocol;
use crate::reactor::Key;

/// Who asked a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// An address that asked by UDP, over this socket of ours.
    Datagram(Key, SocketAddr),
    /// A TCP connection.
    Stream(Key),
}

impl Client {
    /// What it asked by.
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::Datagram(..) => Protocol::Udp,
            Self::Stream(_) => Protocol::Tcp,
        }
    }
}
