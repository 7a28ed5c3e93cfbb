//! The policy against a second one, written in Python over its `ipaddress`: `model.py`.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::special::{METADATA, RANGES};
use super::{Location, Policy, PolicyMode};

/// How many random policies are compared.
const CASES: usize = 1000;

/// A random range, mostly near a special one: around it, inside it, beside it, or it.
fn range() -> impl Strategy<Value = String> {
    let special: Vec<(IpAddr, u8)> = RANGES
        .iter()
        .map(|range| (range.first, range.prefix))
        .chain(METADATA.iter().map(|address| (*address, if address.is_ipv4() { 32 } else { 128 })))
        .collect();
    let near = (prop::sample::select(special), -4_i16..=12, any::<u128>()).prop_map(
        |((first, prefix), more, bits)| {
            let (ipv6, width, first) = match first {
                IpAddr::V4(first) => (false, 32, u128::from(first.to_bits())),
                IpAddr::V6(first) => (true, 128, first.to_bits()),
            };
            let longer = (i16::from(prefix) + more).clamp(0, width);
            // Random bits behind the special range's prefix keep it inside, or leave it where they are cut off.
            let free = u32::try_from(width).unwrap_or(0) - u32::from(prefix);
            let inside = bits & 1_u128.checked_shl(free).map_or(u128::MAX, |power| power - 1);
            (ipv6, first | inside, u8::try_from(longer).unwrap_or(0))
        },
    );
    let anywhere = (any::<bool>(), any::<u128>(), 0_u8..=32).prop_map(|(ipv6, bits, prefix)| {
        if ipv6 { (true, bits, prefix * 4) } else { (false, bits >> 96, prefix) }
    });
    prop_oneof![3 => near, 1 => anywhere].prop_map(|(ipv6, bits, prefix)| text(ipv6, bits, prefix))
}

fn text(ipv6: bool, bits: u128, prefix: u8) -> String {
    let width: u8 = if ipv6 { 128 } else { 32 };
    let behind = u32::from(width - prefix);
    let cut = 1_u128.checked_shl(behind).map_or(0, |power| !(power - 1)) & bits;
    format!("{}/{prefix}", address(ipv6, cut))
}

fn address(ipv6: bool, bits: u128) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from_bits(bits).into()
    } else {
        Ipv4Addr::from_bits(u32::try_from(bits).unwrap()).into()
    }
}

/// Entries that the library refuses (IPv4-mapped ones) are none of the model's business.
fn entries() -> impl Strategy<Value = Vec<String>> {
    let readable = |text: &String| super::cidr::parse(text).is_ok();
    prop::collection::vec(range().prop_filter("a range that can be given", readable), 0..12)
}

#[test]
fn a_thousand_random_policies_say_what_pythons_ipaddress_makes_of_them() {
    let mut model = Command::new("/usr/bin/python3")
        .args(["-I", "-c", include_str!("model.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut questions, mut answers) =
        (model.stdin.take().unwrap(), BufReader::new(model.stdout.take().unwrap()));
    // The same policies each time: a difference can be found again.
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut compared = 0_usize;
    for _ in 0..CASES {
        let made = (any::<bool>(), entries(), entries()).new_tree(&mut runner).unwrap().current();
        let (open, mut allow, deny) = made;
        if open {
            allow.clear();
        }
        let mut policy = if open { Policy::open() } else { Policy::allowlist() };
        for entry in &allow {
            policy.allow_cidr(entry).unwrap();
        }
        for entry in &deny {
            policy.deny_cidr(entry).unwrap();
        }
        let mode = if policy.mode() == PolicyMode::Open { "open" } else { "allowlist" };
        writeln!(questions, "{}", json!({"mode": mode, "allow": allow, "deny": deny})).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let points: Vec<(String, String, Option<u32>)> = match serde_json::from_str::<Value>(&line).unwrap() {
            Value::Array(points) => points.iter().map(point).collect(),
            other => panic!("{other}"),
        };
        let (v4, v6) = policy.reachable();
        for (number, reason, rule) in points {
            let (ipv6, bits) = match number.strip_prefix("6:") {
                Some(bits) => (true, bits.parse().unwrap()),
                None => (false, number.parse().unwrap()),
            };
            let address = address(ipv6, bits);
            let verdict = policy.verdict(address, |_| Location::Elsewhere);
            let found = (format!("{:?}", verdict.reason), verdict.entry);
            assert_eq!(found, (reason, rule), "{address} by {mode} allow {allow:?} deny {deny:?}");
            // What the kernel is given says the same.
            let set = if ipv6 { &v6 } else { &v4 };
            assert_eq!(
                set.contains(bits),
                verdict.is_allowed(),
                "{address} in the kernel's set, {verdict:?}"
            );
            compared += 1;
        }
    }
    drop(questions);
    assert!(model.wait().unwrap().success());
    assert!(compared > CASES * 200, "only {compared} addresses were compared");
}

fn point(value: &Value) -> (String, String, Option<u32>) {
    let rule = value[2].as_u64().map(|rule| u32::try_from(rule).unwrap());
    (value[0].as_str().unwrap().to_owned(), value[1].as_str().unwrap().to_owned(), rule)
}
