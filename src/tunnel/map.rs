//! A sandbox's tunnels, as the host sees them.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::PortKind;

/// One tunnel: a port of the container and where on the host it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    container_port: u16,
    kind: PortKind,
    host: String,
    port: u16,
    url: Option<String>,
}

impl Tunnel {
    /// The tunnel of a listener at `address`; `name` is what its clients should call it if not by address.
    pub(crate) fn new(container_port: u16, kind: PortKind, address: SocketAddr, name: Option<&str>) -> Self {
        let (ip, port) = (address.ip(), address.port());
        let host = name.map_or_else(|| ip.to_string(), str::to_owned);
        let literal = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let url = match kind {
            PortKind::Encrypted | PortKind::H2 => Some(format!("https://{literal}:{port}")),
            PortKind::Unencrypted => None,
        };
        Self { container_port, kind, host, port, url }
    }

    /// The port in the sandbox.
    pub fn container_port(&self) -> u16 {
        self.container_port
    }

    /// What it does with the bytes.
    pub fn kind(&self) -> PortKind {
        self.kind
    }

    /// The host to connect to.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `https://host:port`; `None` for an unencrypted tunnel.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The host and the port to connect to.
    pub fn tcp_socket(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

/// A sandbox's tunnels by container port. It never changes, and it outlives the sandbox.
#[derive(Clone, Debug, Default)]
pub struct TunnelMap(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tunnels: Vec<Tunnel>,
    ca_pem: Option<String>,
    pin: Option<String>,
}

impl TunnelMap {
    /// The tunnels, with the CA's certificate (PEM) and the leaf's pin if one of them is encrypted.
    pub(crate) fn new(mut tunnels: Vec<Tunnel>, ca_pem: Option<String>, pin: Option<String>) -> Self {
        tunnels.sort_by_key(|tunnel| tunnel.container_port);
        Self(Arc::new(Inner { tunnels, ca_pem, pin }))
    }

    /// The tunnel of a container port.
    pub fn get(&self, container_port: u16) -> Option<&Tunnel> {
        self.0.tunnels.iter().find(|tunnel| tunnel.container_port == container_port)
    }

    /// All of them, by container port.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tunnel> {
        self.0.tunnels.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.tunnels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.tunnels.is_empty()
    }

    /// The certificate, in PEM, that a client has to trust; `None` without an encrypted tunnel.
    pub fn ca_pem(&self) -> Option<&str> {
        self.0.ca_pem.as_deref()
    }

    /// The SHA-256 of the leaf's public key (SPKI) as `sha256//` and base64, the form of curl's
    /// `--pinnedpubkey`; `None` without an encrypted tunnel.
    pub fn spki_pin(&self) -> Option<&str> {
        self.0.pin.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_tunnel_has_a_url_and_a_plain_one_has_none() {
        let v4 = "127.0.0.1:4000".parse().unwrap();
        let v6 = "[::1]:4001".parse().unwrap();
        let map = TunnelMap::new(
            vec![
                Tunnel::new(9000, PortKind::H2, v6, None),
                Tunnel::new(80, PortKind::Encrypted, v4, None),
                Tunnel::new(22, PortKind::Unencrypted, v4, None),
                Tunnel::new(81, PortKind::Encrypted, v4, Some("box.example")),
            ],
            None,
            None,
        );
        assert_eq!(map.iter().map(Tunnel::container_port).collect::<Vec<_>>(), [22, 80, 81, 9000]);
        assert_eq!(map.get(80).unwrap().url(), Some("https://127.0.0.1:4000"));
        assert_eq!(map.get(81).unwrap().url(), Some("https://box.example:4000"));
        assert_eq!(map.get(9000).unwrap().url(), Some("https://[::1]:4001"));
        assert_eq!(map.get(9000).unwrap().host(), "::1");
        assert_eq!(map.get(22).unwrap().url(), None);
        let kinds: Vec<PortKind> = map.iter().map(Tunnel::kind).collect();
        assert_eq!(kinds, [PortKind::Unencrypted, PortKind::Encrypted, PortKind::Encrypted, PortKind::H2]);
        assert_eq!(map.get(22).unwrap().tcp_socket(), ("127.0.0.1", 4000));
        assert!(map.get(23).is_none());
    }
}
