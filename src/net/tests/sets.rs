//! Sets of real size, and any shape.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::space::{Side, Space};
use crate::net::nft::{AllowedSets, Rules, rules::RELAY_PORT};
use crate::topology::SANDBOX;

/// So many ranges, none of which touches the next.
pub(super) fn many(count: u32) -> AllowedSets {
    let v4 = (0..count).map(|index| index * 8 + (1 << 24));
    let v6 = (0..u128::from(count)).map(|index| index * 8 + (0x2600 << 112));
    AllowedSets {
        v4: v4.map(|first| Ipv4Addr::from_bits(first)..=Ipv4Addr::from_bits(first + 3)).collect(),
        v6: v6.map(|first| Ipv6Addr::from_bits(first)..=Ipv6Addr::from_bits(first + 3)).collect(),
        tls: Vec::new(),
    }
}

#[test]
fn ten_thousand_ranges_are_loaded_over_an_ordinary_users_socket() {
    let (_space, mut rules) = Space::with_rules(true);
    let allowed = many(10_000);
    let generation = rules.apply(&allowed, true).unwrap();
    assert_eq!(rules.in_force().unwrap(), (generation, allowed));
}

#[test]
fn a_list_longer_than_a_set_is_in_force_from_its_first_to_its_last_range() {
    let (mut space, mut rules) = Space::with_rules(false);
    let relay = space.udp(Side::Gateway, (Ipv4Addr::LOCALHOST, RELAY_PORT).into());
    let allowed = AllowedSets { v6: Vec::new(), ..many(40_000) };
    let generation = rules.apply(&allowed, false).unwrap();
    assert_eq!(rules.in_force().unwrap(), (generation, allowed.clone()));
    let sender = space.udp(Side::Sandbox, (SANDBOX, 0).into());
    for index in [0, 16_383, 16_384, 32_768, 39_999] {
        sender.send_to(b"x", (*allowed.v4[index].end(), 9)).unwrap();
        assert_eq!(relay.recv(&mut [0; 8]).unwrap(), 1, "{index}");
    }
    // All of it goes when it is replaced.
    rules.apply(&many(1), false).unwrap();
    let ruleset = space.ruleset();
    assert_eq!(ruleset.matches("set allow4_").count(), 1, "{ruleset}");
}

#[test]
fn what_is_loaded_is_what_is_read_back() {
    let (_space, mut rules) = Space::with_rules(true);
    let edge4 = || prop_oneof![any::<u32>(), 0..3_u32, u32::MAX - 2..=u32::MAX];
    let edge6 = || prop_oneof![any::<u128>(), 0..3_u128, u128::MAX - 2..=u128::MAX];
    let ranges =
        (prop::collection::vec((edge4(), edge4()), 0..30), prop::collection::vec((edge6(), edge6()), 0..30));
    let rules = std::cell::RefCell::new(&mut rules);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    let outcome = runner.run(&ranges, |(v4, v6)| {
        let allowed = AllowedSets {
            v4: v4
                .iter()
                .map(|(a, b)| Ipv4Addr::from_bits(*a.min(b))..=Ipv4Addr::from_bits(*a.max(b)))
                .collect(),
            v6: v6
                .iter()
                .map(|(a, b)| Ipv6Addr::from_bits(*a.min(b))..=Ipv6Addr::from_bits(*a.max(b)))
                .collect(),
            tls: Vec::new(),
        };
        let rules: &mut Rules = &mut rules.borrow_mut();
        // It compares by itself what it reads back.
        rules.apply(&allowed, true).map_err(|error| TestCaseError::fail(error.to_string()))?;
        Ok(())
    });
    outcome.unwrap();
}
