//! `sbx_error`: what a failed call says.

use std::ffi::c_char;

use super::structs::{self, Layout};
use crate::error::{Error, Result};

/// Why a call failed. The caller owns it, it is written on failure only, and NULL may be passed instead.
///
/// Zero it or use SBX_ERROR_INIT. It serves any number of calls, by one thread at a time. If its `size` is
/// impossible, every call returns SBX_ESIZE before it does anything.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_error {
    /// sizeof(sbx_error), or 0.
    pub size: u32,
    /// The number that the call returned: one of SBX_E....
    pub code: i32,
    /// The errno of the system call that failed, or 0.
    pub os_error: i32,
    /// 0.
    pub reserved: u32,
    /// A text for people in UTF-8, always terminated: the value or call, the rule, what to do.
    pub message: [c_char; 496],
}

// SAFETY: repr(C), begins with its size, 512 bytes without padding, integers only.
unsafe impl Layout for sbx_error {
    const NAME: &'static str = "sbx_error";
    const FIRST_SIZE: usize = 512;
}

impl sbx_error {
    pub(super) const fn empty() -> Self {
        Self { size: 0, code: 0, os_error: 0, reserved: 0, message: [0; 496] }
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> =
            self.message.iter().map(|each| each.to_ne_bytes()[0]).take_while(|b| *b != 0).collect();
        String::from_utf8(bytes).unwrap()
    }
}

/// Refuses an error struct that can't be one.
///
/// # Safety
/// `at` must be NULL or point to an `sbx_error` of the host.
pub(super) unsafe fn check(at: *const sbx_error) -> Result<()> {
    if at.is_null() {
        return Ok(());
    }
    // SAFETY: not NULL; passed on from the caller.
    unsafe { structs::size(at) }.map(drop)
}

/// Fills the host's error struct, if there is one.
///
/// # Safety
/// As for [`check`], which must have passed; nobody else may use it now.
pub(super) unsafe fn write(at: *mut sbx_error, failure: &Error) {
    if at.is_null() {
        return;
    }
    // SAFETY: not NULL; passed on from the caller.
    let Ok(given) = (unsafe { structs::size(at) }) else {
        // The host has changed the size since the call began. An assertion would abort it: no unwinding goes on to C.
        return;
    };
    let mut value = sbx_error::empty();
    value.code = failure.code().number();
    value.os_error = failure.os_error().unwrap_or(0);
    structs::fill(&mut value.message, failure.message());
    // SAFETY: the host's struct has the size that was just read.
    unsafe { structs::write(at, given, &value) };
}
