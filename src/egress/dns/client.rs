//! Questions by TCP (RFC 7766): for what is too long for a datagram.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::batches::Asker;
use super::relay::{Dns, LONGEST_QUESTION, QUESTIONS};

use crate::egress::outbound::Outbound;
use crate::limits;
use crate::reactor::{Key, Lane, Permit, Reactor, TimerId, Use, Wake};
use crate::sys::socket::{self, Family, Socket};

/// The most connections of one sandbox's.
const MOST_CLIENTS: usize = 32;
/// The most questions of one connection that are open, and bytes of answers that wait to be taken.
const MOST_OPEN: usize = 8;
const MOST_BYTES: usize = 128 * 1024;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// A connection of the sandbox's to its resolver.
#[derive(Debug)]
pub(in crate::egress) struct Client {
    pub(super) sandbox: u64,
    socket: Socket,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Questions without an answer.
    open: usize,
    /// The sandbox has nothing more to ask.
    ended: bool,
    /// Its questions are being taken: what is answered meanwhile is sent by that.
    serving: bool,
    active: Instant,
    timer: Option<TimerId>,
    _permit: Permit,
}

/// What can be done for a connection now.
enum Step {
    Ask(Vec<u8>),
    Wait,
    Close,
    Cut,
}

impl Client {
    /// `ask` says whether a question may be taken.
    fn step(&mut self, ask: bool) -> Step {
        while !self.output.is_empty() {
            match self.socket.send(&self.output) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Step::Cut,
            }
        }
        if !ask || self.open >= MOST_OPEN || self.output.len() >= MOST_BYTES {
            return Step::Wait;
        }
        loop {
            if let Some([high, low]) = self.input.first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length > LONGEST_QUESTION {
                    return Step::Cut;
                }
                if let Some(question) = self.input.get(2..2 + length) {
                    let question = question.to_vec();
                    self.input.drain(..2 + length);
                    return Step::Ask(question);
                }
            }
            if self.ended {
                return if self.open == 0 && self.output.is_empty() { Step::Close } else { Step::Wait };
            }
            let mut buffer = [0_u8; LONGEST_QUESTION];
            match self.socket.receive(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.input.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Wait,
                Err(_) => return Step::Cut,
            }
        }
    }
}

impl Outbound {
    pub(super) fn accept_clients(&mut self, reactor: &mut Reactor, key: Key) {
        for _ in 0..QUESTIONS {
            let Some(Dns::Listener(sandbox, listener)) = self.dns.get_mut(key) else { return };
            let sandbox = *sandbox;
            match listener.accept() {
                Ok((stream, _)) => self.admit_client(reactor, sandbox, stream.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // There is nothing to take a connection with: they wait in the queue.
                Err(error) if socket::is_shortage(&error) => return self.rest_dns(reactor, key),
                // Of a connection that was over before: see accept(2).
                Err(_) => {}
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.again(key);
    }

    fn admit_client(&mut self, reactor: &mut Reactor, sandbox: u64, fd: OwnedFd) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        let room = gate.names.clients < MOST_CLIENTS && !self.dns.is_full();
        let permit = self.budget.acquire(sandbox, Use::Egress, limits::DNS_CLIENT).filter(|_| room);
        let Some(permit) = permit else { return socket::disconnect(fd.as_fd()) };
        let now = reactor.now();
        let key = self.dns.insert(Dns::Client(Client {
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
        }));
        reactor.join(key, sandbox);
        gate.names.clients += 1;
        let Some(Dns::Client(client)) = self.dns.get_mut(key) else { return };
        client.timer = Some(reactor.schedule(now + IDLE, key));
        if reactor.register(client.socket.as_fd(), key, Lane::Front).is_err() {
            self.cut_client(reactor, key);
        }
    }

    pub(super) fn wake_client(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        let now = reactor.now();
        let Some(Dns::Client(client)) = self.dns.get_mut(key) else { return };
        if let Wake::Timer(_) = wake {
            let until = client.active + IDLE;
            if client.open == 0 && until <= now {
                return self.cut_client(reactor, key);
            }
            client.timer = Some(reactor.schedule(until.max(now + IDLE / 10), key));
            return;
        }
        client.active = now;
        client.serving = true;
        let waits = self.serve_client(reactor, key);
        if let Some(Dns::Client(client)) = self.dns.get_mut(key) {
            client.serving = false;
            if !waits {
                reactor.again(key);
            }
        }
    }

    /// Takes a connection's questions; false if there may be more of them.
    fn serve_client(&mut self, reactor: &mut Reactor, key: Key) -> bool {
        for _ in 0..QUESTIONS {
            let Some(Dns::Client(client)) = self.dns.get_mut(key) else { return true };
            let sandbox = client.sandbox;
            let may_ask = self.may_ask(reactor, sandbox, key);
            let Some(Dns::Client(client)) = self.dns.get_mut(key) else { return true };
            match client.step(may_ask) {
                Step::Ask(question) => {
                    client.open += 1;
                    self.count_question(sandbox);
                    if !self.asked(reactor, sandbox, Asker::Stream(key), &question) {
                        self.cut_client(reactor, key);
                    }
                }
                Step::Wait => return true,
                Step::Close => self.end_client(reactor, key, false),
                Step::Cut => self.cut_client(reactor, key),
            }
            if reactor.is_over_time() {
                break;
            }
        }
        false
    }

    /// Puts an answer behind those that wait; unless its connection is being served, it is written in the next turn.
    pub(super) fn respond_by_stream(&mut self, reactor: &mut Reactor, key: Key, bytes: &[u8]) {
        let Some(Dns::Client(client)) = self.dns.get_mut(key) else { return };
        client.open = client.open.saturating_sub(1);
        let Ok(length) = u16::try_from(bytes.len()) else { return };
        client.output.extend_from_slice(&length.to_be_bytes());
        client.output.extend_from_slice(bytes);
        if !client.serving {
            reactor.again(key);
        }
    }

    pub(super) fn cut_client(&mut self, reactor: &mut Reactor, key: Key) {
        self.end_client(reactor, key, true);
    }

    fn end_client(&mut self, reactor: &mut Reactor, key: Key, reset: bool) {
        let Some(Dns::Client(client)) = self.dns.remove(key) else { return };
        if let Some(timer) = client.timer {
            reactor.cancel(timer);
        }
        reactor.deregister(client.socket.as_fd());
        if let Some(gate) = self.gates.get_mut(&client.sandbox) {
            gate.names.clients = gate.names.clients.saturating_sub(1);
        }
        if reset {
            client.socket.reset();
        }
    }
}
