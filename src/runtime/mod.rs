//! A runtime: two threads, however many sandboxes (and one more while some are planned), and the registry of
//! sandboxes.

mod backoff;
mod claim;
mod control;
mod host;
mod images;
mod maintenance;
mod nameservers;
mod planning;
mod thread;
mod volumes;
mod warm;
mod warm_stats;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

pub(crate) use host::{keeper, locator};
use once_cell::sync::OnceCell;
use warm::Pool;
pub use warm_stats::WarmStats;

use crate::config::{Config, RuntimeConfig};
use crate::engine;
use crate::error::{Code, Context, Error, Result};
use crate::image::Images;
use crate::limits;
use crate::reactor::{FdBudget, Reactor};
use crate::runsc::command::SandboxId;
use crate::sandbox::{Command, Control, Creation, Sandbox, Shared, State, WeakSandbox};
use crate::sys;

/// A runtime: two threads that serve its sandboxes. Clones are handles to the same one; when the last is dropped its
/// sandboxes end. Most programs need [`Runtime::shared`] only.
///
/// ```no_run
/// use sbx::{Config, Runtime, RuntimeConfig};
///
/// let runtime = Runtime::new(&RuntimeConfig::new().runsc("/opt/gvisor/runsc"))?;
/// let mut config = Config::new();
/// config.set_name("build")?;
/// let sandbox = runtime.create(&config)?;
/// assert_eq!(runtime.find("build").map(|found| found.id() == sandbox.id()), Some(true));
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Dropped in this order: the control thread ends the sandboxes, for which it needs the engine.
    control: Mutex<Option<thread::Thread>>,
    engine: Mutex<Option<engine::Engine>>,
    way: Control,
    host: Arc<host::HostCache>,
    images: Arc<Images>,
    pool: Arc<Mutex<Pool>>,
    /// 0 if it was not set.
    max_starts: Mutex<u32>,
    sandboxes: Mutex<Vec<WeakSandbox>>,
}

/// The most sandboxes that a runtime can be told to start at once, and the least of the default.
const MAX_STARTS: u32 = 256;
const MIN_DEFAULT_STARTS: u32 = 4;
/// The most spares.
const MAX_SPARES: u32 = 16;

/// How many sandboxes a runtime starts at once by default: a start uses more than one processor for a part of its time, and
/// waits for another.
fn default_max_starts() -> u32 {
    sys::thread::processors().saturating_mul(2).clamp(MIN_DEFAULT_STARTS, MAX_STARTS)
}

/// How many a runtime starts at once, where this many are set.
fn in_force(count: u32) -> u32 {
    if count == 0 { default_max_starts() } else { count }
}

/// Numbers sandboxes, for all runtimes of the process.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// The process's descriptors, for all runtimes together.
static BUDGET: OnceCell<FdBudget> = OnceCell::new();

/// The budget, adjusted to the current limit.
fn budget() -> Result<FdBudget> {
    let (soft, _) = sys::limits::descriptors().context("the limit of descriptors")?;
    let share = soft.saturating_sub(limits::RESERVE);
    let budget = BUDGET.get_or_init(|| FdBudget::new(share));
    budget.resize(share);
    Ok(budget.clone())
}

/// The process's default runtime.
static DEFAULT: OnceCell<Runtime> = OnceCell::new();

impl Runtime {
    /// Makes a runtime: finds runsc, starts the two threads.
    pub fn new(config: &RuntimeConfig) -> Result<Self> {
        let host = host::Host::new(config)?;
        host.find()?;
        Self::start(host, config)
    }

    fn start(host: host::Host, config: &RuntimeConfig) -> Result<Self> {
        let host = Arc::new(host::HostCache::new(host));
        let images = Arc::new(host::images(config, &host));
        let budget = budget()?;
        let reactor = Reactor::new().context("the control thread's poll descriptor")?;
        let (commands, requests) = thread::prepare(&reactor);
        let engine = engine::Engine::start(budget.clone(), requests)?;
        let pool = Arc::<Mutex<Pool>>::default();
        let control = thread::Thread::start(
            reactor,
            commands,
            engine.handle(),
            Arc::clone(&host),
            budget,
            control::Shares {
                pool: Arc::clone(&pool),
                images: Arc::downgrade(&images),
                max_starts: default_max_starts(),
            },
        )?;
        let inner = Inner {
            way: control.control().clone(),
            control: Mutex::new(Some(control)),
            engine: Mutex::new(Some(engine)),
            host,
            images,
            pool,
            max_starts: Mutex::default(),
            sandboxes: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The process's default runtime, made on first use and never ended. Doesn't look for runsc: if that can't be used,
    /// creating a sandbox fails with the reason, until it is fixed.
    pub fn shared() -> Result<Self> {
        let config = RuntimeConfig::default();
        let runtime = DEFAULT.get_or_try_init(|| Self::start(host::Host::new(&config)?, &config))?;
        runtime.inner.host.renew(&config)?;
        Ok(runtime.clone())
    }

    /// Creates a sandbox and waits until its program has started.
    pub fn create(&self, config: &Config) -> Result<Sandbox> {
        let sandbox = self.create_begin(config)?;
        sandbox.wait_started(None)?;
        Ok(sandbox)
    }

    /// Begins to create a sandbox and returns at once; reports [`Started`](crate::Event::Started) or
    /// [`Failed`](crate::Event::Failed). Fails at once only for what needs no look at the host: a bad config, a name that
    /// is taken.
    pub fn create_begin(&self, config: &Config) -> Result<Sandbox> {
        config.check()?;
        let config = config.resolved()?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::new(number, SandboxId::random()?, config)?);
        let sandbox =
            Sandbox::new(Arc::clone(&shared), self.inner.way.clone(), Arc::downgrade(&self.inner.images));
        self.register(&sandbox)?;
        self.inner.way.send(Command::Create(Box::new(Creation::new(shared))))?;
        Ok(sandbox)
    }

    /// The runtime's images.
    pub(crate) fn images(&self) -> &Arc<Images> {
        &self.inner.images
    }

    /// What makes sandboxes for work of the library's own, which programs don't see. It doesn't keep the runtime.
    pub(crate) fn creator(&self) -> Creator {
        Creator { way: self.inner.way.clone(), images: Arc::downgrade(&self.inner.images) }
    }

    /// Adds a sandbox to the registry, if its name is free.
    fn register(&self, sandbox: &Sandbox) -> Result<()> {
        let mut list = self.inner.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|other| other.upgrade().is_some_and(|other| other.state() != State::Ended));
        if let Some(name) = sandbox.name() {
            let taken = list.iter().filter_map(WeakSandbox::upgrade).any(|other| other.name() == Some(name));
            if taken {
                return Err(Error::new(Code::Exists, format!("a sandbox named {name:?} exists already")));
            }
        }
        list.push(sandbox.downgrade());
        Ok(())
    }

    /// The sandboxes of this runtime that have not ended and that the host still holds.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        let list = self.inner.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        list.iter().filter_map(WeakSandbox::upgrade).filter(|one| one.state() != State::Ended).collect()
    }

    /// The sandbox with this name, if it has not ended and the host still holds it.
    pub fn find(&self, name: &str) -> Option<Sandbox> {
        self.sandboxes().into_iter().find(|sandbox| sandbox.name() == Some(name))
    }

    /// Has at most this many sandboxes of the runtime start at once, 1 to 256; 0 for the default, twice as many as there are
    /// processors and 4 at least. More are each slower, and no faster together. Creations beyond it wait for their turn in the
    /// order of the calls, and hold nothing of the host meanwhile; they can be ended as any. The 60 seconds in which a sandbox
    /// has to start begin with its turn, and its lifetime with its start. One that takes a warm sandbox doesn't wait.
    pub fn set_max_starts(&self, count: u32) -> Result<()> {
        if count > MAX_STARTS {
            return Err(Error::invalid(format!("max_starts {count}: must be from 0 to {MAX_STARTS}")));
        }
        // Locked until it is sent, so that the last of two callers is the last of the commands.
        let mut set = self.inner.max_starts.lock().unwrap_or_else(PoisonError::into_inner);
        *set = count;
        self.inner.way.send(Command::SetMaxStarts(in_force(count)))
    }

    /// How many sandboxes start at once at most.
    pub fn max_starts(&self) -> u32 {
        in_force(*self.inner.max_starts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps this many spares, 0 to 16; none by default. A spare is a sandbox that was started as far as gVisor's own program,
    /// which waits there before it looks at what it is to run. A creation that takes one skips that part of a start. A
    /// spare costs about 3 MB, where a warm sandbox costs what any does ([`Runtime::keep_warm`]).
    ///
    /// They are for sandboxes like the last two that were created one after the other, if those were alike: the same root
    /// file system or image, mounts, limits, MTU, host name, number of host services, and both with a network or both
    /// without. Those that take a warm sandbox, and those with volumes or an exit snapshot, don't count and take none. They
    /// are made in the background while no sandbox is being created, the first after the second creation, and end 30 seconds
    /// after the last creation that could have taken one; and what ends warm sandboxes ends them, before those.
    pub fn set_spares(&self, count: u32) -> Result<()> {
        if count > MAX_SPARES {
            return Err(Error::invalid(format!("spares {count}: must be from 0 to {MAX_SPARES}")));
        }
        let before = self.spares();
        self.pool().set_spares(count);
        self.inner.way.send(Command::TendPool).inspect_err(|_| self.pool().set_spares(before))
    }

    /// How many spares are kept.
    pub fn spares(&self) -> u32 {
        self.pool().spares()
    }

    /// For tests: what the spares have done.
    #[cfg(feature = "test-hooks")]
    #[doc(hidden)]
    pub fn spare_stats(&self) -> WarmStats {
        self.pool().spare_stats()
    }

    /// Keeps this many sandboxes warm for configurations like `template`: started, with nothing of anybody's in them, so that
    /// a creation has only to apply its own settings and start its program. 0 ends them. At most 256 for all templates of a
    /// runtime, and 16 templates. Returns at once; they are started in the background, one at a time, while no sandbox is
    /// being created.
    ///
    /// A creation takes one by itself if its root file system or image, mounts, limits, MTU, host name, number of host
    /// services, and whether it has a network at all, are those of the template. Everything else is the creation's own; what
    /// else the template says is ignored. A sandbox that fits no template, or finds none ready, is created as without a pool.
    ///
    /// Each costs the memory and the processes of a sandbox. They are in no list of sandboxes and send no events. One that
    /// waits for an hour is replaced; a template that no creation matches for ten minutes keeps one. Those that something has
    /// changed for on the host (runsc, the root file system, a mount's source) are not used. They end with the runtime, and
    /// before a creation that has not started its keeper fails for want of descriptors, memory or processes.
    pub fn keep_warm(&self, template: &Config, count: u32) -> Result<()> {
        self.pool().set(Instant::now(), template, count)?;
        self.inner.way.send(Command::TendPool)
    }

    /// What the pool of warm sandboxes has and has done since each template was set: for one template, or for all.
    pub fn warm_stats(&self, template: Option<&Config>) -> WarmStats {
        self.pool().stats(template)
    }

    /// For tests: as if the host's memory were low, for all runtimes of the process.
    #[cfg(feature = "test-hooks")]
    #[doc(hidden)]
    pub fn pretend_low_memory(&self, is_low: bool) {
        crate::sandbox::PRETEND_LOW_MEMORY.store(is_low, Ordering::Relaxed);
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every sandbox, the operations on images and both threads; returns when they are gone. Every call fails afterwards.
    pub fn shutdown(&self) {
        self.inner.shutdown();
    }
}

/// Makes sandboxes as long as there is the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Creator {
    way: Control,
    images: Weak<Images>,
}

impl Creator {
    /// Begins to create a sandbox, as [`Runtime::create_begin`] does.
    pub(crate) fn create_begin(&self, config: &Config) -> Result<Sandbox> {
        config.check()?;
        let config = config.resolved()?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::new(number, SandboxId::random()?, config)?);
        let sandbox = Sandbox::new(Arc::clone(&shared), self.way.clone(), Weak::clone(&self.images));
        self.way.send(Command::Create(Box::new(Creation::new(shared))))?;
        Ok(sandbox)
    }
}

impl Inner {
    fn shutdown(&self) {
        self.images.shutdown();
        // The locks are held while the threads end, so that a second caller returns no sooner.
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        drop(control.take());
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        drop(engine.take());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shutdown();
    }
}
