//! Resource records: taken out of a message so that they stand by themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::name::Name;

/// Types (IANA's "Resource Record (RR) TYPEs").
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const A6: u16 = 38;
    pub(crate) const DNAME: u16 = 39;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const RRSIG: u16 = 46;
    pub(crate) const NSEC: u16 = 47;
    pub(crate) const NSEC3: u16 = 50;
    pub(crate) const SVCB: u16 = 64;
    pub(crate) const HTTPS: u16 = 65;
    /// Where a name's servers are.
    pub(crate) const ADDRESSES: [u16; 4] = [A, AAAA, SVCB, HTTPS];
    /// From here to 255 are questions that are no types: transfers, everything.
    pub(crate) const FIRST_META: u16 = 128;
    pub(crate) const LAST_META: u16 = 255;
}
/// The Internet.
pub(crate) const IN: u16 = 1;

/// A record whose names are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

impl Record {
    /// Reads the record at `at`, and says where the next begins.
    pub(crate) fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let (name, at) = Name::read(message, at)?;
        let [k0, k1, c0, c1, t0, t1, t2, t3, l0, l1] = *message.get(at..)?.first_chunk::<10>()?;
        let (begin, kind) = (at + 10, u16::from_be_bytes([k0, k1]));
        let end = begin + usize::from(u16::from_be_bytes([l0, l1]));
        message.get(begin..end)?;
        let data = data(message, kind, begin, end)?;
        // A time to live with its highest bit set is none (RFC 2181, 8).
        let ttl = u32::from_be_bytes([t0, t1, t2, t3]);
        let ttl = if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl };
        Some((Self { name, kind, class: u16::from_be_bytes([c0, c1]), ttl, data }, end))
    }

    /// The address that it gives its name.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.kind {
            kind::A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&*self.data).ok()?).into()),
            kind::AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&*self.data).ok()?).into()),
            _ => None,
        }
    }

    /// The name that it says its name stands for.
    pub(crate) fn alias(&self) -> Option<Name> {
        if self.kind != kind::CNAME {
            return None;
        }
        Name::read(&self.data, 0).map(|(name, _)| name)
    }

    /// How long its absence may be remembered, if it says so (RFC 2308, 5).
    pub(crate) fn negative_ttl(&self) -> Option<u32> {
        if self.kind != kind::SOA {
            return None;
        }
        let minimum = self.data.last_chunk::<4>()?;
        Some(self.ttl.min(u32::from_be_bytes(*minimum)))
    }
}

/// What the data of a record are made of.
#[derive(Clone, Copy, Debug)]
enum Part {
    Name,
    Bytes(usize),
    /// With its length before it.
    Text,
}

/// The types in whose data names may be compressed (RFC 1035; RFC 3597, 4). All others are taken as they are.
fn layout(kind: u16) -> &'static [Part] {
    use Part::{Bytes, Name, Text};
    match kind {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, NSAP-PTR, NXT, DNAME, NSEC
        2..=5 | 7..=9 | 12 | 23 | 30 | 39 | 47 => &[Name],
        // SOA, MINFO, RP
        6 | 14 | 17 => &[Name, Name],
        // MX, AFSDB, RT, KX
        15 | 18 | 21 | 36 => &[Bytes(2), Name],
        // SIG, RRSIG
        24 | 46 => &[Bytes(18), Name],
        // PX
        26 => &[Bytes(2), Name, Name],
        // SRV
        33 => &[Bytes(6), Name],
        // NAPTR
        35 => &[Bytes(4), Text, Text, Text, Name],
        _ => &[],
    }
}

fn data(message: &[u8], kind: u16, begin: usize, end: usize) -> Option<Vec<u8>> {
    let mut at = begin;
    let mut data = Vec::with_capacity(end - begin);
    for part in layout(kind) {
        let next = match part {
            Part::Name => {
                let (name, next) = Name::read(message, at)?;
                data.extend_from_slice(name.wire());
                at = next;
                continue;
            }
            Part::Bytes(count) => at + count,
            Part::Text => at + 1 + usize::from(*message.get(at)?),
        };
        data.extend_from_slice(message.get(at..next)?);
        at = next;
    }
    // Names must not have led beyond the end.
    data.extend_from_slice(message.get(at..end)?);
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_in_the_data_become_whole() {
        let mut message = b"\x07example\x00".to_vec();
        // An MX at 9: example. 0x0f IN 60, 10 mail.example.
        message
            .extend_from_slice(b"\xc0\x00\x00\x0f\x00\x01\x00\x00\x00\x3c\x00\x09\x00\x0a\x04mail\xc0\x00");
        let (record, end) = Record::read(&message, 9).unwrap();
        assert_eq!(end, message.len());
        assert_eq!(record.data, b"\x00\x0a\x04mail\x07example\x00");
        assert_eq!((record.ttl, record.class), (60, IN));
        // The same with a length that ends within the name.
        message[20] = 8;
        assert!(Record::read(&message, 9).is_none());
    }

    #[test]
    fn a_time_to_live_that_looks_negative_is_none() {
        let message = b"\x00\x00\x01\x00\x01\x80\x00\x00\x00\x00\x04\x01\x02\x03\x04";
        let (record, _) = Record::read(message, 0).unwrap();
        assert_eq!((record.ttl, record.address()), (0, Some(Ipv4Addr::new(1, 2, 3, 4).into())));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(message: Vec<u8>, at in 0usize..32) {
            if let Some((record, end)) = Record::read(&message, at) {
                prop_assert!(end <= message.len());
                let _ = (record.address(), record.alias(), record.negative_ttl());
            }
        }
    }
}
