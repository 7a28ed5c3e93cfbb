//! What the engine has to know of a sandbox to bring connections to it, and what it counts.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::topology;

/// How connections reach a sandbox, and their limits.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The sandbox's address, as seen from its gateway.
    pub(crate) destination: IpAddr,
    /// Further source addresses in the gateway, for when the ports of the first run out.
    pub(crate) sources: Vec<IpAddr>,
    /// The most connections that may be open at once; further ones wait in the listeners' queues.
    pub(crate) max_connections: usize,
    /// The time-outs.
    pub(crate) timeouts: Timeouts,
}

/// The time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// For the client's TLS handshake.
    pub(crate) handshake: Duration,
    /// For reaching the server, all ways and repetitions together.
    pub(crate) connect: Duration,
    /// How long a port that nobody has answered on yet is tried again (see [`super::attempt::Attempt`]).
    pub(crate) patience: Duration,
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
            patience: Duration::from_secs(2),
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
            timeouts: Timeouts::default(),
        }
    }
}

/// What a sandbox's connections have done. Read by anyone at any time.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Bytes from clients to the sandbox.
    pub(crate) bytes_in: AtomicU64,
    /// Bytes from the sandbox to clients.
    pub(crate) bytes_out: AtomicU64,
    /// Connections that are open now.
    pub(crate) open: AtomicU64,
    /// Connections that were accepted.
    pub(crate) total: AtomicU64,
    /// Connections that found no server, or whose client wasn't allowed.
    pub(crate) refused: AtomicU64,
    /// When the last byte was moved, in milliseconds since this was made.
    active: AtomicU64,
    made: Instant,
}

impl Counters {
    /// A byte was moved.
    pub(crate) fn note_activity(&self, now: Instant) {
        let since = now.saturating_duration_since(self.made).as_millis();
        self.active.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When the last byte was moved.
    pub(crate) fn last_active(&self) -> Instant {
        let since = Duration::from_millis(self.active.load(Ordering::Relaxed));
        self.made.checked_add(since).unwrap_or(self.made)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            open: AtomicU64::new(0),
            total: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            active: AtomicU64::new(0),
            made: Instant::now(),
        }
    }
}
