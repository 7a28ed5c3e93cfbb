//! Planning: what has to be looked at on the host before a sandbox's first process is started.
//!
//! A root file system, a mount or runsc may lie on something that hangs, and then whoever looks at it hangs too. So
//! neither the caller looks nor the control thread, but a thread that lives for the moment in which one sandbox is
//! planned. There is one of them at a time: planning takes a hundredth of what a sandbox's start takes, so that more
//! would gain nothing, and a burst of creations must be no burst of threads. But one that has been at it for
//! [`STUCK`] counts no longer, and gives one more the right to plan. So what hangs holds up nobody but its own
//! sandbox, until [`MOST`] hang at the same time.
//!
//! A thread that hangs in the kernel can't be ended. Its sandbox can: nothing that a plan holds is missed by
//! anybody, so it is told as soon as its thread counts no longer, and the plan is thrown away if it ever comes.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Code, Context, Error, Result};
use crate::reactor::{Key, Kind, Reactor, Slab, TimerId};
use crate::sandbox::{Command, Creation, MAX_POLICY_TASKS, Plan, Shared, too_many_policy_tasks};
use crate::sys::thread::with_signals_blocked;

/// How long a thread is waited for before the next begins beside it. In health it takes a millisecond, and some tens
/// when runsc is asked who it is.
const STUCK: Duration = Duration::from_millis(250);
/// The most threads at the same time, all but one of them stuck.
const MOST: usize = 64;
/// How long a sandbox may take to be planned, its wait included. A runsc that hangs is given up sooner.
const PATIENCE: Duration = Duration::from_secs(120);

/// Plans a sandbox. May hang.
pub(super) type Plans = Arc<dyn Fn(&Shared) -> Result<Plan> + Send + Sync>;
/// Tells the control thread that the sandbox of that number has been planned, or can't be.
pub(super) type Tells = Arc<dyn Fn(u64, Result<Plan>) + Send + Sync>;

/// The sandboxes that are being planned, in the control thread's hands.
pub(super) struct Planners {
    plan: Plans,
    tell: Tells,
    all: Slab<Planning>,
    keys: HashMap<u64, Key>,
    /// Those without a thread, in their order.
    line: VecDeque<Key>,
    /// Those with a thread.
    at_work: Vec<Key>,
    /// How many threads hang whose sandboxes have ended.
    left: usize,
}

/// One sandbox.
struct Planning {
    creation: Creation,
    number: u64,
    /// What its life is asked before there is one.
    meanwhile: Vec<Command>,
    /// When it is given up.
    until: Instant,
    timer: Option<TimerId>,
    work: Option<Work>,
    /// Its end was asked for.
    is_ended: bool,
}

/// A thread, and since when it plans.
struct Work {
    thread: JoinHandle<()>,
    since: Instant,
}

impl Planning {
    fn is_stuck(&self, now: Instant) -> bool {
        self.work.as_ref().is_some_and(|work| now >= work.since + STUCK)
    }
}

impl Planners {
    /// None yet; their keys are of that kind.
    pub(super) fn new(kind: Kind, plan: Plans, tell: Tells) -> Self {
        Self {
            plan,
            tell,
            all: Slab::new(kind),
            keys: HashMap::new(),
            line: VecDeque::new(),
            at_work: Vec::new(),
            left: 0,
        }
    }

    /// Whether no sandbox is being planned. Threads that hang don't count.
    pub(super) fn are_idle(&self) -> bool {
        self.keys.is_empty()
    }

    /// Has a sandbox planned, when it is its turn.
    pub(super) fn begin(&mut self, reactor: &mut Reactor, creation: Creation) {
        let Some(number) = creation.shared().map(|shared| shared.number) else { return };
        let until = reactor.now() + PATIENCE;
        let (meanwhile, timer, work) = (Vec::new(), None, None);
        let planning = Planning { creation, number, meanwhile, until, timer, work, is_ended: false };
        let key = self.all.insert(planning);
        self.keys.insert(number, key);
        self.line.push_back(key);
        self.wake_at(reactor, key, until);
        self.go_on(reactor);
    }

    /// A thread has come back: what it has planned, unless that isn't wanted any more, with what was asked meanwhile.
    pub(super) fn returned(
        &mut self,
        reactor: &mut Reactor,
        number: u64,
    ) -> Option<(Creation, Vec<Command>)> {
        let Some(key) = self.keys.get(&number).copied() else {
            self.left = self.left.saturating_sub(1);
            self.go_on(reactor);
            return None;
        };
        let mut planning = self.remove(reactor, key)?;
        if let Some(work) = planning.work.take() {
            // It has done its last. Who is told now finds no thread left of it.
            let _ = work.thread.join();
        }
        self.go_on(reactor);
        if planning.is_ended {
            planning.creation.fail_as_its_own(ended());
            return None;
        }
        Some((planning.creation, planning.meanwhile))
    }

    /// The host asks for a sandbox's end. False if it isn't being planned.
    pub(super) fn end(&mut self, reactor: &mut Reactor, number: u64) -> bool {
        let now = reactor.now();
        let Some(key) = self.keys.get(&number).copied() else { return false };
        let Some(planning) = self.all.get_mut(key) else { return false };
        planning.is_ended = true;
        if planning.work.is_none() || planning.is_stuck(now) {
            self.give_up(reactor, key, ended());
        }
        true
    }

    /// Ends them all.
    pub(super) fn end_all(&mut self, reactor: &mut Reactor) {
        let all: Vec<u64> = self.keys.keys().copied().collect();
        for number in all {
            self.end(reactor, number);
        }
    }

    /// Keeps something that the life of a sandbox is asked until there is one. Gives it back if the sandbox isn't
    /// being planned; tells so if as much as a life would let wait waits already.
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

    /// A timer has run out: a thread is stuck, or the patience with it is over.
    pub(super) fn timer(&mut self, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        let Some(planning) = self.all.get_mut(key) else { return };
        planning.timer = None;
        let (until, is_ended) = (planning.until, planning.is_ended);
        if is_ended {
            self.give_up(reactor, key, ended());
        } else if now >= until {
            let what = match planning.work {
                Some(_) => "it needs does not answer (its root file system, a mount, or what runsc lies on)",
                None => "others need does not answer, and it had to wait for them",
            };
            let text = format!(
                "it could not be planned within {} s: something of this machine that {what}",
                PATIENCE.as_secs()
            );
            self.give_up(reactor, key, Error::new(Code::Host, text));
        } else {
            self.wake_at(reactor, key, until);
        }
        self.go_on(reactor);
    }

    /// After a bug.
    pub(super) fn abandon(&mut self, reactor: &mut Reactor, key: Key) {
        let error = Error::new(Code::Panic, "the control thread panicked: a bug of the library");
        self.give_up(reactor, key, error);
        self.go_on(reactor);
    }

    /// Begins what is next, if its turn has come.
    fn go_on(&mut self, reactor: &mut Reactor) {
        while self.has_room(reactor.now()) {
            let Some(key) = self.line.pop_front() else { return };
            if let Err(error) = self.start(reactor, key)
                && let Some(planning) = self.remove(reactor, key)
            {
                planning.creation.fail(error);
            }
        }
    }

    /// Whether one more may plan.
    fn has_room(&mut self, now: Instant) -> bool {
        let all = &mut self.all;
        let is_stuck = |key: &&Key| all.get_mut(**key).is_some_and(|planning| planning.is_stuck(now));
        let threads = self.at_work.len() + self.left;
        let stuck = self.at_work.iter().filter(is_stuck).count() + self.left;
        threads < MOST && threads - stuck <= stuck
    }

    /// Starts a sandbox's thread, if it hasn't ended.
    fn start(&mut self, reactor: &mut Reactor, key: Key) -> Result<()> {
        let now = reactor.now();
        let Some(planning) = self.all.get_mut(key) else { return Ok(()) };
        let Some(shared) = planning.creation.shared().map(Arc::clone) else { return Ok(()) };
        let (plan, tell) = (Arc::clone(&self.plan), Arc::clone(&self.tell));
        let run = move || {
            let planned = catch_unwind(AssertUnwindSafe(|| plan(&shared)));
            let bug = |_| Err(Error::new(Code::Panic, "planning the sandbox panicked: a bug"));
            tell(shared.number, planned.unwrap_or_else(bug));
        };
        let thread =
            with_signals_blocked(|| std::thread::Builder::new().name("sbx-plan".to_owned()).spawn(run))?
                .context("start a thread to plan the sandbox")?;
        planning.work = Some(Work { thread, since: now });
        self.at_work.push(key);
        self.wake_at(reactor, key, now + STUCK);
        Ok(())
    }

    /// Tells a sandbox's end. A thread that it has is left to itself.
    fn give_up(&mut self, reactor: &mut Reactor, key: Key, error: Error) {
        if let Some(planning) = self.remove(reactor, key) {
            self.left += usize::from(planning.work.is_some());
            planning.creation.fail_as_its_own(error);
        }
    }

    fn remove(&mut self, reactor: &mut Reactor, key: Key) -> Option<Planning> {
        let planning = self.all.remove(key)?;
        self.keys.remove(&planning.number);
        self.at_work.retain(|other| *other != key);
        if planning.work.is_none() {
            self.line.retain(|other| *other != key);
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

fn ended() -> Error {
    Error::new(Code::Closed, "it was ended before its program was started")
}

#[cfg(test)]
#[path = "planning_tests.rs"]
mod tests;
