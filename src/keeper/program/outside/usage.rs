//! What the sandbox's processes use of the host, read from `/proc`.
//!
//! The programs' memory, and what they write to the overlay and to a tmpfs, is one memfd of the sentry's; no
//! process has all of it mapped, so no process's size tells it. What the processes have of their own is added.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use crate::system;
use crate::wire::keeper::Usage;

/// The most processes that are looked at. The programs inside decide how many there are, and one look must
/// not become long; with more, nothing is said of them.
const MOST: usize = 8192;
/// The same for the last look, which the end waits for.
const MOST_AT_THE_END: usize = 512;
/// What a file's blocks are counted in (stat(2)).
const BLOCK: u64 = 512;

/// Reads what one sandbox uses.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The sentry's memfds, once they were found.
    memory: Vec<OwnedFd>,
    /// Processor time never shrinks, though a process may end between two looks at its family.
    cpu_us: u64,
}

impl Meter {
    /// What runsc and everything below it use now.
    pub(super) fn read(&mut self, runsc: i32) -> Usage {
        self.look(runsc, MOST)
    }

    /// A last look, before the kernel forgets: the time of what dies with its process namespace is in no
    /// parent's account.
    pub(super) fn look_before_the_end(&mut self, runsc: i32) {
        self.look(runsc, MOST_AT_THE_END);
    }

    /// Processor time when all have ended.
    pub(super) fn of_the_dead(&self) -> Option<u64> {
        reaped().map(|cpu_us| cpu_us.max(self.cpu_us))
    }

    /// The memory of runsc, gofer and sentry, which is nearly all: what programs have is the sentry's.
    pub(super) fn memory(&mut self, runsc: i32) -> Option<u64> {
        let mut few = children(runsc);
        few.push(runsc);
        self.sum(runsc, &few)
    }

    fn sum(&mut self, runsc: i32, processes: &[i32]) -> Option<u64> {
        if self.memory.is_empty() {
            // The sentry is one of its children.
            self.memory = children(runsc).into_iter().flat_map(memory_files).collect();
        }
        let own = || processes.iter().filter_map(|pid| own_memory(*pid)).sum::<u64>();
        let shared = || self.memory.iter().filter_map(allocated).sum::<u64>();
        (!self.memory.is_empty()).then(|| own() + shared())
    }

    fn look(&mut self, runsc: i32, most: usize) -> Usage {
        let Some(family) = family(runsc, most) else { return Usage::default() };
        let cpu_us = in_microseconds(family.iter().filter_map(|pid| ticks(*pid)).sum());
        self.cpu_us = self.cpu_us.max(cpu_us);
        Usage { cpu_us: Some(self.cpu_us), memory: self.sum(runsc, &family), memory_peak: None }
    }
}

/// The processor time of the children that were reaped, and of what they had reaped, in microseconds.
fn reaped() -> Option<u64> {
    // SAFETY: rusage is a plain C struct for which all zeroes is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the struct is live.
    system::check(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) }).ok()?;
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    let microseconds = |time: libc::timeval| number(time.tv_sec) * 1_000_000 + number(time.tv_usec);
    Some(microseconds(usage.ru_utime) + microseconds(usage.ru_stime))
}

/// A process and everything below it, unless that is too much.
fn family(of: i32, most: usize) -> Option<Vec<i32>> {
    let mut found = vec![of];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(children(parent));
        if found.len() > most {
            return None;
        }
        at += 1;
    }
    Some(found)
}

/// The children of all threads of a process; none if it has ended.
fn children(of: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The processor time of a process and of those of its children that it has reaped, in clock ticks.
fn ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name) state …"; the name may hold anything, the last ')' ends it. utime, stime, cutime and cstime
    // are the 14th to the 17th field (proc_pid_stat(5)).
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn in_microseconds(ticks: u64) -> u64 {
    // SAFETY: sysconf takes a number.
    let a_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    ticks * 1_000_000 / a_second
}

/// The memory that is a process's own: neither files nor what it shares.
fn own_memory(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The memory files of a process, if it is the sentry: they are what its name for them says (gVisor's
/// runsc/boot and pkg/sentry/platform/systrap).
fn memory_files(pid: i32) -> Vec<OwnedFd> {
    let directory = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = |prefix: &str, target: &std::path::Path| {
        target.to_str().is_some_and(|target| target.starts_with(prefix))
    };
    let files: Vec<_> = entries
        .filter_map(|entry| Some((entry.path(), fs::read_link(entry.path()).ok()?)))
        .filter(|(_, target)| named("/memfd:runsc-memory", target) || named("/memfd:systrap-memory", target))
        .collect();
    if !files.iter().any(|(_, target)| named("/memfd:runsc-memory", target)) {
        return Vec::new();
    }
    files
        .into_iter()
        .filter_map(|(path, _)| {
            system::open(&system::c_path(path.as_os_str().as_encoded_bytes()).ok()?, libc::O_PATH).ok()
        })
        .collect()
}

/// How much of a memory file is there.
fn allocated(file: &OwnedFd) -> Option<u64> {
    Some(File::from(file.try_clone().ok()?).metadata().ok()?.blocks() * BLOCK)
}
