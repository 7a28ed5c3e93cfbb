//! Sandboxes whose planning hangs, fails, or is no longer wanted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Condvar, Mutex};

use super::*;
use crate::config::Config;
use crate::reactor::Wake;
use crate::runsc::command::SandboxId;
use crate::sandbox::State;

/// What hangs waits here.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    /// How many plan now, and the most that ever did.
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    /// Plans as the sandbox's name says; each is a failure in the end, since nothing is to be started here.
    fn plan(&self, shared: &Shared) -> Result<Plan> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        match shared.config.name() {
            Some("hangs") => {
                drop(self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
            }
            Some("panics") => panic!("as it was asked to"),
            _ => {}
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Err(Error::invalid("it was planned"))
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// A control thread that only plans.
struct Rig {
    reactor: Reactor,
    planners: Planners,
    plans: Receiver<(u64, Result<Plan>)>,
    gate: Arc<Gate>,
    next: u64,
    /// What came back with sandboxes that were planned.
    kept: Vec<Command>,
}

impl Rig {
    fn new() -> Self {
        Self::bounded(u32::MAX)
    }

    fn bounded(max_starts: u32) -> Self {
        let reactor = Reactor::new().unwrap();
        let (gate, (sender, plans)) = (Arc::new(Gate::default()), channel());
        let (planning, waker) = (Arc::clone(&gate), reactor.waker());
        let report = move |number, plan| {
            let _ = sender.send((number, plan));
            waker.wake().unwrap();
        };
        let plan = Arc::new(move |shared: &Shared| planning.plan(shared));
        let planners = Planners::new(Kind(1), plan, Arc::new(report), max_starts);
        Self { reactor, planners, plans, gate, next: 0, kept: Vec::new() }
    }

    fn begin(&mut self, name: &str) -> Arc<Shared> {
        let mut config = Config::new();
        config.set_name(name).unwrap();
        self.next += 1;
        let shared = Arc::new(Shared::new(self.next, SandboxId::random().unwrap(), config).unwrap());
        self.planners.begin(&mut self.reactor, Creation::new(Arc::clone(&shared)), Turn::Waits);
        shared
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
            self.reactor.turn(Some(Duration::from_millis(100))).unwrap();
            while let Some(wake) = self.reactor.next() {
                if let Wake::Timer(key) = wake {
                    self.planners.timer(&mut self.reactor, key);
                }
            }
            while let Ok((number, plan)) = self.plans.try_recv() {
                if let Some(returned) = self.planners.returned(&mut self.reactor, number) {
                    returned.creation.fail(plan.unwrap_err());
                    self.kept.extend(returned.meanwhile);
                }
            }
        }
    }

    fn end(&mut self, shared: &Shared) {
        assert!(self.planners.end(&mut self.reactor, shared.number));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.gate.open();
    }
}

fn has_ended(shared: &Arc<Shared>) -> bool {
    shared.facts().state == State::Ended
}

fn failure(shared: &Shared) -> (Code, String) {
    let failure = shared.facts().failure.clone().unwrap();
    (failure.code(), failure.message().to_owned())
}

#[test]
fn a_burst_of_creations_is_no_burst_of_threads() {
    let mut rig = Rig::new();
    let all: Vec<_> = (0..200).map(|_| rig.begin("good")).collect();
    rig.until("all are planned", |_| all.iter().all(has_ended));
    // The planner's own error, as if the caller had planned by itself.
    assert!(all.iter().all(|shared| failure(shared) == (Code::Invalid, "it was planned".to_owned())));
    assert!(rig.planners.are_idle());
    // One; but on a machine that is busy a thread may be late.
    assert!(rig.gate.most.load(Ordering::SeqCst) < 10);
}

#[test]
fn one_that_hangs_holds_up_no_other() {
    let mut rig = Rig::new();
    let hung = rig.begin("hangs");
    let all: Vec<_> = (0..20).map(|_| rig.begin("good")).collect();
    rig.until("the others are planned", |_| all.iter().all(has_ended));
    assert_eq!(hung.facts().state, State::Starting);
    rig.gate.open();
    rig.until("it is planned at last", |_| has_ended(&hung));
    assert_eq!(failure(&hung).0, Code::Invalid);
}

#[test]
fn there_is_a_bound_to_those_that_hang() {
    let mut rig = Rig::new();
    let all: Vec<_> = (0..MAX_THREADS * 2).map(|_| rig.begin("hangs")).collect();
    rig.until("as many as may hang do", |rig| rig.gate.inside.load(Ordering::SeqCst) == MAX_THREADS);
    // All are ended: those without a thread and those whose thread is stuck. The threads stay, and no other begins.
    all.iter().for_each(|shared| rig.end(shared));
    rig.until("all have ended", |_| all.iter().all(has_ended));
    let late = rig.begin("good");
    rig.until("the last is stuck", |rig| rig.planners.abandoned == MAX_THREADS);
    assert_eq!(late.facts().state, State::Starting);
    rig.gate.open();
    rig.until("there is room again", |_| has_ended(&late));
    assert_eq!(rig.gate.most.load(Ordering::SeqCst), MAX_THREADS);
    rig.until("no thread is left", |rig| rig.planners.abandoned == 0);
}

#[test]
fn an_ended_one_fails_at_once_and_its_plan_is_dropped() {
    let mut rig = Rig::new();
    let (hung, waits) = (rig.begin("hangs"), rig.begin("good"));
    rig.end(&waits);
    assert!(has_ended(&waits), "it had no thread yet");
    rig.end(&hung);
    rig.until("its thread is stuck", |_| has_ended(&hung));
    let (code, text) = failure(&hung);
    assert_eq!(code, Code::Closed);
    assert!(
        text.contains(hung.id.as_str()) && text.contains("ended before its program was started"),
        "{text}"
    );
    assert!(rig.planners.are_idle());
    rig.gate.open();
    rig.until("its thread has come back", |rig| rig.planners.abandoned == 0);
    assert_eq!(failure(&hung), (code, text));
}

#[test]
fn a_thread_that_panics_is_an_error() {
    let mut rig = Rig::new();
    let shared = rig.begin("panics");
    rig.until("its sandbox has ended", |_| has_ended(&shared));
    assert_eq!(failure(&shared).0, Code::Panic);
}

#[test]
fn commands_that_arrive_meanwhile_are_kept() {
    let mut rig = Rig::new();
    let (hung, good) = (rig.begin("hangs"), rig.begin("good"));
    for shared in [&hung, &good] {
        assert!(rig.planners.keep(shared.number, Command::Probe(shared.number)).is_none());
    }
    assert!(rig.planners.keep(77, Command::Probe(77)).is_some());
    rig.until("one is planned", |_| has_ended(&good));
    assert!(matches!(rig.kept[..], [Command::Probe(number)] if number == good.number));
}

#[test]
fn dropping_the_planners_fails_every_sandbox() {
    let mut rig = Rig::new();
    let all = [rig.begin("hangs"), rig.begin("good")];
    rig.gate.open();
    drop(rig);
    assert!(all.iter().all(has_ended));
}

#[test]
fn a_thread_that_can_not_be_started_is_an_error_of_planning() {
    let mut rig = Rig::new();
    let mut created = Vec::new();
    for number in [1000, 1001] {
        let shared = Shared::new(number, SandboxId::random().unwrap(), Config::new()).unwrap();
        let shared = Arc::new(shared);
        let creation = Creation::new(Arc::clone(&shared));
        let returned = Returned { creation, meanwhile: Vec::new(), turn: Turn::AtOnce, missed: Miss::Empty };
        let key = rig.planners.insert(&mut rig.reactor, returned);
        let error = Error::system("start a thread", &std::io::Error::from_raw_os_error(libc::EAGAIN));
        rig.planners.fail_to_start(key.unwrap().1, error);
        created.push(shared);
    }
    // One is ended before its error is seen.
    assert!(rig.planners.end(&mut rig.reactor, 1001));
    assert_eq!((created[1].facts().state, rig.planners.abandoned), (State::Ended, 1));
    for number in [1000, 1001] {
        let (failed, plan) = rig.plans.recv().unwrap();
        assert_eq!((failed, plan.err().and_then(|error| error.os_error())), (number, Some(libc::EAGAIN)));
        let returned = rig.planners.returned(&mut rig.reactor, number);
        assert_eq!(returned.is_some(), number == 1000, "it can be postponed");
    }
    assert_eq!(rig.planners.abandoned, 0);
}

/// The sandboxes that have been planned since the last look, which count as starting from now on.
fn planned(rig: &mut Rig, starting: &mut Vec<u64>) {
    let before = starting.len();
    while starting.len() == before {
        let (number, _) = rig.plans.recv_timeout(Duration::from_secs(60)).unwrap();
        if let Some(returned) = rig.planners.returned(&mut rig.reactor, number) {
            returned.creation.begin(|_| Ok(()));
            starting.push(number);
        }
    }
    rig.planners.set_starting(&mut rig.reactor, starting.len());
}

#[test]
fn only_so_many_start_at_once_in_the_order_of_their_calls() {
    let mut rig = Rig::bounded(2);
    let all: Vec<_> = (0..5).map(|_| rig.begin("good")).collect();
    let mut starting = Vec::new();
    planned(&mut rig, &mut starting);
    planned(&mut rig, &mut starting);
    assert_eq!(starting, [1, 2]);
    assert!(rig.planners.is_full(rig.reactor.now()) && rig.plans.try_recv().is_err());
    // One that needs no place has none to wait for.
    let shared = Arc::new(Shared::new(9, SandboxId::random().unwrap(), Config::new()).unwrap());
    rig.planners.begin(&mut rig.reactor, Creation::new(shared), Turn::AtOnce);
    let (number, _) = rig.plans.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(number == 9 && rig.planners.hurries(9) && !rig.planners.hurries(3));
    // The member that it was to take has gone: it has its turn by its number.
    let returned = rig.planners.returned(&mut rig.reactor, 9).unwrap();
    rig.planners.wait(&mut rig.reactor, returned);
    // One that waits ends at once, and keeps no place.
    rig.end(&all[2]);
    assert!(has_ended(&all[2]));
    starting.remove(0);
    rig.planners.set_starting(&mut rig.reactor, starting.len());
    planned(&mut rig, &mut starting);
    assert_eq!(starting, [2, 4]);
    starting.clear();
    rig.planners.set_starting(&mut rig.reactor, 0);
    planned(&mut rig, &mut starting);
    planned(&mut rig, &mut starting);
    assert_eq!(starting, [5, 9]);
    assert!(rig.planners.are_idle());
}

#[test]
fn none_begins_while_all_are_ended() {
    let mut rig = Rig::new();
    let hung = rig.begin("hangs");
    let all: Vec<_> = (0..100).map(|_| rig.begin("good")).collect();
    // Its thread is stuck, so another may start.
    let key = rig.planners.keys[&hung.number];
    let work = rig.planners.all.get_mut(key).unwrap().work.as_mut().unwrap();
    work.since = work.since.checked_sub(STUCK_AFTER).unwrap();
    rig.planners.end_all(&mut rig.reactor);
    assert!(has_ended(&hung) && all.iter().all(has_ended));
    assert!(rig.planners.are_idle() && rig.planners.planning_now.is_empty());
}

#[test]
fn one_that_was_postponed_is_in_no_hurry() {
    let mut rig = Rig::bounded(1);
    let shared = Arc::new(Shared::new(9, SandboxId::random().unwrap(), Config::new()).unwrap());
    rig.planners.begin(&mut rig.reactor, Creation::new(shared), Turn::AtOnce);
    let (number, _) = rig.plans.recv_timeout(Duration::from_secs(60)).unwrap();
    let returned = rig.planners.returned(&mut rig.reactor, number).unwrap();
    rig.planners.postpone(&mut rig.reactor, returned);
    rig.planners.set_starting(&mut rig.reactor, 1);
    rig.planners.resume_postponed(&mut rig.reactor);
    assert!(rig.planners.has(9) && !rig.planners.hurries(9));
}

#[test]
fn one_that_hangs_leaves_its_place_to_another() {
    let mut rig = Rig::bounded(1);
    let hung = rig.begin("hangs");
    let all = [rig.begin("good"), rig.begin("good")];
    let mut starting = Vec::new();
    let begin = Instant::now();
    while starting.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60), "the thread counts as stuck after a while");
        rig.reactor.turn(Some(Duration::from_millis(50))).unwrap();
        while let Some(wake) = rig.reactor.next() {
            rig.planners.timer(&mut rig.reactor, wake.key());
        }
        if let Ok((number, _)) = rig.plans.try_recv() {
            let returned = rig.planners.returned(&mut rig.reactor, number).unwrap();
            returned.creation.begin(|_| Ok(()));
            starting.push(number);
        }
    }
    assert_eq!(starting, [all[0].number]);
    assert!(rig.planners.is_full(rig.reactor.now()) && rig.planners.has(all[1].number));
    // It comes back: it starts although the place is taken, and then the next waits for both.
    rig.gate.open();
    planned(&mut rig, &mut starting);
    assert_eq!(starting, [all[0].number, hung.number]);
    rig.planners.set_starting(&mut rig.reactor, 1);
    assert!(rig.planners.has(all[1].number));
    rig.planners.set_starting(&mut rig.reactor, 0);
    planned(&mut rig, &mut starting);
    assert_eq!(starting.last(), Some(&all[1].number));
}

#[test]
fn waiting_for_a_turn_is_no_delay_of_planning() {
    let mut rig = Rig::bounded(1);
    let shared = rig.begin("good");
    let waits = rig.begin("good");
    let mut starting = Vec::new();
    planned(&mut rig, &mut starting);
    assert_eq!(starting, [shared.number]);
    let key = rig.planners.keys[&waits.number];
    // Its time is over, but one has had its turn since.
    let long_ago = rig.reactor.now().checked_sub(PLAN_TIMEOUT).unwrap();
    rig.planners.all.get_mut(key).unwrap().until = long_ago;
    rig.planners.timer(&mut rig.reactor, key);
    assert!(rig.planners.has(waits.number));
    // None has, for as long.
    rig.planners.moved = long_ago;
    rig.planners.timer(&mut rig.reactor, key);
    assert_eq!(failure(&waits).0, Code::Host);
}
