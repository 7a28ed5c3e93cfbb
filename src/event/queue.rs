//! The queue of events: bounded, fed by any thread, emptied by the host, with a doorbell.
//!
//! # Why no wake-up is lost
//!
//! The host waits until the descriptor is readable, reads its bytes away, then takes events until there is none. A push
//! and a take both happen under one lock, and a push into an empty queue rings afterwards. Let T be the moment a take
//! found nothing. Every event pushed before T has been taken, for the queue was empty at T. The first one pushed after T
//! finds the queue empty and rings after T, hence after the host read the bytes away, so the descriptor is readable
//! again. The bell is rung outside all locks ([`Ring`]): the thread that it wakes may take the processor from the one
//! that rings, and would wait for a lock whose holder doesn't run. A ring that fails with EAGAIN fails because unread
//! bytes lie in the socket: it is readable already. A descriptor opened while events wait is rung at once.
//!
//! # What is kept
//!
//! Events beyond the capacity are dropped, the newest first, and counted in the last one that waits, so that a loss is
//! reported even if nothing happens after it. Events whose loss would leave the host waiting ([`is_kept`]) are never
//! dropped: each sandbox and each executed program reserves two places from the moment its creation begins, and each
//! operation on files, policy change and check one for its end. Where no place is left, none of these can begin, so they
//! are bounded too.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::time::{ClockId, clock_gettime};

use super::{EventKind, EventRecord, QueuedEvent};
use crate::error::{Code, Context, Error, Result};

/// The largest capacity of a queue.
const MAX_CAPACITY: usize = 1 << 16;
/// The most places reserved for events that are never dropped, used ones included.
const MAX_RESERVED: usize = 1 << 18;
/// The places of one sandbox: for `Started` or `Failed`, and for `Exited`.
const RESERVED_FOR_SANDBOX: usize = 2;

/// A queue of events, for as many sandboxes as the host likes. Clones are handles to the same one.
///
/// A host that polls waits until the descriptor is readable, reads its bytes away, and takes events until there is none:
///
/// ```no_run
/// use std::io::Read;
/// use std::os::unix::net::UnixStream;
/// use sbx::{Config, Event, Queue, Runtime};
///
/// let queue = Queue::new(1024)?;
/// let mut config = Config::new();
/// config.set_command(["make", "test"])?.set_queue(&queue, 7)?;
/// let sandbox = Runtime::shared()?.create_begin(&config)?;
///
/// let mut doorbell = UnixStream::from(queue.open_fd()?);
/// doorbell.set_nonblocking(false).unwrap();
/// 'sandbox: while doorbell.read(&mut [0; 64]).is_ok() {
///     while let Some(queued) = queue.next() {
///         assert_eq!(queued.cookie, 7);
///         match queued.event {
///             Event::Denied { destination, port, .. } => println!("denied: {destination}:{port}"),
///             Event::Failed { .. } | Event::Exited { .. } => break 'sandbox,
///             _ => {}
///         }
///     }
/// }
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Queue {
    shared: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// Each with whether it has a reserved place.
    events: VecDeque<(EventRecord, bool)>,
    /// How many droppable events may wait.
    capacity: usize,
    /// How many droppable events wait.
    droppable: usize,
    /// Places reserved by sandboxes and used by their waiting events.
    reserved: usize,
    sequence: u64,
    doorbell: Option<Arc<OwnedFd>>,
    /// The kernel had no memory for the last ring: the next push rings instead.
    ring_pending: bool,
    closed: bool,
}

/// Where one sandbox, executed program or operation sends its events. It holds the places for those that are never
/// dropped.
#[derive(Debug)]
pub(crate) struct Sender {
    queue: Queue,
    cookie: u64,
    reserved: Mutex<usize>,
}

impl Queue {
    /// A queue in which up to `capacity` events wait (from 1 to 65,536), not counting those that are
    /// never dropped.
    pub fn new(capacity: usize) -> Result<Self> {
        if !(1..=MAX_CAPACITY).contains(&capacity) {
            return Err(Error::invalid(format!(
                "queue capacity {capacity}: must be from 1 to {MAX_CAPACITY}"
            )));
        }
        let inner = Inner {
            events: VecDeque::new(),
            capacity,
            droppable: 0,
            reserved: 0,
            sequence: 0,
            doorbell: None,
            ring_pending: false,
            closed: false,
        };
        Ok(Self { shared: Arc::new(Mutex::new(inner)) })
    }

    /// Takes the oldest event; `None` when there is none. Never blocks.
    pub fn next(&self) -> Option<QueuedEvent> {
        self.next_record().map(QueuedEvent::from)
    }

    /// The same, as it is stored.
    pub(crate) fn next_record(&self) -> Option<EventRecord> {
        let mut inner = self.lock();
        let (event, kept) = inner.events.pop_front()?;
        if kept {
            inner.reserved = inner.reserved.saturating_sub(1);
        } else {
            inner.droppable = inner.droppable.saturating_sub(1);
        }
        Some(event)
    }

    /// A descriptor that becomes readable when the queue becomes non-empty: one end of an AF_UNIX stream
    /// pair, non-blocking and close-on-exec, which the caller owns. Its bytes mean nothing: read them
    /// away, then take events until there is none.
    ///
    /// A queue has one doorbell: opening another replaces the one before, which reads end-of-file then.
    pub fn open_fd(&self) -> Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)
            .context("socketpair for a queue's doorbell")?;
        let mut inner = self.lock();
        if inner.closed {
            return Err(Error::new(Code::Closed, "the queue was freed"));
        }
        let ours = Arc::new(ours);
        let before = inner.doorbell.replace(Arc::clone(&ours));
        let waits = !inner.events.is_empty();
        drop(inner);
        drop(before);
        drop(waits.then(|| Ring { queue: self.clone(), doorbell: ours }));
        Ok(theirs)
    }

    /// A sender for a sandbox whose events carry `cookie`.
    pub(crate) fn sender(&self, cookie: u64) -> Result<Sender> {
        self.reserve(cookie, RESERVED_FOR_SANDBOX)
    }

    /// A sender for a sandbox that has an exit snapshot, too.
    pub(crate) fn sender_with_exit_snapshot(&self, cookie: u64) -> Result<Sender> {
        self.reserve(cookie, RESERVED_FOR_SANDBOX + 1)
    }

    /// A sender for an operation whose end carries `cookie`.
    pub(crate) fn sender_of_one(&self, cookie: u64) -> Result<Sender> {
        self.reserve(cookie, 1)
    }

    fn reserve(&self, cookie: u64, reserved: usize) -> Result<Sender> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(Error::new(Code::Closed, "the queue that the events should go to was freed"));
        }
        if inner.reserved > MAX_RESERVED - reserved {
            return Err(Error::new(
                Code::Limit,
                format!(
                    "the queue holds {} events that were never taken; take them before creating more",
                    inner.events.len()
                ),
            ));
        }
        inner.reserved += reserved;
        drop(inner);
        Ok(Sender { queue: self.clone(), cookie, reserved: Mutex::new(reserved) })
    }

    /// Discards all events, waiting and future; the host's end of the doorbell reads end-of-file.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.droppable = 0;
        let events = std::mem::take(&mut inner.events);
        let doorbell = inner.doorbell.take();
        drop(inner);
        drop((events, doorbell));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is complete or not begun when something can panic (an allocation).
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings the doorbell when it is dropped: drop it after releasing the locks that were held for the event.
#[derive(Debug)]
pub(crate) struct Ring {
    queue: Queue,
    doorbell: Arc<OwnedFd>,
}

impl Drop for Ring {
    fn drop(&mut self) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let sent = loop {
            match send(self.doorbell.as_raw_fd(), &[1], flags) {
                Err(Errno::EINTR) => {}
                other => break other,
            }
        };
        match sent {
            // Full of unread bytes: it is readable already.
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(Errno::ENOBUFS | Errno::ENOMEM) => self.queue.lock().ring_pending = true,
            // The host closed its end. It may open another.
            Err(_) => {
                self.queue.lock().doorbell.take_if(|current| Arc::ptr_eq(current, &self.doorbell));
            }
        }
    }
}

impl Sender {
    /// Sends the host an event, from any thread; `fill` sets more than its kind.
    pub(crate) fn send(&self, kind: EventKind, fill: impl FnOnce(&mut EventRecord)) -> Option<Ring> {
        let mut event = EventRecord::new(kind);
        fill(&mut event);
        self.push(event)
    }

    /// Puts an event into the queue, from any thread. The queue fills in cookie, sequence, time and, later, losses.
    pub(crate) fn push(&self, event: EventRecord) -> Option<Ring> {
        let kept = is_kept(event.kind) && self.take_reserved();
        let mut inner = self.queue.lock();
        if inner.closed {
            return None;
        }
        inner.sequence = inner.sequence.wrapping_add(1);
        if !kept {
            if inner.droppable >= inner.capacity {
                if let Some((last, _)) = inner.events.back_mut() {
                    last.lost = last.lost.saturating_add(1);
                }
                return None;
            }
            inner.droppable += 1;
        }
        let event = EventRecord {
            cookie: self.cookie,
            sequence: inner.sequence,
            time: monotonic(),
            lost: 0,
            ..event
        };
        let rings = inner.events.is_empty() || std::mem::take(&mut inner.ring_pending);
        inner.events.push_back((event, kept));
        let doorbell = inner.doorbell.as_ref().filter(|_| rings).cloned();
        drop(inner);
        doorbell.map(|doorbell| Ring { queue: self.queue.clone(), doorbell })
    }

    /// Passes a place from the sandbox to its event.
    fn take_reserved(&self) -> bool {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let some = *reserved > 0;
        *reserved = reserved.saturating_sub(1);
        some
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let unused = *self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.queue.lock();
        inner.reserved = inner.reserved.saturating_sub(unused);
    }
}

/// What CLOCK_MONOTONIC shows, which a host can compare with its own reading.
fn monotonic() -> Duration {
    // The clock exists on every Linux, so the call can't fail.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Whether losing the event would leave the host waiting forever.
fn is_kept(kind: EventKind) -> bool {
    use EventKind::{
        Checked, ExitSnapshot, Exited, Failed, OperationDone, PolicyApplied, ProcessExited, ProcessStarted,
        Started,
    };
    matches!(
        kind,
        Started
            | Failed
            | ExitSnapshot
            | Exited
            | PolicyApplied
            | ProcessStarted
            | ProcessExited
            | OperationDone
            | Checked
    )
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
