//! Encodes and decodes netlink messages (netlink(7), linux/netlink.h).
//!
//! A message is a header, a fixed part that depends on its type, and attributes, each of which starts with its length and
//! type and is padded to four bytes. Attributes may be nested. Their lengths have 16 bits: a message that exceeds them is
//! refused when it is finished, and never sent truncated.

use nix::errno::Errno;

use crate::error::{Code, Error, Result};

/// The length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// Flags of a request.
pub(super) mod flags {
    /// A request.
    pub(in crate::net) const REQUEST: u16 = 0x1;
    /// Requests an acknowledgement.
    pub(in crate::net) const ACK: u16 = 0x4;
    /// Fail if the object exists.
    pub(in crate::net) const EXCLUSIVE: u16 = 0x200;
    /// Create the object.
    pub(in crate::net) const CREATE: u16 = 0x400;
    /// Append.
    pub(in crate::net) const APPEND: u16 = 0x800;
    /// All objects.
    pub(in crate::net) const DUMP: u16 = 0x300;
}

/// Marks a nested attribute. Some requests are refused without it, none because of it.
const NESTED: u16 = 0x8000;
/// The bits of the type field that hold the type.
const TYPE_MASK: u16 = 0x3fff;

/// Builds a message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
    what: &'static str,
    acknowledged: bool,
    tolerated: Option<Errno>,
    overflow: bool,
}

impl Message {
    /// A request of this type. `what` names it in errors.
    pub(super) fn new(what: &'static str, kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        set(&mut bytes, 4, &kind.to_ne_bytes());
        set(&mut bytes, 6, &(flags | flags::REQUEST).to_ne_bytes());
        Self { bytes, what, acknowledged: true, tolerated: None, overflow: false }
    }

    /// Marks a request that the kernel never acknowledges (the ends of a transaction).
    pub(super) fn unanswered(mut self) -> Self {
        self.acknowledged = false;
        self
    }

    /// Tolerates this error.
    pub(super) fn tolerating(mut self, error: Errno) -> Self {
        self.tolerated = Some(error);
        self
    }

    /// Appends to the fixed part.
    pub(super) fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Appends an attribute.
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let length = self.length(value.len() + 4);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Appends a number in the machine's byte order, as rtnetlink uses.
    pub(super) fn put_u32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Appends a number in network byte order, as nf_tables uses.
    pub(super) fn put_be32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Appends a text that ends with NUL.
    pub(super) fn put_text(self, kind: u16, value: &str) -> Self {
        let text: Vec<u8> = value.bytes().chain([0]).collect();
        self.put(kind, &text)
    }

    /// Appends a nested attribute, which `fill` fills.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut message = fill(self);
        let length = message.length(message.bytes.len().saturating_sub(start));
        set(&mut message.bytes, start, &length.to_ne_bytes());
        message
    }

    /// Its purpose, for errors.
    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    /// Whether the kernel acknowledges it.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// The tolerated error.
    pub(super) fn tolerated(&self) -> Option<Errno> {
        self.tolerated
    }

    /// Its length so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the finished message, with its number and these further flags.
    pub(super) fn finish(mut self, sequence: u32, more: u16, into: &mut Vec<u8>) -> Result<()> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if self.overflow || length == u32::MAX {
            let text =
                format!("{}: an attribute of the netlink message is longer than 65535 bytes", self.what);
            return Err(Error::new(Code::Internal, text));
        }
        let flags = u16_at(&self.bytes, 6).unwrap_or_default() | more;
        set(&mut self.bytes, 0, &length.to_ne_bytes());
        set(&mut self.bytes, 6, &flags.to_ne_bytes());
        set(&mut self.bytes, 8, &sequence.to_ne_bytes());
        into.append(&mut self.bytes);
        Ok(())
    }

    fn length(&mut self, length: usize) -> u16 {
        u16::try_from(length).unwrap_or_else(|_| {
            self.overflow = true;
            u16::MAX
        })
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Overwrites existing bytes.
fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

/// A received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received<'a> {
    /// Its type.
    pub(super) kind: u16,
    /// Its flags.
    pub(super) flags: u16,
    /// The number of the request that it answers.
    pub(super) sequence: u32,
    /// The bytes after the header.
    pub(super) payload: &'a [u8],
}

/// The messages of one datagram, up to the first malformed one.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = bytes.get(..length)?;
        let received = Received {
            kind: u16_at(message, 4)?,
            flags: u16_at(message, 6)?,
            sequence: u32_at(message, 8)?,
            payload: message.get(HEADER..)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(received)
    })
}

/// The attributes of a list, up to the first malformed one.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(super) fn attribute(list: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(list).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number at this offset, in the machine's byte order.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A number at this offset, in the machine's byte order.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finished(message: Message, sequence: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.finish(sequence, 0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_message_comes_back_as_it_was_put_together() {
        let message = Message::new("test", 16, flags::ACK)
            .fixed(&[1, 2, 3])
            .put_text(3, "gw0")
            .nest(18, |inner| inner.put_u32(1, 7).put(2, &[9]));
        let bytes = finished(message, 42);
        let received: Vec<_> = messages(&bytes).collect();
        let [message] = received[..] else { panic!("{received:?}") };
        assert_eq!((message.kind, message.flags, message.sequence), (16, 5, 42));
        let list: Vec<_> = attributes(&message.payload[4..]).collect();
        assert_eq!(list[0], (3, &b"gw0\0"[..]));
        let inner: Vec<_> = attributes(list[1].1).collect();
        assert_eq!(inner, [(1, &7_u32.to_ne_bytes()[..]), (2, &[9][..])]);
        assert_eq!(attribute(list[1].1, 2), Some(&[9][..]));
        assert_eq!(attribute(list[1].1, 3), None);
    }

    #[test]
    fn an_attribute_that_is_too_long_is_refused_not_mangled() {
        let long = vec![0; 65_532];
        let fits = Message::new("test", 16, 0).put(1, &long[..65_531]);
        assert!(fits.finish(1, 0, &mut Vec::new()).is_ok());
        let message = Message::new("a long one", 16, 0).put(1, &long);
        let mut bytes = vec![7];
        let error = message.finish(1, 0, &mut bytes).unwrap_err();
        assert!(error.message().contains("a long one"), "{error}");
        assert_eq!(bytes, [7]);
        let nested =
            Message::new("test", 16, 0).nest(1, |m| m.put(1, &long[..40_000]).put(2, &long[..40_000]));
        assert!(nested.finish(1, 0, &mut Vec::new()).is_err());
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        for length in [0_u32, 4, 15, 17, 4096, u32::MAX] {
            let mut bytes = finished(Message::new("test", 16, 0), 1);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(messages(&bytes).count(), 0, "{length}");
        }
        for length in [0_u16, 3, 9, u16::MAX] {
            let mut bytes = vec![0; 8];
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(attributes(&bytes).count(), 0, "{length}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_is_read_beyond_its_end(bytes: Vec<u8>) {
            let total: usize = messages(&bytes).map(|message| {
                let inner: usize = attributes(message.payload).map(|(_, value)| value.len() + 4).sum();
                assert!(inner <= message.payload.len());
                message.payload.len() + HEADER
            }).sum();
            prop_assert!(total <= bytes.len());
        }

        #[test]
        fn damage_to_a_real_message_does_no_harm(
            values in prop::collection::vec((1_u16..100, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let message = Message::new("test", 20, 0).nest(5, |m| {
                values.iter().fold(m, |m, (kind, value)| m.put(*kind, value))
            });
            let mut bytes = finished(message, 3);
            let intact: Vec<_> = messages(&bytes)
                .flat_map(|m| attributes(m.payload).collect::<Vec<_>>())
                .flat_map(|(_, list)| attributes(list).collect::<Vec<_>>())
                .map(|(kind, value)| (kind, value.to_vec()))
                .collect();
            prop_assert_eq!(intact, values);
            for (place, value) in damage {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            for message in messages(&bytes) {
                for (_, value) in attributes(message.payload) {
                    let _ = attributes(value).count();
                }
            }
        }
    }
}
