//! The way down: whatever happens, in whatever phase, it leads here, and the host is told once.
//!
//! What is left of a sandbox is known by three things that can't be forged: the keeper's process has ended; no
//! process holds init's end of its channel any more, so the sentry, which holds it, is gone; and the engine has
//! closed its descriptors of it. Only then is it told.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::gateway::Gateway;
use super::life::{Bench, Cause, Life, Phase, START, register};
use super::{Command, Control, Exit, ExitReason, State, trouble};
use crate::engine;
use crate::error::{Code, Error};
use crate::keeper::wire::keeper::{OutOfMemory, Request as ToKeeper};
use crate::reactor::Lane;
use crate::runsc::process;

/// How long the keeper may take to end everything before it is killed, which ends everything too.
const GRACE: Duration = Duration::from_secs(5);
/// How long the keeper's word on a lost init is waited for.
const DOUBT: Duration = Duration::from_secs(1);
/// The pause between two attempts to remove a control group, and how many there are.
const MOMENT: Duration = Duration::from_millis(5);
const REMOVALS: u32 = 2000;
/// How often a keeper is killed before it is given up: one that hangs in the kernel can't be ended by anybody.
const KILLS: u32 = 6;

/// Tells the control thread that the engine has let go of a sandbox, when it is dropped: also if what held it
/// was never run.
struct Detach(u64, Control);

impl Drop for Detach {
    fn drop(&mut self) {
        // A control thread that is gone has no sandboxes either.
        let _ = self.1.send(Command::Detached(self.0));
    }
}

impl Life {
    /// Whether nothing of it is left, here or in the engine.
    pub(crate) fn is_gone(&self) -> bool {
        let lent = self.attached || self.changes.are_lent();
        self.phase == Phase::Left && self.init.is_none() && !lent && self.groups.are_gone()
    }

    /// The engine has closed every descriptor of it.
    pub(crate) fn detached(&mut self) {
        self.attached = false;
    }

    /// Ends it. The first cause counts; what is asked of the keeper is asked once.
    pub(super) fn end(&mut self, bench: &mut Bench<'_>, cause: Cause) {
        if self.phase >= Phase::Ending {
            return;
        }
        let cause = match (self.end_before().unwrap_or(cause), self.started) {
            (cause, Some(_)) => cause,
            // Whatever kept the program from being started, the sandbox was never created.
            (Cause::Failed(error) | Cause::Lost(error), None) => Cause::Failed(error),
            (Cause::OutOfMemory(why), None) => {
                Cause::Failed(Error::new(Code::Limit, format!("{why} before its program was started")))
            }
            (_, None) => {
                Cause::Failed(Error::new(Code::Closed, "it was ended before its program was started"))
            }
        };
        self.phase = Phase::Ending;
        let failure = match &cause {
            Cause::Failed(error) => Some(error.clone().context(format!("sandbox {}", self.shared.id))),
            _ => None,
        };
        let why = cause.text(&self.shared.config);
        self.cause = Some(cause);
        self.shared.update(|facts| {
            facts.stopped = Some(Instant::now());
            self.stopped = facts.stopped;
            facts.state = State::Ending;
            facts.failure = failure;
            facts.why = Some(why);
        });
        if self.attached {
            let key = self.shared.number;
            let detach = Detach(key, bench.control.clone());
            // If the engine is gone the guard is dropped, and tells.
            let _ = bench
                .engine
                .send(engine::Command::RemoveSandbox { key, reply: Box::new(move || drop(detach)) });
        }
        self.count_refused();
        self.gateway = Gateway::default();
        self.changes.clear();
        self.plan = None;
        self.doors = None;
        self.loopbacks.clear();
        self.counting = None;
        self.set_deadline(bench, GRACE);
        self.stop_probing(bench);
        self.stop_minding_idleness(bench);
        self.ask_keeper(bench, &ToKeeper::Kill, vec![]);
    }

    /// The time for what it is doing has run out.
    pub(super) fn late(&mut self, bench: &mut Bench<'_>) {
        match (self.phase, self.doubt.take()) {
            (Phase::Ending | Phase::Leaving | Phase::Left, _) => self.overdue(bench),
            (_, Some(doubt)) => self.end(bench, Cause::Lost(doubt)),
            (Phase::Running, None) => self.end(bench, Cause::TimedOut),
            (phase, None) => {
                let what = match phase {
                    Phase::Starting if self.greeted => "its program was not started",
                    Phase::Booting | Phase::Starting => "runsc did not bring up its init",
                    _ => "its namespaces and files were not ready",
                };
                let message = format!("it did not start within {} s: {what}", START.as_secs());
                self.end(bench, Cause::Failed(Error::new(Code::Engine, message)));
            }
        }
    }

    /// Has the keeper end it if its time is over for a while and this hasn't been done here: the host may be stopped, in
    /// a debugger or frozen by its control group. What it takes to start may come on top.
    pub(super) fn have_lifetime_kept(&mut self, bench: &mut Bench<'_>, start: Duration) {
        let time = self.shared.config.timeout().saturating_add(start).saturating_add(GRACE);
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.ask_keeper(bench, &ToKeeper::Lifetime { milliseconds }, vec![]);
    }

    /// The keeper has ended it for that.
    pub(super) fn expired(&mut self, bench: &mut Bench<'_>) {
        // Init may have told of the program's end before.
        self.hear_init(bench);
        if self.started.is_some() {
            return self.end(bench, Cause::TimedOut);
        }
        let text = format!("it did not start within {} s, in which the host was stopped", START.as_secs());
        self.end(bench, Cause::Failed(Error::new(Code::Engine, text)));
    }

    /// It should have ended by now.
    fn overdue(&mut self, bench: &mut Bench<'_>) {
        if self.keeper.has_ended() || self.kills >= KILLS {
            if self.kills >= KILLS {
                log::error!("sandbox {}: the keeper can't be ended; it hangs in the kernel", self.shared.id);
            }
            self.close_init(bench);
            return self.left(bench);
        }
        log::warn!("sandbox {}: the keeper took too long to end it and is killed", self.shared.id);
        self.kills += 1;
        self.keeper.kill();
        self.set_deadline(bench, GRACE);
    }

    /// runsc has ended, and everything below it.
    pub(super) fn engine_ended(&mut self, bench: &mut Bench<'_>, status: i32, log: &[u8], output: &[u8]) {
        // Init may have told of the program's end just before.
        self.hear_init(bench);
        let text = trouble::last_words(log, output);
        let error = match self.started {
            Some(_) => format!("gVisor ended unexpectedly (status {status}): {text}"),
            None => {
                let remedy = process::explain(&format!("{text}\n{}", String::from_utf8_lossy(output)));
                format!("runsc could not start the sandbox: {text}{remedy}")
            }
        };
        self.end(bench, Cause::Lost(Error::new(Code::Engine, error)));
    }

    /// It had no memory left, and whatever else was seen of that is its consequence.
    pub(super) fn out_of_memory(&mut self, bench: &mut Bench<'_>, by: OutOfMemory) {
        let limit = self.shared.config.limits().memory.unwrap_or(0);
        let cause = Cause::OutOfMemory(match by {
            OutOfMemory::Watchdog => {
                format!("it had more than its {limit} bytes of memory (seen by the watchdog)")
            }
            _ => format!("it needed more than its {limit} bytes of memory"),
        });
        // Init may have told of the program's end just before.
        self.hear_init(bench);
        match &self.cause {
            None => self.end(bench, cause),
            Some(Cause::Lost(_)) => self.cause = Some(cause),
            Some(Cause::Program(status)) if libc::WIFSIGNALED(*status) => self.cause = Some(cause),
            Some(_) => {}
        }
    }

    /// Init is gone or talks nonsense. If it was runsc that ended, the keeper tells more, and soon: its word
    /// is waited for.
    pub(super) fn init_lost(&mut self, bench: &mut Bench<'_>, error: Error) {
        self.close_init(bench);
        if self.phase < Phase::Ending {
            log::debug!("sandbox {}: {error}", self.shared.id);
            self.doubt(bench, error);
        }
    }

    /// Something failed as it does when runsc or the keeper ends, whose network goes with it: the keeper's word is waited
    /// for, and this counts if none comes.
    pub(super) fn doubt(&mut self, bench: &mut Bench<'_>, error: Error) {
        self.doubt = Some(error);
        self.set_deadline(bench, DOUBT);
    }

    fn close_init(&mut self, bench: &mut Bench<'_>) {
        if let Some(init) = self.init.take() {
            bench.reactor.deregister(init.as_fd());
        }
    }

    /// The keeper's channel is at its end: the keeper is ending, or has.
    pub(super) fn keeper_ended(&mut self, bench: &mut Bench<'_>, error: Error) {
        if self.phase >= Phase::Leaving {
            return;
        }
        self.hear_init(bench);
        self.end(bench, Cause::Lost(error));
        bench.reactor.deregister(self.keeper.as_fd());
        self.phase = Phase::Leaving;
        let watched =
            self.key.map_or(Ok(()), |key| register(bench.reactor, self.keeper.process(), key, Lane::Front));
        if let Err(error) = watched {
            // The deadline looks after it.
            log::error!("sandbox {}: {error}", self.shared.id);
        }
    }

    /// The keeper's process has ended. The sentry may live for a moment if the keeper was killed: it has
    /// PDEATHSIG from runsc, which has it from the keeper, and the end of init's channel shows it.
    pub(super) fn left(&mut self, bench: &mut Bench<'_>) {
        if self.phase == Phase::Left || !(self.keeper.has_ended() || self.kills >= KILLS) {
            return;
        }
        bench.reactor.deregister(self.keeper.process());
        self.keeper.reap();
        self.phase = Phase::Left;
        self.set_deadline(bench, GRACE);
        self.remove_groups(bench);
        self.hear_init(bench);
        if self.is_gone() {
            self.clear_deadline(bench);
        }
    }

    /// Removes what the keeper left of the control groups, if it was killed. What it held ends by itself, so this
    /// is tried until it has.
    pub(super) fn remove_groups(&mut self, bench: &mut Bench<'_>) {
        if self.phase != Phase::Left || self.groups.remove() {
            return;
        }
        match (self.key, bench.reactor.now().checked_add(MOMENT)) {
            (Some(key), Some(at)) if self.removals < REMOVALS => {
                self.removals += 1;
                bench.reactor.schedule(at, key);
            }
            _ => self.groups.give_up(),
        }
    }

    /// How the programs have ended that it took along.
    pub(super) fn end_of_programs(&self) -> (ExitReason, i32) {
        match &self.cause {
            Some(Cause::TimedOut) => (ExitReason::TimedOut, 124),
            Some(Cause::Idle) => (ExitReason::Idle, 124),
            Some(Cause::OutOfMemory(_)) => (ExitReason::OutOfMemory, 137),
            Some(Cause::Lost(_)) | None => (ExitReason::EngineLost, 137),
            Some(Cause::Program(_) | Cause::Terminated | Cause::Failed(_)) => (ExitReason::Terminated, 137),
        }
    }

    /// After a bug in the control thread: its sandbox is ended by the end of its channel, and told.
    pub(crate) fn abandon(mut self) {
        self.keeper.kill();
        self.keeper.wait(GRACE);
        let error = Error::new(Code::Panic, "the control thread panicked: a bug of the library");
        self.cause = Some(match self.started {
            Some(_) => Cause::Lost(error),
            None => Cause::Failed(error),
        });
        self.tell();
    }

    /// Tells the host, once nothing is left of it anywhere: its own descriptors and their part of the budget go
    /// first, so that a host that waited for the end can count on them.
    pub(crate) fn tell(self) {
        let Self {
            shared,
            cause,
            started,
            stopped,
            keeper,
            groups,
            init,
            gateway,
            loopbacks,
            captures,
            admission,
            ..
        } = self;
        let mut groups = groups;
        if !groups.remove() {
            groups.give_up();
        }
        drop((keeper, init, gateway, loopbacks, captures, admission));
        // It may have turned out to be another since it began to end.
        let why = cause.as_ref().map(|cause| cause.text(&shared.config));
        shared.update(|facts| facts.why = why.or(facts.why.take()));
        let runtime = match (started, stopped) {
            (Some(started), Some(stopped)) => stopped.saturating_duration_since(started),
            _ => Duration::ZERO,
        };
        let exit = |reason, code, signal| Exit { reason, code, signal, runtime };
        let unknown = || Cause::Lost(Error::new(Code::Engine, "the keeper ended"));
        let (exit, detail) = match cause.unwrap_or_else(unknown) {
            Cause::Failed(error) => return shared.fail(error.context(format!("sandbox {}", shared.id))),
            Cause::Program(status) if libc::WIFSIGNALED(status) => {
                let signal = libc::WTERMSIG(status);
                (exit(ExitReason::Signalled, 128 + signal, signal), String::new())
            }
            Cause::Program(status) => (exit(ExitReason::Exited, libc::WEXITSTATUS(status), 0), String::new()),
            Cause::TimedOut => (exit(ExitReason::TimedOut, 124, 0), String::new()),
            Cause::Idle => (exit(ExitReason::Idle, 124, 0), String::new()),
            Cause::Terminated => (exit(ExitReason::Terminated, 137, 0), String::new()),
            Cause::OutOfMemory(why) => (exit(ExitReason::OutOfMemory, 137, 0), why),
            Cause::Lost(error) => (exit(ExitReason::EngineLost, 137, 0), error.message().to_owned()),
        };
        shared.end(exit, detail);
    }
}
