//! Netlink messages: put together and taken apart (netlink(7), linux/netlink.h).
//!
//! A message is a header, a fixed part that depends on its type, and attributes, each with its length and
//! type first and padded to four bytes. Attributes may hold attributes.

/// The length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// Flags of a request.
pub(super) mod flags {
    /// A request.
    pub(in crate::net) const REQUEST: u16 = 0x1;
    /// It is to be answered, if only by "done".
    pub(in crate::net) const ACK: u16 = 0x4;
    /// Fail if the object exists.
    pub(in crate::net) const EXCLUSIVE: u16 = 0x200;
    /// Make the object.
    pub(in crate::net) const CREATE: u16 = 0x400;
    /// Add at the end.
    pub(in crate::net) const APPEND: u16 = 0x800;
}

/// An attribute holds attributes (required by strict kernels for some, harmless for the others).
const NESTED: u16 = 0x8000;

/// A message in the making.
#[derive(Clone, Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
    /// What it does, for the error if it fails.
    pub(super) what: &'static str,
}

impl Message {
    /// A request of this type. `what` names it in errors.
    pub(super) fn new(what: &'static str, kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        set(&mut bytes, 4, &kind.to_ne_bytes());
        set(&mut bytes, 6, &(flags | flags::REQUEST).to_ne_bytes());
        Self { bytes, what }
    }

    /// The fixed part, or more of it.
    pub(super) fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute.
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// An attribute that is a number in the machine's order (rtnetlink's).
    pub(super) fn put_u32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// An attribute that is a number in network order (nf_tables').
    pub(super) fn put_be32(self, kind: u16, value: u32) -> Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// An attribute that is a text, ended by NUL.
    pub(super) fn put_text(self, kind: u16, value: &str) -> Self {
        let text: Vec<u8> = value.bytes().chain([0]).collect();
        self.put(kind, &text)
    }

    /// An attribute that holds what `fill` puts into it.
    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        let mut message = fill(self);
        // Longer than 64 KiB can't be; callers keep their lists far below.
        let length = u16::try_from(message.bytes.len() - start).unwrap_or(u16::MAX);
        set(&mut message.bytes, start, &length.to_ne_bytes());
        message
    }

    /// The finished message with its number.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        set(&mut self.bytes, 0, &length.to_ne_bytes());
        set(&mut self.bytes, 8, &sequence.to_ne_bytes());
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// A message as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received<'a> {
    /// Its type.
    pub(super) kind: u16,
    /// Its flags.
    pub(super) flags: u16,
    /// The number of the request that it answers.
    pub(super) sequence: u32,
    /// What follows the header.
    pub(super) payload: &'a [u8],
}

/// The messages of one datagram. Ends at the first that isn't one.
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

/// The attributes in a list of them. Ends at the first that isn't one.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number at this place.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_comes_back_as_it_was_put_together() {
        let message = Message::new("test", 16, flags::ACK)
            .fixed(&[1, 2, 3])
            .put_text(3, "gw0")
            .nest(18, |inner| inner.put_u32(1, 7).put(2, &[9]));
        let bytes = message.finish(42);
        let received: Vec<_> = messages(&bytes).collect();
        let [message] = received[..] else { panic!("{received:?}") };
        assert_eq!((message.kind, message.flags, message.sequence), (16, 5, 42));
        let list: Vec<_> = attributes(&message.payload[4..]).collect();
        assert_eq!(list[0], (3, &b"gw0\0"[..]));
        let inner: Vec<_> = attributes(list[1].1).collect();
        assert_eq!(inner, [(1, &7_u32.to_ne_bytes()[..]), (2, &[9][..])]);
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_is_read_beyond_its_end(bytes: Vec<u8>) {
            for message in messages(&bytes) {
                let _ = attributes(message.payload).count();
            }
            let _ = attributes(&bytes).count();
        }
    }
}
