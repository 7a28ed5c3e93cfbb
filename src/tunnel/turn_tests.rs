//! What becomes of connections within a turn, without a sandbox and without a clock.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{Counters, Identity, Security, Settings, Tunnels, listen};
use crate::error::{Code, Error};
use crate::reactor::{FdBudget, FdPermit, Reactor, Use};

const SANDBOX: u64 = 7;
const OTHER: u64 = 8;

/// A sandbox with one port on which no server answers.
struct Rig {
    reactor: Reactor,
    tunnels: Tunnels,
    counters: Arc<Counters>,
    budget: FdBudget,
    tunnel: SocketAddr,
}

impl Rig {
    fn new(security: Security) -> Self {
        let budget = FdBudget::new(2000);
        let tunnels = Tunnels::new(budget.clone(), Arc::new(|_| ()));
        let (tunnel, counters) = (SocketAddr::from(([0, 0, 0, 0], 0)), Arc::default());
        let mut rig = Self { reactor: Reactor::new().unwrap(), tunnels, counters, budget, tunnel };
        (rig.tunnel, rig.counters) = rig.add_sandbox(SANDBOX, security);
        rig
    }

    fn add_sandbox(&mut self, sandbox: u64, security: Security) -> (SocketAddr, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let destination = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let settings = Settings { destination, sources: Vec::new(), ..Settings::default() };
        self.tunnels.add_sandbox(sandbox, settings, Arc::clone(&counters));
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        self.tunnels.add_listener(&mut self.reactor, sandbox, 80, listener, security, None);
        (address, counters)
    }

    /// What the engine does in a turn; whether anything was woken.
    fn turn(&mut self) -> bool {
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
        let mut woken = false;
        while let Some(wake) = self.reactor.next() {
            self.tunnels.wake(&mut self.reactor, wake);
            woken = true;
        }
        self.tunnels.end_turn(&mut self.reactor);
        woken
    }

    /// Turns until so many connections were accepted.
    fn accept(&mut self, count: u64) {
        while self.counters.total.load(Ordering::Relaxed) < count {
            self.turn();
        }
    }

    fn open(&self) -> u64 {
        self.counters.open.load(Ordering::Relaxed)
    }

    /// Takes all that others may.
    fn hog(&self) -> Vec<FdPermit> {
        std::iter::from_fn(|| self.budget.acquire(OTHER, Use::Host, 1)).collect()
    }
}

#[test]
fn what_has_come_to_a_listener_that_backs_off_is_accepted_when_it_drains() {
    let mut rig = Rig::new(Security::Plain);
    let hoard = rig.hog();
    let _client = TcpStream::connect(rig.tunnel).unwrap();
    // It finds no descriptors, and backs off.
    for _ in 0..5 {
        rig.turn();
    }
    assert_eq!(rig.open(), 0);
    drop(hoard);
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    rig.tunnels.drain(&mut rig.reactor, SANDBOX, Box::new(move || told.store(true, Ordering::Relaxed)));
    assert_eq!((rig.open(), over.load(Ordering::Relaxed)), (1, false));
}

#[test]
fn clients_that_connect_too_fast_wait_only_while_another_sandbox_is_served() {
    let mut rig = Rig::new(Security::Plain);
    let (other, counters) = rig.add_sandbox(OTHER, Security::Plain);
    rig.tunnels.use_up_pace(SANDBOX, Instant::now());
    let _alone = TcpStream::connect(rig.tunnel).unwrap();
    rig.turn();
    assert_eq!(rig.open(), 1, "no other is served");
    let _others = TcpStream::connect(other).unwrap();
    while counters.open.load(Ordering::Relaxed) == 0 {
        rig.turn();
    }
    let began = Instant::now();
    rig.tunnels.use_up_pace(SANDBOX, began);
    let _late: Vec<_> = (0..3).map(|_| TcpStream::connect(rig.tunnel).unwrap()).collect();
    let _others = TcpStream::connect(other).unwrap();
    while counters.open.load(Ordering::Relaxed) == 1 {
        rig.turn();
    }
    // It takes one, has an event for each other client, and waits for its timer all the same.
    while rig.open() <= 2 {
        rig.turn();
    }
    assert!(began.elapsed() >= Duration::from_millis(8), "{:?}", began.elapsed());
    rig.tunnels.use_up_pace(SANDBOX, Instant::now());
    let _last = TcpStream::connect(rig.tunnel).unwrap();
    rig.tunnels.drain(&mut rig.reactor, SANDBOX, Box::new(|| ()));
    assert_eq!(rig.open(), 5, "what has come is taken before the listener closes");
}

#[test]
fn a_sandbox_with_many_connections_is_removed_in_slices() {
    let mut rig = Rig::new(Security::Plain);
    let _clients: Vec<_> = (1..=200)
        .map(|count| {
            let client = TcpStream::connect(rig.tunnel).unwrap();
            rig.accept(count);
            client
        })
        .collect();
    let mut left = rig.open();
    assert_eq!(left, 200);
    let gone = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&gone);
    let reply = Box::new(move || told.store(true, Ordering::Relaxed));
    rig.tunnels.begin_removal(&mut rig.reactor, SANDBOX, reply);
    assert!(TcpStream::connect(rig.tunnel).is_err(), "its listener is closed at once");
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let ended = Box::new(|result: Result<(), Error>| assert_eq!(result.unwrap_err().code(), Code::State));
    rig.tunnels.attach(&mut rig.reactor, SANDBOX, 80, ours.into(), ended);
    while !gone.load(Ordering::Relaxed) {
        assert!(rig.tunnels.is_busy() && !rig.tunnels.is_idle());
        rig.turn();
        let now = rig.open();
        assert!(now < left && left - now <= 64, "{left}, then {now}");
        left = now;
    }
    assert_eq!((left, rig.budget.used(), rig.tunnels.is_idle()), (0, 0, true));
}

/// The first message of a TLS handshake.
fn hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn the_handshakes_of_many_leave_others_their_turns() {
    let identity = Identity::make(&[]).unwrap();
    let mut rig = Rig::new(Security::Tls(identity.server_config(false).unwrap()));
    let (other, counters) = rig.add_sandbox(OTHER, Security::Plain);
    let hello = hello();
    let mut clients: Vec<_> = (1..=300)
        .map(|count| {
            let client = TcpStream::connect(rig.tunnel).unwrap();
            rig.accept(count);
            client
        })
        .collect();
    for _ in 0..5 {
        rig.turn();
    }
    clients.iter_mut().for_each(|client| client.write_all(&hello).unwrap());
    let _client = TcpStream::connect(other).unwrap();
    let answered = |clients: &mut Vec<TcpStream>| {
        clients.iter_mut().filter(|client| client.peek(&mut [0]).is_ok()).count()
    };
    clients.iter().for_each(|client| client.set_nonblocking(true).unwrap());
    while counters.open.load(Ordering::Relaxed) == 0 {
        rig.turn();
    }
    assert!(answered(&mut clients) < 150, "the other's connection waited for the handshakes");
    let start = Instant::now();
    while answered(&mut clients) < clients.len() {
        rig.turn();
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

/// Sends a part of a TLS handshake's first message from that many clients; how many of them are still connected then.
fn begin_handshakes(rig: &mut Rig, count: u64) -> (Vec<TcpStream>, u64) {
    // A message of 65,520 bytes, in records of 1,000, of which forty come.
    let first = [&[22, 3, 1, 0x03, 0xe8, 1, 0, 0xff, 0xf0][..], &[0; 996]].concat();
    let next = [&[22, 3, 1, 0x03, 0xe8][..], &[0; 1000]].concat();
    let part = [first, next.repeat(39)].concat();
    let accepted = rig.counters.total.load(Ordering::Relaxed);
    let connect = |number| {
        let client = TcpStream::connect(rig.tunnel).unwrap();
        client.set_nonblocking(true).unwrap();
        rig.accept(accepted + number);
        (client, 0)
    };
    let mut clients: Vec<_> = (1..=count).map(connect).collect();
    let start = Instant::now();
    while clients.iter().any(|(_, sent)| *sent < part.len()) {
        for (client, sent) in &mut clients {
            match client.write(&part[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // It was cut.
                Err(_) => *sent = part.len(),
            }
        }
        rig.turn();
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    while rig.turn() {}
    (clients.into_iter().map(|(client, _)| client).collect(), rig.open())
}

#[test]
fn what_unfinished_handshakes_hold_is_bounded_and_free_again_when_they_end() {
    let identity = Identity::make(&[]).unwrap();
    let mut rig = Rig::new(Security::Tls(identity.server_config(false).unwrap()));
    for _ in 0..2 {
        let (clients, open) = begin_handshakes(&mut rig, 300);
        // Each holds 40 KB of 8 MiB.
        assert!((150..=209).contains(&open), "{open}");
        drop(clients);
        while rig.open() > 0 {
            rig.turn();
        }
    }
    assert_eq!(begin_handshakes(&mut rig, 150).1, 150);
}
