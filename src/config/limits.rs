//! Limits of what a sandbox may use of the host.

use std::fmt;
use std::ops::RangeInclusive;

use super::Config;
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The default limit of processes and threads inside, for each user.
const DEFAULT_MAX_PROCESSES: u32 = 4096;

const MEMORY: RangeInclusive<u64> = (64 << 20)..=(1 << 50);
const CPU: RangeInclusive<u32> = 10..=1_024_000;
/// gVisor itself has no more than 65536 tasks.
const PROCESSES: RangeInclusive<u32> = 1..=65_535;
const DISK: RangeInclusive<u64> = (64 << 10)..=(1 << 50);
const OPEN_FILES: RangeInclusive<u32> = 8..=1_048_576;

/// How the limits of memory and processor are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[repr(i32)]
pub enum LimitMode {
    /// By the kernel (cgroups); where it can't, creating the sandbox fails.
    #[default]
    Strict = 0,
    /// By the kernel where it can; else the library polls the memory and ends a sandbox over its limit. A fast program can
    /// exceed the limit for a moment.
    Watchdog = 1,
}

/// A sandbox's limits; `None` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory: Option<u64>,
    /// In thousandths of a processor.
    pub(crate) cpu: Option<u32>,
    pub(crate) processes: u32,
    pub(crate) disk: Option<u64>,
    pub(crate) open_files: Option<u32>,
    pub(crate) mode: LimitMode,
}

impl Default for Limits {
    fn default() -> Self {
        let mode = LimitMode::default();
        Self { memory: None, cpu: None, processes: DEFAULT_MAX_PROCESSES, disk: None, open_files: None, mode }
    }
}

impl Config {
    /// Limits the memory, in bytes, at least 64 MiB: that of the programs, their files in memory, and gVisor's own, about
    /// 20 MB. A sandbox that reaches the limit ends as out of memory.
    pub fn set_memory(&mut self, bytes: u64) -> Result<&mut Self> {
        self.latch(|config| {
            config.limits.memory = Some(within("memory", bytes, &MEMORY, "bytes")?);
            Ok(())
        })
    }

    /// Limits the processor time, in thousandths of a processor (1500 is one and a half), at least 10.
    pub fn set_cpu(&mut self, millicpus: u32) -> Result<&mut Self> {
        self.latch(|config| {
            config.limits.cpu = Some(within("cpu", millicpus, &CPU, "thousandths of a processor")?);
            Ok(())
        })
    }

    /// Limits the processes and threads inside, for each user there (default 4096).
    pub fn set_max_processes(&mut self, count: u32) -> Result<&mut Self> {
        self.latch(|config| {
            config.limits.processes = within("max processes", count, &PROCESSES, "processes")?;
            Ok(())
        })
    }

    /// Limits the bytes written to the root file system, and separately to `/tmp` and to `/dev/shm`. At least 64 KiB;
    /// mounts are not counted.
    pub fn set_disk(&mut self, bytes: u64) -> Result<&mut Self> {
        self.latch(|config| {
            config.limits.disk = Some(within("disk", bytes, &DISK, "bytes")?);
            Ok(())
        })
    }

    /// Limits the descriptors of each process inside, at least 8.
    pub fn set_max_open_files(&mut self, count: u32) -> Result<&mut Self> {
        self.latch(|config| {
            config.limits.open_files = Some(within("max open files", count, &OPEN_FILES, "descriptors")?);
            Ok(())
        })
    }

    /// Sets what to do if the kernel can't enforce the memory limit (default [`LimitMode::Strict`]).
    pub fn set_limit_mode(&mut self, mode: LimitMode) -> &mut Self {
        self.limits.mode = mode;
        self
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

fn within<T: PartialOrd + fmt::Display>(
    what: &str,
    value: T,
    allowed: &RangeInclusive<T>,
    unit: &str,
) -> Result<T> {
    if allowed.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (allowed.start(), allowed.end());
    Err(Error::invalid(format!("{what} {value}: must be from {least} to {most} {unit}")))
}
