//! Connections to domains: what the sandbox sends first is read before anything is sent on.
//!
//! The destination is reached only if the TLS handshake names a server that the policy has a domain for, and if the
//! sandbox's resolver has answered this very address for that name. What was read is passed on as it came.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::client_hello::{ClientHello, Found};
use crate::egress::cx::Cx;
use crate::egress::dns::Dns;
use crate::egress::kinds::SNI;
use crate::egress::limit::LimitKind;
use crate::policy::{Protocol, Reason, Verdict};
use crate::reactor::{FdPermit, FdSlot, Key, Reactor, Slab, TimerId, Wake};
use crate::sys::socket::Socket;

/// How long the handshake's first message may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of one sandbox's unfinished first messages is held. Most come whole, and aren't held at all.
const MAX_HELD: usize = 4 << 20;

/// A connection whose server was named and is allowed, for [`crate::egress::tcp`] to relay.
#[derive(Debug)]
pub(in crate::egress) struct Adopt {
    // Plain data: taken apart by the one that adopts it.
    pub(in crate::egress) sandbox: u64,
    pub(in crate::egress) to: SocketAddr,
    pub(in crate::egress) socket: Socket,
    pub(in crate::egress) permit: FdPermit,
    pub(in crate::egress) name: Box<str>,
    /// What the sandbox has sent so far.
    pub(in crate::egress) sent: Vec<u8>,
}

/// A connection whose server isn't known yet.
#[derive(Debug)]
struct Peek {
    sandbox: u64,
    to: SocketAddr,
    socket: Socket,
    hello: ClientHello,
    timer: Option<TimerId>,
    permit: FdPermit,
}

/// The connections of all sandboxes whose servers aren't known yet.
pub(in crate::egress) struct Sni {
    peeks: Slab<Peek>,
    /// The bytes of first messages that each sandbox's connections hold.
    held: HashMap<u64, usize>,
}

impl Sni {
    pub(in crate::egress) fn new() -> Self {
        Self { peeks: Slab::new(SNI), held: HashMap::new() }
    }

    pub(in crate::egress) fn len(&self) -> usize {
        self.peeks.len()
    }

    /// Whether there is no room for another connection.
    pub(in crate::egress) fn is_full(&self) -> bool {
        self.peeks.is_full()
    }

    /// A sandbox's connections.
    pub(in crate::egress) fn keys(&self, sandbox: u64) -> Vec<Key> {
        self.peeks.iter().filter(|(_, peek)| peek.sandbox == sandbox).map(|(key, _)| key).collect()
    }

    /// Reads what the sandbox sends first. `permit` is for the flow that it may become.
    pub(in crate::egress) fn begin(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        socket: Socket,
        permit: FdPermit,
    ) {
        cx.reserve(sandbox);
        let peek = Peek { sandbox, to, socket, hello: ClientHello::default(), timer: None, permit };
        let key = self.peeks.insert(peek);
        reactor.join(key, sandbox);
        let Some(peek) = self.peeks.get_mut(key) else {
            debug_assert!(false, "it was just inserted");
            return;
        };
        peek.timer = Some(reactor.schedule(reactor.now() + HANDSHAKE_TIMEOUT, key));
        if reactor.register(peek.socket.as_fd(), key, FdSlot::First).is_err() {
            self.cut(cx, reactor, key);
        }
    }

    /// Reads on. Returns the connection once its server is known and allowed.
    pub(in crate::egress) fn on_wake(
        &mut self,
        cx: &mut Cx,
        dns: &Dns,
        reactor: &mut Reactor,
        key: Key,
        wake: Wake,
    ) -> Option<Adopt> {
        if let Wake::Timer(_) = wake {
            self.peeks.get_mut(key)?.timer = None;
            self.refuse(cx, reactor, key, &Verdict::of(Reason::TlsTimeout), None);
            return None;
        }
        loop {
            // A wake-up can come after its connection has ended.
            let peek = self.peeks.get_mut(key)?;
            let (sandbox, room, before) = (peek.sandbox, peek.hello.room().max(1), peek.hello.held());
            let buffer = cx.scratch().plain.get_mut(..room).unwrap_or_default();
            let length = match peek.socket.receive(buffer) {
                // It was closed before anything came, or in the middle of the handshake.
                Ok(0) if peek.hello.is_empty() => {
                    self.cut(cx, reactor, key);
                    return None;
                }
                Ok(0) => {
                    self.refuse(cx, reactor, key, &Verdict::of(Reason::NotTls), None);
                    return None;
                }
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {
                    self.cut(cx, reactor, key);
                    return None;
                }
            };
            let found = peek.hello.push(buffer.get(..length).unwrap_or_default());
            let held = self.held.entry(sandbox).or_default();
            *held += peek.hello.held().saturating_sub(before);
            match found {
                Found::More if *held > MAX_HELD => {
                    cx.limit(sandbox, LimitKind::ServerNames);
                    self.cut(cx, reactor, key);
                    return None;
                }
                Found::More => {}
                Found::Server(name) => return self.on_server_name(cx, dns, reactor, key, name),
                Found::Refused(reason) => {
                    self.refuse(cx, reactor, key, &Verdict::of(reason), None);
                    return None;
                }
            }
        }
    }

    /// The handshake names its server: the policy is asked.
    fn on_server_name(
        &mut self,
        cx: &mut Cx,
        dns: &Dns,
        reactor: &mut Reactor,
        key: Key,
        name: String,
    ) -> Option<Adopt> {
        let peek = self.peeks.get_mut(key)?;
        let (sandbox, to) = (peek.sandbox, peek.to);
        if cx.is_exhausted(sandbox) {
            // It is among those that are being ended, and must not become a flow that isn't.
            self.cut(cx, reactor, key);
            return None;
        }
        let is_known = cx.policy(sandbox)?.domain_of(&name).is_some();
        let is_pinned = dns.pinned(sandbox).is_some_and(|pinned| pinned.has(to.ip(), &name, reactor.now()));
        let verdict = if !is_known {
            Verdict::of(Reason::ServerName)
        } else if !is_pinned {
            Verdict::of(Reason::NotResolved)
        } else {
            cx.verdict_on_domain(sandbox, to, &name)
        };
        if !verdict.is_allowed() {
            self.refuse(cx, reactor, key, &verdict, Some(&name));
            return None;
        }
        let Peek { socket, hello, permit, .. } = self.take(cx, reactor, key)?;
        Some(Adopt { sandbox, to, socket, permit, name: name.into(), sent: hello.into_bytes() })
    }

    /// Whether a connection can be to a domain by the policy of this moment; if not, it is cut.
    pub(in crate::egress) fn is_still_allowed(
        &mut self,
        cx: &mut Cx,
        dns: &Dns,
        reactor: &mut Reactor,
        key: Key,
    ) -> bool {
        // It may have ended before its turn to be checked, or become a flow: its name was checked by this policy.
        let Some(peek) = self.peeks.get_mut(key) else { return false };
        let (sandbox, to) = (peek.sandbox, peek.to);
        let is_allowed = may_be_domain(cx, dns, reactor.now(), sandbox, to);
        if !is_allowed {
            self.cut(cx, reactor, key);
        }
        is_allowed
    }

    /// Resets a connection and reports why.
    fn refuse(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        key: Key,
        verdict: &Verdict,
        name: Option<&str>,
    ) {
        // A wake-up can come after its connection has ended.
        if let Some(peek) = self.take(cx, reactor, key) {
            peek.socket.reset();
            cx.deny_flow(reactor, peek.sandbox, peek.to, Protocol::Tcp, verdict, name);
        }
    }

    /// Resets a connection.
    pub(in crate::egress) fn cut(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        if let Some(peek) = self.take(cx, reactor, key) {
            peek.socket.reset();
        }
    }

    fn take(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) -> Option<Peek> {
        let mut peek = self.peeks.remove(key)?;
        if let Some(timer) = peek.timer.take() {
            reactor.cancel(timer);
        }
        reactor.deregister(peek.socket.as_fd());
        cx.release(peek.sandbox);
        if let Some(held) = self.held.get_mut(&peek.sandbox) {
            *held = held.saturating_sub(peek.hello.held());
            if *held == 0 {
                self.held.remove(&peek.sandbox);
            }
        }
        Some(peek)
    }
}

/// Whether a destination that no range allows may be one of the policy's domains: by TLS, and at an address that is
/// known to be one. Nothing protected is.
pub(in crate::egress) fn may_be_domain(
    cx: &mut Cx,
    dns: &Dns,
    now: Instant,
    sandbox: u64,
    to: SocketAddr,
) -> bool {
    cx.policy(sandbox).is_some_and(|policy| policy.is_tls_port(to.port()))
        && dns.pinned(sandbox).is_some_and(|pinned| pinned.has_any(to.ip(), now))
        && cx.verdict(sandbox, to.ip(), Protocol::Tcp).reason == Reason::NotListed
}

#[cfg(test)]
mod tests;
