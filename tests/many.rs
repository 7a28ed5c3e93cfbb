//! Many connections (P7): more at once than a queue holds, and more in all than there are ports.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use common::client::{self, tcp};
use common::{PATIENCE, runtime, servers};
use sbx::{PortKind, Runtime, Sandbox, Tunnel};

fn echo_server() -> (Runtime, Sandbox, Tunnel) {
    let runtime = runtime();
    let mut config = servers(&["echo 7000"]);
    config.add_port(7000, PortKind::Unencrypted).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    sandbox.wait_ready(PATIENCE).unwrap();
    let tunnel = sandbox.tunnels(PATIENCE).unwrap().get(7000).unwrap().clone();
    (runtime, sandbox, tunnel)
}

/// One connection from its beginning to its end.
fn visit(tunnel: &Tunnel) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(tunnel.tcp_socket())?;
    stream.set_read_timeout(PATIENCE)?;
    stream.write_all(b"hello\n")?;
    stream.shutdown(Shutdown::Write)?;
    let mut back = String::new();
    stream.read_to_string(&mut back)?;
    assert_eq!(back, "hello\n");
    Ok(())
}

fn visits(tunnel: &Tunnel, threads: u32, each: u32) {
    let failed = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..each {
                    if visit(tunnel).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "of {}", threads * each);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_crowd_at_the_door_is_let_in() {
    let (_runtime, _sandbox, tunnel) = echo_server();
    // All of them connect before anyone says a word, and stay.
    let mut crowd: Vec<TcpStream> = (0..300).map(|_| tcp(&tunnel)).collect();
    for stream in &mut crowd {
        assert_eq!(client::echo(stream).unwrap(), "hello\n");
    }
    drop(crowd);
    visits(&tunnel, 16, 25);
}

/// Each leaves a port of the gateway in TIME_WAIT for a minute; there are 64,512 of them an address.
#[test]
#[ignore = "takes minutes"]
fn ports_of_the_gateway_do_not_run_out() {
    let (_runtime, _sandbox, tunnel) = echo_server();
    visits(&tunnel, 8, 10_000);
}
