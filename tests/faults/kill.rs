//! F1 and F2: the host ends at any moment, in any way, and nothing of its sandbox stays.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::census::{self, Census, SURVIVOR};
use crate::host::{Scratch, compile};

/// What a host that replaced its program is called then.
const REPLACED: &str = "sleep";

#[test]
fn a_host_that_is_killed_leaves_nothing() {
    deaths(60, &["kill"], 0);
}

#[test]
fn a_host_that_ends_in_another_way_leaves_nothing() {
    deaths(40, &["abort", "_exit", "exit", "exec", "segv"], 1);
}

#[test]
#[ignore = "long: several minutes"]
fn a_thousand_killed_hosts_leave_nothing() {
    deaths(1000, &["kill"], 2);
}

#[test]
#[ignore = "long: minutes"]
fn three_hundred_hosts_that_end_in_other_ways_leave_nothing() {
    deaths(300, &["abort", "_exit", "exit", "exec", "segv"], 3);
}

/// Lets hosts die in these ways in turn, every third with a forked child that lives on, at moments spread over
/// the first 400 ms: before, during and after the start, and with traffic.
fn deaths(count: u64, ways: &[&str], seed: u64) {
    let _turn = census::turn();
    let program = compile("hosts", "dies", true);
    let scratch = Scratch::new();
    let before = Census::take(&scratch.0, &[]);
    let mut times = Vec::new();
    for number in 0..count {
        let way = ways[usize::try_from(number).unwrap() % ways.len()];
        // Evenly spread and the same in every run: multiples of an odd number around a circle.
        let moment = (number * 2 + seed) * 104_729 % 400_000;
        let forks = number % 3 == 2;
        let mut host = Command::new(&program)
            .args([way, &moment.to_string(), if forks { "1" } else { "0" }])
            .env("TMPDIR", &scratch.0)
            .env("XDG_RUNTIME_DIR", &scratch.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        host.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x", "the host said something else than that it dies");
        let begin = Instant::now();
        if way != "exec" {
            host.wait().unwrap();
        }
        let gone = before.again(&scratch.0, &[SURVIVOR, REPLACED]);
        let took = begin.elapsed();
        for one in census::below(i32::try_from(std::process::id()).unwrap()) {
            if [SURVIVOR, REPLACED].contains(&one.name.as_str()) {
                let _ =
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(one.pid), nix::sys::signal::SIGKILL);
            }
        }
        // By its number too: it may not have executed the other program, and so not have that name, yet.
        let _ = host.kill();
        host.wait().unwrap();
        drop(host);
        census::bury();
        gone.unwrap_or_else(|difference| panic!("{way} after {moment} µs, fork {forks}: {difference}"));
        times.push(took);
    }
    before.again(&scratch.0, &[]).unwrap();
    report(&mut times, ways);
}

/// Says how long it took. What is promised is a second.
fn report(times: &mut [Duration], ways: &[&str]) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    let late = times.iter().filter(|time| **time > Duration::from_secs(1)).count();
    println!(
        "{} hosts ended by {ways:?}: gone after {:?} (median), {:?} (95 of 100), {:?} (worst); {late} took over 1 s",
        times.len(),
        at(50),
        at(95),
        at(100),
    );
    assert!(at(95) < Duration::from_secs(1), "more than one in twenty took longer than a second");
}
