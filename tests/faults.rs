//! An engine that misbehaves while a sandbox is created: scripts in the place of runsc.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use common::{PATIENCE, Scratch, config, processes_with};
use sbx::{Code, Error, ExitReason, Queue, Runtime, RuntimeConfig};

/// A runtime whose runsc is the real one for every question, and this script when it is to run a sandbox.
fn runtime(scratch: &Scratch, run: &str) -> Option<Runtime> {
    let real = std::env::var("SBX_RUNSC").ok();
    assert!(real.is_some() || std::env::var_os("CI").is_none(), "SBX_RUNSC is not set");
    let text = format!(
        "#!/bin/sh\nfor argument in \"$@\"; do if [ \"$argument\" = run ]; then {run}; fi; done\nexec {} \"$@\"\n",
        real?
    );
    let path = scratch.file("runsc", &text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let config = RuntimeConfig { runsc: Some(PathBuf::from(path)), ..RuntimeConfig::default() };
    Some(Runtime::new(&config).expect("a runtime"))
}

fn create(name: &str, run: &str) -> Option<Error> {
    let scratch = Scratch::new(name);
    let runtime = runtime(&scratch, run)?;
    let sandbox = runtime.create_begin(&config(&["true"])).unwrap();
    let error = sandbox.wait(PATIENCE).unwrap_err();
    assert_eq!(error.code(), Code::Engine, "{error}");
    assert_eq!(processes_with(sandbox.id()), Vec::<String>::new());
    Some(error)
}

#[test]
fn one_that_ends_at_once() {
    let Some(error) = create("early", "exit 0") else { return };
    assert!(error.message().contains("runsc could not start the sandbox"), "{error}");
}

#[test]
fn one_that_complains() {
    let Some(error) = create("complains", "echo something is wrong >&2; exit 3") else { return };
    assert!(error.message().contains("something is wrong"), "{error}");
}

#[test]
fn one_that_floods() {
    let Some(error) = create("floods", "head -c 300000000 /dev/zero | tr '\\\\0' x >&2; exit 3") else {
        return;
    };
    assert!(error.message().len() < 1000, "{} bytes", error.message().len());
}

#[test]
fn one_that_hangs_can_be_terminated() {
    let scratch = Scratch::new("hangs");
    let Some(runtime) = runtime(&scratch, "exec sleep 1000") else { return };
    let queue = Queue::new(4).unwrap();
    let mut config = config(&["true"]);
    config.set_queue(&queue, 1).unwrap();
    let sandbox = runtime.create_begin(&config).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(queue.next().is_none(), "it is still starting");
    sandbox.terminate().unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::Terminated);
}

#[test]
#[ignore = "takes the whole minute that a start may take"]
fn one_that_hangs_is_given_up() {
    let scratch = Scratch::new("given-up");
    let Some(runtime) = runtime(&scratch, "exec sleep 1000") else { return };
    let error = runtime.create(&config(&["true"])).unwrap_err();
    assert_eq!(error.code(), Code::Engine, "{error}");
    assert!(error.message().contains("did not start within 60 s"), "{error}");
}
