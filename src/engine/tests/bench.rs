//! A first look at speed, by hand: `SBX_HAPROXY=port,tlsport cargo test --lib bench -- --ignored --nocapture`
//! prints what goes through the engine and, with the variable, through a HAProxy in front of 127.0.0.1:7777.
//! The project's real benchmark stands in tests/bench.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::rig::{Rig, client_config, connect, on_loopback};
use crate::tunnel::Security;

const SPAN: Duration = Duration::from_secs(2);

/// One byte of the client says what the server does: take, give or send back.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:7777").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let mut buffer = vec![0; 256 * 1024];
                if stream.read_exact(&mut buffer[..1]).is_err() {
                    return;
                }
                let give = buffer[0] == b'g';
                let echo = buffer[0] == b'e';
                loop {
                    if give {
                        if stream.write_all(&buffer).is_err() {
                            return;
                        }
                        continue;
                    }
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => return,
                        Ok(count) if echo => stream.write_all(&buffer[..count]).unwrap(),
                        Ok(_) => {}
                    }
                }
            });
        }
    });
    address
}

fn gigabits(mut stream: impl Read + Write, give: bool) -> f64 {
    let mut buffer = vec![0; 256 * 1024];
    stream.write_all(if give { b"g" } else { b"t" }).unwrap();
    let (mut bytes, start) = (0, Instant::now());
    while start.elapsed() < SPAN {
        bytes += if give { stream.read(&mut buffer).unwrap() } else { stream.write(&buffer).unwrap() };
    }
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let bits = bytes as f64 * 8.0;
    bits / start.elapsed().as_secs_f64() / 1e9
}

fn round_trip(mut stream: TcpStream) -> Duration {
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"e").unwrap();
    let (mut count, start) = (0, Instant::now());
    while start.elapsed() < SPAN {
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).unwrap();
        count += 1;
    }
    let _ = stream.shutdown(Shutdown::Both);
    start.elapsed() / count
}

fn connects(address: SocketAddr) -> u32 {
    let (mut count, start) = (0, Instant::now());
    while start.elapsed() < SPAN {
        let mut stream = connect(address);
        stream.write_all(b"ex").unwrap();
        stream.read_exact(&mut [0; 1]).unwrap();
        count += 1;
    }
    count / 2
}

fn measure(what: &str, plain: SocketAddr) {
    println!(
        "{what:10} up {:5.1} down {:5.1} Gbit/s, round trip {:?}, {} connects/s",
        gigabits(connect(plain), false),
        gigabits(connect(plain), true),
        round_trip(connect(plain)),
        connects(plain)
    );
}

fn measure_tls(what: &str, address: SocketAddr, ca: &str) {
    let client = || {
        let connection =
            ClientConnection::new(client_config(ca, &[]), ServerName::from(address.ip())).unwrap();
        let mut stream = StreamOwned::new(connection, connect(address));
        stream.conn.set_buffer_limit(Some(512 * 1024));
        stream
    };
    println!("{what:10} up {:5.1} down {:5.1} Gbit/s", gigabits(client(), false), gigabits(client(), true));
}

#[test]
#[ignore = "a measurement"]
fn bench() {
    let rig = Rig::new(on_loopback());
    let server = serve();
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let mut config = crate::Config::new();
    config.set_tls_certificate(&own.cert.pem(), &own.signing_key.serialize_pem()).unwrap();
    let certificate = config.certificate().unwrap();
    let identity = crate::tunnel::Identity::of_host(certificate.key(), certificate.chain_pem()).unwrap();
    let plain = rig.plain(server);
    let tls = rig.add(server.port(), Security::Tls(identity.server_config(false).unwrap()), &[]);
    let ports: Vec<SocketAddr> = std::env::var("SBX_HAPROXY")
        .map(|text| text.split(',').map(|port| format!("127.0.0.1:{port}").parse().unwrap()).collect())
        .unwrap_or_default();
    if let Some(path) = std::env::var_os("SBX_HAPROXY_PEM") {
        std::fs::write(path, own.cert.pem() + &own.signing_key.serialize_pem()).unwrap();
        std::thread::sleep(Duration::from_secs(4));
    }
    for _ in 0..3 {
        measure("straight", server);
        measure("engine", plain);
        if let Some(haproxy) = ports.first() {
            measure("haproxy", *haproxy);
        }
        measure_tls("engine tls", tls, &own.cert.pem());
        if let Some(haproxy) = ports.get(1) {
            measure_tls("haproxy tls", *haproxy, &own.cert.pem());
        }
    }
}

/// What a quiet connection costs. Its peers live in processes of their own: Python holds the clients' ends,
/// and nobody accepts the servers'.
#[test]
#[ignore = "a measurement"]
fn idle() {
    use nix::sys::socket::{Backlog, listen};
    const COUNT: usize = 3000;
    let mut settings = on_loopback();
    settings.timeouts.half_closed = Duration::from_secs(1);
    let rig = Rig::new(settings);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&listener, Backlog::new(4096).unwrap()).unwrap();
    let server = listener.local_addr().unwrap();
    let memory = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with("RssAnon")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
    };
    for (what, tunnel) in [("plain", rig.plain(server)), ("tls", rig.tls(server))] {
        let before = memory();
        let script = "import socket,ssl,sys,time\n\
            c=ssl._create_unverified_context()\n\
            w=(lambda s:c.wrap_socket(s)) if sys.argv[1]=='tls' else (lambda s:s)\n\
            k=[w(socket.create_connection(('127.0.0.1',int(sys.argv[2])))) for _ in range(int(sys.argv[3]))]\n\
            print('ready',flush=True)\nsys.stdin.read()\n";
        let mut clients = std::process::Command::new("python3")
            .args(["-c", script, what, &tunnel.port().to_string(), &COUNT.to_string()])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        clients.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        super::rig::wait_until("all are open", || rig.open() == COUNT as u64);
        println!("{what}: {} bytes a connection", (memory() - before) * 1024 / COUNT);
        drop(clients.stdin.take());
        clients.wait().unwrap();
        super::rig::wait_until("all have ended", || rig.open() == 0);
    }
}
