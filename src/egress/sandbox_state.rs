//! What the protocols share about one sandbox: its policy, its limits, its counters.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::counters::Counters;
use super::quota::Quota;
use super::reporter::Reporter;
use super::settings::Settings;
use crate::event::Reported;
use crate::policy::Policy;

/// One sandbox, as all protocols see it.
#[derive(Debug)]
pub(super) struct SandboxState {
    policy: Arc<Policy>,
    /// The number under which the host knows the policy.
    generation: u64,
    settings: Settings,
    counters: Arc<Counters>,
    /// The flows that are open, and the connections that wait for their server's name.
    open: usize,
    quota: Quota,
    reporter: Reporter,
    /// The limits that were reported lately.
    reported: Reported,
}

impl SandboxState {
    pub(super) fn new(
        (policy, generation): (Arc<Policy>, u64),
        settings: Settings,
        counters: Arc<Counters>,
        quota: Quota,
        reporter: Reporter,
    ) -> Self {
        let reported = Reported::default();
        Self { policy, generation, settings, counters, open: 0, quota, reporter, reported }
    }

    pub(super) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn set_policy(&mut self, policy: Arc<Policy>, generation: u64) {
        self.policy = policy;
        self.generation = generation;
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn quota(&mut self) -> &mut Quota {
        &mut self.quota
    }

    pub(super) fn reporter(&mut self) -> &mut Reporter {
        &mut self.reporter
    }

    /// How many flows are open, with the connections that wait for their server's name.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Whether another flow may be opened.
    pub(super) fn has_room(&self) -> bool {
        self.open < self.settings.max_flows
    }

    /// Takes the place of a flow for a connection that isn't one yet.
    pub(super) fn reserve(&mut self) {
        self.open += 1;
    }

    /// Gives a reserved place back.
    pub(super) fn release(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Counts a flow that was let through.
    pub(super) fn opened(&mut self) {
        self.open += 1;
        self.counters.total.fetch_add(1, Ordering::Relaxed);
        self.counters.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a flow that has ended.
    pub(super) fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a limit is to be reported now: each is reported at most once in a while.
    pub(super) fn is_news(&mut self, limit: &'static str, now: Instant) -> bool {
        self.reported.is_news(limit, now)
    }
}
