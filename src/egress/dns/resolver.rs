//! The sockets and servers that a sandbox's resolver starts with.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use mio::net::TcpListener;
use nix::sys::socket::{self, Backlog, SockaddrStorage, sockopt};

use crate::error::{Context, Result};
use crate::sys::socket::set_no_delay;
use crate::topology::GATEWAY;

/// Where it listens.
const PORT: u16 = 53;
/// Of connections that are not accepted yet.
const BACKLOG: i32 = 128;

/// Sockets of G that receive questions, and the servers to ask.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    /// Empty: the servers of the host.
    servers: Vec<SocketAddr>,
    datagrams: Option<OwnedFd>,
    listener: Option<TcpListener>,
}

impl Resolver {
    /// Asks these servers, or those of the host if there are none.
    pub(crate) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, datagrams: None, listener: None }
    }

    /// Over sockets that are bound already.
    #[cfg(test)]
    pub(crate) fn over(listener: TcpListener, datagrams: OwnedFd, servers: Vec<SocketAddr>) -> Self {
        Self { servers, datagrams: Some(datagrams), listener: Some(listener) }
    }

    /// Receives questions over a UDP socket. Needs the links to be laid.
    pub(crate) fn hear(&mut self, socket: OwnedFd) -> Result<()> {
        bind(&socket)?;
        self.datagrams = Some(socket);
        Ok(())
    }

    /// Takes connections over a TCP socket. Needs the links to be laid.
    pub(crate) fn listen(&mut self, socket: OwnedFd) -> Result<()> {
        socket::setsockopt(&socket, sockopt::ReuseAddr, &true).context(what())?;
        bind(&socket)?;
        set_no_delay(socket.as_fd()).context(what())?;
        socket::listen(&socket, Backlog::new(BACKLOG).context(what())?).context(what())?;
        self.listener = Some(TcpListener::from(socket));
        Ok(())
    }

    /// The servers, the UDP socket and the listener.
    pub(super) fn into_parts(self) -> (Vec<SocketAddr>, Option<OwnedFd>, Option<TcpListener>) {
        (self.servers, self.datagrams, self.listener)
    }
}

fn what() -> String {
    format!("the resolver at {GATEWAY} in the gateway's network")
}

fn bind(socket: &OwnedFd) -> Result<()> {
    let address = SocketAddr::new(GATEWAY.into(), PORT);
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).context(what())
}
