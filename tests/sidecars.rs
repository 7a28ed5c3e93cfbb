//! The programs that start a sandbox: runsc alone, or with the helper programs that a release keeps beside it. A copy of
//! runsc stands for a release's sentry, which is the same program without the commands.

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
use std::path::Path;
use std::process::Command;

use common::{PATIENCE, Scratch};
use sbx::{Finding, Runtime, RuntimeConfig, Sandbox, check_host};

/// Does what a release's does, and gives the sentry its path as a name to be known by.
const PREWARMER: &str = r#"
#include <fcntl.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int fd = fcntl(0, F_DUPFD_CLOEXEC, 300);
    if (argc < 3 || fd < 0)
        return 1;
    close(fd);
    argv[2] = argv[1];
    execv(argv[1], argv + 2);
    return 127;
}
"#;

/// A runsc with these programs in gvisor-bin beside it.
fn release(scratch: &Scratch, sidecars: &[&str]) -> RuntimeConfig {
    let path = scratch.path("runsc");
    fs::copy(common::runsc(), &path).unwrap();
    let directory = scratch.path("gvisor-bin");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    for name in sidecars {
        let sidecar = format!("{directory}/{name}");
        if *name == "gvisor_sentry" {
            fs::copy(&path, &sidecar).unwrap();
        } else {
            let source = scratch.file("prewarmer.c", PREWARMER);
            assert!(
                Command::new("cc").args(["-static", "-o", &sidecar, &source]).status().unwrap().success()
            );
        }
        fs::set_permissions(&sidecar, fs::Permissions::from_mode(0o755)).unwrap();
    }
    RuntimeConfig::new().runsc(path)
}

/// A process of a sandbox's.
#[derive(Clone, Debug)]
struct Process {
    name: String,
    /// The size of its table of descriptors.
    table: u64,
    environment: String,
}

/// The processes that have the sandbox's id among their arguments.
fn processes(sandbox: &Sandbox) -> Vec<Process> {
    let read = |directory: &Path| {
        let line = fs::read(directory.join("cmdline")).ok()?;
        let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        words.iter().find(|word| *word == sandbox.id())?;
        let status = fs::read_to_string(directory.join("status")).ok()?;
        let table = status.lines().find_map(|line| line.strip_prefix("FDSize:"))?.trim().parse().ok()?;
        let environment = fs::read(directory.join("environ")).ok()?;
        let environment = String::from_utf8_lossy(&environment).replace('\0', " ");
        Some(Process { name: words[0].to_string(), table, environment })
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| read(&entry.path())).collect()
}

/// Starts a sandbox and returns its sentry, which has this name. The sandbox works.
fn sentry_of(config: &RuntimeConfig, name: &str) -> Process {
    let runtime = Runtime::new(config).unwrap();
    let sandbox = runtime.create(&common::config(&["sleep", "86399"])).unwrap();
    common::files::run(&sandbox, "true");
    let all = processes(&sandbox);
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
    process(&all, name)
}

/// The process with this name.
fn process(all: &[Process], name: &str) -> Process {
    let found = all.iter().find(|process| process.name == name);
    found.unwrap_or_else(|| panic!("no {name} among {all:?}")).clone()
}

/// What the doctor says about runsc.
fn finding(config: &RuntimeConfig) -> Finding {
    let report = check_host(config);
    assert!(report.usable(), "{report}");
    report.findings().iter().find(|finding| finding.name == "runsc").unwrap().clone()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_keepers_own_program_is_the_prewarmer() {
    let runtime = common::runtime();
    let sandbox = runtime.create(&common::config(&["sleep", "86399"])).unwrap();
    let all = processes(&sandbox);
    for name in ["runsc", "runsc-gofer", "runsc-sandbox"] {
        let process = process(&all, name);
        assert!(process.table >= 512, "{process:?}");
        assert!(process.environment.contains("GOGC=200"), "{process:?}");
    }
    // runsc starts the sentry with nothing at all.
    assert_eq!(process(&all, "runsc-sandbox").environment, "GOGC=200 ");
    sandbox.terminate().unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_releases_own_sentry_and_prewarmer_are_used() {
    let scratch = Scratch::new("release");
    let config = release(&scratch, &["gvisor_sentry", "gvisor-sentry-prewarmer"]);
    let sentry = sentry_of(&config, "/gvisor-bin/gvisor_sentry");
    assert!(sentry.table >= 512, "{sentry:?}");
    assert!(!sentry.environment.contains("GOGC"), "{sentry:?}");
    let finding = finding(&config);
    assert!(finding.detail.contains("with its helpers in gvisor-bin"), "{finding:?}");
}

/// With a prewarmer alone runsc would have it execute itself, and with a sentry alone a strict release refuses to start.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn half_a_release_is_left_alone() {
    for there in ["gvisor-sentry-prewarmer", "gvisor_sentry"] {
        let scratch = Scratch::new(&format!("half-{there}"));
        let config = release(&scratch, &[there]);
        sentry_of(&config, "runsc-sandbox");
        let finding = finding(&config);
        assert!(finding.detail.contains("is not there"), "{finding:?}");
    }
}
