//! How connections reach a sandbox, and their limits.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Config, TunnelRate};
use crate::topology;

/// How a sandbox is reached, and the limits of its connections.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The sandbox's address, as seen from its gateway.
    pub(crate) destination: IpAddr,
    /// Further source addresses in the gateway, for when the ports of the first run out.
    pub(crate) sources: Vec<IpAddr>,
    /// The most connections that may be open at once; further ones wait in the listeners' queues.
    pub(crate) max_connections: usize,
    /// How fast new ones are taken while another sandbox is served.
    pub(crate) rate: TunnelRate,
    /// The time-outs.
    pub(crate) timeouts: Timeouts,
}

/// The time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// For the client's TLS handshake.
    pub(crate) handshake: Duration,
    /// For reaching the server, all routes and repetitions together.
    pub(crate) connect: Duration,
    /// How long a port that has never been answered is tried again (see [`super::retry::Retry`]).
    pub(crate) startup_grace: Duration,
    /// Without a byte in either direction.
    pub(crate) idle: Duration,
    /// The same once one direction has ended.
    pub(crate) half_closed: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            startup_grace: Duration::from_secs(2),
            idle: Duration::from_secs(3600),
            half_closed: Duration::from_secs(300),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            destination: topology::SANDBOX.into(),
            sources: topology::SPARE.map(IpAddr::V4).to_vec(),
            max_connections: 16_384,
            rate: TunnelRate::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Settings {
    /// Those of a sandbox with this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self { rate: config.tunnel_rate(), ..Self::default() }
    }
}
