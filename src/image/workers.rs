//! The threads that operations on images and volumes run on: at most eleven for a runtime, and none at rest.
//!
//! Pulls and imports are slow; looking at the store is quick and has a thread of its own, so that it never waits for
//! them. Builds, which mostly wait for sandboxes, have two, and exit snapshots have four. A slow operation or a build may
//! take an assistant, if there is room for one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::error::{Code, Context, Error, Result};
use crate::event::operation::{AtEnd, Stop};
use crate::sys::thread::with_signals_blocked;

/// The most slow operations at a time.
const MAX_SLOW: usize = 2;
/// The most threads of slow operations and of all assistants.
const MAX_SLOW_THREADS: usize = 3;
/// The most builds at a time.
const MAX_BUILDS: usize = 2;
/// The most exit snapshots at a time.
const MAX_EXITS: usize = 4;
/// The most operations of a pace that wait. Of exit snapshots there is one at most for each sandbox, and all have a place.
const MAX_WAITING: usize = 64;
/// How long a shutdown waits for threads that are in a call to the kernel.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a thread that waits looks whether its operation has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The threads of a runtime. Dropping it ends its operations.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    thread_ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_closed: bool,
    slow: Lane,
    quick: Lane,
    builds: Lane,
    exits: Lane,
    /// Threads of assistants.
    assistants: usize,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Job>,
    /// What can end each operation that goes on.
    running: Vec<Arc<dyn Stop>>,
}

/// How long an operation takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It looks at the store.
    Quick,
    /// It downloads or unpacks.
    Slow,
    /// It waits for sandboxes, for up to hours.
    Build,
    /// A sandbox lives for as long as it takes, and data is lost if it takes too long.
    Exit,
}

impl Pace {
    const ALL: [Self; 4] = [Self::Quick, Self::Slow, Self::Build, Self::Exit];
}

/// An operation that waits for its thread. Dropped, it ends with its completion's error.
struct Job {
    stop: Arc<dyn Stop>,
    run: Box<dyn FnOnce(&Threads) + Send>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// Where a running operation gets an assistant from.
#[derive(Clone, Debug)]
pub(crate) struct Threads(Arc<Shared>);

/// The right to one more thread.
#[derive(Debug)]
pub(crate) struct Assistant(Arc<Shared>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what waits although it has ended: it holds descriptors, and secrets.
    fn drop_ended(&self, pace: Pace) {
        let ended = extract(&mut self.state().lane(pace).waiting, |job| job.stop.has_ended());
        drop(ended);
    }
}

impl State {
    fn lane(&mut self, pace: Pace) -> &mut Lane {
        match pace {
            Pace::Quick => &mut self.quick,
            Pace::Slow => &mut self.slow,
            Pace::Build => &mut self.builds,
            Pace::Exit => &mut self.exits,
        }
    }

    /// Whether there is room for one more assistant.
    fn has_room_for_assistant(&self) -> bool {
        self.slow.running.len().saturating_add(self.assistants) < MAX_SLOW_THREADS
    }

    /// Whether there is room for one more thread of this kind.
    fn has_room(&self, pace: Pace) -> bool {
        match pace {
            Pace::Quick => self.quick.running.is_empty(),
            // Assistants don't count: those of builds would keep pulls waiting.
            Pace::Slow => self.slow.running.len() < MAX_SLOW,
            Pace::Build => self.builds.running.len() < MAX_BUILDS,
            Pace::Exit => self.exits.running.len() < MAX_EXITS,
        }
    }

    /// Takes the next operation, and notes that it goes on.
    fn next(&mut self, pace: Pace) -> Option<Job> {
        if !self.has_room(pace) {
            return None;
        }
        let lane = self.lane(pace);
        let job = lane.waiting.pop_front()?;
        lane.running.push(Arc::clone(&job.stop));
        Some(job)
    }

    /// An operation's thread is free again.
    fn done(&mut self, pace: Pace, stop: &Arc<dyn Stop>) {
        self.lane(pace).running.retain(|other| !Arc::ptr_eq(other, stop));
    }
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// Runs `run`, which must not panic, on a thread as soon as there is one; `stop` ends its operation.
    pub(crate) fn submit(
        &self,
        pace: Pace,
        stop: Arc<dyn Stop>,
        run: impl FnOnce(&Threads) + Send + 'static,
    ) -> Result<()> {
        let job = Job { stop: Arc::clone(&stop), run: Box::new(run) };
        let mut state = self.shared.state();
        if state.is_closed {
            return Err(Error::shut_down());
        }
        let lane = state.lane(pace);
        if lane.waiting.len() >= MAX_WAITING && pace != Pace::Exit {
            let text =
                format!("{MAX_WAITING} operations on images and volumes wait already: wait for one of them");
            return Err(Error::new(Code::Limit, text));
        }
        lane.waiting.push_back(job);
        let next = state.next(pace);
        drop(state);
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        stop.at_end(AtEnd::new(move || {
            // A runtime that is gone has dropped what waited.
            if let Some(shared) = shared.upgrade() {
                shared.drop_ended(pace);
            }
        }));
        let Some(next) = next else { return Ok(()) };
        let begun = Arc::clone(&next.stop);
        let started = self.start(pace, next);
        if started.is_err() {
            let mut state = self.shared.state();
            state.done(pace, &begun);
            // Its own job is refused; another's waits for the next thread that ends, or is refused with it.
            let refused = extract(&mut state.lane(pace).waiting, |job| Arc::ptr_eq(&job.stop, &stop));
            drop(state);
            drop(refused);
        }
        started
    }

    fn start(&self, pace: Pace, first: Job) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let run = move || work(&shared, pace, first);
        with_signals_blocked(|| thread::Builder::new().name("sbx-image".to_owned()).spawn(run))?
            .map(drop)
            .context("a thread for an operation on images")
    }

    /// Ends all operations, and waits for their threads. One that hangs on the host (on a dead mount, say) is left behind.
    pub(crate) fn shutdown(&self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        let waiting = Pace::ALL.map(|pace| std::mem::take(&mut state.lane(pace).waiting));
        let running = Pace::ALL.map(|pace| state.lane(pace).running.clone());
        drop(state);
        drop(waiting);
        for stop in running.iter().flatten() {
            stop.stop(Error::shut_down());
        }
        let goes_on = |state: &mut State| {
            state.assistants > 0 || Pace::ALL.into_iter().any(|pace| !state.lane(pace).running.is_empty())
        };
        let (state, timeout) = self
            .shared
            .thread_ended
            .wait_timeout_while(self.shared.state(), SHUTDOWN_TIMEOUT, goes_on)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if timeout.timed_out() {
            log::warn!("a thread of an operation on images hangs on the host, and is left behind");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Threads {
    /// Room for one more thread of the same operation, if there is some. An operation takes one at most.
    pub(crate) fn assistant(&self) -> Option<Assistant> {
        self.take(self.0.state())
    }

    /// The same for an operation that needs it: waits for room, or until the operation has ended.
    pub(crate) fn wait_for_assistant(&self, has_ended: &AtomicBool) -> Result<Assistant> {
        let mut state = self.0.state();
        loop {
            if has_ended.load(Ordering::Relaxed) {
                return Err(Error::new(Code::Closed, "the operation was cancelled"));
            }
            if state.has_room_for_assistant() {
                return self.take(state).ok_or_else(Error::shut_down);
            }
            let waited = self.0.thread_ended.wait_timeout(state, POLL_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take(&self, mut state: MutexGuard<'_, State>) -> Option<Assistant> {
        if state.is_closed || !state.has_room_for_assistant() {
            return None;
        }
        state.assistants += 1;
        drop(state);
        Some(Assistant(Arc::clone(&self.0)))
    }
}

impl Drop for Assistant {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.assistants = state.assistants.saturating_sub(1);
        drop(state);
        self.0.thread_ended.notify_all();
    }
}

/// What a thread does: this operation, and then those that wait.
fn work(shared: &Arc<Shared>, pace: Pace, first: Job) {
    let mut next = Some(first);
    while let Some(Job { stop, run }) = next {
        if !stop.has_ended() {
            run(&Threads(Arc::clone(shared)));
        }
        let mut state = shared.state();
        state.done(pace, &stop);
        next = state.next(pace);
        drop(state);
        shared.thread_ended.notify_all();
    }
}

/// Takes out what matches.
fn extract<T>(queue: &mut VecDeque<T>, matches: impl Fn(&T) -> bool) -> Vec<T> {
    let (taken, kept) = std::mem::take(queue).into_iter().partition(matches);
    let kept: Vec<T> = kept;
    *queue = kept.into();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::operation::Operation;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// One that goes on until a number is sent, or its operation has ended.
    struct Begun {
        operation: Operation<u32>,
        end: Sender<u32>,
        began: Receiver<Option<Assistant>>,
    }

    impl Begun {
        fn new(workers: &Workers, pace: Pace) -> Self {
            let (operation, completion) = Operation::new("it".to_owned(), Error::shut_down());
            let (end, ends) = channel();
            let (begins, began) = channel();
            let stop = completion.stop();
            let run = move |threads: &Threads| {
                let _ = begins.send(if pace == Pace::Slow { threads.assistant() } else { None });
                let number = loop {
                    match ends.recv_timeout(Duration::from_millis(5)) {
                        Ok(number) => break Ok(number),
                        Err(_) if completion.has_ended().load(Ordering::Relaxed) => {
                            break Err(Error::shut_down());
                        }
                        Err(_) => {}
                    }
                };
                completion.complete(number);
            };
            workers.submit(pace, stop, run).unwrap();
            Self { operation, end, began }
        }

        fn wait_begun(&self) -> Option<Assistant> {
            self.began.recv_timeout(PATIENCE).unwrap()
        }

        fn has_begun(&self) -> bool {
            self.began.try_recv().is_ok()
        }

        fn end(&self) {
            self.end.send(7).unwrap();
            assert_eq!(*self.operation.wait(Some(PATIENCE)).unwrap(), 7);
        }
    }

    #[test]
    fn two_slow_ones_go_on_with_one_assistant_and_a_quick_one_beside_them() {
        let workers = Workers::new();
        let first = Begun::new(&workers, Pace::Slow);
        let assistant = first.wait_begun();
        assert!(assistant.is_some());
        let second = Begun::new(&workers, Pace::Slow);
        assert!(second.wait_begun().is_none(), "there is one assistant");
        let third = Begun::new(&workers, Pace::Slow);
        let quick = Begun::new(&workers, Pace::Quick);
        quick.wait_begun();
        quick.end();
        assert!(!third.has_begun());
        drop(assistant);
        first.end();
        assert!(third.wait_begun().is_some());
        second.end();
        third.end();
    }

    #[test]
    fn exit_snapshots_and_builds_wait_for_none_but_their_own() {
        let workers = Workers::new();
        let busy: Vec<_> = [Pace::Build, Pace::Slow]
            .into_iter()
            .flat_map(|pace| (0..2 + MAX_WAITING).map(move |_| pace))
            .map(|pace| Begun::new(&workers, pace))
            .collect();
        for pace in [0, 1, 2 + MAX_WAITING, 3 + MAX_WAITING] {
            busy[pace].wait_begun();
        }
        // More than may wait of others.
        let exits: Vec<_> =
            (0..2 * MAX_WAITING + MAX_EXITS).map(|_| Begun::new(&workers, Pace::Exit)).collect();
        for exit in &exits[..MAX_EXITS] {
            exit.wait_begun();
        }
        assert!(!exits[MAX_EXITS].has_begun(), "as many as there may be go on");
        exits[0].end();
        exits[MAX_EXITS].wait_begun();
        drop(busy);
    }

    #[test]
    fn one_that_was_cancelled_before_its_turn_never_begins() {
        let workers = Workers::new();
        let first = Begun::new(&workers, Pace::Quick);
        first.wait_begun();
        let (second, third) = (Begun::new(&workers, Pace::Quick), Begun::new(&workers, Pace::Quick));
        second.operation.cancel();
        first.end();
        third.wait_begun();
        third.end();
        assert!(!second.has_begun());
    }

    #[test]
    fn one_that_is_cancelled_while_it_waits_holds_nothing_any_more() {
        let workers = Workers::new();
        let first = Begun::new(&workers, Pace::Quick);
        first.wait_begun();
        let (operation, completion) = Operation::<u32>::new("it".to_owned(), Error::shut_down());
        let held = Arc::new(());
        let (stop, holds) = (completion.stop(), Arc::clone(&held));
        workers.submit(Pace::Quick, stop, move |_| drop((holds, completion))).unwrap();
        assert_eq!(Arc::strong_count(&held), 2);
        operation.cancel();
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(operation.result().unwrap_err().code(), Code::Closed);
        // One that has ended before it is submitted isn't kept, either.
        let (operation, completion) = Operation::<u32>::new("it".to_owned(), Error::shut_down());
        operation.cancel();
        let (stop, holds) = (completion.stop(), Arc::clone(&held));
        workers.submit(Pace::Quick, stop, move |_| drop((holds, completion))).unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        first.end();
    }

    #[test]
    fn what_waits_is_bounded() {
        let workers = Workers::new();
        let first = Begun::new(&workers, Pace::Slow);
        drop(first.wait_begun());
        let second = Begun::new(&workers, Pace::Slow);
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| Begun::new(&workers, Pace::Slow)).collect();
        let (_operation, completion) = Operation::<u32>::new("it".to_owned(), Error::shut_down());
        let refused = workers.submit(Pace::Slow, completion.stop(), |_| ()).unwrap_err();
        assert_eq!(refused.code(), Code::Limit);
        // One that was cancelled takes no place.
        waiting[5].operation.cancel();
        workers.submit(Pace::Slow, completion.stop(), |_| ()).unwrap();
        drop((first, second, waiting));
    }

    #[test]
    fn a_shutdown_ends_what_goes_on_and_what_waits() {
        let workers = Workers::new();
        let all: Vec<_> = (0..5).map(|_| Begun::new(&workers, Pace::Slow)).collect();
        drop(all[0].wait_begun());
        workers.shutdown();
        for begun in &all {
            assert_eq!(begun.operation.wait(Some(Duration::ZERO)).unwrap_err().code(), Code::Closed);
        }
        let (_operation, completion) = Operation::<u32>::new("it".to_owned(), Error::shut_down());
        let refused = workers.submit(Pace::Quick, completion.stop(), |_| ()).unwrap_err();
        assert_eq!(refused.code(), Code::Closed);
    }

    #[test]
    fn an_assistant_that_is_needed_is_waited_for() {
        let workers = Workers::new();
        let first = Begun::new(&workers, Pace::Slow);
        let taken = first.wait_begun().unwrap();
        let (_operation, completion) = Operation::<u32>::new("it".to_owned(), Error::shut_down());
        let (send, sent) = channel();
        let stop = completion.stop();
        let run = move |threads: &Threads| {
            send.send(None).unwrap();
            send.send(Some(threads.wait_for_assistant(completion.has_ended()))).unwrap();
        };
        let other = Begun::new(&workers, Pace::Slow);
        drop(other.wait_begun());
        other.end();
        workers.submit(Pace::Slow, stop, run).unwrap();
        assert!(sent.recv_timeout(PATIENCE).unwrap().is_none());
        // Two operations and one assistant are all there may be.
        drop(taken);
        assert!(sent.recv_timeout(PATIENCE).unwrap().unwrap().is_ok());
        first.end();
    }
}
