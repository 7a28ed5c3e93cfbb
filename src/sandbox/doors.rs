//! The host's side of a sandbox's tunnels: their listeners, and what encrypted ones prove themselves with.

use mio::net::TcpListener;

use crate::config::{Config, Port, PortKind};
use crate::error::{Error, Result};
use crate::tunnel::{Identity, Tunnel, TunnelMap, listen};

/// Open before anything is started, so that a taken port is an error then.
#[derive(Debug)]
pub(crate) struct Doors {
    /// The tunnels' listeners.
    pub(super) listeners: Vec<Listening>,
    /// What encrypted tunnels prove themselves with.
    pub(super) identity: Option<Identity>,
    /// What the host is told of the tunnels.
    pub(super) tunnels: TunnelMap,
}

/// A listener and what it is for.
#[derive(Debug)]
pub(super) struct Listening {
    /// The port inside.
    pub(super) container_port: u16,
    /// With or without TLS.
    pub(super) kind: PortKind,
    /// Bound and listening.
    pub(super) listener: TcpListener,
}

impl Doors {
    /// Opens the listeners. Nothing of this can hang.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let listeners = open_listeners(config)?;
        let identity = tls_identity(config)?;
        let tunnels = tunnel_map(&listeners, identity.as_ref())?;
        Ok(Self { listeners, identity, tunnels })
    }
}

fn open_listeners(config: &Config) -> Result<Vec<Listening>> {
    let open = |port: &Port| {
        let container_port = port.container_port();
        let listener = listen(port.listen()).map_err(|error| {
            error.context(format!("the tunnel of port {container_port} at {}", port.listen()))
        })?;
        Ok(Listening { container_port, kind: port.kind(), listener })
    };
    config.ports().iter().map(open).collect()
}

fn tls_identity(config: &Config) -> Result<Option<Identity>> {
    if config.ports().iter().all(|port| port.kind() == PortKind::Unencrypted) {
        return Ok(None);
    }
    match config.certificate() {
        Some(certificate) => Identity::of_host(certificate.key(), certificate.chain_pem()).map(Some),
        None => Identity::make(config.tls_names()).map(Some),
    }
}

fn tunnel_map(listeners: &[Listening], identity: Option<&Identity>) -> Result<TunnelMap> {
    let tunnel = |listening: &Listening| {
        let address = listening
            .listener
            .local_addr()
            .map_err(|cause| Error::system("the address of a tunnel's listener", &cause))?;
        Ok(Tunnel::new(listening.container_port, listening.kind, address, None))
    };
    let tunnels = listeners.iter().map(tunnel).collect::<Result<Vec<_>>>()?;
    let ca = identity.map(|identity| identity.ca_pem().to_owned());
    Ok(TunnelMap::new(tunnels, ca, identity.map(|identity| identity.pin().to_owned())))
}
