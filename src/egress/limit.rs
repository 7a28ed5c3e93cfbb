//! The limits that a sandbox's egress can reach, and how each is reported to the host.

use std::fmt;
use std::io;

/// A limit that was reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum LimitKind<'a> {
    /// The byte quota was used up just now.
    TotalBytes,
    /// A flow began after the byte quota was used up.
    TotalBytesBefore,
    /// Too many flows began within a second.
    NewFlows,
    /// Too many flows are open.
    OpenFlows,
    /// The library has no descriptors left for the flow.
    Descriptors,
    /// The sandbox's share of the local ports towards a destination is in use.
    LocalPorts,
    /// Too much is held for connections that have not named their server yet.
    ServerNames,
    /// The process has no descriptor or memory to accept a connection with.
    NotAccepted(&'a io::Error),
    /// The sandbox's connections hold too much of the kernel's memory.
    Memory,
    /// They hold twice as much as they may, although their buffers were made small.
    TwiceTheMemory,
}

impl LimitKind<'_> {
    /// Names the limit, whatever details come with it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::TotalBytes => {
                "egress: the byte quota is used up; all connections are reset, further ones refused"
            }
            Self::TotalBytesBefore => {
                "egress: further connections are refused: the bytes that may pass in all are used up"
            }
            Self::NewFlows => "egress: further connections are refused: as many began within a second as may",
            Self::OpenFlows => "egress: further connections are refused: as many are open as may be",
            Self::Descriptors => {
                "egress: further connections are refused: the library's budget of descriptors is used up"
            }
            Self::LocalPorts => {
                "egress: further connections to a destination are refused: its share of the host's local ports is in use"
            }
            Self::ServerNames => {
                "egress: further connections are refused: too many wait to name their server"
            }
            Self::NotAccepted(_) => "egress: further connections can't be accepted and wait",
            Self::Memory => {
                "egress: its connections hold too much of the host's memory and get small buffers"
            }
            Self::TwiceTheMemory => {
                "egress: its connections hold twice as much of the host's memory as they may, and some are reset"
            }
        }
    }
}

impl fmt::Display for LimitKind<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAccepted(error) => {
                write!(out, "egress: further connections can't be accepted ({error}) and wait")
            }
            other => out.write_str(other.text()),
        }
    }
}
