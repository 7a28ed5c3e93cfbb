//! Programs in a sandbox: init's protocol and their standard streams.

mod capture;
mod init;
mod streams;

use std::fmt;

pub use capture::Captured;
pub(crate) use capture::{Capture, CaptureReader, Progress as CaptureProgress};
pub(crate) use init::Init;
pub(crate) use streams::{Ours, Streams};

/// One of the three standard streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Stdin => "standard input",
            Self::Stdout => "standard output",
            Self::Stderr => "standard error",
        })
    }
}

impl Stream {
    /// Its place among the three.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}
