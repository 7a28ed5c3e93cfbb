//! The way down: what is released, and how the end is reported.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::{ControlCx, SandboxDriver};
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::image::Snapshot;
use crate::reactor::{FdSlot, Reactor, Slab};
use crate::sandbox::exec::Executed;
use crate::sandbox::gateway::Gateway;
use crate::sandbox::init_link::register;
use crate::sandbox::input::Input;
use crate::sandbox::lifecycle::{Event, ExitSnapshot, KILL_GRACE, Outcome};
use crate::sandbox::{Command, Control, Exit};

/// Notifies the control thread that the engine has let go of a sandbox, when it is dropped: also if what held it
/// was never run.
struct Detach(u64, Control);

impl Drop for Detach {
    fn drop(&mut self) {
        // A control thread that is gone has no sandboxes either.
        let _ = self.1.send(Command::Detached(self.0));
    }
}

impl SandboxDriver {
    pub(super) fn detach_engine(&self, cx: &ControlCx<'_>) {
        let key = self.shared.number;
        let detach = Detach(key, cx.control.clone());
        // If the engine is gone the guard is dropped, and notifies.
        let _ = cx.engine.send(engine::Command::RemoveSandbox { key, reply: Box::new(move || drop(detach)) });
    }

    /// Drops what only a sandbox that runs needs.
    pub(super) fn release(&mut self, cx: &mut ControlCx<'_>) {
        self.gateway.record_refused(&self.shared);
        self.gateway = Gateway::default();
        self.updates.clear();
        self.plan = None;
        self.listeners = None;
        self.loopbacks.clear();
        // The exit snapshot waits for the end of another one.
        if !self.lifecycle.is_saving() {
            self.archive.clear();
        }
        self.usage.clear();
        self.input.stop(cx.reactor, cx.inputs);
    }

    /// Watches the keeper's process in place of its channel.
    pub(super) fn await_keeper_exit(&mut self, cx: &mut ControlCx<'_>) {
        cx.reactor.deregister(self.keeper.as_fd());
        let watched =
            self.key.map_or(Ok(()), |key| register(cx.reactor, self.keeper.process(), key, FdSlot::First));
        if let Err(error) = watched {
            // The deadline looks after it.
            log::error!("sandbox {}: {error}", self.shared.id);
        }
    }

    /// The keeper's process may have ended.
    pub(super) fn check_keeper_exit(&mut self, cx: &mut ControlCx<'_>) {
        if self.keeper.has_ended() {
            self.handle(cx, Event::KeeperExited);
            self.read_init(cx);
        }
    }

    pub(super) fn reap_keeper(&self, cx: &ControlCx<'_>) {
        cx.reactor.deregister(self.keeper.as_fd());
        cx.reactor.deregister(self.keeper.process());
        self.keeper.reap();
    }

    /// Ends what is left of the executed programs: each ends in the way the sandbox did.
    pub(crate) fn end_execs(&mut self, reactor: &mut Reactor, processes: &mut Slab<Executed>) {
        self.execs.end_all(reactor, processes, &self.shared, self.lifecycle.outcome_of_execs());
    }

    /// Watches its program's standard input no more.
    pub(crate) fn stop_input(&mut self, reactor: &Reactor, inputs: &mut Slab<Input>) {
        self.input.stop(reactor, inputs);
    }

    /// After a bug in the control thread: ends the sandbox by the end of its channel, and reports that.
    pub(crate) fn abandon(mut self) {
        self.keeper.kill();
        self.keeper.wait(KILL_GRACE);
        self.lifecycle.abandon(Error::new(Code::Panic, "the control thread panicked: a bug of the library"));
        self.finish();
    }

    /// Reports the end, once nothing is left of the sandbox anywhere: its own descriptors and their part of the budget
    /// go first, so that a host that waited for the end can count on them.
    pub(crate) fn finish(self) {
        let Self {
            shared,
            lifecycle,
            keeper,
            mut groups,
            init,
            gateway,
            loopbacks,
            saved,
            captures,
            admission,
            ..
        } = self;
        if !groups.remove() {
            groups.give_up();
        }
        drop((keeper, init, gateway, loopbacks, captures, admission));
        // It may have turned out to be another since the sandbox began to end.
        let why = lifecycle.why();
        let mut runtime = Duration::ZERO;
        shared.update(|facts| {
            facts.why = why.or(facts.why.take());
            if let Some((started, stopped)) = facts.started.zip(facts.stopped) {
                runtime = stopped.saturating_duration_since(started);
            }
        });
        match lifecycle.outcome() {
            Outcome::Failed(error) => shared.fail(error.context(format!("sandbox {}", shared.id))),
            Outcome::Exited { reason, code, signal, detail } => {
                if let Some(saved) = exit_snapshot(lifecycle.exit_snapshot(), saved) {
                    shared.saved(saved.map_err(|error| error.context(format!("sandbox {}", shared.id))));
                }
                shared.end(Exit { reason, code, signal, runtime }, detail);
            }
        }
    }
}

/// The exit snapshot, or why there is none. Nothing if it wasn't asked for.
fn exit_snapshot(what: ExitSnapshot, saved: Option<Result<Arc<Snapshot>>>) -> Option<Result<Snapshot>> {
    let none = |why: &str| Err(Error::new(Code::State, format!("there is no exit snapshot: {why}")));
    match (what, saved) {
        (ExitSnapshot::Unwanted, _) => None,
        (_, Some(Ok(taken))) => Some(Ok((*taken).clone())),
        (ExitSnapshot::Skipped(why), _) => Some(none(why)),
        (_, Some(Err(error))) => Some(Err(error.context("the exit snapshot"))),
        (ExitSnapshot::Wanted | ExitSnapshot::Waiting | ExitSnapshot::Begun, None) => {
            Some(none("the sandbox's engine was lost"))
        }
    }
}
