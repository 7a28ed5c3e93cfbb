//! Whether the process was started with more rights than its starter has (a setuid program).
#![allow(unsafe_code, reason = "getauxval")]

use std::env;
use std::ffi::OsString;

/// A variable that says which programs and directories to use. In a setuid program it is the word of whoever started
/// that, and counts for nothing (secure_getenv(3)).
pub(crate) fn variable(name: &str) -> Option<OsString> {
    believed(is_secure(), env::var_os(name))
}

fn believed(is_secure: bool, value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !is_secure && !value.is_empty())
}

/// Whether the environment is somebody else's word and must not be believed (getauxval(3), AT_SECURE).
pub(crate) fn is_secure() -> bool {
    // SAFETY: getauxval takes a number, and gives 0 for what it doesn't know.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setuid_program_believes_no_variable() {
        let value = || Some(OsString::from("/somewhere"));
        assert_eq!(believed(false, value()), value());
        assert_eq!(believed(true, value()), None);
        assert_eq!(believed(false, Some(OsString::new())), None);
        assert_eq!(variable("SBX_NO_SUCH_VARIABLE"), None);
        assert!(!is_secure());
    }
}
