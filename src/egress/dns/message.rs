//! Questions of the sandbox and answers of upstream servers, read (RFC 1035, 4.1; RFC 6891). Both are strangers'.

use super::name::Name;
use super::record::{Record, kind};

pub(crate) const HEADER: usize = 12;
/// As many records as a message has room for: each takes eleven bytes at least.
const MOST_RECORDS: u16 = 5957;

/// Bits of the header's second word.
pub(crate) mod flags {
    pub(crate) const ANSWER: u16 = 0x8000;
    pub(crate) const OPCODE: u16 = 0x7800;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const RECURSION_AVAILABLE: u16 = 0x0080;
    pub(crate) const AUTHENTIC: u16 = 0x0020;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
    pub(crate) const CODE: u16 = 0x000f;
}

/// What became of a question (RCODEs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u8);

impl Code {
    pub(crate) const NO_ERROR: Self = Self(0);
    pub(crate) const FORMAT: Self = Self(1);
    pub(crate) const SERVER_FAILURE: Self = Self(2);
    pub(crate) const NO_SUCH_NAME: Self = Self(3);
    pub(crate) const NOT_IMPLEMENTED: Self = Self(4);
    pub(crate) const REFUSED: Self = Self(5);
    /// Needs EDNS: more than four bits.
    pub(crate) const BAD_VERSION: Self = Self(16);
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: u16,
    pub(crate) class: u16,
}

impl Question {
    fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let (name, at) = Name::read(message, at)?;
        let [k0, k1, c0, c1] = *message.get(at..)?.first_chunk::<4>()?;
        let (kind, class) = (u16::from_be_bytes([k0, k1]), u16::from_be_bytes([c0, c1]));
        Some((Self { name, kind, class }, at + 4))
    }
}

/// What the asker said by EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The longest answer that it takes by UDP.
    pub(crate) size: u16,
    /// It wants signatures.
    pub(crate) signatures: bool,
}

/// A question of the sandbox's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) question: Option<Question>,
    pub(crate) edns: Option<Edns>,
}

/// What is to be done with bytes that the sandbox sent as a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is one.
    Ask(Query, Question),
    /// It isn't, and that is the answer.
    Answer(Query, Code),
    /// Nothing: it is no question, and an answer to an answer would go round and round.
    Nothing,
}

impl Query {
    /// Whether the asker checks signatures itself, and wants to see what doesn't pass.
    pub(crate) fn is_unchecked(&self) -> bool {
        self.flags & flags::CHECKING_DISABLED != 0
    }

    /// Reads what the sandbox sent.
    pub(crate) fn read(message: &[u8]) -> Asked {
        let Some(header) = Header::read(message) else { return Asked::Nothing };
        if header.flags & flags::ANSWER != 0 {
            return Asked::Nothing;
        }
        let mut query = Self { id: header.id, flags: header.flags, question: None, edns: None };
        if header.flags & flags::OPCODE != 0 {
            return Asked::Answer(query, Code::NOT_IMPLEMENTED);
        }
        let [questions, answers, authority, additional] = header.counts;
        let asked = Question::read(message, HEADER).filter(|_| (questions, answers, authority) == (1, 0, 0));
        let Some((question, mut at)) = asked else { return Asked::Answer(query, Code::FORMAT) };
        query.question = Some(question.clone());
        // Beside OPT there may be a signature (TSIG), which nobody here can check.
        if additional > 2 {
            return Asked::Answer(query, Code::FORMAT);
        }
        for _ in 0..additional {
            let Some((record, next)) = Record::read(message, at) else {
                return Asked::Answer(query, Code::FORMAT);
            };
            at = next;
            if record.kind != kind::OPT {
                continue;
            }
            let [_, version, high, _] = raw_ttl(message, &record, next);
            if query.edns.is_some() || !record.name.text().is_empty() {
                return Asked::Answer(query, Code::FORMAT);
            }
            query.edns = Some(Edns { size: record.class, signatures: high & 0x80 != 0 });
            if version != 0 {
                return Asked::Answer(query, Code::BAD_VERSION);
            }
        }
        Asked::Ask(query, question)
    }
}

/// OPT's time to live is none: its four bytes are a code, a version, and flags.
fn raw_ttl(message: &[u8], record: &Record, next: usize) -> [u8; 4] {
    let at = next.checked_sub(record.data.len() + 6);
    at.and_then(|at| message.get(at..)?.first_chunk::<4>().copied()).unwrap_or_default()
}

/// An answer of an upstream server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) question: Question,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
}

impl Response {
    /// Reads it; `None` if it is malformed in any part, or no answer to one question. Of a truncated one, the
    /// records don't matter.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let header = Header::read(message)?;
        if header.flags & (flags::ANSWER | flags::OPCODE) != flags::ANSWER {
            return None;
        }
        let [1, answers, authority, _] = header.counts else { return None };
        let (question, mut at) = Question::read(message, HEADER)?;
        let mut response =
            Self { id: header.id, flags: header.flags, question, answers: Vec::new(), authority: Vec::new() };
        if response.is_truncated() {
            return Some(response);
        }
        for (count, section) in [(answers, &mut response.answers), (authority, &mut response.authority)] {
            if count > MOST_RECORDS {
                return None;
            }
            for _ in 0..count {
                let (record, next) = Record::read(message, at)?;
                at = next;
                section.push(record);
            }
        }
        Some(response)
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.flags & flags::TRUNCATED != 0
    }

    pub(crate) fn code(&self) -> Code {
        Code(u8::try_from(self.flags & flags::CODE).unwrap_or(0))
    }
}

struct Header {
    id: u16,
    flags: u16,
    counts: [u16; 4],
}

impl Header {
    fn read(message: &[u8]) -> Option<Self> {
        let mut words = message.get(..HEADER)?.chunks_exact(2).map(|word| match word {
            [high, low] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        });
        let mut next = || words.next().unwrap_or(0);
        let (id, flags) = (next(), next());
        Some(Self { id, flags, counts: [next(), next(), next(), next()] })
    }
}
