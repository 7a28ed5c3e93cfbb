//! The engine: one thread that moves the data of every sandbox of a runtime.
//!
//! Other threads send it [`Command`]s through a [`Handle`]. What it needs from them it requests with a [`Request`], which it
//! passes to a function given at its start. Neither side ever waits for the other.
//!
//! The thread runs while there is a sandbox. A turn has wake-ups first, as many as it has time for, then commands, then a
//! slice of the removals and policy checks that are under way. All signals are blocked in it, so a write to a connection
//! that is gone can't kill the host, and a panic in the code of one source doesn't end it.
//!
//! # A new kind of source
//!
//! For example captures of a program's output: a module beside `tunnel` and `egress` with a `Slab` of its own kind (1 to 3 are
//! taken by [`crate::tunnel::Tunnels`], 4 to 14 by [`crate::egress::Egress`]) and functions for its commands and
//! wake-ups; a field in [`Loop`]; a variant of [`Command`]; and a line in [`Loop::dispatch`] that routes the kind.

mod worker;

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ipnetwork::IpNetwork;
use mio::Waker;
use mio::net::TcpListener;

use crate::egress::{self, Egress, is_egress};
use crate::error::{Context, Error, Result};
use crate::policy::Policy;
use crate::reactor::{FdBudget, Reactor, Removed, Wake};
use crate::tunnel::{self, Counters, Drained, Reply, Security, Settings, Tunnels};
pub(crate) use worker::{Body, Idleness, Inbox, LINGER, Left, Wake as WakeThread, Worker};

/// A request to the rest of the runtime, or a report for it. Requests are answered by a command, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Of the tunnels.
    Tunnel(tunnel::Request),
    /// Of egress.
    Egress(egress::Request),
}

/// Where requests go. Called on the engine's thread: it must not block.
pub(crate) type Requests = Arc<dyn Fn(Request) + Send + Sync>;

/// How many commands are carried out before the sockets are looked at again.
const MAX_COMMANDS: usize = 128;

/// A command to the engine.
pub(crate) enum Command {
    /// A sandbox exists.
    AddSandbox {
        /// Its number; every other command names it by this.
        key: u64,
        /// How it is reached.
        settings: Settings,
        /// Where its connections are counted.
        counters: Arc<Counters>,
        /// Where the time that the engine spends on it is added up, in nanoseconds.
        time: Arc<AtomicU64>,
    },
    /// A tunnel: connections to this listener go to a port of the sandbox.
    AddListener {
        /// The sandbox.
        key: u64,
        /// The port inside.
        container_port: u16,
        /// From [`crate::tunnel::listen`].
        listener: TcpListener,
        /// With or without TLS.
        security: Security,
        /// The sources that may connect: `None` means every one, an empty list none.
        allowed: Option<Vec<IpNetwork>>,
    },
    /// The answer to [`tunnel::Request::NeedSockets`].
    Sockets {
        /// The sandbox.
        key: u64,
        /// Unconnected non-blocking TCP sockets of its gateway namespace; none if there can't be any.
        sockets: Vec<OwnedFd>,
    },
    /// The answer to [`tunnel::Request::NeedLoopback`].
    Loopback {
        /// From the request.
        ticket: u64,
        /// A connected AF_UNIX stream, or why there is none.
        answer: Result<OwnedFd>,
    },
    /// Relay a stream of the host's to a port of the sandbox.
    Attach {
        /// The sandbox.
        key: u64,
        /// The port inside.
        port: u16,
        /// The library's end of an AF_UNIX stream pair.
        stream: OwnedFd,
        /// Called once, with whether the server was reached. Called on the engine's thread: it must not block.
        reply: Reply,
    },
    /// A sandbox has egress from now on.
    AddEgress {
        /// The sandbox.
        key: u64,
        /// What it may reach, and the number of that policy.
        policy: (Arc<Policy>, u64),
        /// Its limits.
        settings: egress::Settings,
        /// What the rules of its gateway deliver to.
        sockets: egress::Sockets,
        /// Where its flows are counted.
        counters: Arc<egress::Counters>,
    },
    /// A sandbox is to end: accept no further connection to it.
    Drain {
        /// The sandbox.
        key: u64,
        /// Called when the last connection has ended, if the sandbox lives that long.
        reply: Drained,
    },
    /// A sandbox has another policy, which the kernel knows already.
    SetPolicy {
        /// The sandbox.
        key: u64,
        /// What it may reach, and the number of that policy.
        policy: (Arc<Policy>, u64),
        /// Called when what the policy denies is closed.
        reply: egress::Applied,
    },
    /// The answer to [`egress::Request::NeedDatagrams`].
    Datagrams {
        /// The sandbox.
        key: u64,
        /// IPv6, else IPv4.
        ipv6: bool,
        /// Unbound non-blocking UDP sockets of its gateway namespace; none if there can't be any.
        sockets: Vec<OwnedFd>,
    },
    /// The answer to [`egress::Request::Answered`].
    Answered {
        /// The sandbox.
        key: u64,
        /// Whether the rules follow.
        done: bool,
    },
    /// The host has other name servers.
    SetNameservers(Arc<egress::Upstreams>),
    /// A sandbox has been removed: reset its connections, close every descriptor of it.
    RemoveSandbox {
        /// The sandbox.
        key: u64,
        /// Called when that is done.
        reply: Box<dyn FnOnce() + Send>,
    },
    /// End the thread.
    Shutdown,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::AddSandbox { .. } => "AddSandbox",
            Self::AddListener { .. } => "AddListener",
            Self::Sockets { .. } => "Sockets",
            Self::Loopback { .. } => "Loopback",
            Self::Attach { .. } => "Attach",
            Self::AddEgress { .. } => "AddEgress",
            Self::Answered { .. } => "Answered",
            Self::Drain { .. } => "Drain",
            Self::SetPolicy { .. } => "SetPolicy",
            Self::Datagrams { .. } => "Datagrams",
            Self::SetNameservers(_) => "SetNameservers",
            Self::RemoveSandbox { .. } => "RemoveSandbox",
            Self::Shutdown => "Shutdown",
        })
    }
}

/// Sends commands to an engine, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    worker: Worker<Loop>,
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Handle {
    /// Sends a command. It fails only when the engine has ended; the command's descriptors are closed then,
    /// and its reply is dropped without being called.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        let (mut command, mut sent) = (Some(command), Ok(()));
        self.worker.with_thread(&mut || {
            sent = command
                .take()
                .map_or(Ok(()), |command| self.commands.send(command).map_err(|_| Error::shut_down()));
        })?;
        sent?;
        self.waker.wake().context("wake the engine")
    }
}

/// A running engine. Dropping it ends the thread and waits for it.
#[derive(Debug)]
pub(crate) struct Engine {
    handle: Handle,
}

impl Engine {
    /// Starts the thread. `requests` is called on it and must not block.
    pub(crate) fn start(budget: FdBudget, requests: Requests) -> Result<Self> {
        let reactor = Reactor::new().context("create the engine's poll descriptor")?;
        let (commands, receiver) = channel();
        let of_tunnels = Arc::clone(&requests);
        let handle = Handle { worker: Worker::new("sbx-engine"), commands, waker: reactor.waker() };
        handle.worker.start(Loop {
            reactor,
            tunnels: Tunnels::new(
                budget.clone(),
                Arc::new(move |request| of_tunnels(Request::Tunnel(request))),
            ),
            egress: Egress::new(budget, Arc::new(move |request| requests(Request::Egress(request)))),
            commands: Inbox::new(receiver),
            idleness: Idleness::default(),
        })?;
        Ok(Self { handle })
    }

    /// A handle to send commands with.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.handle.send(Command::Shutdown);
        self.handle.worker.join();
    }
}

/// The state of the thread.
struct Loop {
    reactor: Reactor,
    tunnels: Tunnels,
    egress: Egress,
    commands: Inbox<Command>,
    idleness: Idleness,
}

impl Body for Loop {
    fn work(&mut self) -> Left {
        self.run()
    }

    fn has_work(&mut self) -> bool {
        self.commands.has_some()
    }
}

impl Loop {
    fn run(&mut self) -> Left {
        let mut busy = self.commands.has_some();
        loop {
            let idle = self.tunnels.is_idle() && self.egress.is_idle();
            if self.idleness.is_over(idle && !busy, Instant::now()) {
                return Left::Idle;
            }
            let limit = match busy || self.tunnels.is_busy() || self.egress.is_busy() {
                true => Some(std::time::Duration::ZERO),
                false => idle.then_some(LINGER),
            };
            if let Err(error) = self.reactor.turn(limit) {
                // epoll_wait fails for a bad descriptor only. Ending would leave the sandboxes without their tunnels,
                // and so would going on: log it, and back off instead of spinning.
                log::error!("the engine's poll failed: {error}");
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            while let Some(wake) = self.reactor.next() {
                self.guarded(wake);
            }
            busy = true;
            for _ in 0..MAX_COMMANDS {
                match self.commands.next() {
                    Some(Command::Shutdown) => {
                        self.tunnels.finish_removals(&mut self.reactor);
                        self.egress.finish_removals(&mut self.reactor);
                        return Left::Done;
                    }
                    Some(command) => self.execute(command),
                    None => {
                        busy = false;
                        break;
                    }
                }
                // A slow command leaves the rest to the next turn.
                if self.reactor.is_over_time() {
                    break;
                }
            }
            let Self { reactor, tunnels, egress, .. } = self;
            if catch_unwind(AssertUnwindSafe(|| tunnels.end_turn(reactor))).is_err() {
                log::error!("a bug: ending connections has panicked");
            }
            if catch_unwind(AssertUnwindSafe(|| egress.end_turn(reactor))).is_err() {
                log::error!("a bug: ending or judging flows has panicked");
            }
        }
    }

    /// Dispatches a wake-up; a panic ends its source and no other.
    fn guarded(&mut self, wake: Wake) {
        if catch_unwind(AssertUnwindSafe(|| self.dispatch(wake))).is_err() {
            log::error!("a bug: {wake:?} has panicked; what it was for is closed");
            let key = wake.key();
            if is_egress(key.kind()) {
                self.egress.discard(&mut self.reactor, key);
            } else {
                self.tunnels.discard(&mut self.reactor, key);
            }
        }
    }

    fn dispatch(&mut self, wake: Wake) {
        let key = wake.key();
        if is_egress(key.kind()) {
            self.egress.wake(&mut self.reactor, wake);
        } else {
            self.tunnels.wake(&mut self.reactor, wake);
        }
    }

    fn execute(&mut self, command: Command) {
        if catch_unwind(AssertUnwindSafe(|| self.execute_unguarded(command))).is_err() {
            log::error!("a bug: a command to the engine has panicked");
        }
    }

    fn execute_unguarded(&mut self, command: Command) {
        let Self { reactor, tunnels, egress, .. } = self;
        match command {
            Command::AddSandbox { key, settings, counters, time } => {
                reactor.meter(key, &time);
                tunnels.add_sandbox(key, settings, counters);
            }
            Command::AddListener { key, container_port, listener, security, allowed } => {
                tunnels.add_listener(reactor, key, container_port, listener, security, allowed);
            }
            Command::Sockets { key, sockets } => tunnels.on_sockets(reactor, key, sockets),
            Command::Loopback { ticket, answer } => tunnels.on_loopback(reactor, ticket, answer),
            Command::Attach { key, port, stream, reply } => tunnels.attach(reactor, key, port, stream, reply),
            Command::AddEgress { key, policy, settings, sockets, counters } => {
                egress.add_sandbox(reactor, key, policy, settings, sockets, counters);
            }
            Command::SetPolicy { key, policy, reply } => egress.set_policy(reactor, key, policy, reply),
            Command::Datagrams { key, ipv6, sockets } => {
                egress.on_datagram_sockets(reactor, key, ipv6, sockets);
            }
            Command::SetNameservers(servers) => egress.set_nameservers(servers),
            Command::Answered { key, done } => egress.on_rules(reactor, key, done),
            Command::Drain { key, reply } => tunnels.drain(reactor, key, reply),
            Command::RemoveSandbox { key, reply } => {
                let [of_tunnels, of_egress] = when_both(reply);
                tunnels.begin_removal(reactor, key, of_tunnels);
                egress.begin_removal(reactor, key, of_egress);
            }
            Command::Shutdown => {}
        }
    }
}

/// Calls `reply` when both returned functions have been called or dropped.
fn when_both(reply: Removed) -> [Removed; 2] {
    let shared = Arc::new(Mutex::new(reply));
    [Arc::clone(&shared), shared].map(|shared| -> Removed {
        Box::new(move || {
            // Only the last one finds no other reference.
            if let Some(Ok(reply)) = Arc::into_inner(shared).map(Mutex::into_inner) {
                reply();
            }
        })
    })
}

#[cfg(test)]
mod tests;
