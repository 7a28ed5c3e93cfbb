//! Images: a sandbox's file system as one read-only EROFS file, with the configuration that came with it.
#![allow(dead_code, unused_imports, reason = "what imports and pulls images will use it")]

mod archive;
mod config;
mod digest;
/// Writes and reads the file. The keeper's program includes it, too.
pub(crate) mod erofs;
pub(crate) mod helper;
mod json;
mod reference;
mod registry;
mod snapshot;
mod store;
#[cfg(test)]
mod testing;

pub use config::ImageConfig;
pub(crate) use digest::Digest;
pub(crate) use snapshot::Source;

use crate::error::{Code, Error};

/// An image that can't be used, and what to do.
pub(crate) fn error(text: impl Into<String>) -> Error {
    Error::new(Code::Image, text)
}
