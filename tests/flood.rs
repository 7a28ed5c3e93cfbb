//! Output without end, by itself in its process: memory is measured.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{PATIENCE, config, eventually, output, runtime, script};
use sbx::{Stdio, Stream};

/// The memory of this process, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_flood_that_nobody_reads_harms_nobody() {
    let runtime = runtime();
    let mut unread = config(&["yes"]);
    unread.set_stdio(Stream::Stdout, Stdio::Descriptor).unwrap();
    let flood = runtime.create(&unread).unwrap();
    let endless = runtime.create(&script("tr -d '\\n' < /dev/zero & yes >&2")).unwrap();
    let before = memory();
    // A neighbour lives its whole life meanwhile.
    let neighbour = runtime.create(&script("echo fine")).unwrap();
    assert_eq!(neighbour.wait(PATIENCE).unwrap().code, 0);
    assert_eq!(output(&neighbour), "fine\n");
    eventually("much was dropped", || endless.captured(Stream::Stdout).unwrap().dropped > 50 << 20);
    assert!(memory() < before + (16 << 10), "{} KiB, then {} KiB", before, memory());
    for sandbox in [flood, endless] {
        sandbox.terminate().unwrap();
        assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 137);
    }
}
