//! What a sandbox was made from, to compare a member of the warm pool with a sandbox that is planned now.
//!
//! A member stands for the sandbox that would be started now only if keeper and runsc would get the same as it got: the
//! root file system, the mounts, the bundle, the command line, the images, runsc itself. A bind mount is of a file as it was
//! when the member was made, so that another file of that name (a certificate bundle that was renewed) makes a difference.
//! And a keeper is what the host's process was when it was started: a process that has given up rights since then, or has
//! other limits or another control group, gets one that is as it is now.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::sys::stat::fstat;
use serde_json::Value;

use super::images::HostResources;
use crate::keeper::wire::keeper::{Entry, Setup};
use crate::runsc::command::SandboxId;
use crate::sys::mountinfo;

/// Below this much available memory there is no warm pool.
const LOW_MEMORY: u64 = 256 << 20;

/// What a sandbox was made from.
#[derive(Debug)]
pub(crate) struct Stamp {
    /// What the keeper gets, without the names of control groups and without the bundle.
    setup: Setup,
    /// The bundle, in one order. `None` for one that can't be read.
    bundle: Option<Value>,
    /// The command line of runsc, without the sandbox's id.
    arguments: Vec<Vec<u8>>,
    /// Device and inode of each file that is bound or mounted, in the setup's order, and of each image. `None` is for one
    /// that can't be looked at.
    files: Vec<Option<(u64, u64)>>,
    /// The mounts at and below what is bound, as mountinfo has them. `None` if they can't be read.
    mounts: Option<Vec<Vec<u8>>>,
    /// What a process that is started now inherits. `None` if it can't be read.
    inherited: Option<Vec<u8>>,
    ipv6: bool,
    host: Arc<HostResources>,
    /// Whether the host had little memory left.
    pub(crate) memory_is_low: bool,
}

impl Stamp {
    /// Looks at the host's files, which may hang.
    pub(super) fn new(
        id: &SandboxId,
        setup: &Setup,
        arguments: &[Vec<u8>],
        images: &[OwnedFd],
        ipv6: bool,
        host: &Arc<HostResources>,
    ) -> Self {
        let mut setup = setup.clone();
        setup.groups.iter_mut().for_each(|group| group.name.clear());
        let bundle = ordered(&std::mem::take(&mut setup.bundle));
        let bound = setup.rootfs.iter().filter_map(|entry| match entry {
            Entry::Bind { bind, .. } => Some(bind),
            _ => None,
        });
        let sources: Vec<&[u8]> =
            bound.clone().chain(&setup.mounts).map(|bind| bind.source.as_slice()).collect();
        let mounts = fs::read("/proc/thread-self/mountinfo").ok();
        let mounts = mounts.map(|text| mounts_below(&text, &sources));
        let bound = bound.chain(&setup.mounts).map(|bind| {
            let found = fs::metadata(Path::new(OsStr::from_bytes(&bind.source))).ok()?;
            Some((found.dev(), found.ino()))
        });
        let images = images.iter().map(|image| fstat(image).ok().map(|found| (found.st_dev, found.st_ino)));
        Self {
            files: bound.chain(images).collect(),
            mounts,
            inherited: inherited(),
            arguments: arguments
                .iter()
                .filter(|each| each.as_slice() != id.as_str().as_bytes())
                .cloned()
                .collect(),
            ipv6,
            host: Arc::clone(host),
            memory_is_low: memory_is_low(),
            setup,
            bundle,
        }
    }

    /// What is different on the host, or in what the library makes of it.
    pub(crate) fn difference(&self, other: &Self) -> Option<&'static str> {
        let (ours, theirs) = (&self.setup, &other.setup);
        let files = self.files == other.files && self.files.iter().all(Option::is_some);
        let mounts = self.mounts.is_some() && self.mounts == other.mounts;
        let each = [
            ("the library", Arc::ptr_eq(&self.host, &other.host)),
            (
                "runsc",
                (&ours.runsc, ours.runsc_identity, ours.beside)
                    == (&theirs.runsc, theirs.runsc_identity, theirs.beside),
            ),
            ("the command line", self.arguments == other.arguments),
            (
                "the host's own process: its user, rights, limits or control group",
                self.inherited.is_some() && self.inherited == other.inherited,
            ),
            ("the host's route to IPv6", self.ipv6 == other.ipv6),
            ("the bundle", self.bundle.is_some() && self.bundle == other.bundle),
            ("the root file system or a mount", ours == theirs && files && mounts),
        ];
        each.into_iter().find_map(|(name, same)| (!same).then_some(name))
    }
}

/// The lines of a mountinfo (proc_pid_mountinfo(5)) whose mount points are at or below one of these paths.
fn mounts_below(text: &[u8], paths: &[&[u8]]) -> Vec<Vec<u8>> {
    let is_below = |line: &&[u8]| {
        let point = line.split(|byte| *byte == b' ').nth(4).map(mountinfo::path).unwrap_or_default();
        paths.iter().any(|path| point.starts_with(OsStr::from_bytes(path)))
    };
    text.split(|byte| *byte == b'\n').filter(is_below).map(<[u8]>::to_vec).collect()
}

/// The lines of a thread's status (proc_pid_status(5)) that a process which it starts inherits, as far as they matter to one.
const INHERITED: &[&str] = &[
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
];

/// What a process that this thread starts inherits: its user and rights, its limits, its control groups, its root
/// directory, how likely it is to be killed for want of memory.
fn inherited() -> Option<Vec<u8>> {
    let read = |file: &str| fs::read(format!("/proc/thread-self/{file}")).ok();
    let status = String::from_utf8(read("status")?).ok()?;
    let is_inherited = |line: &&str| line.split_once(':').is_some_and(|(name, _)| INHERITED.contains(&name));
    let mut all: Vec<u8> =
        status.lines().filter(is_inherited).flat_map(|line| [line, "\n"]).collect::<String>().into();
    for file in ["limits", "cgroup", "oom_score_adj"] {
        // A kernel may have no control groups.
        all.extend(read(file).unwrap_or_default());
    }
    let root = fs::metadata("/").ok()?;
    all.extend(format!("{} {}", root.dev(), root.ino()).into_bytes());
    Some(all)
}

/// Whether memory is low whatever the host says.
#[cfg(feature = "test-hooks")]
pub(crate) static PRETEND_LOW_MEMORY: std::sync::atomic::AtomicBool =
    std::sync::atomic::AtomicBool::new(false);

/// Whether the host has too little memory left for a warm pool.
pub(crate) fn memory_is_low() -> bool {
    #[cfg(feature = "test-hooks")]
    if PRETEND_LOW_MEMORY.load(std::sync::atomic::Ordering::Relaxed) {
        return true;
    }
    available_memory().is_some_and(|bytes| bytes < LOW_MEMORY)
}

/// The host's memory that is available for programs (proc_meminfo(5)).
pub(super) fn available_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A bundle with its sets in one order: they are written in any.
fn ordered(bundle: &[u8]) -> Option<Value> {
    let mut bundle: Value = serde_json::from_slice(bundle).ok()?;
    let sets = bundle.pointer_mut("/process/capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
        set.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    }
    Some(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_memory_is_read() {
        let bytes = available_memory().unwrap();
        assert!((1 << 24..1 << 50).contains(&bytes), "{bytes}");
    }

    #[test]
    fn what_a_process_inherits_is_read() {
        let before = inherited().unwrap();
        assert_eq!(before, inherited().unwrap());
        let text = String::from_utf8(before).unwrap();
        for name in ["Uid:", "CapEff:", "NoNewPrivs:", "Max open files", "Max processes"] {
            assert!(text.contains(name), "{name}: {text}");
        }
    }

    #[test]
    fn mounts_below_what_is_bound_are_seen() {
        let mounts =
            b"20 1 8:1 / / rw - ext4 /dev/a rw\n30 20 8:2 / /srv/data/in\\040it rw - ext4 /dev/b rw\n\
            31 20 8:3 / /srv/database rw - ext4 /dev/c rw\n32 20 8:4 / /with\\040blank rw - ext4 /dev/d rw\n";
        let below = |paths: &[&[u8]]| {
            let lines = mounts_below(mounts, paths);
            lines.iter().map(|line| String::from_utf8_lossy(line)[..2].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(below(&[b"/srv/data"]), ["30"]);
        assert_eq!(below(&[b"/with blank", b"/srv"]), ["30", "31", "32"]);
        assert_eq!(below(&[b"/usr"]), [""; 0]);
        assert_eq!(below(&[b"/"]).len(), 4);
    }

    #[test]
    fn bundles_are_compared_without_the_order_of_their_sets() {
        let bundle = |capabilities: &str, mounts: &str| {
            let text = format!(
                r#"{{"process": {{"capabilities": {{"bounding": {capabilities}}}}}, "mounts": {mounts}}}"#
            );
            ordered(text.as_bytes())
        };
        assert_eq!(bundle(r#"["A", "B"]"#, "[1, 2]"), bundle(r#"["B", "A"]"#, "[1, 2]"));
        assert_ne!(bundle(r#"["A", "B"]"#, "[1, 2]"), bundle(r#"["A"]"#, "[1, 2]"));
        assert_ne!(
            bundle(r#"["A", "B"]"#, "[1, 2]"),
            bundle(r#"["A", "B"]"#, "[2, 1]"),
            "mounts have an order"
        );
        assert_eq!(ordered(b"{"), None);
    }
}
