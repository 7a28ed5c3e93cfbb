//! F14 and the soak: many cycles in one process, and many threads at once.

use std::process::Command;

use crate::census::{self, Census};
use crate::host::{Scratch, compile};

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn two_hundred_cycles_leave_nothing() {
    host("churn", &["200"]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_storm_of_sixteen_threads_leaves_nothing() {
    host("storm", &["16", "8"]);
}

#[test]
#[ignore = "long: many minutes"]
fn a_storm_of_256_threads_leaves_nothing() {
    host("storm", &["256", "4"]);
}

#[test]
#[ignore = "long: minutes"]
fn two_thousand_cycles_leave_nothing() {
    host("churn", &["2000"]);
}

/// Runs a host that checks itself, and counts around it.
fn host(name: &str, arguments: &[&str]) {
    let _turn = census::turn();
    let program = compile("hosts", name, true);
    let scratch = Scratch::new();
    let before = Census::take(&scratch.0, &[]);
    let output = Command::new(&program)
        .args(arguments)
        .env("TMPDIR", &scratch.0)
        .env("XDG_RUNTIME_DIR", &scratch.0)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    before.again(&scratch.0, &[]).unwrap();
    print!("{text}");
}
