//! A web server that does what a test says, also what none should.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use crate::tunnel::Identity;

/// A request: the path, and the whole head.
pub(super) struct Request {
    pub(super) path: String,
    pub(super) head: String,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Writes an answer to a request. An error is the client's, which has gone.
type Handler = dyn Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync;

pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// The heads of all requests.
    requests: Arc<Mutex<Vec<String>>>,
    stopped: Arc<AtomicBool>,
}

impl Server {
    /// One without TLS.
    pub(super) fn plain(
        handler: impl Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Arc::new(handler))
    }

    /// One with TLS.
    pub(super) fn tls(
        identity: &Identity,
        handler: impl Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(identity.server_config(false).unwrap()), Arc::new(handler))
    }

    fn start(tls: Option<Arc<rustls::ServerConfig>>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (Arc::clone(&requests), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, seen, tls) = (Arc::clone(&handler), Arc::clone(&seen), tls.clone());
                std::thread::spawn(move || {
                    let stream = stream?;
                    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
                    serve(stream, tls, &*handler, &seen)
                });
            }
        });
        Self { address, requests, stopped }
    }

    /// What its references begin with.
    pub(super) fn name(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: &Handler,
    seen: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let Some(tls) = tls else {
        let mut first = [0];
        if stream.peek(&mut first)? == 1 && first[0] == 0x16 {
            // As Go's server answers a ClientHello.
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello)?;
            return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTPS request");
        }
        answer(&mut stream, handler, seen)?;
        // What was not read would make the kernel reset the connection before the client has read all.
        stream.shutdown(std::net::Shutdown::Write)?;
        io::copy(&mut stream, &mut io::sink())?;
        return Ok(());
    };
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    answer(&mut stream, handler, seen)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(std::net::Shutdown::Write)?;
    io::copy(&mut stream.sock, &mut io::sink())?;
    Ok(())
}

fn answer(stream: &mut (impl Read + Write), handler: &Handler, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    seen.lock().unwrap().push(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path, head, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    request.body = String::from_utf8(body).map_err(io::Error::other)?;
    handler(&request, stream)
}

/// An answer with a status, further header lines, and a body.
pub(super) fn reply(out: &mut dyn Write, status: &str, headers: &[&str], body: &[u8]) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    out.write_all(format!("{head}\r\n").as_bytes())?;
    out.write_all(body)
}

/// A proxy that wants a login and connects every tunnel to one server.
pub(super) fn proxy(server: SocketAddr, login: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || tunnel(stream?, server, login));
        }
    });
    address
}

fn tunnel(mut stream: TcpStream, server: SocketAddr, login: &str) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    if !head.starts_with("CONNECT registry.test:443 HTTP/1.1\r\nHost: registry.test:443\r\n")
        || !head.contains(&format!("Proxy-Authorization: {login}\r\n"))
    {
        return stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    }
    let mut to = TcpStream::connect(server)?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from, mut back) = (stream.try_clone()?, to.try_clone()?);
    std::thread::spawn(move || io::copy(&mut from, &mut back));
    io::copy(&mut to, &mut stream)?;
    stream.shutdown(std::net::Shutdown::Write)
}
