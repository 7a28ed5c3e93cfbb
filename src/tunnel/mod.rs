//! Inbound connections: listeners, TLS, relay.

/// placeholder
#[derive(Clone, Debug, Default)]
pub struct TunnelMap {}
/// placeholder
#[derive(Clone, Debug)]
pub struct Tunnel {}
