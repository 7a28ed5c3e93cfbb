//! An engine that misbehaves while a sandbox is created: another program in the place of runsc.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{PATIENCE, Scratch, config, eventually, processes_with};
use sbx::{Code, Error, Event, Queue, Runtime, RuntimeConfig};

/// A static program, as runsc has to be: the real one for every question, another when it is to run a sandbox.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int run = 0, bundle = 0;
    for (int i = 1; i < argc; i++) {
        run |= !strcmp(argv[i], "run");
        bundle |= !strncmp(argv[i], "--bundle", 8) || !strncmp(argv[i], "-bundle", 7);
    }
    if (run && bundle) { RUN; }
    execv(REAL, argv);
    return 127;
}
"#;

/// A runtime with such a runsc.
fn runtime(scratch: &Scratch, run: &str) -> Runtime {
    let (source, path) = (scratch.file("runsc.c", PROGRAM), scratch.path("runsc"));
    let built = Command::new("cc")
        .args([
            "-static",
            "-o",
            &path,
            &format!("-DRUN={run}"),
            &format!("-DREAL={:?}", common::runsc()),
            &source,
        ])
        .status()
        .unwrap();
    assert!(built.success());
    let config = RuntimeConfig::new().runsc(path);
    Runtime::new(&config).expect("a runtime")
}

fn create(name: &str, run: &str) -> Error {
    let scratch = Scratch::new(name);
    let runtime = runtime(&scratch, run);
    let sandbox = runtime.create_begin(&config(&["true"])).unwrap();
    let error = sandbox.wait(PATIENCE).unwrap_err();
    assert_eq!(error.code(), Code::Engine, "{error}");
    assert_eq!(processes_with(sandbox.id()), Vec::<String>::new());
    error
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_ends_at_once() {
    let error = create("early", "return 0");
    assert!(error.message().contains("runsc could not start the sandbox"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_complains() {
    let error = create("complains", "fputs(\"something is wrong\\n\", stderr); return 3");
    assert!(error.message().contains("something is wrong"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_floods() {
    let flood = "static char b[65536]; memset(b, 'x', sizeof b); for (int i = 0; i < 1600; i++) write(2, b, sizeof b); return 3";
    let error = create("floods", flood);
    assert!(error.message().len() < 1000, "{} bytes", error.message().len());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_hangs_can_be_terminated() {
    let scratch = Scratch::new("hangs");
    let runtime = runtime(&scratch, "for (;;) pause()");
    let queue = Queue::new(4).unwrap();
    let mut config = config(&["true"]);
    config.set_queue(&queue, 1).unwrap();
    let sandbox = runtime.create_begin(&config).unwrap();
    eventually("it hangs", || !processes_with(sandbox.id()).is_empty());
    assert!(queue.next().is_none(), "it is still starting");
    sandbox.terminate().unwrap();
    // Its program was never started, so it was never created: that is said, and once.
    assert_eq!(sandbox.wait(PATIENCE).unwrap_err().code(), Code::Closed);
    let failed = |queued: sbx::QueuedEvent| matches!(queued.event, Event::Failed { .. });
    eventually("the event", || queue.next().is_some_and(failed));
    assert!(queue.next().is_none());
}

#[test]
#[ignore = "takes the whole minute that a start may take"]
fn one_that_hangs_is_given_up() {
    let scratch = Scratch::new("given-up");
    let runtime = runtime(&scratch, "for (;;) pause()");
    let error = runtime.create(&config(&["true"])).unwrap_err();
    assert_eq!(error.code(), Code::Engine, "{error}");
    assert!(error.message().contains("did not start within 60 s"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_script_in_its_place_is_explained() {
    let scratch = Scratch::new("script");
    let real = common::runsc();
    let path = scratch.file("runsc", &format!("#!/bin/sh\nexec {real} \"$@\"\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let config = RuntimeConfig::new().runsc(path);
    let error = Runtime::new(&config).unwrap().create(&common::config(&["true"])).unwrap_err();
    assert!(error.message().contains("not a script"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn helpers_that_somebody_else_could_have_put_beside_it_are_not_used() {
    let scratch = Scratch::new("beside");
    let path = scratch.path("runsc");
    fs::copy(common::runsc(), &path).unwrap();
    fs::create_dir(scratch.path("gvisor-bin")).unwrap();
    fs::set_permissions(scratch.path("gvisor-bin"), fs::Permissions::from_mode(0o777)).unwrap();
    // A sentry of theirs, which would be started in the place of runsc's own.
    let helper = scratch.file("gvisor-bin/gvisor-sentry-prewarmer", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(helper, fs::Permissions::from_mode(0o755)).unwrap();
    let config = RuntimeConfig::new().runsc(path);
    let runtime = Runtime::new(&config).unwrap();
    let sandbox = runtime.create(&common::config(&["true"])).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0);
}
