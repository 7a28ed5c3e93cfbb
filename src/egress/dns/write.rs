//! Messages, written: questions to upstream servers, answers to the sandbox.

use super::message::{Code, HEADER, Query, Question, flags};
use super::name::Name;
use super::record::{Record, kind};

/// The longest answer by UDP that is offered and sent: it fits any path (RFC 9715).
pub(crate) const UDP_SIZE: u16 = 1232;
/// What every resolver takes by UDP.
const LEAST_UDP_SIZE: u16 = 512;
/// EDNS: the option "extended error" (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
/// The bit "wants signatures" in OPT's flags.
const SIGNATURES: u8 = 0x80;

/// Why a question has no answer, or less of it than there is (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The policy doesn't let it be asked.
    Blocked = 15,
    /// Something was taken out.
    Filtered = 17,
    /// No upstream server has answered.
    Unreachable = 22,
    /// There is no upstream server, or too many questions are open.
    Other = 0,
}

/// What the sandbox is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: Code,
    /// The upstream server vouches for it, and nothing was changed.
    pub(crate) authentic: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) why: Option<Why>,
}

impl Answer {
    /// An answer without any record.
    pub(crate) fn bare(code: Code, why: Option<Why>) -> Self {
        Self { code, authentic: false, answers: Vec::new(), authority: Vec::new(), why }
    }

    /// As bytes, at most as long as the asker takes; what doesn't fit is left out as a whole, and the answer
    /// marked as truncated. `age` is taken off the times to live.
    pub(crate) fn write(&self, query: &Query, limit: usize, age: u32) -> Vec<u8> {
        let whole = self.write_with(query, age, true);
        if whole.len() <= limit { whole } else { self.write_with(query, age, false) }
    }

    fn write_with(&self, query: &Query, age: u32, records: bool) -> Vec<u8> {
        let mut out = Writer::default();
        let kept = flags::RECURSION_DESIRED | flags::CHECKING_DISABLED;
        let mut head = flags::ANSWER | flags::RECURSION_AVAILABLE | query.flags & (kept | flags::OPCODE);
        head |= u16::from(self.code.0) & flags::CODE;
        if !records {
            head |= flags::TRUNCATED;
        } else if self.authentic {
            head |= flags::AUTHENTIC;
        }
        out.words(&[query.id, head, u16::from(query.question.is_some()), 0, 0, 0]);
        if let Some(question) = &query.question {
            out.question(question);
        }
        if records {
            for (place, section) in [(6, &self.answers), (8, &self.authority)] {
                for record in section {
                    out.record(record, age);
                }
                out.set(place, u16::try_from(section.len()).unwrap_or(u16::MAX));
            }
        }
        if let Some(edns) = query.edns {
            let extended = self.why.filter(|_| records).map(|why| why as u16);
            out.opt(self.code.0 >> 4, edns.signatures, extended);
        }
        out.bytes
    }
}

/// How long an answer the asker takes by UDP.
pub(crate) fn udp_limit(query: &Query) -> usize {
    let size = query.edns.map_or(LEAST_UDP_SIZE, |edns| edns.size.clamp(LEAST_UDP_SIZE, UDP_SIZE));
    size.into()
}

/// A question to an upstream server, with nothing in it but what is asked.
pub(crate) fn question(
    id: u16,
    question: &Question,
    signatures: bool,
    unchecked: bool,
    edns: bool,
) -> Vec<u8> {
    let mut out = Writer::default();
    let unchecked = if unchecked { flags::CHECKING_DISABLED } else { 0 };
    // The bit for "authentic" in a question asks for it in the answer (RFC 6840, 5.7).
    let head = flags::RECURSION_DESIRED | flags::AUTHENTIC | unchecked;
    out.words(&[id, head, 1, 0, 0, 0]);
    out.question(question);
    if edns {
        out.opt(0, signatures, None);
    }
    out.bytes
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    /// Names that were written as a whole, and where.
    names: Vec<(Name, u16)>,
}

impl Writer {
    fn words(&mut self, words: &[u16]) {
        self.bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    }

    fn set(&mut self, place: usize, count: u16) {
        if let Some(target) = self.bytes.get_mut(place..place + 2) {
            target.copy_from_slice(&count.to_be_bytes());
        }
    }

    /// Remembers the name that is about to be written.
    fn note(&mut self, name: Name) {
        // So far reach a pointer's 14 bits; and looking through more names would cost more than it saves.
        if let Some(place) = u16::try_from(self.bytes.len()).ok().filter(|place| *place < 0x4000)
            && self.names.len() < 16
        {
            self.names.push((name, place));
        }
    }

    fn question(&mut self, question: &Question) {
        self.note(question.name.lower());
        self.bytes.extend_from_slice(question.name.wire());
        self.words(&[question.kind, question.class]);
    }

    fn record(&mut self, record: &Record, age: u32) {
        let name = record.name.lower();
        if let Some((_, place)) = self.names.iter().find(|(known, _)| *known == name) {
            self.words(&[0xc000 | *place]);
        } else {
            self.note(name);
            self.bytes.extend_from_slice(record.name.wire());
        }
        self.words(&[record.kind, record.class]);
        self.bytes.extend_from_slice(&record.ttl.saturating_sub(age).to_be_bytes());
        self.words(&[u16::try_from(record.data.len()).unwrap_or(u16::MAX)]);
        if let (kind::CNAME, Some(alias)) = (record.kind, record.alias()) {
            self.note(alias.lower());
        }
        self.bytes.extend_from_slice(&record.data);
    }

    fn opt(&mut self, code: u8, signatures: bool, extended: Option<u16>) {
        self.bytes.push(0);
        self.words(&[kind::OPT, UDP_SIZE]);
        self.bytes.extend_from_slice(&[code, 0, if signatures { SIGNATURES } else { 0 }, 0]);
        match extended {
            Some(why) => self.words(&[6, EXTENDED_ERROR, 2, why]),
            None => self.words(&[0]),
        }
        self.set(HEADER - 2, 1);
    }
}
