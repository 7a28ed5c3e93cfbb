//! Setters that keep the first error, so that a program may set everything and check once.

use crate::error::{Error, Result};

/// A value that is set piece by piece and keeps the first error.
pub(crate) trait FirstError: Sized {
    /// Keeps the error, unless one is kept already.
    fn keep_error(&mut self, error: &Error);

    /// Runs a setter. Its error is kept and returned.
    fn latch(&mut self, set: impl FnOnce(&mut Self) -> Result<()>) -> Result<&mut Self> {
        match set(self) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.keep_error(&error);
                Err(error)
            }
        }
    }
}
