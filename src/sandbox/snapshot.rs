//! Snapshots: what a sandbox has changed in its root file system, merged with the image that it was started from.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{Archive, ArchiveTask, Command, Sandbox, State};
use crate::error::{Error, Result};
use crate::event::Operation;

impl Sandbox {
    /// Begins to write what the sandbox has changed in its root file system to a file, as a tar archive. The sandbox is
    /// paused meanwhile. A dropped operation goes on; [`Sandbox::end_archive`] ends it.
    pub(crate) fn write_archive(
        &self,
        file: OwnedFd,
        bytes: u64,
        time: Duration,
    ) -> Result<Operation<Archive>> {
        match self.state() {
            State::Running => {}
            State::Starting => return Err(Error::still_starting(self.id())),
            State::Ending | State::Ended => return Err(self.shared().ended()),
        }
        let lost = Error::sandbox_ended(&format!("sandbox {}", self.id()), None);
        let title = format!("writing the changes of sandbox {}", self.id());
        let (operation, completion) = Operation::new(title, lost);
        let task = ArchiveTask { sandbox: self.shared().number, file, bytes, time, completion };
        self.control().send(Command::Archive(Box::new(task)))?;
        Ok(operation)
    }

    /// Ends that, if it goes on.
    pub(crate) fn end_archive(&self) {
        // A runtime that is gone has ended the sandbox.
        let _ = self.control().send(Command::EndArchive(self.shared().number));
    }
}
