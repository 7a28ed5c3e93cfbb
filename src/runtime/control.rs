//! The control thread: creation, keepers, init, netlink, certificates; it drives all sandboxes.
//!
//! What may take a moment happens here and not in the engine, so that it never holds up data. Others talk to
//! it with [`Command`]s through a [`Control`] and never wait for it, but on what it writes into
//! [`crate::sandbox::Shared`].
//!
//! One loop over every kind of key and command, and so one file: each arm only finds whose it is.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::NUMBERS;
use super::host::HostCache;
use super::nameservers::ServerWatch;
use super::planning::Planners;
use super::warm::{Found, Pool};
use crate::config::Config;
use crate::engine::{self, Body, Idleness, Inbox, LINGER, Left, Worker};
use crate::error::{Code, Error, Result};
use crate::image::Images;
use crate::policy::PolicyMode;
use crate::process::{CaptureProgress, CaptureReader};
use crate::reactor::{FdBudget, FdSlot, Key, Kind, Reactor, Slab, TimerId, Wake};
use crate::runsc::command::SandboxId;
use crate::sandbox::files::{FileOutcome, FileTask, Table};
use crate::sandbox::{
    Command, Control, ControlCx, Creation, Executed, Gathering, Input, Listeners, MEASURE_TIMEOUT, Plan,
    Pulse, SandboxDriver, Shared, Stage, admit, memory_is_low,
};
use crate::{egress, tunnel};

/// The sandboxes' kind of key; the engine's are in a reactor of its own.
const SANDBOX: Kind = Kind(1);
/// The captures' kind of key.
const CAPTURE: Kind = Kind(2);
/// The kind of key of operations on files.
const FILE: Kind = Kind(4);
/// The executed programs' kind of key.
const PROCESS: Kind = Kind(3);
/// The kind of key of sandboxes that are being planned.
const PLANNING: Kind = Kind(5);
/// The watched standard inputs' kind of key.
const INPUT: Kind = Kind(6);
/// The kind of key of the looks at all inits.
const PULSE: Kind = Kind(7);
/// The kind of key of the looks at the host's name servers.
const NAMESERVERS: Kind = Kind(8);
/// The kind of key of statistics that are being gathered.
const MEASURE: Kind = Kind(9);
/// The kind of key of the looks at the warm pool.
const WARM: Kind = Kind(10);
/// How many commands are obeyed before the descriptors are looked at again.
const COMMANDS: usize = 64;

/// What the thread shares with the runtime.
pub(super) struct Shares {
    pub(super) pool: Arc<Mutex<Pool>>,
    pub(super) images: Weak<Images>,
}

/// The running thread. Dropping it ends all sandboxes and waits for that.
#[derive(Debug)]
pub(super) struct Thread {
    control: Control,
    worker: Worker<Loop>,
}

impl Thread {
    /// Starts it. The engine's requests come through `control`'s twin, which is made before the engine is.
    pub(super) fn start(
        reactor: Reactor,
        commands: (Sender<Command>, Receiver<Command>),
        engine: engine::Handle,
        host: Arc<HostCache>,
        budget: FdBudget,
        shares: Shares,
    ) -> Result<Self> {
        let worker = Worker::new("sbx-control");
        let control = Control::new(
            Arc::new(worker.clone()),
            commands.0,
            reactor.waker(),
            engine.clone(),
            budget.clone(),
        );
        let way = control.clone();
        let report = move |number, plan| {
            // A control thread that is gone has ended the sandbox.
            let _ = way.send(Command::Planned(number, Box::new(plan)));
        };
        let stamps = Arc::clone(&shares.pool);
        let plan = move |shared: &Shared| {
            let stamped = stamps.lock().unwrap_or_else(PoisonError::into_inner).is_on();
            host.get().plan(shared, stamped)
        };
        let planners = Planners::new(PLANNING, Arc::new(plan), Arc::new(report));
        worker.start(Loop::new(
            reactor,
            Inbox::new(commands.1),
            engine,
            control.clone(),
            planners,
            budget,
            shares,
        ))?;
        Ok(Self { control, worker })
    }

    /// The way to it.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.control.send(Command::Shutdown);
        self.worker.join();
    }
}

/// The channel to a control thread that is yet to be started, with the function that carries the engine's
/// requests to it.
pub(super) fn prepare(reactor: &Reactor) -> ((Sender<Command>, Receiver<Command>), engine::Requests) {
    let (sender, receiver) = channel();
    let (commands, waker) = (sender.clone(), reactor.waker());
    let requests: engine::Requests = Arc::new(move |request| {
        // A control thread that is gone needs nothing any more.
        if commands.send(Command::Engine(request)).is_ok() {
            let _ = waker.wake();
        }
    });
    ((sender, receiver), requests)
}

struct Loop {
    reactor: Reactor,
    commands: Inbox<Command>,
    engine: engine::Handle,
    control: Control,
    planners: Planners,
    budget: FdBudget,
    images: Weak<Images>,
    sandboxes: Slab<SandboxDriver>,
    captures: Slab<CaptureReader>,
    files: Table,
    processes: Slab<Executed>,
    inputs: Slab<Input>,
    pulse: Pulse,
    nameservers: ServerWatch,
    measuring: Slab<Weak<Gathering>>,
    numbers: HashMap<u64, Key>,
    pool: Arc<Mutex<Pool>>,
    /// The pool's only key, its timer, and since when no sandbox of the host's was being created.
    pool_key: Key,
    pool_timer: Option<TimerId>,
    quiet: Instant,
    /// Whether the host has too little memory for members.
    memory_is_low: fn() -> bool,
    /// Sandboxes of the host's that are being created, once they are planned.
    starting: HashSet<u64>,
    ending: bool,
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
    /// A loop without a sandbox.
    fn new(
        reactor: Reactor,
        commands: Inbox<Command>,
        engine: engine::Handle,
        control: Control,
        planners: Planners,
        budget: FdBudget,
        shares: Shares,
    ) -> Self {
        let Shares { pool, images } = shares;
        Self {
            pool,
            pool_key: Slab::new(WARM).insert(()),
            pool_timer: None,
            quiet: Instant::now(),
            memory_is_low,
            starting: HashSet::new(),
            reactor,
            commands,
            engine,
            control,
            planners,
            budget,
            images,
            sandboxes: Slab::new(SANDBOX),
            captures: Slab::new(CAPTURE),
            files: Table::new(FILE),
            processes: Slab::new(PROCESS),
            inputs: Slab::new(INPUT),
            pulse: Pulse::new(PULSE),
            nameservers: ServerWatch::new(NAMESERVERS),
            measuring: Slab::new(MEASURE),
            numbers: HashMap::new(),
            ending: false,
            idleness: Idleness::default(),
        }
    }

    /// Whether there is nothing that anything could happen to.
    fn is_idle(&self) -> bool {
        let Self { sandboxes, captures, processes, inputs, measuring, .. } = self;
        let all = [
            sandboxes.len(),
            captures.len(),
            processes.len(),
            inputs.len(),
            self.files.len(),
            measuring.len(),
        ];
        self.numbers.is_empty() && self.planners.are_idle() && all == [0; 6] && self.pool().is_idle()
    }

    fn run(&mut self) -> Left {
        let mut busy = self.commands.has_some();
        while !(self.ending && self.numbers.is_empty() && self.planners.are_idle()) {
            let idle = self.is_idle() && !busy;
            if self.idleness.is_over(idle, Instant::now()) {
                return Left::Idle;
            }
            let limit = if busy { Some(Duration::ZERO) } else { idle.then_some(LINGER) };
            if let Err(error) = self.reactor.turn(limit) {
                log::error!("the control thread's poll failed: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
            while let Some(wake) = self.reactor.next() {
                if catch_unwind(AssertUnwindSafe(|| self.dispatch(wake))).is_err() {
                    log::error!("a bug: {wake:?} has panicked in the control thread");
                    self.abandon(wake);
                }
            }
            busy = true;
            for _ in 0..COMMANDS {
                let Some(command) = self.commands.next() else {
                    busy = false;
                    break;
                };
                if catch_unwind(AssertUnwindSafe(|| self.obey(command))).is_err() {
                    log::error!("a bug: a command to the control thread has panicked");
                }
                // What takes long leaves the rest to the next turn.
                if self.reactor.is_over_time() {
                    break;
                }
            }
            if catch_unwind(AssertUnwindSafe(|| self.tend_pool())).is_err() {
                log::error!("a bug: the warm pool has panicked in the control thread");
            }
        }
        Left::Done
    }

    fn dispatch(&mut self, wake: Wake) {
        let key = wake.key();
        match (key.kind(), wake) {
            (CAPTURE, _) => self.read_capture(key),
            (PROCESS, wake) => self.process(key, wake),
            (PLANNING, _) => self.planners.timer(&mut self.reactor, key),
            (PULSE, _) => self.check_inits(),
            (MEASURE, _) => {
                if let Some(gathering) = self.measuring.remove(key).and_then(|pending| pending.upgrade()) {
                    gathering.finish();
                }
            }
            // It is tended in every turn.
            (WARM, _) => {}
            (NAMESERVERS, _) => {
                let is_needed = self.sandboxes.iter().any(|(_, driver)| asks_host_servers(driver.shared()));
                self.nameservers.wake(&mut self.reactor, &self.engine, is_needed);
            }
            (INPUT, _) => {
                if let Some(sandbox) = self.inputs.get_mut(key).map(|input| input.sandbox) {
                    self.by_number(sandbox, SandboxDriver::note_activity);
                }
            }
            (FILE, Wake::Timer(_)) => {
                let ended = self.files.late(&mut self.reactor, key);
                self.file_ended(ended);
            }
            (FILE, _) => {
                let ended = self.files.go_on(&mut self.reactor, key);
                self.file_ended(ended);
            }
            (_, Wake::Ready(_, slot, _)) => self.with(key, |driver, cx| driver.ready(cx, slot)),
            (_, Wake::Timer(_)) => self.with(key, |driver, cx| driver.timer(cx)),
            (_, Wake::Rescheduled(_)) => self.with(key, |driver, cx| driver.again(cx)),
        }
    }

    /// Has a sandbox do something, then sees what is left of it. A panic in that ends this sandbox and no other.
    fn with(&mut self, key: Key, act: impl FnOnce(&mut SandboxDriver, &mut ControlCx<'_>)) {
        // A wake-up may come for a sandbox that has ended in the same turn.
        let Some(driver) = self.sandboxes.get_mut(key) else { return };
        let mut cx = ControlCx {
            reactor: &mut self.reactor,
            engine: &self.engine,
            control: &self.control,
            budget: &self.budget,
            images: &self.images,
            processes: &mut self.processes,
            inputs: &mut self.inputs,
        };
        let done = catch_unwind(AssertUnwindSafe(|| {
            act(driver, &mut cx);
            driver.settle(&mut cx);
        }));
        if done.is_err() {
            log::error!("a bug: the control thread has panicked in sandbox {}", driver.shared().id);
            return self.abandon_sandbox(key);
        }
        let (captures, number, stage) = (driver.take_captures(), driver.shared().number, driver.stage());
        if stage != Stage::Starting && self.starting.remove(&number) {
            self.quiet = self.reactor.now();
        }
        let failure =
            || driver.shared().facts().failure.as_ref().map(ToString::to_string).unwrap_or_default();
        match stage {
            Stage::Ready => lock(&self.pool).ready(self.reactor.now(), number),
            Stage::Ending => lock(&self.pool).lost(self.reactor.now(), number, &failure()),
            Stage::Filling | Stage::Starting | Stage::Started => {}
        }
        if driver.is_gone()
            && let Some(mut driver) = self.sandboxes.remove(key)
        {
            driver.end_execs(&mut self.reactor, &mut self.processes);
            self.numbers.remove(&number);
            self.files.end_all(&mut self.reactor, number);
            driver.finish();
        }
        captures.into_iter().for_each(|capture| self.watch(capture, number));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Create(creation) if self.ending => creation.fail_as_its_own(Error::shut_down()),
            Command::Create(creation) => self.planners.begin(&mut self.reactor, *creation),
            Command::Planned(number, plan) => self.planned(number, *plan),
            // It is tended in every turn.
            Command::TendPool => {}
            Command::Terminate(number) => {
                if !self.planners.end(&mut self.reactor, number) {
                    self.by_number(number, SandboxDriver::terminate);
                }
            }
            Command::Close(number) => {
                if !self.planners.end(&mut self.reactor, number) {
                    self.by_number(number, SandboxDriver::handle_closed);
                }
            }
            Command::ExitSnapshotBegan(number) => {
                self.by_number(number, SandboxDriver::exit_snapshot_began);
            }
            Command::ExitSnapshotEnded(number) => {
                self.by_number(number, SandboxDriver::exit_snapshot_ended);
            }
            Command::Signal(number, signal) => {
                self.by_number(number, |driver, cx| driver.signal(cx, signal));
            }
            Command::Measure(number, gathering) => self.measure(number, gathering),
            Command::Execute { sandbox, number, launch } => {
                self.by_number(sandbox, |driver, cx| driver.execute(cx, number, *launch));
            }
            Command::Program { sandbox, number, what } => {
                self.by_number(sandbox, |driver, cx| driver.request_program(cx, number, what));
            }
            Command::Stop(number, signal, grace) => {
                // One that is being created has nothing that could end by itself.
                if self.planners.end(&mut self.reactor, number) {
                    return;
                }
                self.by_number(number, |driver, cx| driver.stop(cx, signal, grace));
            }
            Command::Drained(number) => self.by_number(number, SandboxDriver::drained),
            Command::Probe(number) => {
                if self.planners.keep(number, command).is_some() {
                    self.by_number(number, SandboxDriver::start_probing);
                }
            }
            Command::Detached(number) => self.by_number(number, SandboxDriver::detached),
            Command::File(running) => self.start_file(*running),
            Command::EndFile(number) => {
                let ended = self.files.cancel(&mut self.reactor, number);
                self.file_ended(ended);
            }
            Command::ReadFile(number) => self.files.room(&mut self.reactor, number),
            Command::Archive(task) => {
                self.by_number(task.sandbox, |driver, cx| driver.write_archive(cx, *task));
            }
            Command::EndArchive { sandbox, number } => {
                self.by_number(sandbox, |driver, cx| driver.end_archive(cx, number));
            }
            Command::Engine(engine::Request::Tunnel(request)) => self.tunnel_request(request),
            Command::Engine(engine::Request::Egress(request)) => self.egress_request(request),
            Command::Policy(number, task) => {
                let command = Command::Policy(number, task);
                if let Some(Command::Policy(_, task)) = self.planners.keep(number, command) {
                    self.by_number(number, |driver, cx| driver.work_on_policy(cx, *task));
                }
            }
            Command::RulesReturned(number, job) => {
                self.by_number(number, |driver, cx| driver.rules_returned(cx, job));
            }
            Command::Shutdown => {
                self.ending = true;
                self.pool().clear();
                self.planners.end_all(&mut self.reactor);
                let all: Vec<u64> = self.numbers.keys().copied().collect();
                all.into_iter().for_each(|number| self.by_number(number, SandboxDriver::handle_closed));
            }
        }
    }

    fn tunnel_request(&mut self, request: tunnel::Request) {
        match request {
            tunnel::Request::NeedSockets { key, count } => {
                self.by_number(key, |driver, cx| driver.sockets(cx, count));
            }
            tunnel::Request::NeedLoopback { key, port, ticket } => {
                if self.numbers.contains_key(&key) {
                    self.by_number(key, |driver, cx| driver.loopback(cx, port, ticket));
                } else {
                    let answer = Err(Error::sandbox_ended("the sandbox", None));
                    let _ = self.engine.send(engine::Command::Loopback { ticket, answer });
                }
            }
            tunnel::Request::Limit { key, what } => self.by_number(key, |driver, _| driver.limit(what)),
        }
    }

    fn egress_request(&mut self, request: egress::Request) {
        match request {
            egress::Request::NeedDatagrams { key, ipv6, count } => {
                self.by_number(key, |driver, cx| driver.datagrams(cx, ipv6, count));
            }
            egress::Request::Answered { key, added, removed } => {
                self.by_number(key, |driver, cx| driver.allow_resolved(cx, added, removed));
            }
            egress::Request::Denied { key, denied, count } => {
                self.by_number(key, |driver, _| driver.denied(&denied, count));
            }
            egress::Request::Limit { key, what } => self.by_number(key, |driver, _| driver.limit(what)),
        }
    }

    fn by_number(&mut self, number: u64, act: impl FnOnce(&mut SandboxDriver, &mut ControlCx<'_>)) {
        if let Some(key) = self.numbers.get(&number) {
            self.with(*key, act);
        }
    }

    /// Asks for statistics; what isn't answered in time is left out.
    fn measure(&mut self, number: u64, gathering: Arc<Gathering>) {
        self.by_number(number, |driver, cx| {
            driver.ask_usage(cx, Arc::clone(&gathering));
            driver.count_processes(cx, Arc::clone(&gathering));
        });
        let pending = Arc::downgrade(&gathering);
        drop(gathering);
        if pending.strong_count() > 0 {
            let key = self.measuring.insert(pending);
            self.reactor.schedule(Instant::now() + MEASURE_TIMEOUT, key);
        }
    }

    /// A sandbox has been planned: its listeners are opened and it begins.
    fn planned(&mut self, number: u64, plan: Result<Plan>) {
        // It may have been ended while it was planned.
        let Some((creation, meanwhile)) = self.planners.returned(&mut self.reactor, number) else { return };
        let Some(shared) = creation.shared().map(Arc::clone) else {
            debug_assert!(false, "a creation that was planned is neither begun nor given up");
            return;
        };
        let opened = |plan: Plan| Ok((Listeners::open(&shared.config)?, plan));
        let is_member = self.pool().is_filling(number);
        let is_planned = plan.is_ok();
        let begun = match plan.and_then(opened) {
            Ok((listeners, plan)) => match (!is_member).then(|| self.member_for(&shared, &plan)).flatten() {
                Some(key) => self.take_member(key, &shared, plan, listeners).map(|()| key),
                None => self.begin(&shared, plan, listeners, is_member),
            }
            .map_err(|error| error.context(format!("sandbox {}", shared.id))),
            Err(error) => Err(error),
        };
        let key = match begun {
            Ok(key) => key,
            Err(error) => {
                // What members hold may be what it lacks.
                if is_member {
                    self.pool().lost(self.reactor.now(), number, error.message());
                }
                return match !is_member && is_lack(&error, is_planned) && self.evict_member() {
                    true => self.planners.postpone(&mut self.reactor, creation, meanwhile),
                    false => creation.fail(error),
                };
            }
        };
        creation.begin(|_| Ok(()));
        if asks_host_servers(&shared) && !is_member {
            self.nameservers.start(&mut self.reactor, &self.engine);
        }
        // It may have failed already.
        if !is_member && self.numbers.contains_key(&number) {
            self.starting.insert(number);
        }
        self.pulse.start(&mut self.reactor);
        // By now a member that was taken may have a program that runs.
        self.with(key, |_, _| ());
        meanwhile.into_iter().for_each(|command| self.obey(command));
    }

    /// Begins a sandbox of the host's, or a member of the pool.
    fn begin(
        &mut self,
        shared: &Arc<Shared>,
        plan: Plan,
        listeners: Listeners,
        is_member: bool,
    ) -> Result<Key> {
        let (admission, now) = (admit(&self.budget, shared)?, self.reactor.now());
        let driver = SandboxDriver::begin(now, Arc::clone(shared), plan, listeners, admission, is_member)?;
        let key = self.sandboxes.insert(driver);
        self.adopt(key, shared);
        self.with(key, |driver, cx| driver.watch(cx, key));
        Ok(key)
    }

    /// The sandbox of that key is this one from now on.
    fn adopt(&mut self, key: Key, shared: &Shared) {
        self.reactor.meter(shared.number, &shared.time);
        self.reactor.join(key, shared.number);
        self.numbers.insert(shared.number, key);
    }

    /// A member of the pool that is what this plan would start. Those that are not any more are ended.
    fn member_for(&mut self, shared: &Shared, plan: &Plan) -> Option<Key> {
        let stamp = plan.stamp.as_ref()?;
        if stamp.memory_is_low {
            self.evict_all();
        }
        let Found::Members(members) = self.pool().find(self.reactor.now(), &shared.config) else {
            return None;
        };
        let mut changed = None;
        for number in members {
            // Its end may have come in this turn.
            self.by_number(number, SandboxDriver::again);
            let Some(key) = self.numbers.get(&number).copied() else { continue };
            let Some(driver) = self.sandboxes.get_mut(key).filter(|driver| driver.stage() == Stage::Ready)
            else {
                continue;
            };
            let difference =
                driver.stamp().map_or(Some("the pool itself"), |of_member| of_member.difference(stamp));
            let Some(difference) = difference else { return Some(key) };
            changed = Some(difference);
            self.discard_member(number);
        }
        self.pool().missed(&shared.config, changed);
        None
    }

    /// Makes the member of that key this sandbox.
    fn take_member(
        &mut self,
        key: Key,
        shared: &Arc<Shared>,
        plan: Plan,
        listeners: Listeners,
    ) -> Result<()> {
        let Some(driver) = self.sandboxes.get_mut(key) else {
            return Err(Error::new(Code::Internal, "a member of the warm pool was lost"));
        };
        let number = driver.shared().number;
        if let Err(error) = driver.readmit(&self.budget, shared) {
            self.discard_member(number);
            return Err(error);
        }
        self.pool().take(number);
        self.numbers.remove(&number);
        self.adopt(key, shared);
        self.with(key, |driver, cx| driver.take(cx, Arc::clone(shared), plan, listeners));
        Ok(())
    }

    /// Ends a member that no creation has taken.
    fn discard_member(&mut self, number: u64) {
        self.pool().discard(number);
        self.end_member(number);
    }

    fn end_member(&mut self, number: u64) {
        if !self.planners.end(&mut self.reactor, number) {
            self.by_number(number, SandboxDriver::terminate);
        }
    }

    /// Ends a member for what it holds. Whether one is ending, so that it is worth waiting for.
    fn evict_member(&mut self) -> bool {
        if self.pool().is_ending_some() {
            return true;
        }
        let evicted = self.pool().evict(self.reactor.now());
        if let Some(number) = evicted {
            log::info!("a member of the warm pool is ended for what it holds");
            self.end_member(number);
        }
        evicted.is_some()
    }

    /// Ends all members while the host has little memory left. None is made for a while then.
    fn spare_memory(&mut self) -> bool {
        let is_low = self.pool().is_on() && (self.memory_is_low)();
        if is_low {
            log::info!("the host's memory is low: none is kept warm");
            self.evict_all();
        }
        is_low
    }

    fn evict_all(&mut self) {
        while let Some(number) = { self.pool().evict(self.reactor.now()) } {
            self.end_member(number);
        }
    }

    /// Ends members that are too many or too old, and begins to make one that is lacking.
    fn tend_pool(&mut self) {
        if self.ending || self.pool().is_idle() {
            return;
        }
        let now = self.reactor.now();
        // A member whose planning was given up has told nobody.
        let filling = self
            .pool()
            .filling()
            .filter(|number| !self.planners.has(*number) && !self.numbers.contains_key(number));
        if let Some(number) = filling {
            self.pool().lost(now, number, "it could not be planned");
        }
        let (planners, numbers) = (&self.planners, &self.numbers);
        if lock(&self.pool).forget_ended(|number| planners.has(number) || numbers.contains_key(&number)) {
            self.planners.resume_postponed(&mut self.reactor);
        }
        while let Some(number) = { self.pool().surplus(now) } {
            self.end_member(number);
        }
        let members = usize::from(self.pool().filling().is_some_and(|number| self.planners.has(number)));
        if self.planners.count() > members || !self.starting.is_empty() {
            self.quiet = now;
        }
        let next = self.pool().next(now, self.quiet);
        if let Some(config) = next
            && !self.spare_memory()
            && let Err(error) = self.fill(config)
        {
            log::warn!("a member of the warm pool: {error}");
        }
        let at = self.pool().next_look(now, self.quiet);
        if self.pool_timer.map(TimerId::at) != at {
            if let Some(timer) = self.pool_timer.take() {
                self.reactor.cancel(timer);
            }
            self.pool_timer = at.map(|at| self.reactor.schedule(at, self.pool_key));
        }
    }

    /// Begins to make a member.
    fn fill(&mut self, config: Config) -> Result<()> {
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        self.pool().began(number, &config);
        let shared = SandboxId::random().and_then(|id| Shared::new(number, id, config));
        match shared {
            Ok(shared) => self.planners.begin(&mut self.reactor, Creation::new(Arc::new(shared))),
            Err(error) => {
                self.pool().lost(self.reactor.now(), number, error.message());
                return Err(error);
            }
        }
        Ok(())
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        lock(&self.pool)
    }

    /// Whether the inits of all sandboxes answer. Looked for again as long as there are any.
    fn check_inits(&mut self) {
        let watched = self.pulse.look(&mut self.reactor);
        let mut open = false;
        let keys: Vec<Key> = self.sandboxes.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with(key, |driver, cx| open |= driver.check_silence(cx, watched));
        }
        self.spare_memory();
        self.pulse.go_on(&mut self.reactor, open, self.numbers.is_empty());
    }

    fn start_file(&mut self, running: FileTask) {
        let key = self.numbers.get(&running.sandbox()).copied();
        let driver = key.and_then(|key| self.sandboxes.get_mut(key));
        let mut has_panicked = false;
        let (engine, control, budget, images) = (&self.engine, &self.control, &self.budget, &self.images);
        let (processes, inputs) = (&mut self.processes, &mut self.inputs);
        let ended = self.files.start(&mut self.reactor, budget, running, |running, reactor| {
            let mut cx = ControlCx { reactor, engine, control, budget, images, processes, inputs };
            match driver {
                Some(driver) => {
                    let begun = catch_unwind(AssertUnwindSafe(|| {
                        let begun = driver.start_file(&mut cx, running);
                        driver.settle(&mut cx);
                        begun
                    }));
                    begun.unwrap_or_else(|_| {
                        log::error!("a bug: an operation on files has panicked in the control thread");
                        has_panicked = true;
                        Err(Error::new(Code::Panic, "the control thread panicked: a bug of the library"))
                    })
                }
                None => Err(running.ended()),
            }
        });
        if let Some(key) = key.filter(|_| has_panicked) {
            self.abandon_sandbox(key);
        }
        self.file_ended(ended);
    }

    fn file_ended(&mut self, ended: Option<FileOutcome>) {
        if let Some(ended) = ended {
            self.by_number(ended.sandbox, |driver, cx| driver.file_ended(cx, ended));
        }
    }

    fn watch(&mut self, capture: CaptureReader, sandbox: u64) {
        let key = self.captures.insert(capture);
        self.reactor.join(key, sandbox);
        if let Some(capture) = self.captures.get_mut(key)
            && let Err(error) = self.reactor.register(std::os::fd::AsFd::as_fd(capture), key, FdSlot::First)
        {
            log::error!("an output can't be captured: {error}");
            self.captures.remove(key);
        }
    }

    fn read_capture(&mut self, key: Key) {
        // The capture may have ended in the same turn.
        let Some(capture) = self.captures.get_mut(key) else { return };
        match capture.read() {
            CaptureProgress::Drained => {}
            CaptureProgress::More => self.reactor.reschedule(key),
            CaptureProgress::Ended => {
                self.reactor.deregister(std::os::fd::AsFd::as_fd(capture));
                self.captures.remove(key);
            }
        }
    }

    fn process(&mut self, key: Key, wake: Wake) {
        // The program may have ended in the same turn.
        let Some(running) = self.processes.get_mut(key) else { return };
        let sandbox = running.sandbox;
        let over = match wake {
            Wake::Timer(_) => return self.by_number(sandbox, |driver, cx| driver.exec_timer(cx, key)),
            Wake::Ready(_, slot, _) => running.read(&mut self.reactor, key, slot),
            Wake::Rescheduled(_) => {
                running.read(&mut self.reactor, key, FdSlot::First);
                running.read(&mut self.reactor, key, FdSlot::Second)
            }
        };
        if over {
            self.processes.remove(key);
        }
    }

    /// After a bug: what the wake-up was for can't be trusted any more, and its sandbox ends.
    fn abandon(&mut self, wake: Wake) {
        let key = wake.key();
        let key = match key.kind() {
            CAPTURE => return drop(self.captures.remove(key)),
            MEASURE => return drop(self.measuring.remove(key)),
            PLANNING => return self.planners.abandon(&mut self.reactor, key),
            WARM => return,
            NAMESERVERS => return self.nameservers.wake(&mut self.reactor, &self.engine, false),
            PULSE => return self.pulse.go_on(&mut self.reactor, true, self.numbers.is_empty()),
            FILE => {
                let ended = self.files.abandon(&mut self.reactor, key);
                return self.file_ended(ended);
            }
            PROCESS | INPUT => {
                let process = self.processes.get_mut(key).map(|running| running.sandbox);
                let input = self.inputs.get_mut(key).map(|input| input.sandbox);
                process.or(input).and_then(|sandbox| self.numbers.get(&sandbox).copied())
            }
            _ => Some(key),
        };
        if let Some(key) = key {
            self.abandon_sandbox(key);
        }
    }

    /// After a bug: what a sandbox has become can't be trusted any more, and it ends at once.
    fn abandon_sandbox(&mut self, key: Key) {
        // It may have ended before the panic.
        let Some(mut driver) = self.sandboxes.remove(key) else { return };
        let key = driver.shared().number;
        self.numbers.remove(&key);
        self.starting.remove(&key);
        self.pool().lost(self.reactor.now(), key, "the control thread panicked: a bug of the library");
        driver.end_execs(&mut self.reactor, &mut self.processes);
        driver.stop_input(&self.reactor, &mut self.inputs);
        self.files.end_all(&mut self.reactor, key);
        let _ = self.engine.send(engine::Command::RemoveSandbox { key, reply: Box::new(|| ()) });
        driver.abandon();
    }
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether an error is a lack of what members of the pool hold: descriptors, memory, processes. The limits that planning
/// meets are of other things, such as the space of a volume or the entries of a root file system.
fn is_lack(error: &Error, is_planned: bool) -> bool {
    let lacks = [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::ENFILE];
    (is_planned && error.code() == Code::Limit) || error.os_error().is_some_and(|os| lacks.contains(&os))
}

/// Whether a sandbox's resolver asks the servers that the host asks. One that was created blocked has none.
fn asks_host_servers(shared: &Shared) -> bool {
    shared.config.nameservers().is_empty() && shared.config.policy().mode() != PolicyMode::Blocked
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
