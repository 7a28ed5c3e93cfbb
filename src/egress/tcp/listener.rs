//! The relay's listening sockets, in G. The rules there deliver connections to any address to them.
//!
//! A connection of the sandbox is accepted before anything is known of its destination, and so its connect() succeeds at
//! once. What is denied, refused, unreachable or silent for too long shows as a reset.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::net::TcpListener;
use nix::sys::socket::{self, Backlog, SockaddrStorage, sockopt};

use crate::egress::cx::Cx;
use crate::egress::kinds::TCP_LISTENER;
use crate::egress::limit::LimitKind;
use crate::error::{Context, Result};
use crate::net::RELAY_PORT;
use crate::reactor::{FdSlot, Key, Reactor, Slab, TimerId, Wake};
use crate::sys::socket::{is_shortage, set_keep_alive, set_no_delay, set_transparent};
use crate::topology::GATEWAY;

/// How long a listener pauses when the process has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a listener pauses when its sandbox connects much faster than it may.
const RATE_PAUSE: Duration = Duration::from_millis(10);

/// A full queue would leave the sandbox waiting; at every limit connections are taken and reset.
const BACKLOG: i32 = 4096;

/// Makes an unbound TCP socket of G listen for what the rules deliver. Needs the links to be laid.
pub(crate) fn listen(fd: OwnedFd, ipv6: bool) -> Result<TcpListener> {
    let address: IpAddr = if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let address = SocketAddr::new(address, RELAY_PORT);
    let what = || format!("the egress relay at {address} in the gateway's network");
    set_transparent(fd.as_fd(), ipv6).context(what())?;
    if ipv6 {
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true).context(what())?;
    }
    listen_at(fd, address, what)
}

/// Makes an unbound TCP socket of G listen on a port of the gateway's own address.
pub(crate) fn serve(fd: OwnedFd, port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from((GATEWAY, port));
    let what = || format!("the service at {address} in the gateway's network");
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true).context(what())?;
    listen_at(fd, address, what)
}

fn listen_at(fd: OwnedFd, address: SocketAddr, what: impl Fn() -> String) -> Result<TcpListener> {
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).context(what())?;
    // The connections inherit both.
    set_no_delay(fd.as_fd()).context(what())?;
    set_keep_alive(fd.as_fd()).context(what())?;
    let backlog = Backlog::new(BACKLOG).context(what())?;
    socket::listen(&fd, backlog).context(what())?;
    Ok(TcpListener::from(fd))
}

/// A listener of a sandbox's.
#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    sandbox: u64,
    /// The service of the host that its connections go to; else they go where the sandbox sent them.
    service: Option<SocketAddr>,
    /// Runs while it pauses.
    pause: Option<TimerId>,
}

/// A connection of a sandbox's.
#[derive(Debug)]
pub(in crate::egress) struct Accepted {
    // Plain data: taken apart by the one that admits it.
    pub(in crate::egress) sandbox: u64,
    pub(in crate::egress) fd: OwnedFd,
    /// The service of the host that it goes to, if it goes to one.
    pub(in crate::egress) service: Option<SocketAddr>,
}

/// What an accept brought.
#[derive(Debug)]
pub(in crate::egress) enum Accept {
    Connection(Accepted),
    /// A connection that was over before it was accepted.
    Aborted,
    /// Nothing, until the listener is woken.
    Wait,
}

/// The listeners of all sandboxes.
#[derive(Debug)]
pub(in crate::egress) struct Listeners {
    listeners: Slab<Listener>,
    by_sandbox: HashMap<u64, Vec<Key>>,
}

impl Listeners {
    pub(in crate::egress) fn new() -> Self {
        Self { listeners: Slab::new(TCP_LISTENER), by_sandbox: HashMap::new() }
    }

    pub(in crate::egress) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// A sandbox's listeners.
    pub(in crate::egress) fn keys(&self, sandbox: u64) -> Vec<Key> {
        self.by_sandbox.get(&sandbox).cloned().unwrap_or_default()
    }

    /// Takes connections of a sandbox. Those of a `service` go to that service of the host and nowhere else.
    pub(in crate::egress) fn add(
        &mut self,
        cx: &Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        socket: TcpListener,
        service: Option<SocketAddr>,
    ) {
        let key = self.listeners.insert(Listener { socket, sandbox, service, pause: None });
        reactor.join(key, sandbox);
        let Some(listener) = self.listeners.get_mut(key) else {
            debug_assert!(false, "it was just inserted");
            return;
        };
        match reactor.register(listener.socket.as_fd(), key, FdSlot::First) {
            Ok(()) => self.by_sandbox.entry(sandbox).or_default().push(key),
            Err(error) => {
                // A closed listener is refused by the rules: nothing gets out unseen.
                self.listeners.remove(key);
                cx.report(sandbox, format!("egress can't be watched ({error}) and is closed"));
            }
        }
    }

    /// Whether a listener that was woken may accept: not while it pauses.
    pub(in crate::egress) fn on_wake(&mut self, key: Key, wake: Wake) -> bool {
        // A wake-up can come after its listener was closed.
        let Some(listener) = self.listeners.get_mut(key) else { return false };
        if let Wake::Timer(_) = wake {
            listener.pause = None;
        }
        listener.pause.is_none()
    }

    /// Accepts the next connection.
    pub(in crate::egress) fn accept(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) -> Accept {
        let Some(listener) = self.listeners.get_mut(key) else {
            debug_assert!(false, "a listener is closed by a command only");
            return Accept::Wait;
        };
        let Listener { sandbox, service, .. } = *listener;
        match listener.socket.accept() {
            Ok((stream, _)) => Accept::Connection(Accepted { sandbox, fd: stream.into(), service }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accept::Wait,
            // Connections wait in the kernel's queue until there are descriptors again.
            Err(error) if is_shortage(&error) => {
                listener.pause = Some(reactor.schedule(reactor.now() + ACCEPT_PAUSE, key));
                cx.limit(sandbox, LimitKind::NotAccepted(&error));
                Accept::Wait
            }
            // The errors of a connection that was over before it was accepted: see accept(2).
            Err(_) => Accept::Aborted,
        }
    }

    /// Leaves a sandbox's connections in the listener's queue for a moment.
    pub(in crate::egress) fn slow_down(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(listener) = self.listeners.get_mut(key) else {
            debug_assert!(false, "a listener that was just accepted from is there");
            return;
        };
        reactor.rearm(&mut listener.pause, key, Some(reactor.now() + RATE_PAUSE));
    }

    /// Closes a sandbox's listeners.
    pub(in crate::egress) fn close(&mut self, reactor: &mut Reactor, sandbox: u64) {
        for key in self.by_sandbox.remove(&sandbox).unwrap_or_default() {
            if let Some(listener) = self.listeners.remove(key) {
                reactor.deregister(listener.socket.as_fd());
                if let Some(timer) = listener.pause {
                    reactor.cancel(timer);
                }
            }
        }
    }
}
