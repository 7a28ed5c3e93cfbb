//! The way to the control thread, which has the lives of all sandboxes in its hands.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};

use mio::Waker;

use super::Shared;
use crate::engine;
use crate::error::{Code, Context, Error, Result};
use crate::tunnel;

/// What the control thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Create this sandbox.
    Create(Arc<Shared>),
    /// End the sandbox of that number, if it has not ended.
    Terminate(u64),
    /// Send its program a signal.
    Signal(u64, i32),
    /// Find out whether it is ready, if that isn't known.
    Probe(u64),
    /// The engine needs something.
    Engine(tunnel::Request),
    /// The engine has closed every descriptor of that sandbox.
    Detached(u64),
    /// End all sandboxes, then the thread.
    Shutdown,
}

/// The way to the control thread, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    engine: engine::Handle,
}

impl Control {
    /// Over the thread's channel and waker.
    pub(crate) fn new(commands: Sender<Command>, waker: Arc<Waker>, engine: engine::Handle) -> Self {
        Self { commands, waker, engine }
    }

    /// Tells it something. Fails only when the runtime was shut down.
    pub(crate) fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| Error::new(Code::Closed, "the runtime was shut down"))?;
        self.waker.wake().context("waking the control thread")
    }

    /// A stream to a port inside; waits until it is connected or refused. The engine's own time-outs bound it.
    pub(crate) fn connect(&self, shared: &Shared, port: u16) -> Result<OwnedFd> {
        let (ours, theirs) = UnixStream::pair().context("a socket pair for a connection")?;
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).context("a socket pair for a connection")?;
        }
        let (told, outcome) = sync_channel(1);
        let reply = Box::new(move |result| drop(told.send(result)));
        let (key, stream) = (shared.number, OwnedFd::from(theirs));
        self.engine.send(engine::Command::Attach { key, port, stream, reply })?;
        let ended = |_| Error::new(Code::State, format!("sandbox {} has ended", shared.id));
        outcome.recv().map_err(ended)?.map(|()| ours.into())
    }
}
