//! Reads questions of the sandbox and answers of upstream servers (RFC 1035, 4.1; RFC 6891). Neither is trusted. Pure.

use domain::base::iana::{Class, Opcode, OptRcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::{Header, Message, ParsedName, ParsedRecord};

use super::name::Name;
use super::record::Record;

/// The longest question that is read.
pub(super) const MAX_QUESTION_BYTES: usize = 4096;
/// The most records of an answer, and the most bytes that they may have once their names are whole. What has more is
/// refused: reading it, which isn't interrupted, would hold up everything else, and remembering it would take too much.
const MAX_RECORDS: u16 = 4096;
const MAX_RECORD_BYTES: usize = 128 * 1024;

/// The question of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: Rtype,
    pub(crate) class: Class,
}

impl Question {
    fn of_parsed(question: &domain::base::Question<ParsedName<&[u8]>>) -> Self {
        let (kind, class) = (question.qtype(), question.qclass());
        Self { name: Name::of_parsed(question.qname()), kind, class }
    }
}

/// The options of a question (EDNS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The longest answer that the client accepts by UDP.
    pub(crate) size: u16,
    /// The client wants DNSSEC records (the DO bit).
    pub(crate) dnssec_ok: bool,
}

/// A question of the sandbox's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) header: Header,
    pub(crate) question: Option<Question>,
    pub(crate) edns: Option<Edns>,
}

/// What to do with a message that the sandbox sent to its resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A question to look up.
    Ask(Query, Question),
    /// No question that can be looked up; the code to answer with.
    Answer(Query, OptRcode),
    /// Drop it: it isn't a question, and answering answers could loop.
    Nothing,
}

impl Query {
    /// Whether the client validates DNSSEC itself, and wants answers that fail validation too (the CD bit).
    pub(crate) fn checking_disabled(&self) -> bool {
        self.header.cd()
    }

    /// Reads what the sandbox sent.
    pub(crate) fn read(bytes: &[u8]) -> Asked {
        let Ok(message) = Message::from_slice(bytes) else { return Asked::Nothing };
        let header = message.header();
        if header.qr() {
            return Asked::Nothing;
        }
        let mut query = Self { header, question: None, edns: None };
        if header.opcode() != Opcode::QUERY {
            return Asked::Answer(query, OptRcode::NOTIMP);
        }
        let Some((question, additional)) = question_alone(message) else {
            return Asked::Answer(query, OptRcode::FORMERR);
        };
        query.question = Some(question.clone());
        // Beside OPT there may be a signature (TSIG), which isn't checked here.
        if message.header_counts().arcount() > 2 {
            return Asked::Answer(query, OptRcode::FORMERR);
        }
        for record in additional {
            let Ok(record) = record else { return Asked::Answer(query, OptRcode::FORMERR) };
            if record.rtype() != Rtype::OPT {
                if Record::of_parsed(&record).is_none() {
                    return Asked::Answer(query, OptRcode::FORMERR);
                }
                continue;
            }
            // OPT's class is a size, and its time to live a code, a version, and flags.
            let [_, version, high, _] = record.ttl().as_secs().to_be_bytes();
            if query.edns.is_some() || !record.owner().is_root() {
                return Asked::Answer(query, OptRcode::FORMERR);
            }
            query.edns = Some(Edns { size: record.class().to_int(), dnssec_ok: high & 0x80 != 0 });
            if version != 0 {
                return Asked::Answer(query, OptRcode::BADVERS);
            }
        }
        Asked::Ask(query, question)
    }
}

/// The only question of a message that has nothing else, and what is additional to it.
fn question_alone(message: &Message<[u8]>) -> Option<(Question, RecordSection<'_, [u8]>)> {
    let counts = message.header_counts();
    if (counts.qdcount(), counts.ancount(), counts.nscount()) != (1, 0, 0) {
        return None;
    }
    let mut questions = message.question();
    let question = Question::of_parsed(&questions.next()?.ok()?);
    let authority = questions.answer().ok()?.next_section().ok()??;
    Some((question, authority.next_section().ok()??))
}

/// An answer of an upstream server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) header: Header,
    pub(crate) question: Question,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
}

impl Response {
    /// Reads the question of an answer, without its records; `None` if it is no answer to one question.
    pub(crate) fn question(bytes: &[u8]) -> Option<Question> {
        Some(answered(Message::from_slice(bytes).ok()?)?.0)
    }

    /// Reads it; `None` if it is malformed in any part, too large, or no answer to one question. Of a truncated one,
    /// the records don't matter.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_slice(bytes).ok()?;
        let (question, mut section) = answered(message)?;
        let mut response =
            Self { header: message.header(), question, answers: Vec::new(), authority: Vec::new() };
        if response.is_truncated() {
            return Some(response);
        }
        let counts = message.header_counts();
        if counts.ancount().saturating_add(counts.nscount()) > MAX_RECORDS {
            return None;
        }
        let mut room = MAX_RECORD_BYTES;
        for record in &mut section {
            response.answers.push(taken(&record.ok()?, &mut room)?);
        }
        for record in section.next_section().ok()?? {
            response.authority.push(taken(&record.ok()?, &mut room)?);
        }
        Some(response)
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.header.tc()
    }

    pub(crate) fn code(&self) -> OptRcode {
        OptRcode::from_rcode(self.header.rcode())
    }
}

/// The only question of an answer, and the section that follows it.
fn answered(message: &Message<[u8]>) -> Option<(Question, RecordSection<'_, [u8]>)> {
    let header = message.header();
    if !header.qr() || header.opcode() != Opcode::QUERY || message.header_counts().qdcount() != 1 {
        return None;
    }
    let mut questions = message.question();
    let question = Question::of_parsed(&questions.next()?.ok()?);
    Some((question, questions.answer().ok()?))
}

/// A record that there is still room for.
fn taken(record: &ParsedRecord<'_, [u8]>, room: &mut usize) -> Option<Record> {
    let record = Record::of_parsed(record)?;
    // Only a few of the addresses are kept.
    let own = if matches!(record.kind, Rtype::A | Rtype::AAAA) { 0 } else { size_of::<Record>() };
    *room = room.checked_sub(record.name.wire().len() + record.data.len() + own)?;
    Some(record)
}
