//! Names of the DNS (RFC 1035, 3.1 and 4.1.4).

use std::fmt;
use std::hash::{Hash, Hasher};

use domain::base::{self, ParsedName, ToName};
use domain::dep::octseq::Parser;

/// A whole name. Unlike the crate's, two are equal only if their letters have the same case, by which an answer is
/// recognised (see [`super::lookup`]).
#[derive(Clone)]
pub(crate) struct Name(base::Name<Vec<u8>>);

impl Name {
    /// Reads the name at `at`; returns it and the place behind it. A pointer leads backwards from where it stands.
    pub(crate) fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let mut parser = Parser::from_ref(message);
        parser.advance(at).ok()?;
        let name = ParsedName::parse_ref(&mut parser).ok()?;
        Some((Self::of_parsed(&name), parser.pos()))
    }

    /// Copies it out of a message.
    pub(super) fn of_parsed(name: &ParsedName<&[u8]>) -> Self {
        Self(name.to_vec())
    }

    /// From a text without escapes, with or without the trailing dot.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        let mut wire = Vec::new();
        for label in text.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        Self(base::Name::from_octets(wire).unwrap())
    }

    /// As on the wire, without compression.
    pub(crate) fn wire(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// As the crate writes it.
    pub(super) fn as_base(&self) -> base::Name<&Vec<u8>> {
        self.0.for_ref()
    }

    /// With all letters in lower case, to be compared.
    pub(crate) fn lower(&self) -> Self {
        let mut name = self.0.clone();
        name.make_canonical();
        Self(name)
    }

    /// Flips the case of letters by the bits, from the first byte on. (No length byte has the number of a letter.)
    pub(crate) fn with_case(&self, mut bits: impl Iterator<Item = bool>) -> Self {
        let mixed = self.wire().iter().map(|byte| match bits.next() {
            Some(true) if byte.is_ascii_alphabetic() => byte ^ 0x20,
            _ => *byte,
        });
        // The same lengths make it a name as before.
        base::Name::from_octets(mixed.collect()).map_or_else(|_| self.clone(), Self)
    }

    /// The text that a policy is evaluated for: labels in lower case with dots between, without a dot at the end. Bytes
    /// other than letters, digits, hyphens and underscores are written as numbers (`\046`), so that a dot in a label is
    /// no dot between labels. The root is empty.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(self.wire().len());
        for label in self.0.iter().filter(|label| !label.is_root()) {
            if !text.is_empty() {
                text.push('.');
            }
            for byte in label.as_slice() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                        text.push(char::from(byte.to_ascii_lowercase()));
                    }
                    other => text.push_str(&format!("\\{other:03}")),
                }
            }
        }
        text
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire() == other.wire()
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.", self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pointers_are_followed_backwards_only() {
        let message = b"\x03www\x07example\x00\x01a\xc0\x04\xc0\x0f\xc0\x12";
        let (www, after) = Name::read(message, 0).unwrap();
        assert_eq!((www.text().as_str(), after), ("www.example", 13));
        let (name, after) = Name::read(message, 13).unwrap();
        assert_eq!((name.text().as_str(), after), ("a.example", 17));
        let (name, after) = Name::read(message, 17).unwrap();
        assert_eq!((name.text().as_str(), after), ("example", 19), "by way of another");
        assert!(Name::read(message, 19).is_none(), "forwards");
        assert!(Name::read(b"\xc0\x00", 0).is_none(), "to itself");
        assert!(Name::read(b"\x01a\xc0\x00", 0).is_none(), "round and round");
        assert!(Name::read(b"\x41a\x00", 0).is_none(), "a label of a kind that isn't used");
        assert!(Name::read(b"\x05ab", 0).is_none(), "cut off");
    }

    #[test]
    fn a_chain_of_pointers_has_no_more_than_a_name_could_have_bytes() {
        // The root, then pointers each to the one before.
        let chain = |count: u16| -> Vec<u8> {
            let places = (0..count).map(|at| if at == 0 { 0 } else { 2 * at - 1 });
            std::iter::once(0).chain(places.flat_map(|to| (0xc000 | to).to_be_bytes())).collect()
        };
        assert!(Name::read(&chain(255), 2 * 255 - 1).is_some());
        assert!(Name::read(&chain(256), 2 * 256 - 1).is_none());
    }

    #[test]
    fn a_name_of_256_bytes_is_none() {
        let label = |length: u8| [&[length][..], &vec![b'a'; length.into()]].concat();
        let of = |last: u8| [label(63), label(63), label(63), label(last), vec![0]].concat();
        assert_eq!(Name::read(&of(61), 0).unwrap().0.wire().len(), 255);
        assert!(Name::read(&of(62), 0).is_none());
    }

    #[test]
    fn a_dot_within_a_label_is_no_dot_between_labels() {
        let (name, _) = Name::read(b"\x0ba.EXAMPLE\\x\x03com\x00", 0).unwrap();
        assert_eq!(name.text(), "a\\046example\\092x.com");
        assert_eq!(Name::of("").text(), "");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_read_is_bounded(message: Vec<u8>, at in 0usize..64) {
            if let Some((name, after)) = Name::read(&message, at) {
                prop_assert!(name.wire().len() <= 255);
                prop_assert!(after <= message.len());
                let (again, end) = Name::read(name.wire(), 0).unwrap();
                prop_assert_eq!(end, name.wire().len());
                prop_assert_eq!(&again, &name);
                prop_assert_eq!(name.with_case([true, false].into_iter().cycle()).lower(), name.lower());
            }
        }
    }
}
