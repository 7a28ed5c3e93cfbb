//! Every pair of phase and event, the rules of causes and deadlines, and, in `orders`, whatever order events come in.

mod exit_snapshots;
mod members;
mod orders;
mod rules;
mod table;

use std::time::{Duration, Instant};

use super::{Action, Depth, Event, Lifecycle, Notice, Observed, Part, Phase, ProbeSettings, Settings};
use crate::error::{Code, Error};

const MINUTE: Duration = Duration::from_secs(60);

/// A sandbox with everything: network, program, watched memory, control groups, idle timeout, probe.
fn settings() -> Settings {
    Settings {
        depth: Depth::Program,
        network: true,
        has_command: true,
        has_start: true,
        watches_memory: true,
        has_groups: true,
        timeout: 10 * MINUTE,
        idle_timeout: Some(5 * MINUTE),
        probe: Some(ProbeSettings {
            interval: Duration::from_millis(100),
            by_command: true,
            from_start: true,
        }),
        exit_snapshot: false,
    }
}

fn error(text: &str) -> Error {
    Error::new(Code::Engine, text)
}

/// A lifecycle with a clock of its own.
#[derive(Debug)]
struct Sandbox {
    life: Lifecycle,
    start: Instant,
    now: Instant,
}

impl Sandbox {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { life: Lifecycle::new(settings, now), start: now, now }
    }

    /// One with everything, in that phase. Only one that is saved has an exit snapshot.
    fn at(phase: Phase) -> Self {
        let depth = if phase == Phase::Warm { Depth::Init } else { Depth::Program };
        Self::with(Settings { exit_snapshot: phase == Phase::Saving, depth, ..settings() }, phase)
    }

    /// One with these settings, in that phase.
    fn with(settings: Settings, phase: Phase) -> Self {
        let mut sandbox = Self::new(settings);
        let steps = [
            Event::Prepared(Part::Links),
            Event::Prepared(Part::Relays),
            Event::Prepared(Part::Files),
            Event::RunscAsked,
            Event::GatewayOpen,
            Event::InitReady,
            Event::MemoryLookedFor { found: true },
            Event::ProgramStarted,
            Event::TunnelsOpen,
            Event::TerminateRequested,
            Event::KeeperClosed(error("the keeper ended")),
            Event::KeeperExited,
            Event::Detached,
            Event::GroupsRemoved,
            Event::InitLost(error("init ended")),
        ];
        // Each phase with as much done as can be before the next, but for the start of the program.
        for event in steps {
            if phase == Phase::Starting && matches!(event, Event::ProgramStarted) {
                break;
            }
            // A member's gateway is opened when it is taken.
            if phase == Phase::Warm && matches!(event, Event::GatewayOpen) {
                continue;
            }
            let mut next = sandbox.life.clone();
            next.handle(sandbox.now, event);
            if next.phase() > phase {
                break;
            }
            sandbox.life = next;
        }
        assert_eq!(sandbox.life.phase(), phase);
        sandbox
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.life.handle(self.now, event)
    }

    fn all(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Action> {
        events.into_iter().flat_map(|event| self.handle(event)).collect()
    }

    /// Time passes, and the driver reports it.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.observe(false)
    }

    fn observe(&mut self, keeper_exited: bool) -> Vec<Action> {
        self.handle(Event::TimePassed(Observed { keeper_exited, last_byte: self.start }))
    }

    fn phase(&self) -> Phase {
        self.life.phase()
    }

    fn why(&self) -> String {
        self.life.why().unwrap_or_default()
    }
}

/// The status of waitpid(2) of a program that a signal ended, and of one that exited.
const KILLED: i32 = libc::SIGKILL;
const EXITED: i32 = 3 << 8;

fn without_network() -> Settings {
    Settings { network: false, watches_memory: false, ..settings() }
}

fn text(actions: &[Action]) -> String {
    actions.iter().map(|action| format!("{action:?}")).collect::<Vec<_>>().join(", ")
}

/// Everything of it dies.
fn bury(sandbox: &mut Sandbox) -> Vec<Action> {
    sandbox.all([
        Event::KeeperClosed(error("the keeper ended")),
        Event::KeeperExited,
        Event::Detached,
        Event::GroupsRemoved,
        Event::InitLost(error("init ended")),
    ])
}
