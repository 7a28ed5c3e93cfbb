//! A live change of what a sandbox may reach, and what else is done with its rules.
//!
//! A change goes in four steps: a new set is filled, read back and compared, and one small transaction switches to
//! it; the engine asks the new policy about every flow; both halves of what it denies are reset; then the host is
//! told. Between the first two a flow passes only if both policies allow it, and after a failure of the first the
//! old policy stays in both places.
//!
//! A large set takes the kernel up to a second, which the control thread doesn't have: the rules are lent to a thread
//! of their own for that moment. What comes meanwhile waits its turn; so changes are made one after the other, each
//! with a generation of its own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::control::{Command, Control};
use super::life::{Bench, Life, Phase};
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::event::operation::Completion;
use crate::net::nft::{Allowed, Rules};
use crate::policy::{Mode, Policy};
use crate::runsc::command::SandboxId;
use crate::sys::thread::with_signals_blocked;

/// A policy of more entries than this is loaded by a thread of its own: beyond, the kernel takes milliseconds.
const FEW: usize = 256;
/// The first policy's generation; each change has the next number.
const FIRST: u64 = 0;
/// The most changes and questions that wait for one sandbox.
pub(crate) const WAITING: usize = 4096;

/// What is done with the rules, one after the other.
#[derive(Debug)]
pub(crate) enum Work {
    /// Put this policy in force.
    Change(Arc<Policy>, Completion<u64>),
    /// Put the sandbox's first policy in force and open its way out.
    Open(Arc<Policy>),
    /// Read back what is in force, and compare.
    Read(Completion<(Policy, u64)>),
}

impl Work {
    /// It is not done: whoever asked is told why.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Change(_, completion) => completion.complete(Err(error)),
            Self::Read(completion) => completion.complete(Err(error)),
            Self::Open(_) => {}
        }
    }
}

/// Why no more can wait.
pub(crate) fn too_many(id: &SandboxId) -> Error {
    Error::new(Code::Limit, format!("sandbox {id}: {WAITING} changes of its policy are waiting already"))
}

/// What is to be done with the rules, and what is in force.
#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: VecDeque<Work>,
    /// The rules are with a thread of their own.
    lent: bool,
    /// What is in force, once the rules are loaded.
    current: Option<(Arc<Policy>, u64)>,
}

impl Changes {
    /// The rules are loaded, without any destination: the first thing that is done with them is this.
    pub(super) fn begin(&mut self, policy: Arc<Policy>) {
        self.current = Some((Arc::new(Policy::allowlist()), FIRST));
        self.waiting.push_front(Work::Open(policy));
    }

    /// What waits is told that it won't be done.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Whether the rules are with a thread of their own.
    pub(super) fn are_lent(&self) -> bool {
        self.lent
    }
}

/// Rules with something to do.
#[derive(Debug)]
pub(crate) struct Job {
    rules: Rules,
    work: Work,
    /// What is in force.
    current: (Arc<Policy>, u64),
    ipv6: bool,
    done: Result<()>,
}

impl Job {
    fn run(&mut self) {
        self.done = match &self.work {
            Work::Change(policy, _) | Work::Open(policy) => {
                self.rules.replace(&Allowed::by(policy), self.ipv6).map(drop)
            }
            Work::Read(_) => self.compare(),
        };
    }

    fn compare(&mut self) -> Result<()> {
        let wanted = Allowed::by(&self.current.0);
        if self.rules.is_in_force(&wanted)? {
            return Ok(());
        }
        let text = "the gateway's rules are not what was set: somebody with power over the sandbox's namespaces has \
                    changed them; end the sandbox";
        Err(Error::new(Code::Internal, text))
    }
}

impl Life {
    /// Does something with the rules, when it is its turn.
    pub(crate) fn work_on_rules(&mut self, bench: &mut Bench<'_>, work: Work) {
        let id = &self.shared.id;
        let refusal = if self.phase >= Phase::Ending {
            Some(self.shared.ended())
        } else if self.shared.config.policy().mode() == Mode::Blocked {
            let text = format!(
                "sandbox {id} was created without any network, and can't be given one; create one with an empty \
                 allowlist to open it later"
            );
            Some(Error::new(Code::Unsupported, text))
        } else if self.changes.waiting.len() >= WAITING {
            Some(too_many(id))
        } else {
            None
        };
        match refusal {
            Some(error) => work.refuse(error),
            None => {
                self.changes.waiting.push_back(work);
                self.next_work(bench);
            }
        }
    }

    /// Begins what is next, if the rules are there. Before the gateway is open everything waits.
    pub(super) fn next_work(&mut self, bench: &mut Bench<'_>) {
        while !self.changes.lent
            && let Some(current) = self.changes.current.clone()
            && !self.changes.waiting.is_empty()
        {
            let Some(rules) = self.gateway.rules.take() else {
                // A thread has lost them: what is in force stays.
                for work in self.changes.waiting.drain(..) {
                    let error = Error::new(Code::Internal, "the gateway's rules can't be changed any more");
                    work.refuse(error);
                }
                return;
            };
            let Some(work) = self.changes.waiting.pop_front() else { return };
            let few = match &work {
                Work::Change(policy, _) | Work::Open(policy) => policy.entries().len() <= FEW,
                Work::Read(_) => current.0.entries().len() <= FEW,
            };
            let mut job = Job { rules, work, current, ipv6: self.gateway.ipv6, done: Ok(()) };
            if few {
                job.run();
                self.finish_work(bench, job);
            } else {
                self.changes.lent = true;
                if let Err(job) = lend(job, self.shared.number, bench.control.clone()) {
                    self.changes.lent = false;
                    self.finish_work(bench, *job);
                }
            }
        }
    }

    /// The rules are back; `None` if the thread has lost them.
    pub(crate) fn rules_returned(&mut self, bench: &mut Bench<'_>, job: Option<Box<Job>>) {
        self.changes.lent = false;
        if let Some(job) = job
            && self.phase < Phase::Ending
        {
            self.finish_work(bench, *job);
        }
        self.let_late_answers_through(bench);
        self.next_work(bench);
    }

    fn finish_work(&mut self, bench: &mut Bench<'_>, job: Job) {
        let Job { rules, work, current: (policy, generation), done, .. } = job;
        self.gateway.rules = Some(rules);
        match (work, done) {
            (Work::Read(completion), done) => {
                completion.complete(done.map(|()| ((*policy).clone(), generation)));
            }
            (Work::Open(_), Err(error)) => self.doubt(bench, error.context("the policy")),
            (Work::Open(policy), Ok(())) => {
                self.changes.current = Some((Arc::clone(&policy), FIRST));
                if let Err(error) = self.open_egress(bench, (policy, FIRST)) {
                    self.doubt(bench, error);
                }
            }
            (Work::Change(_, completion), Err(error)) => {
                let text = format!("sandbox {}: the old policy stays", self.shared.id);
                completion.complete(Err(error.context(text)));
            }
            (Work::Change(policy, completion), Ok(())) => {
                let generation = generation.saturating_add(1);
                self.changes.current = Some((Arc::clone(&policy), generation));
                let command = engine::Command::SetPolicy {
                    key: self.shared.number,
                    policy: (policy, generation),
                    reply: Box::new(move |generation| completion.complete(Ok(generation))),
                };
                // An engine that is gone drops the reply, and the completion with it: that reports the sandbox's end.
                let _ = bench.engine.send(command);
            }
        }
    }
}

/// Lends a job to a thread of its own, which sends it back. It is given back at once if there can't be one.
fn lend(job: Job, number: u64, control: Control) -> Result<(), Box<Job>> {
    let slot = Arc::new(Mutex::new(Some(Box::new(job))));
    let taken = Arc::clone(&slot);
    let take = |slot: &Mutex<Option<Box<Job>>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run = move || {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut job = take(&taken)?;
            job.run();
            Some(job)
        }));
        // A control thread that is gone has ended the sandbox.
        let _ = control.send(Command::RulesReturned(number, done.unwrap_or(None)));
    };
    let started =
        with_signals_blocked(|| std::thread::Builder::new().name("sbx-policy".to_owned()).spawn(run));
    match started {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => give_back(take(&slot), Error::system("a thread to load a policy", &error)),
        Err(error) => give_back(take(&slot), error),
    }
}

fn give_back(job: Option<Box<Job>>, error: Error) -> Result<(), Box<Job>> {
    match job {
        Some(mut job) => {
            job.done = Err(error);
            Err(job)
        }
        // The thread has it after all.
        None => Ok(()),
    }
}
