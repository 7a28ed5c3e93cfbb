//! A tunnel's listening socket, in the host's own network namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use mio::net::TcpListener;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, sockopt};
use rustls::ServerConfig;

use crate::error::{Code, Context, Error, Result};
use crate::reactor::TimerId;
use crate::sys::socket::{set_keep_alive, set_no_delay, set_urgent_inline};

/// How long a listener rests when there is no descriptor or no memory for another connection. The clients
/// wait in its queue. Descriptors that this library frees end the rest at once, those that the host frees
/// are found by the next try.
pub(crate) const REST: Duration = Duration::from_millis(100);

const BACKLOG: i32 = 4096;

/// Opens a listening socket; port 0 has the kernel choose one.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener> {
    let what = || format!("listen on {address}");
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Stream, flags, None).context(what())?;
    // Without it a port that is given can't be taken again for a minute after its connections have ended.
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true).context(what())?;
    if address.is_ipv6() {
        socket::setsockopt(&socket, sockopt::Ipv6V6Only, &true).context(what())?;
    }
    let bound = socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address));
    bound.map_err(|error| explain(address, error))?;
    // The connections inherit all three.
    set_no_delay(socket.as_fd()).context(what())?;
    set_keep_alive(socket.as_fd()).context(what())?;
    set_urgent_inline(socket.as_fd()).context(what())?;
    let backlog = Backlog::new(BACKLOG).context(what())?;
    socket::listen(&socket, backlog).map_err(|error| explain(address, error))?;
    Ok(TcpListener::from(socket))
}

fn explain(address: SocketAddr, error: nix::Error) -> Error {
    let cause = Error::system(format!("listen on {address}"), &io::Error::from(error));
    match error {
        nix::Error::EADDRINUSE => {
            cause.with_code(Code::Exists).context("the port is taken; give another, or 0 to have one chosen")
        }
        nix::Error::EACCES => {
            cause.context("ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE")
        }
        nix::Error::EADDRNOTAVAIL => {
            cause.with_code(Code::Invalid).context("the address is none of this host's own")
        }
        _ => cause,
    }
}

/// What to do with a connection.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    /// Bytes as they are.
    Plain,
    /// TLS with this configuration ends here.
    Tls(Arc<ServerConfig>),
}

/// A listener and what its connections are for.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) sandbox: u64,
    pub(crate) port: u16,
    pub(crate) security: Security,
    allowed: Option<Vec<IpNetwork>>,
    /// Runs while it rests.
    pub(crate) rest: Option<TimerId>,
}

impl Listener {
    /// `allowed` are the sources that may connect: `None` means every one, an empty list none.
    pub(crate) fn new(
        socket: TcpListener,
        sandbox: u64,
        port: u16,
        security: Security,
        allowed: Option<Vec<IpNetwork>>,
    ) -> Self {
        Self { socket, sandbox, port, security, allowed, rest: None }
    }

    /// The next connection, and whether its source is allowed.
    pub(crate) fn accept(&self) -> io::Result<(OwnedFd, bool)> {
        let (stream, peer) = self.socket.accept()?;
        Ok((OwnedFd::from(stream), self.allows(peer.ip())))
    }

    fn allows(&self, source: IpAddr) -> bool {
        // An IPv4 client of a listener on :: shows as ::ffff:a.b.c.d.
        let source = source.to_canonical();
        self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|network| network.contains(source)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error_of_its_own() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert!(address.ip().is_loopback());
        let error = listen(address).unwrap_err();
        assert_eq!(error.code(), Code::Exists);
        assert_eq!(error.os_error(), Some(libc::EADDRINUSE));
        assert!(error.message().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_foreign_address_is_an_error_of_its_own() {
        let error = listen("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
    }

    #[test]
    fn only_allowed_sources_may_connect() {
        let socket = || listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let allowed = vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let listener = Listener::new(socket(), 1, 80, Security::Plain, Some(allowed));
        for (source, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(listener.allows(source.parse().unwrap()), allowed, "{source}");
        }
        let any = "8.8.8.8".parse().unwrap();
        assert!(Listener::new(socket(), 1, 80, Security::Plain, None).allows(any));
        assert!(!Listener::new(socket(), 1, 80, Security::Plain, Some(vec![])).allows(any));
    }
}
