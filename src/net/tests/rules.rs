//! What the kernel has of rules, as nft prints it.

use super::space::{Side, Space};
use crate::net::nft::{AllowedSets, Rules};

/// The committed text of a ruleset and the file that it is in.
macro_rules! golden {
    ($name:literal) => {
        ($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/", $name)))
    };
}

fn compare(found: &str, (name, expected): (&str, &str)) {
    if std::env::var_os("SBX_UPDATE_GOLDEN").is_some() {
        let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(&path, found).unwrap();
        return;
    }
    // A packet of the kernel's own may have been refused meanwhile.
    let still: Vec<String> = found
        .lines()
        .map(|line| match line.split_once("counter packets ") {
            Some((before, _)) => format!("{before}counter packets 0 bytes 0\n"),
            None => format!("{line}\n"),
        })
        .collect();
    let found = still.concat();
    assert_eq!(found, expected, "{name} differs; SBX_UPDATE_GOLDEN=1 writes down what is found");
}

#[test]
fn as_loaded_nothing_is_allowed() {
    for (ipv6, golden) in [(false, golden!("rules-ipv4.nft")), (true, golden!("rules-ipv6.nft"))] {
        let (mut space, mut rules) = Space::with_rules(ipv6);
        compare(&space.ruleset(), golden);
        assert_eq!(rules.in_force().unwrap(), (0, AllowedSets::default()));
    }
}

#[test]
fn after_a_change_only_the_new_sets_are_there() {
    let (mut space, mut rules) = Space::with_rules(true);
    let allowed = AllowedSets {
        v4: vec![
            "8.8.8.8".parse().unwrap()..="8.8.8.8".parse().unwrap(),
            "1.0.0.0".parse().unwrap()..="1.0.1.255".parse().unwrap(),
            "224.0.0.0".parse().unwrap()..="255.255.255.255".parse().unwrap(),
        ],
        v6: vec!["2600::".parse().unwrap()..="2600::ffff".parse().unwrap()],
        tls: vec![8443, 443],
    };
    assert_eq!(rules.apply(&AllowedSets::default(), true).unwrap(), 1);
    assert_eq!(rules.apply(&allowed, true).unwrap(), 2);
    rules.add_services(&[8080, 443]).unwrap();
    rules.answer(&["8.8.4.4".parse().unwrap(), "2600::8844".parse().unwrap()], &[]).unwrap();
    compare(&space.ruleset(), golden!("rules-allowed.nft"));
    // IPv6 that turns out not to work is refused, the rest stays.
    assert_eq!(rules.apply(&allowed, false).unwrap(), 3);
    let text = space.ruleset();
    assert!(!text.contains("allow6") && text.contains("tproxy ip to 127.0.0.1:9000"), "{text}");
    assert_eq!(rules.in_force().unwrap().1.v6, []);
    assert_eq!(rules.apply(&allowed, true).unwrap(), 4);
    assert_eq!(rules.in_force().unwrap().1.v6, allowed.v6);
}

#[test]
fn a_refused_load_names_what_was_refused_and_changes_nothing() {
    let (mut space, _rules) = Space::with_rules(false);
    let before = space.ruleset();
    let error = Rules::load(space.filter(), false).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EEXIST), "{error}");
    assert!(error.message().contains("the kernel refuses a table"), "{error}");
    assert_eq!(space.ruleset(), before);
}

#[test]
fn a_change_that_fails_leaves_what_was_in_force() {
    let (mut space, mut rules) = Space::with_rules(false);
    let range = |address: &str| address.parse().unwrap()..=address.parse().unwrap();
    let first = AllowedSets { v4: vec![range("1.1.1.1")], ..AllowedSets::default() };
    rules.apply(&first, false).unwrap();
    // Somebody has emptied the table under us: the switch can't find the old set.
    let command = ["nft", "flush chain inet sbx egress; delete set inet sbx allow4_1"];
    space.run(Side::Gateway, &command);
    let before = space.ruleset();
    let second = AllowedSets { v4: vec![range("2.2.2.2")], ..AllowedSets::default() };
    let error = rules.apply(&second, false).unwrap_err();
    assert!(error.message().contains("switching to new destinations"), "{error}");
    assert_eq!(space.ruleset(), before, "the half-made set is gone too");
}

#[test]
fn answered_addresses_come_and_go_together_and_outlive_a_change() {
    let (mut space, mut rules) = Space::with_rules(false);
    let address = |text: &str| text.parse().unwrap();
    let allowed = AllowedSets { tls: vec![443], ..AllowedSets::default() };
    rules.apply(&allowed, false).unwrap();
    rules.answer(&[address("1.1.1.1"), address("2.2.2.2"), address("2600::1")], &[]).unwrap();
    rules.answer(&[address("3.3.3.3")], &[address("1.1.1.1")]).unwrap();
    rules.apply(&allowed, false).unwrap();
    let text = space.ruleset();
    assert!(text.contains("elements = { 2.2.2.2, 3.3.3.3 }"), "{text}");
    assert!(text.contains("tcp dport @tls_2 ip daddr @resolved4 tproxy"), "{text}");
    rules.answer(&[address("3.3.3.3")], &[address("9.9.9.9"), address("1.1.1.1")]).unwrap();
    assert_eq!(space.ruleset(), text, "what is there isn't added, what isn't there isn't removed");
    // Somebody has taken one out under us.
    space.run(Side::Gateway, &["nft", "delete element inet sbx resolved4 { 2.2.2.2 }"]);
    rules.answer(&[address("4.4.4.4")], &[address("2.2.2.2")]).unwrap_err();
    assert!(!space.ruleset().contains("4.4.4.4"), "all of it, or nothing");
    rules.apply(&AllowedSets::default(), false).unwrap();
    let text = space.ruleset();
    assert!(!text.contains("tls_") && !text.contains("@resolved4"), "{text}");
}
