//! Memory and processor time: held by control groups, or by the watchdog.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::peer::contained;
use common::{PATIENCE, eventually, output};
use sbx::{Code, Config, ExitReason, LimitMode, Policy, Runtime};

const MIB: u64 = 1 << 20;

/// Takes memory until it ends. (All programs here are the shell's, which every system has.)
const BOMB: &str = "x=0123456789abcdef; while :; do x=$x$x; done";

/// A sandbox that runs a script and needs no network, so that this runs on kernels that have none to give.
fn script(text: &str) -> Config {
    let mut config = common::script(text);
    config.set_policy(&Policy::blocked()).unwrap();
    config
}

/// Whether the kernel can hold limits for us here, asked of the library itself: an ordinary user without
/// delegation is told so, which the tests below then expect.
fn possible(runtime: &Runtime) -> bool {
    let mut config = script("true");
    config.set_memory(128 * MIB).unwrap();
    // Where the one who runs this knows, it must be so.
    let expected = std::env::var("SBX_TEST_LIMITS").ok();
    match runtime.create(&config) {
        Ok(sandbox) => {
            assert_ne!(expected.as_deref(), Some("refused"));
            assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::Exited);
            true
        }
        Err(error) => {
            assert_ne!(expected.as_deref(), Some("held"), "{error}");
            assert_eq!(error.code(), Code::Host, "{error}");
            assert!(error.message().contains("Delegate=yes"), "{error}");
            assert!(error.message().contains("SBX_LIMITS_WATCHDOG"), "{error}");
            false
        }
    }
}

/// The control groups of a sandbox, wherever they are mounted.
fn groups_of(id: &str) -> Vec<PathBuf> {
    fn search(directory: &Path, id: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == id {
                    found.push(entry.path());
                }
                search(&entry.path(), id, found);
            }
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), id, &mut found);
    found
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_memory_bomb_is_out_of_memory_and_takes_down_its_own_sandbox_only() {
    let runtime = common::runtime();
    if !possible(&runtime) {
        return;
    }
    let mut bomb = script(BOMB);
    bomb.set_memory(128 * MIB).unwrap();
    let bomb = contained(&runtime, &bomb);
    let exit = bomb.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::OutOfMemory, 137));
    let stats = bomb.stats().unwrap();
    // Version 1 counts the page that was not given, too.
    assert!(stats.memory_peak.unwrap() <= 129 * MIB, "{stats:?}");
    assert!(stats.memory_peak.unwrap() > 64 * MIB, "{stats:?}");
    assert_eq!(groups_of(bomb.id()), [] as [PathBuf; 0]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn files_in_memory_count_for_the_limit() {
    let runtime = common::runtime();
    if !possible(&runtime) {
        return;
    }
    for directory in ["/", "/tmp", "/dev/shm", "/dev"] {
        let mut bomb = script(&format!("cat /dev/zero >{directory}/fill"));
        bomb.set_memory(96 * MIB).unwrap();
        let exit = contained(&runtime, &bomb).wait(PATIENCE).unwrap();
        assert_eq!((exit.reason, exit.code), (ExitReason::OutOfMemory, 137), "{directory}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_fits_runs_and_leaves_no_group_behind() {
    let runtime = common::runtime();
    if !possible(&runtime) {
        return;
    }
    let mut config = script(
        "x=a; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23; do x=$x$x; done; echo ${#x}; read line",
    );
    config.set_memory(64 * MIB).unwrap();
    config.set_cpu(1000).unwrap();
    config.set_stdio(sbx::Stream::Stdin, sbx::Stdio::Descriptor).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    assert!(!groups_of(sandbox.id()).is_empty());
    eventually("its memory is seen", || sandbox.stats().unwrap().memory.unwrap() >= 8 * MIB);
    drop(sandbox.open_stream(sbx::Stream::Stdin).unwrap());
    assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::Exited);
    assert_eq!(output(&sandbox), format!("{}\n", 8 * MIB));
    assert_eq!(groups_of(sandbox.id()), [] as [PathBuf; 0]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn processor_time_is_given_out_by_the_limit() {
    let runtime = common::runtime();
    if !possible(&runtime) {
        return;
    }
    let mut config = script("while :; do :; done");
    config.set_cpu(300).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    // Two clocks are compared, and a busy machine makes it less, never more.
    eventually("it has had some time", || sandbox.stats().unwrap().uptime > Duration::from_secs(2));
    let begin = sandbox.stats().unwrap();
    eventually("it has run on", || sandbox.stats().unwrap().uptime > begin.uptime + Duration::from_secs(2));
    let end = sandbox.stats().unwrap();
    let (used, passed) = (end.cpu.unwrap() - begin.cpu.unwrap(), end.uptime - begin.uptime);
    assert!(used < passed / 2, "{used:?} of {passed:?}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_watchdog_ends_a_memory_bomb_where_no_group_can() {
    let runtime = common::runtime();
    let mut bomb = script(BOMB);
    bomb.set_memory(128 * MIB).unwrap();
    bomb.set_limit_mode(LimitMode::Watchdog);
    let queue = sbx::Queue::new(64).unwrap();
    bomb.set_queue(&queue, 1).unwrap();
    let bomb = contained(&runtime, &bomb);
    let exit = bomb.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::OutOfMemory, 137));
    let detail = std::iter::from_fn(|| queue.next()).find_map(|queued| match queued.event {
        sbx::Event::Exited { detail, .. } => Some(detail),
        _ => None,
    });
    let by_watchdog = detail.unwrap().contains("watchdog");
    assert_eq!(by_watchdog, !possible(&runtime), "who held it");
}

/// One page in 2 MiB of a shared file, touched by many processes: hardly any memory, and a page of tables for each.
const TABLES: &str = "
import mmap, os, signal
file = os.open('/dev/shm/wide', os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 16 << 30)
wide = mmap.mmap(file, 16 << 30, mmap.MAP_SHARED)
for at in range(0, 16 << 30, 1 << 21):
    wide[at] = 1
print('wide', flush=True)
for number in range(12):
    if os.fork() == 0:
        for at in range(0, 16 << 30, 1 << 21):
            wide[at]
        while True:
            signal.pause()
print('done', flush=True)
signal.pause()
";

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_watchdog_sees_page_tables_also_while_it_is_asked_for_usage() {
    let runtime = common::runtime();
    if possible(&runtime) {
        return;
    }
    let mut config = common::config(&["python3", "-c", TABLES]);
    config.set_policy(&Policy::blocked()).unwrap();
    config.set_memory(384 * MIB).unwrap();
    config.set_limit_mode(LimitMode::Watchdog);
    let sandbox = runtime.create(&config).unwrap();
    let mut most = 0;
    eventually("it has too much", || {
        most = most.max(sandbox.stats().unwrap().memory.unwrap_or(0));
        sandbox.exit().is_some()
    });
    let exit = sandbox.exit().unwrap();
    println!("{} MiB were seen", most >> 20);
    assert_eq!((exit.reason, exit.code), (ExitReason::OutOfMemory, 137));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_watchdog_holds_no_processor_time() {
    let runtime = common::runtime();
    if possible(&runtime) {
        return;
    }
    let mut config = script("true");
    config.set_cpu(500).unwrap();
    config.set_limit_mode(LimitMode::Watchdog);
    assert_eq!(runtime.create(&config).unwrap_err().code(), Code::Host);
}
