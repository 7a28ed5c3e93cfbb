//! The expressions that rules are made of, as the kernel takes them.

use super::super::message::Message;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;

/// Where values are put and taken from: one register is enough but for tproxy, which takes two.
const REGISTER: u32 = 1;
/// (NFT_REG_2.)
const BESIDE: u32 = 2;
/// NFT_REG_VERDICT
const VERDICT: u32 = 0;

/// What is known of a packet beside its bytes (enum nft_meta_keys).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Meta {
    Mark = 3,
    InputName = 6,
    Family = 15,
    Protocol = 16,
}

/// Which header (enum nft_payload_bases).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Header {
    Network = 1,
    Transport = 2,
}

/// How a packet is refused (enum nft_reject_types).
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// A TCP reset.
    Reset,
    /// ICMP or ICMPv6: port unreachable.
    Unreachable,
}

/// One step of a rule. A comparison that fails ends the rule.
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
    /// Goes on if it is in the set.
    In(&'static str),
    /// Takes a constant.
    Constant(Vec<u8>),
    /// Takes a port, beside the address that was taken before.
    Port(u16),
    /// Delivers to the socket that listens at that address and port.
    Deliver { ipv6: bool },
    /// Gives the packet the mark that was taken.
    Mark,
    /// Lets it on.
    Accept,
    /// Drops it.
    Drop,
    /// Drops it and tells the sender.
    Reject(Refusal),
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Load(_) | Self::Mark => "meta",
            Self::Payload(..) => "payload",
            Self::Mask(_) => "bitwise",
            Self::Equal(_) | Self::NotEqual(_) => "cmp",
            Self::In(_) => "lookup",
            Self::Constant(_) | Self::Port(_) | Self::Accept | Self::Drop => "immediate",
            Self::Deliver { .. } => "tproxy",
            Self::Reject(_) => "reject",
        }
    }

    /// Puts it into a list element.
    pub(super) fn put(&self, message: Message) -> Message {
        message.put_text(NFTA_EXPR_NAME, self.name()).nest(NFTA_EXPR_DATA, |data| self.data(data))
    }

    /// Its attributes, numbered as in the enum of its kind: NFTA_META_DREG is 1, NFTA_META_KEY 2 …
    fn data(&self, data: Message) -> Message {
        match self {
            // DREG, KEY
            Self::Load(key) => data.put_be32(1, REGISTER).put_be32(2, *key as u32),
            // KEY, SREG
            Self::Mark => data.put_be32(2, Meta::Mark as u32).put_be32(3, REGISTER),
            // DREG, BASE, OFFSET, LEN
            Self::Payload(header, offset, length) => data
                .put_be32(1, REGISTER)
                .put_be32(2, *header as u32)
                .put_be32(3, *offset)
                .put_be32(4, *length),
            // SREG, DREG, LEN, MASK, XOR
            Self::Mask(mask) => data
                .put_be32(1, REGISTER)
                .put_be32(2, REGISTER)
                .put_be32(3, u32::try_from(mask.len()).unwrap_or(0))
                .nest(4, |value| value.put(NFTA_DATA_VALUE, mask))
                .nest(5, |value| value.put(NFTA_DATA_VALUE, &vec![0; mask.len()])),
            // SREG, OP (NFT_CMP_EQ, NFT_CMP_NEQ), DATA
            Self::Equal(value) => compare(data, 0, value),
            Self::NotEqual(value) => compare(data, 1, value),
            // SET, SREG
            Self::In(set) => data.put_text(1, set).put_be32(2, REGISTER),
            Self::Constant(value) => constant(data, REGISTER, value),
            Self::Port(port) => constant(data, BESIDE, &port.to_be_bytes()),
            // FAMILY, REG_ADDR, REG_PORT
            Self::Deliver { ipv6 } => {
                let family = if *ipv6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
                data.put_be32(1, family.cast_unsigned()).put_be32(2, REGISTER).put_be32(3, BESIDE)
            }
            Self::Accept => verdict(data, libc::NF_ACCEPT),
            Self::Drop => verdict(data, libc::NF_DROP),
            // TYPE (NFT_REJECT_TCP_RST); TYPE (NFT_REJECT_ICMPX_UNREACH), ICMP_CODE (…_PORT_UNREACH)
            Self::Reject(Refusal::Reset) => data.put_be32(1, 1),
            Self::Reject(Refusal::Unreachable) => data.put_be32(1, 2).put(2, &[1]),
        }
    }
}

fn compare(data: Message, operation: u32, value: &[u8]) -> Message {
    data.put_be32(1, REGISTER).put_be32(2, operation).nest(3, |inner| inner.put(NFTA_DATA_VALUE, value))
}

/// DREG, DATA
fn constant(data: Message, register: u32, value: &[u8]) -> Message {
    data.put_be32(1, register).nest(2, |inner| inner.put(NFTA_DATA_VALUE, value))
}

fn verdict(data: Message, code: i32) -> Message {
    data.put_be32(1, VERDICT).nest(2, |inner| {
        inner.nest(NFTA_DATA_VERDICT, |verdict| verdict.put_be32(NFTA_VERDICT_CODE, code.cast_unsigned()))
    })
}
