//! The relay's listening sockets, in G. The rules there deliver connections to any address to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mio::net::TcpListener;
use nix::sys::socket::{self, Backlog, SockaddrStorage, sockopt};

use crate::error::{Context, Result};
use crate::net::RELAY_PORT;
use crate::reactor::TimerId;
use crate::sys::socket::{set_keep_alive, set_no_delay, set_transparent};
use crate::topology::GATEWAY;

/// How long a listener rests when the process has no descriptor for another connection.
pub(super) const REST: Duration = Duration::from_millis(100);

/// A full queue would leave the sandbox waiting; at every limit connections are taken and reset.
const BACKLOG: i32 = 4096;

/// Makes an unbound TCP socket of G listen for what the rules deliver. Needs the links to be laid.
pub(crate) fn listen(fd: OwnedFd, ipv6: bool) -> Result<TcpListener> {
    let address: IpAddr = if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let address = SocketAddr::new(address, RELAY_PORT);
    let what = || format!("the egress relay at {address} in the gateway's network");
    set_transparent(fd.as_fd(), ipv6).context(what())?;
    if ipv6 {
        socket::setsockopt(&fd, sockopt::Ipv6V6Only, &true).context(what())?;
    }
    listen_at(fd, address, what)
}

/// Makes an unbound TCP socket of G listen on a port of the gateway's own address.
pub(crate) fn serve(fd: OwnedFd, port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from((GATEWAY, port));
    let what = || format!("the service at {address} in the gateway's network");
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true).context(what())?;
    listen_at(fd, address, what)
}

fn listen_at(fd: OwnedFd, address: SocketAddr, what: impl Fn() -> String) -> Result<TcpListener> {
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).context(what())?;
    // The connections inherit both.
    set_no_delay(fd.as_fd()).context(what())?;
    set_keep_alive(fd.as_fd()).context(what())?;
    let backlog = Backlog::new(BACKLOG).context(what())?;
    socket::listen(&fd, backlog).context(what())?;
    Ok(TcpListener::from(fd))
}

/// A listener of a sandbox's.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pub(super) sandbox: u64,
    /// The service of the host that its connections go to, and nowhere else; else they go where they were sent.
    pub(super) service: Option<SocketAddr>,
    /// Runs while it rests.
    pub(super) rest: Option<TimerId>,
}

impl Listener {
    pub(super) fn new(socket: TcpListener, sandbox: u64, service: Option<SocketAddr>) -> Self {
        Self { socket, sandbox, service, rest: None }
    }

    /// The next connection.
    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        self.socket.accept().map(|(stream, _)| OwnedFd::from(stream))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
