//! The control thread's loop: creation, keepers, init, netlink, certificates; it drives all sandboxes.
//!
//! What may take a moment happens here and not in the engine, so that it never holds up data. Others talk to
//! it with [`Command`]s through a [`Control`] and never wait for it, but on what it writes into
//! [`crate::sandbox::Shared`].
//!
//! Here is what a wake-up leads to; what a command leads to is in `commands`, how a planned sandbox begins in `creation`, and
//! how members of the warm pool are made, taken and ended in `members`; how they show that they live, in `claims`.

mod claims;
mod commands;
mod creation;
mod members;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::claim::Claims;
use super::maintenance::PoolMaintenance;
use super::nameservers::ServerWatch;
use super::planning::Planners;
use super::warm::Pool;
use crate::engine::{self, Body, Idleness, Inbox, LINGER, Left};
use crate::image::Images;
use crate::policy::PolicyMode;
use crate::process::{CaptureProgress, CaptureReader};
use crate::reactor::{FdBudget, FdSlot, Key, Kind, Reactor, Slab, Wake};
use crate::sandbox::files::{FileOutcome, Table};
use crate::sandbox::{
    Command, Control, ControlCx, Executed, Gathering, Input, Pulse, SandboxDriver, Shared, Stage,
};

/// The sandboxes' kind of key; the engine's are in a reactor of its own.
const SANDBOX: Kind = Kind(1);
/// The captures' kind of key.
const CAPTURE: Kind = Kind(2);
/// The kind of key of operations on files.
const FILE: Kind = Kind(4);
/// The executed programs' kind of key.
const PROCESS: Kind = Kind(3);
/// The kind of key of sandboxes that are being planned.
pub(super) const PLANNING: Kind = Kind(5);
/// The watched standard inputs' kind of key.
const INPUT: Kind = Kind(6);
/// The kind of key of the looks at all inits.
const PULSE: Kind = Kind(7);
/// The kind of key of the looks at the host's name servers.
const NAMESERVERS: Kind = Kind(8);
/// The kind of key of statistics that are being gathered.
const MEASURE: Kind = Kind(9);
/// The kind of key of the looks at the warm pool.
const WARM: Kind = Kind(10);
/// How many commands are obeyed before the descriptors are looked at again.
const COMMANDS: usize = 64;

/// What the thread shares with the runtime.
pub(super) struct Shares {
    pub(super) pool: Arc<Mutex<Pool>>,
    pub(super) images: Weak<Images>,
    /// How many sandboxes may start at once.
    pub(super) max_starts: u32,
}

/// What the control thread has, and what it does.
pub(super) struct Loop {
    reactor: Reactor,
    commands: Inbox<Command>,
    engine: engine::Handle,
    control: Control,
    planners: Planners,
    budget: FdBudget,
    images: Weak<Images>,
    sandboxes: Slab<SandboxDriver>,
    captures: Slab<CaptureReader>,
    files: Table,
    processes: Slab<Executed>,
    inputs: Slab<Input>,
    pulse: Pulse,
    nameservers: ServerWatch,
    measuring: Slab<Weak<Gathering>>,
    numbers: HashMap<u64, Key>,
    warm: PoolMaintenance,
    claims: Claims,
    ending: bool,
    idleness: Idleness,
}

impl Body for Loop {
    fn work(&mut self) -> Left {
        self.run()
    }

    fn has_work(&mut self) -> bool {
        self.commands.has_some()
    }
}

impl Loop {
    /// A loop without a sandbox.
    pub(super) fn new(
        reactor: Reactor,
        commands: Inbox<Command>,
        engine: engine::Handle,
        control: Control,
        planners: Planners,
        budget: FdBudget,
        shares: Shares,
    ) -> Self {
        let Shares { pool, images, .. } = shares;
        Self {
            warm: PoolMaintenance::new(pool, WARM),
            claims: Claims::default(),
            reactor,
            commands,
            engine,
            control,
            planners,
            budget,
            images,
            sandboxes: Slab::new(SANDBOX),
            captures: Slab::new(CAPTURE),
            files: Table::new(FILE),
            processes: Slab::new(PROCESS),
            inputs: Slab::new(INPUT),
            pulse: Pulse::new(PULSE),
            nameservers: ServerWatch::new(NAMESERVERS),
            measuring: Slab::new(MEASURE),
            numbers: HashMap::new(),
            ending: false,
            idleness: Idleness::default(),
        }
    }

    /// Whether there is nothing that anything could happen to.
    fn is_idle(&self) -> bool {
        let Self { sandboxes, captures, processes, inputs, measuring, .. } = self;
        let all = [
            sandboxes.len(),
            captures.len(),
            processes.len(),
            inputs.len(),
            self.files.len(),
            measuring.len(),
        ];
        self.numbers.is_empty() && self.planners.are_idle() && all == [0; 6] && self.pool().is_idle()
    }

    fn run(&mut self) -> Left {
        let mut busy = self.commands.has_some();
        while !(self.ending && self.numbers.is_empty() && self.planners.are_idle()) {
            let idle = self.is_idle() && !busy;
            if self.idleness.is_over(idle, Instant::now()) {
                return Left::Idle;
            }
            let limit = if busy { Some(Duration::ZERO) } else { idle.then_some(LINGER) };
            if let Err(error) = self.reactor.turn(limit) {
                log::error!("the control thread's poll failed: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
            while let Some(wake) = self.reactor.next() {
                if catch_unwind(AssertUnwindSafe(|| self.dispatch(wake))).is_err() {
                    log::error!("a bug: {wake:?} has panicked in the control thread");
                    self.abandon(wake);
                }
            }
            busy = true;
            for _ in 0..COMMANDS {
                let Some(command) = self.commands.next() else {
                    busy = false;
                    break;
                };
                if catch_unwind(AssertUnwindSafe(|| self.obey(command))).is_err() {
                    log::error!("a bug: a command to the control thread has panicked");
                }
                // What takes long leaves the rest to the next turn.
                if self.reactor.is_over_time() {
                    break;
                }
            }
            let tend = || {
                self.planners.set_starting(&mut self.reactor, self.warm.starting());
                self.tend_pool();
            };
            if catch_unwind(AssertUnwindSafe(tend)).is_err() {
                log::error!("a bug: the warm pool has panicked in the control thread");
            }
        }
        Left::Done
    }

    fn dispatch(&mut self, wake: Wake) {
        let key = wake.key();
        match (key.kind(), wake) {
            (CAPTURE, _) => self.read_capture(key),
            (PROCESS, wake) => self.process(key, wake),
            (PLANNING, _) => self.planners.timer(&mut self.reactor, key),
            (PULSE, _) => self.check_inits(),
            (MEASURE, _) => {
                if let Some(gathering) = self.measuring.remove(key).and_then(|pending| pending.upgrade()) {
                    gathering.finish();
                }
            }
            // It is tended in every turn.
            (WARM, _) => {}
            (NAMESERVERS, _) => {
                let is_needed = self.sandboxes.iter().any(|(_, driver)| asks_host_servers(driver.shared()));
                self.nameservers.wake(&mut self.reactor, &self.engine, is_needed);
            }
            (INPUT, _) => {
                if let Some(sandbox) = self.inputs.get_mut(key).map(|input| input.sandbox) {
                    self.by_number(sandbox, SandboxDriver::note_activity);
                }
            }
            (FILE, Wake::Timer(_)) => {
                let ended = self.files.late(&mut self.reactor, key);
                self.file_ended(ended);
            }
            (FILE, _) => {
                let ended = self.files.go_on(&mut self.reactor, key);
                self.file_ended(ended);
            }
            (_, Wake::Ready(_, slot, _)) => self.with(key, |driver, cx| driver.ready(cx, slot)),
            (_, Wake::Timer(_)) => self.with(key, |driver, cx| driver.timer(cx)),
            (_, Wake::Rescheduled(_)) => self.with(key, |driver, cx| driver.again(cx)),
        }
    }

    /// Has a sandbox do something, then sees what is left of it. A panic in that ends this sandbox and no other.
    fn with(&mut self, key: Key, act: impl FnOnce(&mut SandboxDriver, &mut ControlCx<'_>)) {
        // A wake-up may come for a sandbox that has ended in the same turn.
        let Some(driver) = self.sandboxes.get_mut(key) else { return };
        let mut cx = ControlCx {
            reactor: &mut self.reactor,
            engine: &self.engine,
            control: &self.control,
            budget: &self.budget,
            images: &self.images,
            processes: &mut self.processes,
            inputs: &mut self.inputs,
        };
        let done = catch_unwind(AssertUnwindSafe(|| {
            act(driver, &mut cx);
            driver.settle(&mut cx);
        }));
        if done.is_err() {
            log::error!("a bug: the control thread has panicked in sandbox {}", driver.shared().id);
            return self.abandon_sandbox(key);
        }
        let (captures, number, stage) = (driver.take_captures(), driver.shared().number, driver.stage());
        let is_gone = driver.is_gone();
        let is_alive = self.claims.creation(number).is_some_and(|creation| driver.is_alive(creation));
        let failure =
            || driver.shared().facts().failure.as_ref().map(ToString::to_string).unwrap_or_default();
        self.warm.has_stage(self.reactor.now(), number, stage, failure);
        match stage {
            Stage::Ready if is_alive => self.take_claimed(number, key),
            Stage::Ending => self.give_up_claim(number),
            _ => {}
        }
        if is_gone && let Some(mut driver) = self.sandboxes.remove(key) {
            driver.end_execs(&mut self.reactor, &mut self.processes);
            self.numbers.remove(&number);
            self.files.end_all(&mut self.reactor, number);
            driver.finish();
        }
        captures.into_iter().for_each(|capture| self.watch(capture, number));
    }

    fn by_number(&mut self, number: u64, act: impl FnOnce(&mut SandboxDriver, &mut ControlCx<'_>)) {
        if let Some(key) = self.numbers.get(&number) {
            self.with(*key, act);
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.warm.pool()
    }

    /// Whether the inits of all sandboxes answer. Looked for again as long as there are any.
    fn check_inits(&mut self) {
        let watched = self.pulse.look(&mut self.reactor);
        let mut open = false;
        let keys: Vec<Key> = self.sandboxes.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with(key, |driver, cx| open |= driver.check_silence(cx, watched));
        }
        self.spare_memory();
        self.pulse.go_on(&mut self.reactor, open, self.numbers.is_empty());
    }

    fn file_ended(&mut self, ended: Option<FileOutcome>) {
        if let Some(ended) = ended {
            self.by_number(ended.sandbox, |driver, cx| driver.file_ended(cx, ended));
        }
    }

    fn watch(&mut self, capture: CaptureReader, sandbox: u64) {
        let key = self.captures.insert(capture);
        self.reactor.join(key, sandbox);
        if let Some(capture) = self.captures.get_mut(key)
            && let Err(error) = self.reactor.register(capture.as_fd(), key, FdSlot::First)
        {
            log::error!("an output can't be captured: {error}");
            self.captures.remove(key);
        }
    }

    fn read_capture(&mut self, key: Key) {
        // The capture may have ended in the same turn.
        let Some(capture) = self.captures.get_mut(key) else { return };
        match capture.read() {
            CaptureProgress::Drained => {}
            CaptureProgress::More => self.reactor.reschedule(key),
            CaptureProgress::Ended => {
                self.reactor.deregister(capture.as_fd());
                self.captures.remove(key);
            }
        }
    }

    fn process(&mut self, key: Key, wake: Wake) {
        // The program may have ended in the same turn.
        let Some(running) = self.processes.get_mut(key) else { return };
        let sandbox = running.sandbox;
        let over = match wake {
            Wake::Timer(_) => return self.by_number(sandbox, |driver, cx| driver.exec_timer(cx, key)),
            Wake::Ready(_, slot, _) => running.read(&mut self.reactor, key, slot),
            Wake::Rescheduled(_) => {
                running.read(&mut self.reactor, key, FdSlot::First);
                running.read(&mut self.reactor, key, FdSlot::Second)
            }
        };
        if over {
            self.processes.remove(key);
        }
    }

    /// After a bug: what the wake-up was for can't be trusted any more, and its sandbox ends.
    fn abandon(&mut self, wake: Wake) {
        let key = wake.key();
        let key = match key.kind() {
            CAPTURE => return drop(self.captures.remove(key)),
            MEASURE => return drop(self.measuring.remove(key)),
            PLANNING => return self.planners.abandon(&mut self.reactor, key),
            WARM => return,
            NAMESERVERS => return self.nameservers.wake(&mut self.reactor, &self.engine, false),
            PULSE => return self.pulse.go_on(&mut self.reactor, true, self.numbers.is_empty()),
            FILE => {
                let ended = self.files.abandon(&mut self.reactor, key);
                return self.file_ended(ended);
            }
            PROCESS | INPUT => {
                let process = self.processes.get_mut(key).map(|running| running.sandbox);
                let input = self.inputs.get_mut(key).map(|input| input.sandbox);
                process.or(input).and_then(|sandbox| self.numbers.get(&sandbox).copied())
            }
            _ => Some(key),
        };
        if let Some(key) = key {
            self.abandon_sandbox(key);
        }
    }

    /// After a bug: what a sandbox has become can't be trusted any more, and it ends at once.
    fn abandon_sandbox(&mut self, key: Key) {
        // It may have ended before the panic.
        let Some(mut driver) = self.sandboxes.remove(key) else { return };
        let key = driver.shared().number;
        self.numbers.remove(&key);
        self.warm.abandoned(self.reactor.now(), key);
        self.give_up_claim(key);
        driver.end_execs(&mut self.reactor, &mut self.processes);
        driver.stop_input(&self.reactor, &mut self.inputs);
        self.files.end_all(&mut self.reactor, key);
        let _ = self.engine.send(engine::Command::RemoveSandbox { key, reply: Box::new(|| ()) });
        driver.abandon();
    }
}

/// Whether a sandbox's resolver asks the servers that the host asks. One that was created blocked has none.
fn asks_host_servers(shared: &Shared) -> bool {
    shared.config.nameservers().is_empty() && shared.config.policy().mode() != PolicyMode::Blocked
}

#[cfg(test)]
mod tests;
