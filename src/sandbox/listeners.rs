//! The host's side of a sandbox's tunnels: their listeners, and the certificate of encrypted ones.

use std::sync::Arc;

use mio::net::TcpListener;

use super::shared::Shared;
use crate::config::{Config, Port, PortKind};
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::tunnel::{Identity, Security, Settings, Tunnel, TunnelMap, listen};

/// Open before anything is started, so that a taken port is an error then.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// The tunnels' listeners.
    listeners: Vec<Listening>,
    /// The certificate of encrypted tunnels.
    identity: Option<Identity>,
    /// What the host knows of the tunnels.
    tunnels: TunnelMap,
}

/// A listener and what it is for.
#[derive(Debug)]
struct Listening {
    /// The port inside.
    container_port: u16,
    /// With or without TLS.
    kind: PortKind,
    /// Bound and listening.
    listener: TcpListener,
}

impl Listeners {
    /// Opens the listeners. Nothing of this can hang.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let listeners = open_listeners(config)?;
        let identity = tls_identity(config)?;
        let tunnels = tunnel_map(&listeners, identity.as_ref())?;
        Ok(Self { listeners, identity, tunnels })
    }

    /// What the host knows of the tunnels.
    pub(super) fn tunnels(&self) -> &TunnelMap {
        &self.tunnels
    }

    /// Hands the sandbox and its listeners to the engine.
    pub(super) fn attach(self, engine: &engine::Handle, shared: &Shared) -> Result<()> {
        let key = shared.number;
        engine.send(engine::Command::AddSandbox {
            key,
            settings: Settings::of(&shared.config),
            counters: Arc::clone(&shared.counters),
            time: Arc::clone(&shared.time),
        })?;
        let allowed = shared.config.inbound_cidr_allowlist();
        for listening in self.listeners {
            let security = match (listening.kind, &self.identity) {
                (PortKind::Unencrypted, _) => Security::Plain,
                (kind, Some(identity)) => Security::Tls(identity.server_config(kind == PortKind::H2)?),
                (_, None) => {
                    return Err(Error::new(Code::Internal, "an encrypted tunnel has no certificate"));
                }
            };
            engine.send(engine::Command::AddListener {
                key,
                container_port: listening.container_port,
                listener: listening.listener,
                security,
                allowed: allowed.map(<[_]>::to_vec),
            })?;
        }
        Ok(())
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
