//! Servers that refuse, are late or silent; peers that are slow; descriptors that run out.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, listen, socket};

use super::rig::{LONG, Rig, accept, connect, echo, on_loopback, read_all, server, wait_until};
use crate::tunnel::Settings;

#[test]
fn a_refusal_becomes_a_reset() {
    let mut settings = on_loopback();
    settings.timeouts.startup_grace = Duration::from_millis(20);
    let rig = Rig::new(settings);
    let (listener, address) = server();
    drop(listener);
    let mut client = connect(rig.plain(address));
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(rig.counters.refused.load(Ordering::Relaxed), 1);
    rig.finish();
}

#[test]
fn a_server_that_starts_late_gets_the_connection_that_was_there_before_it() {
    let mut settings = on_loopback();
    settings.timeouts.startup_grace = LONG;
    settings.timeouts.connect = LONG;
    let rig = Rig::new(settings);
    let (listener, address) = server();
    drop(listener);
    let mut client = connect(rig.plain(address));
    client.write_all(b"early").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // A second request for sockets: connects were refused.
    wait_until("it was tried", || rig.asked.lock().unwrap().len() > 1);
    let listener = TcpListener::bind(address).unwrap();
    let mut backend = accept(&listener);
    assert_eq!(read_all(&mut backend), b"early");
    drop(backend);
    assert_eq!(read_all(&mut client), b"");
    rig.finish();
}

#[test]
fn a_server_that_never_answers_runs_into_the_time_out() {
    let mut settings = on_loopback();
    settings.timeouts.connect = Duration::from_millis(100);
    let rig = Rig::new(settings);
    // A queue of one that is full: the kernel drops further SYNs.
    let (listener, address) = server();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let _first = TcpStream::connect(address).unwrap();
    let mut client = connect(rig.plain(address));
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    rig.finish();
}

#[test]
fn slow_handshakes_idle_and_half_closed_connections_end() {
    let mut settings = on_loopback();
    settings.timeouts.handshake = Duration::from_millis(50);
    settings.timeouts.idle = Duration::from_millis(200);
    settings.timeouts.half_closed = Duration::from_millis(50);
    let rig = Rig::new(settings);
    let (listener, address) = server();
    let mut slow = connect(rig.tls(address));
    slow.write_all(&[22, 3, 1]).unwrap();
    assert_eq!(slow.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let tunnel = rig.plain(address);
    let mut idle = connect(tunnel);
    let mut backend = accept(&listener);
    assert_eq!(idle.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(backend.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut half = connect(tunnel);
    let mut backend = accept(&listener);
    half.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut backend), b"");
    assert_eq!(half.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    rig.finish();
}

#[test]
fn connections_over_the_limit_wait_and_get_in_when_others_end() {
    for (budget, max_connections) in [(1000, 2), (24, 100)] {
        let settings = Settings { max_connections, ..on_loopback() };
        let rig = Rig::with(settings, budget, Box::new(|_| Err(crate::error::Error::invalid("none"))));
        let tunnel = rig.plain(echo());
        // Pooled sockets are no reason to keep a connection out.
        wait_until("the pool is filled", || rig.budget.used() == 4);
        let mut clients: Vec<TcpStream> = (0..12).map(|_| connect(tunnel)).collect();
        clients.iter_mut().for_each(|client| client.write_all(b"x").unwrap());
        for mut client in clients {
            client.read_exact(&mut [0; 1]).unwrap();
        }
        assert!(rig.asked.lock().unwrap().len() < 50, "asking has an end");
        assert!(!rig.limits.lock().unwrap().is_empty(), "the host was told");
        rig.finish();
    }
}

/// At the limit every connection that comes when another has gone meets the limit again.
#[test]
fn a_churn_of_connections_at_the_limit_is_told_once_in_a_while() {
    let rig = Rig::new(Settings { max_connections: 1, ..on_loopback() });
    let tunnel = rig.plain(echo());
    let start = std::time::Instant::now();
    let mut before: Option<TcpStream> = None;
    for _ in 0..60 {
        let mut client = connect(tunnel);
        client.write_all(b"x").unwrap();
        if let Some(mut before) = before.replace(client) {
            before.read_exact(&mut [0; 1]).unwrap();
        }
    }
    before.unwrap().read_exact(&mut [0; 1]).unwrap();
    let told = rig.limits.lock().unwrap().len();
    let most = 1 + start.elapsed().as_secs() / 10;
    assert!(told >= 1 && told as u64 <= most, "{told} times");
    rig.finish();
}

/// The body runs in a process of its own with few descriptors; without the variable the test starts that.
#[test]
fn without_descriptors_connections_wait_and_get_in_when_the_host_frees_some() {
    const CHILD: &str = "SBX_TEST_OUT_OF_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "engine::tests::faults::\
                    without_descriptors_connections_wait_and_get_in_when_the_host_frees_some";
        let status = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 128 && exec \"$0\" --exact \"$1\" --nocapture"])
            .args([std::env::current_exe().unwrap().as_os_str(), name.as_ref()])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.plain(address);
    drop((connect(tunnel), accept(&listener)));
    wait_until("the first connection has ended", || rig.open() == 0);
    let mut client = unconnected();
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    connect_now(&client, tunnel);
    client.write_all(b"waits").unwrap();
    wait_until("the host was told", || {
        rig.limits.lock().unwrap().iter().any(|what| what.contains("accepted"))
    });
    hoard.pop();
    let stat = |hoard: &mut Vec<std::fs::File>| {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        hoard.extend(std::fs::File::open("/dev/null"));
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = stat(&mut hoard);
    std::thread::sleep(Duration::from_millis(500));
    hoard.pop();
    let spent = stat(&mut hoard) - before;
    assert!(spent < 25, "it spins: {spent} ticks of 50 in half a second");
    // No new connection arrives; the one that waits must be found.
    drop(hoard);
    let mut backend = accept(&listener);
    let mut buffer = [0; 5];
    backend.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"waits");
}

fn unconnected() -> TcpStream {
    TcpStream::from(socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap())
}

fn connect_now(socket: &TcpStream, to: SocketAddr) {
    assert!(crate::sys::socket::connect(socket.as_fd(), to).unwrap());
}
