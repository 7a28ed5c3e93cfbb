//! What a sandbox uses, as the host is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::time::Duration;

use common::{PATIENCE, eventually, script};
use sbx::{Sandbox, Stats};

fn stats(sandbox: &Sandbox) -> Stats {
    sandbox.stats().unwrap()
}

#[test]
fn memory_and_processor_time_are_those_of_the_programs() {
    let Some(runtime) = common::runtime() else { return };
    const HELD: u64 = 64 << 20;
    let config = common::config(&["python3", "-c", &format!("a = b'x' * {HELD}; input()")]);
    let idle = runtime.create(&script("sleep 1000")).unwrap();
    let busy = runtime.create(&config).unwrap();
    eventually("the program's memory is seen", || stats(&busy).memory.unwrap() >= HELD);
    let (idle, busy) = (stats(&idle), stats(&busy));
    let (small, large) = (idle.memory.unwrap(), busy.memory.unwrap());
    println!("idle {small}, busy {large}");
    assert!(small < HELD, "an idle sandbox has {small} bytes");
    assert!((HELD..HELD * 2).contains(&large), "{large} bytes");
    assert!(busy.cpu.unwrap() > Duration::ZERO);
    assert!(busy.uptime > Duration::ZERO);
}

#[test]
fn processor_time_of_children_counts_also_when_they_have_ended() {
    let Some(runtime) = common::runtime() else { return };
    // A child that lives for a moment, another one, and so on.
    let burn = "import os, time\nwhile True:\n  if os.fork() == 0:\n    while time.process_time() < 0.1: pass\n    \
                os._exit(0)\n  os.wait()";
    let sandbox = runtime.create(&common::config(&["python3", "-c", burn])).unwrap();
    let second = Duration::from_secs(1);
    let mut before = Duration::ZERO;
    eventually("a second was burnt", || {
        let now = stats(&sandbox).cpu.unwrap();
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
fn time_stands_still_after_the_end() {
    let Some(runtime) = common::runtime() else { return };
    let sandbox = runtime.create(&script("true")).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!(stats(&sandbox).uptime, exit.runtime);
    assert_eq!(stats(&sandbox), stats(&sandbox));
}

#[test]
fn many_may_ask_at_once() {
    let Some(runtime) = common::runtime() else { return };
    let sandbox = runtime.create(&script("sleep 1000")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert!(stats(&sandbox).memory.is_some());
                }
            });
        }
    });
}
