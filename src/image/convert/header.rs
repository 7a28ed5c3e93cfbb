//! The fields of a tar header, and how numbers are written in them.

use super::Trouble;

/// What a header takes, and a unit of content.
pub(super) const BLOCK: usize = 512;

/// Where a field begins, and its length.
pub(super) type Field = (usize, usize);

pub(super) const NAME: Field = (0, 100);
pub(super) const MODE: Field = (100, 8);
pub(super) const USER: Field = (108, 8);
pub(super) const GROUP: Field = (116, 8);
pub(super) const SIZE: Field = (124, 12);
pub(super) const MODIFIED: Field = (136, 12);
pub(super) const CHECKSUM: Field = (148, 8);
pub(super) const TYPE: usize = 156;
pub(super) const TARGET: Field = (157, 100);
pub(super) const MAGIC: Field = (257, 8);
pub(super) const MAJOR: Field = (329, 8);
pub(super) const MINOR: Field = (337, 8);
pub(super) const PREFIX: Field = (345, 155);

/// What is wrong with a header: a text that names neither the entry nor its place, or something else.
pub(super) enum Wrong {
    Text(String),
    Trouble(Trouble),
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Trouble> for Wrong {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

pub(super) fn cut_short() -> Trouble {
    Trouble::Malformed("the layer's archive ends too early".into())
}

pub(super) fn field(block: &[u8], (at, length): Field) -> &[u8] {
    block.get(at..at + length).unwrap_or_default()
}

/// A field up to its first NUL.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Parses a number that isn't negative: octal digits among spaces and NULs, or base 256 with the first bit set.
pub(super) fn number(bytes: &[u8]) -> Result<u64, String> {
    u64::try_from(signed_number(bytes)?)
        .map_err(|_| format!("has the number {}, below 0", bytes.escape_ascii()))
}

pub(super) fn signed_number(bytes: &[u8]) -> Result<i64, String> {
    let wrong = || format!("has the number {}", bytes.escape_ascii());
    match bytes.split_first() {
        Some((first, rest)) if first & 0x80 != 0 => {
            // The second bit is the sign, which extends to the left.
            let begin = i128::from(first & 0x3f) - if first & 0x40 == 0 { 0 } else { 0x40 };
            let value = rest.iter().try_fold(begin, |value, byte| {
                let value = value.checked_mul(256)? + i128::from(*byte);
                (-(1 << 100)..1 << 100).contains(&value).then_some(value)
            });
            value.and_then(|value| i64::try_from(value).ok()).ok_or_else(wrong)
        }
        _ => {
            let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
            let begin = bytes.iter().position(|byte| !is_padding(byte)).unwrap_or(bytes.len());
            let end = bytes.iter().rposition(|byte| !is_padding(byte)).map_or(begin, |last| last + 1);
            bytes.get(begin..end).unwrap_or_default().iter().try_fold(0_i64, |value, byte| match byte {
                b'0'..=b'7' => {
                    value.checked_mul(8).map(|value| value + i64::from(byte - b'0')).ok_or_else(wrong)
                }
                _ => Err(wrong()),
            })
        }
    }
}

/// Whether a header's checksum is the sum of its bytes, with spaces in the place of the checksum. Some old writers
/// took bytes for signed numbers.
pub(super) fn is_checksum(block: &[u8; BLOCK], sum: u64) -> bool {
    let is_own = |at: &usize| (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(at);
    let bytes = || block.iter().enumerate().map(|(at, byte)| if is_own(&at) { b' ' } else { *byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    i64::try_from(sum).is_ok_and(|sum| sum == unsigned || sum == signed)
}

/// Parses digits and nothing else.
pub(super) fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
