//! Every listener and every connection of a runtime: accepts, wakes, times out, closes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use mio::net::TcpListener;

use super::attempt::Way;
use super::listener::{Listener, REST, Security};
use super::relay::{Outcome, Relay, Reply, Stage, Step};
use super::request::{Request, Requests};
use super::settings::{Counters, Settings};
use super::stock::{QUIET, Stock};
use crate::error::{Code, Error};
use crate::event::Reported;
use crate::limits;
use crate::pump::memory::{self, Excess, Next, Walk};
use crate::pump::{DRAIN, DRAIN_STEP, End, Lingering, Scratch};
use crate::reactor::{Budget, Key, Kind, Lane, Permit, Reactor, Removals, Removed, Slab, TimerId, Use, Wake};
use crate::sys::socket::{Family, Socket, disconnect, is_shortage};

/// The reactor's kinds of source that belong to [`Inbound`].
const LISTENER: Kind = Kind(1);
const RELAY: Kind = Kind(2);
const UPKEEP: Kind = Kind(3);

/// How many connections one listener accepts before others get a turn.
const ACCEPTS: usize = 16;

/// How many connections that have come already a listener still accepts before it is closed in good order.
const LAST_ACCEPTS: usize = 64;

/// How long a client that was told of a fatal error of TLS has for taking note of it.
const LINGER: Duration = Duration::from_secs(5);

/// How much of what it still sends in that time is thrown away at most.
const LINGER_BYTES: usize = 1 << 20;

/// How many of a sandbox's connections do so at once; further ones are cut at once. They count as open, and as
/// connections do among the descriptors.
const MOST_LINGERING: usize = 64;

/// What is known of a sandbox.
pub(super) struct Sandbox {
    pub(super) settings: Settings,
    pub(super) counters: Arc<Counters>,
    pub(super) stock: Stock,
    /// Connections that wait for a socket, first come first served; some may be gone.
    pub(super) waiting: VecDeque<Key>,
    /// The way that last worked for a port.
    pub(super) ways: HashMap<u16, Way>,
    /// Which source address is in use: 0 for the kernel's choice, else 1 + index into the settings.
    pub(super) source: usize,
    pub(super) open: usize,
    /// How many of them linger.
    lingering: usize,
    /// Which limits were reported lately.
    reported: Reported,
    /// No further connection is accepted; told when the last has ended.
    draining: Option<Option<Drained>>,
    /// It is no more; its connections are being cut.
    ended: bool,
}

/// Who is told that the last connection has ended. Called on the engine's thread: it must not block.
pub(crate) type Drained = Box<dyn FnOnce() + Send>;

/// All tunnels of a runtime.
pub(crate) struct Inbound {
    pub(super) sandboxes: HashMap<u64, Sandbox>,
    listeners: Slab<Listener>,
    pub(super) relays: Slab<Relay>,
    resting: Vec<Key>,
    removals: Removals,
    pub(super) tickets: HashMap<u64, Key>,
    pub(super) last_ticket: u64,
    /// Looks at the memory of all connections, under that key.
    pub(super) memory: (Walk, Key),
    pub(super) scratch: Scratch,
    pub(super) budget: Budget,
    pub(super) requests: Requests,
    upkeep: Key,
    upkeep_timer: Option<TimerId>,
    pub(super) freed: bool,
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sandboxes, relays, .. } = self;
        write!(formatter, "Inbound({} sandboxes, {} connections)", sandboxes.len(), relays.len())
    }
}

impl Inbound {
    /// No tunnel yet.
    pub(crate) fn new(budget: Budget, requests: Requests) -> Self {
        let mut own = Slab::new(UPKEEP);
        let (upkeep, memory) = (own.insert(()), own.insert(()));
        Self {
            sandboxes: HashMap::new(),
            listeners: Slab::new(LISTENER),
            relays: Slab::new(RELAY),
            resting: Vec::new(),
            removals: Removals::default(),
            tickets: HashMap::new(),
            last_ticket: 0,
            memory: (Walk::new(), memory),
            scratch: Scratch::new(),
            budget,
            requests,
            upkeep,
            upkeep_timer: None,
            freed: false,
        }
    }

    /// Makes a sandbox known.
    pub(crate) fn add_sandbox(&mut self, key: u64, settings: Settings, counters: Arc<Counters>) {
        let sandbox = Sandbox {
            settings,
            counters,
            stock: Stock::new(),
            waiting: VecDeque::new(),
            ways: HashMap::new(),
            source: 0,
            open: 0,
            lingering: 0,
            reported: Reported::default(),
            draining: None,
            ended: false,
        };
        self.sandboxes.insert(key, sandbox);
    }

    /// Starts to accept connections for a port of a sandbox.
    pub(crate) fn add_listener(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        port: u16,
        socket: TcpListener,
        security: Security,
        allowed: Option<Vec<IpNetwork>>,
    ) {
        if self.sandboxes.get(&sandbox).is_none_or(|known| known.ended) {
            return;
        }
        let key = self.listeners.insert(Listener::new(socket, sandbox, port, security, allowed));
        let Some(listener) = self.listeners.get_mut(key) else { return };
        reactor.join(key, sandbox);
        if let Err(error) = reactor.register(listener.as_fd(), key, Lane::Front) {
            self.listeners.remove(key);
            self.report(sandbox, format!("a tunnel's listener can't be watched ({error}); it is closed"));
            return;
        }
        self.restock(reactor, sandbox);
    }

    /// Relays a stream of the host's to a port of a sandbox.
    pub(crate) fn attach(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        port: u16,
        fd: OwnedFd,
        reply: Reply,
    ) {
        let limit = |what: &str| Error::new(Code::Limit, format!("connect to port {port}: {what}"));
        let Some(known) = self.sandboxes.get(&sandbox).filter(|known| !known.ended) else {
            return reply(Err(Error::sandbox_ended("the sandbox", None)));
        };
        if known.draining.is_some() {
            return reply(Err(Error::new(Code::State, "the sandbox is being stopped")));
        }
        if known.open >= known.settings.max_connections || self.relays.is_full() {
            return reply(Err(limit("too many connections are open")));
        }
        let Some(permit) = self.budget.acquire(sandbox, Use::Host, limits::CONNECTION) else {
            return reply(Err(limit("the library's budget of descriptors is used up")));
        };
        let socket = match Socket::adopt(fd, Family::Unix) {
            Ok(socket) => socket,
            Err(error) => return reply(Err(Error::system("connect", &error))),
        };
        if let Some(key) = self.admit(reactor, sandbox, port, End::plain(socket), permit, Some(reply)) {
            self.reach(reactor, key);
        }
    }

    /// Accepts no further connection to a sandbox, but for those that have come already, and tells when the last
    /// has ended.
    pub(crate) fn drain(&mut self, reactor: &mut Reactor, sandbox: u64, reply: Drained) {
        let listeners = self.listeners.iter().filter(|(_, listener)| listener.sandbox == sandbox);
        for key in listeners.map(|(key, _)| key).collect::<Vec<_>>() {
            // One that rests may have room again by now.
            self.end_rest(reactor, key, LAST_ACCEPTS);
        }
        self.close_listeners(reactor, sandbox);
        let Some(known) = self.sandboxes.get_mut(&sandbox) else { return reply() };
        if known.open == 0 {
            known.draining = Some(None);
            reply();
        } else {
            known.draining = Some(Some(reply));
        }
    }

    fn close_listeners(&mut self, reactor: &mut Reactor, sandbox: u64) {
        let listeners = self.listeners.iter().filter(|(_, listener)| listener.sandbox == sandbox);
        for key in listeners.map(|(key, _)| key).collect::<Vec<_>>() {
            if let Some(listener) = self.listeners.remove(key) {
                reactor.deregister(listener.as_fd());
                if let Some(timer) = listener.rest {
                    reactor.cancel(timer);
                }
            }
        }
    }

    /// Forgets a sandbox: its listeners are closed now, its connections reset within the next turns. Then `reply` is
    /// called.
    pub(crate) fn begin_removal(&mut self, reactor: &mut Reactor, sandbox: u64, reply: Removed) {
        self.close_listeners(reactor, sandbox);
        if let Some(known) = self.sandboxes.get_mut(&sandbox) {
            known.ended = true;
        }
        let keys = self.relays_of(sandbox);
        self.removals.begin(sandbox, keys, Some(reply));
    }

    /// Goes on cutting the connections of sandboxes that are no more.
    fn go_on_removing(&mut self, reactor: &mut Reactor) {
        let keys = self.removals.slice();
        self.cut_all(reactor, keys);
        let Some((sandbox, reply)) = self.removals.over() else { return };
        // Those that a panic has left.
        let keys = self.relays_of(sandbox);
        self.cut_all(reactor, keys);
        self.sandboxes.remove(&sandbox);
        self.freed = true;
        if let Some(reply) = reply {
            reply();
        }
    }

    /// Cuts all that are to be cut, at once.
    pub(crate) fn finish_removals(&mut self, reactor: &mut Reactor) {
        while !self.removals.is_empty() {
            self.go_on_removing(reactor);
        }
    }

    fn cut_all(&mut self, reactor: &mut Reactor, keys: Vec<Key>) {
        for key in keys {
            self.cut(reactor, key, Error::sandbox_ended("the sandbox", None));
        }
    }

    fn relays_of(&self, sandbox: u64) -> Vec<Key> {
        self.relays.iter().filter(|(_, relay)| relay.sandbox == sandbox).map(|(key, _)| key).collect()
    }

    /// Dispatches a wake-up to its handler.
    pub(crate) fn wake(&mut self, reactor: &mut Reactor, wake: Wake) {
        let key = wake.key();
        match (key.kind(), wake) {
            (LISTENER, Wake::Ready(..) | Wake::Again(_)) => self.accept(reactor, key, ACCEPTS),
            (LISTENER, Wake::Timer(_)) => self.end_rest(reactor, key, ACCEPTS),
            (RELAY, Wake::Timer(_)) => self.time_out(reactor, key),
            (RELAY, Wake::Again(_)) => self.go_on(reactor, key),
            (RELAY, Wake::Ready(_, lane, readiness)) => {
                let Some(relay) = self.relays.get_mut(key) else { return };
                if relay.note(lane, readiness) == Outcome::Cut {
                    return self.settle(reactor, key, Outcome::Cut);
                }
                if lane == Lane::Back && (readiness.writable || readiness.failed) {
                    self.check_connect(reactor, key);
                }
                self.drive(reactor, key);
            }
            _ if key == self.memory.1 => self.walk(reactor, wake),
            _ => self.keep_up(reactor),
        }
    }

    /// The rest of a turn: connections of sandboxes that are no more, and listeners that rested for want of descriptors.
    pub(crate) fn end_turn(&mut self, reactor: &mut Reactor) {
        self.go_on_removing(reactor);
        if std::mem::take(&mut self.freed) {
            for key in std::mem::take(&mut self.resting) {
                self.end_rest(reactor, key, ACCEPTS);
            }
        }
    }

    /// Whether there is nothing that anything could happen to.
    pub(crate) fn is_idle(&self) -> bool {
        let Self { sandboxes, listeners, relays, .. } = self;
        sandboxes.is_empty() && listeners.len() == 0 && relays.len() == 0 && !self.is_busy()
    }

    /// Whether [`Inbound::end_turn`] has more to do, so that the next turn must not wait.
    pub(crate) fn is_busy(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Ends whatever that key names: for the engine, when its code has failed.
    pub(crate) fn discard(&mut self, reactor: &mut Reactor, key: Key) {
        if key.kind() == RELAY {
            self.cut(reactor, key, Error::new(Code::Internal, "the relay has failed"));
        }
    }

    fn accept(&mut self, reactor: &mut Reactor, key: Key, most: usize) {
        for _ in 0..most {
            let Some(listener) = self.listeners.get_mut(key) else { return };
            if listener.rest.is_some() {
                return;
            }
            let (sandbox, port) = (listener.sandbox, listener.port);
            let Some(known) = self.sandboxes.get_mut(&sandbox) else { return };
            if known.open >= known.settings.max_connections || self.relays.is_full() {
                return self.rest(reactor, key, "as many connections are open as may be", None);
            }
            let budget = &self.budget;
            let permit = budget.acquire(sandbox, Use::Tunnel, limits::CONNECTION).or_else(|| {
                known.stock.give_up();
                budget.acquire(sandbox, Use::Tunnel, limits::CONNECTION)
            });
            let Some(permit) = permit else {
                return self.rest(reactor, key, "the library's budget of descriptors is used up", None);
            };
            let socket = match listener.accept() {
                Ok((socket, true)) => Socket::new(socket, Family::Tcp),
                Ok((socket, false)) => {
                    known.counters.refused.fetch_add(1, Ordering::Relaxed);
                    disconnect(socket.as_fd());
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => {
                    return self.rest(reactor, key, "a connection can't be accepted", Some(&error));
                }
                // The errors of a connection that was over before it was accepted: see accept(2).
                Err(_) => continue,
            };
            let front = match &listener.security {
                Security::Plain => Ok(End::plain(socket)),
                Security::Tls(config) => End::encrypted(socket, Arc::clone(config)),
            };
            let Ok(front) = front else { continue };
            let encrypted = !front.is_established();
            if let Some(relay) = self.admit(reactor, sandbox, port, front, permit, None)
                && !encrypted
            {
                self.reach(reactor, relay);
            }
        }
        reactor.again(key);
    }

    fn admit(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        port: u16,
        front: End,
        permit: Permit,
        reply: Option<Reply>,
    ) -> Option<Key> {
        let known = self.sandboxes.get_mut(&sandbox)?;
        let now = reactor.now();
        let mut relay = Relay::new(sandbox, port, front, now, permit);
        relay.reply = reply;
        let handshake = now + known.settings.timeouts.handshake;
        known.open += 1;
        known.counters.total.fetch_add(1, Ordering::Relaxed);
        known.counters.open.fetch_add(1, Ordering::Relaxed);
        if self.memory.0.wants(known.open) {
            reactor.schedule(now + Walk::FIRST, self.memory.1);
        }
        let key = self.relays.insert(relay);
        reactor.join(key, sandbox);
        let relay = self.relays.get_mut(key)?;
        self.memory.0.begun(sandbox, relay.ends());
        relay.timer = Some(reactor.schedule(handshake, key));
        if let Err(error) = reactor.register(relay.front.as_fd(), key, Lane::Front) {
            self.cut(reactor, key, Error::system("watch a connection", &error));
            return None;
        }
        Some(key)
    }

    /// Looks at the kernel's memory that connections hold.
    fn walk(&mut self, reactor: &mut Reactor, wake: Wake) {
        if let Wake::Timer(_) = wake {
            self.memory.0.begin(self.relays.iter().map(|(key, _)| key), self.sandboxes.len());
        }
        let mut steps = 0;
        loop {
            match self.memory.0.next(&mut steps) {
                Next::Look(key) => {
                    if let Some(relay) = self.relays.get_mut(key) {
                        self.memory.0.looked(relay.sandbox, key, memory::held(relay.ends()), relay.active);
                    }
                    for (sandbox, excess) in self.memory.0.judge() {
                        let what = match excess {
                            Excess::Twice => {
                                "its tunnels' connections hold twice as much of the host's memory as they may, and \
                                 some are reset"
                            }
                            _ => {
                                "its tunnels' connections hold too much of the host's memory and get small buffers"
                            }
                        };
                        self.report_once(reactor.now(), sandbox, what, || what.to_owned());
                    }
                }
                Next::Shrink(key, size) => {
                    if let Some(relay) = self.relays.get_mut(key) {
                        memory::shrink(relay.ends(), size);
                    }
                }
                Next::Cut(key) => {
                    self.cut(
                        reactor,
                        key,
                        Error::new(Code::Limit, "its sandbox's hold too much of the host's memory"),
                    );
                }
                Next::Later => return reactor.again(self.memory.1),
                Next::Over(pause) => {
                    let most = self.sandboxes.values().map(|known| known.open).max().unwrap_or(0);
                    if self.memory.0.wants(most) {
                        reactor.schedule(reactor.now() + pause, self.memory.1);
                    }
                    return;
                }
            }
        }
    }

    fn rest(&mut self, reactor: &mut Reactor, key: Key, why: &'static str, error: Option<&io::Error>) {
        let Some(listener) = self.listeners.get_mut(key) else { return };
        listener.rest = Some(reactor.schedule(reactor.now() + REST, key));
        self.resting.push(key);
        let (sandbox, port) = (listener.sandbox, listener.port);
        self.report_once(reactor.now(), sandbox, why, || {
            let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
            format!("port {port}: {why}{error}; further connections wait")
        });
    }

    fn end_rest(&mut self, reactor: &mut Reactor, key: Key, most: usize) {
        self.resting.retain(|resting| *resting != key);
        let Some(listener) = self.listeners.get_mut(key) else { return };
        if let Some(timer) = listener.rest.take() {
            reactor.cancel(timer);
        }
        self.accept(reactor, key, most);
    }

    /// Lets a connection go on after a readiness or a turn in the queue.
    pub(super) fn drive(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        match relay.stage {
            // It costs some 200 µs, so it has a wake-up of its own, behind those with news.
            Stage::Handshake => reactor.again(key),
            Stage::Reaching(..) => {}
            Stage::Open => {
                let Some(known) = self.sandboxes.get(&relay.sandbox) else { return };
                let outcome = relay.work(reactor.now(), &mut self.scratch, &known.counters);
                self.settle(reactor, key, outcome);
            }
            Stage::Lingering(ref mut left) => match relay.front.linger(&mut self.scratch, left) {
                Lingering::Wait => {}
                Lingering::Again => reactor.again(key),
                Lingering::Over => self.close(reactor, key),
            },
        }
    }

    /// A wake-up that a connection has asked for.
    fn go_on(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        if matches!(relay.stage, Stage::Handshake) {
            let outcome = relay.shake(&mut self.scratch);
            return self.settle(reactor, key, outcome);
        }
        self.drive(reactor, key);
    }

    fn settle(&mut self, reactor: &mut Reactor, key: Key, outcome: Outcome) {
        match outcome {
            Outcome::Wait => self.mind_half_close(reactor, key),
            Outcome::Again => reactor.again(key),
            Outcome::Established => self.reach(reactor, key),
            Outcome::Refused | Outcome::Cut if self.begin_to_linger(reactor, key) => self.drive(reactor, key),
            Outcome::Closed | Outcome::Refused => self.close(reactor, key),
            Outcome::Drain => {
                let now = reactor.now();
                let Some(relay) = self.relays.get_mut(key) else { return };
                if now >= *relay.drained_by.get_or_insert(now + DRAIN) {
                    return self.settle(reactor, key, Outcome::Cut);
                }
                set_timer(reactor, relay, key, now + DRAIN_STEP);
                if relay.exchange.has_more() {
                    reactor.again(key);
                }
            }
            Outcome::Cut => self.cut(reactor, key, Error::new(Code::Closed, "the connection was cut")),
        }
    }

    /// Keeps a connection whose client was told of a fatal error of TLS until it has taken note. False if there is no
    /// such client, or if too many linger.
    fn begin_to_linger(&mut self, reactor: &mut Reactor, key: Key) -> bool {
        let Some(relay) = self.relays.get_mut(key) else { return false };
        let Some(known) = self.sandboxes.get_mut(&relay.sandbox) else { return false };
        if !relay.front.has_alerted() || known.lingering >= MOST_LINGERING {
            return false;
        }
        known.lingering += 1;
        relay.stage = Stage::Lingering(LINGER_BYTES);
        if let Some(back) = relay.back.take() {
            reactor.deregister(back.as_fd());
            back.reset(&mut self.scratch);
        }
        let at = reactor.now() + LINGER;
        set_timer(reactor, relay, key, at);
        true
    }

    /// Ends a connection in order.
    fn close(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(relay) = self.take_out(reactor, key) else { return };
        relay.front.close(&mut self.scratch);
        if let Some(back) = relay.back {
            back.close(&mut self.scratch);
        }
    }

    /// The shorter time-out of a half-closed connection begins when the first direction ends.
    fn mind_half_close(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(relay) = self.relays.get_mut(key) else { return };
        let Some(known) = self.sandboxes.get(&relay.sandbox) else { return };
        let at = reactor.now() + known.settings.timeouts.half_closed;
        if matches!(relay.stage, Stage::Open)
            && !relay.exchange.is_failing()
            && relay.exchange.is_half_closed()
            && relay.timer.is_none_or(|timer| timer.at() > at)
        {
            set_timer(reactor, relay, key, at);
        }
    }

    fn time_out(&mut self, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        let Some(relay) = self.relays.get_mut(key) else { return };
        relay.timer = None;
        let Some(known) = self.sandboxes.get(&relay.sandbox) else { return };
        let timeouts = known.settings.timeouts;
        match &relay.stage {
            Stage::Handshake => self.cut(reactor, key, Error::new(Code::TimedOut, "no TLS handshake")),
            Stage::Reaching(..) => self.pause_is_over(reactor, key),
            Stage::Open if relay.exchange.is_failing() => self.drive(reactor, key),
            Stage::Lingering(_) => self.close(reactor, key),
            Stage::Open => {
                let limit =
                    if relay.exchange.is_half_closed() { timeouts.half_closed } else { timeouts.idle };
                let at = relay.active + limit;
                if at <= now {
                    self.cut(
                        reactor,
                        key,
                        Error::new(Code::TimedOut, "the connection was idle for too long"),
                    );
                } else {
                    set_timer(reactor, relay, key, at);
                }
            }
        }
    }

    /// Ends a connection with a reset on both sides.
    pub(super) fn cut(&mut self, reactor: &mut Reactor, key: Key, why: Error) {
        let Some(mut relay) = self.take_out(reactor, key) else { return };
        if let Some(reply) = relay.reply.take() {
            reply(Err(why));
        }
        relay.front.reset(&mut self.scratch);
        if let Some(back) = relay.back {
            back.reset(&mut self.scratch);
        }
    }

    fn take_out(&mut self, reactor: &mut Reactor, key: Key) -> Option<Relay> {
        let mut relay = self.relays.remove(key)?;
        if let Some(timer) = relay.timer.take() {
            reactor.cancel(timer);
        }
        reactor.deregister(relay.front.as_fd());
        if let Some(back) = &relay.back {
            reactor.deregister(back.as_fd());
        }
        match &relay.stage {
            Stage::Reaching(_, Step::Connect(socket)) => reactor.deregister(socket.as_fd()),
            Stage::Reaching(_, Step::Init(ticket)) => {
                self.tickets.remove(ticket);
            }
            _ => {}
        }
        if let Some(known) = self.sandboxes.get_mut(&relay.sandbox) {
            known.open = known.open.saturating_sub(1);
            if matches!(relay.stage, Stage::Lingering(_)) {
                known.lingering = known.lingering.saturating_sub(1);
            }
            known.counters.open.fetch_sub(1, Ordering::Relaxed);
            if known.open == 0
                && let Some(reply) = known.draining.as_mut().and_then(Option::take)
            {
                reply();
            }
        }
        self.freed = true;
        Some(relay)
    }

    /// Tells the host of a limit, unless it was told of the same lately.
    pub(super) fn report_once(
        &mut self,
        now: Instant,
        sandbox: u64,
        limit: &'static str,
        sentence: impl FnOnce() -> String,
    ) {
        let Some(known) = self.sandboxes.get_mut(&sandbox) else { return };
        if known.reported.is_news(limit, now) {
            self.report(sandbox, sentence());
        }
    }

    fn report(&self, key: u64, what: String) {
        (self.requests)(Request::Limit { key, what });
    }

    /// Sees to it that stocks which have grown shrink again.
    pub(super) fn schedule_upkeep(&mut self, reactor: &mut Reactor) {
        if self.upkeep_timer.is_none() {
            self.upkeep_timer = Some(reactor.schedule(Instant::now() + QUIET, self.upkeep));
        }
    }

    fn keep_up(&mut self, reactor: &mut Reactor) {
        self.upkeep_timer = None;
        self.freed = true;
        let now = reactor.now();
        let shrinking = self.sandboxes.values_mut().filter_map(|known| known.stock.shrink(now).then_some(()));
        if shrinking.count() > 0 {
            self.schedule_upkeep(reactor);
        }
    }
}

/// Gives a connection another time-out.
pub(super) fn set_timer(reactor: &mut Reactor, relay: &mut Relay, key: Key, at: Instant) {
    if let Some(old) = relay.timer.take() {
        reactor.cancel(old);
    }
    relay.timer = Some(reactor.schedule(at, key));
}
