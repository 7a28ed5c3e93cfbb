//! Something that was begun and ends with one result: it can be waited for, and an event can report its end.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::queue::{Queue, Ring, Sender};
use super::{EventKind, EventRecord};
use crate::error::{Code, Error, Result};

/// An operation that was begun. Clones are handles to the same one; dropping the last cancels it, if it can be.
#[derive(Clone, Debug)]
pub struct Operation<T>(Arc<Handle<T>>);

#[derive(Debug)]
struct Handle<T> {
    shared: Arc<Shared<T>>,
    can_be_cancelled: bool,
}

#[derive(Debug)]
struct Shared<T> {
    /// What it is called in messages.
    title: String,
    state: Mutex<State<T>>,
    ended: Condvar,
    /// Whether there is a result, for a thread that works on it and looks often.
    has_ended: AtomicBool,
}

#[derive(Debug)]
struct State<T> {
    result: Option<Result<Arc<T>>>,
    notice: Option<Notice<T>>,
    at_end: Option<AtEnd>,
}

/// What is called when an operation has ended.
pub(crate) struct AtEnd(Box<dyn FnOnce() + Send>);

impl AtEnd {
    pub(crate) fn new(call: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl fmt::Debug for AtEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtEnd").finish_non_exhaustive()
    }
}

/// The event of an operation's end.
#[derive(Debug)]
pub(crate) struct Notice<T> {
    sender: Sender,
    kind: EventKind,
    value: fn(&T) -> [u64; 2],
}

/// Where the result of an operation comes from. Dropped without one, it ends the operation with an error: no operation
/// is ever lost.
#[derive(Debug)]
pub(crate) struct Completion<T> {
    shared: Arc<Shared<T>>,
    lost: Option<Error>,
}

impl<T> Notice<T> {
    /// An event of that kind on the queue, which has room for it; `value` are its numbers.
    pub(crate) fn new(
        events: Option<(&Queue, u64)>,
        kind: EventKind,
        value: fn(&T) -> [u64; 2],
    ) -> Result<Option<Self>> {
        let notice =
            |(queue, cookie): (&Queue, u64)| Ok(Self { sender: queue.sender_of_one(cookie)?, kind, value });
        events.map(notice).transpose()
    }

    fn send(&self, result: &Result<Arc<T>>) -> Option<Ring> {
        self.sender.send(self.kind, |event: &mut EventRecord| match result {
            Ok(found) => event.value = (self.value)(found),
            Err(error) => event.set_failure(error),
        })
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records how it ended. Only the first call takes effect. The event is in the queue before waiters wake.
    fn end(&self, result: Result<T>) {
        let mut state = self.state();
        if state.result.is_some() {
            // It was cancelled before it was done: a known race.
            return;
        }
        let result = result.map(Arc::new);
        let ring = state.notice.take().and_then(|notice| notice.send(&result));
        state.result = Some(result);
        self.has_ended.store(true, Ordering::Relaxed);
        let at_end = state.at_end.take();
        drop(state);
        self.ended.notify_all();
        drop(ring);
        if let Some(AtEnd(call)) = at_end {
            call();
        }
    }
}

impl<T> Completion<T> {
    /// It is done, or has failed.
    pub(crate) fn complete(mut self, result: Result<T>) {
        self.lost = None;
        self.shared.end(result);
    }

    /// Ends it with that error before its work is done, unless it has ended.
    pub(crate) fn abandon(&self, error: Error) {
        self.shared.end(Err(error));
    }

    /// Set once the operation has ended: before its work is done if it was cancelled.
    pub(crate) fn has_ended(&self) -> &AtomicBool {
        &self.shared.has_ended
    }

    /// Reports how far it is: the bytes done, the bytes in all (0 if that isn't known), and what is being done.
    pub(crate) fn report(&self, bytes: [u64; 2], detail: &str) {
        let state = self.shared.state();
        let ring = state.notice.as_ref().and_then(|notice| {
            notice.sender.send(EventKind::Progress, |event: &mut EventRecord| {
                (event.value, event.detail) = (bytes, detail.to_owned());
            })
        });
        drop(state);
        drop(ring);
    }
}

/// What can end an operation of any kind before its work is done. The thread that does the work notices it by
/// [`Completion::has_ended`].
pub(crate) trait Stop: fmt::Debug + Send + Sync {
    /// Whether it has ended.
    fn has_ended(&self) -> bool;
    /// Ends it with that error, unless it has ended.
    fn stop(&self, error: Error);
    /// Calls this when it ends, in the thread that ends it; at once if it has ended.
    fn at_end(&self, call: AtEnd);
}

impl<T: fmt::Debug + Send + Sync> Stop for Shared<T> {
    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    fn stop(&self, error: Error) {
        self.end(Err(error));
    }

    fn at_end(&self, call: AtEnd) {
        let mut state = self.state();
        if state.result.is_none() {
            state.at_end = Some(call);
            return;
        }
        drop(state);
        (call.0)();
    }
}

impl<T: fmt::Debug + Send + Sync + 'static> Completion<T> {
    /// What can end the operation.
    pub(crate) fn stop(&self) -> Arc<dyn Stop> {
        Arc::clone(&self.shared) as Arc<dyn Stop>
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            self.shared.end(Err(lost));
        }
    }
}

impl<T> Operation<T> {
    /// One that can be cancelled. `title` names it in messages, `lost` is its error if its completion is dropped.
    pub(crate) fn new(title: String, lost: Error) -> (Self, Completion<T>) {
        Self::with(title, lost, true)
    }

    /// One of something that can't be stopped once it was begun.
    pub(crate) fn uncancellable(title: String, lost: Error) -> (Self, Completion<T>) {
        Self::with(title, lost, false)
    }

    fn with(title: String, lost: Error, can_be_cancelled: bool) -> (Self, Completion<T>) {
        let state = Mutex::new(State { result: None, notice: None, at_end: None });
        let shared =
            Arc::new(Shared { title, state, ended: Condvar::new(), has_ended: AtomicBool::new(false) });
        let completion = Completion { shared: Arc::clone(&shared), lost: Some(lost) };
        (Self(Arc::new(Handle { shared, can_be_cancelled })), completion)
    }

    /// Reports the end with that event: at once, if it has ended already.
    pub(crate) fn notify(&self, notice: Option<Notice<T>>) {
        let mut state = self.0.shared.state();
        let ring = match (&state.result, notice) {
            (Some(result), Some(notice)) => notice.send(result),
            (_, notice) => {
                state.notice = notice;
                None
            }
        };
        drop(state);
        drop(ring);
    }

    /// Waits until it has ended and returns its result. `None` waits for ever.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Arc<T>> {
        let shared = &self.0.shared;
        let goes_on = |state: &mut State<T>| state.result.is_none();
        let state = match timeout {
            None => shared.ended.wait_while(shared.state(), goes_on).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = shared.ended.wait_timeout_while(shared.state(), timeout, goes_on);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.result.clone().unwrap_or_else(|| {
            let waited = timeout.unwrap_or_default().as_millis();
            Err(Error::new(Code::TimedOut, format!("{} did not end within {waited} ms", shared.title)))
        })
    }

    /// Its result, without waiting for it.
    pub fn result(&self) -> Result<Arc<T>> {
        let result = self.0.shared.state().result.clone();
        result.unwrap_or_else(|| {
            let text = format!("{} has not ended yet: wait for it", self.0.shared.title);
            Err(Error::new(Code::State, text))
        })
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.0.shared.state().result.is_some()
    }

    /// Ends it with [`Code::Closed`], if it goes on and can be stopped: a change of a policy can't.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl<T> Handle<T> {
    fn cancel(&self) {
        if self.can_be_cancelled {
            self.shared
                .end(Err(Error::new(Code::Closed, format!("{}: it was cancelled", self.shared.title))));
        }
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(queue: &Queue) -> (Operation<u64>, Completion<u64>) {
        let (operation, completion) = Operation::new("it".to_owned(), Error::shut_down());
        let notice = Notice::new(Some((queue, 7)), EventKind::OperationDone, |number| [*number, 9]).unwrap();
        operation.notify(notice);
        (operation, completion)
    }

    fn told(queue: &Queue) -> Vec<(u64, i32, [u64; 2])> {
        std::iter::from_fn(|| queue.next_record())
            .map(|event| (event.cookie, event.code, event.value))
            .collect()
    }

    #[test]
    fn its_end_is_one_event_and_its_result_stays() {
        let queue = Queue::new(1).unwrap();
        let (operation, completion) = begun(&queue);
        assert_eq!(operation.wait(Some(Duration::ZERO)).unwrap_err().code(), Code::TimedOut);
        assert_eq!(operation.result().unwrap_err().code(), Code::State);
        let waiter = operation.clone();
        let waiting = std::thread::spawn(move || *waiter.wait(None).unwrap());
        completion.complete(Ok(5));
        assert_eq!(waiting.join().unwrap(), 5);
        operation.cancel();
        assert_eq!((*operation.result().unwrap(), operation.has_ended()), (5, true));
        drop(operation);
        assert_eq!(told(&queue), [(7, 0, [5, 9])]);
    }

    #[test]
    fn what_is_cancelled_or_dropped_ends_at_once() {
        for cancel in [true, false] {
            let queue = Queue::new(1).unwrap();
            let (operation, completion) = begun(&queue);
            if cancel {
                operation.cancel();
                assert_eq!(operation.wait(None).unwrap_err().code(), Code::Closed);
            } else {
                drop(operation);
            }
            completion.complete(Ok(5));
            assert_eq!(told(&queue), [(7, Code::Closed.number(), [0, 0])]);
        }
    }

    #[test]
    fn progress_is_reported_until_the_end_and_dropped_where_there_is_no_room() {
        let queue = Queue::new(1).unwrap();
        let (operation, completion) = begun(&queue);
        assert!(!completion.has_ended().load(Ordering::Relaxed));
        completion.report([1, 4], "half");
        completion.report([2, 4], "no room");
        let event = queue.next_record().unwrap();
        assert_eq!((event.kind, event.cookie, event.value), (EventKind::Progress, 7, [1, 4]));
        assert_eq!((event.detail.as_str(), event.lost), ("half", 1));
        operation.cancel();
        assert!(completion.has_ended().load(Ordering::Relaxed));
        completion.report([3, 4], "too late");
        assert_eq!(told(&queue), [(7, Code::Closed.number(), [0, 0])]);
    }

    #[test]
    fn a_completion_that_is_lost_is_an_error() {
        let queue = Queue::new(1).unwrap();
        let (operation, completion) = begun(&queue);
        drop(completion);
        assert_eq!(operation.wait(None).unwrap_err().message(), Error::shut_down().message());
        assert_eq!(told(&queue).len(), 1);
    }

    #[test]
    fn what_cannot_be_stopped_goes_on_without_its_handle() {
        let queue = Queue::new(1).unwrap();
        let (operation, completion) = Operation::uncancellable("it".to_owned(), Error::shut_down());
        completion.complete(Ok(1_u64));
        // An end that comes before the event was asked for is reported then.
        operation.notify(Notice::new(Some((&queue, 1)), EventKind::PolicyApplied, |_| [0; 2]).unwrap());
        let (other, completion) = Operation::uncancellable("other".to_owned(), Error::shut_down());
        other
            .notify(Notice::new(Some((&queue, 2)), EventKind::PolicyApplied, |number| [*number, 0]).unwrap());
        other.cancel();
        drop(other);
        completion.complete(Ok(3));
        assert_eq!(told(&queue), [(1, 0, [0, 0]), (2, 0, [3, 0])]);
    }
}
