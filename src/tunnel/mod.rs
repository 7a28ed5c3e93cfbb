//! Inbound connections: listeners, TLS, relay.

/// placeholder
#[derive(Clone, Debug, Default)]
pub struct TunnelMap {
    tunnels: Vec<Tunnel>,
}
impl TunnelMap {
    /// placeholder
    pub fn iter(&self) -> impl Iterator<Item = &Tunnel> {
        self.tunnels.iter()
    }
}
/// placeholder
#[derive(Clone, Debug)]
pub struct Tunnel {
    port: u16,
}
impl Tunnel {
    /// placeholder
    pub fn container_port(&self) -> u16 {
        self.port
    }
    /// placeholder
    pub fn port(&self) -> u16 {
        self.port
    }
    /// placeholder
    pub fn host(&self) -> &str {
        ""
    }
    /// placeholder
    pub fn url(&self) -> Option<&str> {
        None
    }
    /// placeholder
    pub fn ca_pem(&self) -> Option<&str> {
        None
    }
    /// placeholder
    pub fn spki_sha256(&self) -> Option<&str> {
        None
    }
}
