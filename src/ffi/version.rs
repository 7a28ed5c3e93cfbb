//! Which library this is.

use std::ffi::c_char;

/// The version of this header: major << 16 | minor << 8 | patch.
pub const SBX_ABI_VERSION: u32 = 512;

/// The version of the running library, such as "0.2.0".
///
/// The text is static. Any thread, never blocks, also in a child of fork.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The version of the running library as a number like SBX_ABI_VERSION.
///
/// A program may run with a library whose number is at least the SBX_ABI_VERSION it was compiled with and has the
/// same major number (while that is 0, the same minor number too). Any thread, never blocks, also in a child of
/// fork.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_abi_version() -> u32 {
    SBX_ABI_VERSION
}
