//! Errors of a Dockerfile, which name their line.

use crate::error::{Code, Error};

/// An error in a line.
pub(super) fn at(line: usize, text: impl AsRef<str>) -> Error {
    Error::invalid(format!("Dockerfile line {line}: {}", text.as_ref()))
}

/// Something of docker's that is not supported.
pub(super) fn unsupported(line: usize, text: impl AsRef<str>) -> Error {
    at(line, text).with_code(Code::Unsupported)
}
