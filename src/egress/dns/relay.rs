//! Questions come in, answers go out.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::base::iana::{Class, OptRcode};

use super::cache::CacheKey;
use super::client::Client;
use super::connection::{Connections, Next};
use super::filter::filter;
use super::judged::Judged;
use super::lookup::{Finished, LookupResult, Lookups};
use super::message::{Asked, MAX_QUESTION_BYTES, Query, Question, Response};
use super::pending_rules::{Batch, Waiting};
use super::pinned::{Change, Pinned};
use super::record::{ADDRESSES, is_meta};
use super::resolver::Resolver;
use super::server::Servers;
use super::state::ResolverState;
use super::upstreams::Upstreams;
use super::write::{Answer, Why, udp_limit};
use crate::egress::cx::Cx;
use crate::egress::denials::{Denied, Destination, Why as Cause};
use crate::egress::kinds::{DNS_CONNECTION, DNS_LOOKUP, DNS_SOCKET};
use crate::egress::request::Request;
use crate::policy::{Asking, Policy, Protocol, Reason, Verdict};
use crate::reactor::{Key, Reactor, Wake};
use crate::sys::socket;

/// The resolver's port.
const PORT: u16 = 53;
/// How many questions of one socket are taken before others get a turn.
const QUESTIONS: usize = 8;
/// The longest answer by TCP.
const MAX_ANSWER_BYTES: usize = 65_535;
/// The most addresses of one answer; each costs a look at the host's routes. Those beyond are left out.
const MAX_ADDRESSES: usize = 64;
/// How long a socket pauses when the process has no memory or descriptors for it.
const PAUSE: Duration = Duration::from_millis(100);

/// The resolvers of all sandboxes.
#[derive(Debug)]
pub(in crate::egress) struct Dns {
    servers: Servers,
    connections: Connections,
    lookups: Lookups,
    states: HashMap<u64, ResolverState>,
    /// The servers that the host asks.
    nameservers: Arc<Upstreams>,
}

impl Dns {
    pub(in crate::egress) fn new() -> Self {
        Self {
            servers: Servers::new(),
            connections: Connections::new(),
            lookups: Lookups::new(),
            states: HashMap::new(),
            nameservers: Arc::default(),
        }
    }

    /// How many sockets and questions are open.
    pub(in crate::egress) fn len(&self) -> usize {
        self.servers.len() + self.connections.len() + self.lookups.len()
    }

    /// Uses these servers of the host from now on; questions that are open stay with theirs.
    pub(in crate::egress) fn set_nameservers(&mut self, servers: Arc<Upstreams>) {
        self.nameservers = servers;
    }

    /// Answers a sandbox's questions, which come over the resolver's sockets.
    pub(in crate::egress) fn add_sandbox(
        &mut self,
        cx: &Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        resolver: Resolver,
    ) {
        let (servers, datagrams, listener) = resolver.into_parts();
        self.states.insert(sandbox, ResolverState::new(servers));
        self.servers.add(cx, reactor, sandbox, datagrams, listener);
    }

    /// Takes no further question of a sandbox.
    pub(in crate::egress) fn close(&mut self, reactor: &mut Reactor, sandbox: u64) {
        for key in self.servers.keys(sandbox) {
            self.servers.close(reactor, key);
        }
    }

    /// A sandbox's connections and open questions.
    pub(in crate::egress) fn keys(&self, sandbox: u64) -> Vec<Key> {
        [self.connections.keys(sandbox), self.lookups.keys(sandbox)].concat()
    }

    /// Forgets a sandbox.
    pub(in crate::egress) fn remove_sandbox(&mut self, reactor: &mut Reactor, sandbox: u64) {
        self.close(reactor, sandbox);
        for key in self.keys(sandbox) {
            self.discard(reactor, key);
        }
        self.states.remove(&sandbox);
    }

    /// Ends what that key names.
    pub(in crate::egress) fn discard(&mut self, reactor: &mut Reactor, key: Key) {
        match key.kind() {
            DNS_SOCKET => self.servers.close(reactor, key),
            DNS_CONNECTION => self.connections.cut(reactor, key),
            DNS_LOOKUP => self.lookups.discard(reactor, key),
            _ => debug_assert!(false, "{key:?} is no key of the resolver's"),
        }
    }

    /// The addresses that were answered for the domains of a sandbox's policy.
    pub(in crate::egress) fn pinned(&self, sandbox: u64) -> Option<&Pinned> {
        self.states.get(&sandbox).map(|state| &state.pinned)
    }

    #[cfg(test)]
    pub(in crate::egress) fn pin(&mut self, sandbox: u64, name: &str, address: IpAddr) {
        let state = self.states.entry(sandbox).or_default();
        state.pinned.learn(name, &[address], 60, std::time::Instant::now());
    }

    /// Handles a wake-up of a socket, a connection or a lookup.
    pub(in crate::egress) fn on_wake(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, wake: Wake) {
        match key.kind() {
            DNS_SOCKET => match self.servers.get(key) {
                Some((sandbox, true)) => self.on_listener(cx, reactor, sandbox, key),
                Some((sandbox, false)) => self.on_datagrams(cx, reactor, sandbox, key),
                // A wake-up can come after its socket was closed.
                None => {}
            },
            DNS_CONNECTION => match wake {
                Wake::Timer(_) => self.connections.on_timer(reactor, key),
                _ => self.serve(cx, reactor, key),
            },
            DNS_LOOKUP => {
                let finished = self.lookups.on_wake(cx, reactor, key, wake);
                self.on_finished(cx, reactor, finished);
            }
            _ => debug_assert!(false, "{key:?} is no key of the resolver's"),
        }
    }

    /// Takes questions by UDP.
    fn on_datagrams(&mut self, cx: &mut Cx, reactor: &mut Reactor, sandbox: u64, key: Key) {
        for _ in 0..QUESTIONS {
            if !cx.may_ask(reactor, sandbox, key) {
                return;
            }
            let mut buffer = [0_u8; MAX_QUESTION_BYTES];
            match self.servers.receive(key, &mut buffer) {
                Ok((length, from)) => {
                    cx.count_question(sandbox);
                    let client = Client::Datagram(key, from);
                    self.ask(cx, reactor, sandbox, client, buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return cx.throttle(reactor, sandbox, key, PAUSE),
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.reschedule(key);
    }

    /// Takes connections.
    fn on_listener(&mut self, cx: &mut Cx, reactor: &mut Reactor, sandbox: u64, key: Key) {
        for _ in 0..QUESTIONS {
            match self.servers.accept(key) {
                Ok(fd) => self.connections.add(cx, reactor, sandbox, fd),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Connections wait in the kernel's queue until there are descriptors again.
                Err(error) if socket::is_shortage(&error) => {
                    return cx.throttle(reactor, sandbox, key, PAUSE);
                }
                // The errors of a connection that was over before it was accepted: see accept(2).
                Err(_) => {}
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.reschedule(key);
    }

    /// Takes a connection's questions.
    fn serve(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) {
        // A wake-up can come after its connection has ended.
        let Some(sandbox) = self.connections.begin_serving(reactor, key) else { return };
        let mut more = true;
        for _ in 0..QUESTIONS {
            let ask = cx.may_ask(reactor, sandbox, key);
            match self.connections.next(reactor, key, ask) {
                Next::Question(question) => {
                    cx.count_question(sandbox);
                    if !self.ask(cx, reactor, sandbox, Client::Stream(key), &question) {
                        self.connections.cut(reactor, key);
                        break;
                    }
                }
                Next::Wait => {
                    more = false;
                    break;
                }
                Next::Ended => break,
            }
            if reactor.is_over_time() {
                break;
            }
        }
        self.connections.end_serving(reactor, key, more);
    }

    /// Handles a question of the sandbox's. False if it wasn't even one.
    fn ask(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        client: Client,
        bytes: &[u8],
    ) -> bool {
        let (query, question) = match Query::read(bytes) {
            Asked::Ask(query, question) => (query, question),
            Asked::Answer(query, code) => {
                self.respond(reactor, client, &query, &Answer::bare(code, None), 0);
                return true;
            }
            Asked::Nothing => return false,
        };
        if let Some(counters) = cx.counters(sandbox) {
            counters.questions.fetch_add(1, Ordering::Relaxed);
        }
        // AXFR, IXFR, ANY, OPT; classes other than IN.
        if question.class != Class::IN || is_meta(question.kind) {
            self.respond(reactor, client, &query, &Answer::bare(OptRcode::REFUSED, None), 0);
            return true;
        }
        let Some(policy) = cx.policy(sandbox) else {
            debug_assert!(false, "sockets are closed before their sandbox is removed");
            return false;
        };
        let text = question.name.text();
        if may_ask(policy, &question, &text) == Asking::Refused {
            self.refuse(cx, reactor, sandbox, client, &query, text);
            return true;
        }
        let (Some(state), Some(generation)) = (self.states.get_mut(&sandbox), cx.generation(sandbox)) else {
            debug_assert!(false, "sockets are closed before their sandbox is removed");
            return false;
        };
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        let key = CacheKey::new(&question, dnssec_ok, query.checking_disabled());
        let now = reactor.now();
        let Some((message, age)) = state.cache.get(&key, now) else {
            let upstreams = state.upstreams.clone().unwrap_or_else(|| Arc::clone(&self.nameservers));
            let servers = (upstreams, state.preferred);
            let finished = self.lookups.begin(cx, reactor, sandbox, key, (client, query), &question, servers);
            self.on_finished(cx, reactor, finished);
            return true;
        };
        let judged = match state.verdicts.get(&key, generation, now) {
            Some(judged) => judged,
            None => {
                let response = Response::read(&message);
                let judged = response.and_then(|read| apply_policy(cx, sandbox, &question, dnssec_ok, &read));
                let Some(judged) = judged else {
                    debug_assert!(false, "what is cached was read before");
                    return true;
                };
                state.verdicts.put(key, generation, Arc::clone(&judged), now);
                judged
            }
        };
        self.answer(cx, reactor, sandbox, (client, query), &question, judged, age);
        true
    }

    /// Answers that the policy doesn't let a name be asked for, and reports it.
    fn refuse(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        client: Client,
        query: &Query,
        name: String,
    ) {
        if let Some(counters) = cx.counters(sandbox) {
            counters.refused_names.fetch_add(1, Ordering::Relaxed);
        }
        let verdict = Verdict::of(Reason::DnsName);
        let detail = format!("{verdict}: {name}");
        let denied = denied(Destination::Name(name), client.protocol(), verdict.reason, detail);
        cx.deny(reactor, sandbox, denied);
        self.respond(reactor, client, query, &Answer::bare(OptRcode::REFUSED, Some(Why::Blocked)), 0);
    }

    /// Passes on what became of a lookup.
    fn on_finished(&mut self, cx: &mut Cx, reactor: &mut Reactor, finished: Option<Finished>) {
        let Some(Finished { sandbox, cache_key, question, dnssec_ok, clients, result }) = finished else {
            return;
        };
        let response = match result {
            LookupResult::Answered(message, response, place) => {
                if let Some(state) = self.states.get_mut(&sandbox) {
                    state.preferred = place;
                    state.verdicts.remove(&cache_key);
                    let ttl = filter(&response, &question, dnssec_ok, |_| true).ttl;
                    state.cache.put(cache_key, message, ttl.unwrap_or(0), reactor.now());
                }
                response
            }
            LookupResult::Failed(response) => response,
            LookupResult::Unanswered(answer) => {
                for (client, query) in clients {
                    self.respond(reactor, client, &query, &answer, 0);
                }
                return;
            }
        };
        let Some(judged) = apply_policy(cx, sandbox, &question, dnssec_ok, &response) else { return };
        for client in clients {
            self.answer(cx, reactor, sandbox, client, &question, Arc::clone(&judged), 0);
        }
    }

    /// Answers with what an upstream server has said, which is `age` seconds old.
    #[allow(clippy::too_many_arguments, reason = "a question, who asked it, and its answer")]
    fn answer(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        (client, query): (Client, Query),
        question: &Question,
        judged: Arc<Judged>,
        age: u32,
    ) {
        let Some(policy) = cx.policy(sandbox) else { return };
        let name = question.name.text();
        // The policy may have changed since the question came.
        let asking = may_ask(policy, question, &name);
        if asking == Asking::Refused {
            return self.refuse(cx, reactor, sandbox, client, &query, name);
        }
        for address in &judged.removed {
            report_rebinding(cx, reactor, sandbox, *address, &name);
        }
        let Some(state) = self.states.get_mut(&sandbox) else {
            debug_assert!(false, "lookups end before their sandbox is removed");
            return;
        };
        if !matches!(asking, Asking::Domain(_)) || judged.reachable.is_empty() {
            return self.respond(reactor, client, &query, &judged.answer, age);
        }
        if !state.pending_rules.has_room_for(&judged) {
            let busy = Answer::bare(OptRcode::SERVFAIL, Some(Why::Other));
            return self.respond(reactor, client, &query, &busy, 0);
        }
        let ttl = judged.ttl.unwrap_or(0).saturating_sub(age);
        let change = state.pinned.learn(&name, &judged.reachable, ttl, reactor.now());
        // What is known already may still be on its way to the rules for an earlier answer: behind those.
        if change == Change::default() && state.pending_rules.is_empty() {
            return self.respond(reactor, client, &query, &judged.answer, age);
        }
        state.pending_rules.add(change, Some(Waiting { client, query, judged, age }));
        self.send_rules(cx, sandbox);
    }

    /// Has the rules follow what was learned, unless a change of them is under way.
    fn send_rules(&mut self, cx: &Cx, sandbox: u64) {
        let Some(state) = self.states.get_mut(&sandbox) else {
            debug_assert!(false, "its caller has found it");
            return;
        };
        if let Some(Change { added, removed }) = state.pending_rules.send() {
            cx.request(Request::Answered { key: sandbox, added, removed });
        }
    }

    /// The rules let through what was sent to them, or can't be made to.
    pub(in crate::egress) fn on_rules(&mut self, cx: &Cx, reactor: &mut Reactor, sandbox: u64, done: bool) {
        // The sandbox may have been removed since they were sent.
        let Some(state) = self.states.get_mut(&sandbox) else { return };
        let Batch { change, waiting } = state.pending_rules.done();
        if !done {
            state.pinned.forget(&change.added);
        }
        for Waiting { client, query, judged, age } in waiting {
            if done {
                self.respond(reactor, client, &query, &judged.answer, age);
            } else {
                let failure = Answer::bare(OptRcode::SERVFAIL, Some(Why::Other));
                self.respond(reactor, client, &query, &failure, 0);
            }
        }
        self.send_rules(cx, sandbox);
    }

    /// The policy has changed: forgets what was answered for domains that it no longer has.
    pub(in crate::egress) fn policy_changed(&mut self, cx: &Cx, sandbox: u64) {
        let (Some(state), Some(policy)) = (self.states.get_mut(&sandbox), cx.policy(sandbox)) else { return };
        let removed = state.pinned.retain(|name| policy.domain_of(name).is_some());
        state.pending_rules.add(Change { added: Vec::new(), removed }, None);
        self.send_rules(cx, sandbox);
    }

    /// Sends an answer to a client, if that is still there.
    fn respond(&mut self, reactor: &mut Reactor, client: Client, query: &Query, answer: &Answer, age: u32) {
        match client {
            Client::Datagram(key, to) => {
                self.servers.send(key, to, &answer.write(query, udp_limit(query), age));
            }
            Client::Stream(key) => {
                self.connections.respond(reactor, key, &answer.write(query, MAX_ANSWER_BYTES, age));
            }
        }
    }
}

/// Filters an upstream server's answer by the policy of this moment.
fn apply_policy(
    cx: &mut Cx,
    sandbox: u64,
    question: &Question,
    dnssec_ok: bool,
    response: &Response,
) -> Option<Arc<Judged>> {
    let addresses_only = cx.policy(sandbox)?.tells_addresses_only();
    let (mut looks, mut reachable) = (0, Vec::new());
    let mut filtered = filter(response, question, dnssec_ok, |address| {
        looks += 1;
        if looks > MAX_ADDRESSES {
            return false;
        }
        let reason = cx.verdict(sandbox, address, Protocol::Tcp).reason;
        if matches!(reason, Reason::NotListed | Reason::Listed) {
            reachable.push(address);
        }
        !is_protected(reason)
    });
    if addresses_only {
        filtered.answer.keep_addresses(question);
    }
    let mut removed = filtered.removed;
    removed.truncate(MAX_ADDRESSES);
    Some(Arc::new(Judged { answer: filtered.answer, ttl: filtered.ttl, reachable, removed }))
}

fn report_rebinding(cx: &mut Cx, reactor: &mut Reactor, sandbox: u64, address: IpAddr, name: &str) {
    let verdict = Verdict::of(Reason::Rebinding);
    let detail = format!("{verdict}: {name}");
    let denied = denied(Destination::Address(address), Protocol::Udp, verdict.reason, detail);
    cx.deny(reactor, sandbox, denied);
}

fn denied(to: Destination, protocol: Protocol, reason: Reason, detail: String) -> Denied {
    let why = Cause::Denied(reason, None);
    Denied { to: Some(to), port: PORT, protocol: protocol.number(), why, detail }
}

/// Whether the policy lets a question be asked. `name` is the text of the question's name.
fn may_ask(policy: &Policy, question: &Question, name: &str) -> Asking {
    if policy.tells_addresses_only() && !ADDRESSES.contains(&question.kind) {
        return Asking::Refused;
    }
    policy.asking(name)
}

/// Whether an address is kept from the sandbox: the sandbox could only do harm with it.
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
