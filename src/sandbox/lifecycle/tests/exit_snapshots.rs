//! The rules of exit snapshots.

use super::super::{EXIT_SNAPSHOT_TIMEOUT, EXIT_SNAPSHOT_WAIT, ExitSnapshot, KILL_GRACE};
use super::*;

/// One that runs and has an exit snapshot.
fn saved() -> Sandbox {
    Sandbox::with(Settings { exit_snapshot: true, ..settings() }, Phase::Running)
}

/// What begins a save, after what closes the connections.
fn begins(end: &str) -> String {
    format!("Publish(Ending), DetachEngine, Release, LimitLifetime(665s), KillPrograms, {end}")
}

#[test]
fn an_exit_snapshot_is_taken_of_what_ends_by_itself_or_by_the_host() {
    let endings = [
        (Event::ProgramExited(EXITED), "its program exited with code 3"),
        (Event::TerminateRequested, "terminated"),
        (Event::StopRequested { signal: 15, grace: Duration::ZERO }, "terminated"),
    ];
    for (event, why) in endings {
        let mut sandbox = saved();
        let actions = text(&sandbox.handle(event.clone()));
        assert!(actions.ends_with(&begins("TakeExitSnapshot")), "{event:?}: {actions}");
        assert_eq!((sandbox.phase(), sandbox.life.exit_snapshot()), (Phase::Saving, ExitSnapshot::Waiting));
        // Its own archive, and what else it was doing.
        assert!(sandbox.all([Event::SnapshotEnded { lost: None }, Event::ProgramExited(KILLED)]).is_empty());
        assert!(sandbox.handle(Event::StopRequested { signal: 15, grace: MINUTE }).is_empty());
        assert_eq!(sandbox.handle(Event::ExitSnapshotEnded), [Action::Release, Action::AskKeeperToKill]);
        assert_eq!(sandbox.why(), why);
        assert_eq!(bury(&mut sandbox).last(), Some(&Action::Finish));
    }
    // Its time is over, and its idle time.
    let idle = settings().idle_timeout;
    for (idle_timeout, minutes, why) in [(None, 10, "timed out after 600 s"), (idle, 5, "idle for 300 s")] {
        let settings = Settings { exit_snapshot: true, idle_timeout, ..settings() };
        let mut sandbox = Sandbox::with(settings, Phase::Running);
        sandbox.pass(minutes * MINUTE);
        assert_eq!((sandbox.phase(), sandbox.why().as_str()), (Phase::Saving, why));
    }
}

#[test]
fn an_exit_snapshot_has_a_bound_and_the_host_can_do_without() {
    let skipped = |sandbox: &Sandbox| match sandbox.life.exit_snapshot() {
        ExitSnapshot::Skipped(why) => why,
        other => panic!("{other:?}"),
    };
    let stops = [Action::DropExitSnapshot, Action::Release, Action::AskKeeperToKill];
    let mut sandbox = saved();
    sandbox.handle(Event::ProgramExited(EXITED));
    assert!(sandbox.pass(EXIT_SNAPSHOT_WAIT - Duration::from_secs(1)).is_empty());
    assert_eq!(sandbox.pass(Duration::from_secs(1)), stops);
    assert!(skipped(&sandbox).contains("10 minutes"));
    // Its own time counts from when its turn has come, and the keeper knows of that.
    let mut sandbox = saved();
    sandbox.handle(Event::ProgramExited(EXITED));
    assert!(sandbox.pass(EXIT_SNAPSHOT_WAIT - Duration::from_secs(1)).is_empty());
    let limit = Action::LimitLifetime(EXIT_SNAPSHOT_TIMEOUT + KILL_GRACE);
    assert_eq!(sandbox.handle(Event::ExitSnapshotBegan), [limit]);
    assert!(sandbox.handle(Event::ExitSnapshotBegan).is_empty());
    assert!(sandbox.pass(EXIT_SNAPSHOT_TIMEOUT - Duration::from_secs(1)).is_empty());
    assert_eq!(sandbox.pass(Duration::from_secs(1)), stops);
    assert!(skipped(&sandbox).contains("60 s"));
    // The first call after the program's end joins it, the next one gives it up.
    let mut sandbox = saved();
    assert!(sandbox.all([Event::ProgramExited(EXITED), Event::TerminateRequested]).len() > 4);
    assert_eq!(sandbox.phase(), Phase::Saving);
    assert_eq!(sandbox.handle(Event::TerminateRequested), stops);
    assert!(skipped(&sandbox).contains("again"));
    assert_eq!(sandbox.why(), "its program exited with code 3");
    for begun in [true, false] {
        let mut sandbox = saved();
        if begun {
            sandbox.handle(Event::TerminateRequested);
        }
        sandbox.handle(Event::HandleClosed);
        assert_eq!((sandbox.phase(), skipped(&sandbox)), (Phase::Ending, ExitSnapshot::FREED));
    }
}

#[test]
fn there_is_no_exit_snapshot_of_what_is_lost() {
    let lost = [
        (Event::OutOfMemory("too little".to_owned()), ExitSnapshot::OUT_OF_MEMORY),
        (Event::RunscExited(error("gone")), ExitSnapshot::LOST),
        (Event::KeeperClosed(error("gone")), ExitSnapshot::LOST),
        (Event::LifetimeExpired, ExitSnapshot::EXPIRED),
    ];
    for (event, why) in lost {
        for is_saving in [false, true] {
            let mut sandbox = saved();
            if is_saving {
                sandbox.handle(Event::TerminateRequested);
            }
            sandbox.handle(event.clone());
            assert!(sandbox.phase() > Phase::Saving, "{event:?}");
            assert_eq!(sandbox.life.exit_snapshot(), ExitSnapshot::Skipped(why), "{event:?}");
        }
    }
    // While it was being stopped, and its program had ended.
    let mut sandbox = saved();
    sandbox.all([Event::StopRequested { signal: 15, grace: MINUTE }, Event::ProgramExited(EXITED)]);
    sandbox.handle(Event::RunscExited(error("gone")));
    assert_eq!(sandbox.life.exit_snapshot(), ExitSnapshot::Skipped(ExitSnapshot::LOST));
    assert_eq!(sandbox.why(), "its program exited with code 3");
    // Init first, and then the keeper says nothing.
    let mut sandbox = saved();
    sandbox.handle(Event::InitLost(error("init ended")));
    sandbox.handle(Event::TerminateRequested);
    assert_eq!(sandbox.life.exit_snapshot(), ExitSnapshot::Skipped(ExitSnapshot::LOST));
    // A lack of memory is seen later.
    let mut sandbox = saved();
    sandbox.handle(Event::ProgramExited(KILLED));
    assert_eq!(sandbox.phase(), Phase::Saving);
    sandbox.handle(Event::OutOfMemory("too little".to_owned()));
    assert_eq!(sandbox.why(), "out of memory: too little");
    assert_eq!(sandbox.life.exit_snapshot(), ExitSnapshot::Skipped(ExitSnapshot::OUT_OF_MEMORY));
}

#[test]
fn an_exit_snapshot_waits_for_the_end_of_another() {
    for lost in [None, Some(error("it can't be resumed"))] {
        let mut sandbox = saved();
        sandbox.handle(Event::SnapshotBegan { time: MINUTE });
        let actions = text(&sandbox.handle(Event::ProgramExited(EXITED)));
        assert!(actions.ends_with(&begins("CancelSnapshot")), "{actions}");
        let is_lost = lost.is_some();
        let actions = sandbox.handle(Event::SnapshotEnded { lost });
        if is_lost {
            assert_eq!(sandbox.phase(), Phase::Ending, "init can't do its part");
        } else {
            assert_eq!(actions, [Action::TakeExitSnapshot]);
        }
    }
}
