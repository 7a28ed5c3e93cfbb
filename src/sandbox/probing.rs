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

/// A question that is open, or the pause after one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probing {
    ticket: u32,
    timer: TimerId,
    at: Instant,
    asked: bool,
}

impl Life {
    /// Begins to ask, if the answer isn't known or being asked for.
    pub(crate) fn start_probing(&mut self, bench: &mut Bench<'_>) {
        if self.is_running() && self.probing.is_none() && !self.shared.facts().ready {
            self.ask(bench);
        }
    }

    /// Asks again if it is time for that.
    pub(super) fn probe_again(&mut self, bench: &mut Bench<'_>) {
        if self.is_running() && self.probing.is_some_and(|probing| bench.reactor.now() >= probing.at) {
            self.ask(bench);
        }
    }

    /// Asks no more.
    pub(super) fn stop_probing(&mut self, bench: &mut Bench<'_>) {
        if let Some(probing) = self.probing.take() {
            bench.reactor.cancel(probing.timer);
        }
    }

    fn ask(&mut self, bench: &mut Bench<'_>) {
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
        self.ask_init(bench, &request, vec![]);
    }

    /// An answer: it is ready, or will be asked again after the interval.
    pub(super) fn probed(&mut self, bench: &mut Bench<'_>, ticket: u32, yes: bool) {
        if !self.probing.is_some_and(|probing| probing.asked && probing.ticket == ticket) {
            return;
        }
        if yes {
            self.stop_probing(bench);
            self.shared.update_and_tell(|facts| facts.ready = true, EventKind::Ready, |_| ());
        } else {
            let interval = plan::probe(&self.shared.config).map_or(PATIENCE, |(_, interval)| interval);
            self.schedule(bench, ticket, interval, false);
        }
    }

    fn schedule(&mut self, bench: &mut Bench<'_>, ticket: u32, after: Duration, asked: bool) {
        self.stop_probing(bench);
        let at = bench.reactor.now().checked_add(after);
        if let (Some(key), Some(at)) = (self.key, at) {
            self.probing = Some(Probing { ticket, timer: bench.reactor.schedule(at, key), at, asked });
        }
    }
}
