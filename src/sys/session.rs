//! Starts a program in a session of its own, so that its children can be killed with it. It ends with the thread that
//! starts it at the latest.

use std::ffi::CString;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::spawn::{self, Child, Command, Executable};

/// How long to wait for a file that is open for writing.
const BUSY_GRACE: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Starts the program at `path`. Waits a moment if its file is still open for writing: a host that has just unpacked it
/// may have a child, forked by another thread, that holds the descriptor until it execs. `pause` lets a time pass, or
/// says that the wait is over.
pub(crate) fn start(
    path: &CString,
    arguments: &[CString],
    environment: &[CString],
    descriptors: &[BorrowedFd<'_>],
    mut pause: impl FnMut(Duration) -> bool,
) -> io::Result<Child> {
    let until = Instant::now() + BUSY_GRACE;
    loop {
        let child = spawn::spawn(&mut Command {
            executable: Executable::Paths(std::slice::from_ref(path)),
            arguments,
            environment,
            descriptors,
            dispositions: spawn::EVERY_SIGNAL,
            prepare: &mut || {
                let own = nix::unistd::setsid().and_then(|_| set_pdeathsig(Signal::SIGKILL));
                own.map_err(|error| error as i32)
            },
        });
        let is_busy = matches!(&child, Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy);
        if !is_busy || Instant::now() >= until || !pause(BUSY_PAUSE) {
            return child;
        }
    }
}
