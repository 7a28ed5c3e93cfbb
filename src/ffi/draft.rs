//! Objects that the host sets piece by piece and then gives to something else, which takes a copy.

use std::ffi::c_int;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::call::call_on;
use super::handle::Object;
use crate::error::Result;
use crate::sticky::Sticky;

/// What has been set so far.
#[derive(Debug, Default)]
pub(super) struct Draft<T>(Mutex<T>);

impl<T: Clone> Draft<T> {
    /// A copy of what was set.
    pub(super) fn copy(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs a setter. What was wrong before it got to the draft (no text, a bad handle) is kept as well.
pub(super) fn set<T: Sticky>(
    draft: *mut <Draft<T> as Object>::Opaque,
    setter: impl FnOnce(&mut T) -> Result<()>,
) -> c_int
where
    Draft<T>: Object,
{
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on::<Draft<T>>(draft, ptr::null_mut(), |draft| {
            draft.0.lock().unwrap_or_else(PoisonError::into_inner).sticky(setter).map(|_| 0)
        })
    }
}
