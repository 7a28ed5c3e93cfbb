//! The internal form of an event: one struct with a field for everything that any kind reports. The C ABI copies
//! it as it is; Rust hosts get an [`Event`](super::Event), which is made from it.

use std::time::Duration;

use super::ExitReason;
use crate::error::Error;
use crate::policy::Reason;

/// What happened. The numbers are part of the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum EventKind {
    /// The sandbox's program was started.
    Started = 1,
    /// The sandbox could not be created; `code` and `detail` say why.
    Failed = 2,
    /// The server inside answers, for the first time.
    Ready = 3,
    /// The sandbox has ended and nothing of it is left; `code` and `reason` as in [`crate::Exit`].
    Exited = 4,
    /// A program that was executed in the sandbox has ended; `code` and `reason` as in [`crate::Exit`]. If it could
    /// not be started, there is no `reason`, and `code` and `detail` say why.
    ProcessExited = 5,
    /// The policy denied something that the sandbox wanted to reach.
    Denied = 6,
    /// A change of the policy has ended: `code` is 0 and the first `value` the new generation, or `code` is the error's
    /// number and `detail` its text.
    PolicyApplied = 7,
    /// A limit of the library was reached; `detail` says which.
    Limit = 8,
    /// A program that was executed in the sandbox was started.
    ProcessStarted = 9,
    /// An operation has ended; `code` is 0 or the error's number, `detail` its text, `value` the bytes done and in all.
    OperationDone = 10,
    /// A watched directory has changes to be taken.
    FileChanged = 11,
    /// The policy allowed what the sandbox wanted to reach, and the far end did not accept it. `code` is the errno.
    Unreachable = 12,
    /// A check of this machine has ended; the first `value` is 1 if sandboxes can be created.
    Checked = 13,
    /// An operation on an image goes on: `value` are the bytes done and in all, `detail` what is being done.
    Progress = 14,
    /// The exit snapshot of a sandbox is stored: `detail` is the image's id, `value` its bytes and the microseconds in which
    /// the sandbox was paused. Or there is none: `code` is the error's number and `detail` its text.
    ExitSnapshot = 15,
}

/// The reason that an event carries. In C it is one number: those of exits are positive, as are the reasons that allow;
/// a denial's are negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EventReason {
    /// None: 0 in C.
    #[default]
    None,
    /// Why a sandbox or a program ended.
    Exit(ExitReason),
    /// Why something was denied.
    Policy(Reason),
}

impl EventReason {
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::None => 0,
            Self::Exit(reason) => reason as i32,
            Self::Policy(reason) => reason as i32,
        }
    }
}

impl From<ExitReason> for EventReason {
    fn from(reason: ExitReason) -> Self {
        Self::Exit(reason)
    }
}

impl From<Reason> for EventReason {
    fn from(reason: Reason) -> Self {
        Self::Policy(reason)
    }
}

/// One event: of a sandbox, of a program or operation in it, or of a check of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventRecord {
    pub(crate) kind: EventKind,
    /// The host's own number for what it happened to.
    pub(crate) cookie: u64,
    /// Counts the queue's events, from 1, the lost ones included.
    pub(crate) sequence: u64,
    /// When, on the monotonic clock (CLOCK_MONOTONIC).
    pub(crate) time: Duration,
    /// How many events were dropped just after this one because the queue was full.
    pub(crate) lost: u64,
    /// An exit code, an error's number, an errno, or 0: the kind says which.
    pub(crate) code: i32,
    pub(crate) reason: EventReason,
    /// The policy's entry that decided, or -1.
    pub(crate) entry: i32,
    /// An IP protocol, or 0.
    pub(crate) protocol: u32,
    /// A port, or 0.
    pub(crate) port: u32,
    /// How many times it happened, where events are gathered; else 1.
    pub(crate) count: u32,
    /// An address or name, or empty.
    pub(crate) address: String,
    /// A text for people, or empty.
    pub(crate) detail: String,
    /// Numbers that belong to the kind: bytes done and in all, a generation, an answer; else 0.
    pub(crate) value: [u64; 2],
    /// The error that `code` and `detail` describe, if it is one.
    pub(crate) failure: Option<Error>,
}

impl EventRecord {
    /// An event of a kind that reports nothing else. A queue fills in cookie, sequence, time and losses.
    pub(crate) fn new(kind: EventKind) -> Self {
        Self {
            kind,
            cookie: 0,
            sequence: 0,
            time: Duration::ZERO,
            lost: 0,
            code: 0,
            reason: EventReason::None,
            entry: -1,
            protocol: 0,
            port: 0,
            count: 1,
            address: String::new(),
            detail: String::new(),
            value: [0; 2],
            failure: None,
        }
    }

    /// Records a failure: the error's number and text.
    pub(crate) fn set_failure(&mut self, error: &Error) {
        (self.code, self.detail) = (error.code().number(), error.message().to_owned());
        self.failure = Some(error.clone());
    }
}
