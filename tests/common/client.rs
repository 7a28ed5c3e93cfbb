//! Clients of tunnels: raw TCP, rustls, curl.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "checksums and patterns of tests"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sbx::{Tunnel, TunnelMap};

use super::PATIENCE;

/// A TCP connection that does not wait for ever.
pub fn tcp(tunnel: &Tunnel) -> TcpStream {
    let stream = TcpStream::connect(tunnel.tcp_socket()).unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    stream.set_write_timeout(PATIENCE).unwrap();
    stream
}

/// A TLS client's settings: one CA is trusted, and these protocols are offered.
pub fn tls_config(ca: &str, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A TLS connection by rustls.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A TLS connection to the tunnel, with the CA of the map, to a name.
pub fn tls_as(map: &TunnelMap, port: u16, name: &str, protocols: &[&str]) -> std::io::Result<Tls> {
    let config = tls_config(map.ca_pem().unwrap(), protocols);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(config, name).unwrap(), tcp(map.get(port).unwrap()));
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

/// A TLS connection to the tunnel's own address.
pub fn tls(map: &TunnelMap, port: u16) -> Tls {
    tls_as(map, port, map.get(port).unwrap().host(), &[]).unwrap()
}

/// A connection whose writing half can end alone.
pub trait Half: Read + Write {
    /// Ends what is sent.
    fn end(&mut self);
}

impl Half for TcpStream {
    fn end(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Half for Tls {
    fn end(&mut self) {
        self.conn.send_close_notify();
        self.flush().unwrap();
        self.sock.shutdown(Shutdown::Write).unwrap();
    }
}

/// Sends a line to an echo server and returns what comes back.
pub fn echo(stream: &mut impl Half) -> std::io::Result<String> {
    stream.write_all(b"hello\n")?;
    stream.flush()?;
    let mut back = [0; 6];
    stream.read_exact(&mut back)?;
    Ok(String::from_utf8_lossy(&back).into_owned())
}

/// The CRC-32 of zlib, fed in pieces.
pub struct Crc {
    table: [u32; 256],
    state: u32,
    length: u64,
}

impl Crc {
    /// Of nothing yet.
    pub fn new() -> Self {
        let entry = |byte: u32| {
            (0..8).fold(byte, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        };
        let mut table = [0; 256];
        for (byte, slot) in (0..).zip(&mut table) {
            *slot = entry(byte);
        }
        Self { table, state: !0, length: 0 }
    }

    /// Of this too.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = self.table[(self.state as u8 ^ byte) as usize] ^ self.state >> 8;
        }
        self.length += bytes.len() as u64;
    }

    /// As the server says it.
    pub fn line(&self) -> String {
        format!("{} {}\n", self.length, !self.state)
    }
}

/// Sends so many MiB to a `sink`, ends that half, and compares what the sink says.
pub fn upload(stream: &mut impl Half, mebibytes: u64) {
    let mut crc = Crc::new();
    let mut piece: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
    for number in 0..mebibytes {
        piece[..8].copy_from_slice(&number.to_be_bytes());
        crc.add(&piece);
        stream.write_all(&piece).unwrap();
    }
    stream.end();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, crc.line());
}

/// Reads a `source` to its end, then tells it what came.
pub fn download(stream: &mut impl Half) {
    let mut crc = Crc::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            read => crc.add(&buffer[..read]),
        }
    }
    assert_eq!(crc.length, 100 << 20);
    stream.write_all(crc.line().as_bytes()).unwrap();
    stream.end();
}

/// Whether the connection is over: reset, or at its end without a byte.
pub fn is_over(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// curl, silent and bounded, without anybody's settings.
pub fn curl(arguments: &[&str]) -> Output {
    let fixed = ["-q", "-sS", "--noproxy", "*", "--max-time", "20"];
    Command::new("curl").args(fixed).args(arguments).output().unwrap()
}
