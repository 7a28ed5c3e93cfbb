//! File operations: a helper process each.
//!
//! Init itself never touches a file on somebody's behalf: what is slow, endless or hangs must not hold up the
//! rest. A helper is a fork of init that closes everything it isn't meant to have, becomes the user asked for,
//! does one thing, says how it went on the socket that came with the request, and ends. Whatever symbolic links
//! lie in its way, they lead where they lead inside the sandbox, for that is where it runs.

mod at;
mod helper;
mod pack;
mod plain;
mod remove;
mod tar;
mod unpack;
mod watch;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use crate::channel::Channel;
use crate::system;
use crate::wire::files::{Outcome, Step, Task};

/// The most helpers at once.
const MAX_HELPERS: usize = 512;

/// Helpers that run: their process, by the library's number.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<u32, i32>);

impl Files {
    /// Starts a helper. Whatever comes of it is said on the socket that came with the request.
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

    /// Ends a helper, if it still runs.
    pub(super) fn end(&self, ticket: u32) {
        if let Some(pid) = self.0.get(&ticket) {
            // SAFETY: kill takes numbers; the child has not been reaped, so its number is its own.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
    }

    /// Ends the helpers that were stopped: none goes on by itself, and the library waits for them.
    pub(super) fn end_stopped(&self) {
        for pid in self.0.values().filter(|pid| system::has_stopped(**pid)) {
            // SAFETY: kill takes numbers; the child has not been reaped, so its number is its own.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
    }

    /// How many helpers run.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(0)
    }

    /// A child has ended. Whether it was a helper.
    pub(super) fn ended(&mut self, pid: i32) -> bool {
        let before = self.0.len();
        self.0.retain(|_, helper| *helper != pid);
        self.0.len() != before
    }
}

/// Makes a directory and those above it, as far as they aren't there.
pub(super) fn make_directories(path: &[u8]) -> Result<(), i32> {
    plain::make_all(path).map_err(|failure| failure.errno())
}

/// Says how it went. A library that doesn't want to know any more is nobody's trouble.
fn send(socket: OwnedFd, outcome: &Outcome) {
    let _ = Channel::new(socket).send(&outcome.encode(), Vec::new());
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
