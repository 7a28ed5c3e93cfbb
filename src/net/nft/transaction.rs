//! The requests that make tables, chains and rules, and transactions of them.

use super::expression::Expression;
use super::message::{NFNL_SUBSYS_NFTABLES, TABLE, change, family};
use crate::net::message::{Message, flags};

// linux/netfilter/nfnetlink.h
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

// linux/netfilter.h
const NF_INET_PRE_ROUTING: u32 = 0;
const NF_DROP: u32 = 0;
// linux/netfilter_ipv4.h
const NF_IP_PRI_MANGLE: i32 = -150;

// enum nf_tables_msg_types
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
pub(super) const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_DELRULE: u16 = 8;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
pub(super) const NFTA_RULE_EXPRESSIONS: u16 = 4;

/// Wraps changes in one transaction: all of them are made, or none.
pub(super) fn transaction(changes: Vec<Message>) -> Vec<Message> {
    let edge = |what, kind| Message::new(what, kind, 0).fixed(&family(0, NFNL_SUBSYS_NFTABLES)).unanswered();
    let begin = edge("a transaction of nf_tables", NFNL_MSG_BATCH_BEGIN);
    let end = edge("the end of a transaction of nf_tables", NFNL_MSG_BATCH_END);
    std::iter::once(begin).chain(changes).chain([end]).collect()
}

/// The length of the message at each end of a transaction.
const EDGE_LENGTH: usize = 20;

/// Splits changes into transactions that fit what may be sent at once.
pub(super) fn batches(changes: Vec<Message>, room: usize) -> Vec<Vec<Message>> {
    let mut batches: Vec<Vec<Message>> = Vec::new();
    let mut used = 0;
    for change in changes {
        let length = change.len();
        match batches.last_mut() {
            Some(batch) if used + length <= room => {
                used += length;
                batch.push(change);
            }
            _ => {
                used = 2 * EDGE_LENGTH + length;
                batches.push(vec![change]);
            }
        }
    }
    batches
}

/// Makes the table. Fails if it is there already.
pub(super) fn table() -> Message {
    change("a table", NFT_MSG_NEWTABLE, flags::CREATE | flags::EXCLUSIVE).put_text(NFTA_TABLE_NAME, TABLE)
}

/// Makes a chain. Fails if it is there already.
pub(super) fn chain(name: &str) -> Message {
    change("a chain", NFT_MSG_NEWCHAIN, flags::CREATE | flags::EXCLUSIVE)
        .put_text(NFTA_CHAIN_TABLE, TABLE)
        .put_text(NFTA_CHAIN_NAME, name)
}

/// Hooks a chain where packets arrive.
pub(super) fn hook(chain: Message) -> Message {
    chain
        .nest(NFTA_CHAIN_HOOK, |hook| {
            hook.put_be32(NFTA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING)
                .put_be32(NFTA_HOOK_PRIORITY, NF_IP_PRI_MANGLE.cast_unsigned())
        })
        .put_be32(NFTA_CHAIN_POLICY, NF_DROP)
        .put_text(NFTA_CHAIN_TYPE, "filter")
}

/// Appends a rule to a chain.
pub(super) fn rule(chain: &str, steps: &[Expression]) -> Message {
    change("a rule", NFT_MSG_NEWRULE, flags::CREATE | flags::APPEND)
        .put_text(NFTA_RULE_TABLE, TABLE)
        .put_text(NFTA_RULE_CHAIN, chain)
        .nest(NFTA_RULE_EXPRESSIONS, |list| {
            steps.iter().fold(list, |list, step| list.nest(NFTA_LIST_ELEM, |element| step.put(element)))
        })
}

/// Deletes all rules of a chain.
pub(super) fn flush(chain: &str) -> Message {
    change("to empty a chain", NFT_MSG_DELRULE, 0)
        .put_text(NFTA_RULE_TABLE, TABLE)
        .put_text(NFTA_RULE_CHAIN, chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::nft::set;
    use std::net::Ipv4Addr;

    #[test]
    fn no_transaction_is_longer_than_what_may_be_sent_at_once() {
        let ranges: Vec<_> = (0..20_000_u32)
            .map(|index| Ipv4Addr::from_bits(index * 4)..=Ipv4Addr::from_bits(index * 4 + 1))
            .collect();
        let changes = set::add_ranges("allow4_1", &ranges);
        let (count, total) = (changes.len(), changes.iter().map(Message::len).sum::<usize>());
        // What an ordinary user has by default, and more.
        for room in [212_992 - 32, 425_984 - 32, 1 << 20] {
            let batches = batches(changes.clone(), room);
            assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), count);
            assert!(batches.len() <= total / (room - 70_000) + 1, "{} for {room}", batches.len());
            for batch in batches {
                let length: usize = transaction(batch).iter().map(Message::len).sum();
                assert!(length <= room, "{length} in {room}");
            }
        }
    }
}
