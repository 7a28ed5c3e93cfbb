//! Many programs: at once, and one after another, without anything that grows. `SBX_LONG` for the whole number.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail the test")]

mod common;

use std::fs;

use common::{PATIENCE, runtime};
use sbx::{Code, Config, Exec, Process, Sandbox, Stdio, Stream};

fn number(short: usize, long: usize) -> usize {
    if std::env::var_os("SBX_LONG").is_some() { long } else { short }
}

fn sh(script: &str) -> Exec {
    let mut exec = Exec::new();
    exec.set_command(["sh", "-c", script]).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
    exec
}

fn said(process: &Process) -> String {
    String::from_utf8(process.captured(Stream::Stdout).unwrap().head).unwrap()
}

/// What this process holds: descriptors, threads, memory of its own in KiB.
fn held() -> [usize; 3] {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    [fs::read_dir("/proc/self/fd").unwrap().count(), field("Threads:"), field("RssAnon:")]
}

/// How many descriptors init holds, as it is seen inside.
fn held_inside(sandbox: &Sandbox) -> usize {
    let process = sandbox.exec(&sh("ls /proc/1/fd | wc -l")).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
    said(&process).trim().parse().unwrap()
}

/// One program after the other, of every kind of stream.
fn one_after_another(sandbox: &Sandbox, count: usize) {
    let mut plain = Exec::new();
    plain.set_command(["true"]).unwrap();
    let mut terminal = plain.clone();
    terminal.set_pty(24, 80).unwrap();
    let mut missing = plain.clone();
    missing.set_command(["no-such-program"]).unwrap();
    for turn in 0..count {
        match turn % 4 {
            0 => {
                let process = sandbox.exec(&sh(&format!("echo {turn}; exit {}", turn % 100))).unwrap();
                assert_eq!(usize::try_from(process.wait(PATIENCE).unwrap().code).unwrap(), turn % 100);
                assert_eq!(said(&process), format!("{turn}\n"));
            }
            1 => assert_eq!(sandbox.exec(&plain).unwrap().wait(PATIENCE).unwrap().code, 0),
            2 => {
                let process = sandbox.exec(&terminal).unwrap();
                let _held = process.open_terminal().unwrap();
                assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
            }
            _ => assert_eq!(sandbox.exec(&missing).unwrap_err().code(), Code::Exec),
        }
    }
}

// One test, so that nothing else changes what is counted.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn many_programs_leave_nothing_behind() {
    let runtime = runtime();
    let sandbox = runtime.create(&Config::new()).unwrap();

    let crowd: Vec<Process> = (0..number(100, 500))
        .map(|index| sandbox.exec_begin(&sh(&format!("sleep 0.5; echo {index}"))).unwrap())
        .collect();
    for (index, process) in crowd.iter().enumerate() {
        assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
        assert_eq!(said(process), format!("{index}\n"));
    }
    drop(crowd);

    one_after_another(&sandbox, 40);
    let before = (held(), held_inside(&sandbox));
    one_after_another(&sandbox, number(400, 10_000));
    let after = (held(), held_inside(&sandbox));
    assert_eq!(
        (before.0[0], before.0[1], before.1),
        (after.0[0], after.0[1], after.1),
        "descriptors or threads grow"
    );
    let grown = after.0[2].saturating_sub(before.0[2]);
    assert!(grown < 4096, "memory grows: {grown} KiB");
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
}
