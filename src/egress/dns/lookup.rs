//! A question that is open upstream: asked by UDP, again by TCP where that is needed, then the next server.
//!
//! Nobody else's answer is taken for one: it has to come from the server that was asked, to a port that the kernel
//! picked for this attempt alone, with a random number, and with the name in the random mixture of cases in which
//! it was asked. A server that doesn't keep the case is asked again by TCP.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use domain::base::iana::OptRcode;

use super::batches::Asker;
use super::cache::Subject;
use super::course::Course;
use super::filter::filter;
use super::message::{Query, Question, Response};
use super::relay::Dns;
use super::write::{self, Answer, Why};
use crate::egress::outbound::Outbound;
use crate::limits;
use crate::reactor::{Key, Lane, Permit, Reactor, TimerId, Use, Wake};
use crate::sys::socket::{self, Family, Socket};
use crate::sys::{datagram, random};

/// The most questions of one sandbox that are open upstream, and of those who wait for the same answer.
const MOST_LOOKUPS: usize = 256;
const MOST_ASKERS: usize = 32;
/// How many wrong answers are read before others get a turn.
const WRONG: usize = 16;
/// The longest message there is.
const LONGEST: usize = 65_535;

/// A question that is open upstream.
#[derive(Debug)]
pub(in crate::egress) struct Lookup {
    pub(super) sandbox: u64,
    subject: Subject,
    /// As the sandbox asked it.
    question: Question,
    dnssec_ok: bool,
    checking_disabled: bool,
    askers: Vec<(Asker, Query)>,
    course: Course,
    /// Whom it is asked at the moment, and how.
    server: Option<SocketAddr>,
    link: Link,
    id: u16,
    /// With the case of each letter as it was sent.
    sent: Question,
    edns: bool,
    timer: Option<TimerId>,
    /// The bytes that were sent and received since they were last counted.
    passed: usize,
    /// What the last server said that had no answer.
    failure: Option<Vec<u8>>,
    _permit: Permit,
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

/// What became of an attempt.
enum Outcome {
    Wait,
    Again,
    /// Ask the same server by TCP.
    RetryOverTcp,
    /// Ask the same server without EDNS.
    RetryWithoutEdns,
    /// Ask the next.
    Next,
    Done(Arc<[u8]>, Response),
}

impl Lookup {
    /// Asks the server: a new number, a new mixture of cases, a new socket.
    fn ask(&mut self, server: SocketAddr, stream: bool) -> io::Result<()> {
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
        for _ in 0..WRONG {
            let Link::Datagram(fd) = &self.link else { return Outcome::Wait };
            match datagram::receive(fd.as_fd(), scratch) {
                Ok(length) => {
                    self.passed += length;
                    match self.judge(scratch.get(..length).unwrap_or_default()) {
                        Outcome::Wait => {}
                        outcome => return outcome,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Wait,
                // Nobody listens there (ICMP).
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
                    return match self.judge(&message) {
                        Outcome::Wait => Outcome::Next,
                        outcome => outcome,
                    };
                }
            }
            let room = (2 + LONGEST).saturating_sub(input.len()).min(scratch.len());
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

    /// What a message is worth; `Wait` if it isn't the answer.
    fn judge(&mut self, message: &[u8]) -> Outcome {
        let by_stream = matches!(self.link, Link::Stream { .. });
        // Most of it isn't looked at until it is known to be the answer: anybody can send anything.
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

impl Outbound {
    /// Asks upstream, or waits with those who have asked the same.
    pub(super) fn look_up(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        subject: Subject,
        asker: (Asker, Query),
        question: &Question,
    ) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        if let Some(key) = gate.names.lookups.get(&subject)
            && let Some(Dns::Lookup(lookup)) = self.dns.get_mut(*key)
        {
            // Programs ask again while they wait.
            let again = lookup
                .askers
                .iter()
                .any(|(who, query)| *who == asker.0 && query.header.id() == asker.1.header.id());
            let is_datagram = matches!(asker.0, Asker::Datagram(..));
            if again && is_datagram {
                return;
            }
            if lookup.askers.len() < MOST_ASKERS {
                return lookup.askers.push(asker);
            }
        }
        if gate.pace.is_exhausted() {
            let refused = Answer::bare(OptRcode::REFUSED, Some(Why::Blocked));
            return self.respond(reactor, asker.0, &asker.1, &refused, 0);
        }
        let room = gate.names.lookups.len() < MOST_LOOKUPS && !gate.names.lookups.contains_key(&subject);
        let permit = self
            .budget
            .acquire(sandbox, Use::Egress, limits::DNS_LOOKUP)
            .filter(|_| room && !self.dns.is_full());
        let Some(permit) = permit else {
            let busy = Answer::bare(OptRcode::SERVFAIL, Some(Why::Other));
            return self.respond(reactor, asker.0, &asker.1, &busy, 0);
        };
        let now = reactor.now();
        let upstreams = gate.names.upstreams.clone().unwrap_or_else(|| Arc::clone(&self.nameservers));
        let lookup = Lookup {
            sandbox,
            subject: subject.clone(),
            question: question.clone(),
            dnssec_ok: asker.1.edns.is_some_and(|edns| edns.dnssec_ok),
            checking_disabled: asker.1.checking_disabled(),
            askers: vec![asker],
            course: Course::new(upstreams, gate.names.preferred, now),
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
        let key = self.dns.insert(Dns::Lookup(lookup));
        reactor.join(key, sandbox);
        gate.names.lookups.insert(subject, key);
        self.ask_next(reactor, key);
    }

    pub(super) fn wake_lookup(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        let Some(Dns::Lookup(lookup)) = self.dns.get_mut(key) else { return };
        if let Wake::Timer(_) = wake {
            lookup.timer = None;
            return self.ask_next(reactor, key);
        }
        let outcome = lookup.read(&mut self.scratch.plain);
        self.count_lookup(reactor, key);
        let Some(Dns::Lookup(lookup)) = self.dns.get_mut(key) else { return };
        match outcome {
            Outcome::Wait => {}
            Outcome::Again => reactor.again(key),
            Outcome::RetryOverTcp => self.ask_again(reactor, key, true),
            Outcome::RetryWithoutEdns => {
                lookup.edns = false;
                self.ask_again(reactor, key, false);
            }
            Outcome::Next => self.ask_next(reactor, key),
            Outcome::Done(message, response) => self.on_answer(reactor, key, message, &response),
        }
    }

    fn ask_next(&mut self, reactor: &mut Reactor, key: Key) {
        loop {
            let Some(Dns::Lookup(lookup)) = self.dns.get_mut(key) else { return };
            let Some((server, _)) = lookup.course.next(reactor.now()) else {
                return self.on_all_failed(reactor, key);
            };
            lookup.edns = true;
            lookup.server = Some(server);
            if self.ask(reactor, key, false).is_ok() {
                return;
            }
        }
    }

    fn ask_again(&mut self, reactor: &mut Reactor, key: Key, stream: bool) {
        if self.ask(reactor, key, stream).is_err() {
            self.ask_next(reactor, key);
        }
    }

    /// What has passed between a server and us is taken off the sandbox's budgets.
    fn count_lookup(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(Dns::Lookup(lookup)) = self.dns.get_mut(key) else { return };
        let (sandbox, passed) = (lookup.sandbox, std::mem::take(&mut lookup.passed));
        if passed > 0 {
            self.spend(reactor, sandbox, passed as u64);
        }
    }

    /// Asks the current server over a new socket.
    fn ask(&mut self, reactor: &mut Reactor, key: Key, stream: bool) -> io::Result<()> {
        let Some(Dns::Lookup(lookup)) = self.dns.get_mut(key) else { return Ok(()) };
        if let Some(old) = lookup.link.fd() {
            reactor.deregister(old);
        }
        lookup.link = Link::None;
        if let Some(timer) = lookup.timer.take() {
            reactor.cancel(timer);
        }
        let Some(server) = lookup.server else { return Ok(()) };
        if self.gates.get(&lookup.sandbox).is_none_or(|gate| gate.pace.is_exhausted()) {
            return Err(io::Error::other("the bytes that may pass in all are used up"));
        }
        let asked = lookup.ask(server, stream);
        self.count_lookup(reactor, key);
        asked?;
        let Some(Dns::Lookup(lookup)) = self.dns.get_mut(key) else { return Ok(()) };
        if let Some(new) = lookup.link.fd() {
            reactor.register(new, key, Lane::Front)?;
        }
        lookup.timer = Some(reactor.schedule(lookup.course.limit(reactor.now()), key));
        Ok(())
    }

    /// A server has answered: remembers the answer, and passes it on.
    fn on_answer(&mut self, reactor: &mut Reactor, key: Key, message: Arc<[u8]>, response: &Response) {
        let Some(lookup) = self.take_lookup(reactor, key) else { return };
        if let Some(gate) = self.gates.get_mut(&lookup.sandbox) {
            gate.names.preferred = lookup.course.current();
            gate.names.verdicts.remove(&lookup.subject);
            let ttl = filter(response, &lookup.question, lookup.dnssec_ok, |_| true).ttl;
            gate.names.cache.put(lookup.subject, message, ttl.unwrap_or(0), reactor.now());
        }
        self.tell(reactor, lookup.sandbox, lookup.askers, (&lookup.question, lookup.dnssec_ok), response);
    }

    /// Every server has failed or been too slow: passes on the last failure, else SERVFAIL.
    fn on_all_failed(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(lookup) = self.take_lookup(reactor, key) else { return };
        if let Some(response) = lookup.failure.as_deref().and_then(Response::read) {
            let asked = (&lookup.question, lookup.dnssec_ok);
            return self.tell(reactor, lookup.sandbox, lookup.askers, asked, &response);
        }
        let failure = Answer::bare(OptRcode::SERVFAIL, Some(Why::Unreachable));
        for (asker, query) in lookup.askers {
            self.respond(reactor, asker, &query, &failure, 0);
        }
    }

    fn tell(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        askers: Vec<(Asker, Query)>,
        (question, dnssec_ok): (&Question, bool),
        response: &Response,
    ) {
        let Some(judged) = self.judge(sandbox, question, dnssec_ok, response) else { return };
        for (asker, query) in askers {
            self.finish(reactor, sandbox, asker, query, question, Arc::clone(&judged), 0);
        }
    }

    pub(super) fn take_lookup(&mut self, reactor: &mut Reactor, key: Key) -> Option<Lookup> {
        let Some(Dns::Lookup(_)) = self.dns.get_mut(key) else { return None };
        let Some(Dns::Lookup(mut lookup)) = self.dns.remove(key) else { return None };
        if let Some(fd) = lookup.link.fd() {
            reactor.deregister(fd);
        }
        if let Some(timer) = lookup.timer.take() {
            reactor.cancel(timer);
        }
        if let Some(gate) = self.gates.get_mut(&lookup.sandbox) {
            gate.names.lookups.remove(&lookup.subject);
        }
        Some(lookup)
    }
}
