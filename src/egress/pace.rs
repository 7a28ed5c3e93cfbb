//! How much of a sandbox may leave: at once, a second, and in all.
//!
//! - New flows beyond the rate are accepted and reset (datagrams of new UDP flows dropped).
//! - Bytes beyond the rate wait: nothing more is read until there is room, so the sender is slowed down.
//! - When the total is used up every flow is reset and no other is let through.
//! - Questions for names have a rate of their own: what is beyond waits in the kernel, which drops datagrams that find
//!   no room. What is asked upstream counts as bytes that pass.
//!
//! How much of the engine's time a sandbox gets isn't counted here: the reactor shares that out.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::bucket::Bucket;
use super::gate::Settings;
use super::outbound::Outbound;
use crate::pump::BUDGET;
use crate::reactor::{Key, Reactor, TimerId};

/// How many questions a sandbox's resolver takes in a second, and at once after it was silent. Far beyond what programs
/// ask that do anything with the answers.
const QUESTIONS: u64 = 1000;
/// How many flows may begin in a second over time, and at once after a quiet while, where the host says nothing. Each is
/// an entry in the tables of the machine (local ports in TIME_WAIT, connection tracking) for up to two minutes.
const NEW_FLOWS: u64 = 200;
const NEW_FLOWS_AT_ONCE: u64 = 2000;
/// How long flows wait at least for a rate: so many are resumed together.
const STEP: Duration = Duration::from_millis(10);

/// What a flow may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// Move so many bytes in each direction.
    Go(usize),
    /// Wait until the rate has room.
    Park,
    /// Nothing any more.
    Exhausted,
}

/// One sandbox's budgets.
#[derive(Debug)]
pub(super) struct Pace {
    flows: Bucket,
    bytes: Option<Bucket>,
    questions: Bucket,
    left: Option<u64>,
    parked: HashSet<Key>,
    timer: Option<TimerId>,
}

impl Pace {
    pub(super) fn new(settings: &Settings, now: Instant) -> Self {
        let bucket = |rate: Option<u64>| rate.map(|rate| Bucket::new(rate, now));
        Self {
            flows: bucket(settings.new_flows_per_second.map(u64::from))
                .unwrap_or_else(|| Bucket::with_burst(NEW_FLOWS, NEW_FLOWS_AT_ONCE, now)),
            bytes: bucket(settings.bytes_per_second),
            questions: Bucket::new(QUESTIONS, now),
            left: settings.total_bytes,
            parked: HashSet::new(),
            timer: None,
        }
    }

    /// Why another flow may not begin, if it may not; if it may, it is counted.
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), &'static str> {
        if self.left == Some(0) {
            return Err("are refused: the bytes that may pass in all are used up");
        }
        if self.flows.available(now) == 0 {
            return Err("are refused: as many began within a second as may");
        }
        self.flows.take(1);
        Ok(())
    }

    /// What a flow may do now.
    pub(super) fn allowance(&mut self, now: Instant) -> Allowance {
        let room = self.bytes.as_mut().map_or(u64::MAX, |bytes| bytes.available(now));
        match self.left.unwrap_or(u64::MAX).min(room) {
            _ if self.left == Some(0) => Allowance::Exhausted,
            0 => Allowance::Park,
            room => Allowance::Go(usize::try_from(room).unwrap_or(BUDGET).min(BUDGET)),
        }
    }

    /// How long another question has to wait: none if nothing.
    fn until_asking(&mut self, now: Instant) -> Option<Duration> {
        if self.questions.available(now) == 0 {
            return Some(self.questions.wait(1, now));
        }
        let bytes = self.bytes.as_mut().filter(|_| self.left != Some(0))?;
        (bytes.available(now) == 0).then(|| bytes.wait(1, now))
    }

    /// Whether nothing may pass any more.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left == Some(0)
    }

    /// So many bytes have passed. True if these were the last.
    pub(super) fn spend(&mut self, count: u64) -> bool {
        if let Some(bytes) = &mut self.bytes {
            bytes.take(count);
        }
        match &mut self.left {
            Some(left) if count > 0 => {
                *left = left.saturating_sub(count);
                *left == 0
            }
            _ => false,
        }
    }
}

impl Outbound {
    /// What a flow or a UDP listener of that sandbox may do now. If it is to wait, it is woken when that is over.
    pub(super) fn allowance(&mut self, reactor: &mut Reactor, sandbox: u64, key: Key) -> Option<usize> {
        let now = reactor.now();
        let gate = self.gates.get_mut(&sandbox)?;
        match gate.pace.allowance(now) {
            Allowance::Go(budget) => return Some(budget),
            Allowance::Park => {
                let wait = gate.pace.bytes.as_mut().map_or(STEP, |bytes| bytes.wait(1, now));
                self.park(reactor, sandbox, key, wait);
            }
            Allowance::Exhausted => {}
        }
        None
    }

    /// Whether a socket of that sandbox's resolver may take another question now. If not it is woken when it may.
    pub(super) fn may_ask(&mut self, reactor: &mut Reactor, sandbox: u64, key: Key) -> bool {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return false };
        let wait = gate.pace.until_asking(reactor.now());
        if let Some(wait) = wait {
            self.park(reactor, sandbox, key, wait);
        }
        wait.is_none()
    }

    /// A question was taken.
    pub(super) fn count_question(&mut self, sandbox: u64) {
        if let Some(gate) = self.gates.get_mut(&sandbox) {
            gate.pace.questions.take(1);
        }
    }

    /// Wakes a socket or a flow of that sandbox after a while.
    pub(super) fn park(&mut self, reactor: &mut Reactor, sandbox: u64, key: Key, wait: Duration) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        gate.pace.parked.insert(key);
        let at = reactor.now() + wait.max(STEP);
        if gate.pace.timer.is_none_or(|timer| timer.at() > at) {
            let timer = reactor.schedule(at, gate.teller);
            if let Some(later) = gate.pace.timer.replace(timer) {
                reactor.cancel(later);
            }
        }
    }

    /// Bytes of a flow of that sandbox have passed. If they were the last that may, everything is cut.
    pub(super) fn spend(&mut self, reactor: &mut Reactor, sandbox: u64, count: u64) {
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        if !gate.pace.spend(count) {
            return;
        }
        let what = "egress: the bytes that may pass in all are used up; its connections are reset, further ones refused";
        self.report_once(sandbox, what, || what.to_owned());
        self.end_flows(reactor, sandbox);
    }

    /// Flows that waited for a rate go on.
    pub(super) fn resume(&mut self, reactor: &mut Reactor, sandbox: u64) {
        let now = reactor.now();
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        if gate.pace.timer.is_some_and(|timer| timer.at() <= now) {
            gate.pace.timer = None;
            gate.pace.parked.drain().for_each(|key| reactor.again(key));
        }
    }

    /// The sandbox is no more.
    pub(super) fn forget_pace(&mut self, reactor: &mut Reactor, sandbox: u64) {
        if let Some(timer) = self.gates.get_mut(&sandbox).and_then(|gate| gate.pace.timer.take()) {
            reactor.cancel(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            new_flows_per_second: Some(2),
            bytes_per_second: Some(1000),
            total_bytes: Some(3000),
            ..Settings::default()
        }
    }

    #[test]
    fn each_budget_has_its_own_end() {
        let start = Instant::now();
        let mut pace = Pace::new(&settings(), start);
        assert!(pace.begin(start).is_ok() && pace.begin(start).is_ok());
        assert!(pace.begin(start).unwrap_err().contains("within a second"));
        assert!(pace.begin(start + Duration::from_millis(500)).is_ok());
        assert_eq!(pace.allowance(start), Allowance::Go(1000));
        assert!(!pace.spend(1000));
        assert_eq!(pace.allowance(start), Allowance::Park);
        let later = start + Duration::from_secs(1);
        assert_eq!(pace.allowance(later), Allowance::Go(1000));
        assert!(pace.spend(2000), "these are the last");
        assert_eq!(pace.allowance(later + Duration::from_secs(9)), Allowance::Exhausted);
        assert!(pace.begin(later).unwrap_err().contains("in all"));
    }

    #[test]
    fn questions_have_a_rate_of_their_own_and_wait_for_that_of_bytes() {
        let start = Instant::now();
        let mut pace = Pace::new(&settings(), start);
        for _ in 0..QUESTIONS {
            assert_eq!(pace.until_asking(start), None);
            pace.questions.take(1);
        }
        assert_eq!(pace.until_asking(start), Some(Duration::from_millis(1)));
        let later = start + Duration::from_secs(2);
        assert_eq!(pace.until_asking(later), None);
        pace.spend(2000);
        assert_eq!(pace.until_asking(later), Some(Duration::from_millis(1001)));
        // When there is nothing left to wait for they are taken, and refused.
        assert!(pace.spend(1000) && pace.is_exhausted());
        assert_eq!(pace.until_asking(later), None);
    }

    #[test]
    fn flows_have_a_rate_by_default() {
        let start = Instant::now();
        let mut pace = Pace::new(&Settings::default(), start);
        let begun = (0..10_000).filter(|_| pace.begin(start).is_ok()).count();
        let later = start + Duration::from_secs(5);
        let then = (0..10_000).filter(|_| pace.begin(later).is_ok()).count();
        assert_eq!((begun, then), (2000, 1000));
    }
}
