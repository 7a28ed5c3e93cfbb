//! Connections that wait for the next request to their server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::dial::Connection;
use super::reach::NamedBy;
use super::url::Origin;

/// How many wait, and for how long. Servers end them after a minute or so.
const MAX_IDLE: usize = 4;
const MAX_AGE: Duration = Duration::from_secs(20);

/// The connections of one pull.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Idle>>>);

#[derive(Debug)]
struct Idle {
    home: Home,
    connection: Connection,
    since: Instant,
}

/// What a connection is for: its address was checked for a server that was named so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) server: Origin,
    pub(super) named_by: NamedBy,
}

impl Pool {
    /// The latest connection for this, if it is still open.
    pub(super) fn take(&self, home: &Home) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| one.since.elapsed() < MAX_AGE && one.connection.stream.is_quiet());
        let at = idle.iter().rposition(|one| one.home == *home)?;
        Some(idle.remove(at).connection)
    }

    /// Keeps a connection on which everything that was asked for has come.
    pub(super) fn put(&self, home: Home, connection: Connection) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push(Idle { home, connection, since: Instant::now() });
    }
}
