//! `sbx_captured`: what a capture of an output stream kept.

use std::ffi::c_int;
use std::ptr;

use super::call::{call_on, call_or, call_with};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::input;
use crate::process::Captured;

/// What a capture of an output stream had kept when it was asked. It doesn't change; any thread may read
/// it. Its bytes live as long as it.
#[derive(Debug)]
pub struct sbx_captured {
    _private: [u8; 0],
}

impl Object for Captured {
    type Opaque = sbx_captured;
    const KIND: &'static str = "captured";
}

/// The first bytes of the stream, not terminated; `length` gets their number.
///
/// Returns NULL for a bad handle or when `length` is NULL.
///
/// # Safety
/// `length` must point to a place for the result or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_captured_head(captured: *const sbx_captured, length: *mut usize) -> *const u8 {
    // SAFETY: as the caller promises.
    unsafe { bytes(captured, length, |captured| &captured.head) }
}

/// The last bytes of the stream, if it is longer than the head, not terminated; `length` gets their number.
///
/// Returns NULL for a bad handle or when `length` is NULL.
///
/// # Safety
/// `length` must point to a place for the result or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_captured_tail(captured: *const sbx_captured, length: *mut usize) -> *const u8 {
    // SAFETY: as the caller promises.
    unsafe { bytes(captured, length, |captured| &captured.tail) }
}

unsafe fn bytes(
    captured: *const sbx_captured,
    length: *mut usize,
    part: impl FnOnce(&Captured) -> &Vec<u8>,
) -> *const u8 {
    call_or(ptr::null(), || {
        call_with(captured, |captured: &Captured| {
            // SAFETY: as the caller promises.
            let length = unsafe { input::out_param("length", length) }?;
            let part = part(captured);
            length.write(part.len());
            Ok(part.as_ptr())
        })
    })
}

/// How many bytes between head and tail were not kept.
///
/// Returns 0 and sets *bytes; SBX_EHANDLE, SBX_EINVALID, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// `bytes` must point to a place for the result or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_captured_dropped(captured: *const sbx_captured, bytes: *mut u64) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(captured, ptr::null_mut::<sbx_error>(), |captured: &Captured| {
            input::out_param("bytes", bytes)?.write(captured.dropped);
            Ok(0)
        })
    }
}

/// Frees it and its bytes; NULL is allowed.
///
/// # Safety
/// None of its bytes may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_captured_free(captured: *mut sbx_captured) {
    call_or((), || handle::take::<Captured>(captured).map(drop));
}
