//! From an accepted connection to its server in the sandbox: a TCP connect to eth0's address with a socket from the pool,
//! or a stream through init to the sandbox's own 127.0.0.1.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::request::{Request, Requests};
use super::retry::{AfterRefusal, Retry, Route};
use super::socket_pool::SocketPool;
use crate::error::{Code, Result};
use crate::pump::Side;
use crate::reactor::{FdBudget, Key, Reactor};
use crate::sys::socket::{self, Family, Socket};

/// What the dials of one sandbox share.
#[derive(Debug)]
pub(super) struct Dialer {
    destination: IpAddr,
    /// Further source addresses, for when the ports of the first run out.
    sources: Vec<IpAddr>,
    /// Which source address is in use: 0 for the kernel's choice, else 1 + index into `sources`.
    source: usize,
    pool: SocketPool,
    /// Connections that wait for a socket, by their places in the order in which they came.
    waiting: BTreeMap<u64, Key>,
    last_place: u64,
    /// The route that last worked for a port.
    routes: HashMap<u16, Route>,
}

/// Who gets the sockets that have come.
#[derive(Debug)]
pub(super) enum Supply {
    /// A socket for each of these connections.
    Sockets(Vec<(Key, OwnedFd)>),
    /// No more can be had, and these connections wait for one.
    None(Vec<Key>),
}

impl Dialer {
    /// A dialer that reaches a sandbox at `destination`.
    pub(super) fn new(destination: IpAddr, sources: Vec<IpAddr>) -> Self {
        Self {
            destination,
            sources,
            source: 0,
            pool: SocketPool::new(),
            waiting: BTreeMap::new(),
            last_place: 0,
            routes: HashMap::new(),
        }
    }

    /// The pool of sockets.
    pub(super) fn pool(&mut self) -> &mut SocketPool {
        &mut self.pool
    }

    /// Requests sockets for a sandbox if there are too few.
    pub(super) fn refill_pool(&mut self, sandbox: u64, now: Instant, requests: &Requests) {
        if let Some(count) = self.pool.request(self.waiting.len(), now) {
            requests(Request::NeedSockets { key: sandbox, count });
        }
    }

    /// Sockets have come from the keeper. `waits` tells whether a connection still waits for one.
    pub(super) fn on_sockets(
        &mut self,
        sockets: Vec<OwnedFd>,
        mut waits: impl FnMut(&Key) -> bool,
        budget: (&FdBudget, u64),
    ) -> Supply {
        self.waiting.retain(|_, key| waits(key));
        if sockets.is_empty() {
            self.pool.on_sockets(sockets, self.waiting.len(), budget);
            // To request them again at once would be a loop between the two threads.
            return Supply::None(std::mem::take(&mut self.waiting).into_values().collect());
        }
        let ready = self.pool.on_sockets(sockets, self.waiting.len(), budget).into_iter();
        let first = std::iter::from_fn(|| self.waiting.pop_first());
        Supply::Sockets(ready.zip(first).map(|(socket, (_, key))| (key, socket)).collect())
    }

    /// Has a connection wait for a socket, and returns its place.
    fn enqueue(&mut self, key: Key) -> u64 {
        self.last_place += 1;
        self.waiting.insert(self.last_place, key);
        self.last_place
    }

    /// Starts to connect a socket to a port.
    fn connect(&mut self, fd: BorrowedFd<'_>, port: u16) -> io::Result<()> {
        let destination = SocketAddr::new(self.destination, port);
        // The connect is worth a try, whichever of these fails.
        let _ = socket::set_no_delay(fd);
        let _ = socket::set_urgent_inline(fd);
        if let Some(source) = self.source.checked_sub(1).and_then(|index| self.sources.get(index)) {
            let _ = socket::bind_source(fd, *source);
        }
        match socket::connect(fd, destination) {
            // The ports of this source address are used up: go on with the next one. A socket that has an address can't
            // get another, so only the first change goes on with the same socket.
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                let unbound = self.source == 0;
                self.source = (self.source + 1) % (self.sources.len() + 1);
                match self.sources.first() {
                    Some(source) if unbound => socket::bind_source(fd, *source)
                        .and_then(|()| socket::connect(fd, destination))
                        .map(|_| ()),
                    _ => Err(error),
                }
            }
            other => other.map(|_| ()),
        }
    }
}

/// The requests to init that are under way, by the number that the answer names.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    last: u64,
    connections: HashMap<u64, Key>,
}

impl Tickets {
    fn issue(&mut self, connection: Key) -> u64 {
        self.last += 1;
        self.connections.insert(self.last, connection);
        self.last
    }

    /// The connection that a ticket was issued for, once; `None` if that has ended in the meantime.
    pub(super) fn redeem(&mut self, ticket: u64) -> Option<Key> {
        self.connections.remove(&ticket)
    }
}

/// What a [`Dial`] works with: arguments that all its functions have, and so open fields.
pub(super) struct DialCx<'a> {
    pub(super) sandbox: u64,
    /// The connection's.
    pub(super) key: Key,
    /// Registers sockets under that key.
    pub(super) reactor: &'a Reactor,
    pub(super) dialer: &'a mut Dialer,
    pub(super) tickets: &'a mut Tickets,
    pub(super) requests: &'a Requests,
}

/// What a dial waits for.
#[derive(Debug)]
enum Step {
    /// A socket from the pool, in that place.
    Socket(u64),
    /// The end of the TCP connect.
    Connect(Socket),
    /// Init's answer to the request with that ticket.
    Init(u64),
    /// The next try, at that time.
    Backoff(Instant),
}

/// How far a dial is.
#[derive(Debug)]
pub(super) enum Dialed {
    /// It waits for a socket, a connect, init's answer, or its deadline.
    Pending,
    /// The server was reached.
    Connected(Socket),
    /// The server can't be reached.
    Failed(DialError),
}

/// Why a server can't be reached.
#[derive(Debug)]
pub(super) enum DialError {
    /// Both routes were refused.
    Refused,
    /// The time for all tries is over.
    TimedOut,
    /// Every source address has used up its ports towards this one.
    SourcePorts,
    /// The keeper has no more sockets.
    NoSocket,
    /// Another error of the system.
    System(io::Error),
}

impl DialError {
    /// The code of the error that the host gets.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Refused => Code::Refused,
            Self::TimedOut => Code::TimedOut,
            Self::SourcePorts | Self::NoSocket => Code::Limit,
            Self::System(_) => Code::System,
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => formatter.write_str("nothing accepts connections there"),
            Self::TimedOut => formatter.write_str("the server didn't answer in time"),
            Self::SourcePorts => formatter.write_str("all source ports are in use"),
            Self::NoSocket => formatter.write_str("no socket could be had for it"),
            Self::System(error) => error.fmt(formatter),
        }
    }
}

/// The dial of one connection.
#[derive(Debug)]
pub(super) struct Dial {
    port: u16,
    retry: Retry,
    step: Step,
    deadline: Instant,
}

impl Dial {
    /// Starts to dial. All tries together may take `timeout`; a port that has never been answered is tried again for
    /// `grace`.
    pub(super) fn start(
        cx: &mut DialCx<'_>,
        port: u16,
        timeout: Duration,
        grace: Duration,
    ) -> (Self, Dialed) {
        let now = cx.reactor.now();
        let retry = Retry::new(cx.dialer.routes.get(&port).copied(), now, grace);
        let mut dial = Self { port, retry, step: Step::Backoff(now), deadline: now + timeout };
        let dialed = dial.attempt(cx);
        (dial, dialed)
    }

    fn attempt(&mut self, cx: &mut DialCx<'_>) -> Dialed {
        match self.retry.route() {
            Route::Loopback => {
                let ticket = cx.tickets.issue(cx.key);
                self.step = Step::Init(ticket);
                (cx.requests)(Request::NeedLoopback { key: cx.sandbox, port: self.port, ticket });
                Dialed::Pending
            }
            Route::Direct => {
                let socket = cx.dialer.pool.take();
                if socket.is_none() {
                    self.step = Step::Socket(cx.dialer.enqueue(cx.key));
                }
                cx.dialer.refill_pool(cx.sandbox, cx.reactor.now(), cx.requests);
                socket.map_or(Dialed::Pending, |socket| self.on_socket(cx, socket))
            }
        }
    }

    /// Whether it waits for a socket from the pool.
    pub(super) fn waits_for_socket(&self) -> bool {
        matches!(self.step, Step::Socket(_))
    }

    /// A socket for it has come.
    pub(super) fn on_socket(&mut self, cx: &mut DialCx<'_>, fd: OwnedFd) -> Dialed {
        let begun = cx
            .dialer
            .connect(fd.as_fd(), self.port)
            .and_then(|()| cx.reactor.register(fd.as_fd(), cx.key, Side::Upstream.slot()));
        match begun {
            Ok(()) => {
                self.step = Step::Connect(Socket::new(fd, Family::Tcp));
                Dialed::Pending
            }
            Err(error) => {
                drop(fd);
                self.on_connect_failed(cx, error)
            }
        }
    }

    /// The keeper has no more sockets.
    pub(super) fn on_no_socket(&self) -> Dialed {
        Dialed::Failed(DialError::NoSocket)
    }

    /// The socket upstream is ready: the connect has ended, one way or the other.
    pub(super) fn on_ready(&mut self, cx: &mut DialCx<'_>) -> Dialed {
        // A readiness of the try before may still be on its way.
        if !matches!(self.step, Step::Connect(_)) {
            return Dialed::Pending;
        }
        let before = std::mem::replace(&mut self.step, Step::Backoff(cx.reactor.now()));
        let Step::Connect(socket) = before else { return Dialed::Pending };
        match socket.pending_error() {
            Ok(()) => self.connected(cx, socket, Route::Direct),
            Err(error) => {
                cx.reactor.deregister(socket.as_fd());
                drop(socket);
                self.on_connect_failed(cx, error)
            }
        }
    }

    /// Init has answered.
    pub(super) fn on_loopback(&mut self, cx: &mut DialCx<'_>, answer: Result<OwnedFd>) -> Dialed {
        let Ok(fd) = answer else { return self.on_refused(cx) };
        let socket = Socket::adopt(fd, Family::Unix).and_then(|socket| {
            cx.reactor.register(socket.as_fd(), cx.key, Side::Upstream.slot())?;
            Ok(socket)
        });
        match socket {
            Ok(socket) => self.connected(cx, socket, Route::Loopback),
            Err(error) => Dialed::Failed(DialError::System(error)),
        }
    }

    /// When [`Dial::on_deadline`] is to be called: at the next try, or when the time for all of them is over.
    pub(super) fn deadline(&self) -> Instant {
        match self.step {
            Step::Backoff(until) => until.min(self.deadline),
            _ => self.deadline,
        }
    }

    /// The deadline has come.
    pub(super) fn on_deadline(&mut self, cx: &mut DialCx<'_>) -> Dialed {
        if cx.reactor.now() >= self.deadline {
            return Dialed::Failed(DialError::TimedOut);
        }
        if matches!(self.step, Step::Backoff(_)) { self.attempt(cx) } else { Dialed::Pending }
    }

    /// The socket that is being connected.
    pub(super) fn connecting(&self) -> Option<BorrowedFd<'_>> {
        if let Step::Connect(socket) = &self.step { Some(socket.as_fd()) } else { None }
    }

    /// The connection has ended: init's answer will be dropped, and it waits for no socket.
    pub(super) fn cancel(&self, tickets: &mut Tickets, dialer: &mut Dialer) {
        match self.step {
            Step::Init(ticket) => {
                tickets.redeem(ticket);
            }
            Step::Socket(place) => {
                dialer.waiting.remove(&place);
            }
            Step::Connect(_) | Step::Backoff(_) => {}
        }
    }

    fn connected(&self, cx: &mut DialCx<'_>, socket: Socket, route: Route) -> Dialed {
        cx.dialer.routes.insert(self.port, route);
        Dialed::Connected(socket)
    }

    fn on_connect_failed(&mut self, cx: &mut DialCx<'_>, error: io::Error) -> Dialed {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET) => self.on_refused(cx),
            Some(libc::EADDRNOTAVAIL) if cx.dialer.source == 0 => Dialed::Failed(DialError::SourcePorts),
            // The next source address is in use by now; there are only a few.
            Some(libc::EADDRNOTAVAIL) => self.attempt(cx),
            _ => Dialed::Failed(DialError::System(error)),
        }
    }

    fn on_refused(&mut self, cx: &mut DialCx<'_>) -> Dialed {
        let now = cx.reactor.now();
        match self.retry.on_refused(now) {
            AfterRefusal::Try => self.attempt(cx),
            AfterRefusal::Backoff(backoff) => {
                self.step = Step::Backoff(now + backoff);
                Dialed::Pending
            }
            AfterRefusal::GiveUp => Dialed::Failed(DialError::Refused),
        }
    }
}

#[cfg(test)]
mod tests;
