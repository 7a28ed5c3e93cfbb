//! Resource records: taken out of a message so that they stand by themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Class, Rtype};
use domain::base::rdata::ParseAnyRecordData;
use domain::base::wire::ParseError;
use domain::base::{ParsedName, ParsedRecord, RecordData, ToName};
use domain::dep::octseq::Parser;

use super::name::Name;

/// The types that give the addresses of a name.
pub(crate) const ADDRESSES: [Rtype; 4] = [Rtype::A, Rtype::AAAA, Rtype::SVCB, Rtype::HTTPS];

/// Whether that type is of questions only, such as AXFR and ANY, or of what no question is about.
pub(crate) fn is_meta(kind: Rtype) -> bool {
    matches!(kind.to_int(), 0 | 128..=255) || kind == Rtype::OPT
}

/// A record whose names are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) kind: Rtype,
    pub(crate) class: Class,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

impl Record {
    /// Copies it out of a message.
    pub(super) fn of_parsed(record: &ParsedRecord<'_, [u8]>) -> Option<Self> {
        let Whole { kind, data } = record.to_any_record::<Whole>().ok()?.into_data();
        // A time to live with its highest bit set is none (RFC 2181, 8).
        let ttl = record.ttl().as_secs();
        let ttl = if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl };
        Some(Self { name: Name::of_parsed(&record.owner()), kind, class: record.class(), ttl, data })
    }

    /// Its address, if it is an address record.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.kind {
            Rtype::A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(&*self.data).ok()?).into()),
            Rtype::AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(&*self.data).ok()?).into()),
            _ => None,
        }
    }

    /// The name that its own is an alias of.
    pub(crate) fn alias(&self) -> Option<Name> {
        if self.kind != Rtype::CNAME {
            return None;
        }
        Name::read(&self.data, 0).map(|(name, _)| name)
    }

    /// How long an absence may be cached, if it is the record that says so (RFC 2308, 5).
    pub(crate) fn negative_ttl(&self) -> Option<u32> {
        if self.kind != Rtype::SOA {
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
///
/// The crate has types for the data of some of these. They refuse what has trailing bytes, and with it the whole
/// answer; here only names are made whole, and the rest of the data is left to the client.
fn layout(kind: Rtype) -> &'static [Part] {
    use Part::{Bytes, Name, Text};
    match kind.to_int() {
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

/// A record's data with whole names.
struct Whole {
    kind: Rtype,
    data: Vec<u8>,
}

impl RecordData for Whole {
    fn rtype(&self) -> Rtype {
        self.kind
    }
}

impl<'a> ParseAnyRecordData<'a, [u8]> for Whole {
    fn parse_any_rdata(kind: Rtype, parser: &mut Parser<'a, [u8]>) -> Result<Self, ParseError> {
        let mut data = Vec::with_capacity(parser.remaining());
        for part in layout(kind) {
            let count = match part {
                Part::Name => {
                    let Ok(()) = ParsedName::parse_ref(parser)?.compose(&mut data);
                    continue;
                }
                Part::Bytes(count) => *count,
                Part::Text => {
                    let length = parser.parse_u8()?;
                    data.push(length);
                    length.into()
                }
            };
            data.extend_from_slice(parser.parse_octets(count)?);
        }
        data.extend_from_slice(parser.parse_octets(parser.remaining())?);
        Ok(Self { kind, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads the record at `at`, and says where the next begins.
    fn read(message: &[u8], at: usize) -> Option<(Record, usize)> {
        let mut parser = Parser::from_ref(message);
        parser.advance(at).ok()?;
        let record = ParsedRecord::parse(&mut parser).ok()?;
        Some((Record::of_parsed(&record)?, parser.pos()))
    }

    #[test]
    fn names_in_the_data_become_whole() {
        let mut message = b"\x07example\x00".to_vec();
        // An MX at 9: example. 0x0f IN 60, 10 mail.example.
        message
            .extend_from_slice(b"\xc0\x00\x00\x0f\x00\x01\x00\x00\x00\x3c\x00\x09\x00\x0a\x04mail\xc0\x00");
        let (record, end) = read(&message, 9).unwrap();
        assert_eq!(end, message.len());
        assert_eq!(record.data, b"\x00\x0a\x04mail\x07example\x00");
        assert_eq!((record.ttl, record.class), (60, Class::IN));
        // The same with a length that ends within the name.
        message[20] = 8;
        assert!(read(&message, 9).is_none());
    }

    #[test]
    fn a_time_to_live_that_looks_negative_is_none() {
        let message = b"\x00\x00\x01\x00\x01\x80\x00\x00\x00\x00\x04\x01\x02\x03\x04";
        let (record, _) = read(message, 0).unwrap();
        assert_eq!((record.ttl, record.address()), (0, Some(Ipv4Addr::new(1, 2, 3, 4).into())));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(message: Vec<u8>, at in 0usize..32) {
            if let Some((record, end)) = read(&message, at) {
                prop_assert!(end <= message.len());
                let _ = (record.address(), record.alias(), record.negative_ttl());
            }
        }
    }
}
