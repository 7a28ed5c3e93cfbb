//! Why a sandbox ends, and how its end is reported.

use std::time::Duration;

use super::Settings;
use crate::error::{Code, Error};
use crate::sandbox::ExitReason;

/// Why a sandbox ends. The first cause counts, but for [`Cause::is_explained_by_memory`].
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    /// It could not be created.
    Failed(Error),
    /// The program ended, with this status of waitpid(2).
    Program(i32),
    TimedOut,
    Idle,
    Terminated,
    /// It needed more memory than it may have; how that is known.
    OutOfMemory(String),
    /// Keeper, runsc or init were lost.
    Lost(Error),
}

/// How a sandbox ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It was never created.
    Failed(Error),
    Exited {
        reason: ExitReason,
        code: i32,
        signal: i32,
        detail: String,
    },
}

impl Cause {
    /// The cause of an end before the program was started: whatever it was, the sandbox was never created.
    pub(super) fn before_start(self) -> Self {
        match self {
            Self::Failed(error) | Self::Lost(error) => Self::Failed(error),
            Self::OutOfMemory(why) => {
                Self::Failed(Error::new(Code::Limit, format!("{why} before its program was started")))
            }
            Self::Program(_) | Self::TimedOut | Self::Idle | Self::Terminated => {
                Self::Failed(Error::new(Code::Closed, "it was ended before its program was started"))
            }
        }
    }

    /// Whether this is what a lack of memory looks like: the program is killed, or the engine is lost.
    pub(super) fn is_explained_by_memory(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Program(status) => libc::WIFSIGNALED(*status),
            _ => false,
        }
    }

    /// In words, for requests that come too late.
    pub(crate) fn text(&self, settings: &Settings) -> String {
        let seconds = |time: Duration| time.as_secs_f64();
        match self {
            Self::Failed(error) => format!("it could not be created: {error}"),
            Self::Program(status) if libc::WIFSIGNALED(*status) => {
                format!("its program was ended by signal {}", libc::WTERMSIG(*status))
            }
            Self::Program(status) => format!("its program exited with code {}", libc::WEXITSTATUS(*status)),
            Self::TimedOut => format!("timed out after {} s", seconds(settings.timeout)),
            Self::Idle => format!("idle for {} s", seconds(settings.idle_timeout.unwrap_or_default())),
            Self::Terminated => "terminated".to_owned(),
            Self::OutOfMemory(why) => format!("out of memory: {why}"),
            Self::Lost(error) => format!("engine lost: {error}"),
        }
    }

    /// How the sandbox ended.
    pub(super) fn outcome(self) -> Outcome {
        let (reason, code) = self.of_execs();
        let exited = |reason, code, signal, detail| Outcome::Exited { reason, code, signal, detail };
        match self {
            Self::Failed(error) => Outcome::Failed(error),
            Self::Program(status) if libc::WIFSIGNALED(status) => {
                let signal = libc::WTERMSIG(status);
                exited(ExitReason::Signalled, 128 + signal, signal, String::new())
            }
            Self::Program(status) => exited(ExitReason::Exited, libc::WEXITSTATUS(status), 0, String::new()),
            Self::OutOfMemory(why) => exited(reason, code, 0, why),
            Self::Lost(error) => exited(reason, code, 0, error.message().to_owned()),
            Self::TimedOut | Self::Idle | Self::Terminated => exited(reason, code, 0, String::new()),
        }
    }

    /// How executed programs end that the sandbox's end takes along.
    pub(super) fn of_execs(&self) -> (ExitReason, i32) {
        match self {
            Self::TimedOut => (ExitReason::TimedOut, 124),
            Self::Idle => (ExitReason::Idle, 124),
            Self::OutOfMemory(_) => (ExitReason::OutOfMemory, 137),
            Self::Lost(_) => (ExitReason::EngineLost, 137),
            Self::Program(_) | Self::Terminated | Self::Failed(_) => (ExitReason::Terminated, 137),
        }
    }
}
