//! The rules of single values: each function returns the checked value, or the rule that it breaks.

use std::fmt;

use crate::error::{Error, Result};

/// Linux's own limits for execve(2): an argument or variable has fewer bytes than this (`MAX_ARG_STRLEN`),
pub(super) const MAX_STRING_BYTES: usize = 128 * 1024;
/// and all of a program's together, each with its final NUL and its pointer, have no more than this (a quarter of the
/// usual limit of the stack).
pub(super) const MAX_PROGRAM_BYTES: usize = 2 * 1024 * 1024;
/// What an argument or variable counts beyond its own bytes.
pub(super) const STRING_OVERHEAD: usize = 9;
/// Linux's PATH_MAX.
const MAX_PATH_LENGTH: usize = 4096;

/// The counted size of an argument or variable of this length.
pub(super) fn counts(length: usize) -> usize {
    length.saturating_add(STRING_OVERHEAD)
}

/// Checks the counted size of `what`.
pub(super) fn fits(setting: &str, what: &str, bytes: usize) -> Result<()> {
    if bytes <= MAX_PROGRAM_BYTES {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{setting}: {what} have more than {MAX_PROGRAM_BYTES} bytes together, each counted with {STRING_OVERHEAD} more, which is \
         Linux's limit for the arguments and environment of a program"
    )))
}

/// Quotes a value for a message: escaped, and cut when it is long.
pub(super) fn shown(value: &str) -> String {
    const MAX_SHOWN: usize = 80;
    match value.char_indices().nth(MAX_SHOWN) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", value.get(..end).unwrap_or_default(), value.len()),
    }
}

/// An error that names the setting, its value and the rule.
pub(super) fn refuse(setting: &str, value: &str, rule: impl fmt::Display) -> Error {
    Error::invalid(format!("{setting} {}: {rule}", shown(value)))
}

/// Refuses a NUL byte, which no system call could pass on.
pub(super) fn no_nul(setting: &str, value: &str) -> Result<()> {
    if value.contains('\0') { Err(refuse(setting, value, "must not contain a NUL byte")) } else { Ok(()) }
}

/// An absolute path without `..`, in its shortest spelling.
pub(super) fn absolute_path(setting: &str, value: &str) -> Result<String> {
    no_nul(setting, value)?;
    if !value.starts_with('/') {
        return Err(refuse(setting, value, "must be an absolute path"));
    }
    if value.len() >= MAX_PATH_LENGTH {
        return Err(refuse(setting, value, format_args!("must be shorter than {MAX_PATH_LENGTH} bytes")));
    }
    let mut path = String::with_capacity(value.len());
    for part in value.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(refuse(setting, value, "must not contain \"..\""));
        }
        path.push('/');
        path.push_str(part);
    }
    if path.is_empty() {
        path.push('/');
    }
    Ok(path)
}

/// The name of an environment variable.
pub(super) fn environment_name(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(());
    }
    Err(refuse("environment variable", name, "its name must match ^[a-zA-Z_][a-zA-Z0-9_]*$"))
}

/// A host name after RFC 1123, within Linux's limit.
pub(super) fn hostname(name: &str) -> Result<()> {
    const MAX_HOSTNAME_LENGTH: usize = 64;
    if name.len() <= MAX_HOSTNAME_LENGTH && is_rfc1123(name) {
        return Ok(());
    }
    Err(refuse(
        "hostname",
        name,
        format_args!(
            "must be at most {MAX_HOSTNAME_LENGTH} bytes of labels of letters, digits and inner hyphens, joined by dots (RFC 1123)"
        ),
    ))
}

/// Whether a name is made of RFC 1123 labels.
pub(super) fn is_rfc1123(name: &str) -> bool {
    name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// A sandbox's name or a tag's key: safe as a file name and as an argument.
pub(super) fn plain_name(setting: &str, name: &str) -> Result<()> {
    const MAX_NAME_LENGTH: usize = 64;
    let fits = (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if fits {
        return Ok(());
    }
    Err(refuse(
        setting,
        name,
        format_args!(
            "must be 1 to {MAX_NAME_LENGTH} of A-Z a-z 0-9 . _ - and begin with a letter or a digit"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths() {
        assert_eq!(absolute_path("workdir", "/a//b/./c/").unwrap(), "/a/b/c");
        assert_eq!(absolute_path("workdir", "///").unwrap(), "/");
        for bad in ["", "a", "./a", "/a/../b", "/a\0b", &format!("/{}", "a".repeat(4096))] {
            let error = absolute_path("workdir", bad).expect_err(bad);
            assert!(error.message().starts_with("workdir "), "{error}");
        }
        assert!(absolute_path("workdir", "/a/..b/c..").is_ok());
    }

    #[test]
    fn environment_names() {
        for good in ["A", "_", "a1_B"] {
            environment_name(good).unwrap();
        }
        for bad in ["", "1A", "A-B", "A=B", "A B", "Ä", "A\0"] {
            assert!(environment_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hostnames() {
        for good in ["a", "A-1.b", &"a".repeat(63)] {
            hostname(good).unwrap();
        }
        for bad in ["", ".", "a.", "-a", "a-", "a_b", "a b", "ä", &"a".repeat(64), &"a.".repeat(40)] {
            assert!(hostname(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names() {
        for good in ["a", "job-1.x_Y", &"a".repeat(64)] {
            plain_name("name", good).unwrap();
        }
        for bad in ["", "../x", "-rf", ".", "a/b", "ü", &"a".repeat(65)] {
            assert!(plain_name("name", bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_stay_short(value in ".{0,2000}") {
            prop_assert!(refuse("name", &value, "rule").message().len() < 1200);
        }

        #[test]
        fn accepted_paths_are_a_fixed_point(value in "(/|[a.]){0,12}") {
            if let Ok(path) = absolute_path("p", &value) {
                prop_assert_eq!(absolute_path("p", &path).unwrap(), path.clone());
                prop_assert!(path == "/" || !path.ends_with('/'));
            }
        }
    }
}
