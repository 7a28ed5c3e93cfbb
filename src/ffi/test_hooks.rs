//! What only tests may call. Compiled with the feature `test-hooks`, never in a release, not in the header.

use std::ffi::c_int;

use super::call::call;
use super::error::sbx_error;

/// Panics inside a call.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
#[allow(clippy::panic, reason = "to panic is its purpose")]
pub unsafe extern "C" fn sbx_test_panic(error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call(error, || panic!("injected")) }
}
