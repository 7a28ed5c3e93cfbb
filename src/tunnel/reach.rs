//! The way from an accepted connection to a server in the sandbox: a socket from the stock and a connect to
//! eth0's address, or a stream through init to the sandbox's own 127.0.0.1.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::attempt::{Attempt, Next, Way};
use super::inbound::{Inbound, set_timer};
use super::relay::{Stage, Step};
use super::request::Request;
use crate::error::{Code, Error, Result};
use crate::pump::End;
use crate::reactor::{Key, Lane, Reactor};
use crate::sys::socket::{Family, Socket, bind_source, connect, set_no_delay, set_urgent_inline};

impl Inbound {
    /// Starts to look for the connection's server.
    pub(super) fn reach(&mut self, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(known) = self.sandboxes.get(&relay.sandbox) else { return };
        let timeouts = known.settings.timeouts;
        let way = known.ways.get(&relay.port).copied();
        relay.stage = Stage::Reaching(Attempt::new(way, now, timeouts.patience), Step::Pause);
        relay.active = now + timeouts.connect;
        let at = relay.active;
        set_timer(reactor, relay, key, at);
        self.try_way(reactor, key);
    }

    /// Sockets have come from the keeper.
    pub(crate) fn stock(&mut self, reactor: &mut Reactor, sandbox: u64, sockets: Vec<OwnedFd>) {
        let Some(known) = self.sandboxes.get_mut(&sandbox) else { return };
        let relays = &mut self.relays;
        known.waiting.retain(|key| {
            matches!(relays.get_mut(*key).map(|relay| &relay.stage), Some(Stage::Reaching(_, Step::Socket)))
        });
        // The stock may give up what it holds, and a listener that rests can use it.
        self.freed = true;
        let none = sockets.is_empty();
        let ready = known.stock.arrived(sockets, known.waiting.len(), (&self.budget, sandbox));
        let grown = known.stock.needs_upkeep();
        let count = if none { known.waiting.len() } else { ready.len() };
        let waiting: Vec<Key> = known.waiting.drain(..count).collect();
        if none {
            // Asking again at once would be a loop between the two threads.
            for key in waiting {
                self.give_up(reactor, key, Code::Limit, "no socket could be had for it");
            }
            return;
        }
        for (key, socket) in waiting.into_iter().zip(ready) {
            self.connect(reactor, key, socket);
        }
        if grown {
            self.schedule_upkeep(reactor);
        }
        self.restock(reactor, sandbox);
    }

    /// Init has answered.
    pub(crate) fn loopback(&mut self, reactor: &mut Reactor, ticket: u64, answer: Result<OwnedFd>) {
        // Without its ticket the connection has ended in the meantime, and the stream is closed.
        let Some(key) = self.tickets.remove(&ticket) else { return };
        let socket = match answer {
            Ok(fd) => Socket::adopt(fd, Family::Unix).and_then(|socket| {
                reactor.register(socket.as_fd(), key, Lane::Back)?;
                Ok(socket)
            }),
            Err(_) => return self.refused(reactor, key),
        };
        match socket {
            Ok(socket) => self.opened(reactor, key, socket, Way::Loopback),
            Err(error) => self.give_up(reactor, key, Code::System, &error.to_string()),
        }
    }

    /// Asks for sockets if there are too few.
    pub(super) fn restock(&mut self, reactor: &Reactor, sandbox: u64) {
        let Some(known) = self.sandboxes.get_mut(&sandbox) else { return };
        if let Some(count) = known.stock.request(known.waiting.len(), reactor.now()) {
            (self.requests)(Request::NeedSockets { key: sandbox, count });
        }
    }

    /// The connect under way has ended, one way or the other.
    pub(super) fn check_connect(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Stage::Reaching(_, step) = &mut relay.stage else { return };
        let Step::Connect(socket) = std::mem::replace(step, Step::Pause) else { return };
        match socket.pending_error() {
            Ok(()) => self.opened(reactor, key, socket, Way::Direct),
            Err(error) => {
                reactor.deregister(socket.as_fd());
                self.connect_failed(reactor, key, &error);
            }
        }
    }

    /// The timer of a connection that looks for its server: the end of a pause, or of its time.
    pub(super) fn pause_is_over(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        if reactor.now() >= relay.active {
            return self.give_up(reactor, key, Code::TimedOut, "the server didn't answer in time");
        }
        let at = relay.active;
        set_timer(reactor, relay, key, at);
        if matches!(relay.stage, Stage::Reaching(_, Step::Pause)) {
            self.try_way(reactor, key);
        }
    }

    fn try_way(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Stage::Reaching(attempt, step) = &mut relay.stage else { return };
        let sandbox = relay.sandbox;
        match attempt.way() {
            Way::Loopback => {
                self.last_ticket += 1;
                let ticket = self.last_ticket;
                *step = Step::Init(ticket);
                self.tickets.insert(ticket, key);
                (self.requests)(Request::NeedLoopback { key: sandbox, port: relay.port, ticket });
            }
            Way::Direct => {
                let Some(known) = self.sandboxes.get_mut(&sandbox) else { return };
                *step = Step::Socket;
                match known.stock.take() {
                    Some(socket) => self.connect(reactor, key, socket),
                    None => known.waiting.push_back(key),
                }
                self.restock(reactor, sandbox);
            }
        }
    }

    fn connect(&mut self, reactor: &mut Reactor, key: Key, fd: OwnedFd) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(known) = self.sandboxes.get_mut(&relay.sandbox) else { return };
        let Stage::Reaching(_, step) = &mut relay.stage else { return };
        let destination = SocketAddr::new(known.settings.destination, relay.port);
        // No error of these keeps the connection from being tried.
        let _ = set_no_delay(fd.as_fd());
        let _ = set_urgent_inline(fd.as_fd());
        if let Some(source) = known.source.checked_sub(1).and_then(|index| known.settings.sources.get(index))
        {
            let _ = bind_source(fd.as_fd(), *source);
        }
        let result = match connect(fd.as_fd(), destination) {
            // The ports of this source address are used up: go on with the next one. A socket that has an address
            // can't get another, so only the first change goes on with the same socket.
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                let unbound = known.source == 0;
                known.source = (known.source + 1) % (known.settings.sources.len() + 1);
                match known.settings.sources.first() {
                    Some(source) if unbound => {
                        bind_source(fd.as_fd(), *source).and_then(|()| connect(fd.as_fd(), destination))
                    }
                    _ => Err(error),
                }
            }
            other => other,
        };
        match result.and_then(|_| reactor.register(fd.as_fd(), key, Lane::Back)) {
            Ok(()) => *step = Step::Connect(Socket::new(fd, Family::Tcp)),
            Err(error) => {
                drop(fd);
                self.connect_failed(reactor, key, &error);
            }
        }
    }

    fn connect_failed(&mut self, reactor: &mut Reactor, key: Key, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET) => self.refused(reactor, key),
            Some(libc::EADDRNOTAVAIL) => {
                let Some(relay) = self.relays.get_mut(key) else { return };
                let Some(known) = self.sandboxes.get(&relay.sandbox) else { return };
                let (sandbox, port, exhausted) = (relay.sandbox, relay.port, known.source == 0);
                if exhausted {
                    let limit = "all source ports are in use; refused";
                    self.report_once(reactor.now(), sandbox, limit, || format!("port {port}: {limit}"));
                    return self.give_up(reactor, key, Code::Limit, "all source ports are in use");
                }
                self.try_way(reactor, key);
            }
            _ => self.give_up(reactor, key, Code::System, &error.to_string()),
        }
    }

    fn refused(&mut self, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Stage::Reaching(attempt, step) = &mut relay.stage else { return };
        *step = Step::Pause;
        match attempt.refused(now) {
            Next::Try(_) => self.try_way(reactor, key),
            Next::Pause(pause) => {
                let at = (now + pause).min(relay.active);
                set_timer(reactor, relay, key, at);
            }
            Next::GiveUp => self.give_up(reactor, key, Code::Refused, "nothing accepts connections there"),
        }
    }

    fn opened(&mut self, reactor: &mut Reactor, key: Key, socket: Socket, way: Way) {
        let now = reactor.now();
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(known) = self.sandboxes.get_mut(&relay.sandbox) else { return };
        known.ways.insert(relay.port, way);
        relay.open(End::plain(socket), &mut self.scratch, &known.counters);
        self.memory.0.begun(relay.sandbox, relay.ends());
        relay.active = now;
        set_timer(reactor, relay, key, now + known.settings.timeouts.idle);
        if let Some(reply) = relay.reply.take() {
            reply(Ok(()));
        }
        self.drive(reactor, key);
    }

    fn give_up(&mut self, reactor: &mut Reactor, key: Key, code: Code, why: &str) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let error = Error::new(code, format!("connect to port {} of the sandbox: {why}", relay.port));
        if let Some(known) = self.sandboxes.get(&relay.sandbox) {
            known.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        log::debug!("{error}");
        self.cut(reactor, key, error);
    }
}
