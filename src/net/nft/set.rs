//! Sets of addresses and ports: made, filled in batches, read back, deleted.
//!
//! A set of ranges is an ordered list of edges for the kernel: each range is the address that it begins at
//! and, marked as an end, the one after its last. A range that reaches the last address has no end.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::expression::NFTA_DATA_VALUE;
use super::message::{NFPROTO_INET, TABLE, change, family, kind};
use crate::error::{Code, Error, Result};
use crate::net::message::{Message, attribute, attributes, flags};
use crate::net::netlink::Netlink;

/// G's own IPv4 addresses.
pub(super) const GATEWAY4: &str = "gateway4";
/// The ports of host services on the gateway's address.
pub(super) const SERVICES: &str = "services";
/// The addresses that the sandbox's resolver answered for the policy's domains a short while ago.
pub(super) const RESOLVED4: &str = "resolved4";
pub(super) const RESOLVED6: &str = "resolved6";

// enum nf_tables_msg_types
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_DELSET: u16 = 11;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFT_MSG_DELSETELEM: u16 = 14;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
const NFT_SET_INTERVAL: u32 = 4;

/// What nft(8) calls a set's type. Only nft reads these numbers, to print a set; the kernel wants the length.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyType {
    Ipv4 = 7,
    Ipv6 = 8,
    Port = 13,
}

impl KeyType {
    fn length(self) -> u32 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::Port => 2,
        }
    }
}

/// The longest message: the list of elements is an attribute, whose length has 16 bits.
const MAX_MESSAGE_LENGTH: usize = 60_000;

/// An address that ranges are made of.
pub(crate) trait Address: Copy + Ord + std::fmt::Debug {
    /// As it is in a packet.
    fn bytes(self) -> Vec<u8>;
    /// From what is in a packet.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
    /// The next higher one.
    fn next(self) -> Option<Self>;
    /// The next lower one.
    fn previous(self) -> Option<Self>;
    /// The highest address.
    const MAX: Self;
}

impl Address for Ipv4Addr {
    const MAX: Self = Self::BROADCAST;

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::from(<[u8; 4]>::try_from(bytes).ok()?))
    }

    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }

    fn previous(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }
}

impl Address for Ipv6Addr {
    const MAX: Self = Self::from_bits(u128::MAX);

    fn bytes(self) -> Vec<u8> {
        self.octets().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self::from(<[u8; 16]>::try_from(bytes).ok()?))
    }

    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }

    fn previous(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }
}

/// Sorted, and what overlaps or touches made one: the kernel refuses overlaps.
pub(super) fn merged<A: Address>(ranges: &[RangeInclusive<A>]) -> Vec<RangeInclusive<A>> {
    let mut sorted: Vec<(A, A)> =
        ranges.iter().filter(|range| !range.is_empty()).map(|range| (*range.start(), *range.end())).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(A, A)> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match merged.last_mut() {
            Some((_, end)) if end.next().is_none_or(|next| first <= next) => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    merged.into_iter().map(|(first, last)| first..=last).collect()
}

/// Makes a set. `id` tells it from others that are made in the same transaction.
pub(super) fn new(name: &str, id: u32, key: KeyType, ranges: bool) -> Message {
    let set = change("a set", NFT_MSG_NEWSET, flags::CREATE | flags::EXCLUSIVE)
        .put_text(NFTA_SET_TABLE, TABLE)
        .put_text(NFTA_SET_NAME, name)
        .put_be32(NFTA_SET_FLAGS, if ranges { NFT_SET_INTERVAL } else { 0 })
        .put_be32(NFTA_SET_KEY_TYPE, key as u32)
        .put_be32(NFTA_SET_KEY_LEN, key.length())
        .put_be32(NFTA_SET_ID, id);
    match key {
        // NFTNL_UDATA_SET_KEYBYTEORDER, 4 bytes: BYTEORDER_BIG_ENDIAN. For nft, which prints ports by it.
        KeyType::Port => set.put(NFTA_SET_USERDATA, &[0, 4, 2, 0, 0, 0]),
        _ => set,
    }
}

/// Deletes a set that no rule names any more.
pub(super) fn delete(name: &str) -> Message {
    change("to delete a set", NFT_MSG_DELSET, 0).put_text(NFTA_SET_TABLE, TABLE).put_text(NFTA_SET_NAME, name)
}

/// Puts single values into a set.
pub(super) fn add_values(name: &str, values: impl IntoIterator<Item = Vec<u8>>) -> Vec<Message> {
    add(name, values.into_iter().map(|value| vec![(value, false)]))
}

/// Takes single values, all of which must be there, out of a set.
pub(super) fn remove_values(name: &str, values: impl IntoIterator<Item = Vec<u8>>) -> Vec<Message> {
    let delete = || change("to delete elements of a set", NFT_MSG_DELSETELEM, 0);
    with_elements(delete, name, values.into_iter().map(|value| vec![(value, false)]))
}

/// Puts ranges, which are sorted and apart from each other, into a set of ranges.
pub(super) fn add_ranges<A: Address>(name: &str, ranges: &[RangeInclusive<A>]) -> Vec<Message> {
    add(
        name,
        ranges.iter().map(|range| {
            let end = range.end().next().map(|end| (end.bytes(), true));
            std::iter::once((range.start().bytes(), false)).chain(end).collect()
        }),
    )
}

fn add(name: &str, groups: impl Iterator<Item = Vec<(Vec<u8>, bool)>>) -> Vec<Message> {
    with_elements(|| change("elements of a set", NFT_MSG_NEWSETELEM, flags::CREATE), name, groups)
}

/// Messages of bounded length. What belongs together (the edges of a range) stays in one message.
fn with_elements(
    begin: impl Fn() -> Message,
    name: &str,
    groups: impl Iterator<Item = Vec<(Vec<u8>, bool)>>,
) -> Vec<Message> {
    let mut groups = groups.peekable();
    let mut messages = Vec::new();
    while groups.peek().is_some() {
        let message = begin()
            .put_text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
            .put_text(NFTA_SET_ELEM_LIST_SET, name)
            .nest(NFTA_SET_ELEM_LIST_ELEMENTS, |mut list| {
                while list.len() < MAX_MESSAGE_LENGTH
                    && let Some(group) = groups.next()
                {
                    list = group.into_iter().fold(list, |list, (value, end)| {
                        list.nest(NFTA_LIST_ELEM, |item| element(item, &value, end))
                    });
                }
                list
            });
        messages.push(message);
    }
    messages
}

fn element(item: Message, value: &[u8], end: bool) -> Message {
    let item = item.nest(NFTA_SET_ELEM_KEY, |key| key.put(NFTA_DATA_VALUE, value));
    if end { item.put_be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END) } else { item }
}

/// What the kernel has in a set: the values, each with whether it is the end of a range.
fn read(netlink: &mut Netlink, name: &str) -> Result<Vec<(Vec<u8>, bool)>> {
    let question = Message::new("to list a set", kind(NFT_MSG_GETSETELEM), flags::DUMP)
        .fixed(&family(NFPROTO_INET, 0))
        .put_text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .put_text(NFTA_SET_ELEM_LIST_SET, name);
    let mut values = Vec::new();
    netlink.query(question, |answer| {
        let list = answer.payload.get(4..).unwrap_or_default();
        let elements = attribute(list, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
        values.extend(attributes(elements).filter_map(|(_, element)| {
            let value = attribute(attribute(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
            let flags = attribute(element, NFTA_SET_ELEM_FLAGS).and_then(|flags| flags.try_into().ok());
            let end = u32::from_be_bytes(flags.unwrap_or_default()) & NFT_SET_ELEM_INTERVAL_END != 0;
            Some((value.to_vec(), end))
        }));
    })?;
    Ok(values)
}

/// The ranges that the kernel has in a set.
pub(super) fn read_ranges<A: Address>(netlink: &mut Netlink, name: &str) -> Result<Vec<RangeInclusive<A>>> {
    let mut edges = Vec::new();
    for (value, end) in read(netlink, name)? {
        let address = A::from_bytes(&value).ok_or_else(|| odd(name, "an element of another length"))?;
        // An end before a beginning at the same address: that is where one range touches the next.
        edges.push((address, !end));
    }
    edges.sort_unstable();
    ranges(&edges).ok_or_else(|| odd(name, "a range without beginning or end"))
}

/// The ports that the kernel has in a set, in order.
pub(super) fn read_ports(netlink: &mut Netlink, name: &str) -> Result<Vec<u16>> {
    let port = |(value, _): (Vec<u8>, bool)| Some(u16::from_be_bytes(value.try_into().ok()?));
    let mut ports: Vec<u16> = read(netlink, name)?
        .into_iter()
        .map(port)
        .collect::<Option<_>>()
        .ok_or_else(|| odd(name, "an element of another length"))?;
    ports.sort_unstable();
    Ok(ports)
}

/// The ranges between sorted edges, of which `true` marks a beginning.
fn ranges<A: Address>(edges: &[(A, bool)]) -> Option<Vec<RangeInclusive<A>>> {
    let mut ranges = Vec::new();
    let mut open: Option<A> = None;
    for (address, begins) in edges {
        match (open.take(), begins) {
            (None, true) => open = Some(*address),
            (Some(first), false) => ranges.push(first..=address.previous()?),
            // The kernel marks what lies before the first range as a range's end (nft does when it prints).
            (None, false) if ranges.is_empty() && address.previous().is_none() => {}
            _ => return None,
        }
    }
    ranges.extend(open.map(|first| first..=A::MAX));
    Some(ranges)
}

fn odd(name: &str, what: &str) -> Error {
    Error::new(Code::Internal, format!("the kernel lists the set {name} with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(first: u32, last: u32) -> RangeInclusive<Ipv4Addr> {
        Ipv4Addr::from_bits(first)..=Ipv4Addr::from_bits(last)
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        let merge = merged(&[range(10, 20), range(5, 9), range(30, 40), range(35, 36), range(22, 29)]);
        assert_eq!(merge, [range(5, 20), range(22, 40)]);
        assert_eq!(merged(&[range(7, u32::MAX), range(u32::MAX, u32::MAX)]), [range(7, u32::MAX)]);
        assert_eq!(merged(&[range(0, u32::MAX), range(3, 4)]), [range(0, u32::MAX)]);
        assert_eq!(merged(&[range(4, 3)]), []);
    }

    #[test]
    fn messages_stay_within_what_an_attribute_can_hold() {
        let ranges: Vec<_> = (0..10_000_u128)
            .map(|index| Ipv6Addr::from_bits(index * 4)..=Ipv6Addr::from_bits(index * 4 + 1))
            .collect();
        let messages = add_ranges("allow6_1", &ranges);
        assert!(messages.len() > 1);
        for message in messages {
            message.finish(1, 0, &mut Vec::new()).unwrap();
        }
        assert!(add_ranges::<Ipv4Addr>("allow4_1", &[]).is_empty());
    }

    fn bits() -> impl Strategy<Value = u32> {
        prop_oneof![any::<u32>(), 0..4_u32, (u32::MAX - 3)..=u32::MAX, 1000..1010_u32]
    }

    proptest! {
        #[test]
        fn what_is_merged_covers_the_same_and_comes_back_from_its_edges(
            pairs in prop::collection::vec((bits(), bits()), 0..40),
            probes in prop::collection::vec(bits(), 0..20),
        ) {
            let given: Vec<_> = pairs.iter().map(|(a, b)| range(*a.min(b), *a.max(b))).collect();
            let merge = merged(&given);
            for pair in merge.windows(2) {
                prop_assert!(pair[0].end().next().unwrap() < *pair[1].start());
            }
            let near = pairs.iter().flat_map(|(a, b)| {
                [*a, *b, a.saturating_sub(1), b.saturating_sub(1), a.saturating_add(1), b.saturating_add(1)]
            });
            for probe in probes.iter().copied().chain(near).map(Ipv4Addr::from_bits) {
                let (before, after) = (
                    given.iter().any(|range| range.contains(&probe)),
                    merge.iter().any(|range| range.contains(&probe)),
                );
                prop_assert_eq!(before, after, "{}", probe);
            }
            let mut edges: Vec<_> = merge
                .iter()
                .flat_map(|range| {
                    let end = range.end().next().map(|end| (end, false));
                    std::iter::once((*range.start(), true)).chain(end)
                })
                .collect();
            edges.sort_unstable();
            prop_assert_eq!(ranges(&edges), Some(merge));
        }
    }
}
