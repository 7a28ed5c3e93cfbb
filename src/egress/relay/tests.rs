//! What one sandbox gets of a turn, counted without a sandbox and without a clock.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::net::TcpListener;

use super::*;
use crate::egress::dns::Resolver;
use crate::egress::request::Request;

const SANDBOX: u64 = 7;

/// A sandbox's way out, and a connection to its resolver.
struct Rig {
    reactor: Reactor,
    egress: Egress,
    budget: FdBudget,
    counters: Arc<Counters>,
    resolver: SocketAddr,
    /// What was requested of the layer above.
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        Self::with(settings, Policy::allowlist(), Vec::new())
    }

    fn with(settings: Settings, policy: Policy, servers: Vec<SocketAddr>) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let (budget, requests) = (FdBudget::new(1000), Arc::new(Mutex::new(Vec::new())));
        let sent = Arc::clone(&requests);
        let mut egress =
            Egress::new(budget.clone(), Arc::new(move |request| sent.lock().unwrap().push(request)));
        let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let resolver = listener.local_addr().unwrap();
        let datagrams = UdpSocket::bind(resolver).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let mut sockets = Sockets::default();
        sockets.answer_by(Resolver::over(listener, datagrams.into(), servers));
        let counters = Arc::new(Counters::default());
        let policy = (Arc::new(policy), 1);
        egress.add_sandbox(&mut reactor, SANDBOX, policy, settings, sockets, Arc::clone(&counters));
        Self { reactor, egress, budget, counters, resolver, requests }
    }

    /// What the engine does in a turn; how often each key was woken.
    fn turn(&mut self) -> HashMap<Key, usize> {
        let mut woken = HashMap::new();
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
        while let Some(wake) = self.reactor.next() {
            let key = wake.key();
            *woken.entry(key).or_default() += 1;
            self.egress.wake(&mut self.reactor, wake);
        }
        self.egress.end_turn(&mut self.reactor);
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

/// A question for the addresses of a name in `example`.
fn question(label: &[u8; 7]) -> Vec<u8> {
    [b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07", &label[..], b"\x07example\0\0\x01\0\x01"].concat()
}

#[test]
fn a_flood_of_questions_that_are_answered_at_once_wakes_a_connection_once_a_turn() {
    for message in [vec![0; 12], [&[0, 1, 0x10, 0][..], &[0; 8]].concat(), question(b"refused")] {
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
fn connections_far_beyond_the_rate_wait_only_while_another_sandbox_is_served() {
    let mut rig = Rig::new(Settings { new_flows_per_second: Some(1), ..Settings::default() });
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (relay, service) = (listener.local_addr().unwrap(), service.local_addr().unwrap());
    let Egress { cx, listeners, .. } = &mut rig.egress;
    listeners.add(cx, &mut rig.reactor, SANDBOX, listener, Some(service));
    let other = crate::reactor::Slab::new(crate::reactor::Kind(1)).insert(());
    let connect =
        |count: usize| -> Vec<_> { (0..count).map(|_| TcpStream::connect(relay).unwrap()).collect() };
    let reset = |clients: &[TcpStream]| {
        let fails = |client: &&TcpStream| {
            client.set_nonblocking(true).unwrap();
            !client.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        clients.iter().filter(fails).count()
    };
    // One goes on, and all others are reset without a pause.
    let alone = connect(100);
    let begin = Instant::now();
    while reset(&alone) < 99 {
        rig.turn();
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
    rig.reactor.join(other, SANDBOX + 1);
    rig.reactor.reschedule(other);
    rig.reactor.turn(None).unwrap();
    while rig.reactor.next().is_some() {}
    let clients = connect(100);
    let begin = Instant::now();
    while reset(&clients) < 99 {
        rig.turn();
        let most = 2 * RESETS + begin.elapsed().as_millis() as usize * RESETS / 10;
        assert!(reset(&clients) <= most, "{} of {most}", reset(&clients));
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn questions_beyond_the_rate_wait_and_are_answered_later() {
    let mut rig = Rig::new(Settings::default());
    let begin = Instant::now();
    let mut flooders: Vec<_> = (0..4).map(|_| Flooder::new(rig.resolver, &question(b"refused"))).collect();
    let asked = |rig: &Rig| rig.counters.questions.load(Ordering::Relaxed);
    for _ in 0..2000 {
        flooders.iter_mut().for_each(Flooder::go_on);
        rig.turn();
        let rate = 1000 + begin.elapsed().as_millis();
        assert!(u128::from(asked(&rig)) <= rate, "{} of {rate}", asked(&rig));
    }
    // They wait, and none is lost.
    let before = asked(&rig);
    while asked(&rig) < before + 2000 {
        flooders.iter_mut().for_each(Flooder::go_on);
        rig.turn();
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", asked(&rig));
    }
}

#[test]
fn datagrams_beyond_the_rate_are_lost_and_later_ones_answered() {
    let mut rig = Rig::new(Settings::default());
    let begin = Instant::now();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(rig.resolver).unwrap();
    client.set_nonblocking(true).unwrap();
    let asked = |rig: &Rig| rig.counters.questions.load(Ordering::Relaxed);
    for _ in 0..400 {
        // What finds no room is lost, as a sandbox's is.
        (0..50).for_each(|_| drop(client.send(&question(b"refused"))));
        rig.turn();
        let rate = 1000 + begin.elapsed().as_millis();
        assert!(u128::from(asked(&rig)) <= rate, "{} of {rate}", asked(&rig));
    }
    let begin = Instant::now();
    let (mut answer, mut last) = ([0; 512], question(b"refused"));
    last[0] = 9;
    while !(client.recv(&mut answer).is_ok() && answer[0] == 9) {
        let _ = client.send(&last);
        rig.turn();
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn no_question_leaves_when_the_bytes_are_used_up() {
    let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
    upstream.set_nonblocking(true).unwrap();
    let settings = Settings { total_bytes: Some(1), ..Settings::default() };
    let mut rig = Rig::with(settings, Policy::open(), vec![upstream.local_addr().unwrap()]);
    let mut client = TcpStream::connect(rig.resolver).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut ask = |rig: &mut Rig, label: &[u8; 7]| {
        let message = question(label);
        client.write_all(&[&[0, u8::try_from(message.len()).unwrap()], &message[..]].concat()).unwrap();
        for _ in 0..10 {
            rig.turn();
        }
        let mut answer = [0; 512];
        client.read(&mut answer).map(|_| answer[5] & 15)
    };
    let mut buffer = [0; 512];
    assert!(ask(&mut rig, b"a-first").is_err(), "it is being asked");
    assert!(upstream.recv(&mut buffer).unwrap() > 12);
    assert_eq!(ask(&mut rig, b"another").unwrap(), 5, "refused");
    assert!(upstream.recv(&mut buffer).is_err(), "nothing has left");
}

#[test]
fn the_hosts_servers_are_those_that_were_set_and_no_file_is_read_for_them() {
    // Calls of read(2) by this thread, as the kernel counts them: sockets are read otherwise.
    let reads = || {
        let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let mut rig = Rig::with(Settings::default(), Policy::open(), Vec::new());
    let asked = |rig: &mut Rig, label: &[u8; 7]| {
        let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
        upstream.set_nonblocking(true).unwrap();
        let servers = vec![upstream.local_addr().unwrap()];
        rig.egress.set_nameservers(Arc::new(Upstreams::of(servers)));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(&question(label), rig.resolver).unwrap();
        let start = Instant::now();
        while upstream.recv(&mut [0; 512]).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "the server isn't asked");
            rig.turn();
        }
    };
    // Counting reads, too.
    let (before, own) = (reads(), reads());
    asked(&mut rig, b"first..");
    asked(&mut rig, b"second.");
    assert_eq!(reads() - own, own - before);
}

#[test]
fn an_answer_as_long_as_tcp_has_room_for_is_relayed() {
    let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
    let by_stream = std::net::TcpListener::bind(upstream.local_addr().unwrap()).unwrap();
    by_stream.set_nonblocking(true).unwrap();
    let mut rig = Rig::with(Settings::default(), Policy::open(), vec![upstream.local_addr().unwrap()]);
    let mut client = TcpStream::connect(rig.resolver).unwrap();
    client.set_nonblocking(true).unwrap();
    let message = question(b"a-crowd");
    client.write_all(&[&[0, u8::try_from(message.len()).unwrap()], &message[..]].concat()).unwrap();
    let begin = Instant::now();
    let until = |rig: &mut Rig, done: &mut dyn FnMut() -> bool| {
        while !done() {
            rig.turn();
            assert!(begin.elapsed() < Duration::from_secs(60));
        }
    };
    upstream.set_nonblocking(true).unwrap();
    let mut asked = [0; 512];
    until(&mut rig, &mut || match upstream.recv_from(&mut asked) {
        Ok((length, from)) => {
            // It is too long for a datagram.
            asked[2] |= 0x82;
            upstream.send_to(&asked[..length], from).unwrap();
            true
        }
        Err(_) => false,
    });
    let mut stream = None;
    until(&mut rig, &mut || {
        stream = by_stream.accept().ok();
        stream.is_some()
    });
    let (mut stream, _) = stream.unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut asked = Vec::new();
    until(&mut rig, &mut || {
        let mut buffer = [0; 512];
        let read = stream.read(&mut buffer).unwrap_or(0);
        asked.extend_from_slice(&buffer[..read]);
        asked.len() > 2 && asked.len() == 2 + usize::from(asked[1])
    });
    // The question without its EDNS, then 4,000 addresses of its name.
    let mut answer = asked[2..2 + message.len()].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0x0f, 0xa0, 0, 0, 0, 0]);
    for number in 0..4000_u16 {
        let [high, low] = number.to_be_bytes();
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 9, 9, high, low]);
    }
    let length = u16::try_from(answer.len()).unwrap();
    assert_eq!(length, 64_033);
    let answer = [&length.to_be_bytes()[..], &answer].concat();
    let mut sent = 0;
    until(&mut rig, &mut || {
        sent += stream.write(&answer[sent..]).unwrap_or(0);
        sent == answer.len()
    });
    let mut received = Vec::new();
    until(&mut rig, &mut || {
        let mut buffer = [0; 4096];
        let read = client.read(&mut buffer).unwrap_or(0);
        received.extend_from_slice(&buffer[..read]);
        received.len() > 2
            && received.len() == 2 + usize::from(u16::from_be_bytes([received[0], received[1]]))
    });
    // No error, and as many addresses as a sandbox gets.
    assert_eq!((received[5] & 15, u16::from_be_bytes([received[8], received[9]])), (0, 64));
}

#[test]
fn each_limit_is_reported_once_in_a_sentence_of_its_own_whatever_errors_come_with_it() {
    let mut rig = Rig::new(Settings { total_bytes: Some(1), ..Settings::default() });
    for number in 0..100 {
        let error = std::io::Error::other(format!("error {number}"));
        rig.egress.cx.limit(SANDBOX, LimitKind::NotAccepted(&error));
        rig.egress.cx.limit(SANDBOX, LimitKind::OpenFlows);
        rig.egress.cx.spend(SANDBOX, 1);
    }
    let expected = [
        "egress: further connections can't be accepted (error 0) and wait",
        "egress: further connections are refused: as many are open as may be",
        "egress: the byte quota is used up; all connections are reset, further ones refused",
    ];
    let requests = rig.requests.lock().unwrap();
    let limits: Vec<&str> = requests
        .iter()
        .map(|request| match request {
            Request::Limit { key: SANDBOX, what } => what.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(limits, expected);
}

#[test]
fn a_sandbox_with_many_flows_is_removed_in_slices() {
    let mut policy = Policy::allowlist();
    policy.allow_cidr("127.0.0.1/32").unwrap();
    let mut rig = Rig::with(Settings::default(), policy, Vec::new());
    let far = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = Vec::new();
    for _ in 0..200 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let front = Socket::adopt(ours.into(), Family::Unix).unwrap();
        let Egress { cx, tcp, .. } = &mut rig.egress;
        let permit = cx.acquire(SANDBOX, 2).unwrap();
        let to = (far.local_addr().unwrap(), false);
        tcp.open(cx, &mut rig.reactor, SANDBOX, to, front, permit);
        near.push(theirs);
    }
    let gone = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&gone);
    let reply = Box::new(move || set.store(true, Ordering::Relaxed));
    rig.egress.begin_removal(&mut rig.reactor, SANDBOX, reply);
    let mut left = rig.counters.open.load(Ordering::Relaxed);
    assert_eq!(left, 200);
    while !gone.load(Ordering::Relaxed) {
        assert!(rig.egress.is_busy());
        rig.turn();
        let now = rig.counters.open.load(Ordering::Relaxed);
        assert!(now < left && left - now <= 64, "{left}, then {now}");
        left = now;
    }
    assert_eq!((left, rig.budget.used(), rig.egress.is_busy()), (0, 0, false));
}

/// Connections of the sandbox that have not named their server yet.
fn begin_peeks(rig: &mut Rig, count: usize) -> Vec<UnixStream> {
    let begin = |_| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Socket::adopt(ours.into(), Family::Unix).unwrap();
        let Egress { cx, sni, .. } = &mut rig.egress;
        let permit = cx.acquire(SANDBOX, limits::TCP_FLOW).unwrap();
        sni.begin(cx, &mut rig.reactor, SANDBOX, "198.51.200.1:443".parse().unwrap(), socket, permit);
        theirs
    };
    (0..count).map(begin).collect()
}

#[test]
fn connections_that_have_not_named_their_server_end_when_the_bytes_are_used_up() {
    let mut rig = Rig::new(Settings { total_bytes: Some(1), ..Settings::default() });
    let mut near = begin_peeks(&mut rig, 100);
    rig.egress.cx.spend(SANDBOX, 1);
    near[0].write_all(&[22]).unwrap();
    let begin = Instant::now();
    while rig.egress.sni.len() > 0 || rig.egress.is_busy() {
        rig.turn();
        assert!(begin.elapsed() < Duration::from_secs(10), "{} are left", rig.egress.sni.len());
    }
    assert_eq!((rig.egress.cx.open(SANDBOX), rig.budget.used()), (0, 0));
}

#[test]
fn a_new_policy_checks_connections_that_have_not_named_their_server_in_slices() {
    let mut rig = Rig::new(Settings::default());
    let _near = begin_peeks(&mut rig, 200);
    let applied = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&applied);
    let reply = Box::new(move |generation| set.store(generation == 2, Ordering::Relaxed));
    let mut left = rig.egress.sni.len();
    rig.egress.set_policy(&mut rig.reactor, SANDBOX, (Arc::new(Policy::blocked()), 2), reply);
    loop {
        let now = rig.egress.sni.len();
        assert!(now < left && left - now <= 64, "{left}, then {now}");
        left = now;
        if applied.load(Ordering::Relaxed) {
            break;
        }
        rig.turn();
    }
    assert_eq!((left, rig.egress.is_busy(), rig.budget.used()), (0, false, 0));
}
