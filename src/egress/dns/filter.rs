//! What of an upstream server's answer the sandbox is told.
//!
//! - Of the answers, those that belong to the question: its name, and what that is an alias of.
//! - No address at which something protected may be (DNS rebinding), neither as an address record nor as a hint
//!   in an HTTPS or SVCB record (RFC 9460).
//! - No `ech` in HTTPS and SVCB records: with it a client would encrypt the server's name, by which a domain is
//!   recognised.
//! - Beside the answers, what says that there are none, and for those who check signatures what that needs.

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
/// More aliases than anybody follows.
const MAX_ALIASES: usize = 16;
/// The longest that an answer is remembered.
const MAX_TTL: u32 = 24 * 3600;
/// The same for an absence (RFC 2308, 5).
const MAX_NEGATIVE_TTL: u32 = 3600;

/// An answer, and what is to be known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filtered {
    pub(crate) answer: Answer,
    /// The addresses in it.
    pub(crate) addresses: Vec<IpAddr>,
    /// Those that were taken out.
    pub(crate) removed: Vec<IpAddr>,
    /// How many seconds it is good for; `None` if it isn't to be remembered.
    pub(crate) ttl: Option<u32>,
}

/// Filters an answer to `question`. `keep` says of an address whether the sandbox may be told.
pub(crate) fn filter(
    response: &Response,
    question: &Question,
    dnssec_ok: bool,
    mut keep: impl FnMut(IpAddr) -> bool,
) -> Filtered {
    let chain = chain(&response.answers, &question.name);
    let (mut addresses, mut removed) = (Vec::new(), Vec::new());
    // One record may hold thousands, and its author may be the sandbox's own: nothing here takes longer than they are many.
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
    /// Keeps of an answer what was asked for, and says it of the question's name: neither aliases, nor servers of a zone,
    /// nor signatures.
    pub(crate) fn keep_addresses(&mut self, question: &Question) {
        self.answers.retain(|record| record.kind == question.kind);
        for record in &mut self.answers {
            record.name = question.name.lower();
        }
        self.authority.clear();
        self.authentic = false;
    }
}

/// The names that the question's name stands for, itself included. The order of the records doesn't matter.
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
        // An address must be one.
        Rtype::A | Rtype::AAAA => record.address().filter(|address| sift(*address)).map(|_| record.clone()),
        // Has addresses in a form that nobody has used for twenty years.
        Rtype::A6 => None,
        Rtype::SVCB | Rtype::HTTPS => Some(Record { data: service(&record.data, sift)?, ..record.clone() }),
        _ => Some(record.clone()),
    }
}

/// The data of a service record without what it mustn't say; `None` if nothing good is left, or it is malformed.
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
    // Whoever must know what was taken out couldn't use the rest.
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
