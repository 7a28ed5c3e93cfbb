//! A keeper that dies, or whose host dies, leaves no process behind, and nothing that the host has open leaks into one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::{
    Keeper, Origin, PATIENCE, Program, Reply, Request, Sandbox, Setup, host_view, init, next, setup,
};
use crate::sys::channel::{self, Channel};

/// The variable that names the sandbox to the process that plays the host.
const HOST: &str = "SBX_TEST_HOST";

/// A process: its number, and when it started, which together are never used again.
type Process = (i32, u64);

/// All processes: their parents.
pub(super) fn processes() -> BTreeMap<Process, i32> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = rest.split(' ').collect();
        // A zombie has ended.
        if fields[0] != "Z" && fields[0] != "X" {
            all.insert((pid, fields[19].parse().unwrap()), fields[1].parse().unwrap());
        }
    }
    all
}

/// A process and all below it.
pub(super) fn family(of: i32) -> Vec<Process> {
    let all = processes();
    let mut found: Vec<Process> = all.keys().filter(|(pid, _)| *pid == of).copied().collect();
    let mut at = 0;
    while let Some((parent, _)) = found.get(at).copied() {
        found.extend(all.iter().filter(|(_, of)| **of == parent).map(|(process, _)| *process));
        at += 1;
    }
    found
}

/// The processes that have this word in their command line.
fn named(name: &str) -> Vec<Process> {
    let has = |pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == name.as_bytes())
    };
    processes().into_keys().filter(|(pid, _)| has(*pid)).collect()
}

/// Waits until none of these processes is left, and none with that name.
pub(super) fn gone(family: &[Process], name: &str, keeper: Option<&Keeper>) {
    let begin = Instant::now();
    loop {
        if let Some(keeper) = keeper {
            keeper.reap();
        }
        let all = processes();
        let left: Vec<_> = family.iter().filter(|process| all.contains_key(process)).collect();
        let more = named(name);
        if left.is_empty() && more.is_empty() {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "left of {name}: {left:?} {more:?}");
        std::thread::yield_now();
    }
}

/// A random duration, up to a fifth longer than `longest`.
fn moment(random: &mut TestRunner, longest: Duration) -> Duration {
    longest.mul_f64((0.0_f64..1.2).new_tree(random).unwrap().current())
}

/// The sentry's environment: the prewarmer sets one variable, and without it there is none.
fn environment_of_sentry(name: &str) -> String {
    let read = |pid: i32, file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let is_sentry = |pid: &i32| read(*pid, "cmdline").starts_with(b"runsc-sandbox\0");
    let sentry = named(name).into_iter().map(|(pid, _)| pid).find(is_sentry).unwrap();
    String::from_utf8(read(sentry, "environ")).unwrap()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn where_descriptors_are_few_the_sentry_starts_without_the_prewarmer() {
    let sandbox = Sandbox::named(false, "enough-descriptors");
    assert_eq!(environment_of_sentry("enough-descriptors"), "GOGC=200\0");
    sandbox.end();
    let limit = |keeper: &Keeper| {
        let pid = keeper.pid().to_string();
        let limited = Command::new("prlimit").args(["--nofile=290:290", "--pid", &pid]).status().unwrap();
        assert!(limited.success());
    };
    let sandbox = Sandbox::with_keeper(false, "few-descriptors", limit);
    assert_eq!(environment_of_sentry("few-descriptors"), "");
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_keeper_killed_at_any_moment_takes_everything_along() {
    let begin = Instant::now();
    let whole = Sandbox::start(true);
    let longest = begin.elapsed();
    whole.end();
    let program = Program::new(&Origin::new(None)).unwrap();
    let mut random = TestRunner::default();
    for round in 0..100 {
        let name = format!("killed-{}-{round}", std::process::id());
        let moment = moment(&mut random, longest);
        let begin = Instant::now();
        let mut keeper = Keeper::start(&program).unwrap();
        let (_ours, theirs) = channel::pair().unwrap();
        let arguments =
            ["runsc", "--root=/state", "--log=/state/log", "--ignore-cgroups", "--network=sandbox"];
        let more = ["run", "--bundle=/bundle", &name];
        let arguments = arguments.iter().chain(&more).map(|word| word.as_bytes().to_vec()).collect();
        let setup = setup(true, host_view());
        keeper.ask(&Request::Setup(Box::new(setup)), vec![]).unwrap();
        keeper.ask(&Request::Run { arguments, hold: round % 4 == 0 }, vec![theirs]).unwrap();
        while begin.elapsed() < moment {
            std::thread::yield_now();
        }
        let family = family(keeper.pid());
        keeper.kill();
        gone(&family, &name, Some(&keeper));
    }
}

/// A runsc that the keeper holds until `Proceed`.
fn held(name: &str) -> Sandbox {
    held_with(setup(true, host_view()), name)
}

fn held_with(setup: Setup, name: &str) -> Sandbox {
    let program = Program::new(&Origin::new(None)).unwrap();
    let mut keeper = Keeper::start(&program).unwrap();
    let (ours, theirs) = channel::pair().unwrap();
    let arguments = ["runsc", "--root=/state", "--log=/state/log", "--log-format=json", "--ignore-cgroups"];
    let more = ["--network=sandbox", "run", "--bundle=/bundle", name];
    let arguments = arguments.iter().chain(&more).map(|word| word.as_bytes().to_vec()).collect();
    keeper.ask(&Request::Setup(Box::new(setup)), vec![]).unwrap();
    keeper.ask(&Request::Run { arguments, hold: true }, vec![theirs]).unwrap();
    assert!(matches!(next(&mut keeper).0, Reply::Namespaces { .. }));
    assert_eq!(next(&mut keeper).0, Reply::Prepared);
    assert_eq!(next(&mut keeper).0, Reply::Running);
    Sandbox { keeper, init: Channel::new(ours) }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_runsc_that_is_held_goes_on_when_it_is_let_go() {
    let is_there = |kind: &str, name: &str| {
        let starts = |pid: i32| {
            fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(kind.as_bytes())
        };
        named(name).into_iter().any(|(pid, _)| starts(pid))
    };
    // Once it waits at its log, and at once, when it may not have come to that.
    for waits in [true, false] {
        let name = format!("held-{waits}");
        let mut sandbox = held(&name);
        if waits {
            let opens = |task: i32| fs::read_to_string(format!("/proc/{task}/wchan")).unwrap_or_default();
            let begin = Instant::now();
            let is_waiting = || {
                let tasks =
                    named(&name).into_iter().flat_map(|(pid, _)| fs::read_dir(format!("/proc/{pid}/task")));
                let ids =
                    tasks.flatten().flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
                ids.into_iter().any(|task: i32| opens(task).contains("wait_for_partner"))
            };
            while !is_waiting() {
                assert!(begin.elapsed() < PATIENCE, "runsc doesn't wait at its log");
                std::thread::yield_now();
            }
            assert!(!is_there("runsc-sandbox", &name) && !is_there("runsc-gofer", &name));
        }
        sandbox.keeper.ask(&Request::Proceed, vec![]).unwrap();
        assert_eq!(sandbox.reply(), init::Reply::Hello);
        assert!(is_there("runsc-sandbox", &name));
        // Once only.
        sandbox.keeper.ask(&Request::Proceed, vec![]).unwrap();
        let (reply, _) = next(&mut sandbox.keeper);
        assert!(matches!(&reply, Reply::Failed { step, .. } if step == b"order of messages"), "{reply:?}");
        gone(&[], &name, Some(&sandbox.keeper));
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_a_runsc_that_was_held_says_is_in_the_report() {
    // Held to its end, it has said nothing; let go, it says what is wrong with the bundle.
    for (proceeds, expected) in [(false, ""), (true, "no-such-rootfs")] {
        let mut bad = setup(true, host_view());
        bad.bundle = String::from_utf8(bad.bundle).unwrap().replace("/rootfs", "/no-such-rootfs").into();
        let mut sandbox = held_with(bad, "held-bad");
        sandbox.keeper.ask(if proceeds { &Request::Proceed } else { &Request::Kill }, vec![]).unwrap();
        let (reply, _) = next(&mut sandbox.keeper);
        let Reply::Ended { log, .. } = reply else { panic!("{reply:?}") };
        let log = String::from_utf8(log).unwrap();
        assert!(log.contains(expected) && log.is_empty() != proceeds, "{log}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_keeper_ends_its_sandbox_when_its_time_is_over() {
    let mut sandbox = Sandbox::start(true);
    let family = family(sandbox.keeper.pid());
    let mut lifetime = |milliseconds| {
        sandbox.keeper.ask(&Request::Lifetime { milliseconds }, vec![]).unwrap();
    };
    // The last request counts, and the clock can't represent one of them. None before it may end while it is being sent.
    lifetime(600_000);
    lifetime(u64::MAX);
    lifetime(3_600_000);
    lifetime(50);
    let mut replies = Vec::new();
    let begin = Instant::now();
    loop {
        match sandbox.keeper.hear() {
            Ok(Some((reply, _))) => replies.push(reply),
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => break,
        }
        assert!(begin.elapsed() < PATIENCE, "it lives on: {replies:?}");
    }
    assert!(matches!(replies[..], [Reply::Expired, Reply::Ended { .. }]), "{replies:?}");
    gone(&family, "never-there", Some(&sandbox.keeper));
}

#[test]
#[ignore = "the host in another test, which starts and kills it"]
fn host() {
    let Ok(name) = std::env::var(HOST) else { return };
    println!("\nhost says: begun");
    let sandbox = Sandbox::named(true, &name);
    println!("\nhost says: {}", sandbox.keeper.pid());
    let _ = std::io::stdin().lines().count();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_host_killed_at_any_moment_takes_everything_along() {
    let mut random = TestRunner::default();
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        let name = format!("orphaned-{}-{round}", std::process::id());
        let mut host = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keeper::tests::life::host", "--ignored", "--nocapture"])
            .env(HOST, &name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
        let mut says = || {
            lines
                .by_ref()
                .find_map(|line| line.unwrap().strip_prefix("host says: ").map(str::to_owned))
                .unwrap()
        };
        assert_eq!(says(), "begun");
        let begin = Instant::now();
        let mut keeper: Option<i32> = None;
        if round == 0 {
            // Kills it when everything has started, and measures how long that takes.
            keeper = says().parse().ok();
            longest = begin.elapsed();
        } else {
            let moment = moment(&mut random, longest);
            while begin.elapsed() < moment {
                std::thread::yield_now();
            }
        }
        let family = family(i32::try_from(host.id()).unwrap());
        if let Some(keeper) = keeper {
            assert!(family.iter().any(|(pid, _)| *pid == keeper));
            assert!(family.len() > 4, "keeper, runsc, sentry, gofer: {family:?}");
        }
        host.kill().unwrap();
        host.wait().unwrap();
        gone(&family, &name, None);
    }
}

fn links(pid: i32) -> Option<Vec<String>> {
    let directory = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).ok()?;
    let links = directory.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Some(links.map(|link| link.to_string_lossy().into_owned()).collect())
}

/// Hosts open files without close-on-exec. No process of the sandbox may have one of them.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn no_process_of_the_sandbox_has_what_the_host_has_open() {
    let path = std::env::temp_dir().join(format!("sbx-leak-{}", std::process::id()));
    let leaked = File::create(&path).unwrap();
    fcntl(&leaked, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let own = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    let sandbox = Sandbox::start(true);
    let family = family(sandbox.keeper.pid());
    let mut looked = 0;
    for (pid, _) in &family {
        // An ordinary user may not look at processes that are not dumpable, as the sentry.
        let Some(links) = links(*pid) else { continue };
        looked += 1;
        for link in &links {
            assert!(Path::new(link) != path && Path::new(link) != own, "{pid} holds {link}");
        }
        if *pid == sandbox.keeper.pid() {
            let kinds = ["/dev/null", "socket:[", "pipe:[", "net:[", "anon_inode:[pidfd]", "pidfd:["];
            for link in &links {
                assert!(
                    kinds.iter().any(|kind| link.starts_with(kind)),
                    "the keeper holds {link}: {links:?}"
                );
            }
            assert!(links.len() < 16, "{links:?}");
        }
        println!("{pid}: {links:?}");
    }
    fs::remove_file(&path).unwrap();
    let all = nix::unistd::geteuid().is_root();
    assert!(looked >= if all { family.len() } else { 2 }, "{looked} of {family:?}");
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_keeper_is_small() {
    let sandbox = Sandbox::start(true);
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", sandbox.keeper.pid())).unwrap();
    let anonymous = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    let kilobytes: u32 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    println!("a keeper's own memory: {kilobytes} kB");
    assert!(kilobytes < 1024, "{rollup}");
    sandbox.end();
}
