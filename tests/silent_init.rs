//! An init that was stopped from inside, by the real runsc: its sandbox ends, and nothing waits for it for ever.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test's helpers fail the test")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio as Std};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, command_line, eventually, is_sentry, processes_with, runtime};
use sbx::{
    Code, Config, Exec, ExitReason, FileChangeKind, FileOptions, FileRequest, Policy, Process, Runtime,
    Sandbox, Stdio, Stream,
};

/// Half a minute, until the next question before that, and what a busy machine adds.
const LONG: Option<Duration> = Some(Duration::from_secs(150));

/// Not before its input ends, when init has told of its start: else that would be a start that fails.
const STOPS: &[&str] = &["sh", "-c", "read -r never; kill -STOP 1; while :; do :; done"];

fn exec(command: &[&str]) -> Exec {
    let mut exec = Exec::new();
    exec.set_command(command).unwrap();
    exec
}

/// Executes what stops init, and lets it.
fn stop_by(sandbox: &Sandbox, mut exec: Exec) -> Process {
    exec.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    drop(process.open_stream(Stream::Stdin).unwrap());
    process
}

/// A long life, with a command, whose input ends when it has started, or idle, with a network or without.
fn create(runtime: &Runtime, command: &[&str], network: bool) -> Sandbox {
    let mut config = Config::new();
    config.set_timeout(Duration::from_secs(3600)).unwrap();
    if !command.is_empty() {
        config.set_command(command.iter().copied()).unwrap();
        config.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
    }
    if !network {
        config.set_policy(&Policy::blocked()).unwrap();
    }
    let sandbox = runtime.create(&config).unwrap();
    if !command.is_empty() {
        drop(sandbox.open_stream(Stream::Stdin).unwrap());
    }
    sandbox
}

/// Waits until init doesn't answer any more.
fn stopped(sandbox: &Sandbox) {
    eventually("init is stopped", || sandbox.stats().unwrap().processes.is_none());
}

fn is_lost(sandbox: &Sandbox) {
    let exit = sandbox.wait(LONG).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::EngineLost, 137), "{exit:?}");
    eventually("nothing of it runs", || processes_with(sandbox.id()).is_empty());
}

fn pids(wanted: impl Fn(i32) -> bool) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| wanted(*pid)).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// What is done to a sandbox, and what comes of it; each takes most of a minute, side by side.
type Variant = fn(&Runtime);

const VARIANTS: &[(&str, Variant)] = &[
    ("its command ends", |runtime| {
        is_lost(&create(runtime, &["sh", "-c", "read -r never; kill -STOP 1; sleep 1; exit 3"], true));
    }),
    ("its command stays", |runtime| is_lost(&create(runtime, STOPS, true))),
    ("without a network", |runtime| is_lost(&create(runtime, STOPS, false))),
    ("by a program that was executed", |runtime| {
        let sandbox = create(runtime, &[], true);
        let process = stop_by(&sandbox, exec(STOPS));
        is_lost(&sandbox);
        let exit = process.wait(PATIENCE).unwrap();
        assert_eq!((exit.reason, exit.code), (ExitReason::EngineLost, 137));
    }),
    ("another program after it", |runtime| {
        let sandbox = create(runtime, STOPS, false);
        stopped(&sandbox);
        let second = sandbox.exec_begin(&exec(&["true"])).unwrap();
        is_lost(&sandbox);
        assert!(second.wait(PATIENCE).is_err_and(|error| error.code() == Code::State));
    }),
    ("listing and writing after it", |runtime| {
        let sandbox = Arc::new(create(runtime, &[], true));
        let _process = stop_by(&sandbox, exec(STOPS));
        stopped(&sandbox);
        let lists = thread::spawn({
            let sandbox = Arc::clone(&sandbox);
            move || sandbox.list_directory("/", &FileOptions::default()).map(drop)
        });
        let writes = thread::spawn({
            let sandbox = Arc::clone(&sandbox);
            move || sandbox.write_file("/tmp/x", &vec![7; 8 << 20], &FileOptions::default()).map(drop)
        });
        is_lost(&sandbox);
        for call in [lists, writes] {
            assert!(call.join().unwrap().is_err());
        }
    }),
    ("its stubs are killed from outside", |runtime| {
        let sandbox = create(runtime, &["sleep", "1000"], false);
        let sentry = pids(|pid| {
            let line = command_line(pid);
            is_sentry(&line) && line.iter().any(|word| word.contains(sandbox.id()))
        });
        let stubs = pids(|pid| parent(pid).is_some_and(|parent| sentry.contains(&parent)));
        assert!(!stubs.is_empty(), "gVisor has no processes for those inside");
        for stub in stubs {
            let _ = Command::new("kill").args(["-KILL", &stub.to_string()]).status().unwrap();
        }
        is_lost(&sandbox);
    }),
    ("its other processes are stopped", one_whose_other_processes_are_stopped_holds_no_call),
    ("the host is stopped", a_host_that_is_stopped_loses_no_sandbox),
    ("numbers, readiness and a signal after it", |runtime| {
        let sandbox = create(runtime, STOPS, true);
        stopped(&sandbox);
        assert_eq!(sandbox.stats().unwrap().processes, None);
        sandbox.signal(15).unwrap();
        is_lost(&sandbox);
    }),
];

/// Held by the tests that load the machine, or that a loaded machine would mislead.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_silent_init_loses_its_sandbox_after_half_a_minute_and_an_innocent_one_does_not() {
    let runtime = runtime();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // One that is only busy, and one that sleeps, beside them.
    let busy = create(&runtime, &["sh", "-c", "while :; do :; done"], true);
    let idle = create(&runtime, &[], false);
    let begin = Instant::now();
    thread::scope(|scope| {
        let all: Vec<_> =
            VARIANTS.iter().map(|(name, variant)| (name, scope.spawn(|| variant(&runtime)))).collect();
        for (name, variant) in all {
            assert!(variant.join().is_ok(), "{name}");
        }
    });
    assert!(begin.elapsed() < LONG.unwrap() * 2);
    for innocent in [busy, idle] {
        assert_eq!(innocent.exec(&exec(&["true"])).unwrap().wait(PATIENCE).unwrap().code, 0);
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_time_out_means_that_the_program_runs_no_more() {
    let runtime = runtime();
    let sandbox = create(&runtime, &[], true);
    let mut limited = exec(STOPS);
    // By then init is stopped, and not yet given up for its silence.
    limited.set_timeout(Duration::from_secs(15)).unwrap();
    let process = stop_by(&sandbox, limited);
    stopped(&sandbox);
    let exit = process.wait(LONG).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::TimedOut, 124));
    // Init can't kill it, so the whole sandbox has ended, before that was told.
    assert!(processes_with(sandbox.id()).is_empty());
    is_lost(&sandbox);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_time_out_takes_the_background_along() {
    let runtime = runtime();
    let sandbox = create(&runtime, &[], false);
    let script = "set -m; sleep 1000 & (setsid sleep 1000 &) ; (sleep 1000 &); setsid -w sh -c 'sleep 1000; :' & sleep 1000";
    let mut limited = exec(&["bash", "-c", script]);
    limited.set_timeout(Duration::from_secs(10)).unwrap();
    let process = sandbox.exec(&limited).unwrap();
    eventually("they all run", || sandbox.stats().unwrap().processes == Some(8));
    let exit = process.wait(LONG).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::TimedOut, 124));
    // All but the one that has left everything that could tell whose it is.
    eventually("they are gone", || sandbox.stats().unwrap().processes == Some(1));
    assert_eq!(sandbox.exec(&exec(&["true"])).unwrap().wait(PATIENCE).unwrap().code, 0);
}

/// Stops every process but init and itself, again and again.
const STOPS_ALL: &str = "
import os, signal, time
print('ready', flush=True)
while True:
    for name in os.listdir('/proc'):
        if name.isdigit() and int(name) not in (1, os.getpid()):
            try: os.kill(int(name), signal.SIGSTOP)
            except OSError: pass
";

fn one_whose_other_processes_are_stopped_holds_no_call(runtime: &Runtime) {
    let sandbox = create(runtime, &["python3", "-c", STOPS_ALL], true);
    sandbox.write_file("/tmp/big", &vec![7; 12 << 20], &FileOptions::default()).ok();
    // Long enough for a helper to be met, whose end is seen at once, and not at the end of the usual minute.
    let begin = Instant::now();
    let refused = (0..2000).find_map(|_| sandbox.read_file("/tmp/big", &FileOptions::default()).err());
    let code = refused.map(|error| error.code());
    assert!(matches!(code, Some(Code::Engine | Code::NotFound | Code::TimedOut)), "{code:?}");
    assert!(begin.elapsed() < LONG.unwrap());
    let mut limited = exec(&["sleep", "1000"]);
    limited.set_timeout(Duration::from_secs(1)).unwrap();
    match sandbox.exec(&limited) {
        Ok(process) => assert_eq!(process.wait(LONG).unwrap().reason, ExitReason::TimedOut),
        // One that is stopped between being made and being executed holds up init.
        Err(error) => assert_eq!(error.code(), Code::State),
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_helper_that_is_stopped_is_an_error_at_once() {
    let runtime = runtime();
    let sandbox = create(&runtime, &[], false);
    // A watch, which has no time-out at all.
    let watch = sandbox.begin_file(FileRequest::Watch("/tmp".into()), &FileOptions::default(), None).unwrap();
    assert_eq!(watch.next_change(PATIENCE).unwrap().kind, FileChangeKind::Ready);
    let stop = "for at in /proc/[0-9]*; do
        [ $at != /proc/1 ] && cmp -s $at/comm /proc/1/comm && kill -STOP ${at#/proc/} && exit 0; done; exit 9";
    assert_eq!(sandbox.exec(&exec(&["sh", "-c", stop])).unwrap().wait(PATIENCE).unwrap().code, 0);
    assert_eq!(watch.wait(PATIENCE).unwrap_err().code(), Code::Engine);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_program_that_kills_init_has_an_end_that_says_so() {
    let runtime = runtime();
    for _ in 0..5 {
        let sandbox = create(&runtime, &[], false);
        match sandbox.exec(&exec(&["python3", "-c", "import os\nwhile True: os.kill(1, 9)"])) {
            Ok(process) => assert_eq!(process.wait(LONG).unwrap().reason, ExitReason::EngineLost),
            Err(error) => {
                assert_eq!(error.code(), Code::State);
                assert!(error.message().contains("the sandbox ended before"), "{error}");
            }
        }
        is_lost(&sandbox);
    }
}

/// Set for the program that plays the host.
const HOST: &str = "SBX_TEST_HOST";

#[test]
#[ignore = "the host in another test, which starts and stops it"]
fn host() {
    if std::env::var_os(HOST).is_none() {
        return;
    }
    let mut config = common::script("sleep 1000");
    let seconds = std::env::var(HOST).unwrap().parse().unwrap();
    config.set_timeout(Duration::from_secs(seconds)).unwrap();
    let runtime = runtime();
    let sandbox = runtime.create(&config).unwrap();
    println!("\nhost says: {}", sandbox.id());
    if seconds > 60 {
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let exit = sandbox.exec(&exec(&["true"])).unwrap().wait(PATIENCE).unwrap();
        println!("\nhost says: {:?} {}", exit.reason, exit.code);
        return;
    }
    let exit = sandbox.wait(LONG).unwrap();
    println!("\nhost says: {:?} {}", exit.reason, exit.code);
}

/// A host with one sandbox of that lifetime, which is stopped while something is waited for, and what it says then.
fn stopped_host(seconds: &str, meanwhile: impl Fn(&str)) -> String {
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host", "--ignored", "--nocapture"])
        .env(HOST, seconds)
        .stdin(Std::piped())
        .stdout(Std::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let mut says = || {
        lines.by_ref().find_map(|line| line.unwrap().strip_prefix("host says: ").map(str::to_owned)).unwrap()
    };
    let signal = |name: &str, pid: u32| {
        assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
    };
    let id = says();
    signal("-STOP", host.id());
    meanwhile(&id);
    signal("-CONT", host.id());
    // It may look around a little before it does anything.
    thread::sleep(Duration::from_secs(2));
    drop(host.stdin.take());
    let word = says();
    assert!(host.wait().unwrap().success());
    word
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_host_that_is_stopped_prolongs_no_life() {
    // The keeper ends it, some seconds after its time.
    let gone = |id: &str| eventually("nothing of it runs", || processes_with(id).is_empty());
    assert_eq!(stopped_host("2", gone), "TimedOut 124");
}

fn a_host_that_is_stopped_loses_no_sandbox(_: &Runtime) {
    // Until it is asked, and longer than an answer may take.
    assert_eq!(stopped_host("3600", |_| thread::sleep(Duration::from_secs(42))), "Exited 0");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_has_hardly_any_processor_lives() {
    let runtime = runtime();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut config = common::script("for i in 1 2 3 4; do (while :; do :; done) & done; wait");
    config.set_timeout(Duration::from_secs(3600)).unwrap().set_cpu(50).unwrap();
    let sandbox = match runtime.create(&config) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            // No control group holds the limit here.
            assert_eq!(error.code(), Code::Host, "{error}");
            return;
        }
    };
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(45) {
        let process = sandbox.exec(&exec(&["true"])).unwrap();
        assert_eq!(process.wait(LONG).unwrap().code, 0);
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_whose_init_is_stopped_can_be_ended_at_once() {
    let runtime = runtime();
    let (ended, stays) = (create(&runtime, STOPS, true), create(&runtime, STOPS, true));
    [&ended, &stays].into_iter().for_each(stopped);
    ended.terminate().unwrap();
    stays.stop(15, Duration::from_millis(100)).unwrap();
    for sandbox in [ended, stays] {
        assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::Terminated);
    }
}
