//! Is the server inside ready? Asked again and again until it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::life::{Bench, Life};
use super::plan::{self, Question};
use crate::event::EventKind;
use crate::keeper::wire::init::{Request, Start};
use crate::reactor::TimerId;

/// How long the answer to one question may take; then it is asked anew.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the asking.
#[derive(Debug, Default)]
pub(super) struct Probing {
    /// Somebody waits for the answer.
    wanted: bool,
    current: Option<Current>,
}

/// A question that is open, or the pause after one.
#[derive(Clone, Copy, Debug)]
struct Current {
    ticket: u32,
    timer: TimerId,
    at: Instant,
    asked: bool,
}

impl Life {
    /// Somebody waits for the answer: begins to ask, if it isn't known or being asked for. A sandbox that is
    /// still being created is asked once its program runs.
    pub(crate) fn start_probing(&mut self, bench: &mut Bench<'_>) {
        self.probing.wanted = true;
        if self.is_running() && self.probing.current.is_none() && !self.shared.facts().ready {
            self.ask(bench);
        }
    }

    /// The program runs: begins to ask, if a probe is configured or somebody waits.
    pub(super) fn begin_probing(&mut self, bench: &mut Bench<'_>) {
        if self.probing.wanted || self.shared.config.readiness_probe().is_some() {
            self.start_probing(bench);
        }
    }

    /// Asks again if it is time for that.
    pub(super) fn probe_again(&mut self, bench: &mut Bench<'_>) {
        if self.is_running() && self.probing.current.is_some_and(|current| bench.reactor.now() >= current.at)
        {
            self.ask(bench);
        }
    }

    /// Asks no more; a command that is still at it is killed, with what it has started.
    pub(super) fn stop_probing(&mut self, bench: &mut Bench<'_>) {
        let Some(current) = self.probing.current.take() else { return };
        bench.reactor.cancel(current.timer);
        let by_command = matches!(plan::probe(&self.shared.config), Some((Question::Command(_), _)));
        if current.asked && by_command && self.is_running() {
            let kill = Request::Signal { id: current.ticket, signal: libc::SIGKILL, group: true };
            self.ask_init(bench, &kill);
        }
    }

    fn ask(&mut self, bench: &mut Bench<'_>) {
        self.stop_probing(bench);
        let shared = Arc::clone(&self.shared);
        let Some((question, _)) = plan::probe(&shared.config) else { return };
        let ticket = self.ticket();
        let request = match question {
            Question::Port(port) => Request::Probe { ticket, port },
            Question::Command(command) => {
                let arguments = command.iter().map(|argument| argument.clone().into_bytes()).collect();
                Request::Start(Box::new(Start { id: ticket, arguments, ..plan::start(&shared.config) }))
            }
        };
        self.schedule(bench, ticket, PATIENCE, true);
        self.ask_init(bench, &request);
    }

    /// An answer: it is ready, or will be asked again after the interval.
    pub(super) fn probed(&mut self, bench: &mut Bench<'_>, ticket: u32, yes: bool) {
        let Some(current) = self.probing.current.filter(|current| current.asked && current.ticket == ticket)
        else {
            return;
        };
        bench.reactor.cancel(current.timer);
        self.probing.current = None;
        if yes {
            self.shared.update_and_tell(|facts| facts.ready = true, EventKind::Ready, |_| ());
        } else {
            let interval = plan::probe(&self.shared.config).map_or(PATIENCE, |(_, interval)| interval);
            self.schedule(bench, ticket, interval, false);
        }
    }

    fn schedule(&mut self, bench: &mut Bench<'_>, ticket: u32, after: Duration, asked: bool) {
        let at = bench.reactor.now().checked_add(after);
        if let (Some(key), Some(at)) = (self.key, at) {
            let timer = bench.reactor.schedule(at, key);
            self.probing.current = Some(Current { ticket, timer, at, asked });
        }
    }
}
