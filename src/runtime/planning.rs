//! Planning: the look at the host's files before a sandbox's first process is started.
//!
//! A root file system, a mount or runsc may be on a file system that hangs, and a thread that reads it hangs too. So each
//! sandbox is planned on a thread of its own, neither on the caller's nor on the control thread. One thread plans at a
//! time: planning takes a hundredth of a sandbox's start, so more threads would gain nothing, and a burst of creations
//! must not start a burst of threads. A thread that has planned for [`STUCK_AFTER`] counts as stuck, and another one may
//! start. So a file system that hangs delays only its own sandboxes, until [`MAX_THREADS`] threads are stuck.
//!
//! Only so many sandboxes start at once, [`crate::Runtime::set_max_starts`]: more would each be slower, and no faster together. The
//! others wait here, before they are planned, and so hold nothing of the host; their order is that of the calls. What takes
//! a member of the warm pool doesn't wait, and neither does what fills the pool, since that begins only while nothing else
//! starts. A sandbox whose thread is stuck leaves its place to another, so the bound can be exceeded by those that come back.
//!
//! A thread that hangs in the kernel can't be ended. Its sandbox can: as soon as its thread is stuck it may fail at once,
//! and a plan that arrives later is dropped.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::warm_stats::Miss;
use crate::error::{Code, Context, Error, Result};
use crate::reactor::{Key, Kind, Reactor, Slab, TimerId};
use crate::sandbox::{Command, Creation, MAX_POLICY_TASKS, Plan, Shared, too_many_policy_tasks};
use crate::sys::thread::with_signals_blocked;

/// How long a thread plans before it counts as stuck. It normally takes a millisecond, and some tens when runsc is
/// probed.
const STUCK_AFTER: Duration = Duration::from_millis(250);
/// The most threads at the same time, all but one of them stuck.
const MAX_THREADS: usize = 64;
/// How long a sandbox may wait for its plan, from its turn on. A runsc that hangs fails sooner. One whose turn has not come
/// fails only if none has had its turn for this long, which is longer than a start can take.
const PLAN_TIMEOUT: Duration = Duration::from_secs(120);

/// Plans a sandbox. May hang.
pub(super) type Plans = Arc<dyn Fn(&Shared) -> Result<Plan> + Send + Sync>;
/// Sends the plan of the sandbox with that number, or the error, to the control thread.
pub(super) type SendPlan = Arc<dyn Fn(u64, Result<Plan>) + Send + Sync>;

/// When a sandbox may be planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now: it is a member of the warm pool, or one is likely to be ready for it.
    AtOnce,
    /// When fewer are starting than may.
    Waits,
}

/// A sandbox that a thread has planned, or that it could not plan.
pub(super) struct Returned {
    pub(super) creation: Creation,
    /// Commands that arrived before the plan.
    pub(super) meanwhile: Vec<Command>,
    pub(super) turn: Turn,
    /// Why it got no member of the warm pool when it was planned before.
    pub(super) missed: Miss,
}

/// The sandboxes that are being planned. Owned by the control thread.
pub(super) struct Planners {
    plan: Plans,
    send: SendPlan,
    all: Slab<Planning>,
    keys: HashMap<u64, Key>,
    /// Sandboxes that wait for their turn, by number, which is the order of the calls.
    waiting: BTreeMap<u64, Key>,
    /// Sandboxes that have had their turn, and whose planning isn't over.
    admitted: Vec<Key>,
    /// How many may start at once, and how many do that are planned.
    max_starts: usize,
    starting: usize,
    /// When a place was last free, or taken.
    moved: Instant,
    /// Sandboxes that wait for a thread.
    queue: VecDeque<Key>,
    /// Sandboxes that have a thread.
    planning_now: Vec<Key>,
    /// Sandboxes that wait until members of the warm pool have ended.
    postponed: Vec<(u64, Key)>,
    /// How many stuck threads belong to sandboxes that have ended.
    abandoned: usize,
}

/// One sandbox.
struct Planning {
    creation: Creation,
    number: u64,
    /// Commands that arrived before the plan.
    meanwhile: Vec<Command>,
    turn: Turn,
    missed: Miss,
    /// The deadline.
    until: Instant,
    timer: Option<TimerId>,
    work: Option<PlanThread>,
    /// The host has asked for its end.
    is_ended: bool,
    /// Its thread could not be started, and the error is on its way as a thread's would be.
    has_failed: bool,
}

/// A thread, and when it started.
struct PlanThread {
    thread: JoinHandle<()>,
    since: Instant,
}

impl Planning {
    fn is_stuck(&self, now: Instant) -> bool {
        self.work.as_ref().is_some_and(|work| now >= work.since + STUCK_AFTER)
    }
}

impl Planners {
    /// Timers have keys of this kind. At most `max_starts` sandboxes start at once, counting those that are planned.
    pub(super) fn new(kind: Kind, plan: Plans, send: SendPlan, max_starts: u32) -> Self {
        Self {
            plan,
            send,
            all: Slab::new(kind),
            keys: HashMap::new(),
            waiting: BTreeMap::new(),
            admitted: Vec::new(),
            max_starts: places(max_starts),
            starting: 0,
            moved: Instant::now(),
            queue: VecDeque::new(),
            planning_now: Vec::new(),
            postponed: Vec::new(),
            abandoned: 0,
        }
    }

    /// Whether no sandbox is being planned. Threads that hang don't count.
    pub(super) fn are_idle(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many sandboxes are being planned.
    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whether the sandbox of that number is being planned.
    pub(super) fn has(&self, number: u64) -> bool {
        self.keys.contains_key(&number)
    }

    /// Whether the sandbox of that number is being planned without having waited for its turn.
    pub(super) fn hurries(&mut self, number: u64) -> bool {
        let planning = self.keys.get(&number).and_then(|key| self.all.get_mut(*key));
        planning.is_some_and(|planning| planning.turn == Turn::AtOnce)
    }

    /// How many sandboxes that are planned are starting. Those whose turn has come are planned.
    pub(super) fn set_starting(&mut self, reactor: &mut Reactor, count: usize) {
        let is_lower = count < self.starting;
        self.starting = count;
        if is_lower {
            self.moved = reactor.now();
            self.go_on(reactor);
        }
    }

    /// Has at most that many start at once from now on.
    pub(super) fn set_max_starts(&mut self, reactor: &mut Reactor, count: u32) {
        self.max_starts = places(count);
        self.go_on(reactor);
    }

    /// Whether as many sandboxes start as may.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        let stuck = count_stuck(&mut self.all, &self.admitted, now);
        self.starting + self.admitted.len() - stuck >= self.max_starts
    }

    /// Keeps a sandbox that lacked something, with the commands that have arrived, to plan it anew when there may be more.
    pub(super) fn postpone(&mut self, reactor: &mut Reactor, returned: Returned) {
        if let Some((number, key)) = self.insert(reactor, returned) {
            self.postponed.push((number, key));
        }
    }

    /// Lets the sandboxes that were postponed have their turn again.
    pub(super) fn resume_postponed(&mut self, reactor: &mut Reactor) {
        for (number, key) in self.postponed.drain(..) {
            let Some(planning) = self.all.get_mut(key) else {
                debug_assert!(false, "a sandbox that is removed is no longer postponed");
                continue;
            };
            planning.turn = Turn::Waits;
            self.waiting.insert(number, key);
        }
        self.go_on(reactor);
    }

    /// Has a sandbox planned.
    pub(super) fn begin(&mut self, reactor: &mut Reactor, creation: Creation, turn: Turn) {
        let begun =
            self.insert(reactor, Returned { creation, meanwhile: Vec::new(), turn, missed: Miss::Empty });
        match (begun, turn) {
            (Some((_, key)), Turn::AtOnce) => self.queue.push_back(key),
            (Some((number, key)), Turn::Waits) => drop(self.waiting.insert(number, key)),
            (None, _) => {
                debug_assert!(false, "a creation that is planned has neither begun nor been given up")
            }
        }
        self.go_on(reactor);
    }

    /// Keeps a sandbox that waits for a sign of life of the member that it is to take, with the commands that have arrived.
    pub(super) fn park(&mut self, reactor: &mut Reactor, returned: Returned) {
        // Its claim knows its number.
        let _ = self.insert(reactor, returned);
    }

    /// Takes it out again, unless it has ended meanwhile.
    pub(super) fn unpark(&mut self, reactor: &mut Reactor, number: u64) -> Option<Returned> {
        let key = self.keys.get(&number).copied()?;
        let Planning { creation, meanwhile, turn, missed, .. } = self.remove(reactor, key)?;
        Some(Returned { creation, meanwhile, turn, missed })
    }

    /// Has a sandbox planned anew when its turn comes, which is as if it had waited from the beginning.
    pub(super) fn wait(&mut self, reactor: &mut Reactor, returned: Returned) {
        let waiting = self.insert(reactor, Returned { turn: Turn::Waits, ..returned });
        self.waiting.extend(waiting);
        self.go_on(reactor);
    }

    fn insert(&mut self, reactor: &mut Reactor, returned: Returned) -> Option<(u64, Key)> {
        let Returned { creation, meanwhile, turn, missed } = returned;
        let number = creation.shared()?.number;
        let until = reactor.now() + PLAN_TIMEOUT;
        let (timer, work, is_ended, has_failed) = (None, None, false, false);
        let planning =
            Planning { creation, number, meanwhile, turn, missed, until, timer, work, is_ended, has_failed };
        let key = self.all.insert(planning);
        self.keys.insert(number, key);
        self.wake_at(reactor, key, until);
        Some((number, key))
    }

    /// A thread has finished: returns what to go on with. `None` if the sandbox has ended.
    pub(super) fn returned(&mut self, reactor: &mut Reactor, number: u64) -> Option<Returned> {
        let Some(key) = self.keys.get(&number).copied() else {
            self.abandoned = self.abandoned.saturating_sub(1);
            self.go_on(reactor);
            return None;
        };
        // It is about to start; the control thread corrects the number if it doesn't.
        self.starting += usize::from(self.admitted.contains(&key));
        let mut planning = self.remove(reactor, key)?;
        if let Some(work) = planning.work.take() {
            // It has sent its plan and is about to end; nothing of it is left when the caller is notified.
            let _ = work.thread.join();
        }
        self.go_on(reactor);
        if planning.is_ended {
            planning.creation.fail_as_its_own(ended());
            return None;
        }
        let Planning { creation, meanwhile, turn, missed, .. } = planning;
        Some(Returned { creation, meanwhile, turn, missed })
    }

    /// Ends a sandbox at the host's request. False if it isn't being planned.
    pub(super) fn end(&mut self, reactor: &mut Reactor, number: u64) -> bool {
        let now = reactor.now();
        let Some(key) = self.keys.get(&number).copied() else { return false };
        let Some(planning) = self.all.get_mut(key) else { return false };
        planning.is_ended = true;
        if planning.work.is_none() || planning.is_stuck(now) {
            self.give_up(reactor, key, ended());
            self.go_on(reactor);
        }
        true
    }

    /// Ends them all.
    pub(super) fn end_all(&mut self, reactor: &mut Reactor) {
        // None of those begins while others end.
        self.waiting.clear();
        self.postponed.clear();
        self.queue.clear();
        let all: Vec<u64> = self.keys.keys().copied().collect();
        for number in all {
            self.end(reactor, number);
        }
    }

    /// Keeps a command for a sandbox until it is planned. Returns the command if the sandbox isn't being planned. Refuses
    /// a policy update beyond the most that may wait.
    pub(super) fn keep(&mut self, number: u64, command: Command) -> Option<Command> {
        let Some(planning) = self.keys.get(&number).and_then(|key| self.all.get_mut(*key)) else {
            return Some(command);
        };
        match command {
            // Duplicate requests are ignored.
            Command::Probe(_) if planning.meanwhile.iter().any(|kept| matches!(kept, Command::Probe(_))) => {}
            Command::Policy(_, task) if planning.meanwhile.len() > MAX_POLICY_TASKS => {
                if let Some(shared) = planning.creation.shared() {
                    task.refuse(too_many_policy_tasks(&shared.id));
                }
            }
            command => planning.meanwhile.push(command),
        }
        None
    }

    /// A timer has expired: a thread is stuck, or a sandbox has reached its deadline.
    pub(super) fn timer(&mut self, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        let Some(planning) = self.all.get_mut(key) else { return };
        planning.timer = None;
        let is_ended = planning.is_ended;
        if self.waiting.contains_key(&planning.number) {
            planning.until = self.moved + PLAN_TIMEOUT;
        }
        let until = planning.until;
        if is_ended {
            self.give_up(reactor, key, ended());
        } else if now >= until {
            let what = match planning.work {
                Some(_) => "it needs does not answer (its root file system, a mount, or what runsc lies on)",
                None => "others need does not answer, and it had to wait for them",
            };
            let text = format!(
                "it could not be planned within {} s: something of this machine that {what}",
                PLAN_TIMEOUT.as_secs()
            );
            self.give_up(reactor, key, Error::new(Code::Host, text));
        } else {
            self.wake_at(reactor, key, until);
        }
        self.go_on(reactor);
    }

    /// Fails a sandbox after a panic.
    pub(super) fn abandon(&mut self, reactor: &mut Reactor, key: Key) {
        let error = Error::new(Code::Panic, "the control thread panicked: a bug of the library");
        self.give_up(reactor, key, error);
        self.go_on(reactor);
    }

    /// Starts the threads that may start.
    fn go_on(&mut self, reactor: &mut Reactor) {
        self.admit(reactor);
        while self.has_room(reactor.now()) {
            let Some(key) = self.queue.pop_front() else { return };
            if let Err(error) = self.start(reactor, key) {
                self.fail_to_start(key, error);
            }
        }
    }

    /// Lets those have their turn for which there are places.
    fn admit(&mut self, reactor: &mut Reactor) {
        let now = reactor.now();
        while !self.waiting.is_empty() && !self.is_full(now) {
            let Some((_, key)) = self.waiting.pop_first() else { return };
            self.admitted.push(key);
            self.queue.push_back(key);
            self.moved = now;
            if let Some(planning) = self.all.get_mut(key) {
                planning.until = now + PLAN_TIMEOUT;
            }
            self.wake_at(reactor, key, now + PLAN_TIMEOUT);
        }
    }

    /// What the thread lacks may be what members of the warm pool hold: this is for the control thread to see, as an error
    /// of planning is.
    fn fail_to_start(&mut self, key: Key, error: Error) {
        if let Some(planning) = self.all.get_mut(key) {
            planning.has_failed = true;
            (self.send)(planning.number, Err(error));
        }
    }

    /// Whether one more thread may start.
    fn has_room(&mut self, now: Instant) -> bool {
        let threads = self.planning_now.len() + self.abandoned;
        let stuck = count_stuck(&mut self.all, &self.planning_now, now) + self.abandoned;
        threads < MAX_THREADS && threads - stuck <= stuck
    }

    /// Starts a sandbox's thread, if it hasn't ended.
    fn start(&mut self, reactor: &mut Reactor, key: Key) -> Result<()> {
        let now = reactor.now();
        let Some(planning) = self.all.get_mut(key) else { return Ok(()) };
        let Some(shared) = planning.creation.shared().map(Arc::clone) else { return Ok(()) };
        let (plan, send) = (Arc::clone(&self.plan), Arc::clone(&self.send));
        let run = move || {
            let planned = catch_unwind(AssertUnwindSafe(|| plan(&shared)));
            let bug = |_| Err(Error::new(Code::Panic, "planning the sandbox panicked: a bug"));
            send(shared.number, planned.unwrap_or_else(bug));
        };
        let thread =
            with_signals_blocked(|| std::thread::Builder::new().name("sbx-plan".to_owned()).spawn(run))?
                .context("start a thread to plan the sandbox")?;
        planning.work = Some(PlanThread { thread, since: now });
        self.planning_now.push(key);
        self.wake_at(reactor, key, now + STUCK_AFTER);
        Ok(())
    }

    /// Fails a sandbox. Its thread, if it has one, is abandoned.
    fn give_up(&mut self, reactor: &mut Reactor, key: Key, error: Error) {
        if let Some(planning) = self.remove(reactor, key) {
            self.abandoned += usize::from(planning.work.is_some() || planning.has_failed);
            planning.creation.fail_as_its_own(error);
        }
    }

    fn remove(&mut self, reactor: &mut Reactor, key: Key) -> Option<Planning> {
        let planning = self.all.remove(key)?;
        self.keys.remove(&planning.number);
        self.planning_now.retain(|other| *other != key);
        self.admitted.retain(|other| *other != key);
        self.waiting.remove(&planning.number);
        if planning.work.is_none() {
            self.queue.retain(|other| *other != key);
            self.postponed.retain(|(_, other)| *other != key);
        }
        if let Some(timer) = planning.timer {
            reactor.cancel(timer);
        }
        Some(planning)
    }

    fn wake_at(&mut self, reactor: &mut Reactor, key: Key, at: Instant) {
        let Some(planning) = self.all.get_mut(key) else { return };
        if let Some(timer) = planning.timer.replace(reactor.schedule(at.min(planning.until), key)) {
            reactor.cancel(timer);
        }
    }
}

/// How many of these have a thread that is stuck.
fn count_stuck(all: &mut Slab<Planning>, keys: &[Key], now: Instant) -> usize {
    keys.iter().filter(|key| all.get_mut(**key).is_some_and(|planning| planning.is_stuck(now))).count()
}

fn places(max_starts: u32) -> usize {
    usize::try_from(max_starts).unwrap_or(usize::MAX).max(1)
}

fn ended() -> Error {
    Error::new(Code::Closed, "it was ended before its program was started")
}

#[cfg(test)]
#[path = "planning_tests.rs"]
mod tests;
