//! One sandbox's way out: what it may reach at the moment, and its limits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::counters::Counters;
use super::dns::Names;
use super::pace::Pace;
use super::udp::Table;
use crate::config::EgressLimits;
use crate::event::Reported;
use crate::policy::Policy;
use crate::reactor::{Admission, Key};

/// Limits and time-outs of a sandbox's flows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The most flows that may be open at once; further ones are reset at once.
    pub(crate) max_flows: usize,
    /// How many flows may begin within a second; `None` is the default ([`super::pace`]).
    pub(crate) new_flows_per_second: Option<u32>,
    /// How many bytes may pass in a second, both directions together.
    pub(crate) bytes_per_second: Option<u64>,
    /// How many bytes may pass in all.
    pub(crate) total_bytes: Option<u64>,
    /// How long a connection may take to be accepted at the far end. Until then the sandbox believes that it
    /// is connected; then it is reset.
    pub(crate) connect: Duration,
    /// How long a connection that is ended in one direction may be silent. One that isn't may be silent for
    /// ever: the kernel asks both ends whether they are still there.
    pub(crate) half_closed: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_flows: 16_384,
            new_flows_per_second: None,
            bytes_per_second: None,
            total_bytes: None,
            connect: Duration::from_secs(30),
            half_closed: Duration::from_secs(3600),
        }
    }
}

impl Settings {
    /// By a sandbox's budgets.
    pub(crate) fn of(limits: EgressLimits) -> Self {
        let default = Self::default();
        let flows = limits.max_flows.and_then(|flows| usize::try_from(flows).ok());
        Self {
            max_flows: flows.unwrap_or(default.max_flows),
            new_flows_per_second: limits.new_flows_per_second,
            bytes_per_second: limits.bytes_per_second,
            total_bytes: limits.total_bytes,
            ..default
        }
    }
}

/// What is known of a sandbox.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) policy: Arc<Policy>,
    /// The number of the policy, as the host was told.
    pub(super) generation: u64,
    pub(super) settings: Settings,
    pub(super) counters: Arc<Counters>,
    /// Its listeners, for its end.
    pub(super) listeners: Vec<Key>,
    /// Its UDP flows.
    pub(super) udp: Table,
    /// Its resolver.
    pub(super) names: Names,
    /// What tells of its denials.
    pub(super) teller: Key,
    /// The flows that are open now.
    pub(super) open: usize,
    /// The memory that its connections take whose server isn't known yet.
    pub(super) greetings: usize,
    /// Its budgets.
    pub(super) pace: Pace,
    /// Its place among those that share the local ports for UDP.
    pub(super) _ports: Option<Admission>,
    /// Which limits were reported lately.
    pub(super) reported: Reported,
}

impl Gate {
    /// Whether another flow may be opened.
    pub(super) fn has_room(&self) -> bool {
        self.open < self.settings.max_flows
    }

    /// A flow was let through.
    pub(super) fn opened(&mut self) {
        self.open += 1;
        self.counters.total.fetch_add(1, Ordering::Relaxed);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A flow has ended.
    pub(super) fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}
