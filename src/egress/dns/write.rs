//! Writes messages: questions to upstream servers, answers to the sandbox. Pure.

use std::convert::Infallible;
use std::ops::Range;

use domain::base::iana::{OptRcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, PushError};
use domain::base::opt::ExtendedError;
use domain::base::rdata::UnknownRecordData;
use domain::base::record::ComposeRecord;
use domain::base::wire::Composer;
use domain::base::{self, MessageBuilder, ToName, Ttl};
use domain::dep::octseq::builder::{OctetsBuilder, Truncate};
use domain::rdata::{AllRecordData, Cname};

use super::message::{Query, Question};
use super::record::Record;

/// The longest answer by UDP that is offered and sent: it fits any path (RFC 9715).
pub(crate) const UDP_SIZE: u16 = 1232;
/// What every resolver accepts by UDP without EDNS (RFC 1035, 4.2.1).
const MIN_UDP_SIZE: u16 = 512;
/// How many names are kept to be pointed at: to look through more would cost more than it saves.
const MAX_NAMES: usize = 16;
/// How far a pointer's 14 bits reach.
const MAX_POINTER: usize = 0x4000;

/// Why a question has no answer, or less of it than there is (RFC 8914).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The policy doesn't let it be asked.
    Blocked = 15,
    /// Something was removed.
    Filtered = 17,
    /// No upstream server has answered.
    Unreachable = 22,
    /// There is no upstream server, or too many questions are open.
    Other = 0,
}

/// An answer to the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: OptRcode,
    /// The upstream server has validated it (the AD bit), and nothing was removed.
    pub(crate) authentic: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    pub(crate) why: Option<Why>,
}

impl Answer {
    /// An answer without any record.
    pub(crate) fn bare(code: OptRcode, why: Option<Why>) -> Self {
        Self { code, authentic: false, answers: Vec::new(), authority: Vec::new(), why }
    }

    /// Writes it in at most `limit` bytes. If it doesn't fit, all records are left out and it is marked as truncated. `age`
    /// is subtracted from the times to live.
    pub(crate) fn write(&self, query: &Query, limit: usize, age: u32) -> Vec<u8> {
        let whole = self.build(query, Some((limit, age)));
        // Without records it is shorter than any limit.
        whole.or_else(|_| self.build(query, None)).unwrap_or_default()
    }

    /// Writes it with its records, within a limit, or without them and marked as truncated.
    fn build(&self, query: &Query, records: Option<(usize, u32)>) -> Result<Vec<u8>, PushError> {
        let mut message = builder();
        // The crate refuses a message that is exactly as long as its limit.
        message.set_push_limit(records.map_or(usize::MAX, |(limit, _)| limit.saturating_add(1)));
        let header = message.header_mut();
        header.set_id(query.header.id());
        header.set_opcode(query.header.opcode());
        header.set_qr(true);
        header.set_ra(true);
        header.set_rd(query.header.rd());
        header.set_cd(query.header.cd());
        header.set_ad(self.authentic && records.is_some());
        header.set_tc(records.is_none());
        header.set_rcode(self.code.rcode());
        let mut message = message.question();
        if let Some(question) = &query.question {
            message.push(base::Question::new(question.name.as_base(), question.kind, question.class))?;
        }
        let mut message = message.answer();
        if let Some((_, age)) = records {
            for record in &self.answers {
                message.push(composed(record, age)?)?;
            }
        }
        let mut message = message.authority();
        if let Some((_, age)) = records {
            for record in &self.authority {
                message.push(composed(record, age)?)?;
            }
        }
        let mut message = message.additional();
        if let Some(edns) = query.edns {
            let why = self.why.filter(|_| records.is_some());
            opt(&mut message, self.code, edns.dnssec_ok, why)?;
        }
        Ok(message.finish().bytes)
    }
}

/// The longest answer that a client accepts by UDP.
pub(crate) fn udp_limit(query: &Query) -> usize {
    let size = query.edns.map_or(MIN_UDP_SIZE, |edns| edns.size.clamp(MIN_UDP_SIZE, UDP_SIZE));
    size.into()
}

/// Writes a question to an upstream server, with nothing of the client's but what is asked.
pub(crate) fn question(
    id: u16,
    question: &Question,
    dnssec_ok: bool,
    checking_disabled: bool,
    edns: bool,
) -> Vec<u8> {
    let mut message = builder();
    let header = message.header_mut();
    header.set_id(id);
    header.set_rd(true);
    // The bit for "authentic" in a question asks for it in the answer (RFC 6840, 5.7).
    header.set_ad(true);
    header.set_cd(checking_disabled);
    let mut message = message.question();
    // Neither can fail: nothing limits the message's length.
    let asked = message.push(base::Question::new(question.name.as_base(), question.kind, question.class));
    let mut message = message.additional();
    let added = if edns { opt(&mut message, OptRcode::NOERROR, dnssec_ok, None) } else { Ok(()) };
    debug_assert!(asked.is_ok() && added.is_ok(), "{asked:?}, {added:?}");
    message.finish().bytes
}

fn builder() -> MessageBuilder<Target> {
    let Ok(builder) = MessageBuilder::from_target(Target::default());
    builder
}

/// A record as it is written. An alias is written as a name, so that others can point at it.
fn composed(record: &Record, age: u32) -> Result<impl ComposeRecord, PushError> {
    let alias = base::Name::from_octets(&*record.data).ok().filter(|_| record.kind == Rtype::CNAME);
    let data = match alias {
        Some(alias) => AllRecordData::Cname(Cname::new(alias)),
        None => UnknownRecordData::from_octets(record.kind, &*record.data)
            .map(AllRecordData::Unknown)
            .map_err(|_| PushError::ShortBuf)?,
    };
    let ttl = Ttl::from_secs(record.ttl.saturating_sub(age));
    Ok(base::Record::new(record.name.as_base(), record.class, ttl, data))
}

/// Adds OPT.
fn opt(
    message: &mut AdditionalBuilder<Target>,
    code: OptRcode,
    dnssec_ok: bool,
    why: Option<Why>,
) -> Result<(), PushError> {
    message.opt(|opt| {
        opt.set_udp_payload_size(UDP_SIZE);
        opt.set_rcode(code);
        opt.set_dnssec_ok(dnssec_ok);
        why.map_or(Ok(()), |why| opt.push(&ExtendedError::<&[u8]>::from(why as u16)))
    })
}

/// A message that grows. The crate's own targets compress by looking for the end of a name among those written, at a cost
/// that the author of the names controls. Here a name becomes a pointer only if it was written before as a whole, which
/// suffices for an answer's records.
#[derive(Debug, Default)]
struct Target {
    bytes: Vec<u8>,
    /// The places of names that were written as a whole.
    names: Vec<Range<usize>>,
}

impl OctetsBuilder for Target {
    type AppendError = Infallible;

    fn append_slice(&mut self, slice: &[u8]) -> Result<(), Infallible> {
        self.bytes.extend_from_slice(slice);
        Ok(())
    }
}

impl Truncate for Target {
    fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
        self.names.retain(|name| name.end <= length);
    }
}

impl AsRef<[u8]> for Target {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Target {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Composer for Target {
    fn append_compressed_name<N: ToName + ?Sized>(&mut self, name: &N) -> Result<(), Infallible> {
        let begin = self.bytes.len();
        if let Some(wire) = name.as_flat_slice() {
            let is_same = |at: &&Range<usize>| {
                self.bytes.get((*at).clone()).is_some_and(|known| known.eq_ignore_ascii_case(wire))
            };
            if let Some(known) = self.names.iter().find(is_same) {
                let pointer = u16::try_from(known.start).unwrap_or_default() | 0xc000;
                return self.append_slice(&pointer.to_be_bytes());
            }
        }
        name.compose(self)?;
        if begin < MAX_POINTER && self.names.len() < MAX_NAMES {
            self.names.push(begin..self.bytes.len());
        }
        Ok(())
    }

    fn can_compress(&self) -> bool {
        true
    }
}
