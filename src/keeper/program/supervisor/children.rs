//! runsc and its processes: starts them, reads their output, kills and reaps them.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::cgroups::Groups;
use super::usage::Meter;
use super::{Failure, Step, seccomp};
use crate::prewarmer;
use crate::spawn::{self, Child, Command, Executable};
use crate::system;
use crate::wire::keeper::{OutOfMemory, Reply, Usage};

/// How many bytes of the end of runsc's log and of its output go to the library.
const MAX_KEPT: usize = 4096;
/// The size of a pipe (pipe(7)).
const PIPE_SIZE: u64 = 64 << 10;
/// The path of runsc's log (the library passes it to runsc).
const LOG_PATH: &CStr = c"/state/log";

/// A running runsc.
#[derive(Debug)]
pub(super) struct Engine {
    child: Child,
    output: Option<OwnedFd>,
    kept: Vec<u8>,
    /// The FIFO in the place of its log, which it waits at.
    held: Option<OwnedFd>,
    /// The read end of that, once it was let go of: its log, but for what its children write.
    log: Option<OwnedFd>,
    meter: Meter,
}

impl Engine {
    /// Starts runsc in the control groups and in namespace S, with init's channel as standard input and the images as
    /// descriptors 3 and up. What it is [held](hold) by stands in the place of its log.
    pub(super) fn start(
        arguments: &[Vec<u8>],
        sandbox: Option<BorrowedFd<'_>>,
        channel: &OwnedFd,
        images: &[OwnedFd],
        groups: &Groups,
        held: Option<OwnedFd>,
    ) -> Result<Self, Failure> {
        let arguments: Vec<CString> = arguments
            .iter()
            .map(|argument| system::c_path(argument))
            .collect::<io::Result<_>>()
            .step("arguments")?;
        // A pipe, because runsc changes the owner and the offset of its standard streams (gVisor's
        // sandbox.go:configureStdios). The output is bounded here.
        let (output, write) = pipe().step("pipe")?;
        system::adopt(output.as_fd()).step("pipe")?;
        let mut descriptors = vec![channel.as_fd(), write.as_fd(), write.as_fd()];
        descriptors.extend(images.iter().map(AsFd::as_fd));
        // SAFETY: getpid takes nothing.
        let keeper = unsafe { libc::getpid() };
        let mut filter = seccomp::no_set_id();
        let mut prepare = || {
            // SAFETY: prctl with this option takes a number.
            let armed = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            // SAFETY: getppid takes nothing.
            if armed != 0 || unsafe { libc::getppid() } != keeper {
                return Err(libc::ESRCH);
            }
            let number = |error: io::Error| error.raw_os_error().unwrap_or(libc::EPERM);
            groups.enter()?;
            if let Some(sandbox) = sandbox {
                // SAFETY: setns takes numbers.
                system::check(unsafe { libc::setns(sandbox.as_raw_fd(), libc::CLONE_NEWNET) })
                    .map_err(number)?;
            }
            filter.apply().map_err(number)
        };
        // Unreadable where an installed copy is; then the sentry starts without it.
        let program = system::open(c"/proc/self/exe", libc::O_RDONLY).ok();
        let wide = program.as_ref().map_or(write.as_fd(), AsFd::as_fd);
        let mut command = Command {
            executable: Executable::Paths(&[c"/runsc".into()]),
            arguments: &arguments,
            // Nothing of the host's environment, which could redirect runsc's state (XDG_RUNTIME_DIR), its
            // helpers (GVISOR_…) or the Go runtime (GODEBUG).
            environment: &[c"PATH=/".into(), c"TMPDIR=/tmp".into(), prewarmer::GOGC.into()],
            descriptors: &descriptors,
            dispositions: spawn::EVERY_SIGNAL,
            prepare: &mut prepare,
        };
        let child = spawn::spawn_wide(&mut command, wide, prewarmer::DESCRIPTOR);
        Ok(Self {
            child: child.step("starting runsc")?,
            output: Some(output),
            kept: Vec::new(),
            held,
            log: None,
            meter: Meter::default(),
        })
    }

    /// Whether it waits at its log.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Lets go of a runsc that is held. It may not have come to its log yet; then it finds an ordinary file, as its children do.
    pub(super) fn let_go(&mut self) -> io::Result<()> {
        let Some(fifo) = self.held.take() else { return Ok(()) };
        // SAFETY: the path ends with NUL. (Rust's own call is another, which the keeper's filter doesn't allow.)
        system::check(unsafe { libc::unlinkat(libc::AT_FDCWD, LOG_PATH.as_ptr(), 0) })?;
        fs::File::create("/state/log")?;
        // A reader is what its open waits for. It is read at runsc's end: runsc writes there why it fails, and nothing else.
        let path = system::c_path(format!("/proc/self/fd/{}", fifo.as_raw_fd()).as_bytes())?;
        self.log = Some(system::open(&path, libc::O_RDONLY | libc::O_NONBLOCK)?);
        Ok(())
    }

    /// Readable once runsc has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// The read end of runsc's output, until its end.
    pub(super) fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// Reads the available output and keeps the end of it.
    pub(super) fn read_output(&mut self) {
        let mut buffer = [0_u8; 4096];
        // A bounded number of reads: this includes init's output, and a hostile init writes as fast as it is
        // read.
        for _ in 0..16 {
            let Some(output) = &self.output else { return };
            // SAFETY: the buffer is live and as long as said.
            let read = unsafe { libc::read(output.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
            match usize::try_from(read) {
                Ok(0) => self.output = None,
                Ok(read) => keep(&mut self.kept, buffer.get(..read).unwrap_or_default()),
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted => {}
                    _ => self.output = None,
                },
            }
        }
    }

    /// Resource use of runsc and its descendants, if the control groups have it. If not, starts a walk that
    /// measures it.
    pub(super) fn usage(&mut self, groups: &Groups) -> Option<Usage> {
        let known = groups.cpu_us().is_some() && groups.memory_usage().0.is_some();
        if !known {
            self.meter.start_walk(self.child.pid);
        }
        known.then(|| Self::completed(Usage::default(), groups))
    }

    /// Continues the walk. Returns the usage once it is complete.
    pub(super) fn walk(&mut self, groups: &Groups) -> Option<Usage> {
        self.meter.advance(self.child.pid).map(|seen| Self::completed(seen, groups))
    }

    /// How long until the watchdog's walk continues.
    pub(super) fn pause(&self) -> Duration {
        self.meter.pause()
    }

    fn completed(seen: Usage, groups: &Groups) -> Usage {
        let (memory, memory_peak) = groups.memory_usage();
        Usage { cpu_us: groups.cpu_us().or(seen.cpu_us), memory: memory.or(seen.memory), memory_peak }
    }

    /// The memory of runsc and its descendants, as far as it can be found quickly.
    pub(super) fn memory(&mut self) -> Option<u64> {
        self.meter.memory(self.child.pid)
    }

    /// The last part of what runsc and its children have written to their log.
    fn last_of_log(&mut self) -> Vec<u8> {
        let mut log = Vec::new();
        // Where runsc is still held it is the FIFO, in which there is nothing.
        let file = system::open(LOG_PATH, libc::O_RDONLY | libc::O_NONBLOCK).map(fs::File::from);
        if let Ok(mut file) = file {
            // Seeking fails in a shorter log, which is then read from its beginning.
            let _ = file.seek(SeekFrom::End(-4096));
            let _ = file.take(4096).read_to_end(&mut log);
        }
        // What runsc itself has said comes last, since it says it last.
        if let Some(fifo) = self.log.take() {
            let _ = fs::File::from(fifo).take(PIPE_SIZE).read_to_end(&mut log);
        }
        keep(&mut log, &[]);
        log
    }

    /// Kills runsc, waits until it and all its descendants have ended, and returns the status.
    pub(super) fn end(mut self, groups: &Groups, out_of_memory: OutOfMemory) -> Reply {
        let mut own = None;
        if groups.cpu_us().is_none() {
            self.meter.measure_before_end(self.child.pid);
        }
        // SAFETY: kill takes numbers. The child has not been reaped, so the number is still its own.
        unsafe { libc::kill(self.child.pid, libc::SIGKILL) };
        loop {
            match system::reap() {
                Ok(Some((pid, status))) if pid == self.child.pid => own = Some(status),
                Ok(Some(_)) => {}
                // Sentry and gofer have PDEATHSIG. One that hadn't set it yet is our child now.
                Ok(None) => {
                    if own.is_some() {
                        kill_children();
                    }
                    system::pause();
                }
                Err(_) => break,
            }
        }
        self.read_output();
        let log = self.last_of_log();
        let status = own.unwrap_or(libc::SIGKILL);
        let (_, memory_peak) = groups.memory_usage();
        let cpu_us = groups.cpu_us().or_else(|| self.meter.final_cpu_us());
        let usage = Usage { cpu_us, memory: None, memory_peak };
        let out_of_memory = if groups.was_out_of_memory() { OutOfMemory::Kernel } else { out_of_memory };
        Reply::Ended { status, log, output: self.kept, usage, out_of_memory }
    }
}

/// Makes a FIFO in the place of runsc's log. runsc opens that before it looks at its bundle, and waits until somebody reads.
pub(super) fn hold() -> io::Result<OwnedFd> {
    // SAFETY: the path ends with NUL.
    system::check(unsafe { libc::mkfifo(LOG_PATH.as_ptr(), 0o600) })?;
    system::open(LOG_PATH, libc::O_PATH)
}

/// Appends output and drops what is more than is kept from its beginning.
pub(super) fn keep(kept: &mut Vec<u8>, more: &[u8]) {
    kept.extend_from_slice(more);
    let surplus = kept.len().saturating_sub(MAX_KEPT);
    kept.drain(..surplus);
}

/// A pipe: the end to read, and the end to write.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1, -1];
    // SAFETY: pipe2 writes two descriptors into the array of two.
    system::check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((system::owned(fds[0])?, system::owned(fds[1])?))
}

/// Kills all children of the keeper.
fn kill_children() {
    let me = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for pid in processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // "pid (name) state ppid …". The name may contain anything, so look for the last ')'.
        let parent =
            status.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        if parent == Some(me) {
            // SAFETY: kill takes numbers. A child's number is its own until we reap it.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}
