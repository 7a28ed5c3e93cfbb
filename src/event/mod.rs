//! What a runtime reports to its host: events, and the queues that they wait in.

mod exit;
pub(crate) mod operation;
pub(crate) mod queue;
mod record;
mod reported;

use std::time::Duration;

pub use exit::{Exit, ExitReason};
pub use operation::Operation;
pub use queue::Queue;
pub(crate) use record::{EventKind, EventReason, EventRecord};
pub(crate) use reported::Reported;

use crate::error::{Error, Result};
use crate::policy::Reason;

/// What happened: to a sandbox, to a program or an operation in it, or in a check of the host.
///
/// Later versions have further kinds and further fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The sandbox's program was started.
    Started,
    /// The sandbox could not be created.
    #[non_exhaustive]
    Failed {
        /// Why.
        error: Error,
    },
    /// The server in the sandbox answers, for the first time.
    Ready,
    /// The exit snapshot is stored, or there is none. [`Exited`](Self::Exited) follows.
    #[non_exhaustive]
    ExitSnapshot {
        /// The image's id ([`Sandbox::exit_snapshot`](crate::Sandbox::exit_snapshot) gives the image), or why there is none.
        image: Result<String>,
    },
    /// The sandbox has ended and nothing of it is left.
    #[non_exhaustive]
    Exited {
        /// Why.
        reason: ExitReason,
        /// The exit code, as in [`Exit::code`].
        code: i32,
        /// What is known beyond the reason, for people; may be empty.
        detail: String,
    },
    /// A program that was executed in the sandbox was started.
    ProcessStarted,
    /// A program that was executed in the sandbox could not be started.
    #[non_exhaustive]
    ProcessFailed {
        /// Why.
        error: Error,
    },
    /// A program that was executed in the sandbox has ended.
    #[non_exhaustive]
    ProcessExited {
        /// Why.
        reason: ExitReason,
        /// The exit code, as in [`Exit::code`].
        code: i32,
    },
    /// The policy denied something that the sandbox wanted to reach.
    #[non_exhaustive]
    Denied {
        /// Why; `None` where one event stands for several denials of different kinds.
        reason: Option<Reason>,
        /// The policy's entry that decided: its place in [`Policy::entries`](crate::Policy::entries).
        entry: Option<u32>,
        /// The address or the name that the sandbox wanted to reach; empty where one event stands for several.
        destination: String,
        /// The destination's port, or 0.
        port: u16,
        /// The IP protocol (6 is TCP, 17 is UDP), or 0.
        protocol: u8,
        /// How many times it happened.
        count: u32,
        /// The reason in words, for people.
        detail: String,
    },
    /// The policy allowed what the sandbox wanted to reach, and the far end did not accept it.
    #[non_exhaustive]
    Unreachable {
        /// The errno: refused, unreachable, timed out.
        errno: i32,
        /// The address.
        destination: String,
        /// The destination's port.
        port: u16,
        /// The IP protocol (6 is TCP, 17 is UDP).
        protocol: u8,
        /// How many times it happened.
        count: u32,
        /// The failure in words, for people.
        detail: String,
    },
    /// A change of the policy has ended.
    #[non_exhaustive]
    PolicyApplied {
        /// The generation that is in force now, or why the old policy stays.
        generation: Result<u64>,
    },
    /// A limit of the library was reached.
    #[non_exhaustive]
    Limit {
        /// Which, for people.
        detail: String,
    },
    /// An operation has ended.
    #[non_exhaustive]
    OperationDone {
        /// Whether it was done, or why not.
        result: Result<()>,
        /// How many bytes were moved.
        bytes_done: u64,
        /// How many there were, as far as that is known.
        bytes_total: u64,
    },
    /// An operation on an image goes on; at most ten of these come a second.
    #[non_exhaustive]
    Progress {
        /// How many bytes are done.
        bytes_done: u64,
        /// How many there are in all; 0 as long as that isn't known.
        bytes_total: u64,
        /// What is being done, for people.
        detail: String,
    },
    /// A watched directory has changes: [`FileOperation::next_change`](crate::FileOperation::next_change).
    FileChanged,
    /// A check of the host has ended.
    #[non_exhaustive]
    Checked {
        /// Whether sandboxes can be created on this host, or why the check failed.
        usable: Result<bool>,
    },
}

/// An [`Event`] as it comes from a [`Queue`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedEvent {
    /// The host's own number for what it happened to, as it was given with the queue.
    pub cookie: u64,
    /// Counts the queue's events, from 1, the lost ones included.
    pub sequence: u64,
    /// When, on the monotonic clock (CLOCK_MONOTONIC).
    pub time: Duration,
    /// How many events were dropped just after this one because the queue was full.
    pub lost: u64,
    /// What happened.
    pub event: Event,
}

impl From<EventRecord> for QueuedEvent {
    fn from(record: EventRecord) -> Self {
        let EventRecord { cookie, sequence, time, lost, .. } = record;
        Self { cookie, sequence, time, lost, event: Event::from(record) }
    }
}

impl From<EventRecord> for Event {
    fn from(record: EventRecord) -> Self {
        let EventRecord { kind, code, reason, count, address: destination, detail, failure, .. } = record;
        let [first, second] = record.value;
        let (port, protocol) =
            (u16::try_from(record.port).unwrap_or(0), u8::try_from(record.protocol).unwrap_or(0));
        match kind {
            EventKind::Started => Self::Started,
            EventKind::Failed => Self::Failed { error: failure.unwrap_or_else(unexplained) },
            EventKind::Ready => Self::Ready,
            EventKind::ExitSnapshot => Self::ExitSnapshot { image: failure.map_or(Ok(detail), Err) },
            EventKind::Exited => Self::Exited { reason: exit_reason(reason), code, detail },
            EventKind::ProcessStarted => Self::ProcessStarted,
            EventKind::ProcessExited => match failure {
                Some(error) => Self::ProcessFailed { error },
                None => Self::ProcessExited { reason: exit_reason(reason), code },
            },
            EventKind::Denied => Self::Denied {
                reason: match reason {
                    EventReason::Policy(reason) => Some(reason),
                    EventReason::None | EventReason::Exit(_) => None,
                },
                entry: u32::try_from(record.entry).ok(),
                destination,
                port,
                protocol,
                count,
                detail,
            },
            EventKind::Unreachable => {
                Self::Unreachable { errno: code, destination, port, protocol, count, detail }
            }
            EventKind::PolicyApplied => Self::PolicyApplied { generation: failure.map_or(Ok(first), Err) },
            EventKind::Limit => Self::Limit { detail },
            EventKind::OperationDone => Self::OperationDone {
                result: failure.map_or(Ok(()), Err),
                bytes_done: first,
                bytes_total: second,
            },
            EventKind::Progress => Self::Progress { bytes_done: first, bytes_total: second, detail },
            EventKind::FileChanged => Self::FileChanged,
            EventKind::Checked => Self::Checked { usable: failure.map_or(Ok(first == 1), Err) },
        }
    }
}

fn exit_reason(reason: EventReason) -> ExitReason {
    match reason {
        EventReason::Exit(reason) => reason,
        EventReason::None | EventReason::Policy(_) => {
            debug_assert!(false, "an exit was reported without its reason");
            ExitReason::EngineLost
        }
    }
}

fn unexplained() -> Error {
    debug_assert!(false, "a failure was reported without its error");
    Error::new(crate::error::Code::Internal, "the failure was not recorded: a bug of the library")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn event(kind: EventKind, fill: impl FnOnce(&mut EventRecord)) -> Event {
        let mut record = EventRecord::new(kind);
        fill(&mut record);
        Event::from(record)
    }

    #[test]
    fn an_exit_has_its_reason_and_a_program_that_never_started_its_error() {
        let error = Error::new(Code::Exec, "no-such-program");
        let exited = event(EventKind::Exited, |record| {
            (record.code, record.reason) = (137, ExitReason::Terminated.into());
        });
        let detail = String::new();
        assert_eq!(exited, Event::Exited { reason: ExitReason::Terminated, code: 137, detail });
        let exited = event(EventKind::ProcessExited, |record| {
            (record.code, record.reason) = (3, ExitReason::Exited.into());
        });
        assert_eq!(exited, Event::ProcessExited { reason: ExitReason::Exited, code: 3 });
        let failed = event(EventKind::ProcessExited, |record| record.set_failure(&error));
        assert_eq!(failed, Event::ProcessFailed { error: error.clone() });
        let failed = event(EventKind::Failed, |record| record.set_failure(&error));
        assert_eq!(failed, Event::Failed { error });
    }

    #[test]
    fn a_denial_has_its_reason_and_its_entry_if_one_decided() {
        let denied = event(EventKind::Denied, |record| {
            record.reason = Reason::Denied.into();
            (record.entry, record.port, record.protocol, record.count) = (4, 443, 6, 9);
            record.address = "192.0.2.1".to_owned();
        });
        let Event::Denied { reason, entry, destination, port, protocol, count, .. } = denied else {
            panic!("{denied:?}")
        };
        assert_eq!((reason, entry, destination.as_str()), (Some(Reason::Denied), Some(4), "192.0.2.1"));
        assert_eq!((port, protocol, count), (443, 6, 9));
        let several = event(EventKind::Denied, |record| record.count = 1000);
        assert!(
            matches!(several, Event::Denied { reason: None, entry: None, count: 1000, .. }),
            "{several:?}"
        );
    }

    #[test]
    fn an_operation_has_its_result() {
        let error = Error::new(Code::NotFound, "/nowhere");
        let fail = |record: &mut EventRecord| record.set_failure(&error);
        let failed = Err(error.clone());
        let done = event(EventKind::OperationDone, |record| record.value = [5, 9]);
        assert_eq!(done, Event::OperationDone { result: Ok(()), bytes_done: 5, bytes_total: 9 });
        let done = event(EventKind::OperationDone, fail);
        assert_eq!(done, Event::OperationDone { result: failed, bytes_done: 0, bytes_total: 0 });
        let going_on = event(EventKind::Progress, |record| {
            (record.value, record.detail) = ([3, 9], "layer 1 of 2".to_owned());
        });
        let detail = "layer 1 of 2".to_owned();
        assert_eq!(going_on, Event::Progress { bytes_done: 3, bytes_total: 9, detail });
        let applied = event(EventKind::PolicyApplied, |record| record.value = [7, 0]);
        assert_eq!(applied, Event::PolicyApplied { generation: Ok(7) });
        let failed = Err(error.clone());
        assert_eq!(event(EventKind::PolicyApplied, fail), Event::PolicyApplied { generation: failed });
        assert_eq!(event(EventKind::Checked, |_| ()), Event::Checked { usable: Ok(false) });
        assert_eq!(
            event(EventKind::Checked, |record| record.value = [1, 0]),
            Event::Checked { usable: Ok(true) }
        );
    }
}
