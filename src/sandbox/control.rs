//! Handle to the control thread, which owns the state of every sandbox.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use mio::Waker;

use super::exec::{Launch, ProgramRequest};
use super::files::FileTask;
use super::policy_update::{PolicyJob, PolicyTask};
use super::stats::Gathering;
use super::{ArchiveTask, Connection, Plan, Shared};
use crate::engine::{self, WakeThread};
use crate::error::{Context, Error, Result};
use crate::event::operation::{Notice, Operation};
use crate::event::{EventKind, Queue};
use crate::reactor::FdBudget;

/// A request to the control thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Create a sandbox.
    Create(Box<Creation>),
    /// Look at the warm pool, which has changed.
    TendPool,
    /// Have no more sandboxes start at once than this.
    SetMaxStarts(u32),
    /// The sandbox of that number has been planned, or can't be.
    Planned(u64, Box<Result<Plan>>),
    /// End the sandbox of that number, if it has not ended.
    Terminate(u64),
    /// End it: the host has no handle to it any more.
    Close(u64),
    /// Its exit snapshot's turn has come.
    ExitSnapshotBegan(u64),
    /// Its exit snapshot is stored, or can't be.
    ExitSnapshotEnded(u64),
    /// Send its program a signal.
    Signal(u64, i32),
    /// Find out what it uses and how many processes there are in it, for these statistics.
    Measure(u64, Arc<Gathering>),
    /// Execute a program in it.
    Execute {
        /// The sandbox.
        sandbox: u64,
        /// The program's number, never used twice.
        number: u64,
        /// What to execute.
        launch: Box<Launch>,
    },
    /// Something for an executed program.
    Program {
        /// The sandbox.
        sandbox: u64,
        /// The program.
        number: u64,
        /// What is wanted of it.
        what: ProgramRequest,
    },
    /// Send its program a signal, and end it when the program has ended and its connections have, or that time
    /// is over.
    Stop(u64, i32, Duration),
    /// The engine accepts no connection to it any more, and the last has ended.
    Drained(u64),
    /// Find out whether it is ready, if that isn't known.
    Probe(u64),
    /// Begin an operation on files.
    File(Box<FileTask>),
    /// End the operation of that number, if it goes on.
    EndFile(u64),
    /// Go on reading what the operation of that number reports: the host has made room.
    ReadFile(u64),
    /// Write what a sandbox has changed in its root file system to a file.
    Archive(Box<ArchiveTask>),
    /// End an archive, if it is being written.
    EndArchive {
        /// The number of its sandbox.
        sandbox: u64,
        /// Its own.
        number: u64,
    },
    /// Update its policy, or read it back.
    Policy(u64, Box<PolicyTask>),
    /// The rules of its gateway come back from the thread that they were offloaded to, unless that has lost them.
    RulesReturned(u64, Option<Box<PolicyJob>>),
    /// The engine needs something.
    Engine(engine::Request),
    /// The engine has closed every descriptor of that sandbox.
    Detached(u64),
    /// End all sandboxes, then the thread.
    Shutdown,
}

/// A sandbox to be created. Dropping it before it starts (a control thread that ends, a channel whose receiver is gone, a
/// panic) notifies the waiters with an error: no creation is ever lost.
#[derive(Debug)]
pub(crate) struct Creation(Option<Arc<Shared>>);

impl Creation {
    /// Of this sandbox.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Some(shared))
    }

    /// The sandbox, as long as it is neither begun nor given up.
    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.0.as_ref()
    }

    /// Begins it with `begin`. A failure is reported.
    pub(crate) fn begin<T>(mut self, begin: impl FnOnce(&Arc<Shared>) -> Result<T>) -> Option<T> {
        match begin(self.0.as_ref()?) {
            Ok(begun) => {
                self.0 = None;
                Some(begun)
            }
            Err(error) => {
                self.fail_as_its_own(error);
                None
            }
        }
    }

    /// It can't be created: reports that error as it is.
    pub(crate) fn fail(mut self, error: Error) {
        if let Some(shared) = self.0.take() {
            shared.fail(error);
        }
    }

    /// It can't be created: reports the error with the sandbox's name.
    pub(crate) fn fail_as_its_own(mut self, error: Error) {
        if let Some(shared) = self.0.take() {
            shared.fail(error.context(format!("sandbox {}", shared.id)));
        }
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.fail(Error::shut_down().context(format!("sandbox {}", shared.id)));
        }
    }
}

/// The way to the control thread, from any thread.
#[derive(Clone)]
pub(crate) struct Control {
    thread: Arc<dyn WakeThread>,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    engine: engine::Handle,
    budget: FdBudget,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Control").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Control {
    /// Over the thread, its channel and its waker.
    pub(crate) fn new(
        thread: Arc<dyn WakeThread>,
        commands: Sender<Command>,
        waker: Arc<Waker>,
        engine: engine::Handle,
        budget: FdBudget,
    ) -> Self {
        Self { thread, commands, waker, engine, budget }
    }

    /// The process's descriptors.
    pub(super) fn budget(&self) -> &FdBudget {
        &self.budget
    }

    /// Sends a command. Fails only when the runtime was shut down.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        let (mut command, mut sent) = (Some(command), Ok(()));
        self.thread.with_thread(&mut || {
            sent = command
                .take()
                .map_or(Ok(()), |command| self.commands.send(command).map_err(|_| Error::shut_down()));
        })?;
        sent?;
        self.waker.wake().context("waking the control thread")
    }

    /// Begins a stream to a port inside. The engine's own time-outs bound it.
    pub(crate) fn connect(
        &self,
        shared: &Shared,
        port: u16,
        events: Option<(&Queue, u64)>,
    ) -> Result<Operation<Connection>> {
        let (ours, theirs) = UnixStream::pair().context("a socket pair for a connection")?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).context("a socket pair for a connection")?;
        }
        let notice = Notice::new(events, EventKind::OperationDone, |_| [0; 2])?;
        let title = format!("connecting to port {port} in sandbox {}", shared.id);
        let lost = Error::sandbox_ended(&format!("sandbox {}", shared.id), None);
        let (operation, completion) = Operation::new(title, lost);
        let ours = Connection::new(ours.into());
        let reply = Box::new(move |result: Result<()>| completion.complete(result.map(|()| ours)));
        let (key, stream) = (shared.number, OwnedFd::from(theirs));
        self.engine.send(engine::Command::Attach { key, port, stream, reply })?;
        operation.notify(notice);
        Ok(operation)
    }
}
