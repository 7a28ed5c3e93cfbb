//! Every pair of phase and event: what is done, and the phase after it.

use super::*;

const PHASES: [Phase; 10] = [
    Phase::Preparing,
    Phase::Warm,
    Phase::Booting,
    Phase::Starting,
    Phase::Running,
    Phase::Saving,
    Phase::Ending,
    Phase::Reaping,
    Phase::Clearing,
    Phase::Gone,
];

/// One event of each kind. The names of the table come first.
fn events(sandbox: &Sandbox) -> Vec<(&'static str, Event)> {
    let lost = || error("lost");
    let observed = Observed { keeper_exited: false, last_byte: sandbox.start };
    vec![
        ("Prepared", Event::Prepared(Part::Files)),
        ("RunscAsked", Event::RunscAsked),
        ("InitReady", Event::InitReady),
        ("MemoryLookedFor", Event::MemoryLookedFor { found: true }),
        ("Taken", Event::Taken(Box::new(settings()))),
        ("GatewayOpen", Event::GatewayOpen),
        ("ProgramStarted", Event::ProgramStarted),
        ("TunnelsOpen", Event::TunnelsOpen),
        ("Failed", Event::Failed(lost())),
        ("LossSuspected", Event::LossSuspected(lost())),
        ("ProgramExited", Event::ProgramExited(0)),
        ("InitLost", Event::InitLost(lost())),
        ("RunscExited", Event::RunscExited(lost())),
        ("OutOfMemory", Event::OutOfMemory("too little".to_owned())),
        ("LifetimeExpired", Event::LifetimeExpired),
        ("KeeperClosed", Event::KeeperClosed(lost())),
        ("KeeperExited", Event::KeeperExited),
        ("Detached", Event::Detached),
        ("RulesOffloaded", Event::RulesOffloaded),
        ("RulesReclaimed", Event::RulesReclaimed),
        ("GroupsRemoved", Event::GroupsRemoved),
        ("GroupsBusy", Event::GroupsBusy),
        ("TerminateRequested", Event::TerminateRequested),
        ("HandleClosed", Event::HandleClosed),
        ("StopRequested", Event::StopRequested { signal: 15, grace: MINUTE }),
        ("Drained", Event::Drained),
        ("Activity", Event::Activity),
        ("ExecsBusy", Event::ExecsBusy),
        ("ExecsIdle", Event::ExecsIdle),
        ("FileBegan", Event::FileBegan),
        ("FileEnded", Event::FileEnded),
        ("SnapshotBegan", Event::SnapshotBegan { time: MINUTE }),
        ("SnapshotEnded", Event::SnapshotEnded { lost: None }),
        ("ExitSnapshotBegan", Event::ExitSnapshotBegan),
        ("ExitSnapshotEnded", Event::ExitSnapshotEnded),
        ("ProbeRequested", Event::ProbeRequested),
        ("ProbeAnswered", Event::ProbeAnswered { ticket: 2, ready: true }),
        ("InitAsked", Event::InitAsked { ticket: 9 }),
        ("InitAnswered", Event::InitAnswered { ticket: 9 }),
        ("SilenceChecked", Event::SilenceChecked { watched: MINUTE }),
        ("TimePassed", Event::TimePassed(observed)),
    ]
}

/// Every pair that does something, with the phase after it if that is another. All other pairs do nothing.
const TABLE: &str = "
Preparing Prepared => Booting: StartRunsc, LimitLifetime(665s)
Preparing Failed => Ending: Publish(Ending), Release, AskKeeperToKill
Preparing RunscExited => Ending: Publish(Ending), Release, AskKeeperToKill
Preparing OutOfMemory => Ending: Publish(Ending), Release, AskKeeperToKill
Preparing LifetimeExpired => Ending: Publish(Ending), Release, AskKeeperToKill
Preparing KeeperClosed => Reaping: Publish(Ending), Release, AwaitKeeperExit
Preparing TerminateRequested => Ending: Publish(Ending), Release, AskKeeperToKill
Preparing HandleClosed => Ending: Publish(Ending), Release, AskKeeperToKill
Preparing StopRequested => Ending: Publish(Ending), Release, AskKeeperToKill
Preparing TimePassed => Ending: Publish(Ending), Release, AskKeeperToKill
Warm RunscAsked: LoadRules
Warm Taken => Booting: LimitLifetime(665s), OpenGateway
Warm Failed => Ending: Publish(Ending), Release, AskKeeperToKill
Warm InitLost: CloseInit
Warm RunscExited => Ending: Publish(Ending), Release, AskKeeperToKill
Warm OutOfMemory => Ending: Publish(Ending), Release, AskKeeperToKill
Warm LifetimeExpired => Ending: Publish(Ending), Release, AskKeeperToKill
Warm KeeperClosed => Reaping: Publish(Ending), Release, AwaitKeeperExit
Warm TerminateRequested => Ending: Publish(Ending), Release, AskKeeperToKill
Warm HandleClosed => Ending: Publish(Ending), Release, AskKeeperToKill
Warm StopRequested => Ending: Publish(Ending), Release, AskKeeperToKill
Warm SilenceChecked: Ping { ticket: 2 }
Warm TimePassed => Ending: Publish(Ending), Release, AskKeeperToKill
Booting RunscAsked: OpenGateway
Booting InitReady: AskUsage
Booting MemoryLookedFor => Starting: StartProgram
Booting Failed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Booting InitLost: CloseInit
Booting RunscExited => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Booting OutOfMemory => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Booting LifetimeExpired => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Booting KeeperClosed => Reaping: Publish(Ending), DetachEngine, Release, AwaitKeeperExit
Booting TerminateRequested => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Booting HandleClosed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Booting StopRequested => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Booting TimePassed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Starting ProgramStarted: OpenTunnels
Starting Failed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Starting InitLost: CloseInit
Starting RunscExited => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Starting OutOfMemory => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Starting LifetimeExpired => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Starting KeeperClosed => Reaping: Publish(Ending), DetachEngine, Release, AwaitKeeperExit
Starting TerminateRequested => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Starting HandleClosed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Starting StopRequested => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Starting TimePassed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Running Failed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Running ProgramExited => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Running InitLost: CloseInit
Running RunscExited => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Running OutOfMemory => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Running LifetimeExpired => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Running KeeperClosed => Reaping: Publish(Ending), DetachEngine, Release, AwaitKeeperExit
Running TerminateRequested => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Running HandleClosed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Running StopRequested: Drain, SignalPrograms(15)
Running ProbeAnswered: Publish(Ready)
Running SilenceChecked: Ping { ticket: 3 }
Running TimePassed => Ending: Publish(Ending), DetachEngine, Release, AskKeeperToKill
Saving GatewayOpen: DetachEngine
Saving Failed => Ending: DropExitSnapshot, Release, AskKeeperToKill
Saving InitLost => Ending: CloseInit, DropExitSnapshot, Release, AskKeeperToKill
Saving RunscExited => Ending: DropExitSnapshot, Release, AskKeeperToKill
Saving OutOfMemory => Ending: DropExitSnapshot, Release, AskKeeperToKill
Saving LifetimeExpired => Ending: DropExitSnapshot, Release, AskKeeperToKill
Saving KeeperClosed => Reaping: DropExitSnapshot, Release, AwaitKeeperExit
Saving TerminateRequested => Ending: DropExitSnapshot, Release, AskKeeperToKill
Saving HandleClosed => Ending: DropExitSnapshot, Release, AskKeeperToKill
Saving ExitSnapshotBegan: LimitLifetime(65s)
Saving ExitSnapshotEnded => Ending: Release, AskKeeperToKill
Saving TimePassed => Ending: DropExitSnapshot, Release, AskKeeperToKill
Ending GatewayOpen: DetachEngine
Ending InitLost: CloseInit
Ending KeeperClosed => Reaping: AwaitKeeperExit
Ending TimePassed: KillKeeper
Reaping GatewayOpen: DetachEngine
Reaping InitLost: CloseInit
Reaping KeeperExited => Clearing: ReapKeeper, RemoveGroups
Reaping TimePassed: KillKeeper
Clearing GatewayOpen: DetachEngine
Clearing InitLost => Gone: CloseInit, Finish
Clearing TimePassed => Gone: CloseInit, Finish
";

fn line(phase: Phase, name: &str, after: Phase, actions: &[Action]) -> String {
    let actions: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
    let after = if after == phase { String::new() } else { format!(" => {after:?}") };
    format!("{phase:?} {name}{after}: {}", actions.join(", ")).trim_end().to_owned()
}

#[test]
fn every_pair_of_phase_and_event_does_what_the_table_says() {
    let mut lines = Vec::new();
    for phase in PHASES {
        for (name, event) in events(&Sandbox::at(phase)) {
            let mut sandbox = Sandbox::at(phase);
            if matches!(event, Event::TimePassed(_)) {
                // As late as that phase's deadline.
                let deadline = sandbox.life.deadline.unwrap_or(sandbox.now);
                sandbox.now = deadline;
            }
            let actions = sandbox.handle(event);
            if sandbox.phase() != phase || !actions.is_empty() {
                lines.push(line(phase, name, sandbox.phase(), &actions));
            }
        }
    }
    let found = lines.join("\n");
    assert_eq!(found, TABLE.trim(), "the table is now:\n{found}\n");
}

#[test]
fn no_event_leads_backwards() {
    for phase in PHASES {
        for (name, event) in events(&Sandbox::at(phase)) {
            let mut sandbox = Sandbox::at(phase);
            sandbox.handle(event);
            assert!(sandbox.phase() >= phase, "{name} in {phase:?} leads to {:?}", sandbox.phase());
        }
    }
}
