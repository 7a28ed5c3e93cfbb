//! What a sandbox uses, as the host is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, eventually, script};
use sbx::{Exec, Sandbox, Stats, Stdio, Stream};

fn stats(sandbox: &Sandbox) -> Stats {
    sandbox.stats().unwrap()
}

/// The statistics of a running sandbox once the keeper and init have answered in time: on a busy machine they may not.
fn known(sandbox: &Sandbox) -> Stats {
    let (mut seen, begin) = (Stats::default(), Instant::now());
    while seen.memory.is_none() || seen.cpu.is_none() || seen.processes.is_none() {
        assert!(begin.elapsed() < PATIENCE.unwrap(), "{seen:?}, {:?}", sandbox.exit());
        seen = stats(sandbox);
        std::thread::sleep(Duration::from_millis(5));
    }
    seen
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn memory_and_processor_time_are_those_of_the_programs() {
    let runtime = common::runtime();
    const HELD: u64 = 64 << 20;
    let config =
        common::config(&["python3", "-c", &format!("import time; a = b'x' * {HELD}; time.sleep(1000)")]);
    let idle = runtime.create(&script("sleep 1000")).unwrap();
    let busy = runtime.create(&config).unwrap();
    let mut seen = known(&busy);
    eventually("the program's memory is seen", || {
        seen = known(&busy);
        seen.memory.unwrap() >= HELD
    });
    let (idle, busy) = (known(&idle), seen);
    let (small, large) = (idle.memory.unwrap(), busy.memory.unwrap());
    println!("idle {small}, busy {large}");
    assert!(small < HELD, "an idle sandbox has {small} bytes");
    assert!((HELD..HELD * 2).contains(&large), "{large} bytes");
    assert!(busy.cpu.unwrap() > Duration::ZERO);
    assert!(busy.uptime > Duration::ZERO);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_processes_are_counted() {
    let runtime = common::runtime();
    let sandbox = runtime.create(&script("for i in $(seq 20); do sleep 1000 & done; wait")).unwrap();
    // The shell and its children.
    eventually("21 processes are seen", || stats(&sandbox).processes == Some(21));
    let mut exec = Exec::new();
    exec.set_command(["sleep", "1000"]).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    eventually("the executed one, too", || stats(&sandbox).processes == Some(22));
    process.signal(9).unwrap();
    process.wait(PATIENCE).unwrap();
    assert_eq!(known(&sandbox).processes, Some(21));
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(stats(&sandbox).processes, None, "an ended sandbox has no processes");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_time_up_never_goes_back() {
    let runtime = common::runtime();
    for _ in 0..3 {
        let sandbox = runtime.create(&script("sleep 0.3")).unwrap();
        let mut before = Duration::ZERO;
        loop {
            let ended = sandbox.exit();
            let up = stats(&sandbox).uptime;
            assert!(up >= before, "{before:?}, then {up:?}");
            before = up;
            if let Some(exit) = ended {
                assert_eq!(up, exit.runtime);
                break;
            }
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn processor_time_of_children_counts_also_when_they_have_ended() {
    let runtime = common::runtime();
    // A child that lives for a moment, another one, and so on.
    let burn = "import os, time\nwhile True:\n  if os.fork() == 0:\n    while time.process_time() < 0.1: pass\n    \
                os._exit(0)\n  os.wait()";
    let sandbox = runtime.create(&common::config(&["python3", "-c", burn])).unwrap();
    let second = Duration::from_secs(1);
    let mut before = Duration::ZERO;
    eventually("a second was burnt", || {
        let now = known(&sandbox).cpu.unwrap();
        assert!(now >= before, "{now:?} after {before:?}");
        before = now;
        now >= second
    });
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
    let ended = stats(&sandbox);
    assert!(ended.cpu.unwrap() >= second, "{ended:?}");
    assert_eq!(ended.memory, None, "an ended sandbox has no memory");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn time_stands_still_after_the_end() {
    let runtime = common::runtime();
    let sandbox = runtime.create(&script("true")).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!(stats(&sandbox).uptime, exit.runtime);
    let (mut one, mut other) = (stats(&sandbox), stats(&sandbox));
    // The library is still removing it, and that takes time.
    (one.library_time, other.library_time) = (Duration::ZERO, Duration::ZERO);
    assert_eq!(one, other);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_librarys_time_counts_for_the_sandbox_that_caused_the_work() {
    let runtime = common::runtime();
    let quiet = runtime.create(&script("sleep 1000")).unwrap();
    let mut config = script("yes");
    config.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    let loud = runtime.create(&config).unwrap();
    let before = stats(&quiet).library_time;
    eventually("the library has read for a while", || {
        stats(&loud).library_time >= Duration::from_millis(300)
    });
    let (spent, by) = (stats(&quiet).library_time - before, stats(&loud).library_time);
    assert!(spent < by / 2, "{spent:?} on one that does nothing, {by:?} on the other");
    assert!(before > Duration::ZERO, "it was started");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn many_may_ask_at_once() {
    let runtime = common::runtime();
    let sandbox = runtime.create(&script("sleep 1000")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    known(&sandbox);
                }
            });
        }
    });
}
