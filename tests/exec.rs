//! Programs executed in a running sandbox: what they get, what comes back, and how they end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{PATIENCE, eventually, runtime};
use sbx::{Code, Config, Event, Exec, ExitReason, Process, Queue, Runtime, Sandbox, State, Stdio, Stream};

/// A sandbox that runs nothing by itself.
fn idle() -> (Runtime, Sandbox) {
    let runtime = runtime();
    let sandbox = runtime.create(&Config::new()).unwrap();
    (runtime, sandbox)
}

/// A program whose outputs are captured.
fn exec(command: &[&str]) -> Exec {
    let mut exec = Exec::new();
    exec.set_command(command).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::capture()).unwrap();
    exec
}

fn sh(script: &str) -> Exec {
    exec(&["sh", "-c", script])
}

/// What it has written. It has ended, and so it is all there.
fn said(process: &Process, stream: Stream) -> String {
    let captured = process.captured(stream).unwrap();
    String::from_utf8([captured.head, captured.tail].concat()).unwrap()
}

fn run(sandbox: &Sandbox, exec: &Exec) -> (i32, String) {
    let process = sandbox.exec(exec).unwrap();
    let exit = process.wait(PATIENCE).unwrap();
    (exit.code, said(&process, Stream::Stdout))
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_without_a_command_lives_until_it_is_ended() {
    let (_runtime, sandbox) = idle();
    assert_eq!(sandbox.state(), State::Running);
    assert_eq!(sandbox.signal(15).unwrap_err().code(), Code::State);
    for number in 0..3 {
        assert_eq!(
            run(&sandbox, &sh(&format!("echo {number}; exit {number}"))),
            (number, format!("{number}\n"))
        );
    }
    assert_eq!(sandbox.state(), State::Running, "the end of a program is not the sandbox's");
    sandbox.terminate().unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
    let error = sandbox.exec(&exec(&["true"])).unwrap_err();
    assert_eq!(error.code(), Code::State);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_is_not_set_is_the_sandboxs_own() {
    let runtime = runtime();
    let mut config = Config::new();
    config.set_env("BOTH", "sandbox").unwrap().set_env("BASE", "base").unwrap();
    config.set_secret("TOKEN", "of the sandbox").unwrap();
    config.set_workdir("/usr").unwrap().set_user("12:34").unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let show = "echo $BOTH $BASE $OWN $TOKEN; pwd; id -u; id -g";
    assert_eq!(run(&sandbox, &sh(show)).1, "sandbox base of the sandbox\n/usr\n12\n34\n");
    let mut own = sh(show);
    own.set_env("BOTH", "exec").unwrap().set_secret("OWN", "own").unwrap();
    own.set_workdir("/tmp").unwrap().set_user("0").unwrap();
    assert_eq!(run(&sandbox, &own).1, "exec base own of the sandbox\n/tmp\n0\n0\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_cannot_start_says_why() {
    let (_runtime, sandbox) = idle();
    let refused = |exec: &Exec| {
        let error = sandbox.exec(exec).unwrap_err();
        assert_eq!(error.code(), Code::Exec, "{error}");
        error.message().to_owned()
    };
    let missing = refused(&exec(&["no-such-program"]));
    assert!(missing.contains("\"no-such-program\"") && missing.contains("No such file"), "{missing}");
    assert!(missing.contains(sandbox.id()), "{missing}");
    assert!(refused(&exec(&["/etc/passwd"])).contains("Permission denied"));
    let mut nowhere = exec(&["true"]);
    nowhere.set_workdir("/etc/passwd").unwrap();
    let text = refused(&nowhere);
    assert!(text.contains("working directory \"/etc/passwd\"") && text.contains("Not a directory"), "{text}");
    nowhere.set_workdir("/etc/passwd/below").unwrap();
    let text = refused(&nowhere);
    assert!(text.contains("\"/etc/passwd/below\" isn't there and can't be made"), "{text}");
    let mut nobody = exec(&["true"]);
    nobody.set_user("mallory").unwrap();
    assert!(refused(&nobody).contains("user \"mallory\": the user or group"));
    nobody.set_user("root:mallory").unwrap();
    assert!(refused(&nobody).contains("user \"root:mallory\": the user or group"));
    let begun = sandbox.exec_begin(&exec(&["no-such-program"])).unwrap();
    assert_eq!(begun.wait(PATIENCE).unwrap_err().code(), Code::Exec);
    assert_eq!(begun.failure().unwrap().code(), Code::Exec);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_working_directory_that_is_not_there_is_made() {
    let runtime = runtime();
    let mut config = Config::new();
    config.set_workdir("/workspace/of/mine").unwrap().set_user("nobody").unwrap();
    let sandbox = runtime.create(&config).unwrap();
    // It is there before anything is executed: for files, for one.
    let there = sandbox.stat_file("/workspace/of/mine", &sbx::FileOptions::default()).unwrap();
    assert_eq!(there.kind, sbx::FileKind::Directory);
    let show = "pwd; stat -c '%u:%g %a %n' /workspace /workspace/of/mine";
    let made = "/workspace/of/mine\n0:0 755 /workspace\n0:0 755 /workspace/of/mine\n";
    assert_eq!(run(&sandbox, &sh(show)).1, made);
    for place in ["/opt/new/deeper", "/usr/share/sbx-new", "/tmp/new"] {
        let mut other = sh(&format!("pwd; id -u; stat -c '%u %a' {place}"));
        other.set_workdir(place).unwrap();
        assert_eq!(run(&sandbox, &other).1, format!("{place}\n65534\n0 755\n"));
    }
    let mut terminal = Exec::new();
    terminal.set_command(["test", "-d", "/run/made"]).unwrap();
    terminal.set_pty(24, 80).unwrap().set_workdir("/run/made").unwrap();
    assert_eq!(sandbox.exec(&terminal).unwrap().wait(PATIENCE).unwrap().code, 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn arguments_may_be_as_long_as_linux_has_them() {
    let (runtime, sandbox) = idle();
    let script = "import sys; print(len(sys.argv), sum(map(len, sys.argv)))";
    let with = |arguments: &[&str]| exec(&[&["python3", "-c", script], arguments].concat());
    let text = "x".repeat(131_072);
    assert_eq!(run(&sandbox, &with(&[&text[..65_536]; 16])), (0, "17 1048578\n".to_owned()));
    assert_eq!(run(&sandbox, &with(&[&text[..131_071]])), (0, "2 131073\n".to_owned()));
    let mut long = Exec::new();
    let error = long.set_command(["true", &text]).unwrap_err();
    assert!(error.message().contains("argument 1") && error.message().contains("131072"), "{error}");
    let error = long.set_command(vec!["x".repeat(131_000); 17]).unwrap_err();
    assert!(error.message().contains("more than 2097152"), "{error}");
    // Several at once, with what goes before them and comes behind.
    let most = with(&[&text[..131_071]; 15]);
    let all: Vec<Process> = (0..8).map(|_| sandbox.exec_begin(&most).unwrap()).collect();
    assert_eq!(run(&sandbox, &sh("echo small")), (0, "small\n".to_owned()));
    for process in all {
        assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
        assert_eq!(said(&process, Stream::Stdout), "16 1966067\n");
    }
    // The sandbox's own variables count.
    let mut config = Config::new();
    config.set_secret("A", &text[..131_000]).unwrap();
    let full = runtime.create(&config).unwrap();
    let error = full.exec(&with(&[&text[..131_071]; 15])).unwrap_err();
    assert_eq!(error.code(), Code::Invalid);
    assert!(error.message().contains("more than 2097152"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn exit_codes_signals_and_time_outs_are_told_apart() {
    let (_runtime, sandbox) = idle();
    let end = |exec: &Exec| {
        let exit = sandbox.exec(exec).unwrap().wait(PATIENCE).unwrap();
        (exit.reason, exit.code, exit.signal)
    };
    assert_eq!(end(&sh("exit 124")), (ExitReason::Exited, 124, 0));
    assert_eq!(end(&sh("kill -9 $$")), (ExitReason::Signalled, 137, 9));
    // Its children keep nobody waiting: the whole group is killed.
    let mut late = sh("sleep 1000 & wait; echo never");
    late.set_timeout(Duration::from_secs(1)).unwrap();
    let process = sandbox.exec(&late).unwrap();
    let exit = process.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code, exit.signal), (ExitReason::TimedOut, 124, 0));
    eventually("the output has ended", || process.captured(Stream::Stdout).unwrap().complete);
    assert_eq!(said(&process, Stream::Stdout), "");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_signal_reaches_the_programs_group() {
    let (_runtime, sandbox) = idle();
    // The sleeper is there before the signal is: gVisor may miss a child that is being forked at that moment.
    let process = sandbox.exec(&sh("sleep 1000 & echo ready; wait; echo never")).unwrap();
    eventually("it is ready", || said(&process, Stream::Stdout) == "ready\n");
    assert_eq!(process.wait(Some(Duration::ZERO)).unwrap_err().code(), Code::TimedOut);
    assert!(process.exit().is_none());
    process.signal(15).unwrap();
    let exit = process.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code, exit.signal), (ExitReason::Signalled, 143, 15));
    eventually("the sleeper has gone too", || process.captured(Stream::Stdout).unwrap().complete);
    assert_eq!(process.exit(), Some(exit));
    process.signal(15).unwrap();
    assert_eq!(process.signal(0).unwrap_err().code(), Code::Invalid);
    // One that is still being started gets it right after.
    let begun = sandbox.exec_begin(&exec(&["sleep", "1000"])).unwrap();
    begun.signal(9).unwrap();
    assert_eq!(begun.wait(PATIENCE).unwrap().signal, 9);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn streams_are_descriptors_of_the_hosts() {
    let (_runtime, sandbox) = idle();
    let mut cat = Exec::new();
    cat.set_command(["sh", "-c", "cat; echo end >&2"]).unwrap();
    for stream in [Stream::Stdin, Stream::Stdout] {
        cat.set_stdio(stream, Stdio::Descriptor).unwrap();
    }
    cat.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
    // They are there before the program is.
    let process = sandbox.exec_begin(&cat).unwrap();
    let mut stdin = UnixStream::from(process.open_stream(Stream::Stdin).unwrap());
    let stdout = process.open_stream(Stream::Stdout).unwrap();
    assert_eq!(process.open_stream(Stream::Stdin).unwrap_err().code(), Code::State, "it is given once");
    assert_eq!(process.open_stream(Stream::Stderr).unwrap_err().code(), Code::NotFound);
    assert_eq!(process.open_terminal().unwrap_err().code(), Code::NotFound);
    stdin.write_all(b"a line\n").unwrap();
    stdin.shutdown(Shutdown::Write).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
    let mut pipe = std::fs::File::from(stdout);
    let mut text = String::new();
    eventually("the stream has ended", || match pipe.read_to_string(&mut text) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    });
    assert_eq!(text, "a line\nend\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn all_that_was_written_before_the_end_is_captured() {
    let (_runtime, sandbox) = idle();
    // Something holds the output beyond the program's end.
    let script = "sleep 1000 & head -c 60000 /dev/zero | tr '\\0' x; echo; echo the end";
    for _ in 0..10 {
        let process = sandbox.exec(&sh(script)).unwrap();
        assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
        let text = said(&process, Stream::Stdout);
        assert_eq!(text.len(), 60_000 + 1 + 8);
        assert!(text.ends_with("x\nthe end\n"));
        assert!(!process.captured(Stream::Stdout).unwrap().complete);
        process.signal(9).unwrap();
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_reader_that_stops_stops_its_own_program_only() {
    let (_runtime, sandbox) = idle();
    let mut flood = Exec::new();
    flood.set_command(["sh", "-c", "yes; true"]).unwrap();
    flood.set_stdio(Stream::Stdout, Stdio::Descriptor).unwrap();
    let flood = sandbox.exec(&flood).unwrap();
    let mut bomb = Exec::new();
    bomb.set_command(["sh", "-c", "head -c 20000000 /dev/zero; echo done >&2"]).unwrap();
    bomb.set_stdio(Stream::Stdout, Stdio::Capture { head: 10, tail: 10 }).unwrap();
    bomb.set_stdio(Stream::Stderr, Stdio::capture()).unwrap();
    let bomb = sandbox.exec(&bomb).unwrap();
    assert_eq!(bomb.wait(PATIENCE).unwrap().code, 0);
    assert_eq!(said(&bomb, Stream::Stderr), "done\n");
    assert_eq!(bomb.captured(Stream::Stdout).unwrap().dropped, 20_000_000 - 20);
    assert!(flood.exit().is_none());
    // Nobody can read it any more: it is told as any writer is.
    drop(flood.open_stream(Stream::Stdout).unwrap());
    assert_eq!(flood.wait(PATIENCE).unwrap().code, 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_host_hears_of_start_and_end() {
    let (_runtime, sandbox) = idle();
    let queue = Queue::new(4).unwrap();
    let mut good = exec(&["sh", "-c", "exit 7"]);
    good.set_queue(&queue, 11).unwrap();
    let mut bad = exec(&["no-such-program"]);
    bad.set_queue(&queue, 12).unwrap();
    let processes = [sandbox.exec_begin(&good).unwrap(), sandbox.exec_begin(&bad).unwrap()];
    let mut events = Vec::new();
    eventually("three events", || {
        events.extend(std::iter::from_fn(|| queue.next()));
        events.len() >= 3
    });
    let of = |cookie| events.iter().filter(move |event| event.cookie == cookie).collect::<Vec<_>>();
    let [started, ended] = of(11)[..] else { panic!("{events:?}") };
    assert_eq!(started.event, Event::ProcessStarted);
    let Event::ProcessExited { reason, code, .. } = ended.event else { panic!("{ended:?}") };
    assert_eq!((reason, code), (ExitReason::Exited, 7));
    let [failed] = of(12)[..] else { panic!("{events:?}") };
    let Event::ProcessFailed { error, .. } = &failed.event else { panic!("{failed:?}") };
    assert_eq!(error.code(), Code::Exec);
    assert!(error.message().contains("no-such-program"), "{error}");
    drop(processes);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn programs_end_with_their_sandbox_in_its_way() {
    let runtime = runtime();
    let mut config = common::config(&["sleep", "1000"]);
    let sandbox = runtime.create(&config).unwrap();
    let process = sandbox.exec(&exec(&["sleep", "1000"])).unwrap();
    sandbox.signal(9).unwrap();
    let exit = process.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
    config.set_timeout(Duration::from_millis(300)).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let process = sandbox.exec(&exec(&["sleep", "1000"])).unwrap();
    let exit = process.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::TimedOut, 124));
    assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::TimedOut);
    // A handle to a program doesn't keep the sandbox.
    let sandbox = runtime.create(&Config::new()).unwrap();
    let process = sandbox.exec(&exec(&["sleep", "1000"])).unwrap();
    drop(sandbox);
    assert_eq!(process.wait(PATIENCE).unwrap().reason, ExitReason::Terminated);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_freed_handle_releases_its_waiters_and_not_the_program() {
    let (_runtime, sandbox) = idle();
    let process = sandbox
        .exec(&sh("trap '' HUP; touch /tmp/running; sleep 0.2; touch /tmp/went-on; sleep 1000"))
        .unwrap();
    let waiter = process.clone();
    let waiting = std::thread::spawn(move || waiter.wait(None));
    process.close();
    assert_eq!(waiting.join().unwrap().unwrap_err().code(), Code::Closed);
    drop(process);
    let check = sh("until [ -e /tmp/went-on ]; do sleep 0.01; done");
    assert_eq!(run(&sandbox, &check).0, 0);
}
