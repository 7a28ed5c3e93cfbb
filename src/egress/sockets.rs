//! The sockets of G that a sandbox's egress begins with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use mio::net::TcpListener;

use super::dns::Resolver;
use super::listener;
use crate::config::HostService;
use crate::error::{Context, Result};
use crate::net::RELAY_PORT;
use crate::net::nflog::Refusals;
use crate::sys::datagram;

/// What the rules deliver to, and what they tell.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Each with the host's service that it leads to, if it leads to one.
    pub(super) listeners: Vec<(TcpListener, Option<SocketAddr>)>,
    pub(super) datagrams: Vec<OwnedFd>,
    pub(super) refusals: Option<Refusals>,
    pub(super) resolver: Resolver,
}

impl Sockets {
    /// The sandbox's names are answered by this resolver.
    pub(crate) fn answer_by(&mut self, resolver: Resolver) {
        self.resolver = resolver;
    }

    /// A TCP socket takes connections from now on.
    pub(crate) fn listen(&mut self, socket: OwnedFd, ipv6: bool) -> Result<()> {
        self.listeners.push((listener::listen(socket, ipv6)?, None));
        Ok(())
    }

    /// Connections to a port of the gateway's address go to a service of the host from now on.
    pub(crate) fn serve(&mut self, socket: OwnedFd, service: HostService) -> Result<()> {
        self.listeners.push((listener::serve(socket, service.port)?, Some(service.to)));
        Ok(())
    }

    /// A UDP socket takes datagrams from now on.
    pub(crate) fn hear(&mut self, socket: OwnedFd, ipv6: bool) -> Result<()> {
        let address: IpAddr = if ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
        let address = SocketAddr::new(address, RELAY_PORT);
        datagram::hear_all(socket.as_fd(), address)
            .context(format!("the egress relay for UDP at {address} in the gateway's network"))?;
        self.datagrams.push(socket);
        Ok(())
    }

    /// A NETLINK_NETFILTER socket hears what the rules refuse, where the kernel can tell.
    pub(crate) fn hear_refusals(&mut self, socket: OwnedFd) {
        match Refusals::listen(socket) {
            Ok(refusals) => self.refusals = Some(refusals),
            Err(error) => log::info!("what the gateway refuses is counted, but not told: {error}"),
        }
    }
}
