//! What one sandbox does, and its neighbours, who are not to notice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::client::tcp;
use common::{PATIENCE, config, eventually, runtime, servers};
use sbx::{Policy, PortKind, Runtime, Stream};

/// Nothing of a neighbour's takes that long on the busiest machine; the engine used to stand for minutes.
const NOT_STUCK: Duration = Duration::from_secs(10);
/// How long the neighbour is looked at.
const WHILE: Duration = Duration::from_secs(3);

/// Floods the resolver over TCP with messages that are answered at once, and reads the answers.
const FLOOD: &str = r#"
import socket, sys, threading
taken, lock = 0, threading.Lock()
def read(s):
    global taken
    while True:
        got = len(s.recv(1 << 20))
        if not got: return
        with lock:
            before, taken = taken, taken + got
        if before < 7000 <= taken: print("flooding", flush=True)
def write(s):
    flood = (b"\0\x0c" + bytes(12)) * 2000
    while True: s.sendall(flood)
threads = []
for _ in range(int(sys.argv[1])):
    s = socket.create_connection(("192.0.0.1", 53))
    for what in (read, write):
        threads.append(threading.Thread(target=what, args=(s,)))
        threads[-1].start()
for thread in threads: thread.join()
"#;

fn neighbour_of_a_flood(runtime: &Runtime, connections: &str) {
    let mut calm = servers(&["echo 7000"]);
    calm.add_port(7000, PortKind::Unencrypted).unwrap();
    let calm = runtime.create(&calm).unwrap();
    calm.wait_ready(PATIENCE).unwrap();
    let mut tunnel = tcp(calm.tunnels(PATIENCE).unwrap().get(7000).unwrap());
    tunnel.set_read_timeout(Some(NOT_STUCK)).unwrap();
    tunnel.set_nodelay(true).unwrap();

    let mut flood = config(&["python3", "-c", FLOOD, connections]);
    // Not even a name may be asked for.
    flood.set_policy(&Policy::allowlist()).unwrap();
    let flood = runtime.create(&flood).unwrap();
    let says = |stream| String::from_utf8_lossy(&flood.captured(stream).unwrap().head).into_owned();
    eventually("it floods", || {
        assert!(flood.exit().is_none(), "{}", says(Stream::Stderr));
        says(Stream::Stdout).contains("flooding")
    });

    let (begin, mut trips, mut changes) = (Instant::now(), 0_u32, 0_u32);
    while begin.elapsed() < WHILE || trips < 100 || changes < 3 {
        assert!(begin.elapsed() < 3 * NOT_STUCK, "{trips} round trips, {changes} changes of policy");
        for _ in 0..50 {
            tunnel.write_all(b"ping").unwrap();
            tunnel.read_exact(&mut [0; 4]).unwrap();
            trips += 1;
        }
        let changing = Instant::now();
        let mut policy = Policy::allowlist();
        policy.allow_cidr(&format!("203.0.113.{}/32", changes % 250)).unwrap();
        calm.set_policy(&policy).unwrap();
        assert!(changing.elapsed() < NOT_STUCK, "a change of policy took {:?}", changing.elapsed());
        changes += 1;
    }
    assert!(flood.exit().is_none(), "it has stopped: {}", says(Stream::Stderr));

    let ending = Instant::now();
    flood.terminate().unwrap();
    flood.wait(Some(NOT_STUCK)).unwrap();
    calm.terminate().unwrap();
    calm.wait(Some(NOT_STUCK)).unwrap();
    assert!(ending.elapsed() < NOT_STUCK, "ending both took {:?}", ending.elapsed());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_flood_of_questions_over_tcp_stands_nobody_still() {
    let runtime = runtime();
    for connections in ["1", "16"] {
        neighbour_of_a_flood(&runtime, connections);
    }
}
