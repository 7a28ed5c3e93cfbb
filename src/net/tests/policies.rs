//! Random policies: what the rules let out of S is what the policy says, at every edge of every entry.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::space::{Side, Space};
use crate::net::RELAY_PORT;
use crate::net::nft::AllowedSets;
use crate::policy::{Location, Policy};
use crate::topology::{SANDBOX, SANDBOX6};

const CASES: u32 = 1000;

/// A generator that a seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.roll(all.len() as u64)).unwrap()]
    }
}

/// Where entries are most likely to be wrong: in and around what is special.
const NEAR4: &[[u8; 4]] = &[
    [1, 1, 1, 1],
    [10, 0, 0, 0],
    [11, 0, 0, 0],
    [100, 64, 0, 0],
    [169, 254, 169, 254],
    [168, 63, 129, 16],
    [172, 16, 0, 0],
    [192, 0, 0, 0],
    [192, 0, 2, 0],
    [192, 88, 99, 0],
    [192, 168, 0, 0],
    [198, 18, 0, 0],
    [203, 0, 113, 0],
    [223, 255, 255, 255],
];
const NEAR6: &[&str] =
    &["2001::", "2001:db8::", "2002::", "2606:4700::", "64:ff9b::", "fc00::", "fd00:ec2::254", "3fff::"];

/// The entries of a policy are numbers here: first and last address, whether IPv6.
type Range = (u128, u128, bool);

fn random_range(dice: &mut Dice) -> (Range, String) {
    let ipv6 = dice.roll(3) == 0;
    let (width, near): (u32, u128) = if ipv6 {
        (128, dice.pick(NEAR6).parse::<Ipv6Addr>().unwrap().to_bits())
    } else {
        (32, u128::from(Ipv4Addr::from(dice.pick(NEAR4)).to_bits()))
    };
    let prefix = u32::try_from(dice.roll(u64::from(width) + 1)).unwrap();
    let jitter = if dice.roll(2) == 0 { 0 } else { u128::from(dice.roll(1 << 20)) };
    let whole = if width == 128 { u128::MAX } else { u128::from(u32::MAX) };
    let mask = if prefix == 0 { 0 } else { whole & (whole << (width - prefix)) };
    let first = (near ^ jitter) & mask;
    let text = format!("{}/{prefix}", address(first, ipv6));
    ((first, first | (whole & !mask), ipv6), text)
}

fn address(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from_bits(number).into()
    } else {
        Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into()
    }
}

/// Whether S's own kernel, which stands in for gVisor's, sends to that address at all, and over eth0.
fn is_sent(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, third, fourth] = address.octets();
            let own = [first, second, third] == [192, 0, 0] && fourth < 8;
            !(own || matches!(first, 0 | 127 | 224..=255))
        }
        IpAddr::V6(address) => {
            let [first, second, third, ..] = address.segments();
            let own = [first, second, third] == [0xfd73, 0x6278, 0x6e65];
            // A mapped address is IPv4's, whoever sends it.
            !(first == 0 || first >= 0xfe80 || own)
        }
    }
}

fn random_policy(dice: &mut Dice) -> (Policy, Vec<Range>, String) {
    let open = dice.roll(4) == 0;
    let mut policy = if open { Policy::open() } else { Policy::allowlist() };
    let (mut ranges, mut text) = (Vec::new(), if open { "open".to_owned() } else { "allowlist".to_owned() });
    for _ in 0..dice.roll(8) {
        let (range, written) = random_range(dice);
        let deny = open || dice.roll(4) == 0;
        let added = if deny { policy.deny_cidr(&written) } else { policy.allow_cidr(&written) };
        added.unwrap();
        text.push_str(if deny { " -" } else { " +" });
        text.push_str(&written);
        ranges.push(range);
    }
    (policy, ranges, text)
}

/// The edges of the entries, the addresses beside them, and the places where special ranges begin.
fn probes(ranges: &[Range]) -> BTreeSet<IpAddr> {
    let beside = |number: u128, ipv6: bool| {
        let last = if ipv6 { u128::MAX } else { u128::from(u32::MAX) };
        [number.saturating_sub(1), number, number.saturating_add(1).min(last)]
            .map(|number| address(number, ipv6))
    };
    let edges = ranges.iter().flat_map(|(first, last, ipv6)| [(*first, *ipv6), (*last, *ipv6)]);
    let near4 = NEAR4.iter().map(|octets| (u128::from(Ipv4Addr::from(*octets).to_bits()), false));
    let near6 = NEAR6.iter().map(|text| (text.parse::<Ipv6Addr>().unwrap().to_bits(), true));
    let all = edges.chain(near4).chain(near6).flat_map(|(number, ipv6)| beside(number, ipv6));
    all.filter(|address| is_sent(*address)).collect()
}

#[test]
fn what_random_policies_say_is_what_the_rules_do() {
    let (mut space, mut rules) = Space::with_rules(true);
    let any = |address: IpAddr, port| SocketAddr::new(address, port);
    let relays = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        .map(|address: IpAddr| space.udp(Side::Gateway, any(address, RELAY_PORT)));
    let senders =
        [IpAddr::from(SANDBOX), SANDBOX6.into()].map(|address| space.udp(Side::Sandbox, any(address, 0)));
    for relay in &relays {
        relay.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    let (mut reached, mut refused) = (0, 0);
    for case in 0..CASES {
        let mut dice = Dice(u64::from(case));
        let (policy, ranges, text) = random_policy(&mut dice);
        rules.apply(&AllowedSets::by(&policy), true).unwrap();
        let probes = probes(&ranges);
        let expected: BTreeSet<IpAddr> = probes
            .iter()
            .copied()
            .filter(|address| policy.verdict(*address, |_| Location::Elsewhere).is_allowed())
            .collect();
        for probe in &probes {
            let message = format!("{case} {probe}");
            // It may be told of the refusal of an earlier one, and that counts as sending.
            let _ = senders[usize::from(probe.is_ipv6())].send_to(message.as_bytes(), any(*probe, 9));
        }
        for (relay, ipv6) in relays.iter().zip([false, true]) {
            let mut due: BTreeSet<IpAddr> =
                expected.iter().copied().filter(|address| address.is_ipv6() == ipv6).collect();
            while !due.is_empty() {
                let arrived =
                    next(relay).unwrap_or_else(|| panic!("case {case} ({text}): {due:?} did not arrive"));
                let (of, address) = arrived.split_once(' ').unwrap();
                let known = of == case.to_string() && due.remove(&address.parse().unwrap());
                assert!(known, "case {case} ({text}): {arrived} arrived");
            }
        }
        reached += expected.len();
        refused += probes.len() - expected.len();
    }
    // What was let out of the last case though it shouldn't have been.
    for relay in &relays {
        relay.set_nonblocking(true).unwrap();
        assert_eq!(next(relay), None);
    }
    assert!(reached > 5000 && refused > 5000, "{reached} reached, {refused} refused");
}

fn next(relay: &UdpSocket) -> Option<String> {
    let mut buffer = [0; 128];
    let (length, _) = relay.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
