//! A thread that ends when it is idle, and is started again with the next piece of work.
//!
//! A process whose main thread has left by pthread_exit(3) ends with its last thread, and a signal to the process can end
//! it only in a thread that doesn't block it. The library's threads block all signals, so they exist only while they are
//! needed. The thread's state is parked in between, and so is its channel.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Context, Result};
use crate::sys::thread::{shorten_slice, with_signals_blocked};

/// How long an idle thread stays. Starting it again takes a tenth of a millisecond.
pub(crate) const LINGER: Duration = Duration::from_secs(3);

/// Why [`Body::work`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// There is nothing to do for now.
    Idle,
    /// There will never be anything again.
    Done,
}

/// The state of a thread, and what it does.
pub(crate) trait Body: Send + 'static {
    /// Works until there is nothing to do.
    fn work(&mut self) -> Left;
    /// Whether something has come since [`Body::work`] returned. Nothing more comes while this runs.
    fn has_work(&mut self) -> bool;
}

/// The receiving end of a thread's channel. It stays while there is no thread.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    receiver: Receiver<T>,
    /// Received while the thread was about to end.
    kept: Option<T>,
}

impl<T> Inbox<T> {
    /// An inbox over this channel.
    pub(crate) fn new(receiver: Receiver<T>) -> Self {
        Self { receiver, kept: None }
    }

    /// The next message, if there is one.
    pub(crate) fn next(&mut self) -> Option<T> {
        self.kept.take().or_else(|| self.receiver.try_recv().ok())
    }

    /// Whether there is a message; [`Inbox::next`] returns it.
    pub(crate) fn has_some(&mut self) -> bool {
        self.kept = self.next();
        self.kept.is_some()
    }
}

/// Ensures that a thread runs when it is given something.
pub(crate) trait Wake: Send + Sync {
    /// Calls `give` while a thread runs that will see what is given. Fails, without calling it, if none can be started.
    fn with_thread(&self, give: &mut dyn FnMut()) -> Result<()>;
}

/// A thread and its state.
pub(crate) struct Worker<T>(Arc<Inner<T>>);

struct Inner<T> {
    name: &'static str,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The thread's state, while no thread has it.
    parked: Option<T>,
    /// A thread has been started and is about to take it.
    starting: bool,
    thread: Option<JoinHandle<()>>,
}

impl<T> Clone for Worker<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> std::fmt::Debug for Worker<T> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Worker({})", self.0.name)
    }
}

impl<T: Body> Worker<T> {
    /// A worker without a state, and so without a thread.
    pub(crate) fn new(name: &'static str) -> Self {
        Self(Arc::new(Inner {
            name,
            state: Mutex::new(State { parked: None, starting: false, thread: None }),
        }))
    }

    /// Gives it its state, and starts the thread.
    pub(crate) fn start(&self, body: T) -> Result<()> {
        let mut state = self.state();
        state.parked = Some(body);
        let started = self.run(&mut state);
        if started.is_err() {
            // Dropped without the lock, because the state may hold this worker.
            let body = state.parked.take();
            drop(state);
            drop(body);
        }
        started
    }

    /// Waits for the thread, which has been sent its last message. A thread that can't be started for that has nothing to do.
    pub(crate) fn join(&self) {
        let mut state = self.state();
        let parked = if state.starting { None } else { state.parked.take() };
        let thread = state.thread.take();
        drop(state);
        drop(parked);
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread, unless one runs.
    fn run(&self, state: &mut State<T>) -> Result<()> {
        if state.parked.is_none() || state.starting {
            return Ok(());
        }
        if let Some(before) = state.thread.take() {
            // It has parked its state, and returns.
            let _ = before.join();
        }
        let worker = self.clone();
        let run = move || {
            shorten_slice();
            worker.live();
        };
        let thread =
            with_signals_blocked(|| std::thread::Builder::new().name(self.0.name.to_owned()).spawn(run))?;
        let thread = thread.context(format!("start the thread {}", self.0.name))?;
        (state.thread, state.starting) = (Some(thread), true);
        Ok(())
    }

    fn live(&self) {
        let mut state = self.state();
        state.starting = false;
        let taken = state.parked.take();
        drop(state);
        let Some(mut body) = taken else { return };
        loop {
            if body.work() == Left::Done {
                return;
            }
            let mut state = self.state();
            if !body.has_work() {
                state.parked = Some(body);
                return;
            }
        }
    }
}

impl<T: Body> Wake for Worker<T> {
    fn with_thread(&self, give: &mut dyn FnMut()) -> Result<()> {
        let mut state = self.state();
        self.run(&mut state)?;
        give();
        Ok(())
    }
}

/// How long a thread has been idle.
#[derive(Debug, Default)]
pub(crate) struct Idleness(Option<Instant>);

impl Idleness {
    /// Records whether the thread is idle; true once it has been for [`LINGER`].
    pub(crate) fn is_over(&mut self, idle: bool, now: Instant) -> bool {
        if !idle {
            self.0 = None;
            return false;
        }
        now.saturating_duration_since(*self.0.get_or_insert(now)) >= LINGER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};

    /// Counts what it is given, and ends at 0.
    struct Counter {
        given: Inbox<usize>,
        sum: Arc<AtomicUsize>,
        threads: Arc<AtomicUsize>,
    }

    impl Body for Counter {
        fn work(&mut self) -> Left {
            self.threads.fetch_add(1, Ordering::SeqCst);
            loop {
                match self.given.next() {
                    Some(0) => return Left::Done,
                    Some(number) => drop(self.sum.fetch_add(number, Ordering::SeqCst)),
                    // Never waits, so that it parks as often as can be.
                    None => return Left::Idle,
                }
            }
        }

        fn has_work(&mut self) -> bool {
            self.given.has_some()
        }
    }

    fn give(worker: &Worker<Counter>, way: &Sender<usize>, number: usize) {
        worker.with_thread(&mut || way.send(number).unwrap()).unwrap();
    }

    #[test]
    fn nothing_is_lost_however_often_the_thread_ends() {
        const EACH: usize = 2000;
        let (way, given) = channel();
        let (sum, threads) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let worker = Worker::new("counter");
        let body = Counter { given: Inbox::new(given), sum: Arc::clone(&sum), threads: Arc::clone(&threads) };
        worker.start(body).unwrap();
        give(&worker, &way, 1);
        // What comes next starts another thread.
        while worker.state().parked.is_none() {
            std::thread::yield_now();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..EACH).for_each(|_| give(&worker, &way, 1)));
            }
        });
        give(&worker, &way, 0);
        worker.join();
        assert_eq!(sum.load(Ordering::SeqCst), 1 + 4 * EACH);
        assert!(threads.load(Ordering::SeqCst) > 1);
    }

    #[test]
    fn idleness_lasts_for_a_while_before_it_counts() {
        let (mut idleness, begin) = (Idleness::default(), Instant::now());
        assert!(!idleness.is_over(true, begin));
        assert!(!idleness.is_over(true, begin + LINGER / 2));
        assert!(!idleness.is_over(false, begin + LINGER));
        assert!(!idleness.is_over(true, begin + LINGER));
        assert!(idleness.is_over(true, begin + LINGER * 2));
    }
}
