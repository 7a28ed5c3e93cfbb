//! File operations, each in a helper process.
//!
//! Init itself never touches a file for the library: a slow or hanging operation must not block everything
//! else. A helper is a fork of init that closes all descriptors it doesn't need, changes to the requested
//! user, performs one operation, sends the outcome on the socket that came with the request, and exits. It
//! resolves symbolic links as any program in the sandbox does, because it runs there.

mod at;
mod helper;
mod measure;
mod mounted;
mod pack;
mod plain;
mod remove;
pub(crate) mod tar;
mod unpack;
mod watch;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use crate::channel::Channel;
use crate::system;
use crate::wire::files::{Outcome, Step, Task};
use crate::wire::init::File;

/// The maximum number of helpers.
const MAX_HELPERS: usize = 512;

/// The running helpers: pids by the library's id.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<u32, i32>);

impl Files {
    /// Starts a helper. The outcome, and a failure to start, go to the socket that came with the request.
    pub(super) fn start(&mut self, ticket: u32, task: &Task, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        let Some(socket) = fds.next() else { return };
        let stream = fds.next();
        let errno = if stream.is_some() != task.job.has_stream() || fds.next().is_some() {
            libc::EINVAL
        } else if self.0.len() >= MAX_HELPERS {
            libc::EAGAIN
        } else {
            // SAFETY: init has one thread, so its fork may do whatever init may.
            match system::check(unsafe { libc::fork() }) {
                Ok(0) => helper::main(task, socket, stream),
                Ok(pid) => {
                    self.0.insert(ticket, pid);
                    return;
                }
                Err(error) => number(&error),
            }
        };
        send(socket, &Outcome::Failed { step: Step::Start, errno, path: Vec::new() });
    }

    /// Kills a helper if it still runs.
    pub(super) fn end(&self, ticket: u32) {
        if let Some(pid) = self.0.get(&ticket) {
            // SAFETY: kill takes numbers; the child has not been reaped, so its number is its own.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
    }

    /// Kills the helpers that were stopped (SIGSTOP): nothing continues them, and the library waits for their
    /// outcome.
    pub(super) fn end_stopped(&self) {
        for pid in self.0.values().filter(|pid| system::has_stopped(**pid)) {
            // SAFETY: kill takes numbers; the child has not been reaped, so its number is its own.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
    }

    /// The number of running helpers.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(0)
    }

    /// Records that a child was reaped. Returns whether it was a helper.
    pub(super) fn ended(&mut self, pid: i32) -> bool {
        let before = self.0.len();
        self.0.retain(|_, helper| *helper != pid);
        self.0.len() != before
    }
}

/// Creates a directory and its missing parents.
pub(super) fn make_directories(path: &[u8]) -> Result<(), i32> {
    plain::make_all(path).map_err(|failure| failure.errno())
}

/// Writes files in the place of what is there.
pub(super) fn replace_all(files: &[File]) -> Result<(), i32> {
    files
        .iter()
        .try_for_each(|file| plain::replace(&file.path, &file.content).map_err(|failure| failure.errno()))
}

/// Sends an outcome. The library may have closed its end; that is fine.
fn send(socket: OwnedFd, outcome: &Outcome) {
    let _ = Channel::new(socket).send(&outcome.encode(), Vec::new());
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
