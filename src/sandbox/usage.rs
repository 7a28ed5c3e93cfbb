//! The callers that wait for what a sandbox uses: the keeper reports memory and processor time, init counts processes.
//!
//! One question answers all who ask meanwhile.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::lifecycle::Tickets;
use super::stats::{Gathering, USAGE_TIMEOUT};

/// The most callers that wait for one answer.
const MAX_WAITERS: usize = 1024;
/// More than gVisor lets there be: init has not counted.
const MAX_PROCESSES: u64 = 1 << 16;

/// The questions that are open. A waiter is dropped once its question is answered, or can't be.
#[derive(Debug)]
pub(super) struct UsageQueries<W = Arc<Gathering>> {
    usage: Vec<W>,
    /// When the keeper was asked, until it answers.
    usage_asked: Option<Instant>,
    count: Option<ProcessCount<W>>,
}

impl<W> Default for UsageQueries<W> {
    fn default() -> Self {
        Self { usage: Vec::new(), usage_asked: None, count: None }
    }
}

#[derive(Debug)]
struct ProcessCount<W> {
    ticket: u32,
    asked: Instant,
    waiters: Vec<W>,
}

impl<W> UsageQueries<W> {
    /// Adds a waiter for the keeper's numbers. Whether the keeper is to be asked: its answer may be lost.
    pub(super) fn wait_for_usage(&mut self, waiter: W, now: Instant) -> bool {
        if self.usage.len() < MAX_WAITERS {
            self.usage.push(waiter);
        }
        if self.usage_asked.is_some_and(|asked| now.saturating_duration_since(asked) < USAGE_TIMEOUT) {
            return false;
        }
        self.usage_asked = Some(now);
        true
    }

    /// The keeper has answered: those who waited for it.
    pub(super) fn on_usage(&mut self) -> Vec<W> {
        self.usage_asked = None;
        mem::take(&mut self.usage)
    }

    /// Adds a waiter for init's count of processes. The ticket to ask init with, if it is to be asked.
    pub(super) fn wait_for_count(&mut self, waiter: W, now: Instant, tickets: &mut Tickets) -> Option<u32> {
        let mut waiters = Vec::new();
        if let Some(count) = &mut self.count {
            if count.waiters.len() < MAX_WAITERS {
                count.waiters.push(waiter);
            }
            if now.saturating_duration_since(count.asked) < USAGE_TIMEOUT {
                return None;
            }
            // Those who came late to the old question get the new one's answer.
            waiters = mem::take(&mut count.waiters);
        } else {
            waiters.push(waiter);
        }
        let ticket = tickets.next();
        self.count = Some(ProcessCount { ticket, asked: now, waiters });
        Some(ticket)
    }

    /// Init's answer, and those who waited for it. It is the sandbox's word: a late answer to an earlier question, or an
    /// invented one, is for nobody.
    pub(super) fn on_count(&mut self, ticket: u32, processes: Option<u64>) -> (Vec<W>, Option<u32>) {
        let Some(count) = self.count.take_if(|count| count.ticket == ticket) else {
            return (Vec::new(), None);
        };
        let processes =
            processes.filter(|count| *count <= MAX_PROCESSES).and_then(|count| u32::try_from(count).ok());
        (count.waiters, processes)
    }

    /// The sandbox is ending: init's count isn't waited for any more. The keeper reports once more.
    pub(super) fn clear(&mut self) {
        self.count = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_answers_all_who_wait() {
        let mut queries = UsageQueries::default();
        let (waiter, now) = (Arc::new(()), Instant::now());
        assert!(queries.wait_for_usage(Arc::clone(&waiter), now));
        assert!(!queries.wait_for_usage(Arc::clone(&waiter), now));
        assert_eq!(queries.on_usage().len(), 2);
        let asks = (0..2 * MAX_WAITERS).filter(|_| queries.wait_for_usage(Arc::clone(&waiter), now)).count();
        assert_eq!(asks, 1);
        assert_eq!(queries.usage.len(), MAX_WAITERS);
    }

    #[test]
    fn the_keeper_is_asked_anew_when_it_does_not_answer() {
        let (mut queries, now) = (UsageQueries::default(), Instant::now());
        assert!(queries.wait_for_usage("one", now));
        assert!(!queries.wait_for_usage("same", now + USAGE_TIMEOUT / 2));
        assert!(queries.wait_for_usage("other", now + USAGE_TIMEOUT));
        assert!(!queries.wait_for_usage("its", now + USAGE_TIMEOUT));
        assert_eq!(queries.on_usage(), ["one", "same", "other", "its"], "one answer is for all");
        assert!(queries.wait_for_usage("next", now + USAGE_TIMEOUT));
    }

    #[test]
    fn processes_are_counted_anew_when_init_does_not_answer_and_lies_are_no_number() {
        let (mut queries, mut tickets, now) = (UsageQueries::default(), Tickets::default(), Instant::now());
        let ticket = queries.wait_for_count("one", now, &mut tickets).unwrap();
        assert_eq!(queries.wait_for_count("same", now, &mut tickets), None);
        let later = queries.wait_for_count("other", now + USAGE_TIMEOUT, &mut tickets).unwrap();
        assert_eq!(queries.on_count(ticket, Some(3)), (vec![], None), "an answer to the old question");
        assert_eq!(queries.on_count(later, Some(5)), (vec!["one", "same", "other"], Some(5)));
        let ticket = queries.wait_for_count("third", now, &mut tickets).unwrap();
        assert_eq!(queries.on_count(ticket, Some(u64::MAX)), (vec!["third"], None));
    }
}
