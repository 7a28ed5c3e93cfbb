//! The rules of G, in nf_tables (linux/netfilter/nf_tables.h; the text form: nft(8)).
//!
//! One chain at the prerouting hook sees every packet that comes out of the sandbox, before routing. Its
//! policy is to drop. What it lets on is delivered to a socket of ours in G and nowhere else: G has no
//! uplink. There is no connection tracking: what was allowed once is not allowed for ever.

mod expression;
mod rules;

use super::message::{Message, flags};
use super::netlink::{Netlink, request};
use crate::error::Result;

pub(crate) const TABLE: &str = "sbx";
const CHAIN: &str = "prerouting";

/// NFNL_SUBSYS_NFTABLES
const SUBSYSTEM: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
/// NFPROTO_INET: one table for IPv4 and IPv6.
const INET: u8 = 1;

// enum nf_tables_msg_types
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;

// The attributes, each after its enum in the header.
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;

/// NFT_SET_INTERVAL
const INTERVALS: u32 = 0x4;
/// NF_INET_PRE_ROUTING
const PREROUTING: u32 = 0;
/// NF_IP_PRI_MANGLE
const MANGLE: i32 = -150;
/// NF_DROP
const DROP: u32 = 0;

/// The set of allowed IPv4 destinations, and that of IPv6.
pub(super) const ALLOW4: &str = "allow4";
pub(super) const ALLOW6: &str = "allow6";

/// `struct nfgenmsg`.
fn family(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn change(what: &'static str, kind: u16, more: u16) -> Message {
    request(what, SUBSYSTEM << 8 | kind, more).fixed(&family(INET, 0))
}

/// Puts changes into one transaction: all of them, or none.
fn batch(changes: impl IntoIterator<Item = Message>) -> Vec<Message> {
    let edge = |what, kind| Message::new(what, kind, 0).fixed(&family(0, SUBSYSTEM));
    let begin = edge("the begin of a transaction", NFNL_MSG_BATCH_BEGIN);
    let end = edge("the end of a transaction", NFNL_MSG_BATCH_END);
    std::iter::once(begin).chain(changes).chain([end]).collect()
}

fn table() -> Message {
    change("a table", NEW_TABLE, flags::CREATE | flags::EXCLUSIVE).put_text(NFTA_TABLE_NAME, TABLE)
}

fn chain() -> Message {
    change("a chain", NEW_CHAIN, flags::CREATE | flags::EXCLUSIVE)
        .put_text(NFTA_CHAIN_TABLE, TABLE)
        .put_text(NFTA_CHAIN_NAME, CHAIN)
        .nest(NFTA_CHAIN_HOOK, |hook| {
            hook.put_be32(NFTA_HOOK_HOOKNUM, PREROUTING).put_be32(NFTA_HOOK_PRIORITY, MANGLE.cast_unsigned())
        })
        .put_be32(NFTA_CHAIN_POLICY, DROP)
        .put_text(NFTA_CHAIN_TYPE, "filter")
}

/// A set of ranges of addresses. The type is nft's own number, which only nft reads, to print it.
fn set(name: &str, id: u32, ipv6: bool) -> Message {
    let (kind, length) = if ipv6 { (8, 16) } else { (7, 4) };
    change("a set", NEW_SET, flags::CREATE | flags::EXCLUSIVE)
        .put_text(NFTA_SET_TABLE, TABLE)
        .put_text(NFTA_SET_NAME, name)
        .put_be32(NFTA_SET_FLAGS, INTERVALS)
        .put_be32(NFTA_SET_KEY_TYPE, kind)
        .put_be32(NFTA_SET_KEY_LEN, length)
        .put_be32(NFTA_SET_ID, id)
}

fn rule(expressions: Vec<expression::Expression>) -> Message {
    change("a rule", NEW_RULE, flags::CREATE | flags::APPEND)
        .put_text(NFTA_RULE_TABLE, TABLE)
        .put_text(NFTA_RULE_CHAIN, CHAIN)
        .nest(NFTA_RULE_EXPRESSIONS, |list| {
            expressions
                .iter()
                .fold(list, |list, expression| list.nest(NFTA_LIST_ELEM, |element| expression.put(element)))
        })
}

/// Loads table, sets and rules in one transaction. The sets are empty.
pub(super) fn load(netlink: &mut Netlink, ipv6: bool) -> Result<()> {
    let mut changes = vec![table(), set(ALLOW4, 1, false)];
    if ipv6 {
        changes.push(set(ALLOW6, 2, true));
    }
    changes.push(chain());
    changes.extend(rules::rules(ipv6).into_iter().map(rule));
    netlink.request(batch(changes))
}
