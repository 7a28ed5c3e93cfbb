//! All connections of a runtime: wakes each, carries out what it decides, and bounds the memory of all.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::connection::{Connection, Env, Next, Reply};
use super::cx::Cx;
use super::dial::{Supply, Tickets};
use crate::error::{Code, Error, Result};
use crate::pump::memory::{self, Excess, Look, Walk, Walked};
use crate::pump::{Endpoint, Scratch, Side};
use crate::reactor::{FdPermit, Key, Kind, Reactor, Slab, TimerId, Wake};

/// The reactor's kind of these keys.
pub(super) const CONNECTION: Kind = Kind(2);

/// A connection and its timer.
struct Entry {
    connection: Connection,
    timer: Option<TimerId>,
}

/// Every connection through a tunnel, of every sandbox.
pub(super) struct Connections {
    entries: Slab<Entry>,
    tickets: Tickets,
    /// Looks at the memory of all, under that key.
    memory: Walk,
    memory_key: Key,
    scratch: Scratch,
}

impl Connections {
    /// No connection yet. The walk over their memory is woken with `memory_key`.
    pub(super) fn new(memory_key: Key) -> Self {
        Self {
            entries: Slab::new(CONNECTION),
            tickets: Tickets::default(),
            memory: Walk::new(),
            memory_key,
            scratch: Scratch::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.is_full()
    }

    /// The connections of a sandbox.
    pub(super) fn keys_of(&self, sandbox: u64) -> Vec<Key> {
        let of_it = self.entries.iter().filter(|(_, entry)| entry.connection.sandbox() == sandbox);
        of_it.map(|(key, _)| key).collect()
    }

    /// Takes a connection to a port of a sandbox.
    pub(super) fn admit(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        (sandbox, port): (u64, u16),
        downstream: Endpoint,
        permit: FdPermit,
        reply: Option<Reply>,
    ) {
        let Some(state) = cx.sandbox(sandbox) else {
            debug_assert!(false, "a connection is accepted for a sandbox that exists");
            return;
        };
        let now = reactor.now();
        let times = (now, now + state.timeouts().handshake);
        state.on_open();
        if self.memory.should_begin(state.open()) {
            reactor.schedule(now + Walk::FIRST_WALK, self.memory_key);
        }
        self.memory.on_new(sandbox, [Some(downstream.as_fd()), None]);
        let connection = Connection::new((sandbox, port), downstream, permit, reply, times);
        let key = self.entries.insert(Entry { connection, timer: None });
        reactor.join(key, sandbox);
        self.drive(cx, reactor, key, |connection, env| {
            let [Some(downstream), _] = connection.fds() else { return Next::Wait };
            match env.reactor.register(downstream, env.key, Side::Downstream.slot()) {
                Ok(()) => connection.start(env),
                Err(error) => Next::Cut(Error::system("watch a connection", &error)),
            }
        });
    }

    /// Dispatches a wake-up of a connection.
    pub(super) fn on_wake(&mut self, cx: &mut Cx, reactor: &mut Reactor, wake: Wake) {
        let key = wake.key();
        if let Wake::Timer(_) = wake
            && let Some(entry) = self.entries.get_mut(key)
        {
            entry.timer = None;
        }
        self.drive(cx, reactor, key, |connection, env| match wake {
            Wake::Ready(_, slot, readiness) => connection.on_ready(env, slot.into(), readiness),
            Wake::Rescheduled(_) => connection.on_reschedule(env),
            Wake::Timer(_) => connection.on_deadline(env),
        });
    }

    /// Sockets of a sandbox have come from the keeper; none if there can't be any.
    pub(super) fn on_sockets(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        sockets: Vec<OwnedFd>,
    ) {
        let entries = &mut self.entries;
        let waits =
            |key: &Key| entries.get_mut(*key).is_some_and(|entry| entry.connection.waits_for_socket());
        match cx.on_sockets(sandbox, sockets, waits) {
            // The sandbox has been removed in the meantime.
            None => {}
            Some(Supply::None(waiting)) => {
                for key in waiting {
                    self.drive(cx, reactor, key, |connection, env| connection.on_socket(env, None));
                }
            }
            Some(Supply::Sockets(given)) => {
                for (key, socket) in given {
                    self.drive(cx, reactor, key, |connection, env| connection.on_socket(env, Some(socket)));
                }
                cx.refill_pool(sandbox, reactor.now());
            }
        }
    }

    /// Init has answered a request.
    pub(super) fn on_loopback(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        ticket: u64,
        answer: Result<OwnedFd>,
    ) {
        // Without its ticket the connection has ended in the meantime, and the stream is closed.
        let Some(key) = self.tickets.redeem(ticket) else { return };
        self.drive(cx, reactor, key, |connection, env| connection.on_loopback(env, answer));
    }

    /// Lets a connection do something, and carries out what it decides.
    fn drive(
        &mut self,
        cx: &mut Cx,
        reactor: &mut Reactor,
        key: Key,
        act: impl FnOnce(&mut Connection, &mut Env<'_>) -> Next,
    ) {
        // It may have ended since it was woken.
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some((sandbox, requests)) = cx.sandbox_and_requests(entry.connection.sandbox()) else {
            debug_assert!(false, "a sandbox is removed after its connections");
            return;
        };
        let mut env = Env {
            key,
            reactor,
            scratch: &mut self.scratch,
            sandbox,
            tickets: &mut self.tickets,
            memory: &self.memory,
            requests,
        };
        let next = act(&mut entry.connection, &mut env);
        match next {
            Next::Wait => reactor.rearm(&mut entry.timer, key, entry.connection.deadline()),
            Next::Reschedule => {
                reactor.rearm(&mut entry.timer, key, entry.connection.deadline());
                reactor.reschedule(key);
            }
            Next::Close => {
                if let Some(connection) = self.take_out(cx, reactor, key) {
                    connection.close(&mut self.scratch);
                }
            }
            Next::Cut(why) => self.cut(cx, reactor, key, why),
        }
    }

    /// Ends a connection with a reset on both sides.
    pub(super) fn cut(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key, why: Error) {
        // It may have ended by itself.
        let Some(connection) = self.take_out(cx, reactor, key) else { return };
        connection.reset(&mut self.scratch, why);
    }

    fn take_out(&mut self, cx: &mut Cx, reactor: &mut Reactor, key: Key) -> Option<Connection> {
        let Entry { connection, mut timer } = self.entries.remove(key)?;
        reactor.rearm(&mut timer, key, None);
        connection.fds().into_iter().flatten().for_each(|fd| reactor.deregister(fd));
        if let Some(state) = cx.sandbox(connection.sandbox()) {
            connection.cancel(&mut self.tickets, state);
            state.on_close(connection.is_lingering());
        }
        cx.note_freed();
        Some(connection)
    }

    /// Looks at the kernel's memory that connections hold.
    pub(super) fn walk_memory(&mut self, cx: &mut Cx, reactor: &mut Reactor, wake: Wake) {
        memory::on_wake(&mut Walkable { connections: self, cx }, reactor, wake);
    }
}

/// The connections that the walk over their memory looks at.
struct Walkable<'a> {
    connections: &'a mut Connections,
    cx: &'a mut Cx,
}

impl Walked for Walkable<'_> {
    fn walk(&mut self) -> &mut Walk {
        &mut self.connections.memory
    }

    fn walk_key(&self) -> Key {
        self.connections.memory_key
    }

    fn keys(&self) -> Vec<Key> {
        self.connections.entries.iter().map(|(key, _)| key).collect()
    }

    fn sandbox_count(&self) -> usize {
        self.cx.sandbox_count()
    }

    fn max_open(&mut self) -> usize {
        self.cx.sandboxes().map(|state| state.open()).max().unwrap_or(0)
    }

    fn look(&mut self, key: Key) -> Option<Look<'_>> {
        let Entry { connection, .. } = self.connections.entries.get_mut(key)?;
        Some(Look { sandbox: connection.sandbox(), sockets: connection.fds(), active: connection.active() })
    }

    fn report(&mut self, now: Instant, sandbox: u64, excess: Excess) {
        let what = match excess {
            Excess::Over => {
                "its tunnels' connections hold too much of the host's memory and get small buffers"
            }
            Excess::Twice => {
                "its tunnels' connections hold twice as much of the host's memory as they may, and some are reset"
            }
        };
        self.cx.report_once(now, sandbox, what, || what.to_owned());
    }

    fn cut(&mut self, reactor: &mut Reactor, key: Key) {
        let why = Error::new(Code::Limit, "its sandbox's hold too much of the host's memory");
        self.connections.cut(self.cx, reactor, key, why);
    }
}
