//! Setters that keep the first bad value, so that a program may set everything and look once.

use crate::error::{Error, Result};

/// What is set piece by piece.
pub(crate) trait Sticky: Sized {
    /// Keeps a bad value, unless one is kept already.
    fn spoil(&mut self, error: &Error);

    /// Sets something; what is wrong with it is kept, and returned.
    fn sticky(&mut self, set: impl FnOnce(&mut Self) -> Result<()>) -> Result<&mut Self> {
        match set(self) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.spoil(&error);
                Err(error)
            }
        }
    }
}
