//! The environment of a program: plain and secret values.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::rules::{MAX_STRING_BYTES, counts, environment_name, fits, shown};
use crate::error::{Error, Result};

/// A value that is never shown, and overwritten when it is no longer needed.
type Secret = Zeroizing<String>;

/// Variables by name. A name is either plain or secret, as it was set last.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    plain: BTreeMap<String, String>,
    secret: BTreeMap<String, Secret>,
    /// The counted size of all variables.
    bytes: usize,
}

impl Environment {
    /// Sets a plain variable.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.bytes = self.check(name, value)?;
        self.secret.remove(name);
        self.plain.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Sets a secret variable.
    pub(super) fn set_secret(&mut self, name: &str, value: &str) -> Result<()> {
        self.bytes = self.check(name, value)?;
        self.plain.remove(name);
        self.secret.insert(name.to_owned(), Secret::new(value.to_owned()));
        Ok(())
    }

    /// Sets a plain variable of an image unless one of that name is set. Its name needs no more than Linux needs.
    pub(super) fn set_default(&mut self, name: &str, value: &str) -> Result<()> {
        if name.is_empty() || name.contains('\0') {
            return Err(Error::invalid(
                "environment variable: its name must not be empty or contain a NUL byte",
            ));
        }
        if !self.contains(name) {
            self.bytes = self.check_size(name, value)?;
            self.plain.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    /// Checks a variable; returns the counted size of all with it. No message shows a value: it may be a secret.
    fn check(&self, name: &str, value: &str) -> Result<usize> {
        environment_name(name)?;
        self.check_size(name, value)
    }

    fn check_size(&self, name: &str, value: &str) -> Result<usize> {
        if value.contains('\0') {
            return Err(Error::invalid(format!(
                "environment variable {name:?}: its value must not contain a NUL byte"
            )));
        }
        if name.len().saturating_add(value.len()).saturating_add(1) >= MAX_STRING_BYTES {
            return Err(Error::invalid(format!(
                "environment variable {}: its value has {} bytes; name and value must be shorter than {} together, \
                 which is Linux's limit for one variable",
                shown(name),
                value.len(),
                MAX_STRING_BYTES - 1
            )));
        }
        let others = self.bytes - self.get(name).map_or(0, |value| variable(name, value));
        let bytes = others.saturating_add(variable(name, value));
        fits(&format!("environment variable {}", shown(name)), "the variables", bytes)?;
        Ok(bytes)
    }

    /// The counted size of all variables.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The counted size together with the variables of `base` that are not replaced here.
    pub(super) fn bytes_over(&self, base: &Self) -> usize {
        let others = base.iter().filter(|(name, _)| !self.contains(name));
        self.bytes + others.map(|(name, value)| variable(name, value)).sum::<usize>()
    }

    /// A variable's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let plain = self.plain.get(name).map(String::as_str);
        plain.or_else(|| self.secret.get(name).map(|secret| secret.as_str()))
    }

    /// Whether a variable with this name is set.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.plain.contains_key(name) || self.secret.contains_key(name)
    }

    /// All variables.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let plain = self.plain.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        plain.chain(self.secret.iter().map(|(name, secret)| (name.as_str(), secret.as_str())))
    }
}

/// The counted size of a variable: `NAME=value`.
fn variable(name: &str, value: &str) -> usize {
    counts(name.len() + 1 + value.len())
}

/// Shows names only.
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
        let error = environment.set_secret("A", &"x".repeat(MAX_STRING_BYTES - 2)).unwrap_err();
        assert!(error.message().contains("131070 bytes") && error.message().contains("131071"), "{error}");
        let names: Vec<String> = (0..16).map(|number| format!("A{number}")).collect();
        let left = names
            .iter()
            .find(|name| environment.set_secret(name, &"x".repeat(MAX_STRING_BYTES - 16)).is_err());
        assert_eq!(left, None);
        let error = names.iter().find_map(|name| environment.set(&format!("{name}B"), "x").err()).unwrap();
        assert!(error.message().contains("2097152"), "secrets count: {error}");
        // What is replaced doesn't.
        names.iter().for_each(|name| environment.set(name, "").unwrap());
        assert_eq!(
            environment.bytes(),
            environment.iter().map(|(name, value)| variable(name, value)).sum::<usize>()
        );
        let mut environment = Environment::default();
        environment.set_secret("A", "hunter2").unwrap();
        assert_eq!(format!("{environment:?}"), r#"{"A"}"#);
    }
}
