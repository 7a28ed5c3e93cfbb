//! The tunnels' listening sockets, in the host's own network namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use mio::net::TcpListener;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, sockopt};
use rustls::ServerConfig;

use super::connections::Connections;
use super::cx::Cx;
use super::pace::OTHERS;
use crate::error::{Code, Context, Error, Result};
use crate::pump::Endpoint;
use crate::reactor::{FdSlot, Key, Kind, Reactor, Slab, TimerId, Use};
use crate::sys::socket::{
    Family, Socket, disconnect, is_shortage, set_keep_alive, set_no_delay, set_urgent_inline,
};

/// The reactor's kind of these keys.
pub(super) const LISTENER: Kind = Kind(1);

/// How many connections one listener accepts before others get a turn.
pub(super) const ACCEPTS: usize = 16;

/// How long a listener backs off when there is no descriptor or no memory for another connection. The clients wait in
/// its queue. Descriptors that this library frees end the back-off at once, those that the host frees are found by the
/// next try.
const BACKOFF: Duration = Duration::from_millis(100);

/// How many connections wait in a listener's queue at most.
const BACKLOG: i32 = 4096;

/// Opens a listening socket; port 0 has the kernel choose one.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let what = || format!("listen on {address}");
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Stream, flags, None).context(what())?;
    // Without it a port that is given can't be taken again for a minute after its connections have ended.
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true).context(what())?;
    if address.is_ipv6() {
        socket::setsockopt(&socket, sockopt::Ipv6V6Only, &true).context(what())?;
    }
    let bound = socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address));
    bound.map_err(|error| explain(address, error))?;
    // The connections inherit all three.
    set_no_delay(socket.as_fd()).context(what())?;
    set_keep_alive(socket.as_fd()).context(what())?;
    set_urgent_inline(socket.as_fd()).context(what())?;
    let backlog = Backlog::new(BACKLOG).context(what())?;
    socket::listen(&socket, backlog).map_err(|error| explain(address, error))?;
    Ok(TcpListener::from(socket))
}

fn explain(address: SocketAddr, error: nix::Error) -> Error {
    let cause = Error::system(format!("listen on {address}"), &io::Error::from(error));
    match error {
        nix::Error::EADDRINUSE => {
            cause.with_code(Code::Exists).context("the port is taken; give another, or 0 to have one chosen")
        }
        nix::Error::EACCES => {
            cause.context("ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE")
        }
        nix::Error::EADDRNOTAVAIL => {
            cause.with_code(Code::Invalid).context("the address is none of this host's own")
        }
        _ => cause,
    }
}

/// What to do with a connection.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    /// Bytes as they are.
    Plain,
    /// TLS with this configuration ends here.
    Tls(Arc<ServerConfig>),
}

/// A listener and what its connections are for.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    sandbox: u64,
    port: u16,
    security: Security,
    allowed: Option<Vec<IpNetwork>>,
    /// Runs while it backs off.
    backoff: Option<TimerId>,
    /// When it may next take a connection that its sandbox's pace has no room for.
    turn: Option<Instant>,
}

impl Listener {
    /// `allowed` are the sources that may connect: `None` means every one, an empty list none.
    pub(super) fn new(
        socket: TcpListener,
        sandbox: u64,
        port: u16,
        security: Security,
        allowed: Option<Vec<IpNetwork>>,
    ) -> Self {
        Self { socket, sandbox, port, security, allowed, backoff: None, turn: None }
    }

    /// The next connection, and whether its source is allowed.
    fn accept(&self) -> io::Result<(OwnedFd, bool)> {
        let (stream, peer) = self.socket.accept()?;
        Ok((OwnedFd::from(stream), self.allows(peer.ip())))
    }

    fn allows(&self, source: IpAddr) -> bool {
        // An IPv4 client of a listener on :: shows as ::ffff:a.b.c.d.
        let source = source.to_canonical();
        self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|network| network.contains(source)))
    }

    /// The endpoint of a connection that was accepted.
    fn endpoint(&self, socket: OwnedFd) -> io::Result<Endpoint> {
        let socket = Socket::new(socket, Family::Tcp);
        match &self.security {
            Security::Plain => Ok(Endpoint::plain(socket)),
            Security::Tls(config) => Endpoint::encrypted(socket, Arc::clone(config)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Every listener of every sandbox.
pub(super) struct Listeners {
    slab: Slab<Listener>,
    backing_off: Vec<Key>,
}

impl Listeners {
    /// No listener yet.
    pub(super) fn new() -> Self {
        Self { slab: Slab::new(LISTENER), backing_off: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Watches a listener.
    pub(super) fn add(&mut self, reactor: &mut Reactor, listener: Listener) -> io::Result<()> {
        let sandbox = listener.sandbox;
        let key = self.slab.insert(listener);
        reactor.join(key, sandbox);
        let registered = match self.slab.get_mut(key) {
            Some(listener) => reactor.register(listener.as_fd(), key, FdSlot::First),
            None => Ok(()),
        };
        if registered.is_err() {
            self.slab.remove(key);
        }
        registered
    }

    /// The listeners of a sandbox.
    pub(super) fn keys_of(&self, sandbox: u64) -> Vec<Key> {
        self.slab.iter().filter(|(_, listener)| listener.sandbox == sandbox).map(|(key, _)| key).collect()
    }

    /// Closes the listeners of a sandbox.
    pub(super) fn close(&mut self, reactor: &mut Reactor, sandbox: u64) {
        for key in self.keys_of(sandbox) {
            if let Some(mut listener) = self.slab.remove(key) {
                reactor.deregister(listener.as_fd());
                reactor.rearm(&mut listener.backoff, key, None);
            }
        }
    }

    /// Accepts what has come to a listener, unless it backs off: `most` connections at most before others get a turn. Only
    /// with [`ACCEPTS`] it is kept to its share of time and to the sandbox's pace: with more, the listener is about to close.
    pub(super) fn accept(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        connections: &mut Connections,
        key: Key,
        most: usize,
    ) {
        for _ in 0..most {
            // It may have been closed since it was woken.
            let Some(listener) = self.slab.get_mut(key) else { return };
            if listener.backoff.is_some() {
                return;
            }
            let (sandbox, port) = (listener.sandbox, listener.port);
            let Some(state) = cx.sandbox(sandbox) else {
                debug_assert!(false, "a sandbox is removed after its listeners");
                return;
            };
            if most == ACCEPTS
                && reactor.serves_others(sandbox, OTHERS)
                && let Some(at) = state.pace().wait_of_port(reactor.now(), &mut listener.turn)
            {
                return self.slow_down(cx, reactor, key, at);
            }
            if !state.has_room() || connections.is_full() {
                return self.back_off(cx, reactor, key, "as many connections are open as may be", None);
            }
            let Some(permit) = cx.acquire(sandbox, Use::Tunnel) else {
                let why = "the library's budget of descriptors is used up";
                return self.back_off(cx, reactor, key, why, None);
            };
            let accepted = listener.accept();
            if let (Ok((_, true)), Some(state)) = (&accepted, cx.sandbox(sandbox)) {
                state.pace().take(reactor.now());
            }
            let socket = match accepted {
                Ok((socket, true)) => socket,
                Ok((socket, false)) => {
                    if let Some(state) = cx.sandbox(sandbox) {
                        state.on_refused();
                    }
                    disconnect(socket.as_fd());
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => {
                    return self.back_off(cx, reactor, key, "a connection can't be accepted", Some(&error));
                }
                // The errors of a connection that was over before it was accepted: see accept(2).
                Err(_) => continue,
            };
            // rustls refuses only a configuration that it can't use, and `Identity` makes none such.
            let Ok(downstream) = listener.endpoint(socket) else { continue };
            connections.admit(cx, reactor, (sandbox, port), downstream, permit, None);
            // To admit one takes a connect to its server, too.
            if most == ACCEPTS && reactor.is_over_time() {
                break;
            }
        }
        reactor.reschedule(key);
    }

    /// Leaves the clients in the listener's queue until the sandbox may take another connection.
    fn slow_down(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, at: Instant) {
        let Some(listener) = self.slab.get_mut(key) else {
            debug_assert!(false, "a listener that is about to accept is there");
            return;
        };
        // Descriptors that are freed don't end this.
        reactor.rearm(&mut listener.backoff, key, Some(at));
        let (sandbox, port) = (listener.sandbox, listener.port);
        let limit = "clients connect faster than they may while other sandboxes are served";
        cx.report_once(reactor.now(), sandbox, limit, || format!("port {port}: {limit}; further ones wait"));
    }

    /// Leaves the clients in the listener's queue for a while.
    fn back_off(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        key: Key,
        why: &'static str,
        error: Option<&io::Error>,
    ) {
        let Some(listener) = self.slab.get_mut(key) else {
            debug_assert!(false, "a listener that was just accepted from is there");
            return;
        };
        reactor.rearm(&mut listener.backoff, key, Some(reactor.now() + BACKOFF));
        self.backing_off.push(key);
        let (sandbox, port) = (listener.sandbox, listener.port);
        cx.report_once(reactor.now(), sandbox, why, || {
            let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
            format!("port {port}: {why}{error}; further connections wait")
        });
    }

    /// Ends a listener's back-off, if it is in one, and accepts what has come.
    pub(super) fn end_backoff(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        connections: &mut Connections,
        key: Key,
        most: usize,
    ) {
        self.backing_off.retain(|other| *other != key);
        // It may have been closed since it began to back off.
        let Some(listener) = self.slab.get_mut(key) else { return };
        reactor.rearm(&mut listener.backoff, key, None);
        self.accept(cx, reactor, connections, key, most);
    }

    /// Ends the back-off of all: descriptors were freed.
    pub(super) fn end_backoffs(&mut self, cx: &mut Cx, reactor: &mut Reactor, connections: &mut Connections) {
        for key in std::mem::take(&mut self.backing_off) {
            self.end_backoff(cx, reactor, connections, key, ACCEPTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_of_its_own() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert!(address.ip().is_loopback());
        let error = listen(address).unwrap_err();
        assert_eq!(error.code(), Code::Exists);
        assert_eq!(error.os_error(), Some(libc::EADDRINUSE));
        assert!(error.message().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_foreign_address_is_an_error_of_its_own() {
        let error = listen("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
    }

    #[test]
    fn only_allowed_sources_may_connect() {
        let socket = || listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let allowed = vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let listener = Listener::new(socket(), 1, 80, Security::Plain, Some(allowed));
        for (source, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(listener.allows(source.parse().unwrap()), allowed, "{source}");
        }
        let any = "8.8.8.8".parse().unwrap();
        assert!(Listener::new(socket(), 1, 80, Security::Plain, None).allows(any));
        assert!(!Listener::new(socket(), 1, 80, Security::Plain, Some(vec![])).allows(any));
    }
}
