//! Whether the server inside is ready: asked until it is.

use std::time::{Duration, Instant};

/// How long the answer to one question may take; then it is asked anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How a sandbox is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeSettings {
    /// The pause between a refusal and the next question.
    pub(crate) interval: Duration,
    /// By a command in the sandbox, which is killed when its time is over.
    pub(crate) by_command: bool,
    /// It is probed without anybody waiting for it.
    pub(crate) from_start: bool,
}

/// What is known of the questions.
#[cfg_attr(test, derive(Clone))]
#[derive(Debug)]
pub(super) struct Probe {
    settings: Option<ProbeSettings>,
    /// The host waits for the answer.
    is_wanted: bool,
    is_ready: bool,
    current: Option<Current>,
}

/// A question that is open, or the pause after one.
#[derive(Clone, Copy, Debug)]
struct Current {
    ticket: u32,
    deadline: Instant,
    is_asked: bool,
}

impl Probe {
    pub(super) fn new(settings: Option<ProbeSettings>) -> Self {
        let is_wanted = settings.is_some_and(|settings| settings.from_start);
        Self { settings, is_wanted, is_ready: false, current: None }
    }

    /// The host waits for the answer.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Whether the first question is to be asked now. The sandbox runs.
    pub(super) fn is_due_first(&self) -> bool {
        self.settings.is_some() && self.is_wanted && !self.is_ready && self.current.is_none()
    }

    /// Whether it is time to ask again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| now >= at)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.current.map(|current| current.deadline)
    }

    /// Asks, with this ticket. Returns that of a command which hasn't answered and is to be killed.
    pub(super) fn ask(&mut self, now: Instant, ticket: u32) -> Option<u32> {
        let unanswered = self.current.take().filter(|current| current.is_asked);
        self.wait(now, ANSWER_TIMEOUT, ticket, true);
        let by_command = self.settings.is_some_and(|settings| settings.by_command);
        unanswered.filter(|_| by_command).map(|current| current.ticket)
    }

    /// An answer, which may be to no question. Whether the server has become ready.
    pub(super) fn answered(&mut self, now: Instant, ticket: u32, ready: bool) -> bool {
        if self.current.take_if(|current| current.is_asked && current.ticket == ticket).is_none() {
            return false;
        }
        self.is_ready |= ready;
        if !ready {
            let interval = self.settings.map_or(ANSWER_TIMEOUT, |settings| settings.interval);
            self.wait(now, interval, ticket, false);
        }
        ready
    }

    /// The sandbox is ending.
    pub(super) fn clear(&mut self) {
        self.current = None;
    }

    fn wait(&mut self, now: Instant, time: Duration, ticket: u32, is_asked: bool) {
        self.current = now.checked_add(time).map(|deadline| Current { ticket, deadline, is_asked });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);
    const SETTINGS: ProbeSettings =
        ProbeSettings { interval: INTERVAL, by_command: false, from_start: false };

    #[test]
    fn nothing_is_asked_that_nobody_wants_to_know() {
        let mut probe = Probe::new(Some(SETTINGS));
        assert!(!probe.is_due_first());
        probe.want();
        assert!(probe.is_due_first());
        assert!(Probe::new(Some(ProbeSettings { from_start: true, ..SETTINGS })).is_due_first());
        let mut nothing = Probe::new(None);
        nothing.want();
        assert!(!nothing.is_due_first());
    }

    #[test]
    fn a_question_is_asked_again_after_the_interval_until_the_answer_is_yes() {
        let (mut probe, now) = (Probe::new(Some(SETTINGS)), Instant::now());
        probe.want();
        assert_eq!(probe.ask(now, 7), None);
        assert!(!probe.is_due_first());
        assert!(!probe.answered(now, 8, true), "an answer to another question");
        assert!(!probe.answered(now, 7, false));
        assert!(!probe.answered(now, 7, true), "each is answered once");
        assert!(!probe.is_due(now) && probe.is_due(now + INTERVAL));
        assert_eq!(probe.ask(now, 9), None);
        assert!(probe.answered(now, 9, true));
        assert_eq!(probe.deadline(), None);
        assert!(!probe.is_due_first());
    }

    #[test]
    fn a_command_that_does_not_answer_is_killed_and_started_again() {
        let (mut probe, now) =
            (Probe::new(Some(ProbeSettings { by_command: true, ..SETTINGS })), Instant::now());
        probe.ask(now, 7);
        assert!(!probe.is_due(now + ANSWER_TIMEOUT - INTERVAL) && probe.is_due(now + ANSWER_TIMEOUT));
        assert_eq!(probe.ask(now + ANSWER_TIMEOUT, 8), Some(7));
        probe.answered(now, 8, false);
        assert_eq!(probe.ask(now, 9), None, "it has ended by itself");
    }
}
