//! Plain connections: both directions, both ways to a server, both kinds of end.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send};

use super::super::Command;
use super::rig::{
    KEY, LONG, Rig, accept, connect, echo, echo_unix, noise, on_loopback, read_all, reset, server,
    wait_until, write_in_background,
};
use crate::error::{Code, Error};
use crate::limits::MIN_POOLED_SOCKETS;
use crate::tunnel::{Security, Settings};

const MUCH: usize = 20 * 1024 * 1024;

#[test]
fn both_directions_arrive_whole_and_end_one_by_one() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let mut client = connect(rig.plain(address));
    let mut backend = accept(&listener);
    let (up, down) = (noise(MUCH, 1), noise(MUCH, 2));
    let writers = [
        write_in_background(client.try_clone().unwrap(), up.clone()),
        write_in_background(backend.try_clone().unwrap(), down.clone()),
    ];
    let reader = std::thread::spawn(move || read_all(&mut backend));
    assert!(read_all(&mut client) == down);
    assert!(reader.join().unwrap() == up);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    wait_until("the bytes are counted", || rig.counters.bytes_in.load(Ordering::Relaxed) == MUCH as u64);
    wait_until("the bytes are counted", || rig.counters.bytes_out.load(Ordering::Relaxed) == MUCH as u64);
    rig.finish();
}

#[test]
fn one_direction_goes_on_after_the_other_has_ended() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.plain(address);
    for client_first in [true, false] {
        let client = connect(tunnel);
        let backend = accept(&listener);
        let (mut first, mut second) = if client_first { (client, backend) } else { (backend, client) };
        first.write_all(b"last words").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut second), b"last words");
        let answer = noise(MUCH, 3);
        let writer = write_in_background(second.try_clone().unwrap(), answer.clone());
        assert!(read_all(&mut first) == answer);
        writer.join().unwrap();
    }
    rig.finish();
}

#[test]
fn a_reset_is_passed_on_from_either_side() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.plain(address);
    for client_first in [true, false] {
        let client = connect(tunnel);
        let backend = accept(&listener);
        let (mut first, mut second) = if client_first { (client, backend) } else { (backend, client) };
        first.write_all(b"before").unwrap();
        let mut buffer = [0; 6];
        second.read_exact(&mut buffer).unwrap();
        reset(first);
        assert_eq!(second.read(&mut buffer).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    rig.finish();
}

#[test]
fn a_server_that_speaks_first_and_leaves_is_heard_to_its_end() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.plain(address);
    // So that the engine is busy when the server has left already.
    let (bulk, bulk_address) = server();
    let mut busy = connect(rig.plain(bulk_address));
    let mut behind = accept(&bulk);
    let done = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&done);
    let sender = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            busy.write_all(&[1; 1 << 16]).unwrap();
        }
    });
    let reader = std::thread::spawn(move || read_all(&mut behind).len());
    let server = std::thread::spawn(move || {
        for _ in 0..500 {
            accept(&listener).write_all(b"too many connections").unwrap();
        }
    });
    for _ in 0..500 {
        assert_eq!(read_all(&mut connect(tunnel)), b"too many connections");
    }
    done.store(true, Ordering::Relaxed);
    server.join().unwrap();
    sender.join().unwrap();
    assert!(reader.join().unwrap() > 0);
    rig.finish();
}

#[test]
fn urgent_data_stays_in_its_place_and_what_follows_is_not_left_lying() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let client = connect(rig.plain(address));
    let backend = accept(&listener);
    for _ in 0..50 {
        for (mut from, mut to) in [(&client, &backend), (&backend, &client)] {
            // A read stops in front of the urgent byte (tcp(7)), which is the last one.
            from.write_all(b"abc").unwrap();
            assert_eq!(send(from.as_raw_fd(), b"URG!", MsgFlags::MSG_OOB).unwrap(), 4);
            from.write_all(b"def").unwrap();
            let mut buffer = [0; 10];
            to.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"abcURG!def");
        }
    }
    drop((client, backend));
    rig.finish();
}

#[test]
fn a_reset_after_a_half_close_is_passed_on() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let client = connect(rig.plain(address));
    let mut backend = accept(&listener);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut backend), b"");
    reset(client);
    // Nothing moves any more, so only the reset itself can end it.
    rig.finish();
}

#[test]
fn a_reset_in_the_middle_of_much_data_reaches_a_writer() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.plain(address);
    for _ in 0..10 {
        let mut client = connect(tunnel);
        let mut backend = accept(&listener);
        let writer = std::thread::spawn(move || {
            let bytes = vec![1; 1 << 20];
            loop {
                if let Err(error) = client.write_all(&bytes) {
                    return error.kind();
                }
            }
        });
        backend.read_exact(&mut vec![0; 3 << 20]).unwrap();
        reset(backend);
        let kind = writer.join().unwrap();
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    }
    rig.finish();
}

#[test]
fn an_answer_given_before_the_request_was_read_arrives_before_the_reset() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.plain(address);
    for round in 1..=20 {
        let mut client = connect(tunnel);
        let mut backend = accept(&listener);
        client.write_all(&vec![0; 100_000]).unwrap();
        backend.read_exact(&mut [0; 1]).unwrap();
        let answer = noise(300_000, 5);
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 300_000];
            client.read_exact(&mut got).unwrap();
            got
        });
        backend.write_all(&answer).unwrap();
        // All of it has left the server, or its own reset would destroy the rest without any tunnel's help.
        wait_until("the answer was relayed", || {
            rig.counters.bytes_out.load(Ordering::Relaxed) == round * 300_000
        });
        drop(backend); // unread data makes it a reset
        assert!(reader.join().unwrap() == answer);
    }
    rig.finish();
}

#[test]
fn a_reset_after_the_servers_end_comes_after_the_answer() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let mut client = connect(rig.plain(address));
    let mut backend = accept(&listener);
    client.write_all(b"x").unwrap();
    backend.read_exact(&mut [0; 1]).unwrap();
    // More than the socket buffers hold, so that much of it still waits in the tunnel when the reset comes.
    let answer = noise(3 << 20, 6);
    backend.write_all(&answer).unwrap();
    drop(backend); // everything was read: an end, and only what comes after it is answered by a reset
    let mut got = vec![0; 1];
    client.read_exact(&mut got).unwrap();
    wait_until("the answer was relayed", || rig.counters.bytes_out.load(Ordering::Relaxed) == 3 << 20);
    client.write_all(b"too late").unwrap();
    let mut rest = vec![0; answer.len() - 1];
    client.read_exact(&mut rest).unwrap();
    got.extend(rest);
    assert!(got == answer);
    drop(client);
    rig.finish();
}

#[test]
fn a_reader_that_stops_holds_the_writer_back_and_loses_nothing() {
    let rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let mut client = connect(rig.plain(address));
    let mut backend = accept(&listener);
    client.set_nonblocking(true).unwrap();
    let bytes = noise(64 * 1024 * 1024, 9);
    let (mut sent, mut quiet) = (0, 0);
    while quiet < 100 && sent < bytes.len() {
        match client.write(&bytes[sent..]) {
            Ok(count) => (sent, quiet) = (sent + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                quiet += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    assert!(sent < bytes.len(), "64 MiB disappeared in a tunnel whose reader has stopped");
    client.set_nonblocking(false).unwrap();
    let writer = write_in_background(client.try_clone().unwrap(), bytes[sent..].to_vec());
    assert!(read_all(&mut backend) == bytes);
    writer.join().unwrap();
    drop((client, backend));
    rig.finish();
}

#[test]
fn a_server_on_the_sandboxes_own_loopback_is_reached_through_init() {
    let settings = Settings { destination: "127.0.0.9".parse::<IpAddr>().unwrap(), ..on_loopback() };
    let init = |_| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || echo_unix(theirs));
        Ok(ours.into())
    };
    let rig = Rig::with(settings, 100, Box::new(init));
    let (_listener, address) = server();
    let tunnel = rig.plain(address);
    for round in 0..3 {
        let mut client = connect(tunnel);
        let bytes = noise(1 << 20, round);
        let writer = write_in_background(client.try_clone().unwrap(), bytes.clone());
        assert!(read_all(&mut client) == bytes);
        writer.join().unwrap();
    }
    rig.finish();
}

#[test]
fn a_stream_of_the_hosts_is_relayed_and_told_whether_the_server_was_reached() {
    let mut settings = on_loopback();
    settings.timeouts.startup_grace = Duration::from_millis(20);
    let rig = Rig::new(settings);
    let attach = |port| {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (told, answer) = channel();
        let reply = Box::new(move |result: Result<(), Error>| told.send(result).unwrap());
        rig.handle.send(Command::Attach { key: KEY, port, stream: theirs.into(), reply }).unwrap();
        let result = answer.recv_timeout(LONG).unwrap();
        if result.is_ok() {
            ours.write_all(b"hello").unwrap();
            ours.shutdown(Shutdown::Write).unwrap();
        }
        result.map(|()| read_all(&mut ours))
    };
    assert_eq!(attach(echo().port()).unwrap(), b"hello");
    let (listener, nobody) = server();
    drop(listener);
    assert_eq!(attach(nobody.port()).unwrap_err().code(), Code::Refused);
    rig.finish();
}

#[test]
fn only_sources_of_the_allowlist_get_in() {
    let rig = Rig::new(on_loopback());
    let server = echo();
    let closed = rig.add(server.port(), Security::Plain, &["10.0.0.0/8"]);
    let open = rig.add(server.port(), Security::Plain, &["10.0.0.0/8", "127.0.0.0/8"]);
    let mut refused = connect(closed);
    assert_eq!(refused.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut allowed = connect(open);
    allowed.write_all(b"x").unwrap();
    allowed.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut allowed), b"x");
    assert_eq!(rig.counters.refused.load(Ordering::Relaxed), 1);
    drop(allowed);
    rig.finish();
}

#[test]
fn many_connections_at_once_grow_the_pool_and_all_get_through() {
    let rig = Rig::new(on_loopback());
    let tunnel = rig.plain(echo());
    let clients: Vec<_> = (0..200).map(|_| connect(tunnel)).collect();
    for (number, mut client) in clients.into_iter().enumerate() {
        let bytes = noise(1000, number as u64);
        client.write_all(&bytes).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert!(read_all(&mut client) == bytes);
    }
    let asked = rig.asked.lock().unwrap().clone();
    assert!(asked.iter().sum::<usize>() >= 200, "a socket for each");
    assert!(asked.len() < 200 / MIN_POOLED_SOCKETS, "batches grew: {asked:?}");
    rig.finish();
}

#[test]
fn removing_a_sandbox_resets_its_connections_and_frees_its_port() {
    let mut rig = Rig::new(on_loopback());
    let (listener, address) = server();
    let tunnel = rig.plain(address);
    let mut client = connect(tunnel);
    let mut backend = accept(&listener);
    client.write_all(b"x").unwrap();
    backend.read_exact(&mut [0; 1]).unwrap();
    let (told, gone) = channel();
    let reply = Box::new(move || told.send(()).unwrap());
    rig.handle.send(Command::RemoveSandbox { key: KEY, reply }).unwrap();
    gone.recv_timeout(LONG).unwrap();
    assert_eq!(rig.budget.used(), 0);
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(backend.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    crate::tunnel::listen(tunnel).expect("the port is free at once");
    drop(rig.engine.take());
    let error = rig.handle.send(Command::RemoveSandbox { key: KEY, reply: Box::new(|| {}) }).unwrap_err();
    assert_eq!(error.code(), Code::Closed);
}
