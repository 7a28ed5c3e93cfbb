//! The sandbox's control groups: creates them, moves runsc into them, watches them, and removes them at the
//! end.
//!
//! The keeper itself stays outside, so that the kernel's OOM killer never picks it and the groups can be
//! removed. Everything is done by descriptor, because the host's `/sys` is no longer mounted later on.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::{Failure, Step};
use crate::system;
use crate::wire::keeper::Group;

/// How often creation is repeated if another process removed the group as abandoned before it was locked.
const MAX_ATTEMPTS: u32 = 5;
/// How often removal is tried, every 2 ms.
const MAX_REMOVE_ROUNDS: u32 = 500;

/// All groups of the sandbox.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<Made>);

#[derive(Debug)]
struct Made {
    parent: OwnedFd,
    name: CString,
    /// Holds the lock while it is open.
    _directory: File,
    processes: OwnedFd,
    memory: Option<Memory>,
    cpu: Option<File>,
}

/// The memory files of a group.
#[derive(Debug)]
struct Memory {
    now: File,
    peak: Option<File>,
    /// Counts OOM kills.
    events: File,
    /// Version 1: an eventfd that is readable after an OOM.
    out: Option<OwnedFd>,
}

impl Groups {
    /// Creates the groups in these directories.
    pub(super) fn make(groups: &[Group], parents: Vec<OwnedFd>) -> Result<Self, Failure> {
        let mut made = Self::default();
        for (group, parent) in groups.iter().zip(parents) {
            match Made::new(group, parent) {
                Ok(group) => made.0.push(group),
                Err(failure) => {
                    made.remove();
                    return Err(failure);
                }
            }
        }
        Ok(made)
    }

    /// Moves the calling process into the groups. Makes system calls only.
    pub(super) fn enter(&self) -> Result<(), i32> {
        for group in &self.0 {
            // SAFETY: the buffer is live and as long as said.
            let written = unsafe { libc::write(group.processes.as_raw_fd(), c"0".as_ptr().cast(), 1) };
            system::check(written).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        }
        Ok(())
    }

    /// Readable when the sandbox is out of memory, where the kernel doesn't kill all of it by itself.
    pub(super) fn out_of_memory_signal(&self) -> Option<BorrowedFd<'_>> {
        self.memory()?.out.as_ref().map(AsFd::as_fd)
    }

    /// Whether the kernel killed a process of the sandbox for lack of memory.
    pub(super) fn was_out_of_memory(&self) -> bool {
        self.memory().and_then(|memory| field(&memory.events, "oom_kill")).is_some_and(|count| count > 0)
    }

    /// Current and peak memory use, in bytes.
    pub(super) fn memory_usage(&self) -> (Option<u64>, Option<u64>) {
        let Some(memory) = self.memory() else { return (None, None) };
        (number(&memory.now), memory.peak.as_ref().and_then(number))
    }

    /// Processor time in microseconds.
    pub(super) fn cpu_us(&self) -> Option<u64> {
        self.0.iter().find_map(|group| field(group.cpu.as_ref()?, "usage_usec"))
    }

    /// Removes the groups. Their processes have ended, but the kernel may need a moment to notice.
    pub(super) fn remove(&mut self) {
        for group in self.0.drain(..) {
            for _ in 0..MAX_REMOVE_ROUNDS {
                // SAFETY: the name ends with NUL.
                let removed = unsafe {
                    libc::unlinkat(group.parent.as_raw_fd(), group.name.as_ptr(), libc::AT_REMOVEDIR)
                };
                if removed == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EBUSY) {
                    break;
                }
                system::pause();
            }
        }
    }

    fn memory(&self) -> Option<&Memory> {
        self.0.iter().find_map(|group| group.memory.as_ref())
    }
}

impl Made {
    fn new(group: &Group, parent: OwnedFd) -> Result<Self, Failure> {
        let name = system::c_path(&group.name).step("a control group's name")?;
        let directory = create(&parent, &name).step("making a control group")?;
        // From here on it is removed if something fails.
        let undo = |failure: Failure| {
            // SAFETY: the name ends with NUL.
            unsafe { libc::unlinkat(parent.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) };
            failure
        };
        let opened = Self::set_up(group, &directory).map_err(undo)?;
        let (processes, memory, cpu) = opened;
        Ok(Self { parent, name, _directory: directory, processes, memory, cpu })
    }

    fn set_up(group: &Group, directory: &File) -> Result<(OwnedFd, Option<Memory>, Option<File>), Failure> {
        for setting in &group.settings {
            let file = system::c_path(&setting.file).step("a control group's file")?;
            let written = open(directory, &file, libc::O_WRONLY)
                .and_then(|file| File::from(file).write_all(&setting.value));
            match written {
                Err(error) if setting.optional && error.raw_os_error() == Some(libc::ENOENT) => {}
                written => {
                    written.step(format!("control group file {}", String::from_utf8_lossy(&setting.file)))?
                }
            }
        }
        let processes = open(directory, c"cgroup.procs", libc::O_WRONLY).step("cgroup.procs")?;
        let memory = group.memory.then(|| Memory::open(group.unified, directory)).transpose();
        let memory = memory.step("watching the memory of a control group")?;
        let cpu = if group.unified { open(directory, c"cpu.stat", libc::O_RDONLY).ok() } else { None };
        Ok((processes, memory, cpu.map(File::from)))
    }
}

impl Memory {
    fn open(unified: bool, directory: &File) -> io::Result<Self> {
        let read = |name| open(directory, name, libc::O_RDONLY).map(File::from);
        if unified {
            // memory.peak came with Linux 5.19.
            let (now, peak) = (read(c"memory.current")?, read(c"memory.peak").ok());
            return Ok(Self { now, peak, events: read(c"memory.events")?, out: None });
        }
        let events = read(c"memory.oom_control")?;
        // Version 1 kills one process; the keeper then ends the rest.
        // SAFETY: eventfd takes numbers.
        let out = system::owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        let order = format!("{} {}", out.as_raw_fd(), events.as_raw_fd());
        File::from(open(directory, c"cgroup.event_control", libc::O_WRONLY)?).write_all(order.as_bytes())?;
        let peak = read(c"memory.max_usage_in_bytes").ok();
        Ok(Self { now: read(c"memory.usage_in_bytes")?, peak, events, out: Some(out) })
    }
}

/// Creates a group and locks it. An unlocked group counts as abandoned, and another process may remove it.
fn create(parent: &OwnedFd, name: &CStr) -> io::Result<File> {
    for _ in 0..MAX_ATTEMPTS {
        // SAFETY: the name ends with NUL.
        system::check(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o755) })?;
        let Ok(directory) = open(parent, name, libc::O_RDONLY | libc::O_DIRECTORY) else { continue };
        // SAFETY: flock takes numbers.
        let locked = unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        let directory = File::from(directory);
        let there =
            open(parent, name, libc::O_PATH | libc::O_DIRECTORY).and_then(|fd| File::from(fd).metadata());
        if locked == 0
            && there.is_ok_and(|there| directory.metadata().is_ok_and(|own| own.ino() == there.ino()))
        {
            return Ok(directory);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

fn open(directory: &impl AsRawFd, name: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: the name ends with NUL.
    system::owned(unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) })
}

fn text(mut file: &File) -> Option<String> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

fn number(file: &File) -> Option<u64> {
    text(file)?.trim().parse().ok()
}

/// The number in the line "name number" of a file.
fn field(file: &File, name: &str) -> Option<u64> {
    text(file)?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
