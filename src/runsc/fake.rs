//! Stand-ins for runsc in tests, and the way to the real one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The part of `runsc flags` that the library looks at, as a release prints it.
pub(super) const FLAGS: &str = "
  -allow-packet-socket-write
    \tallow writes on AF_PACKET sockets.
  -allow-suid
    \tallow ID elevation when executing binaries with SUID/SGID bits.
  -directfs
    \tdirectly access the container filesystems from the sentry. (default true)
  -gofer-network-namespace
    \tnetwork namespace for gofers
  -host-settings value
    \thow to handle non-optimal host kernel settings
  -host-uds value
    \tcontrols permission to access host Unix-domain sockets. Values: none|open|create|all, default: none
  -ignore-cgroups
    \tdon't configure cgroups.
  -log string
    \tfile path where internal debug information is written, default is stdout.
  -log-format string
    \tlog format: text (default), json, or json-k8s. (default \"text\")
  -net-raw runsc exec
    \tenable raw sockets.
  -network value
    \tspecifies which network to use: sandbox (default), host, none.
  -overlay2 value
    \twrap mounts with overlayfs. Format is
    \t* {mount}:{medium}[,size={size}], where
    \t    'mount' can be 'root' or 'all'
    \t    'medium' can be 'memory', 'self' or 'dir=/abs/dir/path' in which filestore will be created
  -panic-log string
    \tfile path where Go's runtime messages are written.
  -platform string
    \tspecifies which platform to use: systrap (default), ptrace, kvm. (default \"systrap\")
  -root string
    \troot directory for storage of container state
";

/// The part of `runsc help run` that the library looks at.
pub(super) const HELP_RUN: &str = "
run [flags] <container id> - create and run a secure container.
  -bundle string
    \tpath to the root of the bundle directory, defaults to the current directory
";

/// A directory of its own under the system's temporary one, removed at the end.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        let mut random = [0_u8; 8];
        crate::sys::random::fill(&mut random).unwrap();
        let path = std::env::temp_dir().join(format!("sbx-test-{:016x}", u64::from_ne_bytes(random)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        // Written under another name first: a script being executed can't be written.
        let path = self.0.join(name);
        let fresh = self.0.join(format!("{name}.fresh"));
        fs::write(&fresh, content).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(&fresh, &path).unwrap();
        path
    }

    pub(super) fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn script(&self, name: &str, body: &str) -> PathBuf {
        self.file(name, format!("#!/bin/sh\n{body}\n").as_bytes(), 0o755)
    }

    /// A script that answers the questions as a good runsc does.
    pub(super) fn good(&self) -> PathBuf {
        self.good_without("nothing")
    }

    pub(super) fn good_without(&self, flag: &str) -> PathBuf {
        let flags = FLAGS.replace(&format!("  -{flag}\n"), "  -something-else\n");
        let body = format!(
            "case \"$*\" in\nflags) cat <<'E'\n{flags}E\n;;\n'help run') cat <<'E'\n{HELP_RUN}E\n;;\n\
             --version) echo 'runsc version release-20260101.0' ;;\n*) exit 128 ;;\nesac"
        );
        self.script("runsc", &body)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The real runsc, which `SBX_RUNSC` names.
pub(super) fn real() -> PathBuf {
    std::env::var_os("SBX_RUNSC").expect("SBX_RUNSC names no runsc: sh tests/run.sh installs one").into()
}
