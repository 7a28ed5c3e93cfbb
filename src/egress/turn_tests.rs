//! What one sandbox gets of a turn, counted without a sandbox and without a clock.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpListener;

use super::counters::Counters;
use super::dns::Resolver;
use super::gate::Settings;
use super::outbound::Outbound;
use super::sockets::Sockets;
use crate::policy::Policy;
use crate::reactor::{Budget, Key, Reactor, Wake};

const SANDBOX: u64 = 7;

/// A sandbox's way out, and a connection to its resolver.
struct Rig {
    reactor: Reactor,
    outbound: Outbound,
    #[allow(dead_code, reason = "counted questions are of the next test")]
    counters: Arc<Counters>,
    resolver: SocketAddr,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let mut outbound = Outbound::new(Budget::new(1000), Arc::new(|_| ()));
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let resolver = listener.local_addr().unwrap();
        let mut sockets = Sockets::default();
        sockets.answer_by(Resolver::over(listener));
        let counters = Arc::new(Counters::default());
        let policy = (Arc::new(Policy::allowlist()), 1);
        outbound.add_sandbox(&mut reactor, SANDBOX, policy, settings, sockets, Arc::clone(&counters));
        Self { reactor, outbound, counters, resolver }
    }

    /// What the engine does in a turn; how often each key was woken.
    fn turn(&mut self) -> HashMap<Key, usize> {
        let mut woken = HashMap::new();
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
        while let Some(wake) = self.reactor.next() {
            let (Wake::Ready(key, ..) | Wake::Again(key) | Wake::Timer(key)) = wake;
            *woken.entry(key).or_default() += 1;
            self.outbound.wake(&mut self.reactor, wake);
        }
        self.outbound.end_turn(&mut self.reactor);
        woken
    }
}

/// Floods a resolver with a message, and takes the answers.
struct Flooder {
    socket: TcpStream,
    flood: Vec<u8>,
    at: usize,
    taken: usize,
}

impl Flooder {
    fn new(resolver: SocketAddr, message: &[u8]) -> Self {
        let socket = TcpStream::connect(resolver).unwrap();
        socket.set_nonblocking(true).unwrap();
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        Self { socket, flood: [&length[..], message].concat().repeat(500), at: 0, taken: 0 }
    }

    fn go_on(&mut self) {
        loop {
            match self.socket.write(&self.flood[self.at..]) {
                Ok(sent) => self.at = (self.at + sent) % self.flood.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        let mut answers = vec![0; 1 << 20];
        match self.socket.read(&mut answers) {
            Ok(read) => self.taken += read,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

/// A question for the addresses of `refused.example`.
fn question() -> Vec<u8> {
    b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07refused\x07example\0\0\x01\0\x01".to_vec()
}

#[test]
fn a_flood_of_questions_that_are_answered_at_once_wakes_a_connection_once_a_turn() {
    for message in [vec![0; 12], [&[0, 1, 0x10, 0][..], &[0; 8]].concat(), question()] {
        let mut rig = Rig::new(Settings::default());
        let mut flooder = Flooder::new(rig.resolver, &message);
        for turn in 0..60 {
            flooder.go_on();
            let woken = rig.turn();
            // By the kernel, and by itself.
            assert!(woken.values().all(|times| *times <= 2), "turn {turn}: {woken:?}");
        }
        assert!(flooder.taken > 60 * 12, "{} bytes of answers", flooder.taken);
    }
}

#[test]
fn a_flow_beyond_its_share_is_woken_once_a_turn_however_often_it_asks() {
    let mut rig = Rig::new(Settings::default());
    let _flooder = Flooder::new(rig.resolver, &[0; 12]);
    let key = loop {
        if let Some((key, _)) = rig.turn().into_iter().next() {
            break key;
        }
    };
    for _ in 0..20 {
        rig.reactor.turn(Some(Duration::ZERO)).unwrap();
        // Spends the share of this turn.
        while let Some(budget) = rig.outbound.allowance(&mut rig.reactor, SANDBOX, key) {
            rig.outbound.spend(&mut rig.reactor, SANDBOX, budget as u64);
        }
        for _ in 0..5 {
            assert!(rig.outbound.allowance(&mut rig.reactor, SANDBOX, key).is_none());
            rig.outbound.later(&mut rig.reactor, SANDBOX, key);
        }
        rig.outbound.line_up(&mut rig.reactor);
        let mut wakes = 0;
        while rig.reactor.next().is_some() {
            wakes += 1;
        }
        assert!(wakes <= 2, "{wakes}");
    }
}
