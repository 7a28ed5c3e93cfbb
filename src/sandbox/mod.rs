//! One sandbox's life: states, exit, timers.
mod exit;

use std::os::fd::OwnedFd;
use std::time::Duration;

pub use exit::{Exit, ExitReason};

use crate::error::{Code, Error, Result};
use crate::process::{Captured, Stream};
use crate::tunnel::TunnelMap;

/// Where a sandbox is in its life. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Being created: nothing of the program runs yet.
    Starting,
    /// The program was started.
    Running,
    /// The program has ended, or the sandbox is being ended; its processes are going away.
    Ending,
    /// Nothing of it is left.
    Ended,
}

/// A sandbox. Clones are handles to the same one; dropping the last ends it.
#[derive(Clone, Debug)]
pub struct Sandbox {}

impl Sandbox {
    fn later<T>() -> Result<T> {
        Err(Error::new(Code::Unsupported, "not built yet"))
    }
    /// Its id: `sb-` and 16 hexadecimal digits.
    pub fn id(&self) -> &str {
        ""
    }
    /// The name it was given.
    pub fn name(&self) -> Option<&str> {
        None
    }
    /// Where it is in its life.
    pub fn state(&self) -> State {
        State::Ended
    }
    /// Why it could not be created, once `create_begin` has failed.
    pub fn failure(&self) -> Option<Error> {
        None
    }
    /// Waits until the tunnels' listeners exist and returns them. `None` waits for ever.
    pub fn tunnels(&self, _timeout: Option<Duration>) -> Result<TunnelMap> {
        Self::later()
    }
    /// Waits until the server inside answers its readiness probe.
    pub fn wait_ready(&self, _timeout: Option<Duration>) -> Result<()> {
        Self::later()
    }
    /// Waits until the sandbox has ended and nothing of it is left.
    pub fn wait(&self, _timeout: Option<Duration>) -> Result<Exit> {
        Self::later()
    }
    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        None
    }
    /// Asks for its end. Never blocks; may be called from any thread, at any time, any number of times.
    pub fn terminate(&self) -> Result<()> {
        Self::later()
    }
    /// A connection to a port inside, without any port on the host.
    pub fn connect(&self, _port: u16) -> Result<OwnedFd> {
        Self::later()
    }
    /// The host's end of a standard stream of the program that was configured as `Stdio::Descriptor`; once each.
    pub fn open_stream(&self, _stream: Stream) -> Result<OwnedFd> {
        Self::later()
    }
    /// What has been captured of an output stream that was configured as `Stdio::Capture`.
    pub fn captured(&self, _stream: Stream) -> Result<Captured> {
        Self::later()
    }
    /// Sends a signal to the program.
    pub fn signal(&self, _signal: i32) -> Result<()> {
        Self::later()
    }
    /// Ends it and makes every waiter return `Code::Closed`.
    pub fn close(&self) {}
}
