//! The expressions that rules are made of, as the kernel takes them (linux/netfilter/nf_tables.h).

use std::borrow::Cow;

use super::message::{NFPROTO_IPV4, NFPROTO_IPV6};
use crate::net::message::{Message, attribute, attributes};
use crate::net::nflog;

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

/// The name of the counter expression.
const COUNTER: &str = "counter";

/// Metadata of a packet (enum nft_meta_keys).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum MetaKey {
    Mark = 3,
    Iifname = 6,
    Nfproto = 15,
    L4proto = 16,
}

/// Which header (enum nft_payload_bases).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Header {
    Network = 1,
    Transport = 2,
}

/// A verdict of the rule.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// The packet goes on, to routing.
    Accept,
    /// The packet is dropped.
    Drop,
    /// Evaluates another chain, then the next rule.
    Jump(&'static str),
    /// Evaluates another chain and does not return.
    Goto(&'static str),
}

/// How the sender of a rejected packet is notified (enum nft_reject_types).
#[derive(Clone, Copy, Debug)]
pub(super) enum Reject {
    /// By a TCP reset.
    TcpReset,
    /// By ICMP or ICMPv6: port unreachable.
    IcmpxPortUnreachable,
}

/// One expression of a rule, named as in nft(8). Values are loaded into register 1. A comparison that fails, or bytes
/// that the packet doesn't have, end the rule.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    /// Loads metadata of the packet.
    Meta(MetaKey),
    /// Loads bytes of the packet: header, offset, length.
    Payload(Header, u32, u32),
    /// Keeps the bits of a mask.
    Bitwise(Vec<u8>),
    /// Goes on if the register has this value.
    CmpEq(Vec<u8>),
    /// Goes on if the register has another value.
    CmpNeq(Vec<u8>),
    /// Goes on if the value is in the set of this name.
    Lookup(Cow<'static, str>),
    /// Loads a constant.
    Immediate(Vec<u8>),
    /// Loads a port into register 2, beside an address in register 1.
    ImmediatePort(u16),
    /// Delivers to the socket that listens at the address and port in the registers, whatever the packet's destination.
    Tproxy { ipv6: bool },
    /// Sets the packet's mark to the register's value.
    SetMark,
    /// Counts the packet.
    Counter,
    /// Goes on for this many packets a second, and as many in a burst.
    Limit(u32),
    /// Copies the packet to [`crate::net::nflog`].
    Log,
    /// Ends the rule.
    Verdict(Verdict),
    /// Drops the packet and notifies its sender.
    Reject(Reject),
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Meta(_) | Self::SetMark => "meta",
            Self::Payload(..) => "payload",
            Self::Bitwise(_) => "bitwise",
            Self::CmpEq(_) | Self::CmpNeq(_) => "cmp",
            Self::Lookup(_) => "lookup",
            Self::Immediate(_) | Self::ImmediatePort(_) | Self::Verdict(_) => "immediate",
            Self::Tproxy { .. } => "tproxy",
            Self::Counter => COUNTER,
            Self::Limit(_) => "limit",
            Self::Log => "log",
            Self::Reject(_) => "reject",
        }
    }

    /// Puts it into an element of a rule's list.
    pub(super) fn put(&self, element: Message) -> Message {
        element.put_text(NFTA_EXPR_NAME, self.name()).nest(NFTA_EXPR_DATA, |data| self.data(data))
    }

    fn data(&self, data: Message) -> Message {
        match self {
            Self::Meta(key) => data.put_be32(NFTA_META_DREG, NFT_REG_1).put_be32(NFTA_META_KEY, *key as u32),
            Self::SetMark => {
                data.put_be32(NFTA_META_KEY, MetaKey::Mark as u32).put_be32(NFTA_META_SREG, NFT_REG_1)
            }
            Self::Payload(header, offset, length) => data
                .put_be32(NFTA_PAYLOAD_DREG, NFT_REG_1)
                .put_be32(NFTA_PAYLOAD_BASE, *header as u32)
                .put_be32(NFTA_PAYLOAD_OFFSET, *offset)
                .put_be32(NFTA_PAYLOAD_LEN, *length),
            Self::Bitwise(mask) => data
                .put_be32(NFTA_BITWISE_SREG, NFT_REG_1)
                .put_be32(NFTA_BITWISE_DREG, NFT_REG_1)
                .put_be32(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(0))
                .nest(NFTA_BITWISE_MASK, |value| value.put(NFTA_DATA_VALUE, mask))
                .nest(NFTA_BITWISE_XOR, |value| value.put(NFTA_DATA_VALUE, &vec![0; mask.len()])),
            Self::CmpEq(value) => cmp(data, NFT_CMP_EQ, value),
            Self::CmpNeq(value) => cmp(data, NFT_CMP_NEQ, value),
            Self::Lookup(set) => data.put_text(NFTA_LOOKUP_SET, set).put_be32(NFTA_LOOKUP_SREG, NFT_REG_1),
            Self::Immediate(value) => immediate(data, NFT_REG_1, value),
            Self::ImmediatePort(port) => immediate(data, NFT_REG_2, &port.to_be_bytes()),
            Self::Tproxy { ipv6 } => {
                let version = if *ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
                data.put_be32(NFTA_TPROXY_FAMILY, u32::from(version))
                    .put_be32(NFTA_TPROXY_REG_ADDR, NFT_REG_1)
                    .put_be32(NFTA_TPROXY_REG_PORT, NFT_REG_2)
            }
            Self::Counter => data,
            Self::Limit(rate) => data
                .put(NFTA_LIMIT_RATE, &u64::from(*rate).to_be_bytes())
                // The unit is a second.
                .put(NFTA_LIMIT_UNIT, &1_u64.to_be_bytes())
                .put_be32(NFTA_LIMIT_BURST, *rate),
            Self::Log => data
                .put(NFTA_LOG_GROUP, &nflog::GROUP.to_be_bytes())
                .put_be32(NFTA_LOG_SNAPLEN, nflog::SNAPLEN)
                .put(NFTA_LOG_QTHRESHOLD, &nflog::QTHRESHOLD.to_be_bytes()),
            Self::Verdict(verdict) => data
                .put_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
                .nest(NFTA_IMMEDIATE_DATA, |value| value.nest(NFTA_DATA_VERDICT, |data| verdict.put(data))),
            Self::Reject(Reject::TcpReset) => data.put_be32(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST),
            Self::Reject(Reject::IcmpxPortUnreachable) => data
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

fn cmp(data: Message, operation: u32, value: &[u8]) -> Message {
    data.put_be32(NFTA_CMP_SREG, NFT_REG_1)
        .put_be32(NFTA_CMP_OP, operation)
        .nest(NFTA_CMP_DATA, |data| data.put(NFTA_DATA_VALUE, value))
}

fn immediate(data: Message, register: u32, value: &[u8]) -> Message {
    data.put_be32(NFTA_IMMEDIATE_DREG, register)
        .nest(NFTA_IMMEDIATE_DATA, |data| data.put(NFTA_DATA_VALUE, value))
}
