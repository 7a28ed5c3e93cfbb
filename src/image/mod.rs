//! Images: the file system of a sandbox as one read-only file.

#[allow(dead_code, reason = "what imports images uses it")]
pub(crate) mod helper;

use crate::error::{Code, Error};

/// An image that can't be used, and why.
fn error(text: &str) -> Error {
    Error::new(Code::Engine, text)
}
