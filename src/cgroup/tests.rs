//! The parts that need no control groups: texts, and trees of plain files that look like them.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::delegated::{self, Host};
use super::layout::Layout;
use super::{Hierarchy, legacy, locate, stale, unified};
use crate::config::{Config, Limits};
use crate::error::Code;

/// A directory of the test's own, gone at its end.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sbx-cgroup-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A group of version 2; the tree's root has no type.
    fn group(&self, path: &str, controllers: &str) -> PathBuf {
        let group = self.0.join(path);
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.controllers"), controllers).unwrap();
        fs::write(group.join("cgroup.subtree_control"), "").unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        if !path.is_empty() {
            fs::write(group.join("cgroup.type"), "domain\n").unwrap();
        }
        group
    }

    /// A group of version 1.
    fn legacy(&self, path: &str) -> PathBuf {
        let group = self.0.join(path);
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        group
    }

    fn layout(&self, own: &str, mounts: &[(&str, &str, &str)]) -> Layout {
        let line = |(root, point, kind): &(&str, &str, &str)| {
            let (kind, options) = kind.split_once(' ').unwrap();
            format!(
                "35 31 0:32 {root} {}/{point} rw,relatime shared:9 - {kind} cgroup {options}\n",
                self.0.display()
            )
        };
        let mountinfo: String = mounts.iter().map(line).collect();
        Layout::parse(own, mountinfo.as_bytes())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const V2: &str = "cgroup2 rw";

fn nobody(_: &Path) -> bool {
    false
}

fn scope(group: &Path) -> bool {
    group.ends_with("run.scope")
}

fn limits(set: impl FnOnce(&mut Config)) -> Limits {
    let mut config = Config::new();
    set(&mut config);
    *config.limits()
}

#[test]
fn a_hybrid_machine_has_its_controllers_in_version_1() {
    let tree = Tree::new("hybrid");
    tree.group("unified", "hugetlb");
    let memory = tree.legacy("memory/service");
    let cpu = tree.legacy("cpu,cpuacct");
    let own = "9:name=systemd:/\n8:pids:/\n4:memory:/service\n2:cpu,cpuacct:/\n0::/\n";
    let mounts = [
        ("/", "memory", "cgroup rw,memory"),
        ("/", "cpu,cpuacct", "cgroup rw,cpu,cpuacct"),
        ("/", "systemd", "cgroup rw,name=systemd"),
        ("/", "unified", V2),
    ];
    let found = locate(&tree.layout(own, &mounts), &Host::fake(false, nobody)).unwrap();
    assert_eq!(found, Hierarchy::Legacy { memory: Some(memory), cpu: Some(cpu), pids: None });
}

#[test]
fn a_container_sees_its_own_part_of_the_tree_only() {
    let tree = Tree::new("container");
    tree.legacy("memory");
    let own = "4:memory:/docker/abc\n";
    let seen = tree.layout(own, &[("/docker/abc", "memory", "cgroup rw,memory")]);
    assert_eq!(seen.of("memory"), Some(tree.0.join("memory").as_path()));
    let other = tree.layout(own, &[("/docker/other", "memory", "cgroup rw,memory")]);
    assert_eq!(other.of("memory"), None);
    let outside = tree.layout("4:memory:/../abc\n", &[("/", "memory", "cgroup rw,memory")]);
    assert_eq!(outside.of("memory"), None, "a path out of the namespace");
}

#[test]
fn paths_with_blanks_are_found() {
    let mountinfo = b"1 2 0:3 / /a\\040b/\\134c rw - cgroup2 none rw\nnonsense\n1 2 3 4 5 -\n- cgroup2\n";
    assert_eq!(Layout::parse("0::/x\n", mountinfo).unified, Some("/a b/\\c/x".into()));
    assert_eq!(Layout::parse("nonsense\n0:\n", mountinfo), Layout::default());
}

#[test]
fn nothing_mounted_is_an_error_of_its_own() {
    let error = locate(&Layout::default(), &Host::fake(false, nobody)).unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Host, "no control groups are mounted (/sys/fs/cgroup)")
    );
    let tree = Tree::new("bare");
    tree.group("", "pids");
    let bare = tree.layout("0::/\n", &[("/", "", V2)]);
    let error = locate(&bare, &Host::fake(false, nobody)).unwrap_err();
    assert!(error.message().contains("is given no memory controller"), "{error}");
}

#[test]
fn the_base_is_what_was_delegated() {
    let tree = Tree::new("delegated");
    let root = tree.group("", "memory cpu pids");
    let delegated = tree.group("user.slice/run.scope", "memory cpu pids");
    let systemd = Host::fake(true, scope);
    assert_eq!(delegated::base(&delegated, &systemd).unwrap(), delegated);
    let moved = tree.group("user.slice/run.scope/sbx-host", "memory cpu pids");
    assert_eq!(delegated::base(&moved, &systemd).unwrap(), delegated, "moved by this library");
    let placed = tree.group("user.slice/run.scope/main", "memory cpu pids");
    assert_eq!(delegated::base(&placed, &systemd).unwrap(), delegated, "placed by DelegateSubgroup=");
    let session = tree.group("user.slice/session.scope", "memory cpu pids");
    let error = delegated::base(&session, &systemd).unwrap_err();
    assert!(error.code() == Code::Host && error.message().contains("Delegate=yes"), "{error}");
    assert_eq!(delegated::base(&session, &Host::fake(false, nobody)).unwrap(), session, "no systemd here");
    assert_eq!(delegated::base(&root, &systemd).unwrap(), root, "the tree's root is nobody's part");
}

#[test]
fn a_group_without_a_controller_says_which() {
    let tree = Tree::new("controllers");
    let base = tree.group("run.scope", "memory pids");
    let error = delegated::enable(&base, &["memory", "cpu"]).unwrap_err();
    assert!(error.message().contains("is not given the cpu controller"), "{error}");
    assert!(delegated::enable(&base, &["memory"]).unwrap(), "with the one of processes");
    assert_eq!(fs::read_to_string(base.join("cgroup.subtree_control")).unwrap(), "+memory +pids");
    fs::write(base.join("cgroup.subtree_control"), "memory pids\n").unwrap();
    assert!(delegated::enable(&base, &["memory"]).unwrap());
    assert_eq!(
        fs::read_to_string(base.join("cgroup.subtree_control")).unwrap(),
        "memory pids\n",
        "untouched"
    );
}

#[test]
fn what_was_abandoned_is_removed_and_what_is_locked_is_not() {
    let tree = Tree::new("stale");
    let names = ["sb-0123456789abcdef", "sb-fedcba9876543210", "sb-short", "other"];
    let [abandoned, held, short, other] = names.map(|name| tree.0.join(name));
    for path in [&abandoned, &held, &short, &other] {
        fs::create_dir(path).unwrap();
    }
    let lock = Flock::lock(File::open(&held).unwrap(), FlockArg::LockExclusive).unwrap();
    stale::collect(&tree.0);
    assert!(!abandoned.exists() && held.exists() && short.exists() && other.exists());
    assert!(lock.as_raw_fd() >= 0);
}

#[test]
fn limits_are_written_in_the_kernels_words() {
    let limits = limits(|config| {
        config.set_memory(64 << 20).unwrap().set_cpu(1500).unwrap().set_max_processes(100).unwrap();
    });
    let text = |settings: Vec<crate::keeper::wire::keeper::GroupSetting>| -> Vec<String> {
        let line = |setting: &crate::keeper::wire::keeper::GroupSetting| {
            let (file, value) =
                (String::from_utf8_lossy(&setting.file), String::from_utf8_lossy(&setting.value));
            format!("{file}={value}{}", if setting.optional { "?" } else { "" })
        };
        settings.iter().map(line).collect()
    };
    let memory = ["memory.max=67108864", "memory.swap.max=0?", "memory.oom.group=1"];
    let rest = ["cpu.max=150000 100000", "pids.max=912"];
    assert_eq!(text(unified(&limits, true)), [&memory[..], &rest].concat());
    let (one, two) = (Path::new("/one"), Path::new("/two"));
    let planned = legacy(&limits, Some(one), Some(two), Some(one)).unwrap();
    let planned: Vec<_> = planned.into_iter().map(|(path, _, settings)| (path, text(settings))).collect();
    let memory = ["memory.limit_in_bytes=67108864", "memory.memsw.limit_in_bytes=67108864?", "pids.max=912"];
    let cpu = ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"];
    assert_eq!(planned, [(one, memory.map(str::to_owned).to_vec()), (two, cpu.map(str::to_owned).to_vec())]);
    let error = legacy(&limits, Some(one), None, None).unwrap_err();
    assert!(error.message().contains("no control group of the cpu controller"), "{error}");
}
