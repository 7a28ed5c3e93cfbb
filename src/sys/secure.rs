//! Whether the process was started with more rights than its starter has (a setuid program).
#![allow(unsafe_code, reason = "getauxval")]

/// Whether the environment is somebody else's word and must not be believed (getauxval(3), AT_SECURE).
pub(crate) fn is_secure() -> bool {
    // SAFETY: getauxval takes a number, and gives 0 for what it doesn't know.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}
