//! One connection from its acceptance to its end: TLS handshake, dial, relay, close.
//!
//! A connection decides; [`super::connections::Connections`] wakes it and carries out what it returns.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::dial::{Dial, DialCx, DialError, Dialed, Tickets};
use super::request::{Request, Requests};
use super::sandbox_state::SandboxState;
use crate::error::{Code, Error, Result};
use crate::pump::memory::Walk;
use crate::pump::{
    BUDGET, Discard, Duplex, Endpoint, Expired, IdleTimeouts, Linger, Progress, Received, Scratch, Side,
    Transport,
};
use crate::reactor::{FdPermit, Key, Reactor, Readiness};
use crate::sys::socket::Socket;

/// Called with whether the server was reached; for connections that the host itself requested.
pub(crate) type Reply = Box<dyn FnOnce(Result<()>) + Send>;

/// How many reads a handshake has in a wake-up. A whole one needs two.
const HANDSHAKE_READS: usize = 4;

/// How much one of these reads takes at most.
const HANDSHAKE_READ: usize = 16 * 1024;

/// What a connection works with: arguments that all its functions have, and so open fields.
pub(super) struct Env<'a> {
    /// The connection's.
    pub(super) key: Key,
    pub(super) reactor: &'a Reactor,
    pub(super) scratch: &'a mut Scratch,
    pub(super) sandbox: &'a mut SandboxState,
    pub(super) tickets: &'a mut Tickets,
    pub(super) memory: &'a Walk,
    pub(super) requests: &'a Requests,
}

/// What becomes of a connection after a wake-up.
#[derive(Debug)]
pub(super) enum Next {
    /// It is woken when a socket is ready, or at its deadline.
    Wait,
    /// It is woken in the next turn, too.
    Reschedule,
    /// It ends in order.
    Close,
    /// It ends with a reset on both sides, for this reason.
    Cut(Error),
}

impl Next {
    fn cut(code: Code, why: &str) -> Self {
        Self::Cut(Error::new(code, why))
    }
}

#[derive(Debug)]
enum Stage {
    /// The TLS handshake with the client; without TLS it is over at once.
    Handshake(Handshake),
    /// On the way to the server. Data that arrived together with the end of the handshake waits in `early`.
    Dialing { downstream: Endpoint, early: Vec<u8>, dial: Dial },
    /// Data flows, or what was sent before one side cut the connection is being delivered.
    Open(Duplex),
    /// The client was sent a fatal TLS alert.
    Lingering(Linger),
    /// While the endpoints move from one stage to the next.
    Empty,
}

#[derive(Debug)]
struct Handshake {
    downstream: Endpoint,
    early: Vec<u8>,
    deadline: Instant,
    /// How many bytes it holds, as counted in [`SandboxState`].
    held: usize,
}

/// What became of a wake-up of a handshake.
#[derive(Debug, PartialEq, Eq)]
enum Handshaken {
    Wait,
    Again,
    /// The handshake is over.
    Established,
    /// The client doesn't speak TLS; an alert was written.
    Refused,
    /// The connection is gone.
    Failed,
}

impl Handshake {
    /// Continues the handshake, for a few reads.
    fn advance(&mut self, scratch: &mut Scratch) -> Handshaken {
        let Self { downstream, early, .. } = self;
        if downstream.can_write() && downstream.queued() > 0 && downstream.flush(scratch).is_err() {
            return Handshaken::Failed;
        }
        let mut reads = 0;
        while !downstream.is_established() {
            if reads == HANDSHAKE_READS {
                return Handshaken::Again;
            }
            reads += 1;
            if !downstream.can_read() {
                return Handshaken::Wait;
            }
            match downstream.receive(scratch, HANDSHAKE_READ) {
                Ok(Received::Data { length, .. }) => {
                    early.extend_from_slice(scratch.plain.get(..length).unwrap_or_default());
                }
                Ok(Received::Blocked) => return Handshaken::Wait,
                Ok(Received::End | Received::Truncated) => return Handshaken::Refused,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Handshaken::Refused,
                Err(_) => return Handshaken::Failed,
            }
        }
        Handshaken::Established
    }
}

/// A connection through a tunnel, or one of the host's own.
pub(super) struct Connection {
    sandbox: u64,
    /// The port in the sandbox.
    port: u16,
    stage: Stage,
    /// When the stage began; an open relay knows when data moved.
    since: Instant,
    reply: Option<Reply>,
    _permit: FdPermit,
}

impl Connection {
    /// A connection that was accepted. A handshake, if it needs one, has to be over by `deadline`.
    pub(super) fn new(
        (sandbox, port): (u64, u16),
        downstream: Endpoint,
        permit: FdPermit,
        reply: Option<Reply>,
        (now, deadline): (Instant, Instant),
    ) -> Self {
        let stage = Stage::Handshake(Handshake { downstream, early: Vec::new(), deadline, held: 0 });
        Self { sandbox, port, stage, since: now, reply, _permit: permit }
    }

    /// The sandbox that it leads to.
    pub(super) fn sandbox(&self) -> u64 {
        self.sandbox
    }

    /// When something last happened.
    pub(super) fn active(&self) -> Instant {
        if let Stage::Open(duplex) = &self.stage { duplex.active() } else { self.since }
    }

    /// Whether it waits for a socket from the pool.
    pub(super) fn waits_for_socket(&self) -> bool {
        matches!(&self.stage, Stage::Dialing { dial, .. } if dial.waits_for_socket())
    }

    /// Whether it is kept open only for the client to read an alert.
    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.stage, Stage::Lingering(_))
    }

    /// Its sockets, as far as there are any.
    pub(super) fn fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        match &self.stage {
            Stage::Handshake(handshake) => [Some(handshake.downstream.as_fd()), None],
            Stage::Dialing { downstream, dial, .. } => [Some(downstream.as_fd()), dial.connecting()],
            Stage::Open(duplex) => duplex.fds(),
            Stage::Lingering(linger) => [Some(linger.as_fd()), None],
            Stage::Empty => [None, None],
        }
    }

    /// When [`Connection::on_deadline`] is to be called, unless this changes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Handshake(handshake) => Some(handshake.deadline),
            Stage::Dialing { dial, .. } => Some(dial.deadline()),
            Stage::Open(duplex) => duplex.deadline(),
            Stage::Lingering(linger) => Some(linger.deadline()),
            Stage::Empty => None,
        }
    }

    /// It was accepted and is watched: dials, unless it needs a handshake first.
    pub(super) fn start(&mut self, env: &mut Env<'_>) -> Next {
        match &self.stage {
            Stage::Handshake(handshake) if handshake.downstream.is_established() => self.dial(env),
            _ => Next::Wait,
        }
    }

    /// The kernel has reported something of one of its sockets.
    pub(super) fn on_ready(&mut self, env: &mut Env<'_>, side: Side, readiness: Readiness) -> Next {
        match &mut self.stage {
            Stage::Handshake(handshake) => {
                handshake.downstream.note(readiness);
                // It costs some 200 µs, so it has a wake-up of its own, behind those with news.
                return Next::Reschedule;
            }
            Stage::Dialing { downstream, dial, .. } => match side {
                Side::Downstream => {
                    downstream.note(readiness);
                    if readiness.failed {
                        return self.cut_or_linger(env);
                    }
                }
                Side::Upstream if readiness.writable || readiness.failed => {
                    let dialed = dial.on_ready(&mut dial_cx(self.sandbox, env));
                    return self.on_dialed(env, dialed);
                }
                Side::Upstream => {}
            },
            Stage::Open(duplex) => duplex.note(side, readiness),
            Stage::Lingering(linger) if side == Side::Downstream => linger.note(readiness),
            // Of a socket upstream that is closed by now.
            Stage::Lingering(_) | Stage::Empty => {}
        }
        self.advance(env)
    }

    /// The wake-up that it has asked for.
    pub(super) fn on_reschedule(&mut self, env: &mut Env<'_>) -> Next {
        let Stage::Handshake(handshake) = &mut self.stage else { return self.advance(env) };
        let handshaken = handshake.advance(env.scratch);
        let held = match handshaken {
            Handshaken::Wait | Handshaken::Again => handshake.downstream.held(),
            Handshaken::Established | Handshaken::Refused | Handshaken::Failed => 0,
        };
        let before = std::mem::replace(&mut handshake.held, held);
        if !env.sandbox.recount_handshakes(before, held) {
            return self.on_handshakes_too_large(env);
        }
        match handshaken {
            Handshaken::Wait => Next::Wait,
            Handshaken::Again => Next::Reschedule,
            Handshaken::Established => self.dial(env),
            Handshaken::Refused if self.begin_linger(env) => self.advance(env),
            Handshaken::Refused => Next::Close,
            Handshaken::Failed => self.cut_or_linger(env),
        }
    }

    /// Its deadline has come.
    pub(super) fn on_deadline(&mut self, env: &mut Env<'_>) -> Next {
        match &mut self.stage {
            Stage::Handshake(_) => Next::cut(Code::TimedOut, "no TLS handshake"),
            Stage::Dialing { dial, .. } => {
                let dialed = dial.on_deadline(&mut dial_cx(self.sandbox, env));
                self.on_dialed(env, dialed)
            }
            Stage::Open(duplex) => match duplex.on_deadline(env.reactor.now()) {
                Expired::Drain => self.advance(env),
                Expired::NotYet => Next::Wait,
                Expired::Idle => Next::cut(Code::TimedOut, "the connection was idle for too long"),
            },
            Stage::Lingering(_) => Next::Close,
            Stage::Empty => Next::Wait,
        }
    }

    /// A socket from the pool, or `None` if no more can be had.
    pub(super) fn on_socket(&mut self, env: &mut Env<'_>, socket: Option<OwnedFd>) -> Next {
        let Stage::Dialing { dial, .. } = &mut self.stage else {
            debug_assert!(false, "a socket is given only to a connection that waits for one");
            return Next::Wait;
        };
        let dialed = match socket {
            Some(socket) => dial.on_socket(&mut dial_cx(self.sandbox, env), socket),
            None => dial.on_no_socket(),
        };
        self.on_dialed(env, dialed)
    }

    /// Init's answer to its request.
    pub(super) fn on_loopback(&mut self, env: &mut Env<'_>, answer: Result<OwnedFd>) -> Next {
        let Stage::Dialing { dial, .. } = &mut self.stage else {
            debug_assert!(false, "a ticket is cancelled when its connection ends");
            return Next::Wait;
        };
        let dialed = dial.on_loopback(&mut dial_cx(self.sandbox, env), answer);
        self.on_dialed(env, dialed)
    }

    /// Dials the server once the handshake is over.
    fn dial(&mut self, env: &mut Env<'_>) -> Next {
        let timeouts = env.sandbox.timeouts();
        let (dial, dialed) =
            Dial::start(&mut dial_cx(self.sandbox, env), self.port, timeouts.connect, timeouts.startup_grace);
        let Stage::Handshake(handshake) = std::mem::replace(&mut self.stage, Stage::Empty) else {
            debug_assert!(false, "a connection is dialled once, after its handshake");
            return Next::cut(Code::Internal, "the connection was dialled twice");
        };
        let Handshake { downstream, early, .. } = handshake;
        self.stage = Stage::Dialing { downstream, early, dial };
        self.since = env.reactor.now();
        self.on_dialed(env, dialed)
    }

    fn on_dialed(&mut self, env: &mut Env<'_>, dialed: Dialed) -> Next {
        match dialed {
            Dialed::Pending => Next::Wait,
            Dialed::Connected(socket) => self.open(env, socket),
            Dialed::Failed(error) => self.on_dial_failed(env, &error),
        }
    }

    /// Relays: the server was reached.
    fn open(&mut self, env: &mut Env<'_>, socket: Socket) -> Next {
        let Stage::Dialing { downstream, early, .. } = std::mem::replace(&mut self.stage, Stage::Empty)
        else {
            debug_assert!(false, "only a dial reaches a server");
            return Next::cut(Code::Internal, "the connection was opened twice");
        };
        let mut upstream = Endpoint::plain(socket);
        if !early.is_empty() {
            env.sandbox.counters().bytes_in.fetch_add(early.len() as u64, Ordering::Relaxed);
            upstream.enqueue(early, env.scratch);
        }
        let timeouts = env.sandbox.timeouts();
        let timeouts = IdleTimeouts { idle: Some(timeouts.idle), half_closed: timeouts.half_closed };
        let duplex = Duplex::new(downstream, upstream, timeouts, env.reactor.now());
        env.memory.on_new(self.sandbox, duplex.fds());
        self.stage = Stage::Open(duplex);
        if let Some(reply) = self.reply.take() {
            reply(Ok(()));
        }
        self.advance(env)
    }

    fn on_dial_failed(&mut self, env: &mut Env<'_>, why: &DialError) -> Next {
        if let DialError::SourcePorts = why {
            let limit = "all source ports are in use; refused";
            if env.sandbox.is_news(limit, env.reactor.now()) {
                let what = format!("port {}: {limit}", self.port);
                (env.requests)(Request::Limit { key: self.sandbox, what });
            }
        }
        let error = Error::new(why.code(), format!("connect to port {} of the sandbox: {why}", self.port));
        env.sandbox.on_refused();
        log::debug!("{error}");
        Next::Cut(error)
    }

    /// The sandbox's handshakes hold more than they may, with what has just come for this one.
    fn on_handshakes_too_large(&mut self, env: &mut Env<'_>) -> Next {
        let limit = "its tunnels' clients send more than may be held before their TLS handshakes are over, and \
                     some are reset";
        if env.sandbox.is_news(limit, env.reactor.now()) {
            (env.requests)(Request::Limit { key: self.sandbox, what: limit.to_owned() });
        }
        Next::cut(Code::Limit, "the sandbox's TLS handshakes hold too much memory")
    }

    /// Does what can be done now.
    fn advance(&mut self, env: &mut Env<'_>) -> Next {
        match &mut self.stage {
            Stage::Handshake(_) => Next::Reschedule,
            Stage::Dialing { .. } | Stage::Empty => Next::Wait,
            Stage::Open(duplex) => {
                let now = env.reactor.now();
                let (progress, moved) = duplex.advance(now, BUDGET, env.scratch);
                if moved.total() > 0 {
                    let counters = env.sandbox.counters();
                    counters.bytes_in.fetch_add(moved.up, Ordering::Relaxed);
                    counters.bytes_out.fetch_add(moved.down, Ordering::Relaxed);
                    counters.note_activity(now);
                }
                match progress {
                    Progress::Wait => Next::Wait,
                    Progress::Again => Next::Reschedule,
                    Progress::Closed => Next::Close,
                    Progress::Cut => self.cut_or_linger(env),
                }
            }
            Stage::Lingering(linger) => match linger.advance(env.scratch) {
                Discard::Wait => Next::Wait,
                Discard::Again => Next::Reschedule,
                Discard::Over => Next::Close,
            },
        }
    }

    /// A side has cut the connection.
    fn cut_or_linger(&mut self, env: &mut Env<'_>) -> Next {
        if self.begin_linger(env) {
            self.advance(env)
        } else {
            Next::cut(Code::Closed, "the connection was cut")
        }
    }

    /// Keeps the connection of a client that was sent a fatal TLS alert until the client has read that, and resets the
    /// server's. False if no alert was sent, or if too many connections linger.
    fn begin_linger(&mut self, env: &mut Env<'_>) -> bool {
        let alerted = match &self.stage {
            Stage::Handshake(handshake) => handshake.downstream.has_alerted(),
            Stage::Open(duplex) => duplex.has_alerted(),
            Stage::Dialing { .. } | Stage::Lingering(_) | Stage::Empty => false,
        };
        if !alerted || !env.sandbox.begin_linger() {
            return false;
        }
        let downstream = match std::mem::replace(&mut self.stage, Stage::Empty) {
            Stage::Handshake(handshake) => handshake.downstream,
            Stage::Open(duplex) => {
                if let [_, Some(upstream)] = duplex.fds() {
                    env.reactor.deregister(upstream);
                }
                duplex.into_downstream(env.scratch)
            }
            _ => return false,
        };
        self.since = env.reactor.now();
        self.stage = Stage::Lingering(Linger::new(downstream, self.since));
        true
    }

    /// Ends it in order.
    pub(super) fn close(self, scratch: &mut Scratch) {
        match self.stage {
            Stage::Handshake(Handshake { downstream, .. }) | Stage::Dialing { downstream, .. } => {
                downstream.close(scratch);
            }
            Stage::Open(duplex) => duplex.close(scratch),
            Stage::Lingering(linger) => linger.close(scratch),
            Stage::Empty => {}
        }
    }

    /// Ends it with a reset on both sides.
    pub(super) fn reset(self, scratch: &mut Scratch, why: Error) {
        if let Some(reply) = self.reply {
            reply(Err(why));
        }
        match self.stage {
            Stage::Handshake(Handshake { downstream, .. }) | Stage::Dialing { downstream, .. } => {
                downstream.reset(scratch);
            }
            Stage::Open(duplex) => duplex.reset(scratch),
            Stage::Lingering(linger) => linger.reset(scratch),
            Stage::Empty => {}
        }
    }

    /// It ends: withdraws its request to init or for a socket, and what its handshake was counted with.
    pub(super) fn cancel(&self, tickets: &mut Tickets, sandbox: &mut SandboxState) {
        match &self.stage {
            Stage::Handshake(handshake) => {
                sandbox.recount_handshakes(handshake.held, 0);
            }
            Stage::Dialing { dial, .. } => dial.cancel(tickets, sandbox.dialer()),
            Stage::Open(_) | Stage::Lingering(_) | Stage::Empty => {}
        }
    }
}

fn dial_cx<'a>(sandbox: u64, env: &'a mut Env<'_>) -> DialCx<'a> {
    DialCx {
        sandbox,
        key: env.key,
        reactor: env.reactor,
        dialer: env.sandbox.dialer(),
        tickets: env.tickets,
        requests: env.requests,
    }
}

#[cfg(test)]
mod tests;
