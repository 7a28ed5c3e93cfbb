//! The rules of members of the warm pool.

use super::super::{KILL_GRACE, START_TIMEOUT};
use super::*;

/// A member of the warm pool, as far as init's first message.
fn member(settings: Settings) -> Sandbox {
    let mut sandbox = Sandbox::new(Settings { depth: Depth::Init, timeout: 60 * MINUTE, ..settings });
    sandbox.all([Part::Links, Part::Files, Part::Relays].map(Event::Prepared));
    sandbox
}

#[test]
fn a_member_waits_with_rules_that_allow_nothing_until_it_is_taken() {
    let mut sandbox = member(settings());
    assert_eq!(sandbox.handle(Event::RunscAsked), [Action::LoadRules]);
    assert_eq!(sandbox.handle(Event::InitReady), [Action::AskUsage]);
    assert!(!sandbox.life.can_be_taken(), "its memory isn't seen yet");
    assert!(sandbox.handle(Event::MemoryLookedFor { found: true }).is_empty());
    assert!(sandbox.life.can_be_taken() && sandbox.life.is_member() && sandbox.phase() == Phase::Warm);
    assert!(sandbox.pass(59 * MINUTE).is_empty(), "the time that a start may take doesn't count");

    let limit = settings().timeout + START_TIMEOUT + KILL_GRACE;
    let actions = sandbox.handle(Event::Taken(Box::new(settings())));
    assert_eq!(
        actions,
        [Action::LimitLifetime(limit), Action::OpenGateway],
        "nothing starts before the policy"
    );
    assert!(!sandbox.life.can_be_taken() && !sandbox.life.is_member());
    assert_eq!(sandbox.handle(Event::GatewayOpen), [Action::StartProgram]);
    assert_eq!(sandbox.handle(Event::ProgramStarted), [Action::OpenTunnels]);
    sandbox.handle(Event::TunnelsOpen);
    assert_eq!(sandbox.phase(), Phase::Running);
    assert!(
        sandbox.pass(settings().timeout).contains(&Action::Release),
        "its lifetime began when it was taken"
    );
}

#[test]
fn a_spare_waits_with_its_runsc_held_until_it_is_taken() {
    let mut sandbox = Sandbox::new(Settings { depth: Depth::Runsc, timeout: 60 * MINUTE, ..settings() });
    let prepared = sandbox.all([Part::Links, Part::Files, Part::Relays].map(Event::Prepared));
    assert!(prepared.contains(&Action::HoldRunsc) && !prepared.contains(&Action::StartRunsc));
    assert!(!sandbox.life.can_be_taken());
    assert_eq!(sandbox.handle(Event::RunscAsked), [Action::LoadRules]);
    assert!(sandbox.life.can_be_taken() && sandbox.life.is_held());
    let silent = sandbox.handle(Event::SilenceChecked { watched: Duration::from_secs(60) });
    assert!(silent.is_empty() && sandbox.life.can_be_taken(), "there is no init to answer");
    assert!(sandbox.pass(59 * MINUTE).is_empty());

    let limit = settings().timeout + START_TIMEOUT + KILL_GRACE;
    let actions = sandbox.handle(Event::Taken(Box::new(settings())));
    assert_eq!(actions, [Action::LetGoOfRunsc, Action::LimitLifetime(limit), Action::OpenGateway]);
    assert!(!sandbox.life.is_held());
    // From here on it is as any that starts.
    assert!(sandbox.handle(Event::GatewayOpen).is_empty(), "its memory isn't seen yet");
    assert_eq!(sandbox.handle(Event::InitReady), [Action::AskUsage]);
    assert_eq!(sandbox.handle(Event::MemoryLookedFor { found: true }), [Action::StartProgram]);
}

#[test]
fn a_member_without_network_and_program_runs_when_it_is_taken() {
    let settings = Settings { has_command: false, has_start: false, ..without_network() };
    let mut sandbox = member(settings.clone());
    sandbox.all([Event::RunscAsked, Event::InitReady]);
    let actions = sandbox.handle(Event::Taken(Box::new(settings)));
    assert_eq!(actions.last(), Some(&Action::OpenTunnels));
}

#[test]
fn a_member_that_is_incomplete_lost_or_too_old_can_not_be_taken() {
    let ready = || {
        let mut sandbox = member(without_network());
        sandbox.all([Event::RunscAsked, Event::InitReady]);
        assert!(sandbox.life.can_be_taken());
        sandbox
    };
    for event in [
        Event::InitLost(error("init ended")),
        Event::LossSuspected(error("rules")),
        Event::KeeperClosed(error("the keeper ended")),
        Event::TerminateRequested,
        Event::LifetimeExpired,
    ] {
        let mut sandbox = ready();
        sandbox.handle(event);
        assert!(!sandbox.life.can_be_taken());
    }
    let mut sandbox = ready();
    sandbox.pass(60 * MINUTE);
    assert_eq!(sandbox.phase(), Phase::Ending);
    let mut sandbox = member(without_network());
    sandbox.handle(Event::RunscAsked);
    sandbox.pass(START_TIMEOUT);
    assert!(sandbox.why().contains("runsc did not bring up its init"), "{}", sandbox.why());
}

#[test]
fn a_member_that_does_not_answer_is_lost() {
    let mut sandbox = member(without_network());
    let check = |seconds| Event::SilenceChecked { watched: Duration::from_secs(seconds) };
    sandbox.all([Event::RunscAsked, Event::InitReady, Event::MemoryLookedFor { found: true }]);
    assert!(sandbox.life.can_be_taken());
    let asked = sandbox.handle(check(10));
    let [Action::Ping { ticket }] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(sandbox.handle(check(19)), [Action::CheckSilenceSoon]);
    let mut silent = Sandbox { life: sandbox.life.clone(), ..member(without_network()) };
    assert_eq!(silent.handle(check(20)), [Action::CloseInit]);
    assert!(!silent.life.can_be_taken());
    sandbox.handle(Event::InitAnswered { ticket });
    sandbox.handle(check(20));
    assert!(sandbox.life.can_be_taken());
}
