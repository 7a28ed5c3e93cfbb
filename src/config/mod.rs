//! Every setting of a sandbox, its default and its rule.
//!
//! A setter returns its error at once and also keeps it: [`Config::check`] and the creation of a sandbox return the first
//! one, so a program may set everything and check once. A refused value changes nothing else. Rules between several
//! settings are checked by `check`.

mod certificate;
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
mod rules;
mod runtime;
mod service;
mod stdio;
pub(crate) mod user;
pub(crate) mod volume;
mod warm;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use user::User;
use volume::MountedVolume;
pub use volume::VolumeMount;
pub(crate) use warm::StartKey;

use crate::error::{Error, Result};
use crate::event::Queue;
use crate::first_error::FirstError;
use crate::policy::{Policy, PolicyMode};

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

    /// Returns the first refused value, or the first broken rule between settings.
    pub fn check(&self) -> Result<()> {
        self.resolved()?.check_rules()
    }

    fn check_rules(&self) -> Result<()> {
        program::fits_with("command", &self.command, self.env.bytes())?;
        if let Some(Probe::Exec { command, .. }) = &self.probe {
            program::fits_with("readiness probe: command", command, self.env.bytes())?;
        }
        let streams = [self.stdin, self.stdout, self.stderr];
        if self.command.is_empty() && streams.iter().any(|stream| *stream != Stdio::Null) {
            return Err(Error::invalid(
                "command: must be set for streams, which belong to its program; programs that are executed later have \
                 streams of their own",
            ));
        }
        if self.policy.mode() == PolicyMode::Blocked {
            if let Some(port) = self.ports.first() {
                return Err(Error::invalid(format!(
                    "port {}: a blocked policy allows no ports",
                    port.container_port()
                )));
            }
            if let Some(service) = self.host_services.first() {
                return Err(Error::invalid(format!(
                    "host service {}: a blocked policy allows none, for there is no network",
                    service.port
                )));
            }
            if self.inbound.is_some() {
                return Err(Error::invalid(
                    "inbound_cidr_allowlist: a blocked policy allows none, not even an empty one",
                ));
            }
        }
        if self.image.is_some() && self.rootfs.is_some() {
            return Err(Error::invalid(
                "image: must not be set together with a rootfs directory; set one, not both",
            ));
        }
        if self.exit_snapshot.is_some() && self.image.is_none() {
            return Err(Error::invalid(
                "exit snapshot: needs a sandbox on an image; import its root directory as an image, and start from that",
            ));
        }
        if self.certificate.is_some() && !self.tls_names.is_empty() {
            return Err(Error::invalid(
                "tls name: must not be set together with the host's own certificate; set names or a certificate, not both",
            ));
        }
        Ok(())
    }
}

impl FirstError for Config {
    fn keep_error(&mut self, error: &Error) {
        self.bad.get_or_insert_with(|| error.clone());
    }
}

/// For the rest of the crate.
impl Config {
    pub(crate) fn command(&self) -> &[String] {
        &self.command
    }

    pub(crate) fn env(&self) -> &Environment {
        &self.env
    }

    pub(crate) fn workdir(&self) -> &str {
        self.workdir.as_deref().unwrap_or("/")
    }

    /// `None` is the sandbox's root.
    pub(crate) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    pub(crate) fn hostname(&self) -> Option<&str> {
        self.hostname.as_deref()
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    pub(crate) fn rootfs(&self) -> Option<&Path> {
        self.rootfs.as_deref()
    }

    /// The signal that asks its program to end: the image's, or SIGTERM.
    pub(crate) fn stop_signal(&self) -> i32 {
        self.image.as_ref().and_then(RootImage::stop_signal).unwrap_or(libc::SIGTERM)
    }

    /// The image that is the root file system.
    pub(crate) fn image(&self) -> Option<&RootImage> {
        self.image.as_ref()
    }

    /// Whether a snapshot is taken at the end, and the name that it gets.
    pub(crate) fn exit_snapshot(&self) -> Option<&Option<String>> {
        self.exit_snapshot.as_ref()
    }

    /// What is set of that which decides what runs on which files, and so what a program leaves behind: its name, for errors.
    pub(crate) fn said_of_what_runs(&self) -> Option<&'static str> {
        // Each field is named, so that a new one is decided about.
        let Self {
            command,
            entrypoint,
            has_no_command: _,
            env,
            workdir,
            user,
            hostname,
            name,
            tags: _,
            timeout: _,
            idle_timeout: _,
            rootfs,
            image,
            mounts,
            image_mounts,
            tmp_in_root: _,
            volumes,
            ports,
            inbound: _,
            certificate: _,
            tls_names: _,
            policy: _,
            egress_limits: _,
            host_services: _,
            nameservers: _,
            mtu: _,
            limits: _,
            stdin: _,
            stdout: _,
            stderr: _,
            probe,
            exit_snapshot,
            queue: _,
            bad: _,
        } = self;
        let said = [
            ("command", !command.is_empty()),
            ("entrypoint", entrypoint.is_some()),
            ("image", image.is_some()),
            ("rootfs", rootfs.is_some()),
            ("environment", env.iter().next().is_some()),
            ("working directory", workdir.is_some()),
            ("user", user.is_some()),
            ("hostname", hostname.is_some()),
            ("mounts", !mounts.is_empty() || !image_mounts.is_empty()),
            ("volumes", !volumes.is_empty()),
            ("ports", !ports.is_empty()),
            ("readiness probe", probe.is_some()),
            ("exit snapshot", exit_snapshot.is_some()),
            ("name", name.is_some()),
        ];
        said.into_iter().find_map(|(what, is_set)| is_set.then_some(what))
    }

    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    pub(crate) fn image_mounts(&self) -> &[ImageMount] {
        &self.image_mounts
    }

    /// Whether /tmp belongs to the root file system, as for steps of a build: what one leaves there, the next one has.
    pub(crate) fn has_tmp_in_root(&self) -> bool {
        self.tmp_in_root
    }

    /// Leaves /tmp to the root file system.
    pub(crate) fn keep_tmp_in_root(&mut self) {
        self.tmp_in_root = true;
    }

    pub(crate) fn volumes(&self) -> &[MountedVolume] {
        &self.volumes
    }

    pub(crate) fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// `None` admits every peer, an empty list none.
    pub(crate) fn inbound_cidr_allowlist(&self) -> Option<&[IpNetwork]> {
        self.inbound.as_deref()
    }

    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    pub(crate) fn tls_names(&self) -> &[String] {
        &self.tls_names
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Budgets of what leaves.
    pub(crate) fn egress_limits(&self) -> EgressLimits {
        self.egress_limits
    }

    pub(crate) fn mtu(&self) -> u32 {
        self.mtu
    }

    pub(crate) fn stdio(&self, stream: Stream) -> Stdio {
        match stream {
            Stream::Stdin => self.stdin,
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    pub(crate) fn readiness_probe(&self) -> Option<&Probe> {
        self.probe.as_ref()
    }

    pub(crate) fn queue(&self) -> Option<(&Queue, u64)> {
        self.queue.as_ref().map(|(queue, cookie)| (queue, *cookie))
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
    use crate::error::Code;

    fn config() -> Config {
        let mut config = Config::new();
        config.set_command(["true"]).unwrap();
        config
    }

    #[test]
    fn streams_need_a_command() {
        Config::new().check().unwrap();
        let mut streams = Config::new();
        streams.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
        assert!(streams.check().unwrap_err().message().contains("command"));
        streams.set_command(["true"]).unwrap();
        streams.check().unwrap();
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
    fn a_blocked_policy_takes_no_ports_and_no_inbound_list() {
        let mut blocked = config();
        blocked.set_policy(&Policy::blocked()).unwrap();
        blocked.check().unwrap();
        for kind in [PortKind::Encrypted, PortKind::H2, PortKind::Unencrypted] {
            let mut ports = blocked.clone();
            ports.add_port(80, kind).unwrap();
            let error = ports.check().unwrap_err();
            assert!(error.message().contains("a blocked policy allows no ports"), "{error}");
        }
        let mut inbound = blocked.clone();
        inbound.set_inbound_cidr_allowlist(Vec::<&str>::new()).unwrap();
        assert_eq!(inbound.check().unwrap_err().code(), Code::Invalid);
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
    fn names_and_an_own_certificate_exclude_each_other() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let mut config = config();
        config.set_tls_certificate(&made.cert.pem(), &made.signing_key.serialize_pem()).unwrap();
        config.add_tls_name("a.example").unwrap();
        assert!(config.check().unwrap_err().message().contains("not both"));
    }

    #[test]
    fn mtu() {
        for bad in [0, 1279, 9001, u32::MAX] {
            assert!(config().set_mtu(bad).unwrap_err().message().contains(&bad.to_string()));
        }
        assert_eq!(config().set_mtu(9000).unwrap().mtu(), 9000);
    }
}
