//! A sandbox's life, as decisions: what has happened goes in, what is to be done comes out.
//!
//! ```text
//! Preparing ─ the keeper has made namespaces and root, the links are laid ─► Booting (a member of the pool: Warm)
//! Warm ────── init runs, and a creation takes the member ─► Booting
//! Booting ─── runsc is asked for, the gateway is open ─► Starting ─── init has started the program ─► Running
//! any ─────── the program ended, time ran out, the host asked, something failed ─► Ending
//! Running ─── the same, with an exit snapshot to take ─► Saving ─── it is stored, or can't be ─► Ending
//! Ending ──── the keeper's channel has ended ─► Reaping ─── its process has ended ─► Clearing
//! Clearing ── init's channel, the engine, the rules and the control groups are gone ─► Gone
//! ```
//!
//! Nothing here has a descriptor, a thread or a clock: every order of events is tested in microseconds. The driver
//! ([`super::driver`]) reports events and carries the actions out.
//!
//! That nothing is left of a sandbox is known by three things that can't be forged: the keeper's process has ended; no
//! process holds init's end of its channel any more, so the sentry, which holds it, is gone; and the engine has closed
//! its descriptors.

mod cause;
mod event;
mod exit_snapshot;
mod idle;
mod probe;
mod running;
mod settings;
mod shutdown;
mod startup;
mod stop;
mod unanswered;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub(super) use cause::{Cause, Outcome};
pub(super) use event::{Action, Event, Notice, Observed, Part};
pub(super) use exit_snapshot::ExitSnapshot;
#[cfg(test)]
use exit_snapshot::{EXIT_SNAPSHOT_TIMEOUT, EXIT_SNAPSHOT_WAIT};
use idle::Idle;
use probe::Probe;
pub(super) use probe::ProbeSettings;
pub(crate) use settings::Depth;
pub(super) use settings::Settings;
use stop::Stop;
use unanswered::Unanswered;

use crate::error::{Code, Error};

/// How long a sandbox may take to start. Far beyond what it takes (a tenth of a second) even on a host under
/// heavy load; what hangs for longer won't come.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the keeper may take to end everything before it is killed, which ends everything too.
pub(super) const KILL_GRACE: Duration = Duration::from_secs(5);
/// How much longer than its own time a snapshot may take: pausing and resuming have bounds of their own.
const SNAPSHOT_GRACE: Duration = Duration::from_secs(30);
/// How often a keeper is killed before it is given up: nothing ends one that hangs in the kernel.
const MAX_KILLS: u32 = 6;
/// How long the keeper's report on a suspected loss is waited for.
const LOSS_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between two attempts to remove a control group, and how many there are.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(5);
const MAX_REMOVALS: u32 = 2000;

/// Init's number for the sandbox's program. Other requests have later numbers.
pub(super) const PROGRAM: u32 = 1;

/// Where a sandbox is in its life. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The keeper makes namespaces and root file system.
    Preparing,
    /// A member of the pool: runsc is starting, or init waits until a creation takes it; a spare's runsc is held.
    Warm,
    /// runsc is starting, the gateway is being opened.
    Booting,
    /// Init was asked to start the program.
    Starting,
    /// The program runs, or init alone if there is none.
    Running,
    /// The programs were killed, and an exit snapshot is taken. Init and the keeper run.
    Saving,
    /// The keeper was asked to kill everything.
    Ending,
    /// The keeper's channel has ended; its process hasn't.
    Reaping,
    /// The keeper is gone; something else isn't yet.
    Clearing,
    /// Nothing is left.
    Gone,
}

/// What is done about an event.
type Actions = Vec<Action>;

/// Numbers for requests to init.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(super) struct Tickets(u32);

impl Default for Tickets {
    fn default() -> Self {
        Self(PROGRAM)
    }
}

impl Tickets {
    /// A number that isn't the program's.
    pub(super) fn next(&mut self) -> u32 {
        self.0 = self.0.checked_add(1).unwrap_or(PROGRAM + 1);
        self.0
    }
}

/// The state of one sandbox's life.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(super) struct Lifecycle {
    settings: Settings,
    phase: Phase,
    links: bool,
    files: bool,
    relays: bool,
    init_is_ready: bool,
    gateway_is_open: bool,
    /// The keeper is to watch the memory and has not seen it yet.
    memory_is_unseen: bool,
    tunnels_are_asked: bool,
    /// The program was started.
    started: bool,
    /// What holds something of the sandbox.
    keeper_is_open: bool,
    init_is_open: bool,
    engine_is_attached: bool,
    rules_are_offloaded: bool,
    groups_exist: bool,
    cause: Option<Cause>,
    /// What failed as it does when runsc or the keeper ends. It counts when the deadline comes first.
    pending_loss: Option<Error>,
    /// Of the phase, or of the pending loss.
    deadline: Option<Instant>,
    kills: u32,
    removals: u32,
    next_removal: Option<Instant>,
    tickets: Tickets,
    idle: Idle,
    stop: Option<Stop>,
    probe: Probe,
    unanswered: Unanswered,
    /// When the snapshot that is being taken must have ended.
    snapshot: Option<Instant>,
    exit_snapshot: ExitSnapshot,
    /// The host has asked for the end.
    termination_is_requested: bool,
}

impl Lifecycle {
    /// A sandbox whose keeper was just started.
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self {
            phase: Phase::Preparing,
            links: !settings.network,
            files: false,
            relays: !settings.network,
            init_is_ready: false,
            gateway_is_open: !settings.network,
            memory_is_unseen: settings.watches_memory,
            tunnels_are_asked: false,
            started: false,
            keeper_is_open: true,
            init_is_open: false,
            engine_is_attached: false,
            rules_are_offloaded: false,
            groups_exist: settings.has_groups,
            cause: None,
            pending_loss: None,
            deadline: now.checked_add(START_TIMEOUT),
            kills: 0,
            removals: 0,
            next_removal: None,
            tickets: Tickets::default(),
            idle: Idle::new(settings.idle_timeout),
            stop: None,
            probe: Probe::new(settings.probe),
            unanswered: Unanswered::default(),
            snapshot: None,
            exit_snapshot: ExitSnapshot::new(settings.exit_snapshot),
            termination_is_requested: false,
            settings,
        }
    }

    /// Decides what is done about an event. Once the sandbox is gone, nothing is.
    pub(super) fn handle(&mut self, now: Instant, event: Event) -> Actions {
        let mut actions = Actions::new();
        if self.phase == Phase::Gone {
            return actions;
        }
        let todo = &mut actions;
        match event {
            Event::Prepared(part) => self.on_prepared(part, todo),
            Event::RunscAsked => self.on_runsc_asked(now, todo),
            Event::InitReady => self.on_init_ready(now, todo),
            Event::MemoryLookedFor { found } => self.on_memory_looked_for(now, found, todo),
            Event::Taken(settings) => self.on_taken(now, *settings, todo),
            Event::GatewayOpen => self.on_gateway_open(todo),
            Event::ProgramStarted if self.phase == Phase::Starting => self.open_tunnels(todo),
            Event::TunnelsOpen => self.on_tunnels_open(now, todo),
            Event::Failed(error) => self.end(now, Cause::Failed(error), todo),
            Event::LossSuspected(error) => self.suspect_loss(now, error),
            Event::ProgramExited(status) => self.on_program_exit(now, status, todo),
            Event::InitLost(error) => self.on_init_lost(now, error, todo),
            Event::RunscExited(error) => self.end(now, Cause::Lost(error), todo),
            Event::OutOfMemory(why) => self.on_out_of_memory(now, why, todo),
            Event::LifetimeExpired => self.on_lifetime_expired(now, todo),
            Event::KeeperClosed(error) => self.on_keeper_closed(now, error, todo),
            Event::KeeperExited if self.phase == Phase::Reaping => self.on_keeper_exit(now, todo),
            Event::Detached => self.engine_is_attached = false,
            Event::RulesOffloaded => self.rules_are_offloaded = true,
            Event::RulesReclaimed => self.rules_are_offloaded = false,
            Event::GroupsRemoved if self.phase == Phase::Clearing => self.groups_exist = false,
            Event::GroupsBusy => self.on_groups_busy(now, todo),
            Event::TerminateRequested => self.on_terminate_request(now, todo),
            Event::HandleClosed => self.on_handle_closed(now, todo),
            Event::StopRequested { signal, grace } => self.on_stop_request(now, signal, grace, todo),
            Event::Drained => self.on_drained(now, todo),
            Event::Activity => self.used(now),
            Event::ExecsBusy => self.idle.set_execs(true),
            Event::ExecsIdle => self.on_execs_idle(now, todo),
            Event::FileBegan => self.idle.file_began(),
            Event::FileEnded => {
                self.idle.file_ended();
                self.used(now);
            }
            Event::SnapshotBegan { time } => self.on_snapshot_began(now, time),
            Event::SnapshotEnded { lost } => self.on_snapshot_ended(now, lost, todo),
            Event::ExitSnapshotBegan => self.on_exit_snapshot_began(now, todo),
            Event::ExitSnapshotEnded => self.on_exit_snapshot_ended(now, todo),
            Event::ProbeRequested => self.want_probe(now, todo),
            Event::ProbeAnswered { ticket, ready } => self.on_probe_answer(now, ticket, ready, todo),
            Event::InitAsked { ticket } if self.is_running() => self.unanswered.asked(ticket),
            Event::InitAnswered { ticket } => self.unanswered.answered(ticket),
            Event::SilenceChecked { watched } => self.check_silence(now, watched, todo),
            Event::TimePassed(observed) => self.on_time(now, observed, todo),
            // Too early or too late to mean anything.
            Event::ProgramStarted | Event::KeeperExited | Event::GroupsRemoved | Event::InitAsked { .. } => {}
        }
        self.check_gone(todo);
        actions
    }

    /// When [`Event::TimePassed`] is to be reported next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let running = [
            self.stop.as_ref().map(Stop::deadline),
            self.idle.deadline(),
            self.probe.deadline(),
            self.snapshot,
        ];
        let running = running.into_iter().filter(|_| self.is_running());
        running.chain([self.deadline, self.next_removal]).flatten().min()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether it is a member of the pool that no creation has taken.
    pub(super) fn is_member(&self) -> bool {
        self.settings.depth != Depth::Program
    }

    /// Whether it is one whose runsc is held.
    pub(super) fn is_held(&self) -> bool {
        self.settings.depth == Depth::Runsc
    }

    /// Whether a creation can take it.
    pub(super) fn can_be_taken(&self) -> bool {
        let waits = self.is_held() || self.init_is_ready && !self.memory_is_unseen;
        let is_whole = self.keeper_is_open && self.init_is_open && self.pending_loss.is_none();
        self.phase == Phase::Warm && waits && is_whole
    }

    /// Whether the program runs.
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// Whether an exit snapshot is taken.
    pub(super) fn is_saving(&self) -> bool {
        self.phase == Phase::Saving
    }

    /// What became of the exit snapshot.
    pub(super) fn exit_snapshot(&self) -> ExitSnapshot {
        self.exit_snapshot
    }

    /// Whether the sandbox is ending or has ended.
    pub(super) fn is_ending(&self) -> bool {
        self.phase >= Phase::Saving
    }

    /// Whether nothing is left of the sandbox.
    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether the program was ever started.
    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// Whether the keeper can be asked for something.
    pub(super) fn keeper_is_open(&self) -> bool {
        self.keeper_is_open
    }

    /// Whether the host has asked for a graceful end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Numbers for requests to init.
    pub(super) fn tickets(&mut self) -> &mut Tickets {
        &mut self.tickets
    }

    /// Why the sandbox is ending. It may turn out to be another cause later.
    pub(super) fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Why the sandbox is ending, in words.
    pub(super) fn why(&self) -> Option<String> {
        self.cause.as_ref().map(|cause| cause.text(&self.settings))
    }

    /// How executed programs end that the sandbox's end takes along.
    pub(super) fn outcome_of_execs(&self) -> (crate::sandbox::ExitReason, i32) {
        let lost = || Cause::Lost(Error::new(Code::Engine, "the keeper ended")).of_execs();
        self.cause.as_ref().map_or_else(lost, Cause::of_execs)
    }

    /// How the sandbox has ended.
    pub(super) fn outcome(&self) -> Outcome {
        let lost = || Cause::Lost(Error::new(Code::Engine, "the keeper ended"));
        self.cause.clone().unwrap_or_else(lost).outcome()
    }

    /// Ends the life at once after a bug, which is the cause whatever else was.
    pub(super) fn abandon(&mut self, error: Error) {
        self.cause = Some(if self.started { Cause::Lost(error) } else { Cause::Failed(error) });
        self.phase = Phase::Gone;
        (self.deadline, self.next_removal) = (None, None);
    }
}
