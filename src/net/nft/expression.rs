//! The expressions that rules are made of, as the kernel takes them (linux/netfilter/nf_tables.h).

use std::borrow::Cow;

use super::message::{NFPROTO_IPV4, NFPROTO_IPV6};
use crate::net::message::{Message, attribute, attributes};
use crate::net::refusals;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
pub(super) const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_TPROXY_FAMILY: u16 = 1;
const NFTA_TPROXY_REG_ADDR: u16 = 2;
const NFTA_TPROXY_REG_PORT: u16 = 3;
const NFTA_LIMIT_RATE: u16 = 1;
const NFTA_LIMIT_UNIT: u16 = 2;
const NFTA_LIMIT_BURST: u16 = 3;
const NFTA_LOG_GROUP: u16 = 1;
const NFTA_LOG_SNAPLEN: u16 = 3;
const NFTA_LOG_QTHRESHOLD: u16 = 4;
const NFTA_COUNTER_PACKETS: u16 = 2;
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;

/// enum nft_registers. One is enough for values, but for tproxy, which takes an address and a port.
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
const NFT_REG_2: u32 = 2;
/// enum nft_cmp_ops
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
/// enum nft_reject_types and enum nft_reject_inet_code
const NFT_REJECT_TCP_RST: u32 = 1;
const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
const NFT_REJECT_ICMPX_PORT_UNREACH: u8 = 1;
/// enum nft_verdicts, and NF_DROP and NF_ACCEPT of linux/netfilter.h
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;

/// The expression that counts.
const COUNTER: &str = "counter";

/// What is known of a packet beside its bytes (enum nft_meta_keys).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Meta {
    Mark = 3,
    InputName = 6,
    Version = 15,
    Protocol = 16,
}

/// Which header (enum nft_payload_bases).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Header {
    Network = 1,
    Transport = 2,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// It goes on, to routing.
    Accept,
    /// It is dropped.
    Drop,
    /// Another chain is asked, then the next rule.
    Jump(&'static str),
    /// Another chain is asked, and what follows here isn't.
    Goto(&'static str),
}

/// One step of a rule. A comparison that fails, or bytes that the packet doesn't have, end the rule.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    /// Takes a fact of the packet.
    Load(Meta),
    /// Takes bytes of the packet: from a header, at an offset, so many.
    Payload(Header, u32, u32),
    /// Keeps the bits of a mask.
    Mask(Vec<u8>),
    /// Goes on if what was taken is this.
    Equal(Vec<u8>),
    /// Goes on if it is not this.
    NotEqual(Vec<u8>),
    /// Goes on if it is in the set of this name.
    In(Cow<'static, str>),
    /// Takes a constant.
    Constant(Vec<u8>),
    /// Takes a port, beside the address that was taken before.
    Port(u16),
    /// Delivers to the socket that listens at that address and port, whatever the packet's destination.
    Deliver { ipv6: bool },
    /// Gives the packet the mark that was taken.
    Mark,
    /// Counts the packet.
    Count,
    /// Goes on for so many packets a second, and as many at once.
    AtMost(u32),
    /// Tells the socket that listens to a group (see [`crate::net::refusals`]).
    Tell,
    /// Ends the rule.
    Decide(Verdict),
    /// Drops the packet and tells the sender by a TCP reset.
    Reset,
    /// Drops the packet and tells the sender by ICMP or ICMPv6: port unreachable.
    Unreachable,
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Load(_) | Self::Mark => "meta",
            Self::Payload(..) => "payload",
            Self::Mask(_) => "bitwise",
            Self::Equal(_) | Self::NotEqual(_) => "cmp",
            Self::In(_) => "lookup",
            Self::Constant(_) | Self::Port(_) | Self::Decide(_) => "immediate",
            Self::Deliver { .. } => "tproxy",
            Self::Count => COUNTER,
            Self::AtMost(_) => "limit",
            Self::Tell => "log",
            Self::Reset | Self::Unreachable => "reject",
        }
    }

    /// Puts it into an element of a rule's list.
    pub(super) fn put(&self, element: Message) -> Message {
        element.put_text(NFTA_EXPR_NAME, self.name()).nest(NFTA_EXPR_DATA, |data| self.data(data))
    }

    fn data(&self, data: Message) -> Message {
        match self {
            Self::Load(key) => data.put_be32(NFTA_META_DREG, NFT_REG_1).put_be32(NFTA_META_KEY, *key as u32),
            Self::Mark => data.put_be32(NFTA_META_KEY, Meta::Mark as u32).put_be32(NFTA_META_SREG, NFT_REG_1),
            Self::Payload(header, offset, length) => data
                .put_be32(NFTA_PAYLOAD_DREG, NFT_REG_1)
                .put_be32(NFTA_PAYLOAD_BASE, *header as u32)
                .put_be32(NFTA_PAYLOAD_OFFSET, *offset)
                .put_be32(NFTA_PAYLOAD_LEN, *length),
            Self::Mask(mask) => data
                .put_be32(NFTA_BITWISE_SREG, NFT_REG_1)
                .put_be32(NFTA_BITWISE_DREG, NFT_REG_1)
                .put_be32(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(0))
                .nest(NFTA_BITWISE_MASK, |value| value.put(NFTA_DATA_VALUE, mask))
                .nest(NFTA_BITWISE_XOR, |value| value.put(NFTA_DATA_VALUE, &vec![0; mask.len()])),
            Self::Equal(value) => compare(data, NFT_CMP_EQ, value),
            Self::NotEqual(value) => compare(data, NFT_CMP_NEQ, value),
            Self::In(set) => data.put_text(NFTA_LOOKUP_SET, set).put_be32(NFTA_LOOKUP_SREG, NFT_REG_1),
            Self::Constant(value) => constant(data, NFT_REG_1, value),
            Self::Port(port) => constant(data, NFT_REG_2, &port.to_be_bytes()),
            Self::Deliver { ipv6 } => {
                let version = if *ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
                data.put_be32(NFTA_TPROXY_FAMILY, u32::from(version))
                    .put_be32(NFTA_TPROXY_REG_ADDR, NFT_REG_1)
                    .put_be32(NFTA_TPROXY_REG_PORT, NFT_REG_2)
            }
            Self::Count => data,
            Self::AtMost(rate) => data
                .put(NFTA_LIMIT_RATE, &u64::from(*rate).to_be_bytes())
                // The unit is a second.
                .put(NFTA_LIMIT_UNIT, &1_u64.to_be_bytes())
                .put_be32(NFTA_LIMIT_BURST, *rate),
            Self::Tell => data
                .put(NFTA_LOG_GROUP, &refusals::GROUP.to_be_bytes())
                .put_be32(NFTA_LOG_SNAPLEN, refusals::SNAP)
                .put(NFTA_LOG_QTHRESHOLD, &refusals::TOGETHER.to_be_bytes()),
            Self::Decide(verdict) => data
                .put_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
                .nest(NFTA_IMMEDIATE_DATA, |value| value.nest(NFTA_DATA_VERDICT, |data| verdict.put(data))),
            Self::Reset => data.put_be32(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST),
            Self::Unreachable => data
                .put_be32(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH)
                .put(NFTA_REJECT_ICMP_CODE, &[NFT_REJECT_ICMPX_PORT_UNREACH]),
        }
    }
}

/// How many packets a counter in a rule's expressions has counted, if there is one.
pub(super) fn counted(expressions: &[u8]) -> Option<u64> {
    attributes(expressions).find_map(|(_, element)| {
        let name = attribute(element, NFTA_EXPR_NAME)?;
        if name.strip_suffix(b"\0").unwrap_or(name) != COUNTER.as_bytes() {
            return None;
        }
        let packets = attribute(attribute(element, NFTA_EXPR_DATA)?, NFTA_COUNTER_PACKETS)?;
        Some(u64::from_be_bytes(packets.try_into().ok()?))
    })
}

impl Verdict {
    fn put(self, data: Message) -> Message {
        let (code, chain) = match self {
            Self::Accept => (NF_ACCEPT, None),
            Self::Drop => (NF_DROP, None),
            Self::Jump(chain) => (NFT_JUMP, Some(chain)),
            Self::Goto(chain) => (NFT_GOTO, Some(chain)),
        };
        let data = data.put_be32(NFTA_VERDICT_CODE, code.cast_unsigned());
        match chain {
            Some(chain) => data.put_text(NFTA_VERDICT_CHAIN, chain),
            None => data,
        }
    }
}

fn compare(data: Message, operation: u32, value: &[u8]) -> Message {
    data.put_be32(NFTA_CMP_SREG, NFT_REG_1)
        .put_be32(NFTA_CMP_OP, operation)
        .nest(NFTA_CMP_DATA, |data| data.put(NFTA_DATA_VALUE, value))
}

fn constant(data: Message, register: u32, value: &[u8]) -> Message {
    data.put_be32(NFTA_IMMEDIATE_DREG, register)
        .nest(NFTA_IMMEDIATE_DATA, |data| data.put(NFTA_DATA_VALUE, value))
}
