//! Many sandboxes created at the same moment: every one starts, answers and stays. `SBX_LONG` for the whole number.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, eventually, runtime};
use sbx::{Code, Config, Exec, Sandbox, State};

/// Creating them takes a quarter of a second each on two processors, and one is asked for an answer every 10 s.
const LONG: Option<Duration> = Some(Duration::from_secs(300));

/// What is counted here is the whole process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answers(sandbox: &Sandbox) {
    let mut exec = Exec::new();
    exec.set_command(["true"]).unwrap();
    assert_eq!(sandbox.exec(&exec).unwrap().wait(LONG).unwrap().code, 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn of_many_that_are_created_at_once_none_is_lost() {
    let _alone = alone();
    let long = std::env::var_os("SBX_LONG").is_some();
    // Each takes some 40 descriptors, more than the usual limit has for all.
    let raise = format!("prlimit --pid {} --nofile=$(ulimit -Hn):", std::process::id());
    assert!(Command::new("sh").args(["-c", &raise]).status().unwrap().success());
    let runtime = runtime();
    let count = if long { 128 } else { 16 };
    let mut config = Config::new();
    config.set_timeout(Duration::from_secs(3600)).unwrap();
    let sandboxes: Vec<Sandbox> = thread::scope(|scope| {
        let creations: Vec<_> = (0..count).map(|_| scope.spawn(|| runtime.create(&config))).collect();
        creations.into_iter().map(|creation| creation.join().unwrap().unwrap()).collect()
    });
    thread::scope(|scope| sandboxes.iter().for_each(|sandbox| drop(scope.spawn(|| answers(sandbox)))));
    if long {
        // Longer than a silent init has.
        thread::sleep(Duration::from_secs(45));
    }
    for sandbox in &sandboxes {
        assert_eq!(sandbox.state(), State::Running, "{:?}", sandbox.exit());
        answers(sandbox);
    }
    sandboxes.iter().for_each(|sandbox| sandbox.terminate().unwrap());
    for sandbox in &sandboxes {
        sandbox.wait(PATIENCE).unwrap();
    }
}

/// Memory that a sandbox may need, in KiB: there are as many as fit in half of what is free.
const EACH_KIB: u64 = 48 * 1024;

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_process_holds_many_sandboxes() {
    let _alone = alone();
    let long = std::env::var_os("SBX_LONG").is_some();
    let raise = format!("prlimit --pid {} --nofile=$(ulimit -Hn):", std::process::id());
    assert!(Command::new("sh").args(["-c", &raise]).status().unwrap().success());
    let fitting = usize::try_from(field("/proc/meminfo", "MemAvailable:") / 2 / EACH_KIB).unwrap();
    let count = if long { fitting.min(500) } else { 12 };
    let runtime = runtime();
    let mut config = Config::new();
    config.set_timeout(Duration::from_secs(1 << 20)).unwrap();
    // What there is once.
    drop(runtime.create(&config).unwrap());
    let (before, memory) = (descriptors(), field("/proc/self/status", "RssAnon:"));
    let sandboxes: Vec<Sandbox> = (0..count).map(|_| runtime.create_begin(&config).unwrap()).collect();
    for (number, sandbox) in sandboxes.iter().enumerate() {
        sandbox.wait_started(LONG).unwrap_or_else(|error| panic!("number {number} of {count}: {error}"));
    }
    let each = descriptors().saturating_sub(before) / count;
    let kib = field("/proc/self/status", "RssAnon:").saturating_sub(memory) / u64::try_from(count).unwrap();
    println!("{count} sandboxes: each has {each} descriptors and {kib} KiB in this process");
    assert!(each <= 64 && kib <= 512, "{each} descriptors, {kib} KiB");
    assert!(field("/proc/self/status", "Threads:") < 10, "threads don't grow with the sandboxes");
    for sandbox in sandboxes.iter().step_by(10) {
        answers(sandbox);
    }
    sandboxes.iter().for_each(|sandbox| sandbox.terminate().unwrap());
    for sandbox in &sandboxes {
        sandbox.wait(LONG).unwrap();
    }
    drop(sandboxes);
    assert!(descriptors() <= before, "{} descriptors are left", descriptors() - before);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn those_that_wait_for_their_turn_can_be_ended() {
    let _alone = alone();
    let runtime = runtime();
    runtime.set_max_starts(1).unwrap();
    assert_eq!(runtime.max_starts(), 1);
    let sandboxes: Vec<Sandbox> = (0..8).map(|_| runtime.create_begin(&Config::new()).unwrap()).collect();
    // The last is ended while it waits: it fails at once, and before those that were before it have started.
    let last = sandboxes.last().unwrap();
    last.terminate().unwrap();
    let error = last.wait_started(PATIENCE).unwrap_err();
    assert_eq!(error.code(), Code::Closed, "{error}");
    assert_eq!(sandboxes.get(6).unwrap().state(), State::Starting);
    let started: Vec<_> = sandboxes.iter().take(7).map(|one| one.wait_started(LONG)).collect();
    assert!(started.iter().all(Result::is_ok), "{started:?}");
    // The default again, while some wait.
    runtime.set_max_starts(1).unwrap();
    let more: Vec<Sandbox> = (0..6).map(|_| runtime.create_begin(&Config::new()).unwrap()).collect();
    runtime.set_max_starts(0).unwrap();
    assert!(runtime.max_starts() >= 4);
    more.iter().for_each(|one| one.wait_started(LONG).unwrap());
    assert_eq!(runtime.set_max_starts(257).unwrap_err().code(), Code::Invalid);
    // A runtime that is freed while some wait doesn't wait for them.
    runtime.set_max_starts(1).unwrap();
    let left: Vec<Sandbox> = (0..8).map(|_| runtime.create_begin(&Config::new()).unwrap()).collect();
    runtime.shutdown();
    assert!(left.iter().all(|one| one.state() == State::Ended));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_takes_a_warm_sandbox_does_not_wait() {
    let _alone = alone();
    let runtime = runtime();
    let mut template = Config::new();
    template.set_hostname("warm").unwrap();
    runtime.keep_warm(&template, 1).unwrap();
    eventually("a member is made", || runtime.warm_stats(None).ready == 1);
    runtime.set_max_starts(1).unwrap();
    let cold: Vec<Sandbox> = (0..8).map(|_| runtime.create_begin(&Config::new()).unwrap()).collect();
    // No other member is made while these start.
    let warm = runtime.create(&template).unwrap();
    assert_eq!(cold.last().unwrap().state(), State::Starting);
    assert_eq!((runtime.warm_stats(None).hits, warm.state()), (1, State::Running));
    cold.iter().for_each(|one| one.wait_started(LONG).unwrap());
    assert_eq!(runtime.warm_stats(None).failures, 0);
}
