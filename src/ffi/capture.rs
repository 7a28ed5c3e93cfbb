//! `sbx_capture`: what a capture of an output stream kept.

use std::ffi::c_int;
use std::ptr;

use super::call::{call_on, call_or};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::structs::{self, Layout};
use crate::process::Captured;

/// What a capture of an output stream had kept when it was asked for. It doesn't change; any thread may read it.
#[derive(Debug)]
pub struct sbx_capture {
    _private: [u8; 0],
}

impl Object for Captured {
    type Opaque = sbx_capture;
    const KIND: &'static str = "capture";
}

/// The bytes of a capture, which belong to it and live as long as it. The caller owns the struct; zero it or use
/// SBX_OUTPUT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_output {
    /// sizeof(sbx_output), or 0.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// The first bytes of the stream, not terminated; NULL if there are none.
    pub head: *const u8,
    /// How many bytes `head` has.
    pub head_length: usize,
    /// The last bytes of the stream if it is longer than the head, not terminated; NULL if there are none.
    pub tail: *const u8,
    /// How many bytes `tail` has.
    pub tail_length: usize,
    /// How many bytes between head and tail were not kept.
    pub dropped: u64,
}

// SAFETY: repr(C), begins with its size, 48 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_output {
    const NAME: &'static str = "sbx_output";
    const FIRST_SIZE: usize = 48;
}

impl From<&Captured> for sbx_output {
    fn from(captured: &Captured) -> Self {
        // An empty one's address is no address: Go's runtime ends the process when it finds one on a stack.
        let start = |part: &[u8]| if part.is_empty() { ptr::null() } else { part.as_ptr() };
        Self {
            size: 0,
            reserved: 0,
            head: start(&captured.head),
            head_length: captured.head.len(),
            tail: start(&captured.tail),
            tail_length: captured.tail.len(),
            dropped: captured.dropped,
        }
    }
}

/// Reads what a capture kept.
///
/// Returns 0 and fills *output; SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `output` must point to an output struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_capture_output(capture: *const sbx_capture, output: *mut sbx_output) -> c_int {
    let read = |captured: &Captured| {
        // SAFETY: as the caller promises.
        let output = unsafe { structs::output("output", output) }?;
        output.write(&sbx_output::from(captured));
        Ok(0)
    };
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(capture, ptr::null_mut::<sbx_error>(), read) }
}

/// Frees a capture and its bytes.
///
/// # Safety
/// None of its bytes may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_capture_free(capture: *mut sbx_capture) {
    call_or((), || handle::take::<Captured>(capture).map(drop));
}
