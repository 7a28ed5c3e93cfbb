//! Counts what a sandbox consists of, to compare before and after.
//!
//! Everything that a test starts is found by descent: the test process is a subreaper, so what a killed host
//! leaves behind becomes its child instead of process 1's. Other work on the machine doesn't disturb it, but two
//! tests of one process do: they take turns ([`turn`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::common::PATIENCE;

/// What a forked child of a host is called that outlives it.
pub const SURVIVOR: &str = "survivor";

static TURN: Mutex<()> = Mutex::new(());

/// Waits for the other tests of this process, and takes in what they would have left to process 1.
pub fn turn() -> MutexGuard<'static, ()> {
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    guard
}

/// A process as `/proc/PID/stat` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    pub state: char,
    pub parent: i32,
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name) state ppid …"; the name may hold anything.
    let (before, after) = stat.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split(' ');
    let state = fields.next()?.chars().next()?;
    Some(Process { pid, name, state, parent: fields.next()?.parse().ok()? })
}

/// Every process.
fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

/// The living processes below `root`, itself not among them.
pub fn below(root: i32) -> Vec<Process> {
    let all = processes();
    let mut children: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for one in &all {
        children.entry(one.parent).or_default().push(one);
    }
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            open.push(child.pid);
            found.push((*child).clone());
        }
    }
    // Who is dead but not yet taken off the kernel's list holds nothing.
    found.retain(|one| !matches!(one.state, 'Z' | 'X'));
    found
}

fn me() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// Takes the dead keepers and what was below them off the kernel's list, which a subreaper must.
pub fn bury() {
    for one in processes() {
        let ours = one.parent == me() && one.state == 'Z';
        if ours && (one.name == "sbx-keeper" || one.name.starts_with("runsc") || one.name == SURVIVOR) {
            let _ = waitpid(Pid::from_raw(one.pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// The control groups below a directory that have a sandbox's id for a name.
fn groups(directory: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found = BTreeSet::new();
    for entry in directories {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.len() == 19 && name.starts_with("sb-")) {
            found.insert(entry.path());
        }
        found.extend(groups(&entry.path()));
    }
    found
}

/// Where sandboxes of this process have their control groups: below its own, of version 1. What is elsewhere may be
/// another test's. Of version 2 a group that processes are in can't have others below it, so everywhere is looked.
fn places() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own: Vec<PathBuf> = own
        .lines()
        .filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some(root.join(controllers).join(path.trim_start_matches('/')))
        })
        .filter(|own| own != root && own.join("cgroup.procs").exists())
        .collect();
    let legacy = own.iter().any(|own| own.starts_with(root.join("memory")));
    if legacy { own } else { vec![root.to_owned()] }
}

/// What a sandbox consists of, as far as this process can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Living processes below this one.
    pub processes: Vec<String>,
    /// Network namespaces that a process below this one is in and this one isn't.
    pub namespaces: usize,
    /// Mounts of this mount namespace that a sandbox or runsc has made.
    pub mounts: BTreeSet<String>,
    /// Descriptors of this process, and threads whose name is the library's; only where this process is the host.
    pub own: Option<(usize, usize)>,
    /// What lies in the directory for temporary files.
    pub files: BTreeSet<String>,
    /// Control groups of sandboxes.
    pub groups: BTreeSet<PathBuf>,
}

impl Census {
    /// Counts now, in a test whose own process is the host.
    pub fn with_own(temporary: &Path) -> Self {
        let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
        let comm = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let threads = threads.map(comm).filter(|name| name.starts_with("sbx-")).count();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        Self { own: Some((descriptors, threads)), ..Self::take(temporary, &[]) }
    }

    /// Counts now. Processes of these names are somebody else's.
    pub fn take(temporary: &Path, except: &[&str]) -> Self {
        let below = below(me());
        let here = fs::read_link("/proc/self/ns/net").unwrap();
        let namespaces: BTreeSet<_> = below
            .iter()
            .filter_map(|one| fs::read_link(format!("/proc/{}/ns/net", one.pid)).ok())
            .filter(|namespace| *namespace != here)
            .collect();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let ours = |line: &&str| ["runsc", "sbx", "null-netns"].iter().any(|word| line.contains(word));
        let names = |directory: &Path| -> BTreeSet<String> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let mut processes: Vec<String> = below
            .iter()
            .filter(|one| !except.contains(&one.name.as_str()))
            .map(|one| format!("{} {}", one.name, one.pid))
            .collect();
        processes.sort();
        Self {
            processes,
            namespaces: namespaces.len(),
            mounts: mounts.lines().filter(ours).map(str::to_owned).collect(),
            own: None,
            files: names(temporary),
            groups: places().iter().flat_map(|place| groups(place)).collect(),
        }
    }

    /// Waits until it is as it was; the kernel takes namespaces down when it has time. Fails with the difference
    /// when it is not in time ([`PATIENCE`]). Returns how long it took.
    pub fn again(&self, temporary: &Path, except: &[&str]) -> Result<Duration, String> {
        let begin = Instant::now();
        loop {
            let mut now = match self.own {
                Some(_) => Self::with_own(temporary),
                None => Self::take(temporary, except),
            };
            // The library's threads end a while after the last sandbox: fewer are none left.
            if let (Some((_, before)), Some((_, threads))) = (self.own, &mut now.own) {
                *threads = before.max(*threads);
            }
            let took = begin.elapsed();
            if now == *self {
                bury();
                return Ok(took);
            }
            if Some(took) > PATIENCE {
                return Err(format!("before: {self:#?}\nafter {took:?}: {now:#?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
