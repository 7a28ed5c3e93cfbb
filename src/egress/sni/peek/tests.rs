use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::egress::settings::Settings;
use crate::egress::sni::client_hello::tests::rustls_hello;
use crate::egress::testing::{Rig, SANDBOX, connection};
use crate::limits;
use crate::policy::Policy;

struct Test {
    rig: Rig,
    sni: Sni,
    dns: Dns,
    to: SocketAddr,
}

impl Test {
    /// A policy with one domain, which the resolver has answered an address for.
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let mut policy = Policy::allowlist();
        policy.allow_domain("a.example").unwrap();
        let mut dns = Dns::new();
        let to: SocketAddr = "198.51.200.1:443".parse().unwrap();
        dns.pin(SANDBOX, "a.example", to.ip());
        Self { rig: Rig::new(policy, settings), sni: Sni::new(), dns, to }
    }

    /// The sandbox's end of a new connection, and its key.
    fn begin(&mut self, to: SocketAddr) -> (UnixStream, Key) {
        let (socket, theirs) = connection();
        let before = self.sni.keys(SANDBOX);
        let permit = self.rig.cx.acquire(SANDBOX, limits::TCP_FLOW).unwrap();
        self.sni.begin(&mut self.rig.cx, &mut self.rig.reactor, SANDBOX, to, socket, permit);
        let key = self.sni.keys(SANDBOX).into_iter().find(|key| !before.contains(key)).unwrap();
        (theirs, key)
    }

    fn wake(&mut self, wake: Wake) -> Option<Adopt> {
        self.sni.on_wake(&mut self.rig.cx, &self.dns, &mut self.rig.reactor, wake.key(), wake)
    }

    /// What becomes of a connection that sends these bytes.
    fn sent(&mut self, to: SocketAddr, bytes: &[u8]) -> Option<Adopt> {
        let (mut theirs, key) = self.begin(to);
        theirs.write_all(bytes).unwrap();
        self.wake(Wake::Rescheduled(key))
    }

    fn assert_over(&self) {
        assert_eq!((self.sni.len(), self.sni.held.len(), self.rig.cx.open(SANDBOX)), (0, 0, 0));
        assert_eq!(self.rig.budget.used(), 0);
    }
}

#[test]
fn a_connection_to_an_allowed_server_is_handed_on_with_what_it_has_sent() {
    let mut test = Test::new();
    let hello = rustls_hello("A.example", true);
    let (mut theirs, key) = test.begin(test.to);
    assert_eq!(test.rig.cx.open(SANDBOX), 1, "it has the place of a flow");
    theirs.write_all(&hello[..100]).unwrap();
    assert!(test.wake(Wake::Rescheduled(key)).is_none());
    assert_eq!(test.sni.held.get(&SANDBOX), Some(&100));
    theirs.write_all(&hello[100..]).unwrap();
    let adopt = test.wake(Wake::Rescheduled(key)).unwrap();
    assert_eq!((adopt.sandbox, adopt.to, &*adopt.name), (SANDBOX, test.to, "a.example"));
    assert_eq!(adopt.sent, hello);
    assert_eq!(test.rig.budget.used(), limits::TCP_FLOW, "the permit goes with it");
    drop(adopt);
    test.assert_over();
    assert_eq!(test.rig.requests(), []);
}

#[test]
fn what_is_refused_is_reset_and_reported_with_the_reason() {
    let hello = rustls_hello("a.example", true);
    let elsewhere: SocketAddr = "198.51.200.2:443".parse().unwrap();
    let mut test = Test::new();
    let to = test.to;
    let cases: [(SocketAddr, &[u8], Reason, &str); 4] = [
        (to, b"GET / HTTP/1.1\r\n\r\n", Reason::NotTls, ""),
        (to, &rustls_hello("a.example", false), Reason::NoServerName, ""),
        (to, &rustls_hello("b.example", true), Reason::ServerName, ": b.example"),
        (elsewhere, &hello, Reason::NotResolved, ": a.example"),
    ];
    for (to, bytes, reason, end) in cases {
        assert!(test.sent(to, bytes).is_none());
        let (found, detail) = test.rig.denied();
        assert_eq!(found, Some(reason), "{detail}");
        assert!(detail.ends_with(end), "{detail}");
        test.assert_over();
    }
    assert_eq!(test.rig.counters.denied.load(Ordering::Relaxed), 4);
}

#[test]
fn silence_is_refused_and_a_close_before_the_first_byte_is_not_reported() {
    let mut test = Test::new();
    let (_theirs, key) = test.begin(test.to);
    assert!(test.wake(Wake::Timer(key)).is_none());
    assert_eq!(test.rig.denied().0, Some(Reason::TlsTimeout));
    let (theirs, key) = test.begin(test.to);
    drop(theirs);
    assert!(test.wake(Wake::Rescheduled(key)).is_none());
    assert_eq!(test.rig.requests(), []);
    // In the middle of the handshake it is.
    assert!(test.sent(test.to, &rustls_hello("a.example", true)[..50]).is_none());
    let [key] = test.sni.keys(SANDBOX)[..] else { panic!() };
    assert!(test.wake(Wake::Rescheduled(key)).is_none());
    assert_eq!(test.rig.denied().0, Some(Reason::NotTls));
    test.assert_over();
}

#[test]
fn no_connection_is_handed_on_when_the_bytes_are_used_up() {
    let mut test = Test::with(Settings { total_bytes: Some(1), ..Settings::default() });
    test.rig.cx.spend(SANDBOX, 1);
    assert!(test.rig.limit().contains("the byte quota is used up"));
    assert!(test.sent(test.to, &rustls_hello("a.example", true)).is_none());
    assert_eq!(test.rig.requests(), []);
    test.assert_over();
}

#[test]
fn a_new_policy_cuts_what_can_not_be_a_domain_any_more() {
    let mut test = Test::new();
    let (_theirs, key) = test.begin(test.to);
    let Test { rig, sni, dns, .. } = &mut test;
    assert!(sni.is_still_allowed(&mut rig.cx, dns, &mut rig.reactor, key));
    assert!(rig.cx.set_policy(SANDBOX, Arc::new(Policy::allowlist()), 2));
    assert!(!sni.is_still_allowed(&mut rig.cx, dns, &mut rig.reactor, key));
    test.assert_over();
}

#[test]
fn what_unfinished_handshakes_hold_is_bounded() {
    let mut test = Test::new();
    // A handshake message that goes on, in whole records.
    let record: Vec<u8> = [&[22, 3, 1, 0x03, 0xe8, 1, 0, 0x3f, 0xff][..], &[0; 996]].concat();
    let next: Vec<u8> = [&[22, 3, 1, 0x03, 0xe8][..], &[0; 1000]].concat();
    let bytes = [record, next.repeat(13)].concat();
    let (mut open, mut most) = (Vec::new(), 0);
    for _ in 0..200 {
        let (mut theirs, key) = test.begin(test.to);
        theirs.write_all(&bytes).unwrap();
        assert!(test.wake(Wake::Rescheduled(key)).is_none());
        open.push(theirs);
        most = most.max(test.sni.held.get(&SANDBOX).copied().unwrap_or_default());
    }
    assert!(most <= MAX_HELD && most > MAX_HELD - 2 * bytes.len(), "{most}");
    assert!(test.sni.len() < 200);
    assert!(test.rig.limit().contains("wait to name their server"));
    for key in test.sni.keys(SANDBOX) {
        test.sni.cut(&mut test.rig.cx, &mut test.rig.reactor, key);
    }
    test.assert_over();
}
