//! Init at work inside real gVisor, without a network: gVisor has a loopback of its own then.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::{PATIENCE, Sandbox};
use crate::keeper::wire::init::{Reply, Request, Source, Start};

const MEGABYTES: usize = 50;

/// Serves one connection on 127.0.0.1. `first` names the side that sends first. The other side sends after it has read to
/// the end.
const SERVER: &str = r#"
import socket, sys
first, length = sys.argv[1], int(sys.argv[2])
pattern = (bytes(range(251)) * (length // 251 + 1))[:length]
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
print(server.getsockname()[1], flush=True)
client, _ = server.accept()
def take():
    got = bytearray()
    while more := client.recv(1 << 20):
        got += more
    print("same" if got == pattern else "different: %d" % len(got), flush=True)
def give():
    client.sendall(pattern)
    client.shutdown(socket.SHUT_WR)
if first == "client":
    take(); give()
else:
    give(); take()
"#;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

impl Sandbox {
    /// Starts a program and returns its output.
    fn launch(&mut self, id: u32, arguments: &[&str]) -> BufReader<File> {
        let (read, write) = std::io::pipe().unwrap();
        let start = Start {
            id,
            arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            directory: b"/".to_vec(),
            streams: [Source::Null, Source::Given, Source::Stdout],
            ..Start::default()
        };
        self.init.send(&Request::Start(Box::new(start)).encode(), vec![write.into()]).unwrap();
        assert_eq!(self.reply(), Reply::Started { id });
        BufReader::new(File::from(OwnedFd::from(read)))
    }

    pub(super) fn ask(&mut self, request: &Request, fds: Vec<OwnedFd>) -> Reply {
        self.init.send(&request.encode(), fds).unwrap();
        self.reply()
    }

    fn connect(&mut self, ticket: u32, port: u16) -> (Reply, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours.set_write_timeout(Some(PATIENCE)).unwrap();
        (self.ask(&Request::Connect { ticket, port }, vec![theirs.into()]), ours)
    }

    fn serve(&mut self, id: u32, first: &str, length: usize) -> (u16, BufReader<File>) {
        let mut output = self.launch(id, &["/usr/bin/python3", "-c", SERVER, first, &length.to_string()]);
        let port = line(&mut output).parse().unwrap();
        (port, output)
    }
}

fn line(output: &mut BufReader<File>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_relay_carries_both_directions_and_their_ends() {
    let mut sandbox = Sandbox::start(false);
    let data = pattern(MEGABYTES << 20);
    for (id, first) in [(1, "client"), (2, "server")] {
        let (port, mut output) = sandbox.serve(id, first, data.len());
        let (reply, mut stream) = sandbox.connect(10 + id, port);
        assert_eq!(reply, Reply::Connected { ticket: 10 + id, errno: 0 });
        let mut got = Vec::new();
        if first == "server" {
            stream.read_to_end(&mut got).unwrap();
        }
        stream.write_all(&data).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        if first == "client" {
            stream.read_to_end(&mut got).unwrap();
        }
        assert!(got == data, "{} bytes came of {}, {first} first", got.len(), data.len());
        assert_eq!(line(&mut output), "same", "{first} first");
        assert_eq!(sandbox.reply(), Reply::Exited { id, status: 0 });
    }
    sandbox.end();
}

/// The clock ticks that init has run for (proc_pid_stat(5): utime and stime).
fn ticks(sandbox: &mut Sandbox, id: u32) -> u64 {
    let (_, stat) = sandbox.run(id, &["cat", "/proc/1/stat"], |_| ());
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// One side of the relay has ended both ways while the other is slow. epoll reports that end whatever it is asked to
/// watch, and init must not spin until the slow side moves.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_relay_that_waits_for_its_slower_side_rests() {
    let mut sandbox = Sandbox::start(false);
    // More than the library's side holds, and less than the server's.
    let length = 1 << 19;
    let (port, mut output) = sandbox.serve(1, "client", length);
    let (_, mut stream) = sandbox.connect(2, port);
    stream.write_all(&pattern(length)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // The server has sent its answer and is gone. Nothing reads it yet.
    assert_eq!(line(&mut output), "same");
    assert_eq!(sandbox.reply(), Reply::Exited { id: 1, status: 0 });
    let before = ticks(&mut sandbox, 3);
    let (reply, _) = sandbox.run(4, &["sleep", "1"], |_| ());
    assert_eq!(reply, Reply::Exited { id: 4, status: 0 });
    let after = ticks(&mut sandbox, 5);
    // It would be a hundred if init spun. On an idle machine it is 0 or 1.
    assert!(after - before < 30, "{} ticks", after - before);
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), length);
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_relay_whose_library_side_is_gone_rests_and_cuts_nothing_short_unseen() {
    let mut sandbox = Sandbox::start(false);
    let script = r#"
import socket, sys
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
server.bind(("127.0.0.1", 0)); server.listen()
print(server.getsockname()[1], flush=True)
client, _ = server.accept()
sys.stdin.readline()
length = 0
try:
    while more := client.recv(1 << 20): length += len(more)
    print(length, flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"#;
    let (stdin, go) = std::io::pipe().unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let start = Start {
        id: 1,
        arguments: ["/usr/bin/python3", "-c", script].map(|word| word.as_bytes().to_vec()).into(),
        directory: b"/".to_vec(),
        streams: [Source::Given, Source::Given, Source::Stdout],
        ..Start::default()
    };
    let start = Request::Start(Box::new(start));
    assert_eq!(sandbox.ask(&start, vec![stdin.into(), write.into()]), Reply::Started { id: 1 });
    let mut output = BufReader::new(File::from(OwnedFd::from(read)));
    let port = line(&mut output).parse().unwrap();
    let (_, mut stream) = sandbox.connect(2, port);
    stream.set_nonblocking(true).unwrap();
    let data = vec![7; 1 << 20];
    let mut sent = 0;
    // Fill all buffers on the way, then close the stream.
    let mut full = 0;
    while full < 20 {
        match stream.write(&data) {
            Ok(more) => (sent, full) = (sent + more, 0),
            Err(_) => {
                full += 1;
                let (reply, _) = sandbox.run(3, &["true"], |_| ());
                assert_eq!(reply, Reply::Exited { id: 3, status: 0 });
            }
        }
    }
    drop(stream);
    let before = ticks(&mut sandbox, 4);
    sandbox.run(5, &["sleep", "1"], |_| ());
    let after = ticks(&mut sandbox, 6);
    assert!(after - before < 30, "{} ticks", after - before);
    drop(go);
    // The server gets everything or a reset: an incomplete stream never looks complete.
    let got = line(&mut output);
    assert!(got == sent.to_string() || got == "reset", "{got} of {sent}");
    sandbox.end();
}

/// The writer of an input is gone while the program doesn't read. epoll reports that end all the time.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_input_that_is_not_read_costs_no_time_and_arrives_complete() {
    let mut sandbox = Sandbox::start(false);
    let (stdin, mut stream) = UnixStream::pair().unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let (go, hold) = UnixStream::pair().unwrap();
    let start = |id, script: &str, streams| {
        let start = Start {
            id,
            arguments: ["sh", "-c", script].map(|word| word.as_bytes().to_vec()).into(),
            directory: b"/".to_vec(),
            streams,
            ..Start::default()
        };
        Request::Start(Box::new(start))
    };
    let given = [Source::Given, Source::Given, Source::Stdout];
    let reader = start(1, "until [ -e /tmp/go ]; do sleep 0.1; done; wc -c", given);
    assert_eq!(sandbox.ask(&reader, vec![stdin.into(), write.into()]), Reply::Started { id: 1 });
    stream.set_nonblocking(true).unwrap();
    let (mut sent, mut full) = (0, 0);
    while full < 10 {
        match stream.write(&[7; 10_000]) {
            Ok(more) => (sent, full) = (sent + more, 0),
            Err(_) => {
                full += 1;
                sandbox.run(2, &["true"], |_| ());
            }
        }
    }
    drop(stream);
    let before = ticks(&mut sandbox, 3);
    sandbox.run(4, &["sleep", "1"], |_| ());
    let after = ticks(&mut sandbox, 5);
    assert!(after - before < 30, "{} ticks", after - before);
    // A process that init has started holds no copy of it.
    let waiting = start(6, "read -r line", [Source::Given, Source::Null, Source::Null]);
    assert_eq!(sandbox.ask(&waiting, vec![go.into()]), Reply::Started { id: 6 });
    sandbox.run(7, &["touch", "/tmp/go"], |_| ());
    assert_eq!(sandbox.reply(), Reply::Exited { id: 1, status: 0 });
    let mut text = String::new();
    File::from(OwnedFd::from(read)).read_to_string(&mut text).unwrap();
    assert_eq!(text.trim(), sent.to_string());
    drop(hold);
    assert_eq!(sandbox.reply(), Reply::Exited { id: 6, status: 256 });
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn probes_and_connections_tell_whether_a_server_is_there() {
    let mut sandbox = Sandbox::start(false);
    let (port, _output) = sandbox.serve(1, "client", 1);
    let probe = |ticket, port| Request::Probe { ticket, port };
    // The reason is that of the last place tried: here there is no eth0.
    let closed = sandbox.ask(&probe(5, 1), vec![]);
    assert!(matches!(closed, Reply::Probed { ticket: 5, errno } if errno != 0), "{closed:?}");
    let closed = sandbox.connect(6, 1).0;
    assert!(matches!(closed, Reply::Connected { ticket: 6, errno } if errno != 0), "{closed:?}");
    let nothing = sandbox.ask(&Request::Connect { ticket: 7, port }, vec![]);
    assert_eq!(nothing, Reply::Connected { ticket: 7, errno: libc::EINVAL });
    assert_eq!(sandbox.ask(&probe(8, port), vec![]), Reply::Probed { ticket: 8, errno: 0 });
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn two_hundred_programs_run_at_once() {
    const COUNT: u32 = 200;
    let mut sandbox = Sandbox::start(false);
    let mut held = Vec::new();
    for id in 0..COUNT {
        // Each has a pipe of its own: gVisor makes what it is given non-blocking, and a second program with
        // the same pipe finds it so.
        let (read, write) = std::io::pipe().unwrap();
        held.push(write);
        let script = format!("read -r line; exit {}", id % 256);
        let start = Start {
            id,
            arguments: ["sh", "-c", &script].map(|word| word.as_bytes().to_vec()).into(),
            directory: b"/".to_vec(),
            streams: [Source::Given, Source::Null, Source::Null],
            ..Start::default()
        };
        assert_eq!(sandbox.ask(&Request::Start(Box::new(start)), vec![read.into()]), Reply::Started { id });
    }
    // None has ended: each waits for the end of its input.
    drop(held);
    let mut ended = BTreeMap::new();
    for _ in 0..COUNT {
        let Reply::Exited { id, status } = sandbox.reply() else { panic!("not an end") };
        assert_eq!(ended.insert(id, status), None, "{id} ended twice");
    }
    assert!(ended.iter().all(|(id, status)| i32::try_from(id % 256 * 256) == Ok(*status)), "{ended:?}");
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn orphans_are_reaped_and_not_reported() {
    let mut sandbox = Sandbox::start(false);
    let orphan = "(sleep 0.1 >/dev/null 2>&1 & echo $!)";
    let (reply, pid) = sandbox.run(1, &["sh", "-c", orphan], |_| ());
    assert_eq!(reply, Reply::Exited { id: 1, status: 0 });
    // A zombie can be signalled as well; only what has been reaped is gone.
    let gone = format!("while kill -0 {} 2>/dev/null; do sleep 0.01; done; echo gone", pid.trim());
    let (reply, text) = sandbox.run(2, &["sh", "-c", &gone], |_| ());
    assert_eq!((reply, text.as_str()), (Reply::Exited { id: 2, status: 0 }, "gone\n"));
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn signals_reach_a_program_or_its_group_and_no_others() {
    let mut sandbox = Sandbox::start(false);
    let send = |sandbox: &mut Sandbox, id, signal, group| {
        sandbox.init.send(&Request::Signal { id, signal, group }.encode(), vec![]).unwrap();
    };
    let trap = "trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.01; done";
    let mut output = sandbox.launch(1, &["sh", "-c", trap]);
    assert_eq!(line(&mut output), "ready");
    // No program has these numbers, and no such signals exist.
    for (id, signal) in
        [(99, libc::SIGKILL), (0, libc::SIGKILL), (u32::MAX, libc::SIGTERM), (1, 0), (1, 4000), (1, -9)]
    {
        send(&mut sandbox, id, signal, false);
        send(&mut sandbox, id, signal, id == 99);
    }
    send(&mut sandbox, 1, libc::SIGUSR1, false);
    assert_eq!(line(&mut output), "caught");
    assert_eq!(sandbox.reply(), Reply::Exited { id: 1, status: 3 << 8 });

    let mut output = sandbox.launch(2, &["sh", "-c", "sleep 1000 & echo ready; wait"]);
    assert_eq!(line(&mut output), "ready");
    send(&mut sandbox, 2, libc::SIGKILL, true);
    assert_eq!(sandbox.reply(), Reply::Exited { id: 2, status: libc::SIGKILL });
    // The sleeper held the pipe too.
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    // Signals to a program that has ended are ignored.
    send(&mut sandbox, 2, libc::SIGKILL, true);
    let (reply, text) = sandbox.run(3, &["echo", "still here"], |_| ());
    assert_eq!((reply, text.as_str()), (Reply::Exited { id: 3, status: 0 }, "still here\n"));
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_program_is_killed_with_its_session_and_all_below_it() {
    let mut sandbox = Sandbox::start(false);
    let mut bystander = sandbox.launch(1, &["sh", "-c", "echo ready; read -r never; sleep 1000; echo on"]);
    assert_eq!(line(&mut bystander), "ready");
    // Each holds the output: a group of its own, an orphan, a session of its own, and an orphan of that session, whose
    // leader lives.
    let program = "set -m; sleep 1000 & (sleep 1000 &); setsid -w sh -c '(sleep 1000 &); sleep 1000; :' & \
                   echo ready; wait";
    let mut output = sandbox.launch(2, &["bash", "-c", program]);
    assert_eq!(line(&mut output), "ready");
    let sleepers = |sandbox: &mut Sandbox, wanted: &str| {
        let begin = Instant::now();
        loop {
            let count = "grep -l sleep /proc/[0-9]*/comm 2>/dev/null | wc -l";
            let (_, found) = sandbox.run(3, &["sh", "-c", count], |_| ());
            if found.trim() == wanted {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{found} instead of {wanted}");
        }
    };
    // The bystander's too.
    sleepers(&mut sandbox, "5");
    sandbox.init.send(&Request::KillSession { id: 2 }.encode(), vec![]).unwrap();
    assert_eq!(sandbox.reply(), Reply::Exited { id: 2, status: libc::SIGKILL });
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    // The other program's processes live, and unknown numbers are ignored.
    sandbox.init.send(&Request::KillSession { id: 99 }.encode(), vec![]).unwrap();
    sleepers(&mut sandbox, "1");
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn init_answers_while_it_kills_and_kills_many_at_once() {
    const CHAIN: u32 = 300;
    const COUNT: u32 = 10;
    let mut sandbox = Sandbox::start(false);
    // Each is the child of the one before it; the last one says so.
    let chain = format!(
        "import os, signal\nfor _ in range({CHAIN}):\n    if os.fork():\n        signal.pause()\nprint('ready', flush=True)\nsignal.pause()"
    );
    let mut outputs = vec![sandbox.launch(1, &["/usr/bin/python3", "-c", &chain])];
    assert_eq!(line(&mut outputs[0]), "ready");
    let many = "for i in $(seq 10); do sleep 1000 & done; (setsid sleep 1000 &); echo ready; wait";
    for id in 2..COUNT + 2 {
        let mut output = sandbox.launch(id, &["sh", "-c", many]);
        assert_eq!(line(&mut output), "ready");
        outputs.push(output);
    }
    // All at once, and each twice.
    for id in (1..COUNT + 2).chain(1..COUNT + 2) {
        sandbox.init.send(&Request::KillSession { id }.encode(), vec![]).unwrap();
    }
    assert_eq!(sandbox.ask(&Request::Ping { ticket: 7 }, vec![]), Reply::Pong { ticket: 7 });
    let mut ended = BTreeMap::new();
    for _ in 1..COUNT + 2 {
        let Reply::Exited { id, status } = sandbox.reply() else { panic!("not an end") };
        assert_eq!(ended.insert(id, status), None, "{id} ended twice");
    }
    assert!(ended.values().all(|status| *status == libc::SIGKILL), "{ended:?}");
    // Everything of the chain held its output. The others' orphans in sessions of their own may live on.
    let mut rest = String::new();
    outputs[0].read_to_string(&mut rest).unwrap();
    // No kill is left over that could hit a new program.
    let (reply, text) = sandbox.run(99, &["sh", "-c", "sleep 1 & wait; echo on"], |_| ());
    assert_eq!((reply, text.as_str()), (Reply::Exited { id: 99, status: 0 }, "on\n"));
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn users_and_groups_are_those_of_the_sandbox() {
    let mut sandbox = Sandbox::start(false);
    for (user, group, wanted) in [
        ("", "", "0 0 0"),
        ("root", "", "0 0 0"),
        ("user", "", "1000 1000 1000 29 44"),
        ("1000", "", "1000 1000 1000 29 44"),
        ("user", "staff", "1000 50 50 29 44"),
        ("user", "audio", "1000 29 29 44"),
        ("1000", "7", "1000 7 7 29 44"),
        ("4242", "", "4242 4242 4242"),
        ("4242", "staff", "4242 50 50"),
    ] {
        let script = "echo $(id -u) $(id -g) $(id -G)";
        let (_, text) = sandbox.run(1, &["sh", "-c", script], |start| {
            start.user.user = user.into();
            start.user.group = group.into();
        });
        assert_eq!(text.trim(), wanted, "{user}:{group}");
    }
    for (user, group) in [("mallory", ""), ("user", "mallory"), ("-1", ""), ("4294967296", ""), ("user", " ")]
    {
        let (reply, _) = sandbox.run(1, &["true"], |start| {
            start.user.user = user.into();
            start.user.group = group.into();
        });
        assert!(matches!(reply, Reply::NotStarted { id: 1, errno: libc::ENOENT, .. }), "{user}:{group}");
    }
    sandbox.end();
}
