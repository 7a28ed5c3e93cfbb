//! Many sandboxes created at the same moment: every one starts, answers and stays. `SBX_LONG` for the whole number.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, runtime};
use sbx::{Config, Exec, Sandbox, State};

/// Creating them takes a quarter of a second each on two processors, and one is asked for an answer every 10 s.
const LONG: Option<Duration> = Some(Duration::from_secs(300));

fn answers(sandbox: &Sandbox) {
    let mut exec = Exec::new();
    exec.set_command(["true"]).unwrap();
    assert_eq!(sandbox.exec(&exec).unwrap().wait(LONG).unwrap().code, 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn of_many_that_are_created_at_once_none_is_lost() {
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
