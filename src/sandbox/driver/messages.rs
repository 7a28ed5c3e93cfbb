//! What keeper and init report.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{ControlCx, SandboxDriver};
use crate::error::{Code, Error};
use crate::keeper::wire::init::Reply as FromInit;
use crate::keeper::wire::keeper::{OutOfMemory, Reply as FromKeeper, Usage};
use crate::runsc::process;
use crate::sandbox::archive::{Archive, Ended};
use crate::sandbox::errors;
use crate::sandbox::lifecycle::{Event, PROGRAM, Part, Phase};

/// How many messages of one sandbox are read before the others get their turn: init may be hostile and
/// write as fast as it is read.
const MAX_MESSAGES: usize = 32;

impl SandboxDriver {
    pub(super) fn read_keeper(&mut self, cx: &mut ControlCx<'_>) {
        // Read before a failed write is acted on: the keeper's last message is the reason for it.
        let flushed = self.keeper.flush();
        for _ in 0..MAX_MESSAGES {
            match self.keeper.hear() {
                Ok(Some((reply, fds))) => self.on_keeper_reply(cx, reply, fds),
                Ok(None) => {
                    return match flushed {
                        Ok(()) => {}
                        Err(error) => self.on_keeper_closed(cx, error),
                    };
                }
                Err(error) => return self.on_keeper_closed(cx, error),
            }
            if cx.reactor.is_over_time() {
                break;
            }
        }
        self.read_on(cx);
    }

    pub(super) fn read_init(&mut self, cx: &mut ControlCx<'_>) {
        self.report_asked(cx);
        let flushed = self.init.flush(cx.reactor);
        for _ in 0..MAX_MESSAGES {
            if !self.init.is_open() {
                return;
            }
            match self.init.recv() {
                Ok(Some(reply)) => self.on_init_reply(cx, reply),
                Ok(None) => {
                    return match flushed {
                        Ok(()) => {}
                        Err(error) => self.handle(cx, Event::InitLost(error)),
                    };
                }
                Err(error) => return self.handle(cx, Event::InitLost(error)),
            }
            if cx.reactor.is_over_time() {
                break;
            }
        }
        self.read_on(cx);
    }

    /// The keeper's channel has ended: the keeper is ending, or has.
    fn on_keeper_closed(&mut self, cx: &mut ControlCx<'_>, error: Error) {
        // Init may have reported the program's end just before.
        self.read_init(cx);
        self.handle(cx, Event::KeeperClosed(error));
    }

    fn on_keeper_reply(&mut self, cx: &mut ControlCx<'_>, reply: FromKeeper, fds: Vec<OwnedFd>) {
        let done = match reply {
            FromKeeper::Namespaces { refused } => self.on_namespaces(cx, &refused, fds),
            FromKeeper::Prepared => {
                self.handle(cx, Event::Prepared(Part::Files));
                Ok(())
            }
            FromKeeper::Running => {
                self.runsc_has_started = true;
                Ok(())
            }
            FromKeeper::Sockets { kind, purpose } => {
                let came = self.gateway.on_sockets(cx.engine, &self.shared, (kind, purpose), fds);
                came.map(|relays| {
                    if relays {
                        self.handle(cx, Event::Prepared(Part::Relays));
                    }
                })
            }
            FromKeeper::Failed { step, errno } => Err(errors::keeper(&step, errno)),
            FromKeeper::Used(usage) => {
                self.on_usage(usage);
                self.handle(cx, Event::MemoryLookedFor { found: usage.memory.is_some() });
                Ok(())
            }
            FromKeeper::Expired => {
                // Init may have reported the program's end before.
                self.read_init(cx);
                self.handle(cx, Event::LifetimeExpired);
                Ok(())
            }
            FromKeeper::SnapshotEnded { end, bytes, paused_us, is_paused } => {
                let archive = Archive { bytes, paused: Duration::from_micros(paused_us) };
                if let Some(Ended { lost }) = self.archive.on_end(&end, archive, is_paused) {
                    self.handle(cx, Event::SnapshotEnded { lost });
                }
                Ok(())
            }
            FromKeeper::Ended { status, log, output, usage, out_of_memory } => {
                self.on_usage(usage);
                // Init may have reported the program's end just before.
                self.read_init(cx);
                let event = match out_of_memory {
                    OutOfMemory::No => Event::RunscExited(self.runsc_error(status, &log, &output)),
                    by => Event::OutOfMemory(self.out_of_memory(by)),
                };
                self.handle(cx, event);
                Ok(())
            }
        };
        if let Err(error) = done {
            self.handle(cx, Event::Failed(error));
        }
    }

    fn on_usage(&mut self, usage: Usage) {
        self.shared.facts().usage = usage;
        self.usage.on_usage().iter().for_each(|waiter| waiter.reported());
    }

    fn runsc_error(&self, status: i32, log: &[u8], output: &[u8]) -> Error {
        let text = errors::last_words(log, output);
        let error = if self.lifecycle.has_started() {
            format!("gVisor ended unexpectedly (status {status}): {text}")
        } else {
            let remedy = process::explain(&format!("{text}\n{}", String::from_utf8_lossy(output)));
            format!("runsc could not start the sandbox: {text}{remedy}")
        };
        Error::new(Code::Engine, error)
    }

    fn out_of_memory(&self, by: OutOfMemory) -> String {
        let limit = self.shared.config.limits().memory.unwrap_or(0);
        match by {
            OutOfMemory::Watchdog => {
                format!("it had more than its {limit} bytes of memory (seen by the watchdog)")
            }
            _ => format!("it needed more than its {limit} bytes of memory"),
        }
    }

    fn on_init_reply(&mut self, cx: &mut ControlCx<'_>, reply: FromInit) {
        if let FromInit::Pong { ticket } = reply {
            self.life_check.iter_mut().for_each(|check| check.on_pong(cx.reactor.now(), ticket));
        }
        // What init is asked and answers at once.
        match reply {
            FromInit::Started { id: ticket }
            | FromInit::NotStarted { id: ticket, .. }
            | FromInit::Counted { ticket, .. }
            | FromInit::Pong { ticket } => self.handle(cx, Event::InitAnswered { ticket }),
            _ => {}
        }
        if self.lifecycle.is_running() {
            self.on_reply_while_running(cx, reply);
        } else if self.is_starting() {
            self.on_reply_while_starting(cx, reply);
        }
        // At another time init's replies mean nothing.
        self.settle(cx);
    }

    fn on_reply_while_starting(&mut self, cx: &mut ControlCx<'_>, reply: FromInit) {
        match reply {
            FromInit::Hello => self.handle(cx, Event::InitReady),
            FromInit::Started { id: PROGRAM } => self.handle(cx, Event::ProgramStarted),
            FromInit::NotStarted { id: PROGRAM, step, errno }
                if self.lifecycle.phase() == Phase::Starting =>
            {
                let error = errors::program(step, errno, &self.shared.config);
                self.handle(cx, Event::Failed(error));
            }
            _ => {}
        }
    }

    fn on_reply_while_running(&mut self, cx: &mut ControlCx<'_>, reply: FromInit) {
        let probed = |ticket, ready| Event::ProbeAnswered { ticket, ready };
        match reply {
            FromInit::Exited { id: PROGRAM, status } => self.handle(cx, Event::ProgramExited(status)),
            FromInit::Started { id } => self.with_execs(cx, |execs, cx| execs.on_started(cx, id)),
            FromInit::Exited { id, status } if self.execs.has(id) => {
                self.with_execs(cx, |execs, cx| execs.on_exit(cx, id, status));
            }
            FromInit::NotStarted { id, step, errno } if self.execs.has(id) => {
                self.with_execs(cx, |execs, cx| execs.on_refused(cx, id, step, errno));
            }
            FromInit::Exited { id, status } => self.handle(cx, probed(id, status == 0)),
            FromInit::NotStarted { id, .. } => self.handle(cx, probed(id, false)),
            FromInit::Probed { ticket, errno } => self.handle(cx, probed(ticket, errno == 0)),
            FromInit::Connected { ticket, errno } => self.loopbacks.on_connected(cx.engine, ticket, errno),
            FromInit::Counted { ticket, processes } => {
                let (waiters, processes) = self.usage.on_count(ticket, processes);
                waiters.iter().for_each(|waiter| waiter.counted(processes));
            }
            FromInit::Hello | FromInit::Pong { .. } => {}
        }
    }
}
