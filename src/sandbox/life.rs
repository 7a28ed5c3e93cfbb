//! One sandbox from its first system call to its last: the control thread's state machine.
//!
//! ```text
//! Preparing ── keeper has made namespaces and root, the links are laid ──► Booting
//! Booting ──── init says hello ──► Starting ──── the program was started ──► Running
//! any ──────── the program ended, time ran out, the host asked, something failed ──► Ending
//! Ending ───── the keeper's channel is at its end ──► Leaving ── its pidfd is readable ──► gone
//! ```
//!
//! Nothing here blocks for longer than a netlink message takes, and nothing is ever called upwards: what the
//! host must be told is put into [`Shared`] and its queue.

use std::collections::HashMap;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::{self, Plan};
use super::probing::Probing;
use super::shared::Facts;
use super::{Command, Control, Exit, ExitReason, Shared, State, trouble};
use crate::config::PortKind;
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::event::EventKind;
use crate::keeper::wire::init::{Reply as FromInit, Request as ToInit, Start};
use crate::keeper::wire::keeper::{Reply as FromKeeper, Request as ToKeeper};
use crate::keeper::{Keeper, Program};
use crate::net::topology;
use crate::process::{CaptureReader, Init, Ours, Streams};
use crate::reactor::{Key, Lane, Permit, Reactor, TimerId};
use crate::sys::channel;
use crate::tunnel::{Security, Settings};

/// How long a sandbox may take to start. Far beyond what it takes (a tenth of a second) even on a host under
/// heavy load; what hangs for longer won't come.
const START: Duration = Duration::from_secs(60);
/// How long the keeper may take to end everything before it is killed, which ends everything too.
const GRACE: Duration = Duration::from_secs(5);
/// How long the keeper's word on a lost init is waited for.
const DOUBT: Duration = Duration::from_secs(1);
/// Init's number for the sandbox's program.
pub(super) const PROGRAM: u32 = 1;
/// The most connections through init that may be under way at once.
const LOOPBACKS: usize = 1024;

/// What the control thread lends to a life.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// Its poll loop.
    pub(crate) reactor: &'a mut Reactor,
    /// The way to the engine thread.
    pub(crate) engine: &'a engine::Handle,
    /// The way back to the control thread itself.
    pub(crate) control: &'a Control,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing { links: bool, files: bool },
    Booting,
    Starting,
    Running,
    Ending,
    Leaving,
    Gone,
}

/// Why it ends; the first reason counts.
#[derive(Clone, Debug)]
enum Cause {
    Failed(Error),
    Program(i32),
    TimedOut,
    Terminated,
    Lost(String),
}

/// A sandbox in the control thread's hands.
#[derive(Debug)]
pub(crate) struct Life {
    /// Its key in the control thread's loop; `None` until it is watched.
    pub(super) key: Option<Key>,
    pub(super) shared: Arc<Shared>,
    plan: Option<Box<Plan>>,
    phase: Phase,
    cause: Option<Cause>,
    keeper: Keeper,
    init: Option<Init>,
    filter: Option<OwnedFd>,
    /// Whether the engine holds descriptors of it.
    attached: bool,
    deadline: Option<(TimerId, Instant)>,
    pub(super) probing: Option<Probing>,
    /// The last number given to a request to init; the program has the first.
    tickets: u32,
    /// Connections through init that are under way: the engine's ticket and the library's end.
    loopbacks: HashMap<u32, (u64, OwnedFd)>,
    /// Init was lost, and the keeper has not said why yet.
    doubt: Option<Error>,
    started: Option<Instant>,
    stopped: Option<Instant>,
    captures: Vec<CaptureReader>,
    _permit: Permit,
}

impl Life {
    /// The descriptors that one needs at most, beside its listeners and connections: two channels, a pidfd,
    /// four of netlink and namespaces, three streams, and some on their way.
    pub(crate) const DESCRIPTORS: usize = 16;

    /// Begins a sandbox: starts its keeper and asks for namespaces and root file system.
    pub(crate) fn begin(
        program: &Program,
        shared: Arc<Shared>,
        mut plan: Plan,
        permit: Permit,
    ) -> Result<Self> {
        let mut keeper = Keeper::start(program)?;
        let setup = mem::take(&mut plan.setup);
        keeper.ask(&ToKeeper::Setup(Box::new(setup)), vec![])?;
        shared.update(|facts| facts.tunnels = Some(plan.tunnels.clone()));
        Ok(Self {
            key: None,
            phase: Phase::Preparing { links: !plan.network, files: false },
            plan: Some(Box::new(plan)),
            shared,
            cause: None,
            keeper,
            init: None,
            filter: None,
            attached: false,
            deadline: None,
            probing: None,
            tickets: PROGRAM,
            loopbacks: HashMap::new(),
            doubt: None,
            started: None,
            stopped: None,
            captures: Vec::new(),
            _permit: permit,
        })
    }

    /// Has its descriptors watched under this key from now on.
    pub(crate) fn watch(&mut self, bench: &mut Bench<'_>, key: Key) {
        self.key = Some(key);
        self.set_deadline(bench, START);
        if let Err(error) = register(bench.reactor, self.keeper.as_fd(), key, Lane::Front) {
            self.end(bench, Cause::Failed(error));
        }
    }

    /// Whether nothing of it is left, here or in the engine.
    pub(crate) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone && !self.attached
    }

    /// The engine has closed every descriptor of it.
    pub(crate) fn detached(&mut self) {
        self.attached = false;
    }

    /// Captures that were opened and are yet to be read.
    pub(crate) fn take_captures(&mut self) -> Vec<CaptureReader> {
        mem::take(&mut self.captures)
    }

    /// The sandbox it is the life of.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A descriptor is ready: the keeper's channel or pidfd (front), or init's channel (back).
    pub(crate) fn ready(&mut self, bench: &mut Bench<'_>, lane: Lane) {
        match lane {
            Lane::Front if self.phase == Phase::Leaving => self.left(bench),
            Lane::Front => self.hear_keeper(bench),
            Lane::Back => self.hear_init(bench),
        }
    }

    /// One of its timers has run out.
    pub(crate) fn timer(&mut self, bench: &mut Bench<'_>) {
        let now = bench.reactor.now();
        if self.deadline.is_some_and(|(_, at)| now >= at) {
            self.deadline = None;
            self.late(bench);
        }
        self.probe_again(bench);
    }

    /// The time for what it is doing has run out.
    fn late(&mut self, bench: &mut Bench<'_>) {
        match self.phase {
            Phase::Running if self.doubt.is_none() => self.end(bench, Cause::TimedOut),
            Phase::Ending | Phase::Leaving | Phase::Gone => {
                log::warn!("sandbox {}: the keeper took too long to end it and is killed", self.shared.id);
                self.keeper.kill();
                self.set_deadline(bench, GRACE);
            }
            _ if self.doubt.is_some() => {
                let error = self.doubt.take().unwrap_or_else(|| Error::new(Code::Engine, "init was lost"));
                let cause = self.lost(error);
                self.end(bench, cause);
            }
            phase => {
                let message = format!("it did not start within {} s (it was {phase:?})", START.as_secs());
                self.end(bench, Cause::Failed(Error::new(Code::Engine, message)));
            }
        }
    }

    /// The host asks for its end.
    pub(crate) fn terminate(&mut self, bench: &mut Bench<'_>) {
        self.end(bench, Cause::Terminated);
    }

    /// The host sends the program a signal.
    pub(crate) fn signal(&mut self, bench: &mut Bench<'_>, signal: i32) {
        if self.phase == Phase::Running {
            self.ask_init(bench, &ToInit::Signal { id: PROGRAM, signal, group: false }, vec![]);
        }
    }

    /// The engine wants sockets of G.
    pub(crate) fn sockets(&mut self, bench: &mut Bench<'_>, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.ask_keeper(bench, &ToKeeper::Sockets { ipv6: false, count }, vec![]);
    }

    /// The engine wants a stream to a server on the sandbox's own 127.0.0.1; the answer goes back by ticket.
    pub(crate) fn loopback(&mut self, bench: &mut Bench<'_>, port: u16, ticket: u64) {
        let refuse = |error: Error| {
            let _ = bench.engine.send(engine::Command::Loopback { ticket, answer: Err(error) });
        };
        if self.phase != Phase::Running || self.loopbacks.len() >= LOOPBACKS {
            return refuse(Error::new(
                Code::Limit,
                "too many connections to the sandbox's 127.0.0.1 are under way",
            ));
        }
        let pair =
            UnixStream::pair().and_then(|(ours, theirs)| ours.set_nonblocking(true).map(|()| (ours, theirs)));
        match pair {
            Ok((ours, theirs)) => {
                let own = self.ticket();
                self.loopbacks.insert(own, (ticket, ours.into()));
                self.ask_init(bench, &ToInit::Connect { ticket: own, port }, vec![theirs.into()]);
            }
            Err(error) => refuse(Error::system("a socket pair for a connection", &error)),
        }
    }

    fn connected(&mut self, bench: &mut Bench<'_>, ticket: u32, errno: i32) {
        let Some((ticket, stream)) = self.loopbacks.remove(&ticket) else { return };
        let answer = match errno {
            0 => Ok(stream),
            errno => {
                let cause = std::io::Error::from_raw_os_error(errno);
                Err(Error::system("connecting inside the sandbox", &cause).with_code(Code::Refused))
            }
        };
        let _ = bench.engine.send(engine::Command::Loopback { ticket, answer });
    }

    /// A limit was reached: the host is told.
    pub(crate) fn limit(&self, what: String) {
        self.shared.tell(EventKind::Limit, |event| event.detail = what);
    }

    /// A number for a request to init that isn't the program's.
    pub(super) fn ticket(&mut self) -> u32 {
        self.tickets = self.tickets.checked_add(1).unwrap_or(PROGRAM + 1);
        self.tickets
    }

    /// Whether the program runs.
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    fn hear_keeper(&mut self, bench: &mut Bench<'_>) {
        if let Err(error) = self.keeper.flush() {
            return self.keeper_ended(bench, &error);
        }
        loop {
            let (reply, fds) = match self.keeper.hear() {
                Ok(Some(heard)) => heard,
                Ok(None) => return,
                Err(error) => return self.keeper_ended(bench, &error),
            };
            let done = match reply {
                FromKeeper::Namespaces { refused } => self.namespaces(bench, &refused, fds),
                FromKeeper::Prepared => self.prepared(bench),
                FromKeeper::Running => Ok(()),
                FromKeeper::Sockets { ipv6: _ } => {
                    let key = self.shared.number;
                    bench.engine.send(engine::Command::Stock { key, sockets: fds })
                }
                FromKeeper::Failed { step, errno } => Err(trouble::keeper(&step, errno)),
                FromKeeper::Ended { status, log, output } => {
                    self.engine_ended(bench, status, &log, &output);
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.end(bench, Cause::Failed(error));
            }
        }
    }

    /// The namespaces exist: lay the links that runsc is going to look at, while the keeper makes the files.
    fn namespaces(&mut self, bench: &mut Bench<'_>, refused: &[Vec<u8>], fds: Vec<OwnedFd>) -> Result<()> {
        for name in refused {
            let name = String::from_utf8_lossy(name);
            log::info!("sandbox {}: /proc/sys/{name} of its gateway can't be written here", self.shared.id);
        }
        let Some(plan) = self.plan.as_ref().filter(|plan| plan.network) else { return Ok(()) };
        let [route_g, filter_g, route_s, ns_s] = <[OwnedFd; 4]>::try_from(fds)
            .map_err(|_| Error::new(Code::Engine, "the keeper sent other descriptors than expected"))?;
        let sockets = topology::Sockets { route_g, route_s, ns_s };
        topology::configure_links(sockets, &plan.topology)?;
        self.filter = Some(filter_g);
        if let Phase::Preparing { files, .. } = self.phase {
            self.phase = Phase::Preparing { links: true, files };
        }
        self.boot(bench)
    }

    fn prepared(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        if let Phase::Preparing { links, .. } = self.phase {
            self.phase = Phase::Preparing { links, files: true };
        }
        self.boot(bench)
    }

    /// Once links and files are there: start runsc, and load the rules while it starts.
    fn boot(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        let (Phase::Preparing { links: true, files: true }, Some(plan), Some(key)) =
            (self.phase, &self.plan, self.key)
        else {
            return Ok(());
        };
        let (ours, theirs) =
            channel::pair().map_err(|error| Error::system("a socket pair for init", &error))?;
        self.keeper.ask(&ToKeeper::Run { arguments: plan.arguments.clone() }, vec![theirs])?;
        register(bench.reactor, ours.as_fd(), key, Lane::Back)?;
        self.init = Some(Init::new(ours));
        self.phase = Phase::Booting;
        if let Some(filter) = self.filter.take() {
            self.filter = Some(topology::load_rules(filter, &plan.topology)?);
        }
        Ok(())
    }

    fn hear_init(&mut self, bench: &mut Bench<'_>) {
        loop {
            let Some(init) = &mut self.init else { return };
            let heard = match init.flush() {
                Ok(()) => init.hear(),
                Err(error) => Err(error),
            };
            match heard {
                Ok(Some(reply)) => self.init_says(bench, reply),
                Ok(None) => return,
                Err(error) => return self.init_lost(bench, &error),
            }
        }
    }

    fn init_says(&mut self, bench: &mut Bench<'_>, reply: FromInit) {
        match (self.phase, reply) {
            (Phase::Booting, FromInit::Hello) => {
                if let Err(error) = self.start_program(bench) {
                    self.end(bench, Cause::Failed(error));
                }
            }
            (Phase::Starting, FromInit::Started { id: PROGRAM }) => {
                if let Err(error) = self.running(bench) {
                    self.end(bench, Cause::Failed(error));
                }
            }
            (Phase::Starting, FromInit::NotStarted { id: PROGRAM, step, errno }) => {
                let error = trouble::program(step, errno, &self.shared.config);
                self.end(bench, Cause::Failed(error));
            }
            (Phase::Running, FromInit::Exited { id: PROGRAM, status }) => {
                self.end(bench, Cause::Program(status));
            }
            (Phase::Running, FromInit::Exited { id, status }) => self.probed(bench, id, status == 0),
            (Phase::Running, FromInit::NotStarted { id, .. }) => self.probed(bench, id, false),
            (Phase::Running, FromInit::Probed { ticket, errno }) => self.probed(bench, ticket, errno == 0),
            (Phase::Running, FromInit::Connected { ticket, errno }) => {
                self.connected(bench, ticket, errno);
            }
            // Whatever else init says at whatever time means nothing.
            (_, reply) => log::debug!("sandbox {}: init says {reply:?}, out of turn", self.shared.id),
        }
    }

    fn start_program(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        let Some(plan) = self.plan.as_ref() else { return Ok(()) };
        let mut streams = Streams::open(plan.stdio)?;
        let start = Start { id: PROGRAM, streams: streams.sources, ..plan.start.clone() };
        self.phase = Phase::Starting;
        let theirs = std::mem::take(&mut streams.theirs);
        self.ask_init(bench, &ToInit::Start(Box::new(start)), theirs);
        let mut descriptors = [None, None, None];
        let mut captures = [None, None, None];
        for ((ours, descriptor), capture) in streams.ours.into_iter().zip(&mut descriptors).zip(&mut captures)
        {
            match ours {
                Some(Ours::Descriptor(fd)) => *descriptor = Some(fd),
                Some(Ours::Capture(reader, kept)) => {
                    *capture = Some(kept);
                    self.captures.push(reader);
                }
                None => {}
            }
        }
        self.shared.update(|facts| (facts.descriptors, facts.captures) = (descriptors, captures));
        Ok(())
    }

    /// The program runs.
    fn running(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        let Some(plan) = self.plan.take() else { return Ok(()) };
        self.phase = Phase::Running;
        self.started = Some(Instant::now());
        self.set_deadline(bench, self.shared.config.timeout());
        if plan.network {
            self.attach(bench, *plan)?;
        }
        let nothing_to_ask = plan::probe(&self.shared.config).is_none();
        let running = |facts: &mut Facts| {
            facts.state = State::Running;
            facts.ready = nothing_to_ask;
        };
        self.shared.update_and_tell(running, EventKind::Started, |_| ());
        if self.shared.config.readiness_probe().is_some() {
            self.start_probing(bench);
        }
        Ok(())
    }

    /// Hands the sandbox and its listeners to the engine.
    fn attach(&mut self, bench: &mut Bench<'_>, plan: Plan) -> Result<()> {
        let key = self.shared.number;
        let counters = Arc::clone(&self.shared.counters);
        bench.engine.send(engine::Command::AddSandbox { key, settings: Settings::default(), counters })?;
        self.attached = true;
        let allowed = self.shared.config.inbound_cidr_allowlist();
        for listening in plan.listeners {
            let security = match (listening.kind, &plan.identity) {
                (PortKind::Unencrypted, _) => Security::Plain,
                (kind, Some(identity)) => Security::Tls(identity.server_config(kind == PortKind::H2)?),
                (_, None) => {
                    return Err(Error::new(Code::Internal, "an encrypted tunnel has no certificate"));
                }
            };
            bench.engine.send(engine::Command::AddListener {
                key,
                container_port: listening.container_port,
                listener: listening.listener,
                security,
                allowed: allowed.map(<[_]>::to_vec),
            })?;
        }
        Ok(())
    }

    /// Ends it. The first cause counts; what is asked of the keeper is asked once.
    fn end(&mut self, bench: &mut Bench<'_>, cause: Cause) {
        self.cause.get_or_insert(cause);
        if matches!(self.phase, Phase::Ending | Phase::Leaving) {
            return;
        }
        self.stopped = Some(Instant::now());
        self.phase = Phase::Ending;
        let failure = match &self.cause {
            Some(Cause::Failed(error)) => Some(error.clone().context(format!("sandbox {}", self.shared.id))),
            _ => None,
        };
        self.shared.update(|facts| {
            facts.state = State::Ending;
            facts.failure = failure;
        });
        if self.attached {
            let (key, control) = (self.shared.number, bench.control.clone());
            let reply = Box::new(move || drop(control.send(Command::Detached(key))));
            if bench.engine.send(engine::Command::RemoveSandbox { key, reply }).is_err() {
                self.attached = false;
            }
        }
        self.close_init(bench);
        self.filter = None;
        self.plan = None;
        self.set_deadline(bench, GRACE);
        self.stop_probing(bench);
        self.ask_keeper(bench, &ToKeeper::Kill, vec![]);
    }

    /// runsc has ended, and everything below it.
    fn engine_ended(&mut self, bench: &mut Bench<'_>, status: i32, log: &[u8], output: &[u8]) {
        let text = trouble::last_words(log, output);
        if matches!(self.phase, Phase::Ending | Phase::Leaving) {
            log::debug!("sandbox {}: runsc ended with status {status}: {text}", self.shared.id);
            return;
        }
        // Init may have told of the program's end just before.
        self.hear_init(bench);
        let cause = if self.started.is_some() {
            Cause::Lost(format!("gVisor ended unexpectedly (status {status}): {text}"))
        } else {
            Cause::Failed(Error::new(Code::Engine, format!("runsc could not start the sandbox: {text}")))
        };
        self.end(bench, cause);
    }

    /// Init is gone or talks nonsense. If it was runsc that ended, the keeper tells more, and soon: its word
    /// is waited for.
    fn init_lost(&mut self, bench: &mut Bench<'_>, error: &Error) {
        log::debug!("sandbox {}: {error}", self.shared.id);
        self.close_init(bench);
        if matches!(self.phase, Phase::Ending | Phase::Leaving | Phase::Gone) {
            return;
        }
        self.doubt = Some(error.clone());
        self.set_deadline(bench, DOUBT);
    }

    /// The keeper's channel is at its end: the keeper is ending, or has.
    fn keeper_ended(&mut self, bench: &mut Bench<'_>, error: &Error) {
        self.hear_init(bench);
        let cause = self.lost(error.clone());
        self.end(bench, cause);
        bench.reactor.deregister(self.keeper.as_fd());
        self.phase = Phase::Leaving;
        let watched =
            self.key.map_or(Ok(()), |key| register(bench.reactor, self.keeper.process(), key, Lane::Front));
        if let Err(error) = watched {
            // Nothing else will tell of its end; the channel's has been seen, so that is near.
            log::error!("sandbox {}: {error}", self.shared.id);
            self.left(bench);
        }
    }

    /// What the loss of keeper or init means: before the program was started it is a failure to start.
    fn lost(&self, error: Error) -> Cause {
        match self.started {
            Some(_) => Cause::Lost(error.message().to_owned()),
            None => Cause::Failed(error),
        }
    }

    /// The keeper's process has ended, and so has everything that was below it.
    fn left(&mut self, bench: &mut Bench<'_>) {
        bench.reactor.deregister(self.keeper.process());
        if let Some((timer, _)) = self.deadline.take() {
            bench.reactor.cancel(timer);
        }
        self.keeper.reap();
        self.phase = Phase::Gone;
    }

    /// Tells the host, once nothing is left of it anywhere.
    pub(crate) fn tell(&self) {
        let cause = self.cause.clone().unwrap_or_else(|| Cause::Lost("the keeper ended".into()));
        let runtime = match (self.started, self.stopped) {
            (Some(started), Some(stopped)) => stopped.saturating_duration_since(started),
            _ => Duration::ZERO,
        };
        let exit = |reason, code, signal| Exit { reason, code, signal, runtime };
        let exit = match &cause {
            Cause::Failed(_) => None,
            Cause::Program(status) if libc::WIFSIGNALED(*status) => {
                let signal = libc::WTERMSIG(*status);
                Some(exit(ExitReason::Signalled, 128 + signal, signal))
            }
            Cause::Program(status) => Some(exit(ExitReason::Exited, libc::WEXITSTATUS(*status), 0)),
            Cause::TimedOut => Some(exit(ExitReason::TimedOut, 124, 0)),
            Cause::Terminated => Some(exit(ExitReason::Terminated, 137, 0)),
            Cause::Lost(_) => Some(exit(ExitReason::EngineLost, 137, 0)),
        };
        let ended = |facts: &mut Facts| {
            facts.state = State::Ended;
            facts.exit = exit;
        };
        match (cause, exit) {
            (Cause::Failed(error), _) => self.shared.update_and_tell(ended, EventKind::Failed, |event| {
                event.code = error.code().number();
                event.detail = error.message().to_owned();
            }),
            (cause, Some(exit)) => self.shared.update_and_tell(ended, EventKind::Exited, |event| {
                event.code = exit.code;
                event.reason = exit.reason as i32;
                if let Cause::Lost(text) = cause {
                    event.detail = text;
                }
            }),
            (_, None) => {}
        }
    }

    fn ask_keeper(&mut self, bench: &mut Bench<'_>, request: &ToKeeper, fds: Vec<OwnedFd>) {
        if let Err(error) = self.keeper.ask(request, fds) {
            if self.phase == Phase::Ending {
                // It is ending by itself; its channel's end follows.
                return;
            }
            self.end(bench, Cause::Lost(error.message().to_owned()));
        }
    }

    pub(super) fn ask_init(&mut self, bench: &mut Bench<'_>, request: &ToInit, fds: Vec<OwnedFd>) {
        let Some(init) = &mut self.init else { return };
        if let Err(error) = init.ask(request, fds) {
            self.init_lost(bench, &error);
        }
    }

    fn close_init(&mut self, bench: &mut Bench<'_>) {
        if let Some(init) = self.init.take() {
            bench.reactor.deregister(init.as_fd());
        }
    }

    fn set_deadline(&mut self, bench: &mut Bench<'_>, after: Duration) {
        if let Some((timer, _)) = self.deadline.take() {
            bench.reactor.cancel(timer);
        }
        // A time beyond what the clock can say never comes.
        if let (Some(key), Some(at)) = (self.key, bench.reactor.now().checked_add(after)) {
            self.deadline = Some((bench.reactor.schedule(at, key), at));
        }
    }
}

fn register(reactor: &Reactor, fd: BorrowedFd<'_>, key: Key, lane: Lane) -> Result<()> {
    reactor.register(fd, key, lane).map_err(|error| Error::system("watching a descriptor", &error))
}
