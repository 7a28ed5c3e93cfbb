//! How long the kernel takes, for people: `cargo test --release net::tests::timing -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::sets::many;
use super::space::Space;
use crate::net::links::{Plan, configure_links};
use crate::net::nft::Rules;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "prints times, asserts nothing"]
fn links_and_rules() {
    for ipv6 in [false, true] {
        let (mut links, mut rules) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            let mut space = Space::new();
            let (sockets, filter) = (space.sockets(), space.filter());
            let start = Instant::now();
            configure_links(sockets, &Plan { mtu: 1500, ipv6 }).unwrap();
            links.push(start.elapsed());
            let start = Instant::now();
            Rules::load(filter, ipv6).unwrap();
            rules.push(start.elapsed());
        }
        println!("ipv6 {ipv6}: links {:?}, rules {:?} (medians of 30)", median(links), median(rules));
    }
}

#[test]
#[ignore = "prints times, asserts nothing"]
fn large_sets() {
    let (_space, mut rules) = Space::with_rules(true);
    for count in [1000, 10_000, 100_000] {
        let mut allowed = many(count);
        for ipv6 in [false, true] {
            if !ipv6 {
                allowed.v6.clear();
            } else {
                allowed = many(count);
            }
            let start = Instant::now();
            rules.apply(&allowed, ipv6).unwrap();
            println!("{count} ranges, ipv6 too {ipv6}: {:?}", start.elapsed());
        }
    }
}
