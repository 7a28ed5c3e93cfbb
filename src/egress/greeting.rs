//! Connections to domains: what the sandbox sends first is read before anything is sent on.
//!
//! The far end is reached only if the TLS handshake names a server that the policy has a domain for, and if the
//! sandbox's resolver has answered this very address for that name. What was read is passed on as it came.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::dns::Dns;
use super::hello::{Found, Hello};
use super::outbound::Outbound;
use crate::policy::{Protocol, Reason, Verdict};
use crate::reactor::{Key, Lane, Permit, Reactor, TimerId, Wake};
use crate::sys::socket::{Family, Socket};

/// How long the handshake's first message may take in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of one sandbox's unfinished first messages is held. Most come whole, and aren't held at all.
const MOST_HELD: usize = 4 << 20;

/// A connection of the sandbox's whose server isn't known yet.
#[derive(Debug)]
pub(in crate::egress) struct Greeting {
    pub(in crate::egress) sandbox: u64,
    to: SocketAddr,
    socket: Socket,
    hello: Hello,
    timer: Option<TimerId>,
    permit: Permit,
}

impl Outbound {
    /// Whether a destination that no range allows may be one of the policy's domains: by TLS, and at an address
    /// that is known to be one. Nothing protected is.
    pub(super) fn may_be_domain(&mut self, reactor: &Reactor, sandbox: u64, to: SocketAddr) -> bool {
        let Some(gate) = self.gates.get(&sandbox) else { return false };
        gate.policy.is_tls_port(to.port())
            && gate.names.answered.has_any(to.ip(), reactor.now())
            && self.judge.verdict(&gate.policy, to.ip(), Protocol::Tcp).reason == Reason::NotListed
    }

    /// A sandbox's connections whose server isn't known yet.
    pub(super) fn greetings(&self, sandbox: u64) -> Vec<(Key, SocketAddr)> {
        let greeting = |dns: &Dns| match dns {
            Dns::Greeting(greeting) if greeting.sandbox == sandbox => Some(greeting.to),
            _ => None,
        };
        self.dns.iter().filter_map(|(key, dns)| greeting(dns).map(|to| (key, to))).collect()
    }

    /// Reads what the sandbox sends first.
    pub(super) fn greet(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        fd: OwnedFd,
        permit: Permit,
    ) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        gate.open += 1;
        let greeting = Greeting {
            sandbox,
            to,
            socket: Socket::new(fd, Family::Tcp),
            hello: Hello::default(),
            timer: None,
            permit,
        };
        let key = self.dns.insert(Dns::Greeting(greeting));
        reactor.join(key, sandbox);
        let Some(Dns::Greeting(greeting)) = self.dns.get_mut(key) else { return };
        greeting.timer = Some(reactor.schedule(reactor.now() + PATIENCE, key));
        if reactor.register(greeting.socket.as_fd(), key, Lane::Front).is_err() {
            self.cut_greeting(reactor, key);
        }
    }

    pub(super) fn wake_greeting(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        if let Wake::Timer(_) = wake {
            if let Some(Dns::Greeting(greeting)) = self.dns.get_mut(key) {
                greeting.timer = None;
            }
            return self.refuse_greeting(reactor, key, &Verdict::of(Reason::TlsTimeout), None);
        }
        loop {
            let Some(Dns::Greeting(greeting)) = self.dns.get_mut(key) else { return };
            let (room, held) = (greeting.hello.room().max(1), greeting.hello.held());
            let buffer = self.scratch.plain.get_mut(..room).unwrap_or_default();
            match greeting.socket.receive(buffer) {
                // It has gone without a word, or in the middle of one.
                Ok(0) if greeting.hello.is_empty() => return self.cut_greeting(reactor, key),
                Ok(0) => return self.refuse_greeting(reactor, key, &Verdict::of(Reason::NotTls), None),
                Ok(length) => {
                    let found = greeting.hello.push(buffer.get(..length).unwrap_or_default());
                    let sandbox = greeting.sandbox;
                    let Some(gate) = self.gates.get_mut(&sandbox) else { return };
                    gate.greetings += greeting.hello.held().saturating_sub(held);
                    match found {
                        Found::More if gate.greetings > MOST_HELD => {
                            self.cut_greeting(reactor, key);
                            return self.limited(sandbox, "are refused: too many wait to name their server");
                        }
                        Found::More => {}
                        Found::Server(name) => return self.introduced(reactor, key, name),
                        Found::Refused(reason) => {
                            return self.refuse_greeting(reactor, key, &Verdict::of(reason), None);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.cut_greeting(reactor, key),
            }
        }
    }

    /// The handshake names its server: the policy is asked.
    fn introduced(&mut self, reactor: &mut Reactor, key: Key, name: String) {
        let Some(Dns::Greeting(greeting)) = self.dns.get_mut(key) else { return };
        let (sandbox, to) = (greeting.sandbox, greeting.to);
        let Some(gate) = self.gates.get(&sandbox) else { return };
        let verdict = match gate.policy.domain_of(&name) {
            None => Verdict::of(Reason::ServerName),
            Some(_) if !gate.names.answered.has(to.ip(), &name, reactor.now()) => {
                Verdict::of(Reason::NotResolved)
            }
            Some(_) => self.standing(sandbox, to, Some(&name)),
        };
        if !verdict.is_allowed() {
            return self.refuse_greeting(reactor, key, &verdict, Some(&name));
        }
        let Some(greeting) = self.take_greeting(reactor, key) else { return };
        let Greeting { socket, hello, permit, .. } = greeting;
        self.open_flow(reactor, sandbox, to, socket, permit, Some((name.into(), hello.into_bytes())));
    }

    /// What the policy of the moment says of a TCP flow that goes to an address, or to a domain there.
    pub(super) fn standing(&mut self, sandbox: u64, to: SocketAddr, domain: Option<&str>) -> Verdict {
        let Some(gate) = self.gates.get(&sandbox) else { return Verdict::of(Reason::Blocked) };
        let verdict = self.judge.verdict(&gate.policy, to.ip(), Protocol::Tcp);
        match domain.and_then(|name| gate.policy.domain_of(name)) {
            Some(entry) if verdict.reason == Reason::NotListed && gate.policy.is_tls_port(to.port()) => {
                Verdict { entry: Some(entry), ..Verdict::of(Reason::Domain) }
            }
            _ => verdict,
        }
    }

    fn refuse_greeting(&mut self, reactor: &mut Reactor, key: Key, verdict: &Verdict, name: Option<&str>) {
        let Some(Dns::Greeting(greeting)) = self.dns.get_mut(key) else { return };
        let (sandbox, to) = (greeting.sandbox, greeting.to);
        self.cut_greeting(reactor, key);
        self.denied_by_name(reactor, sandbox, to, verdict, name);
    }

    /// Ends it with a reset.
    pub(super) fn cut_greeting(&mut self, reactor: &mut Reactor, key: Key) {
        if let Some(greeting) = self.take_greeting(reactor, key) {
            greeting.socket.reset();
        }
    }

    fn take_greeting(&mut self, reactor: &mut Reactor, key: Key) -> Option<Greeting> {
        let Some(Dns::Greeting(_)) = self.dns.get_mut(key) else { return None };
        let Some(Dns::Greeting(mut greeting)) = self.dns.remove(key) else { return None };
        if let Some(timer) = greeting.timer.take() {
            reactor.cancel(timer);
        }
        reactor.deregister(greeting.socket.as_fd());
        if let Some(gate) = self.gates.get_mut(&greeting.sandbox) {
            gate.open = gate.open.saturating_sub(1);
            gate.greetings = gate.greetings.saturating_sub(greeting.hello.held());
        }
        Some(greeting)
    }
}
