//! A driver over a keeper that was never set up: what it does by itself, without a sandbox.

use std::sync::mpsc::channel;

use super::*;
use crate::engine::{Engine, WakeThread};
use crate::keeper::wire::init::Reply;
use crate::keeper::{Origin, Program};
use crate::reactor::Kind;
use crate::runsc::command::SandboxId;
use crate::sandbox::lifecycle::{Notice, Part};
use crate::sys::channel::{self, Channel};

impl SandboxDriver {
    /// A driver of a sandbox without a network, a program and a plan.
    pub(crate) fn bare(now: Instant, number: u64, budget: &FdBudget) -> Self {
        let shared = Shared::new(number, SandboxId::random().unwrap(), Config::new()).unwrap();
        let settings = Settings {
            depth: Depth::Program,
            network: false,
            has_command: false,
            has_start: false,
            watches_memory: false,
            has_groups: false,
            timeout: Duration::from_secs(600),
            idle_timeout: None,
            probe: None,
            exit_snapshot: false,
        };
        Self {
            key: None,
            shared: Arc::new(shared),
            lifecycle: Lifecycle::new(settings, now),
            events: VecDeque::new(),
            is_handling: false,
            timer: None,
            keeper: Keeper::start(&Program::new(&Origin::new(None)).unwrap()).unwrap(),
            init: InitLink::default(),
            groups: Groups::default(),
            plan: None,
            listeners: None,
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
            admission: budget.admit(number, 1),
        }
    }

    /// Has a descriptor watched as its program's standard input.
    pub(crate) fn watch_as_input(&mut self, cx: &mut ControlCx<'_>, fd: &OwnedFd) {
        self.input.start(cx.reactor, cx.inputs, self.shared.number, fd).unwrap();
    }
}

/// Stands for a control thread that runs.
struct Running;

impl WakeThread for Running {
    fn with_thread(&self, give: &mut dyn FnMut()) -> Result<()> {
        give();
        Ok(())
    }
}

/// What the control thread lends.
struct Rig {
    reactor: Reactor,
    _engine: Engine,
    handle: engine::Handle,
    control: Control,
    budget: FdBudget,
    images: Weak<Images>,
    processes: Slab<Executed>,
    inputs: Slab<Input>,
}

impl Rig {
    fn new() -> Self {
        let (reactor, budget) = (Reactor::new().unwrap(), FdBudget::new(1000));
        let engine = Engine::start(budget.clone(), Arc::new(|_| ())).unwrap();
        let (handle, commands) = (engine.handle(), channel().0);
        let control =
            Control::new(Arc::new(Running), commands, reactor.waker(), handle.clone(), budget.clone());
        let (processes, inputs) = (Slab::new(Kind(3)), Slab::new(Kind(6)));
        let images = Weak::new();
        Self { reactor, _engine: engine, handle, control, budget, images, processes, inputs }
    }

    fn driver(&self) -> SandboxDriver {
        SandboxDriver::bare(self.reactor.now(), 7, &self.budget)
    }

    fn cx(&mut self) -> ControlCx<'_> {
        ControlCx {
            reactor: &mut self.reactor,
            engine: &self.handle,
            control: &self.control,
            budget: &self.budget,
            images: &self.images,
            processes: &mut self.processes,
            inputs: &mut self.inputs,
        }
    }

    /// A driver whose sandbox runs, and init's end of its channel.
    fn running(&mut self) -> (SandboxDriver, Channel) {
        let (mut driver, (ours, theirs)) = (self.driver(), channel::pair().unwrap());
        let key = Slab::new(Kind(1)).insert(());
        driver.init.open(&self.reactor, ours, key).unwrap();
        let now = self.reactor.now();
        for event in [Event::Prepared(Part::Files), Event::RunscAsked, Event::InitReady, Event::TunnelsOpen] {
            driver.lifecycle.handle(now, event);
        }
        assert!(driver.lifecycle.is_running());
        (driver, Channel::new(theirs))
    }
}

#[test]
fn what_init_answers_in_the_same_turn_is_not_waited_for() {
    let mut rig = Rig::new();
    let (mut driver, mut init) = rig.running();
    driver.init.ask(&mut rig.reactor, &ToInit::Count { ticket: 9 });
    init.send(&Reply::Counted { ticket: 9, processes: Some(1) }.encode(), vec![]).unwrap();
    driver.again(&mut rig.cx());
    driver.settle(&mut rig.cx());
    assert!(!driver.check_silence(&mut rig.cx(), Duration::ZERO), "nothing is open");
    assert!(driver.lifecycle.is_running() && driver.events.is_empty());
}

#[test]
fn a_sandbox_has_run_since_the_moment_that_its_lifetime_counts_from() {
    let rig = Rig::new();
    let driver = rig.driver();
    let now = rig.reactor.now();
    driver.publish(now, Notice::Started);
    assert_eq!(driver.shared.facts().started, Some(now));
}

#[test]
fn a_start_whose_first_policy_is_lost_fails_at_once() {
    let mut rig = Rig::new();
    let mut driver = rig.driver();
    for event in [Event::Prepared(Part::Files), Event::RulesOffloaded] {
        driver.lifecycle.handle(rig.reactor.now(), event);
    }
    driver.rules_returned(&mut rig.cx(), None);
    assert!(driver.lifecycle.is_ending());
    let failure = driver.shared.facts().failure.clone().unwrap();
    assert_eq!(failure.code(), Code::Panic, "{failure}");
}

#[test]
#[cfg(debug_assertions)]
fn a_panic_while_an_event_is_handled_leaves_no_event_behind_that_waits_for_its_end() {
    let mut rig = Rig::new();
    let mut driver = rig.driver();
    // It has no plan, so runsc can't be started, which an assertion says.
    let start = || driver.handle(&mut rig.cx(), Event::Prepared(Part::Files));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(start)).is_err());
    driver.terminate(&mut rig.cx());
    assert!(driver.lifecycle.is_ending() && driver.events.is_empty());
}
