//! Watches which name servers the host asks, and tells the engine. Reading the file may block, which the engine's thread
//! mustn't.

use std::time::Duration;

use crate::egress::SystemResolvers;
use crate::engine;
use crate::reactor::{Key, Kind, Reactor, Slab, TimerId};

/// How often the file is looked at while a sandbox depends on it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The timer that looks at the host's resolv.conf.
#[derive(Debug)]
pub(super) struct ServerWatch {
    servers: SystemResolvers,
    key: Key,
    timer: Option<TimerId>,
}

impl ServerWatch {
    /// Its wake-ups come with a key of this kind.
    pub(super) fn new(kind: Kind) -> Self {
        Self { servers: SystemResolvers::default(), key: Slab::new(kind).insert(()), timer: None }
    }

    /// A sandbox is about to begin that asks the host's servers: looks at once, unless that is done regularly.
    pub(super) fn start(&mut self, reactor: &mut Reactor, engine: &engine::Handle) {
        if self.timer.is_none() {
            self.look(reactor, engine);
        }
    }

    /// The timer has run out. Looks again, if a sandbox still asks those servers.
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
            // The engine's thread can't be started: it learns of them when it can.
            self.servers = SystemResolvers::default();
        }
    }
}
