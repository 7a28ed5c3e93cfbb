//! What a sandbox uses and has done, in numbers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{Command, Control, Sandbox, Shared, State};
use crate::error::{Code, Error, Result};
use crate::event::operation::{Completion, Notice, Operation};
use crate::event::{EventKind, Queue};
use crate::keeper::wire::keeper::Usage;

/// How long an answer is waited for; then the question is asked anew.
pub(crate) const USAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a sandbox uses and has done. `None` is what isn't known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// From the program's start to its end or to now.
    pub uptime: Duration,
    /// Processor time of all its processes on the host, gVisor's own included.
    pub cpu: Option<Duration>,
    /// What the library's threads have spent on it: on its tunnels, what it reaches, its streams and files. Time that
    /// has passed, so waiting for a processor counts. No sandbox gets more of a thread's time than another that has
    /// something to do.
    pub library_time: Duration,
    /// Memory on the host in bytes: the programs', their files in memory, and gVisor's own.
    pub memory: Option<u64>,
    /// The most memory it ever had.
    pub memory_peak: Option<u64>,
    /// Processes inside, without the library's own. The sandbox's word: init counts them.
    pub processes: Option<u32>,
    /// Connections through its tunnels that are open now.
    pub tunnel_connections: u32,
    /// Connections through its tunnels that were accepted since its start.
    pub tunnel_connections_total: u64,
    /// Bytes from the tunnels' clients to the sandbox.
    pub tunnel_bytes_in: u64,
    /// Bytes from the sandbox to the tunnels' clients.
    pub tunnel_bytes_out: u64,
    /// Connections and UDP flows to outside that are open now.
    pub egress_flows: u32,
    /// Connections and UDP flows to outside since its start.
    pub egress_flows_total: u64,
    /// Bytes from outside to the sandbox by those flows.
    pub egress_bytes_in: u64,
    /// Bytes from the sandbox to outside by those flows.
    pub egress_bytes_out: u64,
    /// What was denied: flows by the library's verdict, packets by the gateway's rules.
    pub egress_denied: u64,
    /// Questions to its resolver.
    pub dns_queries: u64,
    /// Those of them that the policy didn't let be asked.
    pub dns_refused: u64,
}

/// Statistics that are being gathered. They are complete when the keeper and init have both answered, or can't, or when
/// their time is over: what isn't known then is left out.
#[derive(Debug)]
pub(crate) struct Gathering {
    shared: Arc<Shared>,
    /// Whether the keeper has answered.
    is_reported: AtomicBool,
    processes: Mutex<Option<u32>>,
    completion: Mutex<Option<Completion<Stats>>>,
}

impl Gathering {
    /// The keeper's answer is what is known of the sandbox.
    pub(super) fn reported(&self) {
        self.is_reported.store(true, Ordering::Release);
    }

    /// Init's answer.
    pub(super) fn counted(&self, processes: Option<u32>) {
        *self.processes.lock().unwrap_or_else(PoisonError::into_inner) = processes;
    }

    /// Completes them with what is known now, if that was not done before.
    pub(crate) fn finish(&self) {
        let completion = self.completion.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(completion) = completion {
            let processes = *self.processes.lock().unwrap_or_else(PoisonError::into_inner);
            let is_reported = self.is_reported.load(Ordering::Acquire);
            completion.complete(Ok(read(&self.shared, is_reported, processes)));
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.finish();
    }
}

/// What is known of a sandbox. While it runs, an earlier report of the keeper's doesn't count.
fn read(shared: &Shared, is_reported: bool, processes: Option<u32>) -> Stats {
    let (uptime, usage) = {
        let facts = shared.facts();
        let end = facts.stopped.unwrap_or_else(Instant::now);
        let until = |started: Instant| end.saturating_duration_since(started);
        let ended = facts.exit.map(|exit| exit.runtime);
        let is_known = is_reported || facts.state != State::Running;
        let usage = if is_known { facts.usage } else { Usage::default() };
        (ended.or_else(|| facts.started.map(until)).unwrap_or_default(), usage)
    };
    let (counters, egress) = (&shared.counters, &shared.egress);
    Stats {
        uptime,
        cpu: usage.cpu_us.map(Duration::from_micros),
        library_time: Duration::from_nanos(shared.time.load(Ordering::Relaxed)),
        memory: usage.memory,
        memory_peak: usage.memory_peak,
        processes,
        tunnel_connections: u32::try_from(counters.open.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
        tunnel_connections_total: counters.total.load(Ordering::Relaxed),
        tunnel_bytes_in: counters.bytes_in.load(Ordering::Relaxed),
        tunnel_bytes_out: counters.bytes_out.load(Ordering::Relaxed),
        egress_flows: u32::try_from(egress.open.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
        egress_flows_total: egress.total.load(Ordering::Relaxed),
        egress_bytes_in: egress.bytes_in.load(Ordering::Relaxed),
        egress_bytes_out: egress.bytes_out.load(Ordering::Relaxed),
        egress_denied: egress.denied.load(Ordering::Relaxed) + egress.refused.load(Ordering::Relaxed),
        dns_queries: egress.questions.load(Ordering::Relaxed),
        dns_refused: egress.refused_names.load(Ordering::Relaxed),
    }
}

impl Sandbox {
    /// What it uses and has done; of an ended one, what it had used. The kernel is asked anew each time.
    pub fn stats(&self) -> Result<Stats> {
        wait_for_stats(self.shared(), self.control(), self.state() == State::Running)
    }

    /// Begins to find that out and returns at once. With a queue its end is an event (`OperationDone`) there, with that
    /// cookie.
    pub fn stats_begin(&self, events: Option<(&Queue, u64)>) -> Result<Operation<Stats>> {
        let notice = Notice::new(events, EventKind::OperationDone, |_| [0; 2])?;
        let (operation, _) = gather(self.shared(), self.control(), self.state() == State::Running);
        operation.notify(notice);
        Ok(operation)
    }
}

/// Waits for statistics. `asks` says that the sandbox can be asked.
pub(super) fn wait_for_stats(shared: &Arc<Shared>, control: &Control, asks: bool) -> Result<Stats> {
    let (operation, gathering) = gather(shared, control, asks);
    match operation.wait(Some(USAGE_TIMEOUT)) {
        Err(error) if error.code() == Code::TimedOut => {}
        result => return result.map(|stats| *stats),
    }
    // A control thread that is held up itself: a caller that asked for numbers is better off without than held up.
    if let Some(gathering) = gathering.upgrade() {
        gathering.finish();
    }
    operation.wait(None).map(|stats| *stats)
}

/// Has the keeper say what the sandbox uses, and init how many processes there are. Both take a fraction of a
/// millisecond where nothing is wrong.
fn gather(shared: &Arc<Shared>, control: &Control, asks: bool) -> (Operation<Stats>, Weak<Gathering>) {
    let shared = Arc::clone(shared);
    let title = format!("asking what sandbox {} uses", shared.id);
    let lost = Error::new(Code::Internal, "statistics were lost");
    let (operation, completion) = Operation::new(title, lost);
    let number = shared.number;
    let (processes, completion) = (Mutex::new(None), Mutex::new(Some(completion)));
    let is_reported = AtomicBool::new(false);
    let gathering = Arc::new(Gathering { shared, is_reported, processes, completion });
    let weak = Arc::downgrade(&gathering);
    if asks {
        // Who can't be asked is ending: what is known already has to do.
        let _ = control.send(Command::Measure(number, gathering));
    }
    (operation, weak)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::runsc::command::SandboxId;

    #[test]
    fn what_the_keeper_has_not_reported_this_time_is_unknown_while_the_sandbox_runs() {
        let shared = Shared::new(1, SandboxId::random().unwrap(), Config::new()).unwrap();
        let usage = Usage { cpu_us: Some(5), memory: Some(6), memory_peak: Some(7) };
        shared.update(|facts| (facts.state, facts.usage) = (State::Running, usage));
        let stats = read(&shared, false, Some(2));
        assert_eq!((stats.cpu, stats.memory, stats.memory_peak), (None, None, None));
        assert_eq!(stats.processes, Some(2));
        assert_eq!(read(&shared, true, None).memory, Some(6));
        shared.update(|facts| facts.state = State::Ending);
        assert_eq!(read(&shared, false, None).memory_peak, Some(7), "the last report is the final one");
    }
}
