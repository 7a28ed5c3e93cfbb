//! What a bug in the control thread takes along.

use std::io::pipe;
use std::os::fd::OwnedFd;

use super::creation::is_lack;
use super::*;
use crate::config::Config;
use crate::engine::{Engine, Worker};
use crate::error::{Code, Error};
use crate::runsc::command::SandboxId;
use crate::runtime::planning::Turn;
use crate::runtime::thread::prepare;
use crate::runtime::warm::Next;
use crate::sandbox::{Creation, State};

/// A control thread's state, without the thread.
fn control() -> (Loop, Engine) {
    let (reactor, budget) = (Reactor::new().unwrap(), FdBudget::new(1000));
    let ((sender, receiver), requests) = prepare(&reactor);
    let engine = Engine::start(budget.clone(), requests).unwrap();
    let (worker, handle) = (Arc::new(Worker::<Loop>::new("test")), engine.handle());
    let control = Control::new(worker, sender, reactor.waker(), handle.clone(), budget.clone());
    let plan = |_: &Shared| Err(Error::shut_down());
    let planners = Planners::new(PLANNING, Arc::new(plan), Arc::new(|_, _| ()), u32::MAX);
    let shares = Shares { pool: Arc::default(), images: Weak::new(), max_starts: 1 };
    (Loop::new(reactor, Inbox::new(receiver), handle, control, planners, budget, shares), engine)
}

#[test]
fn a_panic_in_a_command_ends_its_sandbox_and_no_other() {
    let (mut control, _engine) = control();
    let [seventh, eighth] = [7, 8].map(|number| {
        let driver = SandboxDriver::bare(control.reactor.now(), number, &control.budget);
        let shared = Arc::clone(driver.shared());
        control.numbers.insert(number, control.sandboxes.insert(driver));
        shared
    });
    let (input, _writer) = pipe().unwrap();
    control.by_number(7, |driver, cx| driver.watch_as_input(cx, &OwnedFd::from(input)));
    assert_eq!(control.inputs.len(), 1);
    control.by_number(7, |_, _| panic!("as it was asked to"));
    assert_eq!((control.inputs.len(), control.sandboxes.len(), control.numbers.len()), (0, 1, 1));
    let facts = seventh.facts();
    assert_eq!(facts.state, State::Ended);
    assert_eq!(facts.failure.as_ref().map(Error::code), Some(Code::Panic));
    drop(facts);
    assert_eq!(eighth.facts().state, State::Starting);
}

/// A creation that has come back from planning with this error, while the pool has a member.
fn failed_to_plan(control: &mut Loop, number: u64, error: Error) -> Arc<Shared> {
    let config = Config::new();
    let now = control.reactor.now();
    control.pool().set(now, &config, 1).unwrap();
    if control.pool().stats(None).ready == 0 {
        control.pool().began(1000, &Next { config: config.clone(), is_spare: false });
        control.pool().ready(now, 1000);
    }
    let shared = Arc::new(Shared::new(number, SandboxId::random().unwrap(), config).unwrap());
    control.planners.begin(&mut control.reactor, Creation::new(Arc::clone(&shared)), Turn::Waits);
    control.planned(number, Err(error));
    shared
}

#[test]
fn a_limit_of_something_else_ends_no_member() {
    let (mut control, _engine) = control();
    let low = Error::new(Code::Limit, "the volume store is low on space");
    let shared = failed_to_plan(&mut control, 7, low);
    assert_eq!(shared.facts().failure.as_ref().map(Error::code), Some(Code::Limit));
    assert_eq!(control.pool().stats(None).ready, 1);
    assert!(is_lack(&Error::no_descriptors("a sandbox", "end others"), true), "its place in the budget");
    for lack in [libc::EMFILE, libc::EAGAIN] {
        let error = Error::system("open a file", &std::io::Error::from_raw_os_error(lack));
        assert!(is_lack(&error, false));
    }
    let lack = Error::system("open a file", &std::io::Error::from_raw_os_error(libc::ENOMEM));
    let shared = failed_to_plan(&mut control, 8, lack);
    assert_eq!(shared.facts().state, State::Starting);
    assert!(control.planners.has(8) && control.pool().stats(None).ready == 0, "it waits for a member's end");
    control.obey(Command::Shutdown);
    assert_eq!(shared.facts().state, State::Ended);
}

#[test]
fn none_is_kept_warm_while_memory_is_low() {
    let (mut control, _engine) = control();
    let (config, now) = (Config::new(), control.reactor.now());
    control.warm.pretend(now.checked_sub(Duration::from_secs(1)).unwrap(), || true);
    control.pool().set(now, &config, 2).unwrap();
    control.pool().began(1000, &Next { config: config.clone(), is_spare: false });
    control.pool().ready(now, 1000);
    control.tend_pool();
    let stats = control.pool().stats(None);
    assert_eq!((stats.filling, stats.ready), (0, 0));
    assert!(!control.planners.has(1000) && control.planners.are_idle());
    control.tend_pool();
    assert_eq!(control.pool().stats(None).discarded, 1, "it is looked at again later only");
    assert!(control.warm.scheduled().is_some_and(|at| at > now + Duration::from_secs(5)));
    // A pool that is full is looked at from time to time.
    control.pool().set(now, &config, 1).unwrap();
    control.pool().began(1001, &Next { config: config.clone(), is_spare: false });
    control.pool().ready(now, 1001);
    control.check_inits();
    assert_eq!(control.pool().stats(None).ready, 0);
}
