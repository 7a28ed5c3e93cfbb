//! Bytes arrive whole, whatever the longest packet.

use sbx::Policy;

use crate::far::{internet, trying};

const TO: [&str; 2] = ["23.0.0.1", "2a00:23::1"];

fn whole(mtu: u32, mebibytes: u32, to: &[&str]) {
    let internet = internet();
    let kinds = [("up", 9), ("down", 19), ("both", 7)];
    let attempts: Vec<String> = to
        .iter()
        .flat_map(|to| kinds.map(|(what, port)| format!("{what} {to} {port} {mebibytes}")))
        .collect();
    let mut config = trying(&Policy::open(), &attempts);
    config.set_mtu(mtu).unwrap();
    let sandbox = internet.runtime.create(&config).unwrap();
    let lines = internet.finish(&sandbox);
    assert!(lines.iter().all(|line| line.ends_with(" whole")), "{lines:#?}");
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn a_hundred_mebibytes_arrive_whole_in_each_direction() {
    whole(1500, 100, &TO[..1]);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn they_do_with_the_shortest_packets_that_ipv6_allows() {
    whole(1280, 100, &TO[1..]);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn they_do_with_the_longest_packets() {
    whole(9000, 20, &TO);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn a_hundred_connections_at_once_arrive_whole() {
    let internet = internet();
    let attempts: Vec<String> = (0..100).map(|last| format!("both 23.1.0.{last} 7 1")).collect();
    let lines = internet.try_from_inside(&Policy::open(), &attempts);
    assert!(lines.iter().all(|line| line.ends_with(" whole")), "{lines:#?}");
}
