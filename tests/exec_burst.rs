//! Many short programs at once, again and again: nothing of them stays.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use common::{PATIENCE, eventually, runtime};
use sbx::{Config, Exec, Process, Sandbox, Stdio, Stream};

/// How many are started before the first is waited for.
const AT_ONCE: usize = 100;

fn burst(sandbox: &Sandbox) {
    let mut exec = Exec::new();
    exec.set_command(["sh", "-c", "echo out; echo err >&2; exit 7"]).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::capture()).unwrap();
    let begin = |_| sandbox.exec_begin(&exec).unwrap();
    let processes: Vec<Process> = (0..AT_ONCE).map(begin).collect();
    for process in &processes {
        assert_eq!(process.wait(PATIENCE).unwrap().code, 7);
        assert_eq!(process.captured(Stream::Stdout).unwrap().head, b"out\n");
        assert_eq!(process.captured(Stream::Stderr).unwrap().head, b"err\n");
    }
}

/// This process's threads and descriptors.
fn own() -> (usize, usize) {
    let count = |directory: &str| fs::read_dir(directory).unwrap().count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// How many processes and threads there are below this one.
fn below() -> (usize, usize) {
    let field = |pid: u32, name: &str| -> Option<usize> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let all: Vec<u32> = fs::read_dir("/proc").unwrap().filter_map(name).collect();
    let mut ours = HashSet::from([std::process::id() as usize]);
    loop {
        let found =
            all.iter().copied().filter(|pid| field(*pid, "PPid:").is_some_and(|pid| ours.contains(&pid)));
        let before = ours.len();
        ours.extend(found.map(|pid| pid as usize).collect::<Vec<_>>());
        if ours.len() == before {
            break;
        }
    }
    ours.remove(&(std::process::id() as usize));
    (ours.len(), ours.iter().filter_map(|pid| field(u32::try_from(*pid).ok()?, "Threads:")).sum())
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_burst_of_short_programs_leaves_no_thread_and_no_descriptor() {
    let runtime = runtime();
    let mut config = Config::new();
    config.set_timeout(Duration::from_secs(600)).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    burst(&sandbox);
    // gVisor keeps the threads that its Go runtime has once needed, and some processes for the next programs.
    let (before, (processes, threads)) = (own(), below());
    for _ in 0..5 {
        burst(&sandbox);
    }
    eventually("this process has no more than before", || {
        let now = own();
        now.0 <= before.0 && now.1 <= before.1
    });
    // Five hundred have come and gone. How many threads Go's runtime takes depends on how busy the machine is.
    let mut now = below();
    eventually("the sandbox has not as many more as have gone", || {
        now = below();
        now.0 <= processes + 50 && now.1 <= threads + 250
    });
    println!("processes {processes}, then {}; threads {threads}, then {}", now.0, now.1);
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
}
