//! Filters an upstream server's answer before the sandbox gets it. Pure.
//!
//! - Answers must belong to the question: be of its name, or of a name that it is an alias of.
//! - Protected addresses are removed (DNS rebinding), from address records as from the hints of HTTPS and SVCB records
//!   (RFC 9460).
//! - `ech` is removed from HTTPS and SVCB records: with it a client would encrypt the server's name, by which a domain is
//!   recognised.
//! - Of the authority section what proves an absence stays, and for clients that check signatures what that needs.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Class, OptRcode, Rtype};

use super::message::{Question, Response};
use super::name::Name;
use super::record::Record;
use super::write::{Answer, Why};

/// Parameters of HTTPS and SVCB records (RFC 9460, 14.3.2).
const MANDATORY: u16 = 0;
const IPV4_HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6_HINT: u16 = 6;
/// The most aliases that are followed; resolvers follow fewer.
const MAX_ALIASES: usize = 16;
/// The longest that an answer is cached, in seconds.
const MAX_TTL: u32 = 24 * 3600;
/// The longest that an absence is cached (RFC 2308, 5).
const MAX_NEGATIVE_TTL: u32 = 3600;

/// A filtered answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filtered {
    pub(crate) answer: Answer,
    /// The addresses in it.
    pub(crate) addresses: Vec<IpAddr>,
    /// The addresses that were removed.
    pub(crate) removed: Vec<IpAddr>,
    /// How many seconds it may be cached; `None` if it may not.
    pub(crate) ttl: Option<u32>,
}

/// Filters an answer to `question`. `keep` says whether the sandbox may know an address.
pub(crate) fn filter(
    response: &Response,
    question: &Question,
    dnssec_ok: bool,
    mut keep: impl FnMut(IpAddr) -> bool,
) -> Filtered {
    let chain = chain(&response.answers, &question.name);
    let (mut addresses, mut removed) = (Vec::new(), Vec::new());
    // One record may hold thousands of addresses, and the sandbox may have made it: all of this is linear in their number.
    let mut seen = HashSet::new();
    let mut sift = |address: IpAddr| {
        let kept = keep(address);
        if seen.insert(address) {
            if kept { &mut addresses } else { &mut removed }.push(address);
        }
        kept
    };
    let mut changed = false;
    let mut answers = Vec::new();
    for record in &response.answers {
        let belongs = record.class == Class::IN
            && (chain.contains(&record.name.lower()) || record.kind == Rtype::DNAME)
            && (dnssec_ok || record.kind != Rtype::RRSIG || question.kind == Rtype::RRSIG);
        let kept = if belongs { pass(record, &mut sift) } else { None };
        changed |= kept.as_ref() != Some(record);
        answers.extend(kept.map(|record| Record { name: record.name.lower(), ..record }));
    }
    let code = response.code();
    let empty = !answers.iter().any(|record| record.kind == question.kind);
    let wanted = |record: &&Record| match record.kind {
        Rtype::SOA => empty,
        Rtype::RRSIG | Rtype::NSEC | Rtype::NSEC3 => dnssec_ok,
        _ => false,
    };
    let authority: Vec<Record> = response.authority.iter().filter(wanted).cloned().collect();
    let good = code == OptRcode::NOERROR || code == OptRcode::NXDOMAIN;
    let positive = response.answers.iter().map(|record| record.ttl).min();
    let is_negative = !response.answers.iter().any(|record| record.kind == question.kind);
    let negative = response.authority.iter().find_map(Record::negative_ttl);
    let ttl = match (is_negative, positive, negative) {
        (false, Some(ttl), _) => Some(ttl.min(MAX_TTL)),
        (true, aliases, Some(ttl)) => Some(ttl.min(MAX_NEGATIVE_TTL).min(aliases.unwrap_or(u32::MAX))),
        _ => None,
    };
    let why = (!removed.is_empty()).then_some(Why::Filtered);
    let authentic = response.header.ad() && !changed;
    let answer = Answer { code, authentic, answers, authority, why };
    Filtered { answer, addresses, removed, ttl: ttl.filter(|_| good) }
}

impl Answer {
    /// Keeps the records of the question's type, under the question's name: no aliases, servers of a zone or signatures.
    pub(crate) fn keep_addresses(&mut self, question: &Question) {
        self.answers.retain(|record| record.kind == question.kind);
        for record in &mut self.answers {
            record.name = question.name.lower();
        }
        self.authority.clear();
        self.authentic = false;
    }
}

/// The question's name and the names that it is an alias of. The order of the records doesn't matter.
fn chain(answers: &[Record], name: &Name) -> HashSet<Name> {
    let mut aliases: HashMap<Name, Vec<Name>> = HashMap::new();
    for record in answers.iter().filter(|record| record.class == Class::IN) {
        if let Some(alias) = record.alias() {
            aliases.entry(record.name.lower()).or_default().push(alias.lower());
        }
    }
    let mut chain = HashSet::from([name.lower()]);
    let mut last = vec![name.lower()];
    for _ in 0..MAX_ALIASES {
        last = last.iter().filter_map(|name| aliases.remove(name)).flatten().collect();
        if last.is_empty() {
            break;
        }
        chain.extend(last.iter().cloned());
    }
    chain
}

/// The record as it may be passed on, if at all.
fn pass(record: &Record, sift: &mut impl FnMut(IpAddr) -> bool) -> Option<Record> {
    match record.kind {
        // A malformed address is removed.
        Rtype::A | Rtype::AAAA => record.address().filter(|address| sift(*address)).map(|_| record.clone()),
        // Has addresses in an obsolete form (RFC 6563).
        Rtype::A6 => None,
        Rtype::SVCB | Rtype::HTTPS => Some(Record { data: service(&record.data, sift)?, ..record.clone() }),
        _ => Some(record.clone()),
    }
}

/// The data of a service record without protected hints and `ech`; `None` if it is unusable then, or malformed.
fn service(data: &[u8], sift: &mut impl FnMut(IpAddr) -> bool) -> Option<Vec<u8>> {
    let (_, mut at) = Name::read(data, 2)?;
    let mut kept = data.get(..at)?.to_vec();
    let mut present = HashSet::new();
    let mut mandatory = Vec::new();
    while at < data.len() {
        let [k0, k1, l0, l1] = *data.get(at..)?.first_chunk::<4>()?;
        let key = u16::from_be_bytes([k0, k1]);
        let begin = at + 4;
        at = begin + usize::from(u16::from_be_bytes([l0, l1]));
        let value = data.get(begin..at)?;
        let value = match key {
            ECH => continue,
            IPV4_HINT => hints::<4, _>(value, sift, |bytes| Ipv4Addr::from(bytes).into())?,
            IPV6_HINT => hints::<16, _>(value, sift, |bytes| Ipv6Addr::from(bytes).into())?,
            _ => value.to_vec(),
        };
        if value.is_empty() && matches!(key, IPV4_HINT | IPV6_HINT) {
            continue;
        }
        if key == MANDATORY {
            let keys = value.chunks_exact(2);
            mandatory.extend(keys.map(|key| {
                u16::from_be_bytes([key.first().copied().unwrap_or(0), key.get(1).copied().unwrap_or(0)])
            }));
        }
        present.insert(key);
        kept.extend_from_slice(&key.to_be_bytes());
        kept.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
        kept.extend_from_slice(&value);
    }
    // A record whose mandatory parameter was removed is unusable.
    mandatory.iter().all(|key| present.contains(key)).then_some(kept)
}

fn hints<const LENGTH: usize, S: FnMut(IpAddr) -> bool>(
    value: &[u8],
    sift: &mut S,
    address: impl Fn([u8; LENGTH]) -> IpAddr,
) -> Option<Vec<u8>> {
    let (chunks, rest) = value.as_chunks::<LENGTH>();
    if !rest.is_empty() {
        return None;
    }
    Some(chunks.iter().filter(|bytes| sift(address(**bytes))).flatten().copied().collect())
}
