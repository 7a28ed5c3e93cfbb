//! What the sandbox's processes use of the host, read from `/proc`.
//!
//! The programs' memory, and what they write to the overlay and to a tmpfs, is one memfd of the sentry's; no
//! process has all of it mapped, so no process's size tells it. What the processes have of their own is added, and their
//! page tables, which a program can make large without any memory of its own. What can't be seen here is the rest of the
//! kernel's: buffers of sockets and pipes, above all.
//!
//! The programs inside decide how many processes there are. So they are looked at in slices, and the keeper does other
//! things in between.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::walk::{Walk, children, own_memory};
use crate::system;
use crate::wire::keeper::Usage;

/// The most processes that are looked at. Of more, nothing is said, and the watchdog takes those that were seen for all
/// of them: others in every walk.
const MAX_PROCESSES: usize = 8192;
/// How long a slice of a walk over them takes, about.
const SLICE_TIME: Duration = Duration::from_millis(4);
/// How much longer than its last slice a walk rests that nobody waits for.
const REST_FACTOR: u32 = 4;
/// The same for the last look, which the end waits for.
const MAX_PROCESSES_AT_END: usize = 512;
/// What a file's blocks are counted in (stat(2)).
const STAT_BLOCK: u64 = 512;

/// Reads what one sandbox uses.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The sentry's memfds, once they were found.
    memory: Vec<OwnedFd>,
    /// Processor time never shrinks, though a process may end between two looks at its family.
    cpu_us: u64,
    /// The walk that is under way.
    walk: Option<Walk>,
    /// What the processes beside runsc, gofer and sentry had of their own when a walk last saw all.
    others: u64,
    /// When a walk that nobody waits for goes on.
    due: Option<Instant>,
    /// How many walks have begun.
    walks: usize,
}

impl Meter {
    /// Begins to look at runsc and everything below it, for one who waits for it.
    pub(super) fn begin(&mut self, runsc: i32) {
        self.walk = Some(self.new_walk(runsc));
    }

    fn new_walk(&mut self, runsc: i32) -> Walk {
        self.walks = self.walks.wrapping_add(1) % MAX_PROCESSES;
        Walk::new(runsc, self.walks)
    }

    /// How long until a walk that nobody waits for goes on.
    pub(super) fn rest(&self) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
    }

    /// Goes on with the walk, or begins one; what was seen when all were looked at.
    pub(super) fn go_on(&mut self, runsc: i32) -> Option<Usage> {
        let begun = Instant::now();
        let mut walk = self.walk.take().unwrap_or_else(|| self.new_walk(runsc));
        let done = walk.go_on(begun + SLICE_TIME, MAX_PROCESSES);
        self.due = Some(Instant::now() + begun.elapsed() * REST_FACTOR);
        if !done {
            self.walk = Some(walk);
            return None;
        }
        self.others = walk.all_others();
        Some(if walk.beyond > 0 { Usage::default() } else { self.told(&walk) })
    }

    fn told(&mut self, walk: &Walk) -> Usage {
        self.cpu_us = self.cpu_us.max(in_microseconds(walk.ticks));
        let few = walk.found.get(..walk.few).unwrap_or_default();
        let memory = self.shared(few).map(|shared| shared + walk.own);
        Usage { cpu_us: Some(self.cpu_us), memory, memory_peak: None }
    }

    /// A last look, before the kernel forgets: the time of what dies with its process namespace is in no
    /// parent's account.
    pub(super) fn look_before_the_end(&mut self, runsc: i32) {
        let mut walk = Walk::new(runsc, 0);
        while walk.beyond == 0 && !walk.go_on(Instant::now() + SLICE_TIME, MAX_PROCESSES_AT_END) {}
        if walk.beyond == 0 {
            self.told(&walk);
        }
    }

    /// Processor time when all have ended.
    pub(super) fn of_the_dead(&self) -> Option<u64> {
        reaped().map(|cpu_us| cpu_us.max(self.cpu_us))
    }

    /// The memory of runsc, gofer and sentry now, which is nearly all: what programs have is the sentry's. And of the
    /// others, as a walk has last seen it.
    pub(super) fn memory(&mut self, runsc: i32) -> Option<u64> {
        let mut few = children(runsc);
        few.push(runsc);
        let own: u64 = few.iter().filter_map(|pid| own_memory(*pid)).sum();
        let others = self.walk.as_ref().map_or(0, |walk| walk.others).max(self.others);
        self.shared(&few).map(|shared| shared + own + others)
    }

    /// What all have together; nothing before the sentry, which is one of those few, has it.
    fn shared(&mut self, few: &[i32]) -> Option<u64> {
        if self.memory.is_empty() {
            self.memory = few.iter().copied().flat_map(memory_files).collect();
        }
        (!self.memory.is_empty()).then(|| self.memory.iter().filter_map(allocated).sum())
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

fn in_microseconds(ticks: u64) -> u64 {
    // SAFETY: sysconf takes a number.
    let a_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
    ticks * 1_000_000 / a_second
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
    Some(File::from(file.try_clone().ok()?).metadata().ok()?.blocks() * STAT_BLOCK)
}
