//! A live update of a sandbox's policy, and what else is done with its gateway's rules.
//!
//! An update goes in four steps: a new set is filled, read back and compared, and one small transaction switches to
//! it; the engine asks the new policy about every flow; both halves of what it denies are reset; then the host is
//! notified. Between the first two a flow passes only if both policies allow it, and after a failure of the first the
//! old policy stays in both places.
//!
//! A large set takes the kernel up to a second, which the control thread doesn't have: the rules are offloaded to a
//! thread of their own for that moment. What comes meanwhile waits its turn, so updates are made one after the other,
//! each with a generation of its own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::control::{Command, Control};
use super::gateway::Gateway;
use super::shared::Shared;
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::event::operation::Completion;
use crate::net::nft::{AllowedSets, Rules};
use crate::policy::{Policy, PolicyMode};
use crate::runsc::command::SandboxId;
use crate::sys::thread::with_signals_blocked;

/// A policy of more entries than this is loaded by a thread of its own: beyond, the kernel takes milliseconds.
const MAX_INLINE_ENTRIES: usize = 256;
/// The first policy's generation; each update has the next number.
const FIRST_GENERATION: u64 = 0;
/// The most updates and readings that wait for one sandbox.
pub(crate) const MAX_POLICY_TASKS: usize = 4096;

/// Something to be done with the rules.
#[derive(Debug)]
pub(crate) enum PolicyTask {
    /// Put this policy in force.
    Update(Arc<Policy>, Completion<u64>),
    /// Put the sandbox's first policy in force.
    Open(Arc<Policy>),
    /// Read back what is in force, and compare.
    Read(Completion<(Policy, u64)>),
}

impl PolicyTask {
    /// Sends the caller an error in place of a result.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Update(_, completion) => completion.complete(Err(error)),
            Self::Read(completion) => completion.complete(Err(error)),
            Self::Open(_) => {}
        }
    }

    fn entries(&self, current: &Policy) -> usize {
        match self {
            Self::Update(policy, _) | Self::Open(policy) => policy.entries().len(),
            Self::Read(_) => current.entries().len(),
        }
    }
}

/// Why no more can wait.
pub(crate) fn too_many_policy_tasks(id: &SandboxId) -> Error {
    let text = format!("sandbox {id}: {MAX_POLICY_TASKS} changes of its policy are waiting already");
    Error::new(Code::Limit, text)
}

/// What is to be done with one sandbox's rules, and what is in force.
#[derive(Debug, Default)]
pub(super) struct PolicyUpdates {
    waiting: VecDeque<PolicyTask>,
    is_offloaded: bool,
    /// The first policy is in force.
    has_opened: bool,
    /// What is in force, once the rules are loaded.
    current: Option<(Arc<Policy>, u64)>,
}

impl PolicyUpdates {
    /// The rules are loaded, without any destination. The first policy comes before all that waits.
    pub(super) fn begin(&mut self, policy: Arc<Policy>) {
        self.current = Some((Arc::new(Policy::allowlist()), FIRST_GENERATION));
        self.waiting.push_front(PolicyTask::Open(policy));
    }

    /// Adds a task, or refuses it. Before the gateway is open everything waits.
    pub(super) fn push(&mut self, shared: &Shared, task: PolicyTask) {
        let id = &shared.id;
        if shared.config.policy().mode() == PolicyMode::Blocked {
            // There are no rules to read: it has no network, and keeps none.
            if let PolicyTask::Read(completion) = task {
                completion.complete(Ok((shared.config.policy().clone(), FIRST_GENERATION)));
                return;
            }
            let text = format!(
                "sandbox {id} was created without any network, and can't be given one; create one with an empty \
                 allowlist to open it later"
            );
            task.refuse(Error::new(Code::Unsupported, text));
        } else if self.waiting.len() >= MAX_POLICY_TASKS {
            task.refuse(too_many_policy_tasks(id));
        } else {
            self.waiting.push_back(task);
        }
    }

    /// The sandbox is ending: what waits is answered by its drop.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Whether the rules are with a thread of their own.
    pub(super) fn is_offloaded(&self) -> bool {
        self.is_offloaded
    }

    /// Whether the first policy is in force.
    pub(super) fn has_opened(&self) -> bool {
        self.has_opened
    }

    /// Does what waits, until there is nothing more to do for now. Returns the outcome of the first policy, which
    /// somebody has to act on before the rest.
    pub(super) fn run(
        &mut self,
        gateway: &mut Gateway,
        shared: &Shared,
        engine: &engine::Handle,
        control: &Control,
    ) -> Option<Result<Opened>> {
        while !self.is_offloaded
            && let Some(current) = self.current.clone()
            && let Some(task) = self.waiting.pop_front()
        {
            let Some(rules) = gateway.take_rules() else {
                // A thread has lost them: what is in force stays.
                for task in std::iter::once(task).chain(self.waiting.drain(..)) {
                    let error = Error::new(Code::Internal, "the gateway's rules can't be changed any more");
                    task.refuse(error);
                }
                return None;
            };
            let is_large = task.entries(&current.0) > MAX_INLINE_ENTRIES;
            let mut job = PolicyJob { rules, task, current, ipv6: gateway.has_ipv6(), done: Ok(()) };
            if is_large {
                match offload(job, shared.number, control.clone()) {
                    Ok(()) => {
                        self.is_offloaded = true;
                        return None;
                    }
                    Err(back) => job = *back,
                }
            } else {
                job.run();
            }
            if let Some(opened) = self.finish(gateway, shared, engine, job) {
                return Some(opened);
            }
        }
        None
    }

    /// The rules are back from their thread; `None` if it has lost them. The job is finished unless the sandbox is
    /// ending.
    pub(super) fn reclaim(
        &mut self,
        gateway: &mut Gateway,
        shared: &Shared,
        engine: &engine::Handle,
        job: Option<PolicyJob>,
    ) -> Option<Result<Opened>> {
        self.is_offloaded = false;
        self.finish(gateway, shared, engine, job?)
    }

    fn finish(
        &mut self,
        gateway: &mut Gateway,
        shared: &Shared,
        engine: &engine::Handle,
        job: PolicyJob,
    ) -> Option<Result<Opened>> {
        let PolicyJob { rules, task, current: (policy, generation), done, .. } = job;
        gateway.put_rules(rules);
        match (task, done) {
            (PolicyTask::Read(completion), done) => {
                completion.complete(done.map(|()| ((*policy).clone(), generation)));
            }
            (PolicyTask::Open(_), Err(error)) => return Some(Err(error.context("the policy"))),
            (PolicyTask::Open(policy), Ok(())) => {
                self.has_opened = true;
                self.current = Some((Arc::clone(&policy), FIRST_GENERATION));
                return Some(Ok((policy, FIRST_GENERATION)));
            }
            (PolicyTask::Update(_, completion), Err(error)) => {
                completion
                    .complete(Err(error.context(format!("sandbox {}: the old policy stays", shared.id))));
            }
            (PolicyTask::Update(policy, completion), Ok(())) => {
                let generation = generation.saturating_add(1);
                self.current = Some((Arc::clone(&policy), generation));
                let command = engine::Command::SetPolicy {
                    key: shared.number,
                    policy: (policy, generation),
                    reply: Box::new(move |generation| completion.complete(Ok(generation))),
                };
                // An engine that is gone drops the reply and the completion, which sends the sandbox's end.
                let _ = engine.send(command);
            }
        }
        None
    }
}

/// The first policy, in force in the rules, with its generation.
pub(super) type Opened = (Arc<Policy>, u64);

/// Rules with something to do.
#[derive(Debug)]
pub(crate) struct PolicyJob {
    rules: Rules,
    task: PolicyTask,
    /// What is in force.
    current: (Arc<Policy>, u64),
    ipv6: bool,
    done: Result<()>,
}

impl PolicyJob {
    fn run(&mut self) {
        self.done = match &self.task {
            PolicyTask::Update(policy, _) | PolicyTask::Open(policy) => {
                self.rules.apply(&AllowedSets::by(policy), self.ipv6).map(drop)
            }
            PolicyTask::Read(_) => self.compare(),
        };
    }

    fn compare(&mut self) -> Result<()> {
        let wanted = AllowedSets::by(&self.current.0);
        if self.rules.is_in_force(&wanted)? {
            return Ok(());
        }
        let text = "the gateway's rules are not what was set: somebody with power over the sandbox's namespaces has \
                    changed them; end the sandbox";
        Err(Error::new(Code::Internal, text))
    }
}

/// Hands a job to a thread of its own, which sends it back. It is returned at once if there can't be one.
fn offload(job: PolicyJob, number: u64, control: Control) -> Result<(), Box<PolicyJob>> {
    let slot = Arc::new(Mutex::new(Some(Box::new(job))));
    let taken = Arc::clone(&slot);
    let take =
        |slot: &Mutex<Option<Box<PolicyJob>>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
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
    let error = match started {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => Error::system("a thread to load a policy", &error),
        Err(error) => error,
    };
    match take(&slot) {
        Some(mut job) => {
            job.done = Err(error);
            Err(job)
        }
        // The thread has it after all.
        None => Ok(()),
    }
}
