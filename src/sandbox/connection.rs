//! A connection to a port inside, to be taken once.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use crate::error::{Code, Error, Result};

/// A connection that was made: the result of [`Sandbox::connect_begin`](crate::Sandbox::connect_begin).
#[derive(Debug)]
pub struct Connection(Mutex<Option<OwnedFd>>);

impl Connection {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(Mutex::new(Some(descriptor)))
    }

    /// Its descriptor, once: an AF_UNIX stream, non-blocking, the caller's own.
    pub fn take(&self) -> Result<OwnedFd> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| Error::new(Code::State, "the connection was opened before"))
    }
}
