//! Names of the DNS (RFC 1035, 3.1 and 4.1.4).

use std::fmt;

/// The longest name on the wire.
const LONGEST: usize = 255;
/// What marks a pointer to an earlier place in the message.
const POINTER: u8 = 0xc0;
/// The most of them in a name: as many as a name can have labels.
const MOST_POINTERS: usize = 127;

/// A name as it is on the wire, without compression: labels with their lengths, then the root's 0.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name(Box<[u8]>);

impl Name {
    /// Reads the name at `at`, and says where what follows it begins. Each pointer has to lead further back than all
    /// before it.
    pub(crate) fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let mut wire = Vec::new();
        let mut place = at;
        let mut limit = at;
        let mut after = None;
        let mut pointers = 0;
        loop {
            let length = *message.get(place)?;
            if length & POINTER == POINTER {
                let low = *message.get(place + 1)?;
                after.get_or_insert(place + 2);
                place = usize::from(length & !POINTER) << 8 | usize::from(low);
                pointers += 1;
                if place >= limit || pointers > MOST_POINTERS {
                    return None;
                }
                limit = place;
                continue;
            }
            // 0x40 and 0x80 begin what has never come to be used.
            if length & POINTER != 0 {
                return None;
            }
            let end = place + 1 + usize::from(length);
            wire.extend_from_slice(message.get(place..end)?);
            if wire.len() > LONGEST {
                return None;
            }
            place = end;
            if length == 0 {
                return Some((Self(wire.into()), after.unwrap_or(place)));
            }
        }
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
        Self(wire.into())
    }

    /// As on the wire.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// With all letters in lower case: names that are the same compare so. (No length is a letter's number.)
    pub(crate) fn lower(&self) -> Self {
        Self(self.0.to_ascii_lowercase().into())
    }

    /// With the case of each letter as the bits say, which are used up from the lowest on.
    pub(crate) fn with_case(&self, mut bits: impl Iterator<Item = bool>) -> Self {
        let mixed = self.0.iter().map(|byte| match bits.next() {
            Some(true) if byte.is_ascii_alphabetic() => byte ^ 0x20,
            _ => *byte,
        });
        Self(mixed.collect())
    }

    /// The text by which a policy is asked: labels in lower case with dots between, without a dot at the end.
    /// What is no letter, digit, hyphen or underscore is written as a number (`\046`), so that a dot in a label
    /// is no dot between labels. The root is empty.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut rest = &*self.0;
        while let Some((length, more)) = rest.split_first() {
            let Some((label, more)) = more.split_at_checked(usize::from(*length)) else { break };
            if label.is_empty() {
                break;
            }
            if !text.is_empty() {
                text.push('.');
            }
            for byte in label {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                        text.push(char::from(byte.to_ascii_lowercase()));
                    }
                    other => text.push_str(&format!("\\{other:03}")),
                }
            }
            rest = more;
        }
        text
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
    fn a_chain_of_pointers_has_no_more_than_a_name_could_have_labels() {
        // The root, then pointers each to the one before.
        let chain = |count: u16| -> Vec<u8> {
            let places = (0..count).map(|at| if at == 0 { 0 } else { 2 * at - 1 });
            std::iter::once(0).chain(places.flat_map(|to| (0xc000 | to).to_be_bytes())).collect()
        };
        assert!(Name::read(&chain(127), 2 * 127 - 1).is_some());
        assert!(Name::read(&chain(128), 2 * 128 - 1).is_none());
    }

    #[test]
    fn a_name_of_256_bytes_is_none() {
        let label = |length: u8| [&[length][..], &vec![b'a'; length.into()]].concat();
        let of = |last: u8| [label(63), label(63), label(63), label(last), vec![0]].concat();
        assert_eq!(Name::read(&of(61), 0).unwrap().0.wire().len(), LONGEST);
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
                prop_assert!(name.wire().len() <= LONGEST);
                prop_assert!(after <= message.len());
                let (again, end) = Name::read(name.wire(), 0).unwrap();
                prop_assert_eq!(end, name.wire().len());
                prop_assert_eq!(&again, &name);
                prop_assert_eq!(name.with_case([true, false].into_iter().cycle()).lower(), name.lower());
            }
        }
    }
}
