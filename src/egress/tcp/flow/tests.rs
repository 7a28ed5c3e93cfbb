use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::*;
use crate::egress::settings::Settings;
use crate::egress::testing::{Rig, SANDBOX, connection};
use crate::limits;
use crate::policy::{Policy, Reason};

/// A flow, the sandbox's end of it, and the listener that it goes to.
struct Opened {
    rig: Rig,
    tcp: Tcp,
    near: UnixStream,
    listener: TcpListener,
}

impl Opened {
    fn new(to_service: bool) -> Self {
        Self::open(|cx, tcp, reactor, to, front, permit| {
            tcp.open(cx, reactor, SANDBOX, (to, to_service), front, permit);
        })
    }

    /// Opens a flow to the listener.
    fn open(open: impl FnOnce(&mut Cx, &mut Tcp, &mut Reactor, SocketAddr, Socket, FdPermit)) -> Self {
        let (mut rig, mut tcp) = (Rig::new(Rig::loopback(), Settings::default()), Tcp::new());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let permit = rig.cx.acquire(SANDBOX, limits::TCP_FLOW).unwrap();
        let (front, near) = connection();
        let to = listener.local_addr().unwrap();
        open(&mut rig.cx, &mut tcp, &mut rig.reactor, to, front, permit);
        Self { rig, tcp, near, listener }
    }

    fn key(&self) -> Key {
        self.tcp.keys(SANDBOX)[0]
    }

    fn turn_until(&mut self, done: impl FnMut() -> bool) {
        let tcp = &mut self.tcp;
        self.rig.turn_until(|cx, reactor, wake| tcp.on_wake(cx, reactor, wake.key(), wake), done);
    }

    fn accept(&mut self) -> TcpStream {
        let (listener, mut accepted) = (self.listener.try_clone().unwrap(), None);
        self.turn_until(|| {
            accepted = accepted.take().or_else(|| listener.accept().ok());
            accepted.is_some()
        });
        let stream = accepted.unwrap().0;
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// Reads until so many bytes have come, or the end of the stream.
    fn read(&mut self, mut from: impl Read, count: usize) -> Vec<u8> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        self.turn_until(|| match from.read(&mut buffer) {
            Ok(0) => true,
            Ok(read) => {
                bytes.extend_from_slice(&buffer[..read]);
                bytes.len() >= count
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            // A reset.
            Err(_) => true,
        });
        bytes
    }

    fn assert_over(&mut self) {
        assert_eq!((self.tcp.len(), self.rig.cx.open(SANDBOX), self.rig.budget.used()), (0, 0, 0));
        assert_eq!(self.rig.counters.open.load(Ordering::Relaxed), 0);
        let mut near = self.near.try_clone().unwrap();
        assert_eq!(near.read(&mut [0; 9]).unwrap_or(0), 0, "the sandbox's end is closed");
    }
}

#[test]
fn each_direction_is_relayed_counted_and_ends_by_itself() {
    let mut opened = Opened::new(false);
    let mut far = opened.accept();
    let mut near = opened.near.try_clone().unwrap();
    near.write_all(b"question").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(opened.read(far.try_clone().unwrap(), usize::MAX), b"question");
    far.write_all(b"a longer answer").unwrap();
    assert_eq!(opened.read(near.try_clone().unwrap(), 15), b"a longer answer");
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(opened.read(near, usize::MAX), b"");
    let counters = Arc::clone(&opened.rig.counters);
    opened.turn_until(|| counters.open.load(Ordering::Relaxed) == 0);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!((count(&counters.bytes_out), count(&counters.bytes_in), count(&counters.total)), (8, 15, 1));
    opened.assert_over();
}

#[test]
fn a_refused_connect_is_reported_and_cuts_the_sandboxs_end() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut opened = Opened::open(|cx, tcp, reactor, _, front, permit| {
        tcp.open(cx, reactor, SANDBOX, (closed, false), front, permit);
    });
    let near = opened.near.try_clone().unwrap();
    assert_eq!(opened.read(near, usize::MAX), b"");
    assert_eq!(opened.rig.unreachable(), (closed.ip(), libc::ECONNREFUSED));
    opened.assert_over();
}

#[test]
fn a_connect_that_takes_too_long_is_reported_and_cut() {
    let mut opened = Opened::new(false);
    let key = opened.key();
    let Rig { cx, reactor, .. } = &mut opened.rig;
    opened.tcp.on_wake(cx, reactor, key, Wake::Timer(key));
    assert_eq!(opened.rig.unreachable().1, libc::ETIMEDOUT);
    opened.assert_over();
}

#[test]
fn a_new_policy_resets_what_it_denies_and_leaves_the_hosts_services() {
    for to_service in [false, true] {
        let mut opened = Opened::new(to_service);
        let far = opened.accept();
        let key = opened.key();
        let Rig { cx, reactor, .. } = &mut opened.rig;
        assert!(opened.tcp.is_still_allowed(cx, reactor, key));
        assert!(cx.set_policy(SANDBOX, Arc::new(Policy::blocked()), 2));
        assert_eq!(opened.tcp.is_still_allowed(cx, reactor, key), to_service);
        if to_service {
            assert_eq!(opened.rig.requests(), []);
            opened.tcp.cut(&mut opened.rig.cx, &mut opened.rig.reactor, key);
        } else {
            assert_eq!(opened.rig.denied().0, Some(Reason::Blocked));
        }
        assert_eq!(opened.read(far, usize::MAX), b"");
        opened.assert_over();
    }
}

#[test]
fn what_was_read_of_an_adopted_connection_is_sent_first() {
    let mut opened = Opened::open(|cx, tcp, reactor, to, socket, permit| {
        let (name, sent) = ("a.example".into(), b"hello".to_vec());
        tcp.adopt(cx, reactor, Adopt { sandbox: SANDBOX, to, socket, permit, name, sent });
    });
    let far = opened.accept();
    opened.near.write_all(b" and more").unwrap();
    assert_eq!(opened.read(far, 14), b"hello and more");
    assert_eq!(opened.rig.counters.bytes_out.load(Ordering::Relaxed), 14);
    let key = opened.key();
    opened.tcp.cut(&mut opened.rig.cx, &mut opened.rig.reactor, key);
    opened.assert_over();
}

#[test]
fn a_walk_over_memory_goes_on_when_a_sandbox_was_removed_since_it_was_looked_at() {
    const REMOVED: u64 = SANDBOX + 1;
    let mut opened = Opened::new(false);
    let key = opened.key();
    let Rig { cx, reactor, .. } = &mut opened.rig;
    let memory = &mut opened.tcp.memory;
    memory.begin([key].into_iter(), 2);
    memory.record(REMOVED, key, 1 << 30, reactor.now());
    let memory_key = opened.tcp.memory_key;
    opened.tcp.on_memory_wake(cx, reactor, Wake::Rescheduled(memory_key));
    assert_eq!(opened.rig.requests(), [], "nothing is reported of it");
    assert_eq!(opened.tcp.len(), 1);
}
