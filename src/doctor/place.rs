//! The place that the process runs in: a container, a service, a machine of its own. It decides what the remedy is where
//! something is refused.

use std::path::Path;

use crate::sys::secure;

/// Where the process runs, as far as it can be recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing special is recognised.
    #[default]
    Machine,
    Docker,
    Podman,
    Kubernetes,
    /// Another kind of container: LXC, systemd-nspawn.
    Container,
    /// The Windows Subsystem for Linux, and its version.
    Wsl(u8),
    GitHubActions,
    /// A service of systemd's.
    Service,
}

/// What containers and services set, read when a check is made.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    kubernetes: bool,
    github_actions: bool,
    /// systemd's convention for containers, and podman's.
    container: bool,
    podman: bool,
    service: bool,
}

impl Environment {
    pub(super) fn read() -> Self {
        let has = |name| secure::variable(name).is_some();
        Self {
            kubernetes: has("KUBERNETES_SERVICE_HOST"),
            github_actions: has("GITHUB_ACTIONS"),
            container: has("container"),
            podman: secure::variable("container").is_some_and(|kind| kind == "podman"),
            service: has("INVOCATION_ID"),
        }
    }
}

impl Place {
    /// `groups` is /proc/self/cgroup.
    pub(super) fn find(environment: &Environment, release: &str, groups: &str) -> Self {
        let there = |path: &str| Path::new(path).exists();
        Self::judge(environment, release, groups, there("/.dockerenv"), there("/run/.containerenv"))
    }

    fn judge(environment: &Environment, release: &str, groups: &str, docker: bool, podman: bool) -> Self {
        let release = release.to_ascii_lowercase();
        // The innermost counts.
        if environment.kubernetes {
            Self::Kubernetes
        } else if podman || environment.podman {
            Self::Podman
        } else if docker {
            Self::Docker
        } else if environment.container {
            Self::Container
        } else if release.contains("microsoft") {
            // 4.4.0-19041-Microsoft emulates Linux; 5.15.90.1-microsoft-standard-WSL2 is one.
            Self::Wsl(if release.starts_with("4.4.0-") { 1 } else { 2 })
        } else if environment.github_actions {
            Self::GitHubActions
        } else if environment.service && groups.lines().any(|line| line.contains(".service")) {
            Self::Service
        } else {
            Self::Machine
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Machine => "no container is recognised",
            Self::Docker => "a docker container",
            Self::Podman => "a podman container",
            Self::Kubernetes => "a pod of Kubernetes",
            Self::Container => "a container",
            Self::Wsl(1) => "WSL 1, which has no Linux kernel",
            Self::Wsl(_) => "WSL 2 (not tested)",
            Self::GitHubActions => "a runner of GitHub Actions (not tested)",
            Self::Service => "a service of systemd",
        }
    }

    /// Where a filter refuses namespaces or mounts.
    pub(super) fn allow_namespaces(self) -> &'static str {
        match self {
            Self::Docker => {
                "docker run --security-opt seccomp=seccomp.json, with examples/deploy/seccomp.json; or seccomp=unconfined"
            }
            Self::Podman => {
                "podman run --security-opt seccomp=seccomp-oci.json, with examples/deploy/seccomp-oci.json; or \
                 seccomp=unconfined"
            }
            Self::Kubernetes => {
                "put examples/deploy/seccomp-oci.json below the kubelet's seccomp directory and name it in \
                 securityContext.seccompProfile (type: Localhost), as examples/deploy/pod.yaml does"
            }
            Self::Service => {
                "take RestrictNamespaces=, SystemCallFilter= and PrivateUsers= out of the unit, as \
                 examples/deploy/sbx-app.service has it"
            }
            Self::Machine | Self::Container | Self::Wsl(_) | Self::GitHubActions => {
                "a container's filter must allow what examples/deploy/seccomp.json allows (docker: --security-opt \
                 seccomp=seccomp.json); elsewhere, ask who confines this process"
            }
        }
    }

    /// Where /proc/sys is read-only.
    pub(super) fn uncover_proc(self) -> &'static str {
        match self {
            Self::Podman => "podman run --security-opt unmask=ALL",
            Self::Kubernetes => {
                "securityContext.procMount: Unmasked, which Kubernetes allows with hostUsers: false"
            }
            Self::Service => "take ProtectKernelTunables= out of the unit",
            Self::Machine | Self::Docker | Self::Container | Self::Wsl(_) | Self::GitHubActions => {
                "in docker, add --security-opt systempaths=unconfined"
            }
        }
    }

    /// Whether control groups are the container's, which delegates none to an ordinary user.
    pub(super) fn is_container(self) -> bool {
        matches!(self, Self::Docker | Self::Podman | Self::Kubernetes | Self::Container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_recognised() {
        let none = Environment::default();
        let find = |environment: &Environment, release: &str, groups: &str| {
            Place::judge(environment, release, groups, false, false)
        };
        assert_eq!(find(&none, "6.1.0-50-amd64", "0::/user.slice"), Place::Machine);
        assert_eq!(Place::judge(&none, "6.1.0", "0::/", true, false), Place::Docker);
        assert_eq!(Place::judge(&none, "6.1.0", "0::/", true, true), Place::Podman);
        assert_eq!(find(&none, "4.4.0-19041-Microsoft", ""), Place::Wsl(1));
        assert_eq!(find(&none, "5.15.90.1-microsoft-standard-WSL2", ""), Place::Wsl(2));
        let pod = Environment { kubernetes: true, ..none.clone() };
        assert_eq!(Place::judge(&pod, "6.1.0", "0::/", true, false), Place::Kubernetes);
        let podman = Environment { container: true, podman: true, ..none.clone() };
        assert_eq!(find(&podman, "6.1.0", ""), Place::Podman);
        let nspawn = Environment { container: true, ..none.clone() };
        assert_eq!(find(&nspawn, "6.1.0", ""), Place::Container);
        let runner = Environment { github_actions: true, ..none.clone() };
        assert_eq!(find(&runner, "6.8.0-azure", ""), Place::GitHubActions);
        let service = Environment { service: true, ..none };
        assert_eq!(find(&service, "6.1.0", "0::/system.slice/app.service\n"), Place::Service);
        // A shell that a service started, in a scope of its own.
        assert_eq!(find(&service, "6.1.0", "0::/user.slice/session-1.scope\n"), Place::Machine);
    }

    #[test]
    fn each_place_has_a_name_and_remedies() {
        for place in [
            Place::Machine,
            Place::Docker,
            Place::Podman,
            Place::Kubernetes,
            Place::Container,
            Place::Wsl(1),
            Place::Wsl(2),
            Place::GitHubActions,
            Place::Service,
        ] {
            assert!(!place.name().is_empty());
            assert!(!place.allow_namespaces().is_empty() && !place.uncover_proc().is_empty());
        }
    }
}
