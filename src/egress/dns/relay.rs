//! Questions come in, answers go out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use domain::base::iana::{Class, OptRcode};
use mio::net::TcpListener;

use super::batches::{Asker, Batch, Waiting};
use super::cache::Subject;
use super::client::Client;
use super::filter::filter;
use super::judged::Judged;
use super::lookup::Lookup;
use super::message::{Asked, Query, Question, Response};
use super::names::Names;
use super::record::{ADDRESSES, is_meta};
use super::resolver::Resolver;
use super::write::{Answer, Why, udp_limit};
use crate::egress::answered::Change;
use crate::egress::denials::{Denied, Destination, Why as Cause};
use crate::egress::greeting::Greeting;
use crate::egress::listener::REST;
use crate::egress::outbound::Outbound;
use crate::egress::request::Request;
use crate::policy::{Asking, Policy, Protocol, Reason, Verdict};
use crate::reactor::{Key, Lane, Reactor, Wake};
use crate::sys::datagram;

/// The resolver's port.
const PORT: u16 = 53;
/// How many questions of one socket are taken before others get a turn.
pub(super) const QUESTIONS: usize = 8;
/// The longest question that is looked at.
pub(super) const LONGEST_QUESTION: usize = 4096;
/// The longest answer by TCP.
const LONGEST: usize = 65_535;
/// The most addresses of one answer; each costs a look at the host's routes. What is beyond isn't told.
const MOST_ADDRESSES: usize = 64;
/// The most answers of one sandbox that wait for the rules.
const MOST_WAITING: usize = 1024;

/// What the resolver's kind of key names.
#[derive(Debug)]
pub(in crate::egress) enum Dns {
    /// Hears questions by UDP.
    Socket(u64, OwnedFd),
    /// Takes connections.
    Listener(u64, TcpListener),
    /// A connection of the sandbox's.
    Client(Client),
    /// A question that is open upstream.
    Lookup(Lookup),
    /// A connection to a domain whose server isn't known yet.
    Greeting(Greeting),
}

impl Dns {
    pub(in crate::egress) fn sandbox(&self) -> u64 {
        match self {
            Self::Socket(sandbox, _) | Self::Listener(sandbox, _) => *sandbox,
            Self::Client(client) => client.sandbox,
            Self::Lookup(lookup) => lookup.sandbox,
            Self::Greeting(greeting) => greeting.sandbox,
        }
    }
}

impl Outbound {
    /// Answers a sandbox's questions, which come over its sockets.
    pub(in crate::egress) fn add_dns(&mut self, reactor: &mut Reactor, sandbox: u64, resolver: Resolver) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        gate.names = Names::new(resolver.servers);
        let datagrams = resolver.datagrams.map(|fd| Dns::Socket(sandbox, fd));
        let listener = resolver.listener.map(|socket| Dns::Listener(sandbox, socket));
        for object in datagrams.into_iter().chain(listener) {
            let key = self.dns.insert(object);
            reactor.join(key, sandbox);
            let watched = match self.dns.get_mut(key) {
                Some(Dns::Socket(_, fd)) => reactor.register(fd.as_fd(), key, Lane::Front),
                Some(Dns::Listener(_, socket)) => reactor.register(socket.as_fd(), key, Lane::Front),
                _ => Ok(()),
            };
            if let Err(error) = watched {
                self.dns.remove(key);
                self.report(sandbox, format!("the resolver can't be watched ({error}) and is closed"));
            }
        }
    }

    /// Ends all of a sandbox's names.
    pub(in crate::egress) fn remove_dns(&mut self, reactor: &mut Reactor, sandbox: u64) {
        let found = self.dns.iter().filter(|(_, object)| object.sandbox() == sandbox).map(|(key, _)| key);
        for key in found.collect::<Vec<_>>() {
            self.discard_dns(reactor, key);
        }
    }

    /// Ends what that key names.
    pub(in crate::egress) fn discard_dns(&mut self, reactor: &mut Reactor, key: Key) {
        match self.dns.get_mut(key) {
            Some(Dns::Client(_)) => self.cut_client(reactor, key),
            Some(Dns::Lookup(_)) => drop(self.take_lookup(reactor, key)),
            Some(Dns::Greeting(_)) => self.cut_greeting(reactor, key),
            Some(Dns::Socket(_, fd)) => {
                reactor.deregister(fd.as_fd());
                self.dns.remove(key);
            }
            Some(Dns::Listener(_, socket)) => {
                reactor.deregister(socket.as_fd());
                self.dns.remove(key);
            }
            None => {}
        }
    }

    pub(in crate::egress) fn wake_dns(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        match self.dns.get_mut(key) {
            Some(Dns::Socket(..)) => self.hear_questions(reactor, key),
            Some(Dns::Listener(..)) => self.accept_clients(reactor, key),
            Some(Dns::Client(_)) => self.wake_client(reactor, key, wake),
            Some(Dns::Lookup(_)) => self.wake_lookup(reactor, key, wake),
            Some(Dns::Greeting(_)) => self.wake_greeting(reactor, key, wake),
            None => {}
        }
    }

    fn hear_questions(&mut self, reactor: &mut Reactor, key: Key) {
        for _ in 0..QUESTIONS {
            let Some(Dns::Socket(sandbox, _)) = self.dns.get_mut(key) else { return };
            let sandbox = *sandbox;
            if !self.may_ask(reactor, sandbox, key) {
                return;
            }
            let Some(Dns::Socket(_, fd)) = self.dns.get_mut(key) else { return };
            let mut buffer = [0_u8; LONGEST_QUESTION];
            match datagram::receive_from(fd.as_fd(), &mut buffer) {
                Ok((length, from)) => {
                    self.count_question(sandbox);
                    let asker = Asker::Datagram(key, from);
                    self.asked(reactor, sandbox, asker, buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.rest_dns(reactor, key),
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.again(key);
    }

    /// A socket that fails for want of memory or descriptors is tried again in a while.
    pub(super) fn rest_dns(&mut self, reactor: &mut Reactor, key: Key) {
        if let Some(sandbox) = self.dns.get_mut(key).map(|object| object.sandbox()) {
            self.park(reactor, sandbox, key, REST);
        }
    }

    /// The sandbox has asked something. False if it wasn't even a question.
    pub(super) fn asked(&mut self, reactor: &mut Reactor, sandbox: u64, asker: Asker, bytes: &[u8]) -> bool {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return false };
        let (query, question) = match Query::read(bytes) {
            Asked::Ask(query, question) => (query, question),
            Asked::Answer(query, code) => {
                self.respond(reactor, asker, &query, &Answer::bare(code, None), 0);
                return true;
            }
            Asked::Nothing => return false,
        };
        gate.counters.questions.fetch_add(1, Ordering::Relaxed);
        // AXFR, IXFR, ANY, OPT; classes other than IN.
        if question.class != Class::IN || is_meta(question.kind) {
            self.respond(reactor, asker, &query, &Answer::bare(OptRcode::REFUSED, None), 0);
            return true;
        }
        let text = question.name.text();
        if may_ask(&gate.policy, &question, &text) == Asking::Refused {
            self.refuse(reactor, sandbox, asker, &query, text);
            return true;
        }
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        let subject = Subject::new(&question, dnssec_ok, query.checking_disabled());
        let (now, generation) = (reactor.now(), gate.generation);
        let Some((message, age)) = gate.names.cache.get(&subject, now) else {
            self.look_up(reactor, sandbox, subject, (asker, query), &question);
            return true;
        };
        let known = gate.names.verdicts.get(&subject, generation, now);
        let judged = match known {
            Some(judged) => judged,
            None => {
                let response = Response::read(&message);
                let judged = response.and_then(|read| self.judge(sandbox, &question, dnssec_ok, &read));
                let Some(judged) = judged else { return true };
                if let Some(gate) = self.gates.get_mut(&sandbox) {
                    gate.names.verdicts.put(subject, generation, Arc::clone(&judged), now);
                }
                judged
            }
        };
        self.finish(reactor, sandbox, asker, query, &question, judged, age);
        true
    }

    /// Says that the policy doesn't let a name be asked for.
    fn refuse(&mut self, reactor: &mut Reactor, sandbox: u64, asker: Asker, query: &Query, name: String) {
        if let Some(gate) = self.gates.get(&sandbox) {
            gate.counters.refused_names.fetch_add(1, Ordering::Relaxed);
        }
        let verdict = Verdict::of(Reason::DnsName);
        let detail = format!("{verdict}: {name}");
        self.deny(
            reactor,
            sandbox,
            Denied {
                to: Some(Destination::Name(name)),
                port: PORT,
                protocol: if matches!(asker, Asker::Stream(_)) {
                    Protocol::Tcp.number()
                } else {
                    Protocol::Udp.number()
                },
                why: Cause::Denied(verdict.reason, None),
                detail,
            },
        );
        self.respond(reactor, asker, query, &Answer::bare(OptRcode::REFUSED, Some(Why::Blocked)), 0);
    }

    /// What an upstream server has said, as far as the policy of this moment allows.
    pub(super) fn judge(
        &mut self,
        sandbox: u64,
        question: &Question,
        dnssec_ok: bool,
        response: &Response,
    ) -> Option<Arc<Judged>> {
        let policy = Arc::clone(&self.gates.get(&sandbox)?.policy);
        let (judge, mut looks, mut reachable) = (&mut self.judge, 0, Vec::new());
        let mut filtered = filter(response, question, dnssec_ok, |address| {
            looks += 1;
            if looks > MOST_ADDRESSES {
                return false;
            }
            let reason = judge.verdict(&policy, address, Protocol::Tcp).reason;
            if matches!(reason, Reason::NotListed | Reason::Listed) {
                reachable.push(address);
            }
            !is_protected(reason)
        });
        if policy.tells_addresses_only() {
            filtered.answer.keep_addresses(question);
        }
        let mut removed = filtered.removed;
        removed.truncate(MOST_ADDRESSES);
        Some(Arc::new(Judged { answer: filtered.answer, ttl: filtered.ttl, reachable, removed }))
    }

    /// Answers with what an upstream server has said, which is `age` seconds old.
    #[allow(clippy::too_many_arguments, reason = "a question, who asked it, and its answer")]
    pub(super) fn finish(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        asker: Asker,
        query: Query,
        question: &Question,
        judged: Arc<Judged>,
        age: u32,
    ) {
        let Some(gate) = self.gates.get(&sandbox) else { return };
        let name = question.name.text();
        let asking = may_ask(&gate.policy, question, &name);
        if asking == Asking::Refused {
            return self.refuse(reactor, sandbox, asker, &query, name);
        }
        for address in &judged.removed {
            self.rebound(reactor, sandbox, *address, &name);
        }
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        if !matches!(asking, Asking::Domain(_)) || judged.reachable.is_empty() {
            return self.respond(reactor, asker, &query, &judged.answer, age);
        }
        if gate.names.batches.waiting() >= MOST_WAITING {
            let busy = Answer::bare(OptRcode::SERVFAIL, Some(Why::Other));
            return self.respond(reactor, asker, &query, &busy, 0);
        }
        let ttl = judged.ttl.unwrap_or(0).saturating_sub(age);
        let change = gate.names.answered.learn(&name, &judged.reachable, ttl, reactor.now());
        // What is known already may still be on its way to the rules for an earlier answer: behind those.
        if change == Change::default() && gate.names.batches.are_empty() {
            return self.respond(reactor, asker, &query, &judged.answer, age);
        }
        gate.names.batches.add(change, Some(Waiting { asker, query, judged, age }));
        self.let_through(sandbox);
    }

    /// Has the rules follow what was learned, if they are not about to already.
    fn let_through(&mut self, sandbox: u64) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        if let Some(Change { added, removed }) = gate.names.batches.send() {
            (self.requests)(Request::Answered { key: sandbox, added, removed });
        }
    }

    /// The rules let through what was sent to them, or can't be made to.
    pub(crate) fn answered(&mut self, reactor: &mut Reactor, sandbox: u64, done: bool) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        let Batch { change, waiting } = gate.names.batches.done();
        if !done {
            gate.names.answered.forget(&change.added);
        }
        for Waiting { asker, query, judged, age } in waiting {
            if done {
                self.respond(reactor, asker, &query, &judged.answer, age);
            } else {
                let failure = Answer::bare(OptRcode::SERVFAIL, Some(Why::Other));
                self.respond(reactor, asker, &query, &failure, 0);
            }
        }
        self.let_through(sandbox);
    }

    /// The policy has changed: what was answered for domains that it no longer has is forgotten.
    pub(in crate::egress) fn names_changed(&mut self, sandbox: u64) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        let policy = Arc::clone(&gate.policy);
        let removed = gate.names.answered.retain(|name| policy.domain_of(name).is_some());
        gate.names.batches.add(Change { added: Vec::new(), removed }, None);
        self.let_through(sandbox);
    }

    fn rebound(&mut self, reactor: &mut Reactor, sandbox: u64, address: IpAddr, name: &str) {
        let verdict = Verdict::of(Reason::Rebinding);
        let detail = format!("{verdict}: {name}");
        self.deny(
            reactor,
            sandbox,
            Denied {
                to: Some(Destination::Address(address)),
                port: PORT,
                protocol: Protocol::Udp.number(),
                why: Cause::Denied(verdict.reason, None),
                detail,
            },
        );
    }

    /// Sends an answer to who has asked, if that one is still there.
    pub(super) fn respond(
        &mut self,
        reactor: &mut Reactor,
        asker: Asker,
        query: &Query,
        answer: &Answer,
        age: u32,
    ) {
        match asker {
            Asker::Datagram(key, to) => {
                self.respond_by_datagram(key, to, &answer.write(query, udp_limit(query), age))
            }
            Asker::Stream(key) => self.respond_by_stream(reactor, key, &answer.write(query, LONGEST, age)),
        }
    }

    /// One that finds no room is lost, as datagrams are; the question will come again.
    fn respond_by_datagram(&mut self, key: Key, to: SocketAddr, bytes: &[u8]) {
        if let Some(Dns::Socket(_, fd)) = self.dns.get_mut(key) {
            let _ = datagram::send_to(fd.as_fd(), to, bytes);
        }
    }
}

/// Whether that may be asked of a name, which is given as text too.
fn may_ask(policy: &Policy, question: &Question, name: &str) -> Asking {
    if policy.tells_addresses_only() && !ADDRESSES.contains(&question.kind) {
        return Asking::Refused;
    }
    policy.asking(name)
}

/// Whether the sandbox isn't even told of an address: what it could do with it is harm.
fn is_protected(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Protected
            | Reason::Metadata
            | Reason::Host
            | Reason::OnLink
            | Reason::Reserved
            | Reason::Blocked
    )
}
