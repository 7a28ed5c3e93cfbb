//! How a sandbox ended.

use std::time::Duration;

/// Why a sandbox or a program ended. It tells a program's own 124 or 137 apart from the library's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum ExitReason {
    /// The program ended by itself; `code` is its own.
    Exited = 1,
    /// A signal ended the program; `code` is 128 + the signal.
    Signalled = 2,
    /// Its timeout expired; `code` is 124.
    TimedOut = 3,
    /// It was idle for its idle timeout; `code` is 124.
    Idle = 4,
    /// It was terminated by the host; `code` is 137.
    Terminated = 5,
    /// It reached its memory limit; `code` is 137.
    OutOfMemory = 6,
    /// The engine was lost: the keeper or gVisor ended unexpectedly; `code` is 137.
    EngineLost = 7,
}

/// How a sandbox or a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// Why.
    pub reason: ExitReason,
    /// The exit code, as in Modal: the program's own; 128 + n for a signal; 124 for a timeout; 137 when terminated.
    pub code: i32,
    /// The signal that ended the program, or 0.
    pub signal: i32,
    /// From the program's start to its end.
    pub runtime: Duration,
}
