//! Which settings a sandbox is started with, and which are applied to one that has started already.
//!
//! A member of the warm pool is a sandbox that has started without a caller. A later configuration can take it if its
//! fixed settings are the same; all others are late. [`StartKey::of`] names every setting of [`Config`], so that one that
//! is added doesn't compile before it is in one of the two lists.

use std::path::PathBuf;
use std::time::Duration;

use super::volume::MountedVolume;
use super::{Config, Limits, Mount};
use crate::error::{Error, Result};
use crate::policy::{Policy, PolicyMode};

/// Passes the names of the settings that are applied when a member is taken to the macro that is named.
macro_rules! with_late_settings {
    ($macro:ident! $($before:tt)*) => {
        $macro! {
            $($before)*
            command entrypoint has_no_command env workdir user name tags timeout idle_timeout ports inbound certificate
            tls_names tunnel_rate egress_limits nameservers stdin stdout stderr probe queue bad
        }
    };
}

#[cfg(any(test, feature = "test-hooks"))]
macro_rules! names {
    ($($late:ident)*) => { &[$(stringify!($late)),*] };
}

macro_rules! destructure {
    ($config:ident { $($fixed:ident)* } $($late:ident)*) => {
        let Config { $($fixed,)* $($late: _),* } = $config;
    };
}

/// The settings that are applied when a member is taken. The policy is one of them, apart from whether there is a network,
/// and so are the addresses of the host's services, apart from their number.
#[cfg(any(test, feature = "test-hooks"))]
const LATE: &[&str] = with_late_settings!(names!);

/// The settings that can't be changed once a sandbox has started: a member fits only if all of them are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartKey {
    hostname: Option<String>,
    rootfs: Option<PathBuf>,
    image: Option<String>,
    mounts: Vec<Mount>,
    image_mounts: Vec<(String, String)>,
    volumes: Vec<MountedVolume>,
    tmp_in_root: bool,
    has_exit_snapshot: bool,
    mtu: u32,
    limits: Limits,
    has_network: bool,
    host_services: usize,
}

impl StartKey {
    /// Of this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        with_late_settings!(destructure! config {
            hostname rootfs image mounts image_mounts volumes tmp_in_root exit_snapshot mtu limits policy host_services
        });
        Self {
            hostname: hostname.clone(),
            rootfs: rootfs.clone(),
            image: image.as_ref().map(|image| image.name.clone()),
            mounts: mounts.clone(),
            image_mounts: image_mounts
                .iter()
                .map(|mount| (mount.image.name.clone(), mount.destination.clone()))
                .collect(),
            volumes: volumes.clone(),
            tmp_in_root: *tmp_in_root,
            has_exit_snapshot: exit_snapshot.is_some(),
            mtu: *mtu,
            limits: *limits,
            has_network: policy.mode() != PolicyMode::Blocked,
            host_services: host_services.len(),
        }
    }

    /// The settings that are different.
    pub(crate) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let each = [
            ("hostname", self.hostname == other.hostname),
            ("rootfs", self.rootfs == other.rootfs),
            ("image", self.image == other.image),
            ("mounts", self.mounts == other.mounts),
            ("image mounts", self.image_mounts == other.image_mounts),
            ("volumes", self.volumes == other.volumes),
            ("exit snapshot", self.has_exit_snapshot == other.has_exit_snapshot),
            ("whether /tmp is in the root", self.tmp_in_root == other.tmp_in_root),
            ("mtu", self.mtu == other.mtu),
            ("limits", self.limits == other.limits),
            ("whether there is a network", self.has_network == other.has_network),
            ("number of host services", self.host_services == other.host_services),
        ];
        each.into_iter().filter_map(|(name, same)| (!same).then_some(name)).collect()
    }
}

impl Config {
    /// The configuration of a member for sandboxes like this one: the fixed settings of this one, the defaults for all
    /// others, a policy that allows nothing, and this lifetime. Fails if this one has a bad value or volumes, or if such a
    /// sandbox can't be. A member with a volume would keep it from being removed, and see what others write to it.
    pub(crate) fn of_member(&self, lifetime: Duration) -> Result<Self> {
        if let Some(error) = &self.bad {
            return Err(error.clone());
        }
        if !self.volumes.is_empty() {
            return Err(Error::invalid("volumes: a sandbox that is kept warm can't have any"));
        }
        if self.exit_snapshot.is_some() {
            // One that is ended because it is too old would take it.
            return Err(Error::invalid("exit snapshot: a sandbox that is kept warm can't have one"));
        }
        let policy = match self.policy.mode() {
            PolicyMode::Blocked => Policy::blocked(),
            _ => Policy::allowlist(),
        };
        let member = Self {
            hostname: self.hostname.clone(),
            rootfs: self.rootfs.clone(),
            image: self.image.clone(),
            mounts: self.mounts.clone(),
            image_mounts: self.image_mounts.clone(),
            tmp_in_root: self.tmp_in_root,
            mtu: self.mtu,
            limits: self.limits,
            policy,
            timeout: lifetime,
            host_services: self.host_services.clone(),
            has_no_command: true,
            ..Self::default()
        };
        member.check_rules()?;
        debug_assert_eq!(
            StartKey::of(&member),
            StartKey::of(self),
            "a member is started with these settings"
        );
        Ok(member)
    }

    /// The names of the settings that are applied when a member is taken.
    #[cfg(feature = "test-hooks")]
    #[doc(hidden)]
    pub fn late_settings() -> &'static [&'static str] {
        LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EgressLimits, PortKind, Stdio, Stream, TunnelRate, VolumeMount};

    type Change = fn(&mut Config);

    fn key(change: impl FnOnce(&mut Config)) -> StartKey {
        let mut config = Config::new();
        change(&mut config);
        StartKey::of(&config)
    }

    #[test]
    fn what_can_not_be_changed_after_the_start_is_in_the_key() {
        let fixed: [(&str, Change); 10] = [
            ("hostname", |config| drop(config.set_hostname("other"))),
            ("rootfs", |config| drop(config.set_rootfs("/srv"))),
            ("mounts", |config| drop(config.mount_read_only("/srv", "/srv"))),
            ("volumes", |config| drop(config.mount_volume(&VolumeMount::new("cache"), "/cache"))),
            ("whether /tmp is in the root", Config::keep_tmp_in_root),
            ("mtu", |config| drop(config.set_mtu(1400))),
            ("limits", |config| drop(config.set_memory(1 << 30))),
            ("limits", |config| drop(config.set_max_open_files(100))),
            ("whether there is a network", |config| drop(config.set_policy(&Policy::blocked()))),
            ("number of host services", |config| drop(config.add_host_service(80, "127.0.0.1:80"))),
        ];
        let plain = key(|_| ());
        for (name, change) in fixed {
            let other = key(change);
            assert_eq!(other.differences(&plain), [name]);
            assert_ne!(other, plain, "{name}");
        }
        assert_eq!(key(|_| ()), plain);
    }

    #[test]
    fn what_is_applied_late_is_not_in_the_key_and_not_in_a_member() {
        let mut config = Config::new();
        config.set_command(["sh"]).unwrap().set_env("A", "1").unwrap().set_secret("B", "2").unwrap();
        config.set_workdir("/srv").unwrap().set_user("7:8").unwrap().set_name("name").unwrap();
        config.set_tag("tag", "value").unwrap().set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
        config.add_port(80, PortKind::Encrypted).unwrap().add_tls_name("a.example").unwrap();
        config.set_inbound_cidr_allowlist(["127.0.0.0/8"]).unwrap();
        config.set_egress_limits(EgressLimits::new().max_flows(1)).unwrap();
        config.set_tunnel_rate(TunnelRate::Unlimited).unwrap().add_nameserver("192.0.2.1").unwrap();
        config.set_policy(&Policy::allowlist()).unwrap();
        assert_eq!(StartKey::of(&config), key(|_| ()));

        let member = config.of_member(Duration::from_secs(7)).unwrap();
        assert_eq!((member.policy(), member.timeout()), (&Policy::allowlist(), Duration::from_secs(7)));
        assert!(member.command().is_empty() && member.name().is_none() && member.tags().is_empty());
        assert_eq!((member.env().iter().count(), member.workdir(), member.user()), (0, "/", None));
        assert!(
            member.ports().is_empty() && member.tls_names().is_empty() && member.nameservers().is_empty()
        );
        assert_eq!(member.inbound_cidr_allowlist(), None);
        assert_eq!(member.stdio(Stream::Stdout), Stdio::Null);
        assert_eq!(member.egress_limits(), EgressLimits::default());
        assert_eq!(member.tunnel_rate(), TunnelRate::Default);
        assert_eq!(LATE.len(), LATE.iter().collect::<std::collections::BTreeSet<_>>().len());
    }

    #[test]
    fn a_template_with_a_bad_value_or_with_volumes_is_refused() {
        let mut volumes = Config::new();
        volumes.mount_volume(&VolumeMount::new("cache"), "/cache").unwrap();
        assert!(volumes.of_member(Duration::MAX).unwrap_err().message().starts_with("volumes"));
        let mut config = Config::new();
        config.set_mtu(1).unwrap_err();
        assert!(config.of_member(Duration::MAX).unwrap_err().message().contains("mtu 1"));
    }
}
