use std::net::UdpSocket;

use super::*;
use crate::egress::settings::Settings;
use crate::egress::testing::{Rig, SANDBOX};
use crate::policy::{Policy, Reason};

/// A port of the sandbox.
fn from(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 0, 2], port))
}

fn destination() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn rig(settings: Settings) -> (Rig, Udp) {
    let mut rig = Rig::new(Rig::loopback(), settings);
    let mut udp = Udp::new();
    udp.add_sandbox(&rig.cx, &mut rig.reactor, SANDBOX, Vec::new());
    (rig, udp)
}

/// The sandbox sends a datagram.
fn send(rig: &mut Rig, udp: &mut Udp, ends: Ends, bytes: &[u8]) {
    rig.cx.scratch().plain[..bytes.len()].copy_from_slice(bytes);
    let delivered = Delivered { length: bytes.len(), from: ends.0, to: ends.1 };
    udp.relay(&mut rig.cx, &mut rig.reactor, SANDBOX, delivered);
}

fn finish(mut rig: Rig, mut udp: Udp) {
    udp.remove_sandbox(&mut rig.cx, &mut rig.reactor, SANDBOX);
    assert_eq!((udp.len(), rig.cx.open(SANDBOX), rig.budget.used()), (0, 0, 0));
}

#[test]
fn datagrams_of_one_port_are_one_flow_that_asks_once_for_a_socket_to_answer_from() {
    let (mut rig, mut udp) = rig(Settings::default());
    let (far, to) = destination();
    for word in [&b"one"[..], b"two"] {
        send(&mut rig, &mut udp, (from(1000), to), word);
        let mut buffer = [0; 16];
        let (length, _) = far.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], word);
    }
    send(&mut rig, &mut udp, (from(1001), to), b"another");
    assert_eq!(udp.keys(SANDBOX).len(), 2);
    assert_eq!(rig.requests(), [Request::NeedDatagrams { key: SANDBOX, ipv6: false, count: 1 }]);
    assert_eq!(rig.counters.bytes_out.load(Ordering::Relaxed), 13);
    // There is no such socket: answers could not be sent.
    udp.on_sockets(&mut rig.cx, &mut rig.reactor, SANDBOX, false, Vec::new());
    assert_eq!(udp.keys(SANDBOX), []);
    assert!(rig.limit().contains("budget of descriptors"));
    finish(rig, udp);
}

#[test]
fn what_the_policy_denies_is_not_sent_and_reported() {
    let (mut rig, mut udp) = rig(Settings::default());
    let (_far, to) = destination();
    send(&mut rig, &mut udp, (from(1000), "198.51.100.1:53".parse().unwrap()), b"denied");
    assert!(rig.denied().0.is_some());
    send(&mut rig, &mut udp, (from(1000), to), b"allowed");
    rig.requests();
    // A new policy ends the flow at its next datagram.
    assert!(rig.cx.set_policy(SANDBOX, std::sync::Arc::new(Policy::blocked()), 2));
    send(&mut rig, &mut udp, (from(1000), to), b"denied");
    assert_eq!(rig.denied().0, Some(Reason::Blocked));
    assert_eq!(rig.counters.denied.load(Ordering::Relaxed), 2);
    assert_eq!(rig.counters.bytes_out.load(Ordering::Relaxed), 7);
    finish(rig, udp);
}

#[test]
fn a_destination_that_is_not_there_ends_the_flow_and_is_reported() {
    let (mut rig, mut udp) = rig(Settings::default());
    let (far, to) = destination();
    drop(far);
    send(&mut rig, &mut udp, (from(1000), to), b"lost");
    rig.requests();
    send(&mut rig, &mut udp, (from(1000), to), b"the port is closed, as ICMP says");
    assert_eq!(rig.unreachable(), (to.ip(), libc::ECONNREFUSED));
    finish(rig, udp);
}

#[test]
fn at_the_limit_only_silent_flows_give_way() {
    let (mut rig, mut udp) = rig(Settings { max_flows: 2, ..Settings::default() });
    let (_far, to) = destination();
    send(&mut rig, &mut udp, (from(1000), to), b"first");
    send(&mut rig, &mut udp, (from(1001), to), b"second");
    let keys = udp.keys(SANDBOX);
    rig.requests();
    send(&mut rig, &mut udp, (from(1002), to), b"third");
    assert!(rig.limit().contains("as many are open as may be"));
    // The second has been silent for long enough, the first is in use.
    let second = *keys.iter().find(|key| udp.flow(**key).unwrap().from == from(1001)).unwrap();
    udp.flow(second).unwrap().active -= EVICT_AFTER_IDLE;
    send(&mut rig, &mut udp, (from(1002), to), b"third");
    let mut ports: Vec<u16> =
        udp.keys(SANDBOX).into_iter().map(|key| udp.flow(key).unwrap().from.port()).collect();
    ports.sort_unstable();
    assert_eq!(ports, [1000, 1002]);
    finish(rig, udp);
}

#[test]
fn a_flow_ends_after_a_while_without_a_datagram() {
    let (mut rig, mut udp) = rig(Settings::default());
    let (_far, to) = destination();
    send(&mut rig, &mut udp, (from(1000), to), b"question");
    let key = udp.keys(SANDBOX)[0];
    udp.flow(key).unwrap().active -= UNANSWERED_TIMEOUT / 2;
    udp.on_wake(&mut rig.cx, &mut rig.reactor, key, Wake::Timer(key));
    assert_eq!(udp.keys(SANDBOX), [key]);
    udp.flow(key).unwrap().active -= UNANSWERED_TIMEOUT;
    udp.flow(key).unwrap().answered = true;
    udp.on_wake(&mut rig.cx, &mut rig.reactor, key, Wake::Timer(key));
    assert_eq!(udp.keys(SANDBOX), [key], "one that was answered has longer");
    udp.flow(key).unwrap().answered = false;
    udp.on_wake(&mut rig.cx, &mut rig.reactor, key, Wake::Timer(key));
    assert_eq!(udp.keys(SANDBOX), []);
    finish(rig, udp);
}

#[test]
fn most_local_ports_are_left_to_the_host() {
    let ports = local_ports();
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let ends: Vec<usize> = range.split_whitespace().map(|end| end.parse().unwrap()).collect();
    let quarter = (ends[1] - ends[0] + 1) / 4;
    let _admitted = [1, 2, 3].map(|sandbox| ports.admit(sandbox, 0).unwrap());
    // And one sandbox doesn't get all of those.
    let share = quarter / 4;
    assert!(ports.acquire(1, Use::Egress, share + 4).is_none());
    let _of_one = ports.acquire(1, Use::Egress, share / 2 + 4).unwrap();
    assert!(ports.acquire(1, Use::Egress, share / 2).is_none());
    assert!(ports.acquire(2, Use::Egress, share / 2).is_some());
}
