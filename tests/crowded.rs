//! Few descriptors, and sandboxes whose connections take all that they get: a sandbox that was created can be used, and
//! what fails in the end is creating another.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio as Std};

use common::{PATIENCE, client, eventually, runtime, servers};
use sbx::{Code, Config, Exec, FileOptions, PortKind, Process, Runtime, Sandbox, Stdio, Stream};

/// Holds 400 connections to each of the ports on its command line until its standard input ends.
const HOG: &str = "
import resource, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = [socket.create_connection(('127.0.0.1', int(port))) for _ in range(400) for port in sys.argv[1:]]
print('held', flush=True)
sys.stdin.read()
";

struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_port() -> Config {
    let mut config = servers(&["echo 7000"]);
    config.add_port(7000, PortKind::Unencrypted).unwrap();
    config
}

/// A program with three streams, held open, and an operation on files beside it.
fn used(sandbox: &Sandbox, number: usize) -> Process {
    let mut exec = Exec::new();
    exec.set_command(["cat"]).unwrap();
    for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr] {
        exec.set_stdio(stream, Stdio::Descriptor).unwrap();
    }
    let process = sandbox.exec(&exec).unwrap_or_else(|error| panic!("exec in number {number}: {error}"));
    let written = sandbox.write_file("/tmp/a", b"a", &FileOptions::default());
    written.unwrap_or_else(|error| panic!("a file of number {number}: {error}"));
    process
}

fn body(runtime: &Runtime) {
    let mut sandboxes: Vec<Sandbox> = (0..6).map(|_| runtime.create(&with_port()).unwrap()).collect();
    let mut ports = Vec::new();
    for sandbox in &sandboxes {
        sandbox.wait_ready(PATIENCE).unwrap();
        let map = sandbox.tunnels(PATIENCE).unwrap();
        ports.push(map.get(7000).unwrap().tcp_socket().1.to_string());
    }
    let mut hog = Hog(Command::new("python3")
        .args(["-c", HOG])
        .args(ports)
        .stdin(Std::piped())
        .stdout(Std::piped())
        .spawn()
        .unwrap());
    let mut line = String::new();
    BufReader::new(hog.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let open = |sandbox: &Sandbox| sandbox.stats().unwrap().tunnel_connections;
    // 768 descriptors: three quarters less what six have, by seven, two a connection; and the three that are kept.
    eventually("each has its share", || sandboxes.iter().all(|sandbox| open(sandbox) >= 20));
    let total: u32 = sandboxes.iter().map(open).sum();
    assert!(total < 200, "{total}");

    let another = runtime.create(&with_port()).unwrap();
    another.wait_ready(PATIENCE).unwrap();
    let mut stream = client::tcp(another.tunnels(PATIENCE).unwrap().get(7000).unwrap());
    assert_eq!(client::echo(&mut stream).unwrap(), "hello\n");
    sandboxes.push(another);
    // Until the process has its number of sandboxes.
    let error = loop {
        match runtime.create(&Config::new()) {
            Ok(sandbox) => sandboxes.push(sandbox),
            Err(error) => break error,
        }
        assert!(sandboxes.len() < 100, "there is no end");
    };
    assert_eq!(error.code(), Code::Limit);
    assert!(error.message().contains("ulimit -n"), "{error}");
    assert!(sandboxes.len() >= 10, "{error} after {}", sandboxes.len());
    let processes: Vec<Process> =
        sandboxes.iter().enumerate().map(|(number, sandbox)| used(sandbox, number)).collect();
    for process in processes {
        drop(process.open_stream(Stream::Stdin).unwrap());
        assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
    }
    // One that ends makes room.
    let last = sandboxes.pop().unwrap();
    last.terminate().unwrap();
    last.wait(PATIENCE).unwrap();
    runtime.create(&Config::new()).unwrap();
}

/// The body runs in a process of its own with few descriptors.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_was_created_can_be_used_and_creating_fails_in_the_end() {
    const CHILD: &str = "SBX_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_some() {
        return body(&runtime());
    }
    let name = "what_was_created_can_be_used_and_creating_fails_in_the_end";
    let status = Command::new("sh")
        .args(["-c", "ulimit -Sn 1024 && exec \"$0\" --exact \"$1\" --nocapture"])
        .args([std::env::current_exe().unwrap().as_os_str(), name.as_ref()])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}
