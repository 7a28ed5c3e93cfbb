//! The domains of an allowlist, and the look-up of a name in them.
//!
//! An entry is a host name, or `*.` and a host name, which matches every name below that one, at any depth, but not the
//! name itself. Comparison ignores the case of ASCII letters.
//!
//! Anything but a plain host name is refused: software disagrees about names in other scripts than ASCII, a trailing dot
//! belongs to zone files, and an address is not a name.

use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, Result};

/// The longest name in text, without a trailing dot (RFC 1035: 255 bytes on the wire).
pub(crate) const MAX_NAME_LENGTH: usize = 253;
/// The longest label.
const MAX_LABEL_LENGTH: usize = 63;

/// The domains of one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Domains {
    exact: HashMap<Box<str>, u32>,
    /// The names behind `*.`.
    below: HashMap<Box<str>, u32>,
}

/// A domain of an allowlist. Its text is the form in which it is given: `example.com`, `*.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Domain {
    /// This name.
    Exact(Box<str>),
    /// Every name below this one.
    Below(Box<str>),
}

impl fmt::Display for Domain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => out.write_str(name),
            Self::Below(name) => write!(out, "*.{name}"),
        }
    }
}

impl Domains {
    /// Adds an entry. A domain that is there already keeps its number.
    pub(crate) fn add(&mut self, pattern: Domain, number: u32) {
        match pattern {
            Domain::Exact(name) => self.exact.entry(name).or_insert(number),
            Domain::Below(name) => self.below.entry(name).or_insert(number),
        };
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// The entry that matches a name: the exact one, else the closest wildcard. The name must be in lower case and without
    /// a trailing dot. Takes as many steps as the name has labels, however many entries there are.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        if let Some(number) = self.exact.get(name) {
            return Some(*number);
        }
        let mut rest = name;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(number) = self.below.get(above) {
                return Some(*number);
            }
            rest = above;
        }
        None
    }
}

/// Parses an entry.
pub(crate) fn parse(text: &str) -> Result<Domain> {
    if text.len() > MAX_NAME_LENGTH + 2 {
        return Err(Error::invalid(format!(
            "domain of {} bytes: a name has at most {MAX_NAME_LENGTH}",
            text.len()
        )));
    }
    let refuse = |why: &str| Error::invalid(format!("domain {text:?}: {why}"));
    if text == "*" {
        return Err(refuse("allows every name; an open policy does that, an allowlist names its domains"));
    }
    let (below, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    check(name).map_err(refuse)?;
    let name = name.to_ascii_lowercase().into_boxed_str();
    Ok(if below { Domain::Below(name) } else { Domain::Exact(name) })
}

/// Checks a host name (RFC 952, RFC 1123). The last label must not be a number, so that the name can't be mistaken for an
/// address.
fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("must be a host name, or *. and a host name");
    }
    if !name.is_ascii() {
        return Err("write names of other scripts as A-labels (xn--...), as they are in the DNS");
    }
    if name.contains('*') {
        return Err("a star may only stand at the beginning, followed by a dot, for every name below");
    }
    if name.ends_with('.') {
        return Err("write it without the trailing dot: names are always whole");
    }
    if name.len() > MAX_NAME_LENGTH {
        return Err("a name has at most 253 bytes");
    }
    if name.contains([':', '/']) || name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err("must be a name alone: no scheme, port, path or address (allow_cidr takes addresses)");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("has an empty label");
        }
        if label.len() > MAX_LABEL_LENGTH {
            return Err("has a label of more than 63 bytes");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err("labels have only letters, digits and hyphens");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a label neither begins nor ends with a hyphen");
        }
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    // As URLs are read (WHATWG), 0x7f000001 and 127.0.0.0x1 are addresses too.
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number(last)
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Err("ends with a number, so that it could be taken for an address");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domains(entries: &[&str]) -> Domains {
        let mut domains = Domains::default();
        for (number, entry) in (0..).zip(entries) {
            domains.add(parse(entry).unwrap(), number);
        }
        domains
    }

    #[test]
    fn plain_names_are_read_in_lower_case() {
        for (text, expected) in [
            ("example.com", Domain::Exact("example.com".into())),
            ("EXAMPLE.Com", Domain::Exact("example.com".into())),
            ("*.Example.com", Domain::Below("example.com".into())),
            ("xn--bcher-kva.example", Domain::Exact("xn--bcher-kva.example".into())),
            ("intranet", Domain::Exact("intranet".into())),
            ("*.internal", Domain::Below("internal".into())),
            ("3com.com", Domain::Exact("3com.com".into())),
            ("1.2.3.4.example", Domain::Exact("1.2.3.4.example".into())),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        let label = "a".repeat(63);
        let longest = [&*label, &label, &label, &"b".repeat(61)].join(".");
        assert_eq!(longest.len(), MAX_NAME_LENGTH);
        parse(&longest).unwrap();
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for (text, why) in [
            ("", "must be a host name"),
            ("*", "open policy"),
            ("*.", "must be a host name"),
            ("*.*.example.com", "a star may only"),
            ("*example.com", "a star may only"),
            ("a.*.example.com", "a star may only"),
            ("example.com.", "without the trailing dot"),
            (".", "without the trailing dot"),
            (".example.com", "empty label"),
            ("a..b", "empty label"),
            ("bücher.example", "A-labels"),
            ("exаmple.com", "A-labels"),
            ("a_b.example", "letters, digits and hyphens"),
            ("a b.example", "letters, digits and hyphens"),
            ("a\0.example", "letters, digits and hyphens"),
            ("a\n.example", "letters, digits and hyphens"),
            ("-a.example", "hyphen"),
            ("a-.example", "hyphen"),
            ("192.0.2.1", "no scheme, port, path or address"),
            ("2001:db8::1", "no scheme, port, path or address"),
            ("https://example.com", "no scheme, port, path or address"),
            ("example.com:443", "no scheme, port, path or address"),
            ("example.com/path", "no scheme, port, path or address"),
            ("127.1", "ends with a number"),
            ("2130706433", "ends with a number"),
            ("0x7f000001", "ends with a number"),
            ("127.0.0.0x1", "ends with a number"),
            ("example.0x", "ends with a number"),
            ("*.192.0.2", "ends with a number"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.message().contains(why), "{text:?}: {error}");
        }
        let long = "a".repeat(64);
        assert!(parse(&format!("{long}.example")).unwrap_err().message().contains("63"));
        assert!(parse(&"a.".repeat(127)).is_err());
        assert!(parse(&"a".repeat(1 << 20)).unwrap_err().message().len() < 100);
    }

    #[test]
    fn a_star_stands_for_every_name_below_and_not_for_the_name_itself() {
        let domains = domains(&["*.example.com", "example.org", "a.b.example.com", "*.b.example.com"]);
        for (name, expected) in [
            ("x.example.com", Some(0)),
            ("x.y.example.com", Some(0)),
            ("example.com", None),
            ("notexample.com", None),
            ("example.com.evil.net", None),
            ("example.org", Some(1)),
            ("x.example.org", None),
            ("a.b.example.com", Some(2)),
            ("c.b.example.com", Some(3)),
            ("b.example.com", Some(0)),
            ("com", None),
            ("", None),
        ] {
            assert_eq!(domains.find(name), expected, "{name}");
        }
    }

    fn label() -> impl Strategy<Value = String> {
        "[a-c]{1,2}"
    }

    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(label(), 1..5).prop_map(|labels| labels.join("."))
    }

    proptest! {
        /// The index and a plain walk over the list agree.
        #[test]
        fn what_is_found_is_what_the_list_says(
            entries in prop::collection::vec((any::<bool>(), name()), 0..12),
            names in prop::collection::vec(name(), 0..20),
        ) {
            let texts: Vec<String> =
                entries.iter().map(|(star, name)| format!("{}{name}", if *star { "*." } else { "" })).collect();
            let domains = domains(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            for name in names {
                let matches = |(star, entry): &&(bool, String)| match star {
                    true => name.ends_with(&format!(".{entry}")),
                    false => name == *entry,
                };
                let found = domains.find(&name);
                prop_assert_eq!(found.is_some(), entries.iter().any(|entry| matches(&entry)), "{}", name);
                if let Some(number) = found {
                    prop_assert!(matches(&&entries[usize::try_from(number).unwrap()]));
                }
            }
        }

        #[test]
        fn what_is_accepted_is_a_host_name_and_reads_back(text in "[a-zA-Z0-9.*_x-]{0,20}") {
            if let Ok(pattern) = parse(&text) {
                let (Domain::Exact(name) | Domain::Below(name)) = &pattern;
                prop_assert!(name.split('.').all(|label| (1..=63).contains(&label.len())));
                prop_assert_eq!(parse(&pattern.to_string()).unwrap(), pattern);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
