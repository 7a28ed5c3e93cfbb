//! Programs in a sandbox: init's protocol and their standard streams.

mod capture;
mod init;
mod streams;

pub use capture::Captured;
pub(crate) use capture::{Capture, CaptureReader, Progress as CaptureProgress};
pub(crate) use init::Init;
pub(crate) use streams::{Ours, Streams};
