//! A sandbox: the host's handle to it, and what the control thread does with it.
//!
//! [`lifecycle`] decides, [`driver`] carries out; the other modules are parts that the driver holds.

mod archive;
mod connection;
mod control;
mod denials;
mod directory;
mod driver;
mod errors;
mod exec;
pub(crate) mod files;
mod gateway;
mod images;
mod init_image;
mod init_link;
mod input;
mod lifecycle;
mod listeners;
mod liveness;
mod loopback;
mod plan;
mod policy;
mod policy_update;
mod shared;
mod snapshot;
mod stamp;
mod state;
mod stats;
mod usage;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub(crate) use archive::{Archive, ArchiveTask};
pub use connection::Connection;
pub(crate) use control::{Command, Control, Creation};
pub(crate) use driver::{ControlCx, SandboxDriver, Stage, admit};
pub(crate) use exec::Executed;
pub use exec::Process;
pub(crate) use images::HostResources;
pub(crate) use input::Input;
pub(crate) use lifecycle::Depth;
pub(crate) use listeners::Listeners;
pub(crate) use liveness::{Pulse, Watched};
#[cfg(feature = "test-hooks")]
pub(crate) use plan::PRETEND_LOW_MEMORY;
pub(crate) use plan::{Plan, Stamp, gateway_settings, memory_is_low};
pub(crate) use policy_update::{MAX_POLICY_TASKS, too_many_policy_tasks};
pub(crate) use shared::{Shared, wait_on};
pub use state::State;
pub use stats::Stats;
pub(crate) use stats::{Gathering, USAGE_TIMEOUT as MEASURE_TIMEOUT};

use crate::config::Stdio;
use crate::config::Stream;
use crate::error::{Code, Error, Result};
pub(crate) use crate::event::{Exit, ExitReason};
use crate::event::{Operation, Queue};
use crate::image::Images;
use crate::policy::PolicyMode;
use crate::process::Captured;
use crate::tunnel::TunnelMap;

/// A sandbox. Clones are handles to the same one; dropping the last ends it.
///
/// ```no_run
/// use std::time::Duration;
/// use sbx::{Config, ExitReason, Runtime};
///
/// let mut config = Config::new();
/// config.set_command(["sh", "-c", "exit 3"])?;
/// let sandbox = Runtime::shared()?.create(&config)?;
/// let exit = sandbox.wait(Some(Duration::from_secs(10)))?;
/// assert_eq!((exit.reason, exit.code), (ExitReason::Exited, 3));
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sandbox {
    handle: Arc<Handle>,
}

/// What all clones share; its drop is the end of the last of them.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    control: Control,
    /// The runtime's images, as long as there is the runtime.
    images: Weak<Images>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A runtime that is gone has ended its sandboxes already.
        let _ = self.control.send(Command::Close(self.shared.number));
    }
}

/// A sandbox that is not kept alive by this.
#[derive(Debug)]
pub(crate) struct WeakSandbox(Weak<Handle>);

impl WeakSandbox {
    /// The sandbox, if the host still holds it.
    pub(crate) fn upgrade(&self) -> Option<Sandbox> {
        self.0.upgrade().map(|handle| Sandbox { handle })
    }
}

impl Sandbox {
    /// A handle to a sandbox.
    pub(crate) fn new(shared: Arc<Shared>, control: Control, images: Weak<Images>) -> Self {
        Self { handle: Arc::new(Handle { shared, control, images }) }
    }

    /// What finds the sandbox again as long as the host holds it.
    pub(crate) fn downgrade(&self) -> WeakSandbox {
        WeakSandbox(Arc::downgrade(&self.handle))
    }

    /// What is known of it.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The way to the control thread.
    pub(crate) fn control(&self) -> &Control {
        &self.handle.control
    }

    /// The runtime's images; `None` once the runtime is gone.
    fn images(&self) -> Option<Arc<Images>> {
        self.handle.images.upgrade()
    }

    /// Its id: `sb-` and 16 hexadecimal digits.
    pub fn id(&self) -> &str {
        self.shared().id.as_str()
    }

    /// The name it was given.
    pub fn name(&self) -> Option<&str> {
        self.shared().config.name()
    }

    /// The tags it was given.
    pub fn tags(&self) -> &BTreeMap<String, String> {
        self.shared().config.tags()
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.shared().facts().state
    }

    /// Why it could not be created, once `create_begin` has failed.
    pub fn failure(&self) -> Option<Error> {
        self.shared().facts().failure.clone()
    }

    /// Waits until its program was started, or it could not be. `None` waits for ever.
    pub fn wait_started(&self, timeout: Option<Duration>) -> Result<()> {
        let id = &self.shared().id;
        self.shared().wait_for("did not start", timeout, |facts| facts.outcome_of_start(id))
    }

    /// Waits until the tunnels' listeners exist and returns them. `None` waits for ever.
    ///
    /// "Up" is not "ready": the server inside may still be starting. See [`Sandbox::wait_ready`].
    pub fn tunnels(&self, timeout: Option<Duration>) -> Result<TunnelMap> {
        let id = &self.shared().id;
        self.shared().wait_for("did not open its tunnels", timeout, |facts| {
            match (&facts.tunnels, facts.state) {
                (_, State::Ended) => Some(Err(facts.failure.clone().unwrap_or_else(|| facts.ended(id)))),
                (Some(tunnels), _) => Some(Ok(tunnels.clone())),
                (None, _) => None,
            }
        })
    }

    /// Waits until the server inside answers.
    ///
    /// It is asked by the configured readiness probe; without one, by connecting to the first port listed.
    /// With neither there is nothing to ask, which is an error.
    pub fn wait_ready(&self, timeout: Option<Duration>) -> Result<()> {
        let id = &self.shared().id;
        if plan::probe(&self.shared().config).is_none() {
            let text = "has no readiness probe and no port, so nothing can be asked whether it is ready; configure one, \
                        or wait for its start only";
            return Err(Error::invalid(format!("sandbox {id} {text}")));
        }
        self.handle.control.send(Command::Probe(self.shared().number))?;
        self.shared().wait_for("was not ready", timeout, |facts| match (facts.ready, facts.state) {
            (true, State::Running) => Some(Ok(())),
            (_, State::Ended) => Some(Err(facts.failure.clone().unwrap_or_else(|| facts.ended(id)))),
            (_, State::Ending) if facts.failure.is_none() => Some(Err(facts.ended(id))),
            _ => None,
        })
    }

    /// Waits until the sandbox has ended and nothing of it is left. A sandbox that could not be created
    /// gives the reason as an error.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Exit> {
        self.shared().wait_for("did not end", timeout, |facts| {
            match (facts.state, facts.exit, &facts.failure) {
                (State::Ended, Some(exit), _) => Some(Ok(exit)),
                (State::Ended, None, Some(failure)) => Some(Err(failure.clone())),
                _ => None,
            }
        })
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.shared().facts().exit
    }

    /// Asks for its end. Never blocks; may be called from any thread, at any time, any number of times. An exit snapshot is
    /// taken before it ends ([`Config::set_exit_snapshot`](crate::Config::set_exit_snapshot)), unless it is asked for again.
    pub fn terminate(&self) -> Result<()> {
        // A runtime that is gone has ended its sandboxes already.
        let _ = self.handle.control.send(Command::Terminate(self.shared().number));
        Ok(())
    }

    /// A connection to a port inside, without any port on the host: an AF_UNIX stream, non-blocking, the
    /// caller's own. Any port may be named, not only those that have tunnels.
    ///
    /// Waits until the server inside accepts or refuses, a few seconds at most.
    pub fn connect(&self, port: u16) -> Result<OwnedFd> {
        let connected = self.connect_begin(port, None)?.wait(None);
        self.shared().unless_ended(connected)?.take()
    }

    /// Begins that and returns at once; the result has the descriptor. With a queue its end is an event
    /// (`OperationDone`) there, with that cookie.
    pub fn connect_begin(&self, port: u16, events: Option<(&Queue, u64)>) -> Result<Operation<Connection>> {
        if port == 0 {
            return Err(Error::invalid("port 0: a port is 1 to 65535"));
        }
        match self.state() {
            State::Running if self.shared().config.policy().mode() == PolicyMode::Blocked => {
                let text =
                    format!("sandbox {}: was created without any network, and has no ports", self.id());
                Err(Error::new(Code::Unsupported, text))
            }
            State::Running => self.handle.control.connect(self.shared(), port, events),
            State::Starting => Err(Error::still_starting(self.id())),
            _ => Err(self.shared().ended()),
        }
    }

    /// The host's end of a standard stream of the program that was configured as `Stdio::Descriptor`, once
    /// each. Standard input is an AF_UNIX stream, the outputs are pipes; all are non-blocking.
    pub fn open_stream(&self, stream: Stream) -> Result<OwnedFd> {
        if self.shared().config.stdio(stream) != Stdio::Descriptor {
            return Err(self.without(stream, Code::NotFound, "was not configured as a descriptor"));
        }
        let taken = self.shared().facts().descriptors.get_mut(stream.index()).and_then(Option::take);
        taken.ok_or_else(|| match self.state() {
            State::Starting => {
                self.without(stream, Code::State, "is not there while the sandbox is starting")
            }
            _ => self.without(stream, Code::State, "was opened before, or the program was never started"),
        })
    }

    /// What has been captured so far of an output stream that was configured as `Stdio::Capture`.
    pub fn captured(&self, stream: Stream) -> Result<Captured> {
        if !matches!(self.shared().config.stdio(stream), Stdio::Capture { .. }) {
            return Err(self.without(stream, Code::NotFound, "was not configured to be captured"));
        }
        let capture = self.shared().facts().captures.get(stream.index()).and_then(Clone::clone);
        // Before the program was started it has said nothing.
        Ok(capture.map(|capture| capture.get()).unwrap_or_default())
    }

    fn without(&self, stream: Stream, code: Code, why: &str) -> Error {
        Error::new(code, format!("{stream} of sandbox {} {why}", self.id()))
    }

    /// Sends a signal to the program (not to its children).
    pub fn signal(&self, signal: i32) -> Result<()> {
        check_signal(signal)?;
        if self.shared().config.command().is_empty() {
            let text = format!("sandbox {} has no program of its own to be signalled", self.id());
            return Err(Error::new(Code::State, text));
        }
        match self.state() {
            State::Running => self.handle.control.send(Command::Signal(self.shared().number, signal)),
            State::Starting => Err(Error::still_starting(self.id())),
            _ => Err(self.shared().ended()),
        }
    }

    /// Asks for a graceful end: sends the program a signal (an idle sandbox: every program that was executed
    /// in it), accepts no further connection, and ends it when the program and the last connection have ended. What
    /// is left after `grace` is killed. Never blocks. Signal 0 is the one that the image names (`StopSignal`), or else
    /// SIGTERM.
    ///
    /// It ends as its program did, or as terminated if that had to be killed.
    pub fn stop(&self, signal: i32, grace: Duration) -> Result<()> {
        let signal = if signal == 0 { self.shared().config.stop_signal() } else { signal };
        check_signal(signal)?;
        // A runtime that is gone has ended its sandboxes already.
        let _ = self.handle.control.send(Command::Stop(self.shared().number, signal, grace));
        Ok(())
    }

    /// Ends it and makes every waiter return [`Code::Closed`].
    pub fn close(&self) {
        self.shared().update(|facts| facts.closed = true);
        // A runtime that is gone has ended its sandboxes already.
        let _ = self.handle.control.send(Command::Close(self.shared().number));
    }

    /// One more handle of C's to it; false if the last was freed already.
    pub(crate) fn hold(&self) -> bool {
        let mut facts = self.shared().facts();
        facts.handles += usize::from(!facts.closed);
        !facts.closed
    }

    /// One handle of C's less; the last closes it.
    pub(crate) fn release(&self) {
        let mut facts = self.shared().facts();
        facts.handles = facts.handles.saturating_sub(1);
        facts.closed |= facts.handles == 0;
        let last = facts.closed;
        drop(facts);
        if last {
            self.close();
        }
    }
}

fn check_signal(signal: i32) -> Result<()> {
    if (1..=64).contains(&signal) {
        return Ok(());
    }
    Err(Error::invalid(format!("signal {signal}: a signal is 1 to 64")))
}
