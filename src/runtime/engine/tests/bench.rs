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
    let identity =
        crate::tunnel::Identity::from_pem(&own.cert.pem(), &own.signing_key.serialize_pem()).unwrap();
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
