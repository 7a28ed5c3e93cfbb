//! Connects to servers: by an address that was checked, through a proxy, with TLS.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::patience::{Patience, Readiness};
use super::pool::Pool;
use super::proxy::{Proxies, Proxy};
use super::reach::{NamedBy, Reach};
use super::resolve;
use super::response;
use super::stream::{HandshakeFailure, Stream};
use super::url::{Origin, Scheme};
use crate::error::{Code, Context, Error};
use crate::image::error;
use crate::sys::socket::{self, Family, Socket};

/// How long an address may take to accept; less if there are others to try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(5);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
const PROXY_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes connections.
#[derive(Debug)]
pub(super) struct Dialer {
    tls: Arc<ClientConfig>,
    proxies: Proxies,
    pub(super) pool: Pool,
    /// What test servers are called: a name, the address that it is judged by, and where it really is.
    #[cfg(test)]
    pub(super) names: std::collections::HashMap<String, (IpAddr, SocketAddr)>,
}

/// How a connection could not be made.
#[derive(Debug)]
pub(super) enum DialFailure {
    /// The server accepts connections but may not speak TLS. The failure is for one that has to.
    NotTls(Failure),
    Other(Failure),
}

impl From<Failure> for DialFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<Error> for DialFailure {
    fn from(error: Error) -> Self {
        Self::Other(error.into())
    }
}

/// A connection and how near its server is.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) reach: Reach,
}

impl Dialer {
    pub(super) fn new(tls: Arc<ClientConfig>, proxies: Proxies) -> Self {
        Self {
            tls,
            proxies,
            pool: Pool::default(),
            #[cfg(test)]
            names: std::collections::HashMap::new(),
        }
    }

    /// Connects to a server that was named by the user or by another server.
    pub(super) fn dial(
        &self,
        server: &Origin,
        named_by: NamedBy,
        patience: &Patience<'_>,
    ) -> Result<Connection, DialFailure> {
        let (stream, reach) = match self.proxies.of(server)? {
            Some(proxy) => self.tunnel(proxy, server, named_by, patience)?,
            None => self.connect(server, named_by, patience)?,
        };
        let stream = match server.scheme {
            Scheme::Http => stream,
            Scheme::Https => {
                let until = patience.at_most(HANDSHAKE_TIMEOUT);
                stream.secure(&self.tls, &server.host, patience, until).map_err(|failure| match failure {
                    HandshakeFailure::NotTls(failure) => DialFailure::NotTls(failure),
                    HandshakeFailure::Other(failure) => DialFailure::Other(failure),
                })?
            }
        };
        Ok(Connection { stream, reach })
    }

    /// Connects to the first address that accepts, of those that are allowed.
    fn connect(
        &self,
        server: &Origin,
        named_by: NamedBy,
        patience: &Patience<'_>,
    ) -> Result<(Stream, Reach), Failure> {
        let mut refused = None;
        let mut allowed = Vec::new();
        for (address, to) in self.addresses(server, patience)? {
            match named_by.check(&server.host, address) {
                Ok(()) => allowed.push((address, to)),
                Err(error) => refused = Some(error),
            }
        }
        let mut failure = Failure::Final(refused.unwrap_or_else(|| error("the name has no address")));
        let timeout = if allowed.len() > 1 { CONNECT_TIMEOUT_OF_SEVERAL } else { CONNECT_TIMEOUT };
        for (address, to) in allowed {
            match connect_to(to, patience, patience.at_most(timeout)) {
                // What the user named may be an address that no server may name; such a server is believed the least.
                Ok(socket) => {
                    return Ok((Stream::plain(socket), Reach::of(address).unwrap_or(Reach::Public)));
                }
                Err(other) => failure = other,
            }
            patience.check()?;
        }
        Err(failure)
    }

    /// The addresses of a server, each with the one to connect to.
    fn addresses(
        &self,
        server: &Origin,
        patience: &Patience<'_>,
    ) -> Result<Vec<(IpAddr, SocketAddr)>, Failure> {
        #[cfg(test)]
        if let Some((judged, real)) = self.names.get(&server.host) {
            return Ok(vec![(*judged, *real)]);
        }
        let addresses = resolve::addresses(server, patience)?;
        Ok(addresses.into_iter().map(|address| (address, SocketAddr::new(address, server.port))).collect())
    }

    /// Has a proxy connect to a server. The proxy resolves the name, so that only an address in the URL can be checked; for
    /// what such a server names, it counts as one of the Internet.
    fn tunnel(
        &self,
        proxy: &Proxy,
        server: &Origin,
        named_by: NamedBy,
        patience: &Patience<'_>,
    ) -> Result<(Stream, Reach), Failure> {
        if let Some(address) = server.address() {
            named_by.check(&server.host, address)?;
        }
        let in_proxy = |failure: Failure| failure.context(&format!("the proxy {}", proxy.origin));
        let (mut stream, _) = self.connect(&proxy.origin, NamedBy::User, patience).map_err(in_proxy)?;
        let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
        let host = format!("{host}:{}", server.port);
        let mut head = Zeroizing::new(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n"));
        if let Some(authorization) = &proxy.authorization {
            head.push_str("Proxy-Authorization: ");
            head.push_str(authorization);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let until = patience.at_most(PROXY_TIMEOUT);
        stream.send(head.as_bytes(), patience, until).map_err(in_proxy)?;
        let status = response::of_tunnel(&mut stream, patience, until).map_err(in_proxy)?;
        if !(200..300).contains(&status) {
            let text = match status {
                407 => "wants a login: put user and password into HTTPS_PROXY".to_owned(),
                _ => format!("refuses the connection (status {status})"),
            };
            return Err(in_proxy(Failure::Final(error(text))));
        }
        Ok((stream, Reach::Public))
    }
}

fn connect_to(to: SocketAddr, patience: &Patience<'_>, until: Instant) -> Result<Socket, Failure> {
    let fd = socket::tcp(to.is_ipv6()).context("make a socket")?;
    let failed = |cause: std::io::Error| Failure::passing(error(format!("connect to {to}: {cause}")));
    let connected = socket::connect(fd.as_fd(), to).map_err(failed)?;
    let socket = Socket::new(fd, Family::Tcp);
    if !connected {
        if !patience.ready(socket.as_fd(), Readiness::Writable, until)? {
            let text = format!("connect to {to}: no answer in time");
            return Err(Failure::passing(Error::new(Code::TimedOut, text)));
        }
        socket.pending_error().map_err(failed)?;
    }
    // Requests are written whole; a failure here would only make them slower.
    let _ = socket::set_no_delay(socket.as_fd());
    Ok(socket)
}
