//! The errors that all parts of images have.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Code, Error, Result};

/// An image that can't be used, and what to do.
pub(crate) fn error(text: impl Into<String>) -> Error {
    Error::new(Code::Image, text)
}

/// Fails if the operation has ended, because it was cancelled, while a thread still works on it.
pub(crate) fn cancelled(ended: &AtomicBool) -> Result<()> {
    if ended.load(Ordering::Relaxed) {
        return Err(Error::new(Code::Closed, "the operation was cancelled"));
    }
    Ok(())
}
