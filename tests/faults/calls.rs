//! F9: a system call of the host's fails, any of them.

use std::process::Command;

use crate::census::{self, Census};
use crate::host::{Scratch, compile};

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn calls_that_fail_are_errors_and_leave_nothing() {
    failing(libc::ENOMEM, 13);
}

#[test]
#[ignore = "long: many minutes"]
fn every_call_that_fails_is_an_error_and_leaves_nothing() {
    for error in [libc::ENOMEM, libc::EMFILE, libc::ENOBUFS] {
        failing(error, 1);
    }
}

/// Has every `step`th call fail.
fn failing(error: i32, step: u32) {
    let _turn = census::turn();
    let program = compile("hosts", "failing", true);
    let scratch = Scratch::new();
    let before = Census::take(&scratch.0, &[]);
    let output = Command::new(&program)
        .args([error.to_string(), step.to_string()])
        .env("TMPDIR", &scratch.0)
        .env("XDG_RUNTIME_DIR", &scratch.0)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    before.again(&scratch.0, &[]).unwrap();
    print!("{out}");
}
