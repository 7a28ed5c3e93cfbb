//! Programs on a terminal: an interactive shell, its size, its foreground, its end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;
#[path = "common/screen.rs"]
mod screen;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{PATIENCE, eventually, runtime};
use sbx::{Code, Config, Exec, ExitReason, Process, Runtime, Sandbox, Stdio, Stream};
use screen::Screen;

fn idle() -> (Runtime, Sandbox) {
    let runtime = runtime();
    let sandbox = runtime.create(&Config::new()).unwrap();
    (runtime, sandbox)
}

/// The terminal of a program.
fn screen_of(process: &Process) -> Screen {
    let stream = UnixStream::from(process.open_terminal().unwrap());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    Screen::new(stream)
}

fn on_terminal(sandbox: &Sandbox, command: &[&str]) -> (Process, Screen) {
    let mut exec = Exec::new();
    exec.set_command(command).unwrap();
    exec.set_env("PS1", "ready> ").unwrap().set_pty(24, 80).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    let screen = screen_of(&process);
    (process, screen)
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_shell_can_be_worked_with() {
    let (_runtime, sandbox) = idle();
    let (process, mut screen) =
        on_terminal(&sandbox, &["bash", "--norc", "--noprofile", "--noediting", "-i"]);
    let greeting = screen.see(Some("ready> "));
    assert!(!greeting.contains("job control"), "{greeting}");
    screen.type_in("echo $((6 * 7)) $TERM\n");
    assert!(screen.see(Some("\n42 xterm\r\nready> ")).contains("echo $((6 * 7))"), "what is typed is shown");
    screen.type_in("stty size\n");
    screen.see(Some("\n24 80\r\n"));
    process.resize(50, 132).unwrap();
    // What is typed may overtake the new size.
    screen.type_in("until stty size | grep -x '50 132'; do sleep 0.05; done; echo $LINES $COLUMNS\n");
    // (The shell may show its prompt again when it hears of the size.)
    screen.see(Some("50 132\r\n50 132\r\nready> "));
    // Ctrl-C ends the job in the foreground, and the shell lives.
    screen.type_in("echo st''arted; sleep 1000\n");
    screen.see(Some("started\r\n"));
    eventually("the sleeper runs", || {
        let mut look = Exec::new();
        look.set_command(["sh", "-c", "grep -l '^sleep' /proc/[0-9]*/cmdline"]).unwrap();
        sandbox.exec(&look).unwrap().wait(PATIENCE).unwrap().code == 0
    });
    screen.type_in("\x03");
    screen.see(Some("ready> "));
    screen.type_in("echo $?\n");
    screen.see(Some("\n130\r\nready> "));
    screen.type_in("exit 5\n");
    let exit = process.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Exited, 5));
    screen.see(None);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_program_owns_its_terminal_whoever_it_runs_as() {
    let (_runtime, sandbox) = idle();
    let mut exec = Exec::new();
    exec.set_command(["sh", "-c", "id -u; test -t 0 && test -t 2 && echo to tty > /dev/tty; echo end"])
        .unwrap();
    exec.set_user("1234").unwrap().set_pty(24, 80).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    assert_eq!(screen_of(&process).see(None), "1234\r\nto tty\r\nend\r\n");
    assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn all_output_arrives_before_the_end_however_slow_the_reader() {
    let (_runtime, sandbox) = idle();
    let (process, mut screen) = on_terminal(&sandbox, &["seq", "1", "100000"]);
    assert_eq!(process.wait(Some(Duration::from_millis(200))).unwrap_err().code(), Code::TimedOut);
    let all = screen.see(None);
    assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
    let wanted: String = (1..=100_000).map(|number| format!("{number}\r\n")).collect();
    assert!(all == wanted, "{} bytes instead of {}", all.len(), wanted.len());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_is_typed_faster_than_it_is_read_arrives() {
    let (_runtime, sandbox) = idle();
    let (process, mut screen) =
        on_terminal(&sandbox, &["sh", "-c", "stty raw -echo; echo ready; head -c 300000 | wc -c"]);
    screen.see(Some("ready"));
    let mut writer = screen.stream.try_clone().unwrap();
    let typing = std::thread::spawn(move || writer.write_all(&vec![b'x'; 300_000]).unwrap());
    assert_eq!(screen.see(None).trim(), "300000");
    typing.join().unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn closing_the_terminal_hangs_up() {
    let (_runtime, sandbox) = idle();
    let (process, screen) = on_terminal(&sandbox, &["sleep", "1000"]);
    drop(screen);
    let exit = process.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.signal), (ExitReason::Signalled, 1));
    // One that was never opened is closed with the handle.
    let mut exec = Exec::new();
    exec.set_command([
        "sh",
        "-c",
        "trap 'touch /tmp/hung-up; exit' HUP; touch /tmp/ready; while :; do sleep 0.01; done",
    ])
    .unwrap();
    exec.set_pty(24, 80).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    let wait_for = |file: &str| {
        let mut check = Exec::new();
        check.set_command(["sh", "-c", &format!("until [ -e {file} ]; do sleep 0.01; done")]).unwrap();
        check.set_timeout(PATIENCE.unwrap()).unwrap();
        assert_eq!(sandbox.exec(&check).unwrap().wait(PATIENCE).unwrap().code, 0);
    };
    wait_for("/tmp/ready");
    drop(process);
    wait_for("/tmp/hung-up");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_time_out_ends_a_program_on_a_terminal_too() {
    let (_runtime, sandbox) = idle();
    let mut exec = Exec::new();
    exec.set_command(["sh", "-c", "trap '' HUP; sleep 1000"]).unwrap();
    exec.set_pty(24, 80).unwrap().set_timeout(Duration::from_millis(50)).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().reason, ExitReason::TimedOut);
    screen_of(&process).see(None);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_has_no_terminal_says_so() {
    let (_runtime, sandbox) = idle();
    let mut exec = Exec::new();
    exec.set_command(["cat"]).unwrap();
    exec.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    assert_eq!(process.resize(1, 1).unwrap_err().code(), Code::NotFound);
    assert_eq!(process.resize(0, 1).unwrap_err().code(), Code::Invalid);
    assert_eq!(process.open_terminal().unwrap_err().code(), Code::NotFound);
    let (terminal, screen) = on_terminal(&sandbox, &["cat"]);
    let error = terminal.open_stream(Stream::Stdout).unwrap_err();
    assert!(error.message().contains("it has a terminal instead"), "{error}");
    assert_eq!(terminal.open_terminal().unwrap_err().code(), Code::State, "it is given once");
    drop(screen);
}
