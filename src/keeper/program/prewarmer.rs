//! The program through which runsc starts the sentry, as a release's `gvisor-sentry-prewarmer` does: it executes the sentry
//! in the same process.
//!
//! runsc looks for it beside itself, in `gvisor-bin`, and gives it an empty environment and, as arguments, the sentry's
//! path and arguments. Here the path is a link to a descriptor of runsc's, [`DESCRIPTOR`], which is this program. Nothing
//! has to be copied or mounted for it, and where the descriptor can't be opened runsc starts the sentry without it.
//!
//! * A table of descriptors that has to grow in a process with threads waits for an RCU grace period of the kernel's, some
//!   ten milliseconds. The sentry puts the sandbox's standard streams at 253 to 258, depending on the release. Its table
//!   begins as a copy of runsc's, and since runsc has this descriptor it is large enough.
//! * The sentry gets a setting of Go's: [`GOGC`].

use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::ptr;

/// The number of the descriptor. Above those of the sandbox's standard streams in the sentry, and in the smallest table
/// that has these.
pub(crate) const DESCRIPTOR: i32 = 300;
/// Where runsc looks for the program.
pub(crate) const PATH: &str = "/gvisor-bin/gvisor-sentry-prewarmer";
/// What is at that path.
pub(crate) const TARGET: &str = "/proc/self/fd/300";
/// Go collects garbage when the heap has grown by this part of what was live, in percent; the default is 100. Starting a
/// sentry leaves garbage (it compiles its system call filter), and with 200 there are half as many collections.
pub(crate) const GOGC: &CStr = c"GOGC=200";

/// Where the sentry is that runsc itself contains, which runsc names as /proc/self/exe: here that is this program.
const RUNSC: &CStr = c"/runsc";

/// Executes the sentry: `arguments` are this program's own.
pub(crate) fn main(arguments: Vec<OsString>) -> ExitCode {
    let strings = arguments.into_iter().map(|argument| CString::new(argument.into_vec()));
    let Ok(strings) = strings.collect::<Result<Vec<_>, _>>() else { return ExitCode::FAILURE };
    let [_, path, sentry @ ..] = strings.as_slice() else { return ExitCode::FAILURE };
    let path = if path.as_bytes() == b"/proc/self/exe" { RUNSC } else { path };
    let sentry: Vec<_> = sentry.iter().map(|argument| argument.as_ptr()).chain([ptr::null()]).collect();
    let environment = [GOGC.as_ptr(), ptr::null()];
    // SAFETY: signal takes a number and a disposition. The standard library ignores the signal, and that would stay.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: the path ends with NUL, and both arrays with NULL; their strings are live.
    unsafe { libc::execve(path.as_ptr(), sentry.as_ptr(), environment.as_ptr()) };
    ExitCode::FAILURE
}
