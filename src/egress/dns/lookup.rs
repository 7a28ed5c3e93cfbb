//! A question that is open upstream: asked by UDP, again by TCP where that is needed, then the next server.
//!
//! Forged answers are not accepted: an answer has to come from the server that was asked, to a port that the kernel picked
//! for this attempt alone, with a random number, and with the name in the random mixture of cases in which it was asked. A
//! server that doesn't keep the case is asked again by TCP.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use domain::base::iana::OptRcode;

use super::cache::CacheKey;
use super::client::Client;
use super::message::{Query, Question, Response};
use super::server_rotation::ServerRotation;
use super::upstreams::Upstreams;
use super::write::{self, Answer, Why};
use crate::egress::cx::Cx;
use crate::egress::kinds::DNS_LOOKUP;
use crate::limits;
use crate::reactor::{FdPermit, FdSlot, Key, Reactor, Slab, TimerId, Wake};
use crate::sys::socket::{self, Family, Socket};
use crate::sys::{datagram, random};

/// The most questions of one sandbox that are open upstream, and clients that wait for the same answer.
const MAX_LOOKUPS: usize = 256;
const MAX_CLIENTS: usize = 32;
/// How many wrong answers are read before others get a turn.
const WRONG_ANSWERS: usize = 16;
/// The longest message by TCP.
const MAX_MESSAGE_BYTES: usize = 65_535;

/// A question that is open upstream.
#[derive(Debug)]
struct Lookup {
    sandbox: u64,
    cache_key: CacheKey,
    /// As the sandbox asked it.
    question: Question,
    dnssec_ok: bool,
    checking_disabled: bool,
    clients: Vec<(Client, Query)>,
    rotation: ServerRotation,
    /// The server that is being asked, and how.
    server: Option<SocketAddr>,
    link: Link,
    id: u16,
    /// With the case of each letter as it was sent.
    sent: Question,
    edns: bool,
    timer: Option<TimerId>,
    /// The bytes that were sent and received since they were last counted.
    passed: usize,
    /// The last answer that was an error.
    failure: Option<Vec<u8>>,
    _permit: FdPermit,
}

#[derive(Debug)]
enum Link {
    None,
    Datagram(OwnedFd),
    Stream { socket: Socket, output: Vec<u8>, input: Vec<u8> },
}

impl Link {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::None => None,
            Self::Datagram(fd) => Some(fd.as_fd()),
            Self::Stream { socket, .. } => Some(socket.as_fd()),
        }
    }
}

/// What became of a question.
#[derive(Debug)]
pub(super) struct Finished {
    // Plain data: taken apart by the resolver.
    pub(super) sandbox: u64,
    pub(super) cache_key: CacheKey,
    pub(super) question: Question,
    pub(super) dnssec_ok: bool,
    pub(super) clients: Vec<(Client, Query)>,
    pub(super) result: LookupResult,
}

#[derive(Debug)]
pub(super) enum LookupResult {
    /// The server at that place has answered.
    Answered(Arc<[u8]>, Response, usize),
    /// Every server has failed or been too slow; the last one said this.
    Failed(Response),
    /// It was not asked, or no server has answered.
    Unanswered(Answer),
}

/// What became of an attempt.
enum Outcome {
    Wait,
    Again,
    /// Ask the same server by TCP.
    RetryOverTcp,
    /// Ask the same server without EDNS.
    RetryWithoutEdns,
    /// Ask the next server.
    Next,
    Done(Arc<[u8]>, Response),
}

impl Lookup {
    /// Asks the current server over a new socket.
    fn ask(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, stream: bool) -> io::Result<()> {
        if let Some(old) = self.link.fd() {
            reactor.deregister(old);
        }
        self.link = Link::None;
        if let Some(timer) = self.timer.take() {
            reactor.cancel(timer);
        }
        let Some(server) = self.server else { return Ok(()) };
        if cx.is_exhausted(self.sandbox) {
            return Err(io::Error::other("the bytes that may pass in all are used up"));
        }
        let sent = self.send(server, stream);
        self.spend(cx);
        sent?;
        if let Some(new) = self.link.fd() {
            reactor.register(new, key, FdSlot::First)?;
        }
        self.timer = Some(reactor.schedule(self.rotation.limit(reactor.now()), key));
        Ok(())
    }

    /// Counts what has passed between a server and us as the sandbox's.
    fn spend(&mut self, cx: &mut Cx) {
        let passed = std::mem::take(&mut self.passed);
        if passed > 0 {
            cx.spend(self.sandbox, passed as u64);
        }
    }

    fn finish(self, result: LookupResult) -> Finished {
        let Self { sandbox, cache_key, question, dnssec_ok, clients, .. } = self;
        Finished { sandbox, cache_key, question, dnssec_ok, clients, result }
    }

    /// Sends the question to a server: a new number, a new mixture of cases, a new socket.
    fn send(&mut self, server: SocketAddr, stream: bool) -> io::Result<()> {
        let mut random = [0_u8; 2 + 32];
        random::fill(&mut random)?;
        let (id, cases) = random.split_at(2);
        self.id = id.iter().fold(0, |id, byte| id << 8 | u16::from(*byte));
        let bits = cases.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
        self.sent = Question { name: self.question.name.lower().with_case(bits), ..self.question };
        let bytes = write::question(self.id, &self.sent, self.dnssec_ok, self.checking_disabled, self.edns);
        self.passed += bytes.len();
        self.link = if stream {
            let fd = socket::tcp(server.is_ipv6())?;
            socket::connect(fd.as_fd(), server)?;
            let length = u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
            let output = [&length[..], &bytes].concat();
            Link::Stream { socket: Socket::new(fd, Family::Tcp), output, input: Vec::new() }
        } else {
            let fd = datagram::connected(server)?;
            datagram::send(fd.as_fd(), &bytes)?;
            Link::Datagram(fd)
        };
        Ok(())
    }

    fn read(&mut self, scratch: &mut [u8]) -> Outcome {
        if matches!(self.link, Link::Stream { .. }) {
            return self.read_stream(scratch);
        }
        for _ in 0..WRONG_ANSWERS {
            let Link::Datagram(fd) = &self.link else { return Outcome::Wait };
            match datagram::receive(fd.as_fd(), scratch) {
                Ok(length) => {
                    self.passed += length;
                    match self.evaluate(scratch.get(..length).unwrap_or_default()) {
                        Outcome::Wait => {}
                        outcome => return outcome,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Wait,
                // The port is closed (ICMP).
                Err(_) => return Outcome::Next,
            }
        }
        Outcome::Again
    }

    fn read_stream(&mut self, scratch: &mut [u8]) -> Outcome {
        let Link::Stream { socket, output, input } = &mut self.link else { return Outcome::Wait };
        while !output.is_empty() {
            match socket.send(output) {
                Ok(sent) => drop(output.drain(..sent)),
                // Not yet connected is this too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Wait,
                Err(_) => return Outcome::Next,
            }
        }
        loop {
            if let Some([high, low]) = input.first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if let Some(message) = input.get(2..2 + length) {
                    let message = message.to_vec();
                    return match self.evaluate(&message) {
                        Outcome::Wait => Outcome::Next,
                        outcome => outcome,
                    };
                }
            }
            let room = (2 + MAX_MESSAGE_BYTES).saturating_sub(input.len()).min(scratch.len());
            match socket.receive(scratch.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Outcome::Next,
                Ok(length) => {
                    self.passed += length;
                    input.extend_from_slice(scratch.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Wait,
                Err(_) => return Outcome::Next,
            }
        }
    }

    /// Looks whether a message is the answer; `Wait` if it isn't.
    fn evaluate(&mut self, message: &[u8]) -> Outcome {
        let by_stream = matches!(self.link, Link::Stream { .. });
        // Most of it isn't read until it is known to be the answer: anybody can send anything.
        if message.get(..2) != Some(&self.id.to_be_bytes()) {
            return Outcome::Wait;
        }
        // A server that sends the right number and nonsense is asked no more.
        let Some(Question { name, kind, class }) = Response::question(message) else { return Outcome::Next };
        let matches =
            (kind, class, name.lower()) == (self.sent.kind, self.sent.class, self.sent.name.lower());
        if !matches {
            return Outcome::Wait;
        }
        let Some(response) = Response::read(message) else { return Outcome::Next };
        if !by_stream && (name != self.sent.name || response.is_truncated()) {
            return Outcome::RetryOverTcp;
        }
        match response.code() {
            _ if response.is_truncated() => Outcome::Next,
            OptRcode::NOERROR | OptRcode::NXDOMAIN => Outcome::Done(message.into(), response),
            OptRcode::FORMERR | OptRcode::NOTIMP if self.edns => Outcome::RetryWithoutEdns,
            _ => {
                self.failure = Some(message.to_vec());
                Outcome::Next
            }
        }
    }
}

/// The questions of all sandboxes that are open upstream.
#[derive(Debug)]
pub(super) struct Lookups {
    lookups: Slab<Lookup>,
    by_question: HashMap<u64, HashMap<CacheKey, Key>>,
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self { lookups: Slab::new(DNS_LOOKUP), by_question: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.lookups.len()
    }

    /// A sandbox's lookups.
    pub(super) fn keys(&self, sandbox: u64) -> Vec<Key> {
        self.lookups.iter().filter(|(_, lookup)| lookup.sandbox == sandbox).map(|(key, _)| key).collect()
    }

    /// Asks upstream, or waits with the clients that have asked the same. `preferred` is the place of the server that is
    /// asked first.
    #[allow(clippy::too_many_arguments, reason = "a question, who asked it, and the servers")]
    pub(super) fn begin(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        cache_key: CacheKey,
        client: (Client, Query),
        question: &Question,
        (upstreams, preferred): (Arc<Upstreams>, usize),
    ) -> Option<Finished> {
        let open = self.by_question.get(&sandbox);
        let count = open.map_or(0, HashMap::len);
        let known = open.and_then(|open| open.get(&cache_key)).copied();
        if let Some(lookup) = known.and_then(|key| self.lookups.get_mut(key)) {
            // Programs ask again while they wait.
            let is_same = |(other, query): &(Client, Query)| {
                *other == client.0 && query.header.id() == client.1.header.id()
            };
            if matches!(client.0, Client::Datagram(..)) && lookup.clients.iter().any(is_same) {
                return None;
            }
            if lookup.clients.len() < MAX_CLIENTS {
                lookup.clients.push(client);
                return None;
            }
        }
        let dnssec_ok = client.1.edns.is_some_and(|edns| edns.dnssec_ok);
        let unanswered = |cache_key, client, answer| {
            let (question, clients, result) =
                (question.clone(), vec![client], LookupResult::Unanswered(answer));
            Some(Finished { sandbox, cache_key, question, dnssec_ok, clients, result })
        };
        if cx.is_exhausted(sandbox) {
            return unanswered(cache_key, client, Answer::bare(OptRcode::REFUSED, Some(Why::Blocked)));
        }
        let has_room = count < MAX_LOOKUPS && known.is_none() && !self.lookups.is_full();
        let Some(permit) = cx.acquire(sandbox, limits::DNS_LOOKUP).filter(|_| has_room) else {
            return unanswered(cache_key, client, Answer::bare(OptRcode::SERVFAIL, Some(Why::Other)));
        };
        let lookup = Lookup {
            sandbox,
            cache_key: cache_key.clone(),
            question: question.clone(),
            dnssec_ok,
            checking_disabled: client.1.checking_disabled(),
            clients: vec![client],
            rotation: ServerRotation::new(upstreams, preferred, reactor.now()),
            server: None,
            link: Link::None,
            id: 0,
            sent: question.clone(),
            edns: true,
            timer: None,
            passed: 0,
            failure: None,
            _permit: permit,
        };
        let key = self.lookups.insert(lookup);
        reactor.join(key, sandbox);
        self.by_question.entry(sandbox).or_default().insert(cache_key, key);
        self.ask_next(cx, reactor, key)
    }

    /// Handles a wake-up of a lookup.
    pub(super) fn on_wake(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        key: Key,
        wake: Wake,
    ) -> Option<Finished> {
        // A wake-up can come after its lookup has ended.
        let lookup = self.lookups.get_mut(key)?;
        if let Wake::Timer(_) = wake {
            lookup.timer = None;
            return self.ask_next(cx, reactor, key);
        }
        let outcome = lookup.read(&mut cx.scratch().plain);
        lookup.spend(cx);
        match outcome {
            Outcome::Wait => None,
            Outcome::Again => {
                reactor.reschedule(key);
                None
            }
            Outcome::RetryOverTcp => self.ask_again(cx, reactor, key, true),
            Outcome::RetryWithoutEdns => {
                lookup.edns = false;
                self.ask_again(cx, reactor, key, false)
            }
            Outcome::Next => self.ask_next(cx, reactor, key),
            Outcome::Done(message, response) => self.on_answer(reactor, key, message, response),
        }
    }

    fn ask_next(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) -> Option<Finished> {
        loop {
            let lookup = self.lookups.get_mut(key)?;
            let Some((server, _)) = lookup.rotation.next(reactor.now()) else {
                return self.on_all_failed(reactor, key);
            };
            lookup.edns = true;
            lookup.server = Some(server);
            if lookup.ask(cx, reactor, key, false).is_ok() {
                return None;
            }
        }
    }

    /// Asks the same server again; the next one if that fails.
    fn ask_again(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, stream: bool) -> Option<Finished> {
        match self.lookups.get_mut(key)?.ask(cx, reactor, key, stream) {
            Ok(()) => None,
            Err(_) => self.ask_next(cx, reactor, key),
        }
    }

    /// A server has answered.
    fn on_answer(
        &mut self,
        reactor: &mut Reactor,
        key: Key,
        message: Arc<[u8]>,
        response: Response,
    ) -> Option<Finished> {
        let lookup = self.take(reactor, key)?;
        let place = lookup.rotation.current();
        Some(lookup.finish(LookupResult::Answered(message, response, place)))
    }

    /// Every server has failed or been too slow.
    fn on_all_failed(&mut self, reactor: &mut Reactor, key: Key) -> Option<Finished> {
        let lookup = self.take(reactor, key)?;
        let result = match lookup.failure.as_deref().and_then(Response::read) {
            Some(response) => LookupResult::Failed(response),
            None => LookupResult::Unanswered(Answer::bare(OptRcode::SERVFAIL, Some(Why::Unreachable))),
        };
        Some(lookup.finish(result))
    }

    /// Ends a lookup without an answer.
    pub(super) fn discard(&mut self, reactor: &mut Reactor, key: Key) {
        self.take(reactor, key);
    }

    fn take(&mut self, reactor: &mut Reactor, key: Key) -> Option<Lookup> {
        let mut lookup = self.lookups.remove(key)?;
        if let Some(fd) = lookup.link.fd() {
            reactor.deregister(fd);
        }
        if let Some(timer) = lookup.timer.take() {
            reactor.cancel(timer);
        }
        if let Some(open) = self.by_question.get_mut(&lookup.sandbox) {
            open.remove(&lookup.cache_key);
            if open.is_empty() {
                self.by_question.remove(&lookup.sandbox);
            }
        }
        Some(lookup)
    }
}

#[cfg(test)]
mod tests;
