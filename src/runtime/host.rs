//! What a runtime knows of its host: runsc, the keeper's program.
//!
//! The environment is read at once, on the caller's thread. Files are read and runsc is probed when a sandbox is planned,
//! on the planning thread, since both may hang.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::unistd::{getresgid, getresuid};
use once_cell::sync::OnceCell;

use crate::config::RuntimeConfig;
use crate::error::{Code, Context, Error, Result};
use crate::image::{Images, RegistrySettings, directory};
use crate::keeper::{Origin, Program};
use crate::net;
use crate::runsc::find::{Locator, Search};
use crate::runsc::probe::Runsc;
use crate::runsc::process;
use crate::runsc::rootfs;
use crate::sandbox::{HostResources, Plan, Shared};
use crate::sys::secure;
use crate::volume::Volumes;

/// Where runsc and the keeper are, by the environment as it was when this was made.
#[derive(Debug)]
pub(crate) struct Host {
    locator: Locator,
    keeper: Origin,
    /// Made with the first runsc that works, and the same for all sandboxes from then on.
    resources: OnceCell<Arc<HostResources>>,
    is_looked_at: AtomicBool,
    has_failed: AtomicBool,
    user_namespace: bool,
    volumes: Arc<Volumes>,
}

impl Host {
    /// Reads the environment. What can hang is left to [`Host::find`].
    pub(super) fn new(config: &RuntimeConfig) -> Result<Self> {
        // Nearly everything needs it, and the errors without it would be misleading.
        if !Path::new("/proc/self/fd").exists() {
            return Err(Error::new(Code::Host, "/proc is not mounted here: mount -t proc proc /proc"));
        }
        Ok(Self {
            locator: locator(config),
            keeper: keeper(config),
            resources: OnceCell::new(),
            is_looked_at: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            user_namespace: config.user_namespace,
            volumes: Arc::new(Volumes::new(config.volume_directory.as_deref(), config.volume_min_free_bytes)),
        })
    }

    /// Finds runsc and the keeper. runsc's file is checked each time, so a replaced one is probed again.
    pub(super) fn find(&self) -> Result<(Arc<Runsc>, Arc<HostResources>)> {
        self.is_looked_at.store(true, Ordering::Relaxed);
        let located = process::check().and_then(|()| self.locator.locate());
        let found = located.and_then(|runsc| Ok((runsc, self.resources()?)));
        self.has_failed.fetch_or(found.is_err(), Ordering::Relaxed);
        found.map(|(runsc, resources)| (runsc, Arc::clone(resources)))
    }

    fn resources(&self) -> Result<&Arc<HostResources>> {
        let resources = || Ok(Arc::new(HostResources::new(Program::new(&self.keeper)?)));
        self.resources.get_or_try_init(resources)
    }

    /// The user's volumes.
    pub(super) fn volumes(&self) -> Arc<Volumes> {
        Arc::clone(&self.volumes)
    }

    /// The keeper's program, which needs no runsc.
    pub(super) fn program(&self) -> Result<Arc<Program>> {
        Ok(Arc::clone(&self.resources()?.program))
    }

    /// The first time, scans the host's programs while runsc is probed.
    fn find_while_looking(&self, shared: &Shared) -> Result<(Arc<Runsc>, Arc<HostResources>)> {
        let is_given = shared.config.rootfs().is_some() || shared.config.image().is_some();
        if is_given || !rootfs::is_unseen() {
            return self.find();
        }
        thread::scope(|scope| {
            // If no thread can be started, the scan happens when the file system is planned.
            let _ = thread::Builder::new().name("sbx-look".to_owned()).spawn_scoped(scope, rootfs::look);
            self.find()
        })
    }

    /// Whether nothing was ever found with this environment, so that reading it again may help.
    fn should_refresh(&self) -> bool {
        let is_looked_at = self.is_looked_at.load(Ordering::Relaxed);
        self.resources.get().is_none() && (!is_looked_at || self.has_failed.load(Ordering::Relaxed))
    }

    /// Plans a sandbox.
    /// With `stamped` it can be compared with members of the warm pool, and can be one.
    pub(super) fn plan(&self, shared: &Shared, stamped: bool) -> Result<Plan> {
        one_user()?;
        let (runsc, resources) = self.find_while_looking(shared)?;
        let ipv6 = net::host_has_ipv6_route();
        let volumes = &self.volumes;
        let mut plan =
            Plan::new(&shared.id, &shared.config, &runsc, resources, volumes, self.user_namespace, ipv6)?;
        if stamped {
            plan.add_stamp(&shared.id);
        }
        Ok(plan)
    }
}

/// What a runtime knows of its host now.
#[derive(Debug)]
pub(super) struct HostCache(Mutex<Arc<Host>>);

impl HostCache {
    pub(super) fn new(host: Host) -> Self {
        Self(Mutex::new(Arc::new(host)))
    }

    /// The current host, for a planning thread.
    pub(super) fn get(&self) -> Arc<Host> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the environment again if nothing was found with it so far: after an error about a missing runsc the caller
    /// may have set a variable.
    pub(super) fn renew(&self, config: &RuntimeConfig) -> Result<()> {
        let mut host = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if host.should_refresh() {
            *host = Arc::new(Host::new(config)?);
        }
        Ok(())
    }
}

/// A process with several identities (a setuid program, a server that has changed its effective user for a while)
/// can't create sandboxes: their owner would be unclear, and the kernel denies such a process its own `/proc`.
fn one_user() -> Result<()> {
    let user = getresuid().context("the process's users")?;
    let group = getresgid().context("the process's groups")?;
    if (user.real, user.real) == (user.effective, user.saved)
        && (group.real, group.real) == (group.effective, group.saved)
    {
        return Ok(());
    }
    let text = format!(
        "the process's real, effective and saved user or group differ (users {}, {}, {}; groups {}, {}, {}): a \
         sandbox has one user; make them equal first (setresuid(2), setresgid(2))",
        user.real, user.effective, user.saved, group.real, group.effective, group.saved
    );
    Err(Error::new(Code::Host, text))
}

/// Where to look for runsc.
pub(crate) fn locator(config: &RuntimeConfig) -> Locator {
    Locator::new(Search {
        explicit: config.runsc.clone(),
        variable: secure::variable("SBX_RUNSC"),
        path: secure::variable("PATH"),
    })
}

/// Where the keeper's program comes from.
pub(crate) fn keeper(config: &RuntimeConfig) -> Origin {
    Origin::new(config.keeper.clone().or_else(|| secure::variable("SBX_KEEPER").map(PathBuf::from)))
}

/// The images of the directory that the config names, or else the environment.
pub(super) fn images(config: &RuntimeConfig, host: &Arc<HostCache>) -> Images {
    let host = Arc::clone(host);
    let program = Box::new(move || host.get().program());
    Images::new(directory(config.image_directory.as_deref()), RegistrySettings::from_environment(), program)
}
