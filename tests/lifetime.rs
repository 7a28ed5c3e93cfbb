//! The other ways in which a sandbox's time is over: idle, and stopped in good order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail the test")]

mod common;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{PATIENCE, config, eventually, output, runtime, script, servers};
use sbx::{Code, Config, Exec, ExitReason, PortKind, Sandbox, Stdio, Stream};

const IDLE: Duration = Duration::from_millis(300);

fn exec(command: &[&str]) -> Exec {
    let mut exec = Exec::new();
    exec.set_command(command).unwrap();
    exec
}

fn is_running(sandbox: &Sandbox) -> bool {
    sandbox.wait(Some(Duration::ZERO)).is_err_and(|error| error.code() == Code::TimedOut)
}

/// Everything that can be asked of a sandbox, once it has ended: all say why, with one code.
fn says_why(sandbox: &Sandbox, why: &str) {
    let options = sbx::FileOptions::default();
    let late = [
        sandbox.exec(&exec(&["true"])).map(drop),
        sandbox.exec_begin(&exec(&["true"])).map(drop),
        sandbox.connect(80).map(drop),
        sandbox.read_file("/etc/passwd", &options).map(drop),
        sandbox.set_policy(&sbx::Policy::allowlist()).map(drop),
        sandbox.policy().map(drop),
        sandbox.tunnels(PATIENCE).map(drop),
        sandbox.wait_ready(PATIENCE),
    ];
    for (index, outcome) in late.into_iter().enumerate() {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), Code::State, "{index}: {error}");
        assert_eq!(error.message(), format!("sandbox {} has ended: {why}", sandbox.id()), "{index}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_comes_after_the_end_is_told_why_it_ended() {
    let runtime = runtime();
    let ended = |change: &dyn Fn(&mut Config), command: &str, why: &str| {
        let mut config = script(command);
        config.add_port(80, PortKind::Unencrypted).unwrap();
        change(&mut config);
        let sandbox = runtime.create(&config).unwrap();
        if why == "terminated" {
            sandbox.terminate().unwrap();
        }
        sandbox.wait(PATIENCE).unwrap();
        says_why(&sandbox, why);
        sandbox
    };
    let sandbox = ended(&|_| (), "sleep 1000", "terminated");
    assert_eq!(
        sandbox.signal(15).unwrap_err().message(),
        format!("sandbox {} has ended: terminated", sandbox.id())
    );
    ended(&|_| (), "exit 3", "its program exited with code 3");
    ended(&|_| (), "kill -9 $$", "its program was ended by signal 9");
    let timeout = |config: &mut Config| {
        config.set_timeout(Duration::from_millis(500)).unwrap();
    };
    ended(&timeout, "sleep 1000", "timed out after 0.5 s");
    let idle = |config: &mut Config| {
        config.set_idle_timeout(Duration::from_millis(500)).unwrap();
    };
    ended(&idle, "sleep 1000", "idle for 0.5 s");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_is_under_way_at_the_end_is_told_why_it_ended() {
    let runtime = runtime();
    for _ in 0..5 {
        let sandbox = runtime.create(&script("sleep 1000")).unwrap();
        let asking = [0, 1, 2].map(|what| {
            let sandbox = sandbox.clone();
            std::thread::spawn(move || {
                loop {
                    let outcome = match what {
                        0 => sandbox.connect(80).map(drop),
                        1 => sandbox.exec(&exec(&["true"])).map(drop),
                        _ => sandbox.set_policy(&sbx::Policy::allowlist()).map(drop),
                    };
                    match outcome {
                        Err(error) if error.code() == Code::Refused => {}
                        Err(error) => return error,
                        Ok(()) => {}
                    }
                }
            })
        });
        std::thread::sleep(Duration::from_millis(50));
        sandbox.terminate().unwrap();
        for thread in asking {
            let error = thread.join().unwrap();
            assert_eq!(error.code(), Code::State, "{error}");
            assert!(error.message().ends_with(" has ended: terminated"), "{error}");
        }
    }
}

fn ends_idle(sandbox: &Sandbox) {
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Idle, 124));
}

/// Uses it again and again, at shorter intervals than it may be idle, for longer than that.
fn keeps_alive(sandbox: &Sandbox, mut action: impl FnMut() -> io::Result<()>) {
    let begin = Instant::now();
    let mut last = begin;
    while begin.elapsed() < IDLE * 3 {
        let done = action();
        // Where the machine stood still for that long, it may have ended.
        if last.elapsed() >= IDLE && (done.is_err() || !is_running(sandbox)) {
            return;
        }
        done.unwrap();
        assert!(is_running(sandbox) || last.elapsed() >= IDLE);
        last = Instant::now();
        std::thread::sleep(IDLE / 10);
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_that_nobody_uses_ends() {
    let runtime = runtime();
    let mut idle = Config::new();
    idle.set_idle_timeout(IDLE).unwrap();
    ends_idle(&runtime.create(&idle).unwrap());
    // What its own program does is not use of it.
    let mut busy = script("while :; do echo; done >/dev/null");
    busy.set_idle_timeout(IDLE).unwrap();
    ends_idle(&runtime.create(&busy).unwrap());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_program_that_runs_is_use() {
    let runtime = runtime();
    let mut idle = Config::new();
    idle.set_idle_timeout(Duration::from_millis(50)).unwrap();
    let sandbox = runtime.create(&idle).unwrap();
    let exit = sandbox.exec(&exec(&["sleep", "0.4"])).unwrap().wait(PATIENCE).unwrap();
    assert_eq!(exit.reason, ExitReason::Exited, "nothing ended it before its time");
    ends_idle(&sandbox);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn bytes_through_a_connection_are_use() {
    let runtime = runtime();
    let mut server = servers(&["echo 7"]);
    server.set_idle_timeout(IDLE).unwrap();
    server.add_port(7, PortKind::Unencrypted).unwrap();
    let sandbox = runtime.create(&server).unwrap();
    let tunnels = sandbox.tunnels(PATIENCE).unwrap();
    let tunnel = tunnels.iter().next().unwrap();
    let mut client = TcpStream::connect((tunnel.host(), tunnel.port())).unwrap();
    client.set_read_timeout(PATIENCE).unwrap();
    keeps_alive(&sandbox, || {
        client.write_all(b"x")?;
        client.read_exact(&mut [0])
    });
    // A connection on which nothing is sent is none.
    ends_idle(&sandbox);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn standard_input_is_use_although_the_program_reads_it_at_once() {
    let runtime = runtime();
    let mut cat = config(&["cat"]);
    cat.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap().set_idle_timeout(IDLE).unwrap();
    let sandbox = runtime.create(&cat).unwrap();
    let mut stdin = UnixStream::from(sandbox.open_stream(Stream::Stdin).unwrap());
    keeps_alive(&sandbox, || stdin.write_all(b"x"));
    ends_idle(&sandbox);
    assert!(output(&sandbox).starts_with("xxx"));
    assert!(stdin.write_all(b"late").is_err(), "nothing of the library holds the other end");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_stop_lets_the_program_end_by_itself() {
    let runtime = runtime();
    let text = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let sandbox = runtime.create(&script(text)).unwrap();
    eventually("it is ready", || !sandbox.captured(Stream::Stdout).unwrap().head.is_empty());
    sandbox.stop(15, PATIENCE.unwrap()).unwrap();
    sandbox.stop(15, PATIENCE.unwrap()).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Exited, 9));
    assert_eq!(output(&sandbox), "ready\nbye\n");
    sandbox.stop(15, Duration::ZERO).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap(), exit, "it stays as it ended");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_does_not_end_in_its_time_is_killed() {
    let runtime = runtime();
    let sandbox = runtime.create(&script("trap '' TERM; echo ready; while :; do sleep 0.01; done")).unwrap();
    eventually("it is ready", || !sandbox.captured(Stream::Stdout).unwrap().head.is_empty());
    assert_eq!(sandbox.stop(65, Duration::ZERO).unwrap_err().code(), Code::Invalid);
    sandbox.stop(15, Duration::from_secs(3600)).unwrap();
    assert!(sandbox.wait(Some(Duration::from_millis(100))).is_err());
    // No program is started any more.
    assert_eq!(sandbox.exec(&exec(&["true"])).unwrap_err().code(), Code::State);
    sandbox.stop(15, Duration::from_millis(10)).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_without_a_program_stops_with_what_was_executed_in_it() {
    let runtime = runtime();
    let sandbox = runtime.create(&Config::new()).unwrap();
    let process = sandbox.exec(&exec(&["sleep", "1000"])).unwrap();
    sandbox.stop(15, PATIENCE.unwrap()).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().signal, 15);
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
    let sandbox = runtime.create(&Config::new()).unwrap();
    sandbox.stop(15, PATIENCE.unwrap()).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::Terminated);
}

/// Answers every connection with so many bytes, slowly read by the client, and ends at SIGTERM after the last.
const SERVER: &str = r#"
import signal, socket, threading
server = socket.socket()
server.bind(("0.0.0.0", 80))
server.listen(4096)
threads = []
def serve(client):
    client.recv(1)
    client.sendall(b"y" * 200000)
    client.close()
def stop(*_):
    raise SystemExit
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
try:
    while True:
        client, _ = server.accept()
        thread = threading.Thread(target=serve, args=(client,))
        thread.start()
        threads.append(thread)
finally:
    server.close()
    print("finishing", flush=True)
"#;

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn connections_under_way_are_finished_and_no_other_is_accepted() {
    let runtime = runtime();
    let streams = if std::env::var_os("SBX_LONG").is_some() { 300 } else { 60 };
    let mut server = config(&["python3", "-c", SERVER]);
    server.add_port(80, PortKind::Unencrypted).unwrap();
    let sandbox = runtime.create(&server).unwrap();
    let tunnels = sandbox.tunnels(PATIENCE).unwrap();
    let tunnel = tunnels.iter().next().unwrap();
    sandbox.wait_ready(PATIENCE).unwrap();
    let mut clients: Vec<TcpStream> =
        (0..streams).map(|_| TcpStream::connect((tunnel.host(), tunnel.port())).unwrap()).collect();
    for client in &mut clients {
        client.set_read_timeout(PATIENCE).unwrap();
        client.write_all(b"x").unwrap();
        // It is being answered.
        client.read_exact(&mut [0]).unwrap();
    }
    sandbox.stop(15, PATIENCE.unwrap()).unwrap();
    eventually("the tunnel is closed", || TcpStream::connect((tunnel.host(), tunnel.port())).is_err());
    assert_eq!(sandbox.connect(80).unwrap_err().code(), Code::State);
    for client in &mut clients {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), 199_999);
    }
    drop(clients);
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Exited, 0));
    assert!(output(&sandbox).ends_with("finishing\n"));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn connections_that_stay_are_cut_when_the_time_is_over() {
    let runtime = runtime();
    let mut server = servers(&["echo 7"]);
    server.add_port(7, PortKind::Unencrypted).unwrap();
    let sandbox = runtime.create(&server).unwrap();
    let tunnels = sandbox.tunnels(PATIENCE).unwrap();
    let tunnel = tunnels.iter().next().unwrap();
    let mut client = TcpStream::connect((tunnel.host(), tunnel.port())).unwrap();
    client.set_read_timeout(PATIENCE).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    sandbox.stop(18, Duration::from_millis(100)).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
    assert!(!matches!(client.read(&mut [0]), Ok(1)));
}
