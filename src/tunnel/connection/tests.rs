//! A connection without a sandbox: its client and its server are streams of the test's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use super::*;
use crate::limits;
use crate::pump::tests::configs;
use crate::reactor::{FdBudget, Kind, Slab, Use};
use crate::sys::socket::Family;
use crate::tunnel::settings::Settings;

const SANDBOX: u64 = 7;
const READY: Readiness = Readiness { readable: true, writable: true, failed: false, more_follows: true };

struct Rig {
    reactor: Reactor,
    scratch: Scratch,
    state: SandboxState,
    tickets: Tickets,
    memory: Walk,
    requests: Requests,
    requested: Arc<Mutex<Vec<Request>>>,
    key: Key,
    connection: Connection,
}

impl Rig {
    fn new(downstream: Endpoint, port: u16, reply: Option<Reply>) -> Self {
        let requested = Arc::new(Mutex::new(Vec::new()));
        let here = Arc::clone(&requested);
        let settings = Settings { destination: Ipv4Addr::LOCALHOST.into(), ..Settings::default() };
        let reactor = Reactor::new().unwrap();
        let permit = FdBudget::new(100).acquire(SANDBOX, Use::Tunnel, limits::CONNECTION).unwrap();
        let times = (reactor.now(), reactor.now() + Duration::from_secs(10));
        Self {
            scratch: Scratch::new(),
            state: SandboxState::new(settings, Arc::default()),
            tickets: Tickets::default(),
            memory: Walk::new(),
            requests: Arc::new(move |request| here.lock().unwrap().push(request)),
            requested,
            key: Slab::new(Kind(2)).insert(()),
            connection: Connection::new((SANDBOX, port), downstream, permit, reply, times),
            reactor,
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Connection, &mut Env<'_>) -> Next) -> Next {
        let mut env = Env {
            key: self.key,
            reactor: &self.reactor,
            scratch: &mut self.scratch,
            sandbox: &mut self.state,
            tickets: &mut self.tickets,
            memory: &self.memory,
            requests: &self.requests,
        };
        act(&mut self.connection, &mut env)
    }

    fn start(&mut self) -> Next {
        self.act(|connection, env| connection.start(env))
    }

    fn ready(&mut self, side: Side) -> Next {
        self.act(|connection, env| connection.on_ready(env, side, READY))
    }

    /// Wakes it until `done`, for the client's sake too.
    fn until(&mut self, mut done: impl FnMut(&mut Self, Next) -> bool) {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < Duration::from_secs(30), "{:?}", self.connection.stage);
            let mut next = self.ready(Side::Downstream);
            if let Next::Reschedule = next {
                next = self.act(|connection, env| connection.on_reschedule(env));
            }
            if done(self, next) {
                return;
            }
        }
    }

    /// Has it connected through init, and returns the server's stream.
    fn connect(&mut self) -> UnixStream {
        assert!(self.connection.waits_for_socket());
        // An unconnected socket's connect is refused where nothing listens; then init is asked.
        let socket = crate::sys::socket::tcp(false).unwrap();
        let mut next = self.act(|connection, env| connection.on_socket(env, Some(socket)));
        while self.connection.fds()[1].is_some() {
            assert!(matches!(next, Next::Wait), "{next:?}");
            next = self.ready(Side::Upstream);
        }
        let ticket = match self.requested.lock().unwrap().pop() {
            Some(Request::NeedLoopback { ticket, .. }) => ticket,
            other => panic!("{other:?}"),
        };
        assert_eq!(self.tickets.redeem(ticket), Some(self.key));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let next = self.act(|connection, env| connection.on_loopback(env, Ok(ours.into())));
        assert!(matches!(next, Next::Wait | Next::Reschedule), "{next:?}");
        theirs
    }
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn plain() -> (Endpoint, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Endpoint::plain(Socket::adopt(ours.into(), Family::Unix).unwrap()), theirs)
}

/// An endpoint that waits for a handshake, and its client.
fn encrypted() -> (Endpoint, StreamOwned<ClientConnection, TcpStream>) {
    let (server, client) = configs();
    let client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nonblocking(true).unwrap();
    let ours = Socket::adopt(listener.accept().unwrap().0.into(), Family::Tcp).unwrap();
    (Endpoint::encrypted(ours, server).unwrap(), StreamOwned::new(client, stream))
}

#[test]
fn what_the_client_sends_with_the_end_of_its_handshake_reaches_the_server() {
    let (downstream, mut client) = encrypted();
    let mut rig = Rig::new(downstream, closed_port(), None);
    assert!(matches!(rig.start(), Next::Wait));
    client.conn.writer().write_all(b"early").unwrap();
    rig.until(|rig, next| {
        assert!(matches!(next, Next::Wait | Next::Reschedule), "{next:?}");
        let _ = client.conn.complete_io(&mut client.sock);
        rig.connection.waits_for_socket()
    });
    // All of it has left the client, with the handshake or behind it.
    while client.conn.wants_write() {
        client.conn.write_tls(&mut client.sock).unwrap();
    }
    let mut server = rig.connect();
    server.set_nonblocking(true).unwrap();
    let mut heard = [0; 5];
    rig.until(|_, _| server.read(&mut heard).is_ok());
    assert_eq!(&heard, b"early");
    assert_eq!(rig.state.counters().bytes_in.load(Ordering::Relaxed), 5);
    rig.connection.close(&mut rig.scratch);
}

#[test]
fn a_client_that_does_not_speak_tls_is_sent_an_alert_and_lingers() {
    let (downstream, mut client) = encrypted();
    let mut rig = Rig::new(downstream, closed_port(), None);
    client.sock.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    rig.until(|rig, _| rig.connection.is_lingering());
    assert!(rig.connection.deadline().is_some());
    client.sock.set_nonblocking(false).unwrap();
    let mut alert = Vec::new();
    client.sock.read_to_end(&mut alert).unwrap();
    assert!(alert.starts_with(&[21, 3]), "{alert:?}");
    drop(client);
    rig.until(|_, next| matches!(next, Next::Close));
    let next = rig.act(|connection, env| connection.on_deadline(env));
    assert!(matches!(next, Next::Close));
}

#[test]
fn clients_beyond_the_bound_do_not_linger() {
    let (downstream, mut client) = encrypted();
    let mut rig = Rig::new(downstream, closed_port(), None);
    while rig.state.begin_linger() {}
    client.sock.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    rig.until(|_, next| matches!(next, Next::Close));
    assert!(!rig.connection.is_lingering());
}

#[test]
fn the_client_whose_handshake_takes_more_than_there_is_room_for_is_reset_and_reported() {
    let (downstream, mut client) = encrypted();
    let mut rig = Rig::new(downstream, closed_port(), None);
    // The beginning of a record.
    client.sock.write_all(&[22, 3, 1, 1]).unwrap();
    rig.until(|_, next| matches!(next, Next::Wait));
    while rig.state.recount_handshakes(0, 1 << 20) {}
    client.sock.write_all(&[0, 1]).unwrap();
    rig.until(|_, next| match next {
        Next::Cut(why) => {
            assert_eq!(why.code(), Code::Limit);
            true
        }
        _ => false,
    });
    assert!(matches!(&rig.requested.lock().unwrap()[..],
        [Request::Limit { what, .. }] if what.contains("before their TLS handshakes")));
}

#[test]
fn a_handshake_has_a_deadline_and_an_open_connection_another() {
    let (downstream, _client) = encrypted();
    let mut rig = Rig::new(downstream, closed_port(), None);
    assert!(matches!(rig.start(), Next::Wait));
    let next = rig.act(|connection, env| connection.on_deadline(env));
    assert!(matches!(next, Next::Cut(why) if why.code() == Code::TimedOut));

    let (downstream, _client) = plain();
    let mut rig = Rig::new(downstream, closed_port(), None);
    rig.start();
    let _server = rig.connect();
    let idle = rig.state.timeouts().idle;
    assert_eq!(rig.connection.deadline(), Some(rig.reactor.now() + idle));
    let next = rig.act(|connection, env| connection.on_deadline(env));
    assert!(matches!(next, Next::Wait), "it isn't idle yet");
}

#[test]
fn the_host_is_told_whether_its_server_was_reached() {
    let told = |result: &Arc<Mutex<Vec<Result<()>>>>| {
        let here = Arc::clone(result);
        Some(Box::new(move |result| here.lock().unwrap().push(result)) as Reply)
    };
    let results = Arc::new(Mutex::new(Vec::new()));
    let (downstream, mut client) = plain();
    let mut rig = Rig::new(downstream, closed_port(), told(&results));
    rig.start();
    let mut server = rig.connect();
    assert!(matches!(results.lock().unwrap()[..], [Ok(())]));
    client.write_all(b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    rig.ready(Side::Upstream);
    assert!(matches!(rig.ready(Side::Downstream), Next::Wait | Next::Close));
    assert_eq!(server.read(&mut [0; 2]).unwrap(), 1);

    let (downstream, mut client) = plain();
    let mut rig = Rig::new(downstream, 80, told(&results));
    rig.start();
    match rig.act(|connection, env| connection.on_socket(env, None)) {
        Next::Cut(why) => {
            assert_eq!(why.code(), Code::Limit);
            rig.connection.reset(&mut rig.scratch, why);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(&results.lock().unwrap()[..], [_, Err(why)] if why.message().contains("no socket")));
    assert_eq!(rig.state.counters().refused.load(Ordering::Relaxed), 1);
    assert_eq!(client.read(&mut [0]).map_err(|error| error.kind()).unwrap_or(0), 0);
}

#[test]
fn a_client_that_resets_its_connection_ends_the_dial() {
    let (downstream, _client) = plain();
    let mut rig = Rig::new(downstream, closed_port(), None);
    rig.start();
    let failed = Readiness { failed: true, ..READY };
    let next = rig.act(|connection, env| connection.on_ready(env, Side::Downstream, failed));
    assert!(matches!(next, Next::Cut(why) if why.code() == Code::Closed));
}
