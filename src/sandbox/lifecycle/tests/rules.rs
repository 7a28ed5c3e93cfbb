//! The rules that a table of phases doesn't show: causes, deadlines, what waits for what.

use super::super::{
    Cause, KILL_GRACE, LOSS_TIMEOUT, MAX_KILLS, MAX_REMOVALS, Outcome, SNAPSHOT_GRACE, START_TIMEOUT,
};
use super::*;
use crate::sandbox::ExitReason;

#[test]
fn runsc_is_started_once_links_files_and_relays_are_there() {
    let parts = [Part::Links, Part::Files, Part::Relays];
    for first in 0..3 {
        let mut sandbox = Sandbox::new(settings());
        let order = [first, (first + 1) % 3, (first + 2) % 3].map(|index| parts[index]);
        assert!(sandbox.all(order[..2].iter().map(|part| Event::Prepared(*part))).is_empty());
        let actions = sandbox.handle(Event::Prepared(order[2]));
        let limit = settings().timeout + START_TIMEOUT + KILL_GRACE;
        assert_eq!(actions, [Action::StartRunsc, Action::LimitLifetime(limit)]);
        assert!(sandbox.all(parts.map(Event::Prepared)).is_empty(), "once");
    }
    let mut sandbox = Sandbox::new(without_network());
    assert_eq!(sandbox.handle(Event::Prepared(Part::Files)).first(), Some(&Action::StartRunsc));
}

#[test]
fn the_program_is_started_when_the_gateway_is_open_and_the_memory_was_seen() {
    let booted = || {
        let mut sandbox = Sandbox::new(settings());
        sandbox.all([Part::Links, Part::Files, Part::Relays].map(Event::Prepared));
        assert_eq!(sandbox.handle(Event::RunscAsked), [Action::OpenGateway]);
        sandbox
    };
    let seen = Event::MemoryLookedFor { found: true };
    let mut sandbox = booted();
    assert!(sandbox.handle(Event::GatewayOpen).is_empty());
    assert!(sandbox.handle(seen.clone()).is_empty(), "an answer to a question before init was there");
    assert_eq!(sandbox.handle(Event::InitReady), [Action::AskUsage]);
    assert_eq!(sandbox.handle(seen.clone()), [Action::StartProgram]);
    let mut sandbox = booted();
    sandbox.all([Event::InitReady, seen]);
    assert_eq!(sandbox.handle(Event::GatewayOpen), [Action::StartProgram]);
    let mut sandbox = booted();
    sandbox.all([Event::InitReady, Event::MemoryLookedFor { found: false }]);
    assert!(sandbox.why().contains("the limit of memory can't be held by watching"));
}

#[test]
fn without_a_network_the_program_is_asked_for_before_init_is_there() {
    let mut sandbox = Sandbox::new(without_network());
    sandbox.handle(Event::Prepared(Part::Files));
    assert_eq!(sandbox.handle(Event::RunscAsked), [Action::StartProgram]);
    assert!(sandbox.handle(Event::InitReady).is_empty());
    assert_eq!(sandbox.handle(Event::ProgramStarted), [Action::OpenTunnels]);
    assert!(sandbox.handle(Event::ProgramStarted).is_empty(), "once");
    assert_eq!(
        text(&sandbox.handle(Event::TunnelsOpen)),
        "LimitLifetime(605s), Publish(Started), AskProbe { ticket: 2 }"
    );
    assert!(sandbox.life.has_started());
}

#[test]
fn without_a_program_a_sandbox_runs_once_init_does() {
    let mut sandbox = Sandbox::new(Settings { has_command: false, has_start: false, ..without_network() });
    assert!(sandbox.all([Event::Prepared(Part::Files), Event::RunscAsked]).contains(&Action::StartRunsc));
    assert_eq!(sandbox.handle(Event::InitReady), [Action::OpenTunnels]);
    sandbox.handle(Event::TunnelsOpen);
    assert_eq!(sandbox.phase(), Phase::Running);
}

#[test]
fn a_start_that_takes_too_long_says_what_is_missing() {
    for (phase, what) in [
        (Phase::Preparing, "its namespaces and files were not ready"),
        (Phase::Booting, "runsc did not bring up its init"),
        (Phase::Starting, "its program was not started"),
    ] {
        let mut sandbox = Sandbox::at(phase);
        assert!(sandbox.pass(START_TIMEOUT - Duration::from_millis(1)).is_empty());
        sandbox.pass(Duration::from_millis(1));
        let why = format!("it could not be created: it did not start within 60 s: {what}");
        assert_eq!(sandbox.why(), why);
    }
    let mut sandbox = Sandbox::new(without_network());
    sandbox.all([Event::Prepared(Part::Files), Event::RunscAsked]);
    assert_eq!(sandbox.phase(), Phase::Starting);
    sandbox.pass(START_TIMEOUT);
    assert!(sandbox.why().ends_with("runsc did not bring up its init"));
}

#[test]
fn whatever_ends_it_before_the_program_was_started_it_was_never_created() {
    for (event, text) in [
        (Event::Failed(error("no namespace")), "no namespace"),
        (Event::RunscExited(error("runsc failed")), "runsc failed"),
        (Event::KeeperClosed(error("the keeper ended")), "the keeper ended"),
        (Event::OutOfMemory("too little".to_owned()), "too little before its program was started"),
        (Event::TerminateRequested, "it was ended before its program was started"),
        (Event::StopRequested { signal: 15, grace: MINUTE }, "it was ended before its program was started"),
        (Event::LifetimeExpired, "it did not start within 60 s, in which the host was stopped"),
    ] {
        for phase in [Phase::Preparing, Phase::Booting, Phase::Starting] {
            let mut sandbox = Sandbox::at(phase);
            sandbox.handle(event.clone());
            match sandbox.life.outcome() {
                Outcome::Failed(error) => assert_eq!(error.message(), text),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn the_end_is_reported_by_its_cause() {
    let over = |event: Event| {
        let mut sandbox = Sandbox::at(Phase::Running);
        sandbox.handle(event);
        (sandbox.life.outcome(), sandbox.life.outcome_of_execs())
    };
    for (event, expected, execs) in [
        (Event::ProgramExited(EXITED), (ExitReason::Exited, 3, 0, ""), (ExitReason::Terminated, 137)),
        (Event::ProgramExited(KILLED), (ExitReason::Signalled, 137, 9, ""), (ExitReason::Terminated, 137)),
        (Event::LifetimeExpired, (ExitReason::TimedOut, 124, 0, ""), (ExitReason::TimedOut, 124)),
        (Event::TerminateRequested, (ExitReason::Terminated, 137, 0, ""), (ExitReason::Terminated, 137)),
        (
            Event::OutOfMemory("too little".to_owned()),
            (ExitReason::OutOfMemory, 137, 0, "too little"),
            (ExitReason::OutOfMemory, 137),
        ),
        (
            Event::RunscExited(error("gone")),
            (ExitReason::EngineLost, 137, 0, "gone"),
            (ExitReason::EngineLost, 137),
        ),
    ] {
        let (outcome, of_execs) = over(event);
        match outcome {
            Outcome::Exited { reason, code, signal, detail } => {
                assert_eq!((reason, code, signal, detail.as_str()), expected);
            }
            Outcome::Failed(error) => panic!("{error}"),
        }
        assert_eq!(of_execs, execs);
    }
}

#[test]
fn the_first_cause_counts_and_the_keeper_is_asked_once() {
    let mut sandbox = Sandbox::at(Phase::Running);
    let actions = sandbox.handle(Event::ProgramExited(EXITED));
    assert_eq!(actions.iter().filter(|action| **action == Action::AskKeeperToKill).count(), 1);
    let later = [
        Event::TerminateRequested,
        Event::RunscExited(error("runsc ended")),
        Event::LifetimeExpired,
        Event::Failed(error("late")),
        Event::ProgramExited(KILLED),
        Event::OutOfMemory("too little".to_owned()),
        Event::StopRequested { signal: 15, grace: MINUTE },
    ];
    assert!(sandbox.all(later).is_empty());
    assert_eq!(sandbox.why(), "its program exited with code 3");
}

#[test]
fn a_lack_of_memory_explains_a_lost_engine_and_a_killed_program_only() {
    let why = |first: Event| {
        let mut sandbox = Sandbox::at(Phase::Running);
        sandbox.all([first, Event::OutOfMemory("too little".to_owned())]);
        sandbox.why()
    };
    assert_eq!(why(Event::RunscExited(error("gone"))), "out of memory: too little");
    assert_eq!(why(Event::ProgramExited(KILLED)), "out of memory: too little");
    assert_eq!(why(Event::ProgramExited(EXITED)), "its program exited with code 3");
    assert_eq!(why(Event::TerminateRequested), "terminated");
    assert_eq!(why(Event::LifetimeExpired), "timed out after 600 s");
}

#[test]
fn a_lost_init_waits_for_the_keepers_word() {
    let lost = || Event::InitLost(error("init ended"));
    let mut sandbox = Sandbox::at(Phase::Running);
    assert_eq!(sandbox.handle(lost()), [Action::CloseInit]);
    assert!(sandbox.pass(LOSS_TIMEOUT / 2).is_empty());
    sandbox.handle(Event::RunscExited(error("gVisor ended")));
    assert_eq!(sandbox.why(), "engine lost: gVisor ended", "the keeper knows more");
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.handle(lost());
    sandbox.pass(LOSS_TIMEOUT);
    assert_eq!(sandbox.why(), "engine lost: init ended", "it says nothing");
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.all([lost(), Event::OutOfMemory("too little".to_owned())]);
    assert_eq!(sandbox.why(), "out of memory: too little");
    let mut sandbox = Sandbox::at(Phase::Booting);
    sandbox.handle(Event::LossSuspected(error("no such device")));
    sandbox.pass(LOSS_TIMEOUT);
    assert_eq!(sandbox.why(), "it could not be created: no such device");
}

#[test]
fn further_losses_do_not_put_the_end_off() {
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.handle(Event::LossSuspected(error("no such device")));
    sandbox.pass(LOSS_TIMEOUT / 2);
    sandbox.all([Event::LossSuspected(error("another")), Event::InitLost(error("init ended"))]);
    sandbox.pass(LOSS_TIMEOUT / 2);
    assert_eq!(sandbox.why(), "engine lost: no such device");
}

#[test]
fn a_suspected_loss_is_decided_in_time_although_the_program_starts() {
    let mut sandbox = Sandbox::at(Phase::Starting);
    sandbox.all([Event::LossSuspected(error("no such device")), Event::ProgramStarted, Event::TunnelsOpen]);
    assert_eq!(sandbox.phase(), Phase::Running);
    sandbox.pass(LOSS_TIMEOUT);
    assert_eq!(sandbox.why(), "engine lost: no such device");
}

#[test]
fn the_lifetime_counts_from_the_programs_start() {
    let mut sandbox = Sandbox::new(Settings { idle_timeout: None, ..without_network() });
    sandbox.all([Event::Prepared(Part::Files), Event::RunscAsked, Event::InitReady]);
    sandbox.pass(START_TIMEOUT / 2);
    sandbox.all([Event::ProgramStarted, Event::TunnelsOpen, Event::ProbeAnswered { ticket: 2, ready: true }]);
    assert_eq!(sandbox.life.next_deadline(), Some(sandbox.now + settings().timeout));
    sandbox.pass(settings().timeout);
    assert_eq!(sandbox.why(), "timed out after 600 s");
}

#[test]
fn an_idle_sandbox_ends_and_a_used_one_does_not() {
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.handle(Event::ProbeAnswered { ticket: 2, ready: true });
    sandbox.pass(4 * MINUTE);
    sandbox.handle(Event::Activity);
    sandbox.pass(MINUTE);
    assert_eq!(sandbox.phase(), Phase::Running);
    sandbox.all([Event::ExecsBusy, Event::FileBegan]);
    sandbox.pass(3 * MINUTE);
    sandbox.all([Event::FileEnded, Event::ExecsIdle]);
    assert_eq!(sandbox.phase(), Phase::Running);
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.handle(Event::ProbeAnswered { ticket: 2, ready: true });
    sandbox.pass(5 * MINUTE);
    assert_eq!(sandbox.why(), "idle for 300 s");
}

#[test]
fn a_probe_is_asked_until_the_server_is_ready() {
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.handle(Event::ProbeAnswered { ticket: 2, ready: false });
    assert_eq!(sandbox.pass(Duration::from_millis(100)), [Action::AskProbe { ticket: 3 }]);
    let again = [Action::KillProbe { ticket: 3 }, Action::AskProbe { ticket: 4 }];
    assert_eq!(sandbox.pass(Duration::from_secs(5)), again, "it hasn't answered");
    assert!(sandbox.handle(Event::ProbeAnswered { ticket: 3, ready: true }).is_empty(), "too late");
    let ready = sandbox.handle(Event::ProbeAnswered { ticket: 4, ready: true });
    assert_eq!(ready, [Action::Publish(Notice::Ready)]);
    assert!(sandbox.handle(Event::ProbeRequested).is_empty(), "that is known");
    assert!(sandbox.handle(Event::ProbeAnswered { ticket: 4, ready: true }).is_empty());
}

#[test]
fn a_stop_ends_when_the_program_and_the_connections_have() {
    let stop = Event::StopRequested { signal: 15, grace: MINUTE };
    let mut sandbox = Sandbox::at(Phase::Running);
    assert_eq!(sandbox.handle(stop.clone()), [Action::Drain, Action::SignalPrograms(15)]);
    assert_eq!(sandbox.handle(stop.clone()), [Action::SignalPrograms(15)]);
    assert!(sandbox.handle(Event::ProgramExited(EXITED)).is_empty(), "a connection is open");
    sandbox.handle(Event::Drained);
    assert_eq!(sandbox.why(), "its program exited with code 3");
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.all([stop.clone(), Event::Drained]);
    assert_eq!(sandbox.phase(), Phase::Running, "the program runs");
    sandbox.pass(MINUTE);
    assert_eq!(sandbox.why(), "terminated");
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.all([stop.clone(), Event::ProgramExited(EXITED), Event::RunscExited(error("gone"))]);
    assert_eq!(sandbox.why(), "its program exited with code 3", "that came first");
    let mut idle = Sandbox::new(Settings { has_command: false, has_start: false, ..without_network() });
    idle.all([Event::Prepared(Part::Files), Event::RunscAsked, Event::InitReady, Event::TunnelsOpen]);
    idle.all([Event::ExecsBusy, stop]);
    assert_eq!(idle.phase(), Phase::Running);
    idle.handle(Event::ExecsIdle);
    assert_eq!(idle.why(), "terminated");
}

#[test]
fn a_silent_init_is_lost_while_the_program_runs() {
    let check = |seconds| Event::SilenceChecked { watched: Duration::from_secs(seconds) };
    let mut sandbox = Sandbox::at(Phase::Running);
    assert_eq!(sandbox.handle(check(10)), [Action::Ping { ticket: 3 }]);
    assert_eq!(sandbox.handle(check(11)), [Action::CheckSilenceSoon]);
    sandbox.handle(Event::InitAnswered { ticket: 3 });
    assert!(sandbox.handle(check(12)).is_empty(), "just pinged");
    sandbox.handle(Event::InitAsked { ticket: 4 });
    sandbox.handle(check(20));
    assert_eq!(sandbox.handle(check(49)), [Action::CheckSilenceSoon]);
    assert_eq!(sandbox.handle(check(50)), [Action::CloseInit]);
    sandbox.pass(LOSS_TIMEOUT);
    assert_eq!(sandbox.why(), "engine lost: the sandbox's init has not answered for 30 s");
}

#[test]
fn a_paused_sandbox_is_neither_silent_nor_idle() {
    let check = |seconds| Event::SilenceChecked { watched: Duration::from_secs(seconds) };
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.handle(check(10));
    sandbox.handle(Event::SnapshotBegan { time: 60 * MINUTE });
    assert!(sandbox.handle(check(20)).is_empty());
    assert!(sandbox.handle(check(500)).is_empty());
    sandbox.pass(6 * MINUTE);
    assert_eq!(sandbox.phase(), Phase::Running, "longer than its idle timeout");
    sandbox.handle(Event::SnapshotEnded { lost: None });
    // What was open before has its time from now on.
    assert_eq!(sandbox.handle(check(510)), [Action::CheckSilenceSoon]);
    assert_eq!(sandbox.handle(check(539)), [Action::CheckSilenceSoon]);
    assert_eq!(sandbox.handle(check(540)), [Action::CloseInit]);
}

#[test]
fn one_that_can_not_be_resumed_is_lost() {
    let mut sandbox = Sandbox::at(Phase::Running);
    assert!(sandbox.handle(Event::SnapshotEnded { lost: Some(error("of none")) }).is_empty());
    sandbox.handle(Event::SnapshotBegan { time: MINUTE });
    sandbox.handle(Event::SnapshotEnded { lost: Some(error("runsc can't resume it")) });
    assert_eq!(
        (sandbox.phase(), sandbox.why().as_str()),
        (Phase::Ending, "engine lost: runsc can't resume it")
    );
    // And so is one of which the keeper says nothing.
    let mut sandbox = Sandbox::at(Phase::Running);
    sandbox.handle(Event::SnapshotBegan { time: MINUTE });
    sandbox.pass(MINUTE + SNAPSHOT_GRACE - Duration::from_secs(1));
    assert_eq!(sandbox.phase(), Phase::Running);
    sandbox.pass(Duration::from_secs(1));
    assert_eq!(sandbox.phase(), Phase::Ending);
}

#[test]
fn a_keeper_that_does_not_end_is_killed_again_and_given_up() {
    let mut sandbox = Sandbox::at(Phase::Ending);
    for _ in 0..MAX_KILLS {
        assert_eq!(sandbox.pass(KILL_GRACE), [Action::KillKeeper]);
    }
    assert_eq!(text(&sandbox.pass(KILL_GRACE)), "GiveUpKeeper, CloseInit, ReapKeeper, RemoveGroups");
    assert_eq!(sandbox.phase(), Phase::Clearing);
    assert!(sandbox.handle(Event::Detached).is_empty());
    assert_eq!(sandbox.handle(Event::GroupsRemoved), [Action::Finish]);
}

#[test]
fn a_keeper_that_has_ended_unseen_is_found_at_the_deadline() {
    for phase in [Phase::Ending, Phase::Reaping] {
        let mut sandbox = Sandbox::at(phase);
        sandbox.now += KILL_GRACE;
        assert_eq!(text(&sandbox.observe(true)), "CloseInit, ReapKeeper, RemoveGroups");
    }
}

#[test]
fn nothing_is_asked_of_a_keeper_whose_channel_has_ended() {
    for phase in [Phase::Preparing, Phase::Booting, Phase::Starting, Phase::Running, Phase::Ending] {
        let mut sandbox = Sandbox::at(phase);
        let actions = sandbox.handle(Event::KeeperClosed(error("the keeper ended")));
        assert_eq!(actions.last(), Some(&Action::AwaitKeeperExit));
        assert!(!actions.contains(&Action::AskKeeperToKill));
        assert_eq!(sandbox.phase(), Phase::Reaping);
    }
}

#[test]
fn an_end_is_reported_when_nothing_is_left_in_whatever_order_it_goes() {
    let parts =
        [Event::InitLost(error("init ended")), Event::Detached, Event::GroupsRemoved, Event::RulesReclaimed];
    for first in 0..parts.len() {
        let mut sandbox = Sandbox::at(Phase::Running);
        sandbox.all([
            Event::RulesOffloaded,
            Event::TerminateRequested,
            Event::KeeperClosed(error("the keeper ended")),
            Event::KeeperExited,
        ]);
        for index in 0..parts.len() {
            assert_eq!(sandbox.phase(), Phase::Clearing);
            sandbox.handle(parts[(first + index) % parts.len()].clone());
        }
        assert!(sandbox.life.is_gone());
        assert_eq!(sandbox.life.next_deadline(), None);
    }
}

#[test]
fn an_init_that_is_held_open_is_closed_after_a_while() {
    let mut sandbox = Sandbox::at(Phase::Clearing);
    assert_eq!(sandbox.pass(KILL_GRACE), [Action::CloseInit, Action::Finish]);
}

#[test]
fn control_groups_are_removed_again_and_again_and_then_left() {
    let mut sandbox = Sandbox::at(Phase::Ending);
    sandbox.all([
        Event::KeeperClosed(error("the keeper ended")),
        Event::InitLost(error("init ended")),
        Event::Detached,
    ]);
    assert!(sandbox.handle(Event::KeeperExited).contains(&Action::RemoveGroups));
    for _ in 0..MAX_REMOVALS {
        assert!(sandbox.handle(Event::GroupsBusy).is_empty());
        assert_eq!(sandbox.pass(Duration::from_millis(5)).last(), Some(&Action::RemoveGroups));
    }
    assert_eq!(sandbox.handle(Event::GroupsBusy), [Action::AbandonGroups, Action::Finish]);
}

#[test]
fn a_gateway_that_opens_too_late_is_closed_again() {
    let mut sandbox = Sandbox::at(Phase::Preparing);
    sandbox.all([Event::Prepared(Part::Files), Event::RunscAsked, Event::TerminateRequested]);
    assert_eq!(sandbox.handle(Event::GatewayOpen), [Action::DetachEngine]);
    assert_eq!(bury(&mut sandbox).last(), Some(&Action::Finish));
}

#[test]
fn a_bug_is_the_cause_whatever_else_was() {
    let mut sandbox = Sandbox::at(Phase::Ending);
    sandbox.life.abandon(error("a bug"));
    assert!(matches!(sandbox.life.cause(), Some(Cause::Lost(error)) if error.message() == "a bug"));
    let mut sandbox = Sandbox::at(Phase::Booting);
    sandbox.life.abandon(error("a bug"));
    assert!(matches!(sandbox.life.outcome(), Outcome::Failed(_)));
}
