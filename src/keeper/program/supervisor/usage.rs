//! Measures what the sandbox's processes use of the host, from `/proc`.
//!
//! The programs' memory, and what they write to the overlay and to a tmpfs, is one memfd of the sentry. No
//! process maps all of it, so no process's size shows it. To that is added the private memory of each process
//! and its page tables, which a program can make large without using memory itself. Other memory of the
//! kernel is not visible here, above all buffers of sockets and pipes.
//!
//! The programs decide how many processes there are. So a walk visits them in slices, and the keeper does
//! other work in between.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::walk::{Walk, children, own_memory};
use crate::system;
use crate::wire::keeper::Usage;

/// The maximum number of processes that a walk visits. If there are more, the usage is reported as unknown,
/// and the watchdog extrapolates from those that were visited, which differ from walk to walk.
const MAX_PROCESSES: usize = 8192;
/// The duration of a slice of a walk, roughly.
const SLICE_TIME: Duration = Duration::from_millis(4);
/// The pause between slices of the watchdog's walk, as a multiple of the last slice.
const REST_FACTOR: u32 = 4;
/// The maximum number of processes for the last walk, which delays the end.
const MAX_PROCESSES_AT_END: usize = 512;
/// The unit of st_blocks (stat(2)).
const STAT_BLOCK: u64 = 512;

/// Measures one sandbox.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The sentry's memfds, once found.
    memory: Vec<OwnedFd>,
    /// The highest processor time so far. Without it the time could shrink when a process ends during a walk.
    cpu_us: u64,
    /// The walk in progress.
    walk: Option<Walk>,
    /// The private memory of the processes other than runsc, gofer and sentry, from the last complete walk.
    others: u64,
    /// When the watchdog's walk continues.
    due: Option<Instant>,
    /// The number of walks that were started.
    walks: usize,
}

impl Meter {
    /// Starts a walk over runsc and its descendants that the library waits for.
    pub(super) fn start_walk(&mut self, runsc: i32) {
        self.walk = Some(self.new_walk(runsc));
    }

    fn new_walk(&mut self, runsc: i32) -> Walk {
        self.walks = self.walks.wrapping_add(1) % MAX_PROCESSES;
        Walk::new(runsc, self.walks)
    }

    /// How long until the watchdog's walk continues.
    pub(super) fn pause(&self) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
    }

    /// Continues the walk, or starts one. Returns the usage once the walk is complete.
    pub(super) fn advance(&mut self, runsc: i32) -> Option<Usage> {
        let begun = Instant::now();
        let mut walk = self.walk.take().unwrap_or_else(|| self.new_walk(runsc));
        let done = walk.advance(begun + SLICE_TIME, MAX_PROCESSES);
        self.due = Some(Instant::now() + begun.elapsed() * REST_FACTOR);
        if !done {
            self.walk = Some(walk);
            return None;
        }
        self.others = walk.all_others();
        Some(if walk.beyond > 0 { Usage::default() } else { self.usage_of(&walk) })
    }

    fn usage_of(&mut self, walk: &Walk) -> Usage {
        self.cpu_us = self.cpu_us.max(in_microseconds(walk.ticks));
        let few = walk.found.get(..walk.few).unwrap_or_default();
        let memory = self.shared(few).map(|shared| shared + walk.own);
        Usage { cpu_us: Some(self.cpu_us), memory, memory_peak: None }
    }

    /// Measures a last time before the end: the processor time of processes that die with their pid namespace
    /// isn't added to any parent's.
    pub(super) fn measure_before_end(&mut self, runsc: i32) {
        let mut walk = Walk::new(runsc, 0);
        while walk.beyond == 0 && !walk.advance(Instant::now() + SLICE_TIME, MAX_PROCESSES_AT_END) {}
        if walk.beyond == 0 {
            self.usage_of(&walk);
        }
    }

    /// Processor time after all processes have ended.
    pub(super) fn final_cpu_us(&self) -> Option<u64> {
        reaped().map(|cpu_us| cpu_us.max(self.cpu_us))
    }

    /// The current memory of runsc, gofer and sentry, which is nearly all, since the programs' memory is the
    /// sentry's, plus the others' memory from the last walk.
    pub(super) fn memory(&mut self, runsc: i32) -> Option<u64> {
        let mut few = children(runsc);
        few.push(runsc);
        let own: u64 = few.iter().filter_map(|pid| own_memory(*pid)).sum();
        let others = self.walk.as_ref().map_or(0, |walk| walk.others).max(self.others);
        self.shared(&few).map(|shared| shared + own + others)
    }

    /// The memory that all share. `None` until the sentry, one of `few`, has its memfd.
    fn shared(&mut self, few: &[i32]) -> Option<u64> {
        if self.memory.is_empty() {
            self.memory = few.iter().copied().flat_map(memory_files).collect();
        }
        (!self.memory.is_empty()).then(|| self.memory.iter().filter_map(allocated).sum())
    }
}

/// The processor time of reaped children and of what they had reaped, in microseconds.
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

/// The memfds of a process if it is the sentry, recognised by their names (gVisor's runsc/boot and
/// pkg/sentry/platform/systrap).
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

/// The allocated size of a memfd.
fn allocated(file: &OwnedFd) -> Option<u64> {
    Some(File::from(file.try_clone().ok()?).metadata().ok()?.blocks() * STAT_BLOCK)
}
