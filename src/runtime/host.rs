//! What a runtime has of its host: runsc, the keeper's program, the certificate authority.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{getresgid, getresuid};

use super::RuntimeConfig;
use crate::error::{Code, Context, Error, Result};
use crate::keeper::Program;
use crate::net;
use crate::runsc::doctor::LiveProbe;
use crate::runsc::find::{Locator, Search};
use crate::sandbox::{Plan, Shared};
use crate::sys::secure;
use crate::tunnel::Authority;

/// Read from the environment when the runtime is made, and never again.
#[derive(Debug)]
pub(crate) struct Host {
    locator: Locator,
    program: Program,
    authority: Authority,
    user_namespace: bool,
}

impl Host {
    /// Finds what is needed; an unusable runsc is an error here already.
    pub(super) fn new(config: &RuntimeConfig) -> Result<Self> {
        // Nearly everything goes by it, and what fails without it names something else.
        if !Path::new("/proc/self/fd").exists() {
            return Err(Error::new(Code::Host, "/proc is not mounted here: mount -t proc proc /proc"));
        }
        let locator = locator(config);
        locator.locate()?;
        let keeper = config.keeper.clone().or_else(|| environment("SBX_KEEPER").map(PathBuf::from));
        Ok(Self {
            locator,
            program: Program::new(keeper.as_deref())?,
            authority: Authority::new()?,
            user_namespace: config.user_namespace,
        })
    }

    /// The keeper's program.
    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// Plans a sandbox. runsc is looked at anew, so a replaced one is probed again.
    pub(super) fn plan(&self, shared: &Arc<Shared>) -> Result<Plan> {
        one_user()?;
        let runsc = self.locator.locate()?;
        let ipv6 = net::host_has_ipv6_route();
        Plan::new(&shared.id, &shared.config, &runsc, &self.authority, self.user_namespace, ipv6)
    }
}

/// A process with several identities (a setuid program, a server that has changed its effective user for a while)
/// makes no sandbox: it would be unclear whose it is, and the kernel denies such a process its own `/proc`.
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
         sandbox is of one user, so make them equal (setresuid(2), setresgid(2)) before",
        user.real, user.effective, user.saved, group.real, group.effective, group.saved
    );
    Err(Error::new(Code::Host, text))
}

/// Where runsc is looked for.
pub(super) fn locator(config: &RuntimeConfig) -> Locator {
    Locator::new(Search {
        explicit: config.runsc.clone(),
        variable: environment("SBX_RUNSC"),
        path: environment("PATH"),
    })
}

/// A variable that names programs to run. In a setuid program it is the word of whoever started that, and
/// counts for nothing (secure_getenv(3)).
fn environment(name: &str) -> Option<OsString> {
    if secure::is_secure() {
        return None;
    }
    env::var_os(name).filter(|value| !value.is_empty())
}

/// What a keeper can do here: tried by having one make its namespaces, and laying links and rules in them.
pub(super) fn trial(config: &RuntimeConfig) -> Option<LiveProbe> {
    let keeper = config.keeper.clone().or_else(|| environment("SBX_KEEPER").map(PathBuf::from));
    Some(super::trial::run(keeper.as_deref(), config.user_namespace))
}
