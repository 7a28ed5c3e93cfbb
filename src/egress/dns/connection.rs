//! Questions by TCP (RFC 7766), for answers that are too long for a datagram.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::message::MAX_QUESTION_BYTES;
use crate::egress::cx::Cx;
use crate::egress::kinds::DNS_CONNECTION;
use crate::limits;
use crate::reactor::{FdPermit, FdSlot, Key, Reactor, Slab, TimerId};
use crate::sys::socket::{self, Family, Socket};

/// The most connections of one sandbox.
const MAX_CONNECTIONS: usize = 32;
/// The most questions of one connection that are open, and bytes of answers that wait to be sent.
const MAX_OPEN_QUESTIONS: usize = 8;
const MAX_UNSENT_BYTES: usize = 128 * 1024;
/// How long a connection may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection of the sandbox's to its resolver.
#[derive(Debug)]
struct Connection {
    sandbox: u64,
    socket: Socket,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Questions without an answer.
    open: usize,
    /// The sandbox has closed its direction.
    ended: bool,
    /// Its questions are being taken: answers that come meanwhile are sent by that.
    serving: bool,
    active: Instant,
    timer: Option<TimerId>,
    _permit: FdPermit,
}

/// What a connection has to do next.
enum Step {
    Question(Vec<u8>),
    Wait,
    Close,
    Cut,
}

impl Connection {
    /// Sends what waits, then takes the next question if `ask` says that one may be taken.
    fn step(&mut self, ask: bool) -> Step {
        while !self.output.is_empty() {
            match self.socket.send(&self.output) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Step::Cut,
            }
        }
        if !ask || self.open >= MAX_OPEN_QUESTIONS || self.output.len() >= MAX_UNSENT_BYTES {
            return Step::Wait;
        }
        loop {
            if let Some([high, low]) = self.input.first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length > MAX_QUESTION_BYTES {
                    return Step::Cut;
                }
                if let Some(question) = self.input.get(2..2 + length) {
                    let question = question.to_vec();
                    self.input.drain(..2 + length);
                    return Step::Question(question);
                }
            }
            if self.ended {
                return if self.open == 0 && self.output.is_empty() { Step::Close } else { Step::Wait };
            }
            let mut buffer = [0_u8; MAX_QUESTION_BYTES];
            match self.socket.receive(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.input.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Wait,
                Err(_) => return Step::Cut,
            }
        }
    }
}

/// What a connection brought.
pub(super) enum Next {
    Question(Vec<u8>),
    /// Nothing, until it is woken.
    Wait,
    /// It has ended.
    Ended,
}

/// The connections of all sandboxes to their resolvers.
#[derive(Debug)]
pub(super) struct Connections {
    connections: Slab<Connection>,
    /// How many each sandbox has.
    counts: HashMap<u64, usize>,
}

impl Connections {
    pub(super) fn new() -> Self {
        Self { connections: Slab::new(DNS_CONNECTION), counts: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// A sandbox's connections.
    pub(super) fn keys(&self, sandbox: u64) -> Vec<Key> {
        let of_it = self.connections.iter().filter(|(_, connection)| connection.sandbox == sandbox);
        of_it.map(|(key, _)| key).collect()
    }

    /// Takes a connection, or resets it if the sandbox has as many as it may.
    pub(super) fn add(&mut self, cx: &Cx, reactor: &mut Reactor, sandbox: u64, fd: OwnedFd) {
        let count = self.counts.get(&sandbox).copied().unwrap_or_default();
        let has_room = count < MAX_CONNECTIONS && !self.connections.is_full();
        let permit = cx.acquire(sandbox, limits::DNS_CLIENT).filter(|_| has_room);
        let Some(permit) = permit else { return socket::disconnect(fd.as_fd()) };
        let now = reactor.now();
        let key = self.connections.insert(Connection {
            sandbox,
            socket: Socket::new(fd, Family::Tcp),
            input: Vec::new(),
            output: Vec::new(),
            open: 0,
            ended: false,
            serving: false,
            active: now,
            timer: None,
            _permit: permit,
        });
        reactor.join(key, sandbox);
        self.counts.insert(sandbox, count + 1);
        let Some(connection) = self.connections.get_mut(key) else {
            debug_assert!(false, "it was just inserted");
            return;
        };
        connection.timer = Some(reactor.schedule(now + IDLE_TIMEOUT, key));
        if reactor.register(connection.socket.as_fd(), key, FdSlot::First).is_err() {
            self.cut(reactor, key);
        }
    }

    /// Cuts a connection that has been silent for too long, unless one of its queries is pending.
    pub(super) fn on_timer(&mut self, reactor: &mut Reactor, key: Key) {
        // A wake-up can come after its connection has ended.
        let Some(connection) = self.connections.get_mut(key) else { return };
        let now = reactor.now();
        let until = connection.active + IDLE_TIMEOUT;
        if connection.open == 0 && until <= now {
            return self.cut(reactor, key);
        }
        connection.timer = Some(reactor.schedule(until.max(now + IDLE_TIMEOUT / 10), key));
    }

    /// Begins to serve a connection: answers are sent by [`Connections::next`] until [`Connections::end_serving`].
    /// Returns its sandbox.
    pub(super) fn begin_serving(&mut self, reactor: &Reactor, key: Key) -> Option<u64> {
        let connection = self.connections.get_mut(key)?;
        connection.active = reactor.now();
        connection.serving = true;
        Some(connection.sandbox)
    }

    /// Sends what waits, and takes the next question if `ask` says that one may be taken.
    pub(super) fn next(&mut self, reactor: &mut Reactor, key: Key, ask: bool) -> Next {
        let Some(connection) = self.connections.get_mut(key) else {
            debug_assert!(false, "it is being served");
            return Next::Ended;
        };
        match connection.step(ask) {
            Step::Question(question) => {
                connection.open += 1;
                return Next::Question(question);
            }
            Step::Wait => return Next::Wait,
            Step::Close => self.end(reactor, key, false),
            Step::Cut => self.cut(reactor, key),
        }
        Next::Ended
    }

    /// Ends the serving of a connection, which goes on in the next turn if there may be `more` questions.
    pub(super) fn end_serving(&mut self, reactor: &mut Reactor, key: Key, more: bool) {
        // It may have ended meanwhile.
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.serving = false;
        if more {
            reactor.reschedule(key);
        }
    }

    /// Queues an answer; unless its connection is being served, it is sent in the next turn.
    pub(super) fn respond(&mut self, reactor: &mut Reactor, key: Key, bytes: &[u8]) {
        // The client may have gone since it asked.
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.open = connection.open.saturating_sub(1);
        let Ok(length) = u16::try_from(bytes.len()) else {
            debug_assert!(false, "answers are written within that limit");
            return;
        };
        connection.output.extend_from_slice(&length.to_be_bytes());
        connection.output.extend_from_slice(bytes);
        if !connection.serving {
            reactor.reschedule(key);
        }
    }

    /// Ends a connection with a reset.
    pub(super) fn cut(&mut self, reactor: &mut Reactor, key: Key) {
        self.end(reactor, key, true);
    }

    fn end(&mut self, reactor: &mut Reactor, key: Key, reset: bool) {
        let Some(connection) = self.connections.remove(key) else { return };
        if let Some(timer) = connection.timer {
            reactor.cancel(timer);
        }
        reactor.deregister(connection.socket.as_fd());
        if let Some(count) = self.counts.get_mut(&connection.sandbox) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&connection.sandbox);
            }
        }
        if reset {
            connection.socket.reset();
        }
    }
}

#[cfg(test)]
mod tests;
