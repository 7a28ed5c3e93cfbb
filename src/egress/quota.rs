//! How much of a sandbox's traffic may pass: at once, in a second, and in total.
//!
//! - New flows beyond the rate are accepted and reset (datagrams of new UDP flows are dropped).
//! - Bytes beyond the rate wait: nothing more is read until there is room, which slows the sender down.
//! - When the total is used up every flow is reset and no other is let through.
//! - DNS questions have a rate of their own: those beyond it wait in the kernel, which drops datagrams that find
//!   no room. What is sent to upstream servers counts as bytes that pass.
//!
//! How much of the engine's time a sandbox gets isn't counted here: the reactor shares that out.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::bucket::Bucket;
use super::limit::LimitKind;
use super::settings::Settings;
use crate::pump::BUDGET;
use crate::reactor::{Key, Reactor, TimerId};

/// How many questions a sandbox's resolver takes in a second, and at once after it was silent. Far beyond what programs
/// ask that do anything with the answers.
const QUESTIONS: u64 = 1000;
/// How many flows may begin in a second over time, and at once after a quiet while, if the configuration doesn't say. Each
/// is an entry in the tables of the machine (local ports in TIME_WAIT, connection tracking) for up to two minutes.
const NEW_FLOWS: u64 = 200;
const NEW_FLOWS_AT_ONCE: u64 = 2000;
/// How long throttled flows wait at least, so that many are resumed together.
const MIN_WAIT: Duration = Duration::from_millis(10);

/// What a flow may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// Move so many bytes in each direction.
    Go(usize),
    /// Wait so long for the rate.
    Wait(Duration),
    /// Nothing, ever again.
    Exhausted,
}

/// One sandbox's quotas.
#[derive(Debug)]
pub(super) struct Quota {
    flows: Bucket,
    bytes: Option<Bucket>,
    questions: Bucket,
    /// What is left of the total.
    left: Option<u64>,
    /// The sockets and flows that wait for a rate.
    throttled: HashSet<Key>,
    /// The key of the timer that wakes them.
    key: Key,
    timer: Option<TimerId>,
}

impl Quota {
    /// Full quotas. `key` is the one that the reactor is to wake.
    pub(super) fn new(settings: &Settings, now: Instant, key: Key) -> Self {
        let bucket = |rate: Option<u64>| rate.map(|rate| Bucket::new(rate, now));
        Self {
            flows: bucket(settings.new_flows_per_second.map(u64::from))
                .unwrap_or_else(|| Bucket::with_burst(NEW_FLOWS, NEW_FLOWS_AT_ONCE, now)),
            bytes: bucket(settings.bytes_per_second),
            questions: Bucket::new(QUESTIONS, now),
            left: settings.total_bytes,
            throttled: HashSet::new(),
            key,
            timer: None,
        }
    }

    /// The key that the reactor wakes for it.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Counts a flow that begins, or returns the limit that forbids it.
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), LimitKind<'static>> {
        if self.left == Some(0) {
            return Err(LimitKind::TotalBytesBefore);
        }
        if self.flows.available(now) == 0 {
            return Err(LimitKind::NewFlows);
        }
        self.flows.take(1);
        Ok(())
    }

    /// What a flow may do now.
    pub(super) fn allowance(&mut self, now: Instant) -> Allowance {
        let room = self.bytes.as_mut().map_or(u64::MAX, |bytes| bytes.available(now));
        match self.left.unwrap_or(u64::MAX).min(room) {
            _ if self.left == Some(0) => Allowance::Exhausted,
            0 => Allowance::Wait(self.bytes.as_mut().map_or(MIN_WAIT, |bytes| bytes.wait(1, now))),
            room => Allowance::Go(usize::try_from(room).unwrap_or(BUDGET).min(BUDGET)),
        }
    }

    /// How long the next question has to wait, if it has to.
    pub(super) fn until_question(&mut self, now: Instant) -> Option<Duration> {
        if self.questions.available(now) == 0 {
            return Some(self.questions.wait(1, now));
        }
        let bytes = self.bytes.as_mut().filter(|_| self.left != Some(0))?;
        (bytes.available(now) == 0).then(|| bytes.wait(1, now))
    }

    /// Counts a question.
    pub(super) fn count_question(&mut self) {
        self.questions.take(1);
    }

    /// Whether the total is used up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left == Some(0)
    }

    /// Counts bytes that have passed. True if they were the last of the total.
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

    /// Wakes a socket or a flow after a while.
    pub(super) fn throttle(&mut self, reactor: &mut Reactor, key: Key, wait: Duration) {
        self.throttled.insert(key);
        let at = reactor.now() + wait.max(MIN_WAIT);
        if self.timer.is_none_or(|timer| timer.at() > at) {
            let timer = reactor.schedule(at, self.key);
            if let Some(later) = self.timer.replace(timer) {
                reactor.cancel(later);
            }
        }
    }

    /// Wakes what waited for a rate, when its time has come.
    pub(super) fn requeue_throttled(&mut self, reactor: &mut Reactor) {
        if self.timer.is_some_and(|timer| timer.at() <= reactor.now()) {
            self.timer = None;
            self.throttled.drain().for_each(|key| reactor.reschedule(key));
        }
    }

    /// Takes the timer back: the sandbox is being removed.
    pub(super) fn cancel(&mut self, reactor: &mut Reactor) {
        if let Some(timer) = self.timer.take() {
            reactor.cancel(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::kinds::QUOTA;
    use crate::reactor::{Slab, Wake};

    fn quota(settings: &Settings, now: Instant) -> Quota {
        Quota::new(settings, now, Slab::new(QUOTA).insert(()))
    }

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
        let mut quota = quota(&settings(), start);
        assert!(quota.begin(start).is_ok() && quota.begin(start).is_ok());
        assert!(quota.begin(start).unwrap_err().text().contains("within a second"));
        assert!(quota.begin(start + Duration::from_millis(500)).is_ok());
        assert_eq!(quota.allowance(start), Allowance::Go(1000));
        assert!(!quota.spend(1000));
        assert_eq!(quota.allowance(start), Allowance::Wait(Duration::from_millis(1)));
        let later = start + Duration::from_secs(1);
        assert_eq!(quota.allowance(later), Allowance::Go(1000));
        assert!(quota.spend(2000), "these are the last");
        assert_eq!(quota.allowance(later + Duration::from_secs(9)), Allowance::Exhausted);
        assert!(quota.begin(later).unwrap_err().text().contains("in all"));
    }

    #[test]
    fn questions_have_a_rate_of_their_own_and_wait_for_that_of_bytes() {
        let start = Instant::now();
        let mut quota = quota(&settings(), start);
        for _ in 0..QUESTIONS {
            assert_eq!(quota.until_question(start), None);
            quota.count_question();
        }
        assert_eq!(quota.until_question(start), Some(Duration::from_millis(1)));
        let later = start + Duration::from_secs(2);
        assert_eq!(quota.until_question(later), None);
        quota.spend(2000);
        assert_eq!(quota.until_question(later), Some(Duration::from_millis(1001)));
        // When there is nothing left to wait for they are taken, and refused.
        assert!(quota.spend(1000) && quota.is_exhausted());
        assert_eq!(quota.until_question(later), None);
    }

    #[test]
    fn flows_have_a_rate_by_default() {
        let start = Instant::now();
        let mut quota = quota(&Settings::default(), start);
        let begun = (0..10_000).filter(|_| quota.begin(start).is_ok()).count();
        let later = start + Duration::from_secs(5);
        let then = (0..10_000).filter(|_| quota.begin(later).is_ok()).count();
        assert_eq!((begun, then), (2000, 1000));
    }

    #[test]
    fn what_waits_for_a_rate_is_woken_together_when_its_time_has_come() {
        let mut reactor = Reactor::new().unwrap();
        let mut flows = Slab::new(crate::egress::kinds::TCP_FLOW);
        let keys = [flows.insert(()), flows.insert(())];
        let timer = Slab::new(QUOTA).insert(());
        let mut quota = Quota::new(&settings(), reactor.now(), timer);
        quota.throttle(&mut reactor, keys[0], Duration::from_secs(100));
        quota.throttle(&mut reactor, keys[1], Duration::ZERO);
        quota.throttle(&mut reactor, keys[1], Duration::from_secs(9));
        quota.requeue_throttled(&mut reactor);
        assert_eq!(quota.throttled.len(), 2, "it is not time yet");
        reactor.turn(None).unwrap();
        assert!(matches!(reactor.next(), Some(Wake::Timer(key)) if key == timer));
        quota.requeue_throttled(&mut reactor);
        reactor.turn(None).unwrap();
        let mut woken: Vec<Key> = std::iter::from_fn(|| reactor.next()).map(|wake| wake.key()).collect();
        woken.sort();
        assert_eq!(woken, keys);
        quota.throttle(&mut reactor, keys[0], Duration::ZERO);
        quota.cancel(&mut reactor);
        reactor.turn(Some(2 * MIN_WAIT)).unwrap();
        assert!(reactor.next().is_none(), "the timer was taken back");
    }
}
