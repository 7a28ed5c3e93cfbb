//! F3: a part of the sandbox dies by itself, or stops.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sbx::{Code, Config, ExitReason, LimitMode, PortKind, Runtime, RuntimeConfig, Sandbox};

use crate::census::{self, Census, Process};
use crate::common::PATIENCE;
use crate::host::Scratch;

/// What a sandbox consists of, seen from outside.
#[derive(Debug)]
struct Parts {
    keeper: i32,
    runsc: i32,
    gofer: i32,
    sentry: i32,
}

/// Finds them by parentage: keeper, runsc below it, gofer and sentry below that, told apart by their arguments.
fn parts() -> Parts {
    let below = census::below(std::process::id().cast_signed());
    let argument = |process: &Process, word: &str| {
        let text = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        text.split(|byte| *byte == 0).any(|part| part == word.as_bytes())
    };
    let find = |what: &str, test: &dyn Fn(&Process) -> bool| {
        below.iter().find(|one| test(one)).unwrap_or_else(|| panic!("no {what} in {below:#?}")).pid
    };
    let keeper = find("keeper", &|one| one.name == "sbx-keeper");
    let runsc = find("runsc", &|one| one.parent == keeper);
    let gofer = find("gofer", &|one| one.parent == runsc && argument(one, "gofer"));
    let sentry = find("sentry", &|one| one.parent == runsc && argument(one, "boot"));
    Parts { keeper, runsc, gofer, sentry }
}

/// A runtime whose threads have their names.
fn runtime() -> Runtime {
    let runtime = Runtime::new(&RuntimeConfig::default()).unwrap();
    let begin = Instant::now();
    while Census::with_own(&std::env::temp_dir()).own.is_none_or(|(_, threads)| threads != 2) {
        assert!(begin.elapsed() < PATIENCE.unwrap(), "the library has not two threads");
    }
    runtime
}

/// A sandbox with a tunnel.
fn sandbox(runtime: &Runtime) -> (Sandbox, (std::net::IpAddr, u16)) {
    let mut config = Config::new();
    config.set_command(["sleep", "1000"]).unwrap();
    // With control groups where they can be had.
    config.set_memory(512 << 20).unwrap();
    config.set_limit_mode(LimitMode::Watchdog);
    config.add_port(8000, PortKind::Unencrypted).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let tunnels = sandbox.tunnels(PATIENCE).unwrap();
    let tunnel = tunnels.get(8000).unwrap();
    (sandbox, (tunnel.host().parse().unwrap(), tunnel.port()))
}

/// Does something to one part of a sandbox that runs, and sees it reported as lost, its listener closed, nothing
/// left, and the runtime fit for the next.
fn lost(strike: impl Fn(&Parts)) {
    let _turn = census::turn();
    let scratch = Scratch::new();
    let runtime = runtime();
    let before = Census::with_own(&scratch.0);
    let (sandbox, address) = sandbox(&runtime);
    strike(&parts());
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::EngineLost, 137));
    assert!(TcpStream::connect(address).is_err(), "its listener is still there");
    assert_eq!(sandbox.connect(8000).unwrap_err().code(), Code::State);
    sandbox.terminate().unwrap();
    drop(sandbox);
    before.again(&scratch.0, &[]).unwrap();
    // The runtime is none the worse.
    let mut config = Config::new();
    config.set_command(["true"]).unwrap();
    assert_eq!(runtime.create(&config).unwrap().wait(PATIENCE).unwrap().code, 0);
    before.again(&scratch.0, &[]).unwrap();
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_killed_keeper_is_an_engine_lost() {
    lost(|parts| signal(parts.keeper, Signal::SIGKILL));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_killed_runsc_is_an_engine_lost() {
    lost(|parts| signal(parts.runsc, Signal::SIGKILL));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_killed_sentry_is_an_engine_lost() {
    lost(|parts| signal(parts.sentry, Signal::SIGKILL));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_killed_gofer_is_an_engine_lost_or_the_end_is_asked_for() {
    let _turn = census::turn();
    let scratch = Scratch::new();
    let runtime = runtime();
    let before = Census::with_own(&scratch.0);
    let (sandbox, _) = sandbox(&runtime);
    signal(parts().gofer, Signal::SIGKILL);
    // gVisor ends a sandbox whose gofer is gone, at once or when it is next needed.
    let exit = match sandbox.wait(Some(Duration::from_secs(2))) {
        Ok(exit) => exit,
        Err(error) => {
            assert_eq!(error.code(), Code::TimedOut);
            sandbox.terminate().unwrap();
            sandbox.wait(PATIENCE).unwrap()
        }
    };
    assert!(matches!(exit.reason, ExitReason::EngineLost | ExitReason::Terminated), "{exit:?}");
    assert_eq!(exit.code, 137);
    drop(sandbox);
    before.again(&scratch.0, &[]).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_stopped_sentry_can_be_terminated() {
    stopped(|parts| parts.sentry);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_stopped_runsc_can_be_terminated() {
    stopped(|parts| parts.runsc);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_stopped_keeper_can_be_terminated() {
    stopped(|parts| parts.keeper);
}

/// Whatever is stopped, nothing hangs: what must answer in time says so, and the end can be asked for.
fn stopped(which: impl Fn(&Parts) -> i32) {
    let _turn = census::turn();
    let scratch = Scratch::new();
    let runtime = runtime();
    let before = Census::with_own(&scratch.0);
    let (sandbox, _) = sandbox(&runtime);
    signal(which(&parts()), Signal::SIGSTOP);
    assert_eq!(sandbox.wait(Some(Duration::from_millis(50))).unwrap_err().code(), Code::TimedOut);
    let begin = Instant::now();
    sandbox.terminate().unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
    println!("ended after {:?}", begin.elapsed());
    drop(sandbox);
    before.again(&scratch.0, &[]).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_keeper_killed_while_it_starts_is_an_error_of_create() {
    let _turn = census::turn();
    let scratch = Scratch::new();
    let runtime = runtime();
    let before = Census::with_own(&scratch.0);
    for round in 0..20_u64 {
        let mut config = Config::new();
        config.set_command(["sleep", "1000"]).unwrap();
        let sandbox = runtime.create_begin(&config).unwrap();
        std::thread::sleep(Duration::from_millis(round * 4));
        let keeper = census::below(std::process::id().cast_signed()).into_iter().find(|one| {
            one.name == "sbx-keeper"
                || (one.parent == std::process::id().cast_signed() && one.name == "memfd:sbx-keepe")
        });
        let Some(keeper) = keeper else {
            drop(sandbox);
            before.again(&scratch.0, &[]).unwrap();
            continue;
        };
        let _ = kill(Pid::from_raw(keeper.pid), Signal::SIGKILL);
        match sandbox.wait(PATIENCE) {
            Ok(exit) => assert_eq!(exit.reason, ExitReason::EngineLost),
            Err(error) => assert_eq!(error.code(), Code::Engine, "{error}"),
        }
        drop(sandbox);
        before.again(&scratch.0, &[]).unwrap();
    }
}
