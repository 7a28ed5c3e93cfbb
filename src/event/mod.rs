//! What a runtime tells its host: events, and the queues that they wait in.

pub(crate) mod operation;
pub(crate) mod queue;
mod reported;

use std::time::Duration;

pub use operation::Operation;
pub use queue::Queue;
pub(crate) use reported::Reported;

use crate::error::Error;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum EventKind {
    /// The sandbox's program was started.
    Started = 1,
    /// The sandbox could not be created; `code` and `detail` say why.
    Failed = 2,
    /// The server inside answers, for the first time.
    Ready = 3,
    /// The sandbox has ended and nothing of it is left; `code` and `reason` as in [`crate::Exit`].
    Exited = 4,
    /// A program that was executed in the sandbox has ended; `code` and `reason` as in [`crate::Exit`]. If it could
    /// not be started, `reason` is 0 and `code` and `detail` say why.
    ProcessExited = 5,
    /// Something that the sandbox wanted to reach was denied.
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
    /// In a directory that is watched there are changes to be taken.
    FileChanged = 11,
    /// What the sandbox wanted to reach was allowed, and the far end did not take it: refused, unreachable, silent.
    /// `code` is the errno.
    Unreachable = 12,
    /// A check of this machine has ended; the first `value` is 1 if sandboxes can be created.
    Checked = 13,
}

/// One event: of a sandbox, of a program or operation in it, or of a check of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The host's own number for what it happened to.
    pub cookie: u64,
    /// Counts the queue's events, from 1, the lost ones included.
    pub sequence: u64,
    /// When, on the monotonic clock (CLOCK_MONOTONIC).
    pub time: Duration,
    /// How many events were dropped just after this one because the queue was full.
    pub lost: u64,
    /// An exit code, an error's number, an errno, or 0: as the kind says.
    pub code: i32,
    /// An [`crate::ExitReason`], a [`crate::Reason`], or 0.
    pub reason: i32,
    /// The place of the policy's entry concerned, or -1.
    pub entry: i32,
    /// An IP protocol, or 0.
    pub protocol: u32,
    /// A port, or 0.
    pub port: u32,
    /// How many times it happened, where events are gathered; else 1.
    pub count: u32,
    /// An address or name, or empty.
    pub address: String,
    /// A text for people, or empty.
    pub detail: String,
    /// Numbers of the kind: bytes done and in all, a generation, an answer; else 0.
    pub value: [u64; 2],
}

impl Event {
    /// An event of a kind that says nothing else. A queue fills in cookie, sequence, time and losses.
    pub(crate) fn new(kind: EventKind) -> Self {
        Self {
            kind,
            cookie: 0,
            sequence: 0,
            time: Duration::ZERO,
            lost: 0,
            code: 0,
            reason: 0,
            entry: -1,
            protocol: 0,
            port: 0,
            count: 1,
            address: String::new(),
            detail: String::new(),
            value: [0; 2],
        }
    }

    /// Of something that has failed: the error's number and text.
    pub(crate) fn set_failure(&mut self, error: &Error) {
        (self.code, self.detail) = (error.code().number(), error.message().to_owned());
    }
}
