//! How many processes there are in a sandbox: init is asked. What it says is the sandbox's word.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::life::{Bench, Life};
use super::stats::Gathering;
use crate::keeper::wire::init::Request;

/// How long an answer is waited for; then the question is asked anew.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// The most callers that wait for one answer.
const CURIOUS: usize = 1024;
/// More than gVisor lets there be: who says so has not counted.
const MOST: u64 = 1 << 16;

/// The question that is open, and who asked.
#[derive(Debug)]
pub(super) struct Counting {
    ticket: u32,
    asked: Instant,
    curious: Vec<Arc<Gathering>>,
}

impl Life {
    /// Somebody wants to know. One question to init answers all who ask meanwhile.
    pub(crate) fn count(&mut self, bench: &mut Bench<'_>, curious: Arc<Gathering>) {
        if !self.is_running() {
            return;
        }
        let now = Instant::now();
        let mut all = Vec::new();
        if let Some(counting) = &mut self.counting {
            if counting.curious.len() < CURIOUS {
                counting.curious.push(curious);
            }
            if now.saturating_duration_since(counting.asked) < PATIENCE {
                return;
            }
            // Who came late to the old question has the new one's answer.
            all = mem::take(&mut counting.curious);
        } else {
            all.push(curious);
        }
        let ticket = self.ticket();
        self.counting = Some(Counting { ticket, asked: now, curious: all });
        self.ask_init(bench, &Request::Count { ticket });
    }

    /// Init's answer, if it is one to the question that is open.
    pub(super) fn counted(&mut self, ticket: u32, processes: Option<u64>) {
        let Some(counting) = self.counting.take_if(|counting| counting.ticket == ticket) else { return };
        let processes = processes.filter(|count| *count <= MOST).and_then(|count| u32::try_from(count).ok());
        for curious in counting.curious {
            curious.counted(processes);
        }
    }
}
