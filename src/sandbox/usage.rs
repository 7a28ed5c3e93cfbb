//! The callers that wait for what a sandbox uses: the keeper reports memory and processor time, init counts processes.
//!
//! One question answers all who ask meanwhile.

use std::mem;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::lifecycle::Tickets;

/// How long an answer is waited for; then the question is asked anew.
pub(super) const USAGE_TIMEOUT: Duration = Duration::from_secs(1);
/// The most callers that wait for one answer.
const MAX_WAITERS: usize = 1024;
/// More than gVisor lets there be: init has not counted.
const MAX_PROCESSES: u64 = 1 << 16;

/// The questions that are open.
#[derive(Debug, Default)]
pub(super) struct UsageQueries {
    usage: Vec<SyncSender<()>>,
    count: Option<ProcessCount>,
}

#[derive(Debug)]
struct ProcessCount {
    ticket: u32,
    asked: Instant,
    waiters: Vec<SyncSender<Option<u32>>>,
}

impl UsageQueries {
    /// Adds a waiter for the keeper's numbers. Whether the keeper is to be asked.
    pub(super) fn wait_for_usage(&mut self, waiter: SyncSender<()>) -> bool {
        if self.usage.len() >= MAX_WAITERS {
            return false;
        }
        self.usage.push(waiter);
        self.usage.len() == 1
    }

    /// The keeper has answered.
    pub(super) fn on_usage(&mut self) {
        for waiter in self.usage.drain(..) {
            // The receiver may be gone.
            let _ = waiter.try_send(());
        }
    }

    /// Adds a waiter for init's count of processes. The ticket to ask init with, if it is to be asked.
    pub(super) fn wait_for_count(
        &mut self,
        waiter: SyncSender<Option<u32>>,
        now: Instant,
        tickets: &mut Tickets,
    ) -> Option<u32> {
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

    /// Init's answer, if it is one to the question that is open. It is the sandbox's word.
    pub(super) fn on_count(&mut self, ticket: u32, processes: Option<u64>) {
        // A late answer to an earlier question, or an invented one.
        let Some(count) = self.count.take_if(|count| count.ticket == ticket) else { return };
        let processes =
            processes.filter(|count| *count <= MAX_PROCESSES).and_then(|count| u32::try_from(count).ok());
        for waiter in count.waiters {
            // The receiver may be gone.
            let _ = waiter.try_send(processes);
        }
    }

    /// The sandbox is ending: init's count isn't waited for any more. The keeper reports once more.
    pub(super) fn clear(&mut self) {
        self.count = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{TryRecvError, sync_channel};

    use super::*;

    #[test]
    fn one_question_answers_all_who_wait() {
        let mut queries = UsageQueries::default();
        let ((first, one), (second, other)) = (sync_channel(1), sync_channel(1));
        assert!(queries.wait_for_usage(first));
        assert!(!queries.wait_for_usage(second));
        queries.on_usage();
        assert_eq!((one.try_recv(), other.try_recv()), (Ok(()), Ok(())));
        queries.on_usage();
        assert_eq!(one.try_recv(), Err(TryRecvError::Disconnected));
        let waiter = || sync_channel(1).0;
        assert_eq!((0..2 * MAX_WAITERS).filter(|_| queries.wait_for_usage(waiter())).count(), 1);
        assert_eq!(queries.usage.len(), MAX_WAITERS);
    }

    #[test]
    fn processes_are_counted_anew_when_init_does_not_answer_and_lies_are_no_number() {
        let (mut queries, mut tickets, now) = (UsageQueries::default(), Tickets::default(), Instant::now());
        let ((first, one), (second, other)) = (sync_channel(1), sync_channel(1));
        let ticket = queries.wait_for_count(first, now, &mut tickets).unwrap();
        let later = queries.wait_for_count(second, now + USAGE_TIMEOUT, &mut tickets).unwrap();
        queries.on_count(ticket, Some(3));
        assert_eq!(one.try_recv(), Err(TryRecvError::Empty), "an answer to the old question");
        queries.on_count(later, Some(5));
        assert_eq!((one.try_recv(), other.try_recv()), (Ok(Some(5)), Ok(Some(5))));
        let (third, one) = sync_channel(1);
        let ticket = queries.wait_for_count(third, now, &mut tickets).unwrap();
        queries.on_count(ticket, Some(u64::MAX));
        assert_eq!(one.try_recv(), Ok(None));
    }
}
