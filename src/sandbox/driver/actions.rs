//! Carries out what the lifecycle decides.

use std::time::Instant;

use super::{ControlCx, SandboxDriver};
use crate::engine;
use crate::error::Error;
use crate::event::EventKind;
use crate::keeper::wire::init::{Request as ToInit, Start};
use crate::keeper::wire::keeper::Request as ToKeeper;
use crate::sandbox::lifecycle::{Action, Cause, Event, Notice, PROGRAM};
use crate::sandbox::plan::{self, Question};
use crate::sandbox::{Command, State, snapshot};

impl SandboxDriver {
    pub(super) fn carry_out(&mut self, cx: &mut ControlCx<'_>, action: Action) {
        match action {
            Action::StartRunsc => self.start_runsc(cx, false),
            Action::HoldRunsc => self.start_runsc(cx, true),
            Action::LetGoOfRunsc => self.ask_keeper(cx, &ToKeeper::Proceed, vec![]),
            Action::LimitLifetime(time) => {
                let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                self.ask_keeper(cx, &ToKeeper::Lifetime { milliseconds }, vec![]);
            }
            Action::LoadRules => self.load_rules(cx),
            Action::OpenGateway => self.open_gateway(cx),
            Action::AskUsage => self.ask_keeper(cx, &ToKeeper::Usage, vec![]),
            Action::StartProgram => self.start_program(cx),
            Action::OpenTunnels => self.open_tunnels(cx),
            Action::Publish(notice) => self.publish(cx.reactor.now(), notice),
            Action::AskProbe { ticket } => self.ask_probe(cx, ticket),
            Action::KillProbe { ticket } => {
                // With what it has started.
                let kill = ToInit::Signal { id: ticket, signal: libc::SIGKILL, group: true };
                self.init.ask(cx.reactor, &kill);
            }
            Action::Ping { ticket } => self.init.ask(cx.reactor, &ToInit::Ping { ticket }),
            Action::CheckSilenceSoon => self.silence_is_checked_soon = true,
            Action::Drain => self.drain(cx),
            Action::SignalPrograms(signal) => {
                if self.shared.config.command().is_empty() {
                    self.with_execs(cx, |execs, cx| execs.signal_all(cx, signal));
                } else {
                    self.init.ask(cx.reactor, &ToInit::Signal { id: PROGRAM, signal, group: false });
                }
            }
            Action::KillPrograms => self.init.ask(cx.reactor, &ToInit::KillAll),
            Action::CancelSnapshot => self.ask_keeper(cx, &ToKeeper::CancelSnapshot, vec![]),
            Action::TakeExitSnapshot => self.take_exit_snapshot(cx),
            Action::DropExitSnapshot => self.saving = None,
            Action::DetachEngine => self.detach_engine(cx),
            Action::Release => self.release(cx),
            Action::AskKeeperToKill => self.ask_keeper(cx, &ToKeeper::Kill, vec![]),
            Action::KillKeeper => {
                let id = &self.shared.id;
                log::warn!("sandbox {id}: the keeper took too long to end it and is killed");
                self.keeper.kill();
            }
            Action::GiveUpKeeper => {
                let id = &self.shared.id;
                log::error!("sandbox {id}: the keeper can't be ended; it hangs in the kernel");
            }
            Action::CloseInit => self.init.close(cx.reactor),
            Action::AwaitKeeperExit => self.await_keeper_exit(cx),
            Action::ReapKeeper => self.reap_keeper(cx),
            Action::RemoveGroups => {
                let gone = self.groups.remove();
                self.handle(cx, if gone { Event::GroupsRemoved } else { Event::GroupsBusy });
            }
            Action::AbandonGroups => self.groups.give_up(),
            // The control thread sees that nothing is left, and calls `finish`.
            Action::Finish => {}
        }
    }

    /// Publishes what has happened in the turn that began at `now`.
    pub(super) fn publish(&self, now: Instant, notice: Notice) {
        let shared = &self.shared;
        match notice {
            Notice::Started => shared.update_and_notify(
                |facts| {
                    facts.state = State::Running;
                    // The time that its deadline counts from: it never runs for less than its lifetime.
                    facts.started = Some(now);
                },
                EventKind::Started,
                |_| (),
            ),
            Notice::Ready => shared.update_and_notify(|facts| facts.ready = true, EventKind::Ready, |_| ()),
            Notice::Ending => {
                let failure = match self.lifecycle.cause() {
                    Some(Cause::Failed(error)) => {
                        Some(error.clone().context(format!("sandbox {}", shared.id)))
                    }
                    _ => None,
                };
                let why = self.lifecycle.why();
                shared.update(|facts| {
                    facts.stopped = Some(Instant::now());
                    facts.state = State::Ending;
                    facts.failure = failure;
                    facts.why = why;
                });
            }
        }
    }

    fn ask_probe(&mut self, cx: &mut ControlCx<'_>, ticket: u32) {
        let Some((question, _)) = plan::probe(&self.shared.config) else {
            debug_assert!(false, "a sandbox without a probe is never probed");
            return;
        };
        let request = match question {
            Question::Port(port) => ToInit::Probe { ticket, port },
            Question::Command(command) => {
                let arguments = command.iter().map(|argument| argument.clone().into_bytes()).collect();
                let start = Start { id: ticket, arguments, ..plan::start(&self.shared.config) };
                ToInit::Start(Box::new(start))
            }
        };
        self.init.ask(cx.reactor, &request);
    }

    /// Begins the exit snapshot on a thread of the images'.
    fn take_exit_snapshot(&mut self, cx: &mut ControlCx<'_>) {
        let (number, control) = (self.shared.number, cx.control.clone());
        let began = move || drop(control.send(Command::ExitSnapshotBegan(number)));
        let control = cx.control.clone();
        let then = move || drop(control.send(Command::ExitSnapshotEnded(number)));
        let images = cx.images.upgrade().ok_or_else(Error::shut_down);
        let begun =
            images.and_then(|images| snapshot::begin_at_exit(&self.shared, cx.control, &images, began, then));
        match begun {
            Ok(saving) => self.saving = Some(saving),
            Err(error) => {
                self.saved = Some(Err(error));
                self.handle(cx, Event::ExitSnapshotEnded);
            }
        }
    }

    /// No further connection is accepted, and the engine reports when the last has ended.
    fn drain(&self, cx: &ControlCx<'_>) {
        let (key, control) = (self.shared.number, cx.control.clone());
        let reply = Box::new(move || drop(control.send(Command::Drained(key))));
        // An engine that is gone has no connections; the grace period bounds it.
        let _ = cx.engine.send(engine::Command::Drain { key, reply });
    }
}
