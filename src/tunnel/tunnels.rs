//! The tunnels of every sandbox of a runtime: passes wake-ups and commands on to listeners and connections.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use ipnetwork::IpNetwork;
use mio::net::TcpListener;

use super::connection::Reply;
use super::connections::{CONNECTION, Connections};
use super::counters::Counters;
use super::cx::Cx;
use super::listener::{ACCEPTS, LISTENER, Listener, Listeners, Security};
use super::request::Requests;
use super::sandbox_state::{Drained, SandboxState};
use super::settings::Settings;
use super::socket_pool::SHRINK_AFTER;
use crate::error::{Code, Error, Result};
use crate::pump::Endpoint;
use crate::reactor::{FdBudget, FdPermit, Key, Kind, Reactor, Removals, Removed, Slab, TimerId, Use, Wake};
use crate::sys::socket::{Family, Socket};

/// The reactor's kind of the keys of [`Tunnels`] itself.
const MAINTENANCE: Kind = Kind(3);

/// How many connections that have come already a listener still accepts before it is closed for a drain.
const LAST_ACCEPTS: usize = 64;

/// All tunnels of a runtime.
pub(crate) struct Tunnels {
    cx: Cx,
    listeners: Listeners,
    connections: Connections,
    removals: Removals,
    /// Wakes the walk over the connections' memory.
    memory: Key,
    /// Wakes the maintenance of the socket pools.
    maintenance: Key,
    maintenance_timer: Option<TimerId>,
}

impl std::fmt::Debug for Tunnels {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cx, connections, .. } = self;
        write!(formatter, "Tunnels({} sandboxes, {} connections)", cx.sandbox_count(), connections.len())
    }
}

impl Tunnels {
    /// No tunnel yet.
    pub(crate) fn new(budget: FdBudget, requests: Requests) -> Self {
        let mut own = Slab::new(MAINTENANCE);
        let (maintenance, memory) = (own.insert(()), own.insert(()));
        Self {
            cx: Cx::new(budget, requests),
            listeners: Listeners::new(),
            connections: Connections::new(memory),
            removals: Removals::default(),
            memory,
            maintenance,
            maintenance_timer: None,
        }
    }

    /// Adds a sandbox.
    pub(crate) fn add_sandbox(&mut self, sandbox: u64, settings: Settings, counters: Arc<Counters>) {
        self.cx.add_sandbox(sandbox, SandboxState::new(settings, counters));
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
        // The sandbox may have been removed while the command was on its way.
        if self.cx.sandbox(sandbox).is_none_or(|state| state.has_ended()) {
            return;
        }
        let listener = Listener::new(socket, sandbox, port, security, allowed);
        match self.listeners.add(reactor, listener) {
            Ok(()) => self.cx.refill_pool(sandbox, reactor.now()),
            Err(error) => {
                let what = format!("a tunnel's listener can't be watched ({error}); it is closed");
                self.cx.report(sandbox, what);
            }
        }
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
        match self.endpoint_of_host(sandbox, port, fd) {
            Ok((downstream, permit)) => {
                let Self { cx, connections, .. } = self;
                connections.admit(cx, reactor, (sandbox, port), downstream, permit, Some(reply));
            }
            Err(error) => reply(Err(error)),
        }
    }

    fn endpoint_of_host(&mut self, sandbox: u64, port: u16, fd: OwnedFd) -> Result<(Endpoint, FdPermit)> {
        let limit = |what: &str| Error::new(Code::Limit, format!("connect to port {port}: {what}"));
        let state = self.cx.sandbox(sandbox).filter(|state| !state.has_ended());
        let state = state.ok_or_else(|| Error::sandbox_ended("the sandbox", None))?;
        if state.is_draining() {
            return Err(Error::new(Code::State, "the sandbox is being stopped"));
        }
        if !state.has_room() || self.connections.is_full() {
            return Err(limit("too many connections are open"));
        }
        let permit = self.cx.acquire(sandbox, Use::Host);
        let permit = permit.ok_or_else(|| limit("the library's budget of descriptors is used up"))?;
        let socket = Socket::adopt(fd, Family::Unix).map_err(|error| Error::system("connect", &error))?;
        Ok((Endpoint::plain(socket), permit))
    }

    /// Sockets of a sandbox's gateway have come from the keeper; none if there can't be any.
    pub(crate) fn on_sockets(&mut self, reactor: &mut Reactor, sandbox: u64, sockets: Vec<OwnedFd>) {
        self.connections.on_sockets(&mut self.cx, reactor, sandbox, sockets);
        if self.cx.sandbox(sandbox).is_some_and(|state| state.dialer().pool().needs_maintenance()) {
            self.schedule_maintenance(reactor);
        }
    }

    /// Init has answered a request for a stream.
    pub(crate) fn on_loopback(&mut self, reactor: &mut Reactor, ticket: u64, answer: Result<OwnedFd>) {
        self.connections.on_loopback(&mut self.cx, reactor, ticket, answer);
    }

    /// Accepts no further connection to a sandbox, except those that have come already. `reply` is called when the last
    /// one has ended.
    pub(crate) fn drain(&mut self, reactor: &mut Reactor, sandbox: u64, reply: Drained) {
        let Self { cx, listeners, connections, .. } = self;
        for key in listeners.keys_of(sandbox) {
            // One that backs off may have room again by now.
            listeners.end_backoff(cx, reactor, connections, key, LAST_ACCEPTS);
        }
        listeners.close(reactor, sandbox);
        match cx.sandbox(sandbox) {
            Some(state) => state.drain(reply),
            // The sandbox has been removed while the command was on its way.
            None => reply(),
        }
    }

    /// Removes a sandbox: its listeners are closed now, its connections reset within the next turns. Then `reply` is
    /// called.
    pub(crate) fn begin_removal(&mut self, reactor: &mut Reactor, sandbox: u64, reply: Removed) {
        self.listeners.close(reactor, sandbox);
        if let Some(state) = self.cx.sandbox(sandbox) {
            state.end();
        }
        self.removals.begin(sandbox, self.connections.keys_of(sandbox), Some(reply));
    }

    /// Resets further connections of sandboxes that are being removed.
    fn continue_removals(&mut self, reactor: &mut Reactor) {
        let keys = self.removals.slice();
        self.cut_all(reactor, keys);
        let Some((sandbox, reply)) = self.removals.over() else { return };
        // Those that a panic has left.
        self.cut_all(reactor, self.connections.keys_of(sandbox));
        self.cx.remove_sandbox(sandbox);
        if let Some(reply) = reply {
            reply();
        }
    }

    /// Completes all removals, at once.
    pub(crate) fn finish_removals(&mut self, reactor: &mut Reactor) {
        while !self.removals.is_empty() {
            self.continue_removals(reactor);
        }
    }

    fn cut_all(&mut self, reactor: &mut Reactor, keys: Vec<Key>) {
        for key in keys {
            let why = Error::sandbox_ended("the sandbox", None);
            self.connections.cut(&mut self.cx, reactor, key, why);
        }
    }

    /// Dispatches a wake-up to its handler.
    pub(crate) fn wake(&mut self, reactor: &mut Reactor, wake: Wake) {
        let Self { cx, listeners, connections, .. } = self;
        let key = wake.key();
        match (key.kind(), wake) {
            (LISTENER, Wake::Timer(_)) => listeners.end_backoff(cx, reactor, connections, key, ACCEPTS),
            (LISTENER, _) => listeners.accept(cx, reactor, connections, key, ACCEPTS),
            (CONNECTION, wake) => connections.on_wake(cx, reactor, wake),
            _ if key == self.memory => connections.walk_memory(cx, reactor, wake),
            _ => self.maintain(reactor),
        }
    }

    /// The rest of a turn: removals, and listeners that backed off for want of descriptors.
    pub(crate) fn end_turn(&mut self, reactor: &mut Reactor) {
        self.continue_removals(reactor);
        if self.cx.take_freed() {
            let Self { cx, listeners, connections, .. } = self;
            listeners.end_backoffs(cx, reactor, connections);
        }
    }

    /// As if clients had connected to a sandbox as often as they may at once.
    #[cfg(test)]
    pub(super) fn use_up_pace(&mut self, sandbox: u64, now: Instant) {
        if let Some(state) = self.cx.sandbox(sandbox) {
            while state.pace().wait(now).is_none() {
                state.pace().take(now);
            }
        }
    }

    /// Whether there is nothing left that could be woken.
    pub(crate) fn is_idle(&self) -> bool {
        let Self { cx, listeners, connections, .. } = self;
        cx.sandbox_count() == 0 && listeners.len() == 0 && connections.len() == 0 && !self.is_busy()
    }

    /// Whether [`Tunnels::end_turn`] has more to do, so that the next turn must not wait.
    pub(crate) fn is_busy(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Ends the connection that a key names: its code has panicked.
    pub(crate) fn discard(&mut self, reactor: &mut Reactor, key: Key) {
        if key.kind() == CONNECTION {
            let why = Error::new(Code::Internal, "the relay has failed");
            self.connections.cut(&mut self.cx, reactor, key, why);
        }
    }

    fn schedule_maintenance(&mut self, reactor: &mut Reactor) {
        if self.maintenance_timer.is_none() {
            self.maintenance_timer = Some(reactor.schedule(Instant::now() + SHRINK_AFTER, self.maintenance));
        }
    }

    /// Shrinks the socket pools that have grown.
    fn maintain(&mut self, reactor: &mut Reactor) {
        self.maintenance_timer = None;
        self.cx.note_freed();
        let now = reactor.now();
        let growing = self.cx.sandboxes().filter_map(|state| state.dialer().pool().shrink(now).then_some(()));
        if growing.count() > 0 {
            self.schedule_maintenance(reactor);
        }
    }
}
