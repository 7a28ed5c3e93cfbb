//! Programs that are executed in a running sandbox.
//!
//! [`Process`] is the host's handle; what it and the control thread know together is a `Record`; what is made on
//! the caller's thread travels as a [`Launch`] and is an [`Executed`] in the control thread from then on.

mod launch;
mod record;
mod running;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Command, Control, Exit, Sandbox, State, check_signal};
use crate::config::Exec;
use crate::config::Stream;
use crate::config::exec::window;
use crate::error::{Code, Error, Result};
use crate::keeper::wire::init::Window;
use crate::process::Captured;
pub(crate) use launch::Launch;
use record::{Have, Record};
pub(crate) use running::{ExecCx, Execs, Executed, ProgramRequest};

/// Numbers executed programs, for all sandboxes of the process.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A program that was executed in a running sandbox. Clones are handles to the same one. Dropping the last does
/// not end it, but closes what was not taken of its streams.
#[derive(Clone, Debug)]
pub struct Process {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    sandbox: u64,
    number: u64,
    record: Arc<Record>,
    control: Control,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.record.close();
    }
}

impl Sandbox {
    /// Executes a program in the sandbox and waits until it was started. What isn't set is as for the sandbox's
    /// own program: environment, directory, user.
    pub fn exec(&self, exec: &Exec) -> Result<Process> {
        let process = self.exec_begin(exec)?;
        process.wait_started(None)?;
        Ok(process)
    }

    /// Begins to execute a program and returns at once. The start is an event, `ProcessStarted`; a
    /// failed start is a `ProcessExited` with the error's number, and what [`Process::wait`] returns.
    /// Its streams can be opened from now on.
    pub fn exec_begin(&self, exec: &Exec) -> Result<Process> {
        exec.check()?;
        match self.state() {
            State::Running => {}
            State::Starting => return Err(Error::still_starting(self.id())),
            State::Ending | State::Ended => return Err(self.shared().ended()),
        }
        let control = self.handle.control.clone();
        let launch = Launch::new(self.shared(), exec, control.budget())?;
        let Some(record) = launch.record() else { return Err(self.shared().ended()) };
        let (sandbox, number) = (self.shared().number, NUMBERS.fetch_add(1, Ordering::Relaxed));
        control.send(Command::Execute { sandbox, number, launch: Box::new(launch) })?;
        Ok(Process { handle: Arc::new(Handle { sandbox, number, record, control }) })
    }
}

impl Process {
    fn record(&self) -> &Record {
        &self.handle.record
    }

    /// Waits until it was started, or could not be. `None` waits for ever.
    pub fn wait_started(&self, timeout: Option<Duration>) -> Result<()> {
        self.record().wait_for("was not started", timeout, |facts| match (facts.state, &facts.end) {
            (_, Some(Err(error))) => Some(Err(error.clone())),
            (record::State::Starting, _) => None,
            (record::State::Running | record::State::Ended, _) => Some(Ok(())),
        })
    }

    /// Waits until it has ended; what it wrote into captures is in them then. One that could not be started gives
    /// the reason as an error. `None` waits for ever, zero only looks.
    ///
    /// One that the sandbox's end takes along has ended as the sandbox did: terminated (137) also if it was the
    /// sandbox's own program that ended.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Exit> {
        self.record().wait_for("did not end", timeout, |facts| facts.end.clone())
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.record().facts().end.clone().and_then(Result::ok)
    }

    /// Why it could not be started, once that is known.
    pub fn failure(&self) -> Option<Error> {
        self.record().facts().end.clone().and_then(Result::err)
    }

    /// Sends a signal to its process group: the program and what it has started in the foreground. A program that
    /// has ended gets none, which is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        check_signal(signal)?;
        self.ask(ProgramRequest::Signal(signal))
    }

    /// Gives its terminal another size, and tells the programs in the foreground (SIGWINCH).
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let (rows, columns) = window(rows, columns)?;
        if matches!(self.record().facts().terminal, Have::Nothing) {
            return Err(Error::new(Code::NotFound, format!("{} has no terminal", self.record().what)));
        }
        self.ask(ProgramRequest::Resize(Window { rows, columns }))
    }

    fn ask(&self, what: ProgramRequest) -> Result<()> {
        let Handle { sandbox, number, control, .. } = &*self.handle;
        // A runtime that is gone has ended its programs already.
        let _ = control.send(Command::Program { sandbox: *sandbox, number: *number, what });
        Ok(())
    }

    /// The host's end of a standard stream that was configured as `Stdio::Descriptor`, once each. Standard input
    /// is an AF_UNIX stream, the outputs are pipes; all are non-blocking.
    pub fn open_stream(&self, stream: Stream) -> Result<OwnedFd> {
        self.record().take(Some(stream))
    }

    /// The host's end of its terminal, once: an AF_UNIX stream, non-blocking. What is written is typed, what is
    /// read is shown. Closing it hangs up: the program gets SIGHUP.
    pub fn open_terminal(&self) -> Result<OwnedFd> {
        self.record().take(None)
    }

    /// What has been captured so far of an output that was configured as `Stdio::Capture`.
    pub fn captured(&self, stream: Stream) -> Result<Captured> {
        match self.record().facts().streams.get(stream.index()) {
            Some(Have::Capture(capture)) => Ok(capture.get()),
            _ => {
                let text = format!("{stream} of {} was not configured to be captured", self.record().what);
                Err(Error::new(Code::NotFound, text))
            }
        }
    }

    /// Makes every waiter return [`Code::Closed`], and closes what was not taken of its streams. The program is
    /// not ended.
    pub fn close(&self) {
        self.record().close();
    }
}
