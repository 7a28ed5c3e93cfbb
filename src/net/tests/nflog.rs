//! That what the rules refuse is counted, and told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::space::{Side, Space};
use crate::net::nflog::{NflogSocket, Progress, Refused};

const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

/// Waits for one packet, for some seconds at most.
fn next(refusals: &mut NflogSocket, seen: &mut Vec<Refused>) {
    let ready = poll(&mut [PollFd::new(refusals.as_fd(), PollFlags::POLLIN)], 10_000_u16).unwrap();
    assert_eq!(ready, 1, "nothing was told");
    while refusals.read(|refused| seen.push(refused)).unwrap() == Progress::More {}
}

#[test]
fn refused_packets_are_told_with_their_destination_and_counted() {
    let (mut space, mut rules) = Space::with_rules(false);
    let mut refusals = NflogSocket::listen(space.filter()).unwrap();
    assert_eq!(rules.refused().unwrap(), 0);
    let at = |address: IpAddr, port| SocketAddr::new(address, port);
    assert_eq!(space.connect(Side::Sandbox, at(FAR.into(), 443)).unwrap_err(), Errno::ECONNREFUSED);
    let mut seen = Vec::new();
    next(&mut refusals, &mut seen);
    // Where the machine stands still for a second, a SYN is sent again before its refusal has come.
    let mut told = seen.len();
    seen.dedup();
    assert_eq!(seen, [Refused { to: FAR.into(), port: 443, protocol: 6 }]);
    let socket = space.udp(Side::Sandbox, at(Ipv4Addr::new(192, 0, 0, 2).into(), 0));
    socket.send_to(b"?", at(FAR.into(), 53)).unwrap();
    seen.clear();
    next(&mut refusals, &mut seen);
    assert_eq!(seen, [Refused { to: FAR.into(), port: 53, protocol: 17 }]);
    told += seen.len();
    assert_eq!(rules.refused().unwrap(), u64::try_from(told).unwrap());
    assert_eq!(refusals.read(|_| ()).unwrap(), Progress::Nothing);
}

#[test]
fn a_flood_of_refusals_is_told_in_part_and_counted_in_whole() {
    let (mut space, mut rules) = Space::with_rules(false);
    let mut refusals = NflogSocket::listen(space.filter()).unwrap();
    let socket = space.udp(Side::Sandbox, SocketAddr::new(Ipv4Addr::new(192, 0, 0, 2).into(), 0));
    let flood = 20_000;
    for index in 0..flood {
        // The refusal of an earlier one shows as an error of a later one.
        let to = SocketAddr::new(Ipv4Addr::from_bits(0xcb00_7100 + index % 256).into(), 9);
        while socket.send_to(b"?", to).is_err() {}
    }
    assert_eq!(rules.refused().unwrap(), u64::from(flood));
    let mut told = 0;
    while refusals.read(|_| told += 1).unwrap() != Progress::Nothing {}
    assert!((1..flood / 2).contains(&told), "{told} of {flood}");
}
