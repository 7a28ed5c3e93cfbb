//! Starts the control thread, and ends it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};

use super::control::{Loop, PLANNING, Shares};
use super::host::HostCache;
use super::planning::Planners;
use crate::engine::{self, Inbox, Worker};
use crate::error::Result;
use crate::reactor::{FdBudget, Reactor};
use crate::sandbox::{Command, Control, Shared};

/// The running thread. Dropping it ends all sandboxes and waits for that.
#[derive(Debug)]
pub(super) struct Thread {
    control: Control,
    worker: Worker<Loop>,
}

impl Thread {
    /// Starts it. The engine's requests come through `control`'s twin, which is made before the engine is.
    pub(super) fn start(
        reactor: Reactor,
        commands: (Sender<Command>, Receiver<Command>),
        engine: engine::Handle,
        host: Arc<HostCache>,
        budget: FdBudget,
        shares: Shares,
    ) -> Result<Self> {
        let worker = Worker::new("sbx-control");
        let control = Control::new(
            Arc::new(worker.clone()),
            commands.0,
            reactor.waker(),
            engine.clone(),
            budget.clone(),
        );
        let way = control.clone();
        let report = move |number, plan| {
            // A control thread that is gone has ended the sandbox.
            let _ = way.send(Command::Planned(number, Box::new(plan)));
        };
        let stamps = Arc::clone(&shares.pool);
        let plan = move |shared: &Shared| {
            let stamped = stamps.lock().unwrap_or_else(PoisonError::into_inner).is_on();
            host.get().plan(shared, stamped)
        };
        let planners = Planners::new(PLANNING, Arc::new(plan), Arc::new(report), shares.max_starts);
        worker.start(Loop::new(
            reactor,
            Inbox::new(commands.1),
            engine,
            control.clone(),
            planners,
            budget,
            shares,
        ))?;
        Ok(Self { control, worker })
    }

    /// The way to it.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = self.control.send(Command::Shutdown);
        self.worker.join();
    }
}

/// The channel to a control thread that is yet to be started, with the function that carries the engine's
/// requests to it.
pub(super) fn prepare(reactor: &Reactor) -> ((Sender<Command>, Receiver<Command>), engine::Requests) {
    let (sender, receiver) = channel();
    let (commands, waker) = (sender.clone(), reactor.waker());
    let requests: engine::Requests = Arc::new(move |request| {
        // A control thread that is gone needs nothing any more.
        if commands.send(Command::Engine(request)).is_ok() {
            let _ = waker.wake();
        }
    });
    ((sender, receiver), requests)
}
