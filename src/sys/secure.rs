//! Whether the process has more rights than the user that started it (a setuid program).
#![allow(unsafe_code, reason = "getauxval")]

use std::env;
use std::ffi::OsString;

/// An environment variable that names programs or directories. `None` in a setuid program, whose environment is under the
/// control of the user that started it (secure_getenv(3)).
pub(crate) fn variable(name: &str) -> Option<OsString> {
    trusted(is_secure(), env::var_os(name))
}

fn trusted(is_secure: bool, value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !is_secure && !value.is_empty())
}

/// Whether another user controls the environment, so that it must not be trusted (getauxval(3), AT_SECURE).
pub(crate) fn is_secure() -> bool {
    // SAFETY: getauxval takes a number, and gives 0 for what it doesn't know.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setuid_program_trusts_no_variable() {
        let value = || Some(OsString::from("/somewhere"));
        assert_eq!(trusted(false, value()), value());
        assert_eq!(trusted(true, value()), None);
        assert_eq!(trusted(false, Some(OsString::new())), None);
        assert_eq!(variable("SBX_NO_SUCH_VARIABLE"), None);
        assert!(!is_secure());
    }
}
