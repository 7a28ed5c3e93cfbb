//! The environment of a program: plain values, and secret ones.

use std::collections::BTreeMap;
use std::fmt;

use super::rules::{environment_name, shown};
use crate::error::{Error, Result};
use crate::sys::channel::wipe;

/// The most bytes that names and values may have together.
const LARGEST: usize = 1 << 17;

/// A value that is shown nowhere, and overwritten when it is no longer needed.
#[derive(Clone)]
struct Secret(String);

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_bytes());
    }
}

/// Variables by name. A name is either plain or secret, as it was set last.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    plain: BTreeMap<String, String>,
    secret: BTreeMap<String, Secret>,
}

impl Environment {
    /// Sets a variable whose value may be read again by the host.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.check(name, value)?;
        self.secret.remove(name);
        self.plain.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Sets a variable whose value is for the program alone.
    pub(super) fn set_secret(&mut self, name: &str, value: &str) -> Result<()> {
        self.check(name, value)?;
        self.plain.remove(name);
        self.secret.insert(name.to_owned(), Secret(value.to_owned()));
        Ok(())
    }

    /// The value never appears in a message: every one may be a secret.
    fn check(&self, name: &str, value: &str) -> Result<()> {
        environment_name(name)?;
        if value.contains('\0') {
            return Err(Error::invalid(format!(
                "environment variable {name:?}: its value must not contain a NUL byte"
            )));
        }
        let others: usize =
            self.iter().filter(|(key, _)| *key != name).map(|(key, value)| key.len() + value.len()).sum();
        if others.saturating_add(name.len()).saturating_add(value.len()) > LARGEST {
            return Err(Error::invalid(format!(
                "environment variable {}: the environment would have more than {LARGEST} bytes, which is the limit",
                shown(name)
            )));
        }
        Ok(())
    }

    /// A variable's value.
    #[cfg(test)]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let plain = self.plain.get(name).map(String::as_str);
        plain.or_else(|| self.secret.get(name).map(|secret| secret.0.as_str()))
    }

    /// Whether there is a variable of that name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.plain.contains_key(name) || self.secret.contains_key(name)
    }

    /// All variables.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let plain = self.plain.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        plain.chain(self.secret.iter().map(|(name, secret)| (name.as_str(), secret.0.as_str())))
    }
}

/// Names only.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_value_plain_or_secret() {
        let mut environment = Environment::default();
        environment.set("A", "1").unwrap();
        environment.set_secret("A", "2").unwrap();
        assert_eq!(environment.iter().collect::<Vec<_>>(), [("A", "2")]);
        environment.set("A", "3").unwrap();
        assert_eq!(environment.iter().collect::<Vec<_>>(), [("A", "3")]);
    }

    #[test]
    fn it_is_bounded_and_its_values_stay_out_of_messages() {
        let mut environment = Environment::default();
        let error = environment.set_secret("TOKEN", "hunter2\0").unwrap_err();
        assert!(!error.message().contains("hunter2"), "{error}");
        environment.set_secret("A", &"x".repeat(LARGEST - 1)).unwrap();
        assert!(environment.set("B", "").is_err(), "secrets count");
        environment.set_secret("A", "hunter2").unwrap();
        assert_eq!(format!("{environment:?}"), r#"{"A"}"#);
    }
}
