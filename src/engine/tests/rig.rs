//! An engine, a fake of what is above it, and peers.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::super::{Command, Engine, Handle, Request};
use crate::egress;
use crate::error::{Code, Error, Result};
use crate::reactor::FdBudget;
use crate::tunnel::{self, Counters, Identity, Security, Settings, listen};

/// No test waits longer for anything.
pub(super) const LONG: Duration = Duration::from_secs(30);

pub(super) const KEY: u64 = 7;

type Init = Box<dyn Fn(u16) -> Result<OwnedFd> + Send>;

pub(super) struct Rig {
    pub(super) engine: Option<Engine>,
    pub(super) handle: Handle,
    pub(super) counters: Arc<Counters>,
    pub(super) budget: FdBudget,
    pub(super) limits: Arc<Mutex<Vec<String>>>,
    pub(super) asked: Arc<Mutex<Vec<usize>>>,
    pub(super) identity: Identity,
}

pub(super) fn on_loopback() -> Settings {
    Settings { destination: IpAddr::V4(Ipv4Addr::LOCALHOST), sources: Vec::new(), ..Settings::default() }
}

impl Rig {
    pub(super) fn new(settings: Settings) -> Self {
        Self::with(settings, 20_000, Box::new(|_| Err(Error::new(Code::Refused, "nobody"))))
    }

    pub(super) fn with(settings: Settings, budget: usize, init: Init) -> Self {
        let (sender, requests): (_, Receiver<Request>) = channel();
        let budget = FdBudget::new(budget);
        let engine =
            Engine::start(budget.clone(), Arc::new(move |request| drop(sender.send(request)))).unwrap();
        let handle = engine.handle();
        let (limits, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let above = Above { handle: engine.handle(), init, limits: limits.clone(), asked: asked.clone() };
        std::thread::spawn(move || requests.iter().for_each(|request| above.answer(request)));
        let counters = Arc::new(Counters::default());
        handle
            .send(Command::AddSandbox {
                key: KEY,
                settings,
                counters: counters.clone(),
                time: Arc::default(),
            })
            .unwrap();
        let identity = Identity::make(&[]).unwrap();
        Self { engine: Some(engine), handle, counters, budget, limits, asked, identity }
    }

    pub(super) fn add(&self, container_port: u16, security: Security, allowed: &[&str]) -> SocketAddr {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let list = allowed.iter().map(|network| network.parse().unwrap()).collect();
        let allowed = (!allowed.is_empty()).then_some(list);
        let command = Command::AddListener { key: KEY, container_port, listener, security, allowed };
        self.handle.send(command).unwrap();
        address
    }

    pub(super) fn plain(&self, server: SocketAddr) -> SocketAddr {
        self.add(server.port(), Security::Plain, &[])
    }

    pub(super) fn tls(&self, server: SocketAddr) -> SocketAddr {
        self.add(server.port(), Security::Tls(self.identity.server_config(false).unwrap()), &[])
    }

    pub(super) fn open(&self) -> u64 {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Ends the engine, after every connection has ended by itself.
    pub(super) fn finish(mut self) {
        wait_until("every connection has ended", || self.open() == 0);
        drop(self.engine.take());
        assert_eq!(self.budget.used(), 0, "every descriptor was given back");
    }
}

struct Above {
    handle: Handle,
    init: Init,
    limits: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Above {
    fn answer(&self, request: Request) {
        let command = match request {
            Request::Tunnel(tunnel::Request::NeedSockets { key, count }) => {
                self.asked.lock().unwrap().push(count);
                let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
                let make = |_| socket::socket(AddressFamily::Inet, SockType::Stream, flags, None).ok();
                Command::Sockets { key, sockets: (0..count).filter_map(make).collect() }
            }
            Request::Tunnel(tunnel::Request::NeedLoopback { port, ticket, .. }) => {
                Command::Loopback { ticket, answer: (self.init)(port) }
            }
            Request::Tunnel(tunnel::Request::Limit { what, .. })
            | Request::Egress(egress::Request::Limit { what, .. }) => {
                return self.limits.lock().unwrap().push(what);
            }
            Request::Egress(_) => return,
        };
        let _ = self.handle.send(command);
    }
}

pub(super) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(super) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

pub(super) fn connect(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).unwrap())
}

pub(super) fn accept(listener: &TcpListener) -> TcpStream {
    patient(listener.accept().unwrap().0)
}

/// Closes with a reset.
pub(super) fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    socket::setsockopt(&stream.as_fd(), sockopt::Linger, &linger).unwrap();
}

/// A server that sends back what it gets.
pub(super) fn echo() -> SocketAddr {
    let (listener, address) = server();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

pub(super) fn echo_unix(mut stream: UnixStream) {
    let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
    let _ = stream.shutdown(Shutdown::Write);
}

/// Bytes that differ everywhere, from a seed.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

pub(super) fn roots(ca_pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    roots
}

pub(super) fn client_config(ca_pem: &str, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca_pem))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

pub(super) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

pub(super) fn tls_client(rig: &Rig, address: SocketAddr) -> TlsClient {
    let config = client_config(rig.identity.ca_pem(), &[]);
    let connection = ClientConnection::new(config, ServerName::from(address.ip())).unwrap();
    let mut stream = StreamOwned::new(connection, connect(address));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

pub(super) fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

pub(super) fn write_in_background(mut stream: TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    })
}
