//! The sockets of G that a sandbox's egress starts with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use mio::net::TcpListener;

use super::dns::Resolver;
use super::tcp;
use crate::config::HostService;
use crate::error::{Context, Result};
use crate::net::RELAY_PORT;
use crate::net::nflog::NflogSocket;
use crate::sys::datagram;

/// The sockets that the rules deliver to, and the one that logs what they refuse.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    // Plain data: taken apart when the sandbox is added.
    /// Each with the host's service that it leads to, if it leads to one.
    pub(super) listeners: Vec<(TcpListener, Option<SocketAddr>)>,
    pub(super) datagrams: Vec<OwnedFd>,
    pub(super) refusals: Option<NflogSocket>,
    pub(super) resolver: Resolver,
}

impl Sockets {
    /// Answers the sandbox's questions by this resolver.
    pub(crate) fn answer_by(&mut self, resolver: Resolver) {
        self.resolver = resolver;
    }

    /// Takes connections over a TCP socket.
    pub(crate) fn listen(&mut self, socket: OwnedFd, ipv6: bool) -> Result<()> {
        self.listeners.push((tcp::listen(socket, ipv6)?, None));
        Ok(())
    }

    /// Relays connections to a port of the gateway's address to a service of the host.
    pub(crate) fn serve(&mut self, socket: OwnedFd, service: HostService) -> Result<()> {
        self.listeners.push((tcp::serve(socket, service.port)?, Some(service.to)));
        Ok(())
    }

    /// Takes datagrams over a UDP socket.
    pub(crate) fn hear(&mut self, socket: OwnedFd, ipv6: bool) -> Result<()> {
        let address: IpAddr = if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let address = SocketAddr::new(address, RELAY_PORT);
        datagram::hear_all(socket.as_fd(), address)
            .context(format!("the egress relay for UDP at {address} in the gateway's network"))?;
        self.datagrams.push(socket);
        Ok(())
    }

    /// Reads what the rules refuse over a NETLINK_NETFILTER socket, where the kernel can log it.
    pub(crate) fn listen_for_refusals(&mut self, socket: OwnedFd) {
        match NflogSocket::listen(socket) {
            Ok(refusals) => self.refusals = Some(refusals),
            Err(error) => log::info!("what the gateway refuses is counted, but not reported: {error}"),
        }
    }
}
