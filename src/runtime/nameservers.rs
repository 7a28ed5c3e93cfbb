//! Watches the host's resolv.conf and sends the engine its name servers. Reading the file may block, which the engine's
//! thread must not.

use std::time::Duration;

use crate::egress::SystemResolvers;
use crate::engine;
use crate::reactor::{Key, Kind, Reactor, Slab, TimerId};

/// How often the file is checked while a sandbox depends on it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The timer that checks the host's resolv.conf.
#[derive(Debug)]
pub(super) struct ServerWatch {
    servers: SystemResolvers,
    key: Key,
    timer: Option<TimerId>,
}

impl ServerWatch {
    /// Its timer has a key of this kind.
    pub(super) fn new(kind: Kind) -> Self {
        Self { servers: SystemResolvers::default(), key: Slab::new(kind).insert(()), timer: None }
    }

    /// Checks at once, for a new sandbox that uses the host's servers, unless the timer is running.
    pub(super) fn start(&mut self, reactor: &mut Reactor, engine: &engine::Handle) {
        if self.timer.is_none() {
            self.look(reactor, engine);
        }
    }

    /// The timer has expired: checks again, if a sandbox still uses the host's servers.
    pub(super) fn wake(&mut self, reactor: &mut Reactor, engine: &engine::Handle, is_needed: bool) {
        self.timer = None;
        if is_needed {
            self.look(reactor, engine);
        }
    }

    fn look(&mut self, reactor: &mut Reactor, engine: &engine::Handle) {
        let next = reactor.now().checked_add(LOOK_INTERVAL);
        self.timer = next.map(|at| reactor.schedule(at, self.key));
        if let Some(servers) = self.servers.look()
            && engine.send(engine::Command::SetNameservers(servers)).is_err()
        {
            // The engine's thread can't be started: send them again next time.
            self.servers = SystemResolvers::default();
        }
    }
}
