//! What each command to the control thread does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::Loop;
use crate::error::{Code, Error};
use crate::sandbox::files::FileTask;
use crate::sandbox::{Command, ControlCx, Gathering, MEASURE_TIMEOUT, SandboxDriver};
use crate::{egress, engine, tunnel};

impl Loop {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Create(creation) if self.ending => creation.fail_as_its_own(Error::shut_down()),
            Command::Create(creation) => {
                let turn = self.turn_of(&creation);
                self.planners.begin(&mut self.reactor, *creation, turn);
            }
            Command::Planned(number, plan) => self.planned(number, *plan),
            // It is tended in every turn.
            Command::TendPool => {}
            Command::SetMaxStarts(count) => self.planners.set_max_starts(&mut self.reactor, count),
            Command::Terminate(number) => {
                if !self.planners.end(&mut self.reactor, number) {
                    self.by_number(number, SandboxDriver::terminate);
                }
            }
            Command::Close(number) => {
                if !self.planners.end(&mut self.reactor, number) {
                    self.by_number(number, SandboxDriver::handle_closed);
                }
            }
            Command::ExitSnapshotBegan(number) => {
                self.by_number(number, SandboxDriver::exit_snapshot_began);
            }
            Command::ExitSnapshotEnded(number) => {
                self.by_number(number, SandboxDriver::exit_snapshot_ended);
            }
            Command::Signal(number, signal) => {
                self.by_number(number, |driver, cx| driver.signal(cx, signal));
            }
            Command::Measure(number, gathering) => self.measure(number, gathering),
            Command::Execute { sandbox, number, launch } => {
                self.by_number(sandbox, |driver, cx| driver.execute(cx, number, *launch));
            }
            Command::Program { sandbox, number, what } => {
                self.by_number(sandbox, |driver, cx| driver.request_program(cx, number, what));
            }
            Command::Stop(number, signal, grace) => {
                // One that is being created has nothing that could end by itself.
                if self.planners.end(&mut self.reactor, number) {
                    return;
                }
                self.by_number(number, |driver, cx| driver.stop(cx, signal, grace));
            }
            Command::Drained(number) => self.by_number(number, SandboxDriver::drained),
            Command::Probe(number) => {
                if self.planners.keep(number, command).is_some() {
                    self.by_number(number, SandboxDriver::start_probing);
                }
            }
            Command::Detached(number) => self.by_number(number, SandboxDriver::detached),
            Command::File(running) => self.start_file(*running),
            Command::EndFile(number) => {
                let ended = self.files.cancel(&mut self.reactor, number);
                self.file_ended(ended);
            }
            Command::ReadFile(number) => self.files.room(&mut self.reactor, number),
            Command::Archive(task) => {
                self.by_number(task.sandbox, |driver, cx| driver.write_archive(cx, *task));
            }
            Command::EndArchive { sandbox, number } => {
                self.by_number(sandbox, |driver, cx| driver.end_archive(cx, number));
            }
            Command::Engine(engine::Request::Tunnel(request)) => self.tunnel_request(request),
            Command::Engine(engine::Request::Egress(request)) => self.egress_request(request),
            Command::Policy(number, task) => {
                let command = Command::Policy(number, task);
                if let Some(Command::Policy(_, task)) = self.planners.keep(number, command) {
                    self.by_number(number, |driver, cx| driver.work_on_policy(cx, *task));
                }
            }
            Command::RulesReturned(number, job) => {
                self.by_number(number, |driver, cx| driver.rules_returned(cx, job));
            }
            Command::Shutdown => {
                self.ending = true;
                self.pool().clear();
                self.planners.end_all(&mut self.reactor);
                let all: Vec<u64> = self.numbers.keys().copied().collect();
                all.into_iter().for_each(|number| self.by_number(number, SandboxDriver::handle_closed));
            }
        }
    }

    fn tunnel_request(&mut self, request: tunnel::Request) {
        match request {
            tunnel::Request::NeedSockets { key, count } => {
                self.by_number(key, |driver, cx| driver.sockets(cx, count));
            }
            tunnel::Request::NeedLoopback { key, port, ticket } => {
                if self.numbers.contains_key(&key) {
                    self.by_number(key, |driver, cx| driver.loopback(cx, port, ticket));
                } else {
                    let answer = Err(Error::sandbox_ended("the sandbox", None));
                    let _ = self.engine.send(engine::Command::Loopback { ticket, answer });
                }
            }
            tunnel::Request::Limit { key, what } => self.by_number(key, |driver, _| driver.limit(what)),
        }
    }

    fn egress_request(&mut self, request: egress::Request) {
        match request {
            egress::Request::NeedDatagrams { key, ipv6, count } => {
                self.by_number(key, |driver, cx| driver.datagrams(cx, ipv6, count));
            }
            egress::Request::Answered { key, added, removed } => {
                self.by_number(key, |driver, cx| driver.allow_resolved(cx, added, removed));
            }
            egress::Request::Denied { key, denied, count } => {
                self.by_number(key, |driver, _| driver.denied(&denied, count));
            }
            egress::Request::Limit { key, what } => self.by_number(key, |driver, _| driver.limit(what)),
        }
    }

    /// Asks for statistics; what isn't answered in time is left out.
    fn measure(&mut self, number: u64, gathering: Arc<Gathering>) {
        self.by_number(number, |driver, cx| {
            driver.ask_usage(cx, Arc::clone(&gathering));
            driver.count_processes(cx, Arc::clone(&gathering));
        });
        let pending = Arc::downgrade(&gathering);
        drop(gathering);
        if pending.strong_count() > 0 {
            let key = self.measuring.insert(pending);
            self.reactor.schedule(Instant::now() + MEASURE_TIMEOUT, key);
        }
    }

    fn start_file(&mut self, running: FileTask) {
        let key = self.numbers.get(&running.sandbox()).copied();
        let driver = key.and_then(|key| self.sandboxes.get_mut(key));
        let mut has_panicked = false;
        let (engine, control, budget, images) = (&self.engine, &self.control, &self.budget, &self.images);
        let (processes, inputs) = (&mut self.processes, &mut self.inputs);
        let ended = self.files.start(&mut self.reactor, budget, running, |running, reactor| {
            let mut cx = ControlCx { reactor, engine, control, budget, images, processes, inputs };
            match driver {
                Some(driver) => {
                    let begun = catch_unwind(AssertUnwindSafe(|| {
                        let begun = driver.start_file(&mut cx, running);
                        driver.settle(&mut cx);
                        begun
                    }));
                    begun.unwrap_or_else(|_| {
                        log::error!("a bug: an operation on files has panicked in the control thread");
                        has_panicked = true;
                        Err(Error::new(Code::Panic, "the control thread panicked: a bug of the library"))
                    })
                }
                None => Err(running.ended()),
            }
        });
        if let Some(key) = key.filter(|_| has_panicked) {
            self.abandon_sandbox(key);
        }
        self.file_ended(ended);
    }
}
