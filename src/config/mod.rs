//! Every setting of a sandbox, its default and its rule.
//!
//! A setter returns its error at once and also keeps it: [`Config::check`] and the creation of a sandbox return the first
//! one, so a program may set everything and check once. A refused value changes nothing else. Rules between several
//! settings are in `check`.

mod certificate;
mod check;
pub(crate) mod egress;
mod environment;
pub(crate) mod exec;
pub(crate) mod image;
mod limits;
mod mount;
mod nameserver;
mod port;
mod probe;
mod program;
mod read;
mod rules;
mod runtime;
mod service;
mod stdio;
mod tunnel_rate;
pub(crate) mod user;
pub(crate) mod volume;
mod warm;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;

pub(crate) use certificate::Certificate;
pub use egress::EgressLimits;
use environment::Environment;
pub use exec::Exec;
#[cfg(feature = "test-hooks")]
pub use image::ImageFile;
use image::{ImageMount, RootImage};
pub use limits::LimitMode;
pub(crate) use limits::Limits;
pub use mount::Mount;
pub use port::{Port, PortKind};
pub use probe::Probe;
pub use runtime::RuntimeConfig;
pub(crate) use service::HostService;
pub use stdio::{Stdio, Stream};
pub use tunnel_rate::TunnelRate;
use user::User;
use volume::MountedVolume;
pub use volume::VolumeMount;
pub(crate) use warm::StartKey;

use crate::error::{Error, Result};
use crate::event::Queue;
use crate::first_error::FirstError;
use crate::policy::Policy;

/// The default lifetime, as in Modal.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// The default MTU of the sandbox's interface.
const DEFAULT_MTU: u32 = 1500;

/// A sandbox's host name if none is given.
pub(crate) const DEFAULT_HOSTNAME: &str = "sandbox";

/// The settings of a sandbox.
///
/// A setter returns the error of a bad value and also keeps the first one: [`check`](Self::check) and the creation of a
/// sandbox return it, so that a program may set everything and check once.
///
/// ```
/// use std::time::Duration;
/// use sbx::{Config, Policy, PortKind};
///
/// let mut config = Config::new();
/// config
///     .set_command(["python3", "app.py"])?
///     .set_env("MODE", "test")?
///     .mount_read_only("/srv/app", "/app")?
///     .set_workdir("/app")?
///     .add_port(8000, PortKind::Encrypted)?
///     .set_policy(&Policy::allowlist())?
///     .set_timeout(Duration::from_secs(60))?;
/// config.check()?;
///
/// let error = config.set_workdir("app").unwrap_err();
/// assert_eq!(error.message(), "workdir \"app\": must be an absolute path");
/// assert_eq!(config.check(), Err(error));
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone)]
pub struct Config {
    command: Vec<String>,
    /// `None` is the image's; none of either in a configuration that is [resolved](Self::resolved).
    entrypoint: Option<Vec<String>>,
    has_no_command: bool,
    env: Environment,
    /// `None` is the image's, or else `/`.
    workdir: Option<String>,
    user: Option<User>,
    hostname: Option<String>,
    name: Option<String>,
    tags: BTreeMap<String, String>,
    timeout: Duration,
    idle_timeout: Option<Duration>,
    rootfs: Option<PathBuf>,
    image: Option<RootImage>,
    mounts: Vec<Mount>,
    image_mounts: Vec<ImageMount>,
    tmp_in_root: bool,
    volumes: Vec<MountedVolume>,
    ports: Vec<Port>,
    inbound: Option<Vec<IpNetwork>>,
    certificate: Option<Certificate>,
    tls_names: Vec<String>,
    tunnel_rate: TunnelRate,
    policy: Policy,
    egress_limits: EgressLimits,
    host_services: Vec<HostService>,
    nameservers: Vec<SocketAddr>,
    mtu: u32,
    limits: Limits,
    stdin: Stdio,
    stdout: Stdio,
    stderr: Stdio,
    probe: Option<Probe>,
    /// A snapshot is taken at the end, with that name.
    exit_snapshot: Option<Option<String>>,
    queue: Option<(Queue, u64)>,
    bad: Option<Error>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            entrypoint: None,
            has_no_command: false,
            env: Environment::default(),
            workdir: None,
            user: None,
            hostname: None,
            name: None,
            tags: BTreeMap::new(),
            timeout: DEFAULT_LIFETIME,
            idle_timeout: None,
            rootfs: None,
            image: None,
            mounts: Vec::new(),
            image_mounts: Vec::new(),
            tmp_in_root: false,
            volumes: Vec::new(),
            ports: Vec::new(),
            inbound: None,
            certificate: None,
            tls_names: Vec::new(),
            tunnel_rate: TunnelRate::default(),
            policy: Policy::open(),
            egress_limits: EgressLimits::default(),
            host_services: Vec::new(),
            nameservers: Vec::new(),
            mtu: DEFAULT_MTU,
            limits: Limits::default(),
            stdin: Stdio::Null,
            stdout: Stdio::Null,
            stderr: Stdio::Null,
            probe: None,
            exit_snapshot: None,
            queue: None,
            bad: None,
        }
    }
}

impl Config {
    /// The defaults: no command, the curated view of the host's programs, no ports, an open policy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what the sandbox may reach. Without a policy it is open: every public address, and nothing else.
    pub fn set_policy(&mut self, policy: &Policy) -> Result<&mut Self> {
        self.latch(|config| {
            policy.check().map_err(|error| error.context("policy"))?;
            config.policy = policy.clone();
            Ok(())
        })
    }

    /// Sends the sandbox's events to a queue, with this number.
    pub fn set_queue(&mut self, queue: &Queue, cookie: u64) -> Result<&mut Self> {
        self.queue = Some((queue.clone(), cookie));
        Ok(self)
    }

    /// Limits the sandbox's traffic to the outside.
    ///
    /// A flow beyond the limit of open or of new ones is reset at once (a datagram is dropped). Beyond the bytes per
    /// second the library stops reading for a while, which slows the sender down. When the total is used up, every flow
    /// is reset and no other is allowed. Each limit is reported by an event ([`Limit`](crate::Event::Limit)), every ten
    /// seconds at most.
    pub fn set_egress_limits(&mut self, limits: EgressLimits) -> Result<&mut Self> {
        self.latch(|config| {
            limits.check()?;
            config.egress_limits = limits;
            Ok(())
        })
    }

    /// Sets the MTU of the sandbox's interface, from 1280 to 9000 bytes (default 1500).
    pub fn set_mtu(&mut self, bytes: u32) -> Result<&mut Self> {
        self.latch(|config| {
            if !(1280..=9000).contains(&bytes) {
                return Err(Error::invalid(format!("mtu {bytes}: must be from 1280 to 9000")));
            }
            config.mtu = bytes;
            Ok(())
        })
    }

    /// Leaves /tmp to the root file system.
    pub(crate) fn keep_tmp_in_root(&mut self) {
        self.tmp_in_root = true;
    }
}

impl FirstError for Config {
    fn keep_error(&mut self, error: &Error) {
        self.bad.get_or_insert_with(|| error.clone());
    }
}

/// Values of the environment and keys may be secrets: only names are shown.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("program", &self.command.first())
            .field("env", &self.env)
            .field("workdir", &self.workdir)
            .field("user", &self.user)
            .field("name", &self.name)
            .field("rootfs", &self.rootfs)
            .field("image", &self.image.as_ref().map(|image| &image.name))
            .field("mounts", &self.mounts)
            .field("volumes", &self.volumes)
            .field("ports", &self.ports)
            .field("policy", &self.policy)
            .field("certificate", &self.certificate)
            .field("bad", &self.bad)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config::new();
        config.set_command(["true"]).unwrap();
        config
    }

    #[test]
    fn the_first_bad_value_is_kept() {
        let mut config = config();
        config.set_workdir("first").unwrap_err();
        config.set_user("").unwrap_err();
        config.set_workdir("/good").unwrap();
        assert!(config.check().unwrap_err().message().contains("first"));
        assert_eq!(config.workdir(), "/good");
    }

    #[test]
    fn a_policy_brings_its_bad_entry_along() {
        let mut policy = Policy::allowlist();
        policy.allow_cidr("nonsense").unwrap_err();
        let mut config = config();
        config.set_policy(&policy).unwrap_err();
        assert!(config.check().unwrap_err().message().contains("nonsense"));
    }

    #[test]
    fn without_a_policy_it_is_open() {
        assert_eq!(config().policy(), &Policy::open());
    }

    #[test]
    fn mtu() {
        for bad in [0, 1279, 9001, u32::MAX] {
            assert!(config().set_mtu(bad).unwrap_err().message().contains(&bad.to_string()));
        }
        assert_eq!(config().set_mtu(9000).unwrap().mtu(), 9000);
    }
}
