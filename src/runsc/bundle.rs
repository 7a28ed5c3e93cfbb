//! The `config.json` of a sandbox whose first process is our init.
//!
//! No annotations but the four of [`RootAnnotation`], and these only on an image: runsc takes others as flags, past what the
//! command line says. No hooks, no user namespace (the keeper has made it), no cgroup path, no seccomp filter (the sentry has its own).

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, Mount, MountBuilder, PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder,
    RootBuilder, SpecBuilder, UserBuilder,
};

use crate::config::Limits;
use crate::error::{Code, Error, Result};

/// Docker's default capabilities less NET_RAW (raw sockets), MKNOD (devices) and AUDIT_WRITE (nothing listens).
/// They are the sentry's, over the sandbox's own processes and files; none is one on the host. Init needs
/// SETUID, SETGID, SETPCAP and KILL to start others as other users and with less.
const CAPABILITIES: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Descriptors a process inside may have. These are the sentry's, which cost the host nothing by themselves.
/// A higher soft limit makes programs that close every possible descriptor slow.
const NOFILE_SOFT: u64 = 1024;
const NOFILE_HARD: u64 = 1 << 20;

/// The size of a page, for the number of files that a tmpfs may have.
const PAGE: u64 = 4096;

/// Where nothing of the caller's may be mounted: it would replace what the sandbox runs on.
const RESERVED: &[&str] = &["/proc", "/sys", "/dev", "/.sbx"];

/// The annotations of a sandbox whose root file system is an image. There are no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RootAnnotation {
    /// The image's path.
    Source,
    /// Its file system.
    Type,
    /// Where writes go.
    Overlay,
    /// The limit of writes. With annotations runsc ignores the size of its flag `--overlay2`.
    Options,
}

impl RootAnnotation {
    fn key(self) -> &'static str {
        match self {
            Self::Source => "dev.gvisor.spec.rootfs.source",
            Self::Type => "dev.gvisor.spec.rootfs.type",
            Self::Overlay => "dev.gvisor.spec.rootfs.overlay",
            Self::Options => "dev.gvisor.spec.rootfs.options",
        }
    }
}

/// The path of an image, by its index among the images of runsc's descriptors (`Setup::images`). By descriptor, an image is
/// the file that was opened, whatever is at its path by now, and nothing has to be mounted.
pub(crate) fn image_path(index: usize) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", index.saturating_add(3)))
}

/// An image whose files the sandbox sees at a path, read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BundleImage {
    /// As runsc sees it.
    pub(crate) source: PathBuf,
    /// Inside; absolute and without `..`.
    pub(crate) destination: PathBuf,
}

/// A file or directory of the host's in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BundleMount {
    /// As runsc sees it, in the keeper's mount namespace.
    pub(crate) source: PathBuf,
    /// Inside; absolute and without `..`.
    pub(crate) destination: PathBuf,
    pub(crate) writable: bool,
}

/// What differs from one sandbox to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bundle<'a> {
    /// The composed root file system, as runsc sees it; with an image an empty directory.
    pub(crate) root: &'a Path,
    /// The image in its place, as runsc sees it.
    pub(crate) root_image: Option<&'a Path>,
    /// The images at paths, init's among them.
    pub(crate) images: &'a [BundleImage],
    /// Our init's path inside.
    pub(crate) init: &'a str,
    pub(crate) hostname: &'a str,
    /// The network namespace to take the interfaces of; `None` with `--network=none`.
    pub(crate) network_namespace: Option<&'a Path>,
    pub(crate) limits: &'a Limits,
    /// In the order given, after the file systems every sandbox has.
    pub(crate) mounts: &'a [BundleMount],
    /// Whether /tmp belongs to the root file system, and not to one of its own.
    pub(crate) tmp_in_root: bool,
}

impl Bundle<'_> {
    /// The text of `config.json`.
    pub(crate) fn json(&self) -> Result<Vec<u8>> {
        for mount in self.mounts {
            check(mount)?;
        }
        let spec = self.spec().map_err(|cause| internal(&cause))?;
        serde_json::to_vec(&spec).map_err(|cause| internal(&cause))
    }

    fn spec(&self) -> Result<oci_spec::runtime::Spec, OciSpecError> {
        let mut mounts = system_mounts(self.limits.disk, self.tmp_in_root)?;
        for image in self.images {
            mounts.push(
                MountBuilder::default()
                    .destination(image.destination.clone())
                    .typ("erofs")
                    .source(image.source.clone())
                    .options(["ro", "nosuid", "nodev"].map(str::to_owned))
                    .build()?,
            );
        }
        for mount in self.mounts {
            let mode = if mount.writable { "rw" } else { "ro" };
            mounts.push(
                MountBuilder::default()
                    .destination(mount.destination.clone())
                    .typ("bind")
                    .source(mount.source.clone())
                    .options(["rbind", mode, "nosuid", "nodev"].map(str::to_owned))
                    .build()?,
            );
        }
        let linux = LinuxBuilder::default().namespaces(self.namespaces()?);
        let mut linux = linux.build()?;
        // The builder's defaults are for a container on the host's kernel.
        linux.set_masked_paths(None).set_readonly_paths(None).set_resources(None);
        let mut spec = SpecBuilder::default()
            .version("1.1.0")
            .process(self.process()?)
            .root(RootBuilder::default().path(self.root).readonly(false).build()?)
            .hostname(self.hostname)
            .mounts(mounts)
            .linux(linux)
            .build()?;
        spec.set_annotations(self.annotations()).set_hooks(None);
        Ok(spec)
    }

    fn annotations(&self) -> Option<HashMap<String, String>> {
        let source = self.root_image?.to_string_lossy().into_owned();
        let options = self.limits.disk.map(|bytes| format!("size={bytes}"));
        let all = [
            (RootAnnotation::Source, Some(source)),
            (RootAnnotation::Type, Some("erofs".to_owned())),
            (RootAnnotation::Overlay, Some("memory".to_owned())),
            (RootAnnotation::Options, options),
        ];
        Some(all.into_iter().filter_map(|(one, value)| Some((one.key().to_owned(), value?))).collect())
    }

    fn process(&self) -> Result<Process, OciSpecError> {
        let all = || std::collections::HashSet::from(CAPABILITIES);
        // Neither inheritable nor ambient: what a program gets is init's decision, not an accident of exec.
        let capabilities = LinuxCapabilitiesBuilder::default()
            .bounding(all())
            .effective(all())
            .permitted(all())
            .inheritable([])
            .ambient([])
            .build()?;
        let nofile = PosixRlimitBuilder::default()
            .typ(PosixRlimitType::RlimitNofile)
            .soft(NOFILE_SOFT)
            .hard(NOFILE_HARD)
            .build()?;
        // Counted for each user; init is one of root's.
        let processes = u64::from(self.limits.processes) + 1;
        let nproc = PosixRlimitBuilder::default()
            .typ(PosixRlimitType::RlimitNproc)
            .soft(processes)
            .hard(processes)
            .build()?;
        ProcessBuilder::default()
            .terminal(false)
            .user(UserBuilder::default().uid(0_u32).gid(0_u32).build()?)
            .args([self.init.to_owned()])
            // The program's environment comes to init over its socket, never through this file.
            .env(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()])
            .cwd("/")
            .capabilities(capabilities)
            .rlimits([nofile, nproc])
            // Setuid programs are governed by runsc's own flag and by what init sets for each program.
            .no_new_privileges(false)
            .build()
    }

    fn namespaces(&self) -> Result<Vec<LinuxNamespace>, OciSpecError> {
        use LinuxNamespaceType::{Ipc, Mount, Network, Pid, Uts};
        let mut namespaces = Vec::new();
        for typ in [Pid, Ipc, Uts, Mount] {
            namespaces.push(LinuxNamespaceBuilder::default().typ(typ).build()?);
        }
        let network = LinuxNamespaceBuilder::default().typ(Network);
        let network = match self.network_namespace {
            Some(path) => network.path(path),
            None => network,
        };
        namespaces.push(network.build()?);
        Ok(namespaces)
    }
}

/// The sentry's own file systems: none of these is the host's. The sentry fills /dev by itself.
fn system_mounts(disk: Option<u64>, tmp_in_root: bool) -> Result<Vec<Mount>, OciSpecError> {
    [
        ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"][..]),
        ("/dev", "tmpfs", "tmpfs", &["nosuid", "mode=755"]),
        ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
        ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        // runsc mounts a tmpfs on an empty /tmp unless something is named for it, and leaves out a type that it doesn't know.
        if tmp_in_root {
            ("/tmp", "part-of-the-root", "none", &[])
        } else {
            ("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"])
        },
    ]
    .into_iter()
    .map(|(destination, typ, source, options)| {
        let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        if let (Some(bytes), "/dev/shm" | "/tmp", "tmpfs") = (disk, destination, typ) {
            // As many files as would have a page each (tmpfs(5) has half of that).
            options.extend([format!("size={bytes}"), format!("nr_inodes={}", bytes / PAGE)]);
        }
        MountBuilder::default().destination(destination).typ(typ).source(source).options(options).build()
    })
    .collect()
}

fn check(mount: &BundleMount) -> Result<()> {
    let shown = mount.destination.display();
    let mut parts = mount.destination.components();
    let absolute = parts.next() == Some(Component::RootDir);
    if !absolute || !parts.all(|part| matches!(part, Component::Normal(_))) {
        return Err(Error::invalid(format!("mount at {shown}: must be an absolute path without `..`")));
    }
    if mount.destination == Path::new("/") {
        return Err(Error::invalid("mount at /: use a root file system directory instead"));
    }
    if let Some(reserved) = RESERVED.iter().find(|reserved| mount.destination.starts_with(reserved)) {
        return Err(Error::invalid(format!("mount at {shown}: {reserved} belongs to the sandbox itself")));
    }
    if !mount.source.is_absolute() {
        return Err(Error::invalid(format!("mount of {}: must be an absolute path", mount.source.display())));
    }
    Ok(())
}

fn internal(cause: &dyn std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("config.json: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(mounts: &[BundleMount], network: Option<&Path>) -> Result<serde_json::Value> {
        let bundle = Bundle {
            root: Path::new("/rootfs"),
            root_image: None,
            images: &[],
            init: "/.sbx/init",
            hostname: "box",
            network_namespace: network,
            limits: &Limits::default(),
            mounts,
            tmp_in_root: false,
        };
        bundle.json().map(|text| serde_json::from_slice(&text).unwrap())
    }

    fn mount(source: &str, destination: &str, writable: bool) -> BundleMount {
        BundleMount { source: source.into(), destination: destination.into(), writable }
    }

    #[test]
    fn nothing_is_in_it_but_what_was_meant() {
        let value = json(&[], Some(Path::new("/proc/self/ns/net"))).unwrap();
        let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["hostname", "linux", "mounts", "ociVersion", "process", "root"]);
        let linux = value["linux"].as_object().unwrap();
        assert_eq!(linux.keys().collect::<Vec<_>>(), ["namespaces"], "{linux:?}");
        let process: Vec<_> = value["process"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            process,
            ["args", "capabilities", "cwd", "env", "noNewPrivileges", "rlimits", "terminal", "user"]
        );
        assert_eq!(value["root"], serde_json::json!({"path": "/rootfs", "readonly": false}));
    }

    #[test]
    fn an_image_has_these_four_annotations_and_no_others() {
        let limits = |disk| Limits { disk, ..Limits::default() };
        let path = image_path(1);
        let images = [BundleImage { source: image_path(0), destination: "/.sbx".into() }];
        let annotations = |limits: &Limits| {
            let bundle = Bundle {
                root: Path::new("/rootfs"),
                root_image: Some(&path),
                images: &images,
                init: "/.sbx/init",
                hostname: "box",
                network_namespace: None,
                limits,
                mounts: &[],
                tmp_in_root: false,
            };
            let value: serde_json::Value = serde_json::from_slice(&bundle.json().unwrap()).unwrap();
            let init = value["mounts"].as_array().unwrap().last().unwrap();
            assert_eq!(
                *init,
                serde_json::json!({"destination": "/.sbx", "type": "erofs", "source": "/proc/self/fd/3",
                    "options": ["ro", "nosuid", "nodev"]})
            );
            value["annotations"].clone()
        };
        let mut expected = serde_json::json!({
            "dev.gvisor.spec.rootfs.source": "/proc/self/fd/4",
            "dev.gvisor.spec.rootfs.type": "erofs",
            "dev.gvisor.spec.rootfs.overlay": "memory",
        });
        assert_eq!(annotations(&limits(None)), expected);
        expected["dev.gvisor.spec.rootfs.options"] = "size=4096".into();
        assert_eq!(annotations(&limits(Some(4096))), expected);
    }

    #[test]
    fn capabilities_leave_out_the_three() {
        let value = json(&[], None).unwrap();
        let capabilities = &value["process"]["capabilities"];
        for set in ["bounding", "effective", "permitted"] {
            let set = capabilities[set].as_array().unwrap();
            assert_eq!(set.len(), CAPABILITIES.len());
            for left_out in ["CAP_NET_RAW", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SYS_ADMIN"] {
                assert!(!set.contains(&left_out.into()));
            }
            assert!(set.contains(&"CAP_SETPCAP".into()));
        }
        for set in ["inheritable", "ambient"] {
            assert!(capabilities[set].as_array().is_none_or(Vec::is_empty));
        }
    }

    #[test]
    fn the_network_namespace_is_named_only_if_there_is_one() {
        let network = |value: serde_json::Value| {
            let all = value["linux"]["namespaces"].as_array().unwrap().clone();
            assert!(all.iter().all(|namespace| namespace["type"] != "user"));
            all.into_iter().find(|namespace| namespace["type"] == "network").unwrap()
        };
        let path = Path::new("/proc/self/ns/net");
        assert_eq!(network(json(&[], Some(path)).unwrap())["path"], "/proc/self/ns/net");
        assert!(network(json(&[], None).unwrap()).get("path").is_none());
    }

    #[test]
    fn mounts_are_read_only_unless_asked_otherwise() {
        let value = json(&[mount("/a", "/data", false), mount("/b", "/out", true)], None).unwrap();
        let mounts = value["mounts"].as_array().unwrap();
        let [.., data, out] = &mounts[..] else { panic!("{mounts:?}") };
        assert_eq!(data["options"], serde_json::json!(["rbind", "ro", "nosuid", "nodev"]));
        assert_eq!(out["options"], serde_json::json!(["rbind", "rw", "nosuid", "nodev"]));
    }

    #[test]
    fn mounts_that_leave_or_replace_the_sandbox_are_refused() {
        for bad in ["data", "/", "/a/../../b", "/proc", "/proc/sys", "/dev/sda", "/sys", "/.sbx/init", ""] {
            let error = json(&[mount("/a", bad, false)], None).unwrap_err();
            assert_eq!(error.code(), Code::Invalid, "{bad}");
        }
        json(&[mount("/a", "/process", false)], None).unwrap();
        assert_eq!(json(&[mount("a", "/data", false)], None).unwrap_err().code(), Code::Invalid);
    }
}
