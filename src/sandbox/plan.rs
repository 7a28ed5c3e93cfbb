//! From a sandbox's configuration to what keeper, runsc, init and engine need.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::images::{HostResources, Images};
#[cfg(feature = "test-hooks")]
pub(crate) use super::stamp::PRETEND_LOW_MEMORY;
pub(crate) use super::stamp::{Stamp, memory_is_low};
use crate::cgroup::{self, Groups};
use crate::config::Stream;
use crate::config::volume::MountedVolume;
use crate::config::{self, Config, DEFAULT_HOSTNAME, LimitMode, Limits, Probe, Stdio};
use crate::error::{Code, Error, Result};
use crate::keeper::wire::Secret;
use crate::keeper::wire::init::{File, Start, User};
use crate::keeper::wire::keeper::{Bind, Entry, Setup, Sysctl, Volume};
use crate::net::{links, sysctl};
use crate::policy::PolicyMode;
use crate::runsc::bundle::{Bundle, BundleMount};
use crate::runsc::command::{Launch, Network, SandboxId};
use crate::runsc::probe::Runsc;
use crate::runsc::rootfs;
use crate::volume::{UsedVolume, Volumes};

/// The pause between two questions if no probe is configured.
const INTERVAL: Duration = Duration::from_millis(100);

/// Everything that is decided before the first process is started.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whether it has a network at all.
    pub(crate) network: bool,
    /// For the keeper.
    pub(crate) setup: Setup,
    /// The images' descriptors, init's first, that go with it.
    pub(crate) images: Vec<OwnedFd>,
    /// Keeps the volumes from being removed until the keeper does.
    pub(crate) _volumes: Vec<UsedVolume>,
    /// The control groups that the keeper makes.
    pub(crate) groups: Groups,
    /// The command line of runsc.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// runsc's arguments for snapshots, up to the command, if there can be any.
    pub(crate) snapshots: Option<Vec<Vec<u8>>>,
    /// Links, addresses, rules.
    pub(crate) topology: links::Plan,
    /// For init.
    pub(crate) start: Start,
    /// The program's streams.
    pub(crate) stdio: [Stdio; 3],
    /// What the runtime starts it with.
    pub(crate) host: Arc<HostResources>,
    /// What it is compared by with the warm pool's members. Only where there is a pool.
    pub(crate) stamp: Option<Box<Stamp>>,
}

impl Plan {
    /// Plans a sandbox. Looks at the host's files, which may hang; opens nothing that another could miss, and starts
    /// nothing.
    pub(crate) fn new(
        id: &SandboxId,
        config: &Config,
        runsc: &Runsc,
        host: Arc<HostResources>,
        volumes: &Volumes,
        user_namespace: bool,
        ipv6: bool,
    ) -> Result<Self> {
        let network = config.policy().mode() != PolicyMode::Blocked;
        let hostname = config.hostname().unwrap_or(DEFAULT_HOSTNAME);
        let names = rootfs::Names { hostname, network };
        let entries = match config.image() {
            Some(_) => Vec::new(),
            None => rootfs::plan(config.rootfs(), &names)?,
        };
        let images = Images::open(config, runsc, &host)?;
        let (binds, mut mounts) = bind_mounts(config)?;
        let used = use_volumes(config, volumes)?;
        mounts.extend(volume_mounts(config));
        check_mounts(config, &used, &entries)?;
        let bundle = Bundle {
            root: Path::new("/rootfs"),
            root_image: images.root.as_deref(),
            images: &images.mounts,
            init: rootfs::INIT,
            hostname,
            network_namespace: network.then_some(Path::new("/proc/self/ns/net")),
            limits: config.limits(),
            mounts: &mounts,
            tmp_in_root: config.has_tmp_in_root(),
        };
        let beside = runsc.sidecars().unwrap_or_else(|error| {
            log::warn!("sandbox {id}: {error}");
            None
        });
        let launch = Launch {
            id,
            root: Path::new("/state"),
            log: Path::new("/state/log"),
            panic_log: Path::new("/state/panic"),
            bundle: Path::new("/bundle"),
            network: if network { Network::Sandbox } else { Network::None },
            disk: config.limits().disk,
            sidecars: beside.is_some(),
        };
        let identity = runsc.identity();
        let mut setup = Setup {
            user_namespace,
            network,
            only_namespaces: false,
            sysctls: if network { gateway_settings() } else { Vec::new() },
            runsc: runsc.real_path().as_os_str().as_bytes().to_vec(),
            runsc_identity: (identity.device, identity.inode),
            beside: beside.unwrap_or_default(),
            rootfs: entries.into_iter().map(wire_entry).collect(),
            mounts: binds,
            volumes: config.volumes().iter().zip(&used).map(wire_volume).collect(),
            bundle: bundle.json()?,
            groups: Vec::new(),
            images: u32::try_from(images.files.len()).unwrap_or(u32::MAX),
            watched_memory: 0,
        };
        let groups = limits(id, config, &mut setup)?;
        let mut start = start(config);
        if config.image().is_some() {
            let file = |(path, content): (&str, String)| File { path: path.into(), content: content.into() };
            start.files = names.files().map(file).into();
        }
        let arguments: Vec<_> = launch.arguments(runsc).into_iter().map(OsString::into_vec).collect();
        Ok(Self {
            network,
            setup,
            groups,
            arguments,
            snapshots: config
                .image()
                .map(|_| launch.arguments_of_commands().into_iter().map(OsString::into_vec).collect()),
            topology: links::Plan { mtu: config.mtu(), ipv6 },
            start,
            images: images.files,
            _volumes: used,
            stdio: [Stream::Stdin, Stream::Stdout, Stream::Stderr].map(|stream| config.stdio(stream)),
            host,
            stamp: None,
        })
    }

    /// Makes it comparable with the warm pool's members. Looks at the host's files, which may hang.
    pub(crate) fn add_stamp(&mut self, id: &SandboxId) {
        let Self { setup, arguments, images, topology, host, .. } = self;
        self.stamp = Some(Box::new(Stamp::new(id, setup, arguments, images, topology.ipv6, host)));
    }
}

/// What holds the limits of memory and processor: control groups, or the keeper's watchdog if that is allowed.
fn limits(id: &SandboxId, config: &Config, setup: &mut Setup) -> Result<Groups> {
    let limits = config.limits();
    match cgroup::plan(id.as_str(), limits) {
        Ok((requested, groups)) => {
            setup.groups = requested;
            Ok(groups)
        }
        Err(error) if limits.mode == LimitMode::Watchdog && limits.cpu.is_none() => {
            log::info!("sandbox {id}: its memory is watched, since no control group can hold it: {error}");
            setup.watched_memory = limits.memory.unwrap_or(0);
            Ok(Groups::default())
        }
        Err(error) => Err(error.context("the limits of memory and processor").append(way_out(limits))),
    }
}

/// What there is without a control group. Other languages put their own word in the place of SBX_LIMITS_WATCHDOG.
fn way_out(limits: &Limits) -> &'static str {
    match (limits.memory.is_some(), limits.cpu.is_some()) {
        (true, false) => "; without a group, SBX_LIMITS_WATCHDOG has memory watched instead",
        (true, true) => {
            "; without a group, SBX_LIMITS_WATCHDOG has memory watched instead, and processor time can't be limited"
        }
        (false, _) => "; without a group, processor time can't be limited",
    }
}

/// How programs of this sandbox are started: everything but number, streams, and, for other programs than
/// the sandbox's own, arguments.
pub(super) fn start(config: &Config) -> Start {
    let environment = config.env().iter().map(|(name, value)| Secret::variable(name, value));
    Start {
        arguments: config.command().iter().map(|argument| argument.clone().into_bytes()).collect(),
        environment: environment.collect(),
        directory: config.workdir().as_bytes().to_vec(),
        user: config.user().map(|name| user(name, config)).unwrap_or_default(),
        open_files: config.limits().open_files.unwrap_or(0),
        ..Start::default()
    }
}

/// A user as init wants it.
pub(super) fn user(user: &config::user::User, config: &Config) -> User {
    User {
        user: user.user.to_string(),
        group: user.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        of_image: config.image().is_some(),
    }
}

/// How a sandbox is asked whether it is ready.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question<'a> {
    /// By connecting to a port.
    Port(u16),
    /// By a command that succeeds.
    Command(&'a [String]),
}

/// The question and the pause between two: the configured probe, else the first port listed.
pub(super) fn probe(config: &Config) -> Option<(Question<'_>, Duration)> {
    match config.readiness_probe() {
        Some(Probe::Tcp { port, interval }) => Some((Question::Port(*port), *interval)),
        Some(Probe::Exec { command, interval }) => Some((Question::Command(command), *interval)),
        None => config.ports().first().map(|port| (Question::Port(port.container_port()), INTERVAL)),
    }
}

/// What the keeper sets in G.
pub(crate) fn gateway_settings() -> Vec<Sysctl> {
    let setting = |setting: &sysctl::Setting| Sysctl {
        name: setting.name.as_bytes().to_vec(),
        value: setting.value.as_bytes().to_vec(),
        mandatory: setting.mandatory,
    };
    sysctl::GATEWAY.iter().map(setting).collect()
}

fn wire_entry(entry: rootfs::Entry) -> Entry {
    let bytes = |path: PathBuf| path.into_os_string().into_vec();
    match entry {
        rootfs::Entry::Dir { path, mode } => Entry::Directory { path: bytes(path), mode },
        rootfs::Entry::Symlink { path, target } => {
            Entry::Symlink { path: bytes(path), target: bytes(target) }
        }
        rootfs::Entry::File { path, mode, content } => Entry::File { path: bytes(path), mode, content },
        rootfs::Entry::Bind { source, path, writable, .. } => {
            Entry::Bind { path: bytes(path), bind: Bind { source: bytes(source), writable } }
        }
        rootfs::Entry::Cover { path } => Entry::Cover { path: bytes(path) },
    }
}

/// The caller's mounts: what the keeper attaches below `/mounts`, and what the bundle mounts from there.
/// (In the root file system itself the memory overlay would swallow what is written to them.)
fn bind_mounts(config: &Config) -> Result<(Vec<Bind>, Vec<BundleMount>)> {
    let mut binds = Vec::new();
    let mut mounts = Vec::new();
    for (index, mount) in config.mounts().iter().enumerate() {
        let source = mount.source().canonicalize().map_err(|cause| {
            let shown = mount.source().display();
            Error::system(format!("the mount {shown} (for {})", mount.destination()), &cause)
                .with_code(Code::Invalid)
        })?;
        binds.push(Bind { source: source.into_os_string().into_vec(), writable: mount.is_writable() });
        mounts.push(BundleMount {
            source: PathBuf::from(format!("/mounts/{index}")),
            destination: mount.destination().into(),
            writable: mount.is_writable(),
        });
    }
    Ok((binds, mounts))
}

/// Has the volumes made that are to be, and keeps them.
fn use_volumes(config: &Config, volumes: &Volumes) -> Result<Vec<UsedVolume>> {
    config.volumes().iter().map(|mounted| volumes.use_for(&mounted.volume)).collect()
}

/// What the bundle mounts of volumes.
fn volume_mounts(config: &Config) -> impl Iterator<Item = BundleMount> {
    config.volumes().iter().enumerate().map(|(index, mounted)| BundleMount {
        source: PathBuf::from(format!("/mounts/volume-{index}")),
        destination: mounted.destination.clone().into(),
        writable: !mounted.volume.is_read_only(),
    })
}

fn wire_volume((mounted, used): (&MountedVolume, &UsedVolume)) -> Volume {
    let volume = &mounted.volume;
    Volume {
        name: volume.name().as_bytes().to_vec(),
        directory: used.directory.as_os_str().as_bytes().to_vec(),
        identity: used.identity,
        lock: used.lock_path.as_os_str().as_bytes().to_vec(),
        lock_identity: used.lock_identity,
        sub_path: volume.directory().as_bytes().to_vec(),
        create_sub_path: volume.is_sub_path_created(),
        writable: !volume.is_read_only(),
    }
}

/// Whether there is a place for each mount. One inside another mount is left to gVisor.
fn check_mounts(config: &Config, volumes: &[UsedVolume], entries: &[rootfs::Entry]) -> Result<()> {
    let hosts = config.mounts().iter().map(|mount| (mount.destination(), mount.source()));
    let volumes = config.volumes().iter().zip(volumes);
    let volumes = volumes.map(|(mounted, used)| (mounted.destination.as_str(), used.directory.as_path()));
    let all: Vec<(&str, &Path)> = hosts.chain(volumes).collect();
    for (destination, source) in &all {
        let path = Path::new(destination);
        let inside = |(other, _): &(&str, &Path)| other != destination && path.starts_with(other);
        if !all.iter().any(inside) {
            rootfs::check_mount(entries, source, path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_can_not_be_held_names_what_there_is_instead() {
        let limits = |memory, cpu| Limits { memory, cpu, ..Limits::default() };
        assert!(way_out(&limits(Some(1), None)).contains("SBX_LIMITS_WATCHDOG"));
        let both = way_out(&limits(Some(1), Some(1)));
        assert!(both.contains("SBX_LIMITS_WATCHDOG") && both.contains("processor time can't"));
        assert!(!way_out(&limits(None, Some(1))).contains("SBX_LIMITS_WATCHDOG"));
    }
}
