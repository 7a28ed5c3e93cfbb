//! Carries one sandbox through its life: it owns keeper, init and gateway, reports what happens to
//! [`Lifecycle`](super::lifecycle::Lifecycle), and does what that decides.
//!
//! Nothing here blocks for longer than a netlink message takes, and nothing is called upwards: what the host is to know
//! is put into [`Shared`] and its queue.
//!
//! One file: it is all that the control thread can call, and each call is an event for the lifecycle or a part's own.

mod actions;
mod life_check;
mod messages;
mod shutdown;
mod startup;
mod warm;

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::archive::{ArchiveTask, ArchiveWriter};
use super::exec::{ExecCx, Execs, Executed, Launch, ProgramRequest};
use super::files::{FileOutcome, FileTask};
use super::gateway::{self, Gateway};
use super::init_link::{InitLink, register};
use super::input::{Input, InputWatch};
use super::lifecycle::{Depth, Event, Lifecycle, Observed, PROGRAM, Phase, ProbeSettings, Settings};
use super::listeners::Listeners;
use super::loopback::{LoopbackCx, Loopbacks};
use super::plan::{self, Plan, Question};
use super::policy_update::{PolicyJob, PolicyTask, PolicyUpdates};
use super::stats::Gathering;
use super::usage::UsageQueries;
use super::{Control, Shared, denials};
use crate::cgroup::Groups;
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::event::{EventKind, Operation};
use crate::image::{Images, Snapshot};
use crate::keeper::Keeper;
use crate::keeper::wire::init::Request as ToInit;
use crate::keeper::wire::keeper::Request as ToKeeper;
use crate::process::CaptureReader;
use crate::reactor::{Admission, FdBudget, FdSlot, Key, Reactor, Slab, TimerId, Use};
use crate::{egress, engine};
use life_check::LifeCheck;
pub(crate) use warm::{Stage, admit};

/// What the control thread lends to a driver for one call: its own fields.
#[derive(Debug)]
pub(crate) struct ControlCx<'a> {
    /// Its poll loop.
    pub(crate) reactor: &'a mut Reactor,
    /// The way to the engine thread.
    pub(crate) engine: &'a engine::Handle,
    /// The way back to the control thread itself.
    pub(crate) control: &'a Control,
    /// The process's descriptors.
    pub(crate) budget: &'a FdBudget,
    /// The runtime's images, as long as there is the runtime.
    pub(crate) images: &'a Weak<Images>,
    /// The executed programs of all sandboxes.
    pub(crate) processes: &'a mut Slab<Executed>,
    /// The standard inputs that are watched.
    pub(crate) inputs: &'a mut Slab<Input>,
}

/// One sandbox, in the control thread.
#[derive(Debug)]
pub(crate) struct SandboxDriver {
    /// Its key in the control thread's loop; `None` until it is watched.
    key: Option<Key>,
    shared: Arc<Shared>,
    lifecycle: Lifecycle,
    /// Events that the lifecycle has not handled yet.
    events: VecDeque<Event>,
    is_handling: bool,
    /// The lifecycle's next deadline.
    timer: Option<TimerId>,
    keeper: Keeper,
    init: InitLink,
    groups: Groups,
    /// What the start needs, until the program runs.
    plan: Option<Box<Plan>>,
    listeners: Option<Listeners>,
    gateway: Gateway,
    updates: PolicyUpdates,
    usage: UsageQueries,
    loopbacks: Loopbacks,
    execs: Execs,
    input: InputWatch,
    archive: ArchiveWriter,
    /// The exit snapshot that is being taken; dropping it cancels it.
    saving: Option<Operation<Snapshot>>,
    /// What it has ended with.
    saved: Option<Result<Arc<Snapshot>>>,
    /// Captures that were opened and that the control thread is yet to read.
    captures: Vec<CaptureReader>,
    /// Init has left something unanswered since the last check.
    silence_is_checked_soon: bool,
    life_check: Option<LifeCheck>,
    /// The keeper has started runsc.
    runsc_has_started: bool,
    admission: Option<Admission>,
}

/// A driver that handles its events, until that is over, by a panic too.
struct Handling<'a>(&'a mut SandboxDriver);

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.0.is_handling = false;
    }
}

/// What the configuration says about the sandbox's life.
fn settings(config: &Config, plan: &Plan, groups: &Groups, depth: Depth) -> Settings {
    let probe = plan::probe(config).map(|(question, interval)| ProbeSettings {
        interval,
        by_command: matches!(question, Question::Command(_)),
        from_start: config.readiness_probe().is_some(),
    });
    let has_command = !config.command().is_empty();
    Settings {
        depth,
        network: plan.network,
        has_command,
        has_start: has_command || plan.start.directory != b"/" || !plan.start.files.is_empty(),
        watches_memory: plan.setup.watched_memory != 0,
        has_groups: !groups.are_gone(),
        timeout: config.timeout(),
        idle_timeout: config.idle_timeout(),
        probe,
        exit_snapshot: config.exit_snapshot().is_some(),
    }
}

impl SandboxDriver {
    /// Begins a sandbox, or a member of the pool: starts its keeper and asks for namespaces and root file system.
    pub(crate) fn begin(
        now: Instant,
        shared: Arc<Shared>,
        mut plan: Plan,
        listeners: Listeners,
        admission: Admission,
        depth: Depth,
    ) -> Result<Self> {
        let mut keeper = Keeper::start(&plan.host.program)?;
        let mut groups = mem::take(&mut plan.groups);
        let lifecycle = Lifecycle::new(settings(&shared.config, &plan, &groups, depth), now);
        let setup = mem::take(&mut plan.setup);
        let mut descriptors = mem::take(&mut groups.parents);
        descriptors.append(&mut plan.images);
        if let Err(error) = keeper.ask(&ToKeeper::Setup(Box::new(setup)), descriptors) {
            // It is ending already, and its channel tells why.
            log::debug!("sandbox {}: {error}", shared.id);
        }
        shared.update(|facts| facts.tunnels = Some(listeners.tunnels().clone()));
        Ok(Self {
            key: None,
            shared,
            lifecycle,
            events: VecDeque::new(),
            is_handling: false,
            timer: None,
            keeper,
            init: InitLink::default(),
            groups,
            plan: Some(Box::new(plan)),
            listeners: Some(listeners),
            gateway: Gateway::default(),
            updates: PolicyUpdates::default(),
            usage: UsageQueries::default(),
            loopbacks: Loopbacks::default(),
            execs: Execs::default(),
            input: InputWatch::default(),
            archive: ArchiveWriter::default(),
            saving: None,
            saved: None,
            captures: Vec::new(),
            silence_is_checked_soon: false,
            life_check: None,
            runsc_has_started: false,
            admission: Some(admission),
        })
    }

    /// Has its descriptors watched under this key from now on.
    pub(crate) fn watch(&mut self, cx: &mut ControlCx<'_>, key: Key) {
        self.key = Some(key);
        if let Err(error) = register(cx.reactor, self.keeper.as_fd(), key, FdSlot::First) {
            self.handle(cx, Event::Failed(error));
        }
    }

    /// Captures that were opened and are yet to be read.
    pub(crate) fn take_captures(&mut self) -> Vec<CaptureReader> {
        mem::take(&mut self.captures)
    }

    /// What the host's threads know of the sandbox.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether nothing of the sandbox is left, here or in the engine.
    pub(crate) fn is_gone(&self) -> bool {
        self.lifecycle.is_gone()
    }

    /// Reports an event to the lifecycle and carries out what follows. While that goes on, further events wait.
    fn handle(&mut self, cx: &mut ControlCx<'_>, event: Event) {
        self.events.push_back(event);
        if mem::replace(&mut self.is_handling, true) {
            return;
        }
        let Handling(driver) = &mut Handling(self);
        while let Some(event) = driver.events.pop_front() {
            for action in driver.lifecycle.handle(cx.reactor.now(), event) {
                driver.carry_out(cx, action);
            }
        }
    }

    /// Reports what the components have noticed, and sets the timer. Every call of the control thread's ends with this.
    pub(crate) fn settle(&mut self, cx: &mut ControlCx<'_>) {
        loop {
            self.report_asked(cx);
            if let Some(error) = self.init.take_error() {
                self.handle(cx, Event::InitLost(error));
            } else if self.execs.take_change() {
                let event = if self.execs.is_empty() { Event::ExecsIdle } else { Event::ExecsBusy };
                self.handle(cx, event);
            } else {
                break;
            }
        }
        let next = self.lifecycle.next_deadline();
        if self.timer.map(TimerId::at) != next {
            if let Some(timer) = self.timer.take() {
                cx.reactor.cancel(timer);
            }
            self.timer = next.zip(self.key).map(|(at, key)| cx.reactor.schedule(at, key));
        }
    }

    /// Reports what init was asked. An answer is read only after that, since it ends the wait for it.
    fn report_asked(&mut self, cx: &mut ControlCx<'_>) {
        for ticket in self.init.take_asked() {
            self.handle(cx, Event::InitAsked { ticket });
        }
    }

    /// A descriptor is ready: the keeper's channel or process (front), or init's channel (back).
    pub(crate) fn ready(&mut self, cx: &mut ControlCx<'_>, slot: FdSlot) {
        match slot {
            FdSlot::First if self.lifecycle.keeper_is_open() => self.read_keeper(cx),
            FdSlot::First => self.check_keeper_exit(cx),
            FdSlot::Second => self.read_init(cx),
        }
    }

    /// There was more to read than its turn allowed.
    pub(crate) fn again(&mut self, cx: &mut ControlCx<'_>) {
        if self.lifecycle.keeper_is_open() {
            self.read_keeper(cx);
        }
        self.read_init(cx);
    }

    /// One of its timers has run out.
    pub(crate) fn timer(&mut self, cx: &mut ControlCx<'_>) {
        let now = cx.reactor.now();
        self.timer.take_if(|timer| timer.at() <= now);
        if self.lifecycle.next_deadline().is_some_and(|at| at <= now) {
            // Whether it has ended matters only while its end is waited for.
            let keeper_exited = self.lifecycle.is_ending() && self.keeper.has_ended();
            let last_byte = self.shared.counters.last_active();
            self.handle(cx, Event::TimePassed(Observed { keeper_exited, last_byte }));
        }
        if self.init.on_timer(now) {
            self.read_init(cx);
        }
    }

    /// The host asks for the end.
    pub(crate) fn terminate(&mut self, cx: &mut ControlCx<'_>) {
        self.handle(cx, Event::TerminateRequested);
    }

    /// The host has no handle to the sandbox any more, or its runtime is being shut down.
    pub(crate) fn handle_closed(&mut self, cx: &mut ControlCx<'_>) {
        self.handle(cx, Event::HandleClosed);
    }

    /// The exit snapshot's turn has come. It may have been given up meanwhile.
    pub(crate) fn exit_snapshot_began(&mut self, cx: &mut ControlCx<'_>) {
        if self.saving.is_some() {
            self.handle(cx, Event::ExitSnapshotBegan);
        }
    }

    /// The exit snapshot is stored, or can't be. One that was given up has ended in vain.
    pub(crate) fn exit_snapshot_ended(&mut self, cx: &mut ControlCx<'_>) {
        if let Some(saving) = self.saving.take() {
            self.saved = Some(saving.result());
            self.handle(cx, Event::ExitSnapshotEnded);
        }
    }

    /// The host asks for a graceful end. Asking again sends the signal again, and may shorten the time.
    pub(crate) fn stop(&mut self, cx: &mut ControlCx<'_>, signal: i32, grace: Duration) {
        self.handle(cx, Event::StopRequested { signal, grace });
    }

    /// The engine has closed the last connection of a sandbox that is being stopped.
    pub(crate) fn drained(&mut self, cx: &mut ControlCx<'_>) {
        self.handle(cx, Event::Drained);
    }

    /// The engine has closed every descriptor of the sandbox.
    pub(crate) fn detached(&mut self, cx: &mut ControlCx<'_>) {
        self.handle(cx, Event::Detached);
    }

    /// The host waits until the sandbox is ready. One that is still being created is asked once its program runs.
    pub(crate) fn start_probing(&mut self, cx: &mut ControlCx<'_>) {
        self.handle(cx, Event::ProbeRequested);
    }

    /// The host uses the sandbox.
    pub(crate) fn note_activity(&mut self, cx: &mut ControlCx<'_>) {
        self.handle(cx, Event::Activity);
    }

    /// Checks what init has not answered. Whether it is to be checked again soon.
    pub(crate) fn check_silence(&mut self, cx: &mut ControlCx<'_>, watched: Duration) -> bool {
        self.handle(cx, Event::SilenceChecked { watched });
        mem::take(&mut self.silence_is_checked_soon)
    }

    /// The host sends the program a signal.
    pub(crate) fn signal(&mut self, cx: &mut ControlCx<'_>, signal: i32) {
        if self.lifecycle.is_running() {
            self.init.ask(cx.reactor, &ToInit::Signal { id: PROGRAM, signal, group: false });
        }
    }

    /// The host wants a program to be executed.
    pub(crate) fn execute(&mut self, cx: &mut ControlCx<'_>, number: u64, launch: Launch) {
        let accepts = self.lifecycle.is_running() && !self.lifecycle.is_stopping();
        let sandbox = self.shared.number;
        self.with_execs(cx, |execs, cx| execs.execute(cx, sandbox, accepts, number, launch));
    }

    /// The host wants something of an executed program.
    pub(crate) fn request_program(&mut self, cx: &mut ControlCx<'_>, number: u64, what: ProgramRequest) {
        self.with_execs(cx, |execs, cx| execs.request(cx, number, what));
    }

    /// The timer of an executed program has run out.
    pub(crate) fn exec_timer(&mut self, cx: &mut ControlCx<'_>, key: Key) {
        self.with_execs(cx, |execs, cx| execs.on_timer(cx, key));
    }

    fn with_execs(&mut self, cx: &mut ControlCx<'_>, act: impl FnOnce(&mut Execs, &mut ExecCx<'_>)) {
        let mut cx = ExecCx {
            reactor: cx.reactor,
            processes: cx.processes,
            init: &mut self.init,
            tickets: self.lifecycle.tickets(),
        };
        act(&mut self.execs, &mut cx);
    }

    /// Has init begin an operation on files; its number there.
    pub(crate) fn start_file(&mut self, cx: &mut ControlCx<'_>, task: &mut FileTask) -> Result<u32> {
        let serves = self.lifecycle.is_running() || self.lifecycle.is_saving() && task.is_at_exit();
        let may = self.init.is_open() && serves;
        let order = task.order().filter(|_| may).ok_or_else(|| task.ended())?;
        let permit = cx.budget.acquire(self.shared.number, Use::Host, order.fds.len());
        let permit = permit.ok_or_else(|| task.fd_limit_error())?;
        let ticket = self.lifecycle.tickets().next();
        let request = ToInit::File { ticket, task: Box::new(order.task) };
        self.init.give(cx.reactor, &request, order.fds, Some(permit));
        if task.is_use() {
            self.handle(cx, Event::FileBegan);
        }
        Ok(ticket)
    }

    /// An operation on files has ended. A helper whose result isn't wanted any more is ended too.
    pub(crate) fn file_ended(&mut self, cx: &mut ControlCx<'_>, ended: FileOutcome) {
        if ended.helper_may_run && self.lifecycle.is_running() {
            self.init.ask(cx.reactor, &ToInit::EndFile { ticket: ended.ticket });
        }
        if ended.was_use {
            self.handle(cx, Event::FileEnded);
        }
    }

    /// Has the keeper report what the sandbox uses. A waiter that is dropped learns that there is nothing new.
    pub(crate) fn ask_usage(&mut self, cx: &mut ControlCx<'_>, waiter: Arc<Gathering>) {
        let may_ask = self.lifecycle.is_running() || self.lifecycle.is_saving();
        if may_ask && self.usage.wait_for_usage(waiter, cx.reactor.now()) {
            self.gateway.record_refused(&self.shared);
            self.ask_keeper(cx, &ToKeeper::Usage, vec![]);
        }
    }

    /// Has init count the processes.
    pub(crate) fn count_processes(&mut self, cx: &mut ControlCx<'_>, waiter: Arc<Gathering>) {
        if !self.lifecycle.is_running() {
            return;
        }
        let (now, tickets) = (cx.reactor.now(), self.lifecycle.tickets());
        if let Some(ticket) = self.usage.wait_for_count(waiter, now, tickets) {
            self.init.ask(cx.reactor, &ToInit::Count { ticket });
        }
    }

    /// Has the keeper write what the sandbox has changed to a file.
    pub(crate) fn write_archive(&mut self, cx: &mut ControlCx<'_>, task: ArchiveTask) {
        if !(self.lifecycle.is_running() || self.lifecycle.is_saving() && task.at_exit) {
            return task.completion.complete(Err(self.shared.ended()));
        }
        let Some(permit) = cx.budget.acquire(self.shared.number, Use::Host, 1) else {
            return task.completion.complete(Err(Error::no_descriptors("a snapshot", "wait")));
        };
        let time = task.time;
        if let Some((request, file)) = self.archive.begin(task, permit) {
            self.ask_keeper(cx, &request, vec![file]);
            self.handle(cx, Event::SnapshotBegan { time });
        }
    }

    /// Ends the archive of that number, if it is being written. The sandbox is resumed first.
    pub(crate) fn end_archive(&mut self, cx: &mut ControlCx<'_>, number: u64) {
        // It may have been refused or have ended meanwhile, and another may have begun.
        if self.archive.writes(number) {
            self.ask_keeper(cx, &ToKeeper::CancelSnapshot, vec![]);
        }
    }

    /// The engine wants sockets of G.
    pub(crate) fn sockets(&mut self, cx: &mut ControlCx<'_>, count: usize) {
        self.ask_keeper(cx, &gateway::tunnel_sockets(count), vec![]);
    }

    /// The engine wants UDP sockets of G.
    pub(crate) fn datagrams(&mut self, cx: &mut ControlCx<'_>, ipv6: bool, count: usize) {
        self.ask_keeper(cx, &gateway::udp_sockets(ipv6, count), vec![]);
    }

    /// The engine wants a stream to a server on the sandbox's own 127.0.0.1.
    pub(crate) fn loopback(&mut self, cx: &mut ControlCx<'_>, port: u16, ticket: u64) {
        let is_running = self.lifecycle.is_running();
        let mut cx = LoopbackCx {
            reactor: cx.reactor,
            engine: cx.engine,
            budget: cx.budget,
            init: &mut self.init,
            tickets: self.lifecycle.tickets(),
        };
        self.loopbacks.connect(&mut cx, self.shared.number, is_running, port, ticket);
    }

    /// The resolver is about to answer addresses of the policy's domains: the rules allow them first.
    pub(crate) fn allow_resolved(&mut self, cx: &ControlCx<'_>, added: Vec<IpAddr>, removed: Vec<IpAddr>) {
        if self.updates.is_offloaded() {
            self.gateway.postpone_resolved(added, removed);
        } else {
            self.gateway.allow_resolved(cx.engine, &self.shared, &added, &removed);
        }
    }

    /// Updates the policy or reads it back, when it is its turn.
    pub(crate) fn work_on_policy(&mut self, cx: &mut ControlCx<'_>, task: PolicyTask) {
        if self.lifecycle.is_ending() {
            return task.refuse(self.shared.ended());
        }
        self.updates.push(&self.shared, task);
        self.update_policy(cx);
    }

    /// The rules are back from a thread of their own; `None` if it has lost them.
    pub(crate) fn rules_returned(&mut self, cx: &mut ControlCx<'_>, job: Option<Box<PolicyJob>>) {
        if job.is_none() && !self.updates.has_opened() {
            // What is lost is the first policy, which comes before all else: the start can't go on without it.
            let text = "the policy: the thread that was to load it has panicked: a bug of the library";
            self.handle(cx, Event::Failed(Error::new(Code::Panic, text)));
        }
        // The rules of a sandbox that is ending are dropped with the job.
        let job = job.filter(|_| !self.lifecycle.is_ending()).map(|job| *job);
        let opened = self.updates.reclaim(&mut self.gateway, &self.shared, cx.engine, job);
        self.handle(cx, Event::RulesReclaimed);
        if let Some(opened) = opened {
            self.on_policy_open(cx, opened);
        }
        self.gateway.allow_postponed(cx.engine, &self.shared);
        self.update_policy(cx);
    }

    /// Something was denied, or allowed and not reached.
    pub(crate) fn denied(&self, denied: &egress::Denied, count: u32) {
        denials::publish(&self.shared, denied, count);
    }

    /// A limit was reached.
    pub(crate) fn limit(&self, what: String) {
        self.shared.notify(EventKind::Limit, |event| event.detail = what);
    }

    fn ask_keeper(&mut self, cx: &mut ControlCx<'_>, request: &ToKeeper, fds: Vec<OwnedFd>) {
        if !self.lifecycle.keeper_is_open() {
            return;
        }
        if let Err(error) = self.keeper.ask(request, fds) {
            // It is ending. Its last message says why, and the end of its channel follows.
            log::debug!("sandbox {}: {error}", self.shared.id);
            self.read_on(cx);
        }
    }

    /// Has both channels read in the next turn.
    fn read_on(&self, cx: &mut ControlCx<'_>) {
        if let Some(key) = self.key {
            cx.reactor.reschedule(key);
        }
    }

    /// Whether the start is still under way.
    fn is_starting(&self) -> bool {
        matches!(self.lifecycle.phase(), Phase::Warm | Phase::Booting | Phase::Starting)
    }
}

#[cfg(test)]
mod tests;
