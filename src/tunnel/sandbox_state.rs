//! What the tunnels know of one sandbox.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::counters::Counters;
use super::dial::Dialer;
use super::pace::Pace;
use super::settings::{Settings, Timeouts};
use crate::event::Reported;

/// How many of a sandbox's connections linger at once; further ones are reset. They count as open, among the connections
/// and among the descriptors.
const MAX_LINGERING: usize = 64;

/// How many bytes a sandbox's connections hold together before their TLS handshakes are over. Most handshakes' messages come
/// whole, and aren't held at all.
const MAX_HANDSHAKE_BYTES: usize = 8 << 20;

/// Called when the last connection has ended. Called on the engine's thread: it must not block.
pub(crate) type Drained = Box<dyn FnOnce() + Send>;

/// One sandbox: its settings, counters and dialer, and how many connections it has.
pub(super) struct SandboxState {
    timeouts: Timeouts,
    max_connections: usize,
    counters: Arc<Counters>,
    dialer: Dialer,
    pace: Pace,
    open: usize,
    lingering: usize,
    /// How many bytes connections hold before their TLS handshakes are over.
    handshake_bytes: usize,
    /// Which limits were reported lately.
    reported: Reported,
    /// No further connection is accepted.
    draining: bool,
    /// Called when the last connection has ended.
    drained: Option<Drained>,
    /// It has been removed, and its connections are being reset.
    ended: bool,
}

impl SandboxState {
    /// A sandbox without a connection.
    pub(super) fn new(settings: Settings, counters: Arc<Counters>) -> Self {
        let Settings { destination, sources, max_connections, rate, timeouts } = settings;
        Self {
            timeouts,
            max_connections,
            counters,
            dialer: Dialer::new(destination, sources),
            pace: Pace::new(rate),
            open: 0,
            lingering: 0,
            handshake_bytes: 0,
            reported: Reported::default(),
            draining: false,
            drained: None,
            ended: false,
        }
    }

    pub(super) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn dialer(&mut self) -> &mut Dialer {
        &mut self.dialer
    }

    /// How fast clients connect.
    pub(super) fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    /// How many connections are open, those that linger among them.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn has_room(&self) -> bool {
        self.open < self.max_connections
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Counts a connection that begins.
    pub(super) fn on_open(&mut self) {
        self.open += 1;
        self.counters.total.fetch_add(1, Ordering::Relaxed);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that has ended.
    pub(super) fn on_close(&mut self, lingering: bool) {
        self.open = self.open.saturating_sub(1);
        if lingering {
            self.lingering = self.lingering.saturating_sub(1);
        }
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        if self.open == 0
            && let Some(reply) = self.drained.take()
        {
            reply();
        }
    }

    /// Counts a connection that found no server, or whose client isn't allowed.
    pub(super) fn on_refused(&self) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether another connection may linger; if so, it is counted.
    pub(super) fn begin_linger(&mut self) -> bool {
        let has_room = self.lingering < MAX_LINGERING;
        self.lingering += usize::from(has_room);
        has_room
    }

    /// A connection whose TLS handshake isn't over holds `now` bytes, after `before`; false if all of them hold too much.
    pub(super) fn recount_handshakes(&mut self, before: usize, now: usize) -> bool {
        self.handshake_bytes = self.handshake_bytes.saturating_sub(before) + now;
        now <= before || self.handshake_bytes <= MAX_HANDSHAKE_BYTES
    }

    /// Accepts no further connection, and calls `reply` when the last one has ended.
    pub(super) fn drain(&mut self, reply: Drained) {
        self.draining = true;
        if self.open == 0 {
            reply();
        } else {
            self.drained = Some(reply);
        }
    }

    /// The sandbox has been removed.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether a limit is to be reported now: it wasn't lately.
    pub(super) fn is_news(&mut self, limit: &'static str, now: Instant) -> bool {
        self.reported.is_news(limit, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn state(max_connections: usize) -> SandboxState {
        SandboxState::new(Settings { max_connections, ..Settings::default() }, Arc::default())
    }

    #[test]
    fn a_drain_is_over_when_the_last_connection_has_ended() {
        for open in 0..3 {
            let mut state = state(10);
            (0..open).for_each(|_| state.on_open());
            let over = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&over);
            state.drain(Box::new(move || told.store(true, Ordering::Relaxed)));
            assert!(state.is_draining());
            for left in (0..open).rev() {
                assert!(!over.load(Ordering::Relaxed), "{left} are left");
                state.on_close(false);
            }
            assert!(over.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn connections_are_bounded_and_counted_and_so_are_those_that_linger() {
        let mut state = state(MAX_LINGERING + 10);
        let open = (0..).take_while(|_| state.has_room().then(|| state.on_open()).is_some()).count();
        assert_eq!((open, state.open()), (MAX_LINGERING + 10, MAX_LINGERING + 10));
        assert_eq!((0..open).filter(|_| state.begin_linger()).count(), MAX_LINGERING);
        state.on_close(false);
        assert!(!state.begin_linger());
        state.on_close(true);
        assert!(state.begin_linger() && !state.begin_linger() && state.has_room());
        let counters = state.counters();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((count(&counters.open), count(&counters.total)), (open as u64 - 2, open as u64));
    }
}
