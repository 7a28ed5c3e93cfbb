//! Whatever order things happen in: a world of keeper, runsc, init, engine and host that does one thing after another,
//! and what must hold in all of them.

use proptest::prelude::*;

use super::super::{Cause, EXIT_SNAPSHOT_TIMEOUT, EXIT_SNAPSHOT_WAIT, ExitSnapshot, KILL_GRACE, Outcome};
use super::*;

/// Something that may happen next. What can't happen in the world as it is does nothing.
#[derive(Clone, Debug)]
enum Step {
    /// The keeper reports.
    Prepared(Part),
    MemoryLookedFor(bool),
    KeeperFailed,
    RunscExited,
    OutOfMemory,
    LifetimeExpired,
    /// The keeper's channel ends, or its process does.
    KeeperCloses,
    KeeperExits,
    /// Init says something, true or not.
    InitReady,
    ProgramStarted,
    ProgramExited(i32),
    ProbeAnswered(bool),
    InitAnswers,
    /// Its channel ends, or it says nonsense.
    InitLost,
    /// The first policy is loaded, or can't be.
    GatewayOpens(bool),
    /// A policy update takes the rules to a thread, and brings them back.
    PolicyUpdate,
    RulesReturn,
    EngineDetaches,
    EngineDrains,
    /// The exit snapshot begins; it ends, well or not.
    ExitSnapshotBegins,
    ExitSnapshotEnds,
    /// The host's wishes.
    Terminate,
    HandleCloses,
    Stop(u64),
    Probe,
    Use,
    ExecBegins,
    ExecEnds,
    FileBegins,
    FileEnds,
    /// A snapshot is asked for; it ends, and the sandbox is resumed or can't be.
    SnapshotBegins(u64),
    SnapshotEnds(bool),
    /// Time passes: so many milliseconds, in which the library was there or not.
    Time(u64),
    CheckSilence(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop_oneof![Just(0), Just(1 << 8), Just(libc::SIGKILL)];
    let time = prop_oneof![0_u64..100, 0_u64..10_000, 0_u64..700_000];
    let part = prop_oneof![Just(Part::Links), Just(Part::Files), Just(Part::Relays)];
    let start = prop_oneof![
        4 => part.prop_map(Step::Prepared),
        2 => any::<bool>().prop_map(Step::MemoryLookedFor),
        3 => Just(Step::InitReady),
        3 => prop::bool::weighted(0.9).prop_map(Step::GatewayOpens),
        3 => Just(Step::ProgramStarted),
    ];
    let running = prop_oneof![
        status.prop_map(Step::ProgramExited),
        any::<bool>().prop_map(Step::ProbeAnswered),
        Just(Step::InitAnswers),
        Just(Step::PolicyUpdate),
        Just(Step::RulesReturn),
        Just(Step::EngineDrains),
        (0_u64..100_000).prop_map(Step::Stop),
        Just(Step::Probe),
        Just(Step::Use),
        Just(Step::ExecBegins),
        Just(Step::ExecEnds),
        Just(Step::FileBegins),
        Just(Step::FileEnds),
        (0_u64..100_000).prop_map(Step::SnapshotBegins),
        prop::bool::weighted(0.9).prop_map(Step::SnapshotEnds),
        Just(Step::ExitSnapshotBegins),
        Just(Step::ExitSnapshotEnds),
        time.prop_map(Step::Time),
        (0_u64..40).prop_map(Step::CheckSilence),
    ];
    let end = prop_oneof![
        Just(Step::KeeperFailed),
        Just(Step::RunscExited),
        Just(Step::OutOfMemory),
        Just(Step::LifetimeExpired),
        Just(Step::KeeperCloses),
        Just(Step::KeeperExits),
        Just(Step::InitLost),
        Just(Step::Terminate),
        Just(Step::HandleCloses),
        Just(Step::EngineDetaches),
    ];
    let any = prop::collection::vec(prop_oneof![6 => start, 6 => running, 1 => end], 0..60);
    // Most orders never start a program: so much of a start that goes well comes first.
    let well = [
        Step::Prepared(Part::Links),
        Step::Prepared(Part::Relays),
        Step::Prepared(Part::Files),
        Step::GatewayOpens(true),
        Step::InitReady,
        Step::MemoryLookedFor(true),
        Step::ProgramStarted,
    ];
    (0..=well.len(), any).prop_map(move |(begun, steps)| [&well[..begun], &steps].concat())
}

/// A step of the driver that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The keeper can't be asked to start runsc, since it is ending.
    KeeperAtRunsc,
    /// There are no descriptors for init's channel.
    Runsc,
    Tunnels,
}

fn faults() -> impl Strategy<Value = Fault> {
    prop_oneof![
        9 => Just(Fault::None),
        1 => Just(Fault::KeeperAtRunsc),
        1 => Just(Fault::Runsc),
        1 => Just(Fault::Tunnels),
    ]
}

/// A world around one sandbox: what is open in it, and what has been done so far.
struct World {
    sandbox: Sandbox,
    fault: Fault,
    keeper_is_open: bool,
    keeper_has_exited: bool,
    init_is_open: bool,
    engine_is_attached: bool,
    detach_is_asked: bool,
    rules_are_away: bool,
    gateway_is_opening: bool,
    groups_are_busy: bool,
    execs: usize,
    watched: Duration,
    probe: u32,
    pinged: Option<u32>,
    published: Vec<Notice>,
    finished: usize,
    /// The host's snapshot is being taken, and the exit snapshot.
    is_archiving: bool,
    is_saving: bool,
    exit_snapshots: usize,
    /// The first cause, and whether a lack of memory was reported.
    first_cause: Option<String>,
    is_out_of_memory: bool,
}

impl World {
    fn new(settings: Settings, fault: Fault) -> Self {
        Self {
            sandbox: Sandbox::new(settings),
            fault,
            keeper_is_open: true,
            keeper_has_exited: false,
            init_is_open: false,
            engine_is_attached: false,
            detach_is_asked: false,
            rules_are_away: false,
            gateway_is_opening: false,
            groups_are_busy: false,
            execs: 0,
            watched: Duration::ZERO,
            probe: 0,
            pinged: None,
            published: Vec::new(),
            finished: 0,
            is_archiving: false,
            is_saving: false,
            exit_snapshots: 0,
            first_cause: None,
            is_out_of_memory: false,
        }
    }

    /// As the driver does it: what follows from an action is handled after the rest of the actions.
    fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while !events.is_empty() {
            let event = events.remove(0);
            let (was_gone, before) = (self.sandbox.life.is_gone(), self.sandbox.phase());
            let actions = self.sandbox.handle(event.clone());
            assert!(!was_gone || actions.is_empty(), "{event:?} after the end: {actions:?}");
            assert!(self.sandbox.phase() >= before);
            actions.into_iter().for_each(|action| self.carry_out(action, &mut events));
            if self.sandbox.life.is_ending() && self.first_cause.is_none() {
                self.first_cause = Some(self.sandbox.why());
            }
        }
    }

    fn carry_out(&mut self, action: Action, events: &mut Vec<Event>) {
        let of_keeper = [
            Action::AskUsage,
            Action::StartRunsc,
            Action::AskKeeperToKill,
            Action::CancelSnapshot,
            Action::TakeExitSnapshot,
        ];
        let asks_keeper = of_keeper.contains(&action) || matches!(action, Action::LimitLifetime(_));
        assert!(!asks_keeper || self.keeper_is_open, "{action:?} of a keeper that was reported closed");
        match action {
            Action::StartRunsc if self.fault == Fault::KeeperAtRunsc => {
                events.push(Event::LossSuspected(error("writing to the keeper")));
            }
            Action::StartRunsc if self.fault == Fault::Runsc => {
                events.push(Event::Failed(error("a socket pair")))
            }
            Action::StartRunsc => {
                self.init_is_open = true;
                events.push(Event::RunscAsked);
            }
            Action::OpenGateway => {
                (self.gateway_is_opening, self.rules_are_away) = (true, true);
                events.push(Event::RulesOffloaded);
            }
            Action::OpenTunnels if self.fault == Fault::Tunnels => {
                events.push(Event::Failed(error("no certificate")));
            }
            Action::OpenTunnels => events.push(Event::TunnelsOpen),
            Action::Publish(notice) => self.published.push(notice),
            Action::AskProbe { ticket } => self.probe = ticket,
            Action::Ping { ticket } => self.pinged = Some(ticket),
            Action::DetachEngine => self.detach_is_asked = true,
            Action::CloseInit => self.init_is_open = false,
            Action::KillKeeper => assert!(!self.keeper_has_exited, "killed after its end was seen"),
            Action::RemoveGroups if self.groups_are_busy => events.push(Event::GroupsBusy),
            Action::RemoveGroups => events.push(Event::GroupsRemoved),
            Action::KillPrograms => assert!(self.init_is_open, "init kills them"),
            Action::CancelSnapshot => assert!(self.is_archiving, "there is one"),
            Action::TakeExitSnapshot => {
                assert!(self.init_is_open && !self.is_archiving && !self.is_out_of_memory);
                assert!(self.detach_is_asked || !self.engine_is_attached, "its connections are closed");
                assert_eq!(self.published.last(), Some(&Notice::Ending));
                self.is_saving = true;
                self.exit_snapshots += 1;
            }
            Action::DropExitSnapshot => self.is_saving = false,
            Action::Finish => self.finished += 1,
            _ => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Prepared(part) => self.by_keeper(Event::Prepared(part)),
            Step::MemoryLookedFor(found) => self.by_keeper(Event::MemoryLookedFor { found }),
            Step::KeeperFailed => self.by_keeper(Event::Failed(error("a step failed"))),
            Step::RunscExited => self.by_keeper(Event::RunscExited(error("runsc ended"))),
            Step::OutOfMemory => {
                self.is_out_of_memory |= self.keeper_is_open;
                self.by_keeper(Event::OutOfMemory("too little".to_owned()));
            }
            Step::LifetimeExpired => self.by_keeper(Event::LifetimeExpired),
            Step::KeeperCloses => {
                let event = Event::KeeperClosed(error("the keeper ended"));
                if std::mem::take(&mut self.keeper_is_open) {
                    self.handle(event);
                }
            }
            Step::KeeperExits => {
                self.step(Step::KeeperCloses);
                if !std::mem::replace(&mut self.keeper_has_exited, true) {
                    self.handle(Event::KeeperExited);
                }
            }
            Step::InitReady => self.by_init(Event::InitReady),
            Step::ProgramStarted => self.by_init(Event::ProgramStarted),
            Step::ProgramExited(status) => self.by_init(Event::ProgramExited(status)),
            Step::ProbeAnswered(ready) => self.by_init(Event::ProbeAnswered { ticket: self.probe, ready }),
            Step::InitAnswers => {
                if let Some(ticket) = self.pinged.take() {
                    self.by_init(Event::InitAnswered { ticket });
                }
            }
            Step::InitLost => self.by_init(Event::InitLost(error("init ended"))),
            Step::GatewayOpens(well) => {
                if std::mem::take(&mut self.gateway_is_opening) {
                    self.rules_are_away = false;
                    self.handle(Event::RulesReclaimed);
                    let is_ending = self.sandbox.life.is_ending();
                    self.engine_is_attached |= well && !is_ending;
                    match (is_ending, well) {
                        (true, _) => {}
                        (false, true) => self.handle(Event::GatewayOpen),
                        (false, false) => self.handle(Event::LossSuspected(error("no such device"))),
                    }
                }
            }
            Step::PolicyUpdate => {
                if self.engine_is_attached && !self.rules_are_away && !self.sandbox.life.is_ending() {
                    self.rules_are_away = true;
                    self.handle(Event::RulesOffloaded);
                }
            }
            Step::RulesReturn => {
                if self.gateway_is_opening {
                    self.step(Step::GatewayOpens(true));
                } else if std::mem::take(&mut self.rules_are_away) {
                    self.handle(Event::RulesReclaimed);
                }
            }
            Step::EngineDetaches => {
                if std::mem::take(&mut self.detach_is_asked) {
                    self.engine_is_attached = false;
                    self.handle(Event::Detached);
                }
            }
            Step::EngineDrains => self.handle(Event::Drained),
            Step::ExitSnapshotBegins => {
                if self.is_saving {
                    self.handle(Event::ExitSnapshotBegan);
                }
            }
            Step::ExitSnapshotEnds => {
                if std::mem::take(&mut self.is_saving) {
                    self.handle(Event::ExitSnapshotEnded);
                    assert!(self.sandbox.phase() > Phase::Saving);
                }
            }
            Step::Terminate => {
                self.handle(Event::TerminateRequested);
            }
            Step::HandleCloses => {
                self.handle(Event::HandleClosed);
                assert!(self.sandbox.phase() > Phase::Saving);
            }
            Step::Stop(grace) => {
                let grace = Duration::from_millis(grace);
                self.handle(Event::StopRequested { signal: 15, grace });
            }
            Step::Probe => self.handle(Event::ProbeRequested),
            Step::Use => self.handle(Event::Activity),
            Step::ExecBegins => {
                self.execs += 1;
                self.handle(Event::ExecsBusy);
            }
            Step::ExecEnds => {
                if self.execs == 1 {
                    self.handle(Event::ExecsIdle);
                }
                self.execs = self.execs.saturating_sub(1);
            }
            Step::FileBegins => self.handle(Event::FileBegan),
            Step::FileEnds => self.handle(Event::FileEnded),
            Step::SnapshotBegins(time) => {
                if !self.sandbox.life.is_running() || std::mem::replace(&mut self.is_archiving, true) {
                    return;
                }
                self.handle(Event::SnapshotBegan { time: Duration::from_millis(time) });
            }
            Step::SnapshotEnds(well) => {
                let lost = (!well).then(|| error("it can't be resumed"));
                if !std::mem::take(&mut self.is_archiving) {
                    return;
                }
                self.by_keeper(Event::SnapshotEnded { lost });
            }
            Step::Time(milliseconds) => self.wait(Duration::from_millis(milliseconds)),
            Step::CheckSilence(seconds) => {
                self.watched += Duration::from_secs(seconds);
                self.handle(Event::SilenceChecked { watched: self.watched });
            }
        }
    }

    fn by_keeper(&mut self, event: Event) {
        if self.keeper_is_open {
            self.handle(event);
        }
    }

    fn by_init(&mut self, event: Event) {
        if self.init_is_open {
            self.handle(event);
        }
    }

    /// Time passes, with the timer at each deadline.
    fn wait(&mut self, time: Duration) {
        let until = self.sandbox.now + time;
        while let Some(at) = self.sandbox.life.next_deadline().filter(|at| *at <= until) {
            self.sandbox.now = at.max(self.sandbox.now);
            let keeper_exited = self.keeper_has_exited;
            self.handle(Event::TimePassed(Observed { keeper_exited, last_byte: self.sandbox.start }));
            // Progress: the next deadline is in the future.
            assert!(self.sandbox.life.next_deadline().is_none_or(|at| at > self.sandbox.now));
        }
        self.sandbox.now = until;
    }

    /// All that was alive dies, in that order.
    fn die(&mut self) {
        for step in [Step::KeeperExits, Step::InitLost, Step::EngineDetaches, Step::RulesReturn] {
            self.step(step);
        }
    }

    fn check_end(&self) {
        let life = &self.sandbox.life;
        assert!(life.is_gone(), "{:?}", self.sandbox);
        assert_eq!(self.finished, 1, "the end is reported once");
        assert_eq!(life.next_deadline(), None);
        let count = |notice| self.published.iter().filter(|one| **one == notice).count();
        assert_eq!(count(Notice::Ending), 1);
        assert_eq!(count(Notice::Started), usize::from(life.has_started()));
        assert!(count(Notice::Ready) <= count(Notice::Started));
        match life.outcome() {
            Outcome::Failed(_) => assert!(matches!(life.cause(), Some(Cause::Failed(_)))),
            Outcome::Exited { .. } => assert!(life.has_started(), "nothing exits that was never started"),
        }
        match life.exit_snapshot() {
            ExitSnapshot::Unwanted => assert_eq!(self.exit_snapshots, 0),
            // Begun, it may have waited for the end of another one in vain.
            ExitSnapshot::Waiting | ExitSnapshot::Begun | ExitSnapshot::Skipped(_) => {
                assert!(self.exit_snapshots <= 1)
            }
            ExitSnapshot::Wanted => panic!("it is taken, or there is a reason that it isn't"),
        }
        if Some(life.why()) != Some(self.first_cause.clone()) {
            assert!(self.is_out_of_memory, "{:?} and then {:?}", self.first_cause, life.why());
            assert_eq!(life.why().as_deref(), Some("out of memory: too little"));
        }
    }
}

fn any_settings() -> impl Strategy<Value = Settings> {
    (any::<[bool; 6]>(), any::<[bool; 2]>()).prop_map(
        |([network, has_command, has_start, watches_memory, has_groups, idle], [probe, exit_snapshot])| {
            Settings {
                network,
                has_command,
                has_start: has_command || has_start,
                watches_memory,
                has_groups,
                idle_timeout: settings().idle_timeout.filter(|_| idle),
                probe: settings().probe.filter(|_| probe),
                exit_snapshot,
                ..settings()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_end_is_reported_once_when_everything_has_died(
        settings in any_settings(), fault in faults(), steps in steps(), busy: bool, late in 0_u64..20_000,
    ) {
        let mut world = World::new(settings, fault);
        world.groups_are_busy = busy;
        steps.into_iter().for_each(|step| world.step(step));
        world.die();
        // The control groups, if processes are ending in them.
        world.wait(Duration::from_millis(late));
        world.die();
        world.groups_are_busy = false;
        world.wait(KILL_GRACE);
        world.check_end();
    }
}

proptest! {
    // Fewer, since each tries to remove control groups 2,000 times.
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sandbox_of_which_nothing_ever_dies_ends_too(settings in any_settings(), fault in faults(), steps in steps()) {
        let mut world = World::new(settings.clone(), fault);
        world.groups_are_busy = true;
        steps.into_iter().for_each(|step| world.step(step));
        // The keeper hangs in the kernel, init's channel stays open, processes stay in the control groups. The engine
        // and the thread with the rules are the library's own: they answer.
        world.wait(START_AND_END + settings.timeout + EXIT_SNAPSHOT_WAIT + EXIT_SNAPSHOT_TIMEOUT);
        world.step(Step::EngineDetaches);
        world.step(Step::RulesReturn);
        world.step(Step::EngineDetaches);
        world.check_end();
    }
}

/// What it takes at most beside the lifetime: a start, kills in vain, the wait for init and control groups.
const START_AND_END: Duration = Duration::from_secs(60 + 7 * 5 + 5 + 15);
