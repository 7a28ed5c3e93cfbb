//! The command line of one sandbox.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::probe::Runsc;
use crate::error::{Context, Result};
use crate::sys::random;

/// What gVisor's network stack is joined to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// The interfaces of the network namespace that the bundle names.
    Sandbox,
    /// A loopback of its own and nothing else.
    None,
}

/// `sb-` and 16 random hexadecimal digits. Always of one length, because runsc takes any prefix of an id for
/// the id itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SandboxId(String);

impl SandboxId {
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0_u8; 8];
        random::fill(&mut bytes).context("getrandom for a sandbox's id")?;
        Ok(Self(format!("sb-{:016x}", u64::from_ne_bytes(bytes))))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What differs from one sandbox to the next. The paths are those runsc sees, in the keeper's mount namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) id: &'a SandboxId,
    /// runsc's state: private, short (a socket's path goes in it), gone with the keeper.
    pub(crate) root: &'a Path,
    /// Where runsc writes what went wrong, as JSON: its stderr is the program's too.
    pub(crate) log: &'a Path,
    /// Where the sentry's panics go; nowhere else are they kept.
    pub(crate) panic_log: &'a Path,
    pub(crate) bundle: &'a Path,
    pub(crate) network: Network,
    /// The most bytes that may be written over the root file system.
    pub(crate) disk: Option<u64>,
    /// Whether runsc has the helper programs of its release beside it.
    pub(crate) sidecars: bool,
}

/// Flags given whether or not they are the default, since defaults have changed from release to release;
/// each only to a runsc that knows it.
const FIXED: &[(&str, &str)] = &[
    // With one mapped id a gofer of its own user can't be.
    ("directfs", "true"),
    // Limits are the keeper's business; an ordinary user has no cgroup to give.
    ("ignore-cgroups", "true"),
    // No way to the host's sockets, fifos and devices, whatever lies in a mounted directory.
    ("host-uds", "none"),
    ("host-fifo", "none"),
    ("character-device-policy", "emulated-only"),
    // Nothing that talks to the network past the guest's own IP stack.
    ("net-raw", "false"),
    ("allow-packet-socket-write", "false"),
    ("TESTONLY-allow-packet-endpoint-write", "false"),
    ("reproduce-nat", "false"),
    ("reproduce-nftables", "false"),
    // No change of these flags by annotations, and no tar archives as file systems by them.
    ("allow-flag-override", "false"),
    ("allow-rootfs-tar-annotation", "false"),
    // Setuid programs gain nothing.
    ("allow-suid", "false"),
    ("file-access", "exclusive"),
    ("file-access-mounts", "shared"),
    ("oci-seccomp", "false"),
    ("iouring", "false"),
    ("nvproxy", "false"),
    ("tpuproxy", "false"),
    ("rdmaproxy", "false"),
    ("rootless", "false"),
    // These widen the sentry's own system call filter or write the guest's doings to files.
    ("profile", "false"),
    ("debug", "false"),
    ("strace", "false"),
    ("log-packets", "false"),
    ("alsologtostderr", "false"),
    ("watchdog-action", "log"),
];

/// Newer releases start the sentry from helper programs beside runsc and mean to insist on them. Where there
/// are none (a build from the Go module), or not both that it takes, this keeps the ones inside runsc in use.
const NO_SIDECARS: (&str, &str) = ("sidecar-usage-policy", "LEGACY_DEPRECATED_SLOW_EMBEDDED_FALLBACK");

impl Launch<'_> {
    /// The arguments of a command on the running sandbox, argv\[0\] included, up to the command.
    pub(crate) fn arguments_of_commands(&self) -> Vec<OsString> {
        vec!["runsc".into(), option("root", self.root), "--log-format=json".into()]
    }

    /// The arguments, argv\[0\] included.
    pub(crate) fn arguments(&self, runsc: &Runsc) -> Vec<OsString> {
        let features = &runsc.features;
        let mut arguments: Vec<OsString> = vec!["runsc".into()];
        arguments.push(option("root", self.root));
        arguments.push(option("log", self.log));
        arguments.push("--log-format=json".into());
        if features.has("panic-log") {
            arguments.push(option("panic-log", self.panic_log));
        }
        arguments.push(match self.network {
            Network::Sandbox => "--network=sandbox".into(),
            Network::None => "--network=none".into(),
        });
        // Writes go to memory: the file system below stays as it is, and the next sandbox finds it unchanged.
        let size = self.disk.map_or_else(String::new, |bytes| format!(",size={bytes}"));
        arguments.push(format!("--overlay2=root:memory{size}").into());
        let fixed = FIXED.iter().filter(|(flag, _)| features.has(flag));
        arguments.extend(fixed.map(|(flag, value)| OsString::from(format!("--{flag}={value}"))));
        let (flag, value) = NO_SIDECARS;
        if !self.sidecars && features.has_value(flag, value) {
            arguments.push(format!("--{flag}={value}").into());
        }
        arguments.push("run".into());
        arguments.push(option("bundle", self.bundle));
        arguments.push(self.id.as_str().into());
        arguments
    }
}

fn option(flag: &str, path: &Path) -> OsString {
    let mut option = OsString::from(format!("--{flag}="));
    option.push(path);
    option
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runsc::fake::Directory;
    use crate::runsc::find::{Locator, Search};

    fn arguments(runsc: &Runsc, network: Network) -> Vec<String> {
        let launch = Launch {
            id: &SandboxId("sb-0123456789abcdef".to_owned()),
            root: Path::new("/run/runsc"),
            log: Path::new("/run/log"),
            panic_log: Path::new("/run/panic"),
            bundle: Path::new("/bundle"),
            network,
            disk: None,
            sidecars: false,
        };
        launch.arguments(runsc).into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn only_flags_that_the_binary_knows_are_given() {
        let directory = Directory::new();
        let search = Search { explicit: Some(directory.good()), ..Search::default() };
        let runsc = Locator::new(search).locate().unwrap();
        assert_eq!(
            arguments(&runsc, Network::Sandbox),
            [
                "runsc",
                "--root=/run/runsc",
                "--log=/run/log",
                "--log-format=json",
                "--panic-log=/run/panic",
                "--network=sandbox",
                "--overlay2=root:memory",
                "--directfs=true",
                "--ignore-cgroups=true",
                "--host-uds=none",
                "--net-raw=false",
                "--allow-packet-socket-write=false",
                "--allow-suid=false",
                "run",
                "--bundle=/bundle",
                "sb-0123456789abcdef",
            ]
        );
        assert!(arguments(&runsc, Network::None).contains(&"--network=none".to_owned()));
    }

    #[test]
    fn ids_have_one_length_and_differ() {
        let ids: std::collections::HashSet<_> = (0..100).map(|_| SandboxId::random().unwrap()).collect();
        assert_eq!(ids.len(), 100);
        for id in ids {
            assert_eq!(id.as_str().len(), 19);
            assert!(id.as_str().strip_prefix("sb-").unwrap().bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
}
