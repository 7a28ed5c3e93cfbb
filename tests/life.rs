//! A sandbox's life: from create to nothing left.

mod common;

use common::{PATIENCE, config, output, runtime, script, text};
use sbx::{Code, ExitReason, State, Stream};

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_program_runs_and_its_exit_code_comes_back() {
    let runtime = runtime();
    let sandbox = runtime.create(&script("echo out; echo err >&2; exit 7")).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code, exit.signal), (ExitReason::Exited, 7, 0));
    assert_eq!(sandbox.state(), State::Ended);
    assert_eq!(output(&sandbox), "out\n");
    assert_eq!(text(&sandbox, Stream::Stderr), "err\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_signal_is_128_and_more_and_told_apart() {
    let runtime = runtime();
    let sandbox = runtime.create(&script("kill -9 $$")).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code, exit.signal), (ExitReason::Signalled, 137, 9));
    let sandbox = runtime.create(&config(&["sleep", "100"])).unwrap();
    sandbox.signal(15).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code, exit.signal), (ExitReason::Signalled, 143, 15));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn terminated_is_137_and_timed_out_is_124() {
    let runtime = runtime();
    let sandbox = runtime.create(&config(&["sleep", "100"])).unwrap();
    assert_eq!(sandbox.wait(Some(std::time::Duration::ZERO)).unwrap_err().code(), Code::TimedOut);
    sandbox.terminate().unwrap();
    sandbox.terminate().unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
    let mut short = config(&["sleep", "100"]);
    short.set_timeout(std::time::Duration::from_millis(100)).unwrap();
    let sandbox = runtime.create(&short).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::TimedOut, 124));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_cannot_start_says_why() {
    let runtime = runtime();
    let error = runtime.create(&config(&["no-such-program"])).unwrap_err();
    assert_eq!(error.code(), Code::Exec);
    assert!(
        error.message().contains("\"no-such-program\"") && error.message().contains("No such file"),
        "{error}"
    );
    let mut nowhere = config(&["true"]);
    nowhere.set_workdir("/etc/passwd").unwrap();
    let error = runtime.create(&nowhere).unwrap_err();
    assert_eq!(error.code(), Code::Exec);
    assert!(
        error.message().contains("\"/etc/passwd\"") && error.message().contains("Not a directory"),
        "{error}"
    );
}
