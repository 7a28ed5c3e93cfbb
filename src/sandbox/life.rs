//! One sandbox from its first system call to its last: the control thread's state machine.
//!
//! ```text
//! Preparing ── keeper has made namespaces and root, the links are laid ──► Booting
//! Booting ──── the gateway is open ──► Starting ──── init has started the program ──► Running
//! any ──────── the program ended, time ran out, the host asked, something failed ──► Ending
//! Ending ───── the keeper's channel is at its end ──► Leaving ── its process has ended ──► Left
//! ```
//!
//! The way up is in `birth`, the way down in `death`. Nothing here blocks for longer than a netlink message
//! takes, and nothing is ever called upwards: what the host must be told is put into [`Shared`] and its queue.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::Changes;
use super::count::Counting;
use super::doors::Doors;
use super::exec::{Execs, Executed};
use super::files::{FileOutcome, FileTask};
use super::gateway::{Gateway, Purpose};
use super::idle::{Idle, Input};
use super::liveness::Owed;
use super::loopback::Loopbacks;
use super::plan::Plan;
use super::probing::Probing;
use super::stats::Gathering;
use super::stop::Stopping;
use super::{Control, Shared};
use crate::cgroup::Groups;
use crate::config::Config;
use crate::engine;
use crate::error::{Error, Result};
use crate::event::EventKind;
use crate::keeper::Keeper;
use crate::keeper::wire::init::{Reply as FromInit, Request as ToInit};
use crate::keeper::wire::keeper::{Request as ToKeeper, SocketKind};
use crate::process::{CaptureReader, Init};
use crate::reactor::{Admission, Budget, Key, Lane, Permit, Reactor, Slab, TimerId, Use};

/// How long a sandbox may take to start. Far beyond what it takes (a tenth of a second) even on a host under
/// heavy load; what hangs for longer won't come.
pub(super) const START: Duration = Duration::from_secs(60);
/// Init's number for the sandbox's program.
pub(super) const PROGRAM: u32 = 1;
/// How many messages of one sandbox are heard before the others get their turn: init may be hostile and
/// write as fast as it is read.
const MESSAGES: usize = 32;

/// What the control thread lends to a life.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// Its poll loop.
    pub(crate) reactor: &'a mut Reactor,
    /// The way to the engine thread.
    pub(crate) engine: &'a engine::Handle,
    /// The way back to the control thread itself.
    pub(crate) control: &'a Control,
    /// The process's descriptors.
    pub(crate) budget: &'a Budget,
    /// The executed programs of all sandboxes.
    pub(crate) processes: &'a mut Slab<Executed>,
    /// The standard inputs that are watched.
    pub(crate) inputs: &'a mut Slab<Input>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Preparing,
    Booting,
    Starting,
    Running,
    Ending,
    Leaving,
    Left,
}

/// Whether its limit of memory is held by the keeper's looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    None,
    /// It is to be, and nothing is started before the keeper has seen its memory.
    Unseen,
    Seen,
}

/// Why it ends; the first reason counts.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    /// It could not be created.
    Failed(Error),
    /// The program ended, with this status of waitpid(2).
    Program(i32),
    TimedOut,
    Idle,
    Terminated,
    /// It needed more memory than it may have: why that is known.
    OutOfMemory(String),
    /// Keeper, runsc or init were lost.
    Lost(Error),
}

impl Cause {
    /// In words, for what comes later.
    pub(super) fn text(&self, config: &Config) -> String {
        let seconds = |time: Duration| time.as_secs_f64();
        match self {
            Self::Failed(error) => format!("it could not be created: {error}"),
            Self::Program(status) if libc::WIFSIGNALED(*status) => {
                format!("its program was ended by signal {}", libc::WTERMSIG(*status))
            }
            Self::Program(status) => format!("its program exited with code {}", libc::WEXITSTATUS(*status)),
            Self::TimedOut => format!("timed out after {} s", seconds(config.timeout())),
            Self::Idle => format!("idle for {} s", seconds(config.idle_timeout().unwrap_or_default())),
            Self::Terminated => "terminated".to_owned(),
            Self::OutOfMemory(why) => format!("out of memory: {why}"),
            Self::Lost(error) => format!("engine lost: {error}"),
        }
    }
}

/// What must be there before runsc is started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prepared {
    /// The links and addresses that runsc looks for.
    pub(super) links: bool,
    /// The root file system.
    pub(super) files: bool,
    /// The sockets of G that what leaves is going to be delivered to.
    pub(super) relays: bool,
}

impl Prepared {
    pub(super) fn is_complete(self) -> bool {
        self.links && self.files && self.relays
    }
}

/// A sandbox in the control thread's hands.
#[derive(Debug)]
pub(crate) struct Life {
    /// Its key in the control thread's loop; `None` until it is watched.
    pub(super) key: Option<Key>,
    pub(super) shared: Arc<Shared>,
    pub(super) plan: Option<Box<Plan>>,
    pub(super) doors: Option<Doors>,
    pub(super) phase: Phase,
    pub(super) prepared: Prepared,
    pub(super) cause: Option<Cause>,
    pub(super) keeper: Keeper,
    pub(super) init: Option<Init>,
    /// When it is tried again to send to init.
    retry: Option<TimerId>,
    /// What init was asked and has not answered.
    pub(super) owed: Owed,
    pub(super) gateway: Gateway,
    pub(super) changes: Changes,
    /// Init has said hello.
    pub(super) greeted: bool,
    /// Whether the engine holds descriptors of it.
    pub(super) attached: bool,
    deadline: Option<(TimerId, Instant)>,
    pub(super) probing: Probing,
    /// The last number given to a request to init; the program has the first.
    tickets: u32,
    pub(super) loopbacks: Loopbacks,
    /// Its control groups, and how often it was tried to remove them.
    pub(super) groups: Groups,
    pub(super) removals: u32,
    /// Who waits for what the keeper says of its usage.
    pub(super) curious: Vec<Arc<Gathering>>,
    pub(super) counting: Option<Counting>,
    pub(super) execs: Execs,
    pub(super) idle: Idle,
    /// Operations on files that go on, and are use of the sandbox.
    pub(super) files: usize,
    pub(super) stopping: Option<Stopping>,
    pub(super) watch: Watch,
    /// Init was lost, and the keeper has not said why yet.
    pub(super) doubt: Option<Error>,
    pub(super) started: Option<Instant>,
    pub(super) stopped: Option<Instant>,
    /// How often the keeper was killed in vain.
    pub(super) kills: u32,
    pub(super) captures: Vec<CaptureReader>,
    pub(super) admission: Admission,
}

impl Life {
    /// Begins a sandbox: starts its keeper and asks for namespaces and root file system.
    pub(crate) fn begin(
        shared: Arc<Shared>,
        mut plan: Plan,
        doors: Doors,
        admission: Admission,
    ) -> Result<Self> {
        let mut keeper = Keeper::start(&plan.means.program)?;
        let setup = mem::take(&mut plan.setup);
        let watch = if setup.watched_memory == 0 { Watch::None } else { Watch::Unseen };
        let mut groups = mem::take(&mut plan.groups);
        let parents = mem::take(&mut groups.parents);
        if let Err(error) = keeper.ask(&ToKeeper::Setup(Box::new(setup)), parents) {
            // It is ending already, and its channel tells why.
            log::debug!("sandbox {}: {error}", shared.id);
        }
        shared.update(|facts| facts.tunnels = Some(doors.tunnels.clone()));
        Ok(Self {
            key: None,
            phase: Phase::Preparing,
            prepared: Prepared { links: !plan.network, files: false, relays: !plan.network },
            plan: Some(Box::new(plan)),
            doors: Some(doors),
            shared,
            cause: None,
            keeper,
            init: None,
            retry: None,
            owed: Owed::default(),
            gateway: Gateway::default(),
            changes: Changes::default(),
            greeted: false,
            attached: false,
            deadline: None,
            probing: Probing::default(),
            tickets: PROGRAM,
            loopbacks: Loopbacks::default(),
            groups,
            removals: 0,
            curious: Vec::new(),
            counting: None,
            execs: Execs::default(),
            idle: Idle::default(),
            files: 0,
            stopping: None,
            watch,
            doubt: None,
            started: None,
            stopped: None,
            kills: 0,
            captures: Vec::new(),
            admission,
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

    /// Captures that were opened and are yet to be read.
    pub(crate) fn take_captures(&mut self) -> Vec<CaptureReader> {
        mem::take(&mut self.captures)
    }

    /// The sandbox it is the life of.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A descriptor is ready: the keeper's channel or process (front), or init's channel (back).
    pub(crate) fn ready(&mut self, bench: &mut Bench<'_>, lane: Lane) {
        match lane {
            Lane::Front if self.phase >= Phase::Leaving => self.left(bench),
            Lane::Front => self.hear_keeper(bench),
            Lane::Back => self.hear_init(bench),
        }
    }

    /// There was more to hear than its turn allowed.
    pub(crate) fn again(&mut self, bench: &mut Bench<'_>) {
        if self.phase < Phase::Leaving {
            self.hear_keeper(bench);
        }
        self.hear_init(bench);
    }

    /// One of its timers has run out.
    pub(crate) fn timer(&mut self, bench: &mut Bench<'_>) {
        let now = bench.reactor.now();
        if self.deadline.is_some_and(|(_, at)| now >= at) {
            self.deadline = None;
            self.late(bench);
        }
        if self.retry.take_if(|timer| timer.at() <= now).is_some() {
            self.look_at_init(bench);
        }
        self.remove_groups(bench);
        self.probe_again(bench);
        self.mind_stop(bench);
        self.mind_idleness(bench);
    }

    /// The host asks for its end.
    pub(crate) fn terminate(&mut self, bench: &mut Bench<'_>) {
        self.end(bench, Cause::Terminated);
    }

    /// The host sends the program a signal.
    pub(crate) fn signal(&mut self, bench: &mut Bench<'_>, signal: i32) {
        if self.is_running() {
            self.ask_init(bench, &ToInit::Signal { id: PROGRAM, signal, group: false });
        }
    }

    /// Has init begin an operation on files; its number there.
    pub(crate) fn start_file(&mut self, bench: &mut Bench<'_>, running: &mut FileTask) -> Result<u32> {
        let may = self.init.is_some() && self.phase == Phase::Running;
        let order = running.order().filter(|_| may).ok_or_else(|| running.ended())?;
        let permit = bench.budget.acquire(self.shared.number, Use::Host, order.fds.len());
        let permit = permit.ok_or_else(|| running.fd_limit_error())?;
        let ticket = self.ticket();
        let request = ToInit::File { ticket, task: Box::new(order.task) };
        self.give_init(bench, &request, order.fds, Some(permit));
        self.files += usize::from(running.is_use());
        Ok(ticket)
    }

    /// An operation on files has ended. A helper that nobody waits for any more is ended too.
    pub(crate) fn file_ended(&mut self, bench: &mut Bench<'_>, ended: FileOutcome) {
        if ended.helper_may_run && self.is_running() {
            self.ask_init(bench, &ToInit::EndFile { ticket: ended.ticket });
        }
        if ended.was_use {
            self.files = self.files.saturating_sub(1);
            self.note_activity(bench);
        }
    }

    /// The engine wants sockets of G.
    pub(crate) fn sockets(&mut self, bench: &mut Bench<'_>, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (kind, purpose) = (SocketKind::default(), Purpose::Tunnels as u32);
        self.ask_keeper(bench, &ToKeeper::Sockets { kind, count, purpose }, vec![]);
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
        // Read before a failed write is acted on: what the keeper said last is the reason for it.
        let flushed = self.keeper.flush();
        for _ in 0..MESSAGES {
            match self.keeper.hear() {
                Ok(Some((reply, fds))) => self.keeper_says(bench, reply, fds),
                Ok(None) => {
                    return match flushed {
                        Ok(()) => {}
                        Err(error) => self.keeper_ended(bench, error),
                    };
                }
                Err(error) => return self.keeper_ended(bench, error),
            }
            if bench.reactor.is_over_time() {
                break;
            }
        }
        self.go_on(bench);
    }

    pub(super) fn hear_init(&mut self, bench: &mut Bench<'_>) {
        let Some(init) = &mut self.init else { return };
        let flushed = init.flush();
        self.mind_backlog(bench);
        for _ in 0..MESSAGES {
            let Some(init) = &mut self.init else { return };
            match init.hear() {
                Ok(Some(reply)) => self.init_says(bench, reply),
                Ok(None) => {
                    return match flushed {
                        Ok(()) => {}
                        Err(error) => self.init_lost(bench, error),
                    };
                }
                Err(error) => return self.init_lost(bench, error),
            }
            if bench.reactor.is_over_time() {
                break;
            }
        }
        self.go_on(bench);
    }

    fn go_on(&self, bench: &mut Bench<'_>) {
        if let Some(key) = self.key {
            bench.reactor.again(key);
        }
    }

    fn init_says(&mut self, bench: &mut Bench<'_>, reply: FromInit) {
        self.owed.heard(reply);
        match (self.phase, reply) {
            (Phase::Booting | Phase::Starting, _) => self.init_says_at_birth(bench, reply),
            (Phase::Running, FromInit::Exited { id: PROGRAM, status }) => self.program_ended(bench, status),
            (Phase::Running, FromInit::Started { id }) => self.exec_started(bench, id),
            (Phase::Running, FromInit::Exited { id, status }) if self.execs.know(id) => {
                self.exec_ended(bench, id, status);
            }
            (Phase::Running, FromInit::NotStarted { id, step, errno }) if self.execs.know(id) => {
                self.exec_refused(bench, id, step, errno);
            }
            (Phase::Running, FromInit::Exited { id, status }) => self.probed(bench, id, status == 0),
            (Phase::Running, FromInit::NotStarted { id, .. }) => self.probed(bench, id, false),
            (Phase::Running, FromInit::Probed { ticket, errno }) => self.probed(bench, ticket, errno == 0),
            (Phase::Running, FromInit::Connected { ticket, errno }) => self.connected(bench, ticket, errno),
            (Phase::Running, FromInit::Counted { ticket, processes }) => self.counted(ticket, processes),
            // Whatever else init says at whatever time means nothing.
            _ => {}
        }
    }

    pub(super) fn ask_keeper(&mut self, bench: &mut Bench<'_>, request: &ToKeeper, fds: Vec<OwnedFd>) {
        if self.phase >= Phase::Leaving {
            return;
        }
        if let Err(error) = self.keeper.ask(request, fds) {
            // It is ending; its channel tells why, and the channel's end follows.
            log::debug!("sandbox {}: {error}", self.shared.id);
            self.hear_keeper(bench);
        }
    }

    pub(super) fn ask_init(&mut self, bench: &mut Bench<'_>, request: &ToInit) {
        self.give_init(bench, request, vec![], None);
    }

    /// Asks init for something that takes descriptors, and a permit for those unless the sandbox's own covers them.
    pub(super) fn give_init(
        &mut self,
        bench: &mut Bench<'_>,
        request: &ToInit,
        fds: Vec<OwnedFd>,
        permit: Option<Permit>,
    ) {
        let running = self.is_running();
        let Some(init) = &mut self.init else { return };
        if running {
            self.owed.asked(request);
        }
        match init.ask(request, fds, permit) {
            Ok(()) => self.mind_backlog(bench),
            Err(error) => self.init_lost(bench, error),
        }
    }

    /// What could not be sent to init for now is tried again.
    fn mind_backlog(&mut self, bench: &mut Bench<'_>) {
        if self.retry.is_none()
            && self.init.as_ref().is_some_and(Init::is_behind)
            && let Some(key) = self.key
        {
            self.retry = Some(bench.reactor.schedule(bench.reactor.now() + Init::LOOK, key));
        }
    }

    fn look_at_init(&mut self, bench: &mut Bench<'_>) {
        match self.init.as_mut().map_or(Ok(()), Init::look) {
            Ok(()) => self.hear_init(bench),
            Err(error) => self.init_lost(bench, error),
        }
    }

    pub(super) fn set_deadline(&mut self, bench: &mut Bench<'_>, after: Duration) {
        self.clear_deadline(bench);
        // On overflow there is no deadline.
        if let (Some(key), Some(at)) = (self.key, bench.reactor.now().checked_add(after)) {
            self.deadline = Some((bench.reactor.schedule(at, key), at));
        }
    }

    pub(super) fn clear_deadline(&mut self, bench: &mut Bench<'_>) {
        if let Some((timer, _)) = self.deadline.take() {
            bench.reactor.cancel(timer);
        }
    }
}

/// Has a descriptor watched.
pub(super) fn register(reactor: &Reactor, fd: BorrowedFd<'_>, key: Key, lane: Lane) -> Result<()> {
    reactor.register(fd, key, lane).map_err(|error| Error::system("watching a descriptor", &error))
}
