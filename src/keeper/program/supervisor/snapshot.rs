//! A second process of the keeper's, which takes snapshots of its sandbox.
//!
//! Once the sandbox runs, the keeper can't execute a program, so it leaves this process before. It can do one thing: pause
//! the sandbox, have runsc write the changes of its root file system as a tar archive, and resume it. It has the keeper's
//! namespaces (a network namespace of its own, and empty, where the keeper is in the host's), no capability in them, no
//! descriptor but its channel to the keeper, and a filter that it shares with the runsc that it starts. It ends with the
//! keeper.
//!
//! The archive comes from the sentry, which hostile code may have taken over. It arrives through a pipe that this process
//! reads, so the sentry never gets the file itself, and its bytes and its time are bounded. Whatever happens the sandbox is
//! resumed; if that fails, the library is told so.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::{Failure, Step, children, namespaces, seccomp};
use crate::channel::{self, Channel};
use crate::spawn::{self, Child, Command, Executable};
use crate::system;
use crate::wire::keeper::{Reply, Request, SnapshotEnd};

/// The descriptor of the process's channel.
const CHANNEL: i32 = 3;
/// Where runsc has the sentry write the archive. Standard output won't do: runsc writes a line of its own to it.
const TO_ARCHIVE: &CStr = c"--file=/proc/self/fd/3";
/// How long `runsc pause` and `runsc resume` may take. A sandbox that can't be paused or resumed in that time is ended.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes of the archive are read at once.
const CHUNK: usize = 128 * 1024;
/// The size of the archive's pipe that is asked for: the most that an ordinary user may have.
const PIPE_SIZE: i32 = 1 << 20;
/// The private memory that a runsc started here may have: it talks to a sentry that may be hostile.
const MAX_DATA: libc::rlim_t = 1 << 30;
/// The exit status of a Go program that the runtime ends, such as one that gets no memory.
const GO_FATAL: i32 = 2;
/// Added to the number of the signal that has killed a command. runsc's own exit status for an error is this number.
const KILLED: i32 = 128;
/// What runsc says when it has paused the sandbox and could not record that.
const UNRECORDED: &[u8] = b"saving container metadata";
/// The step of a command that was not started.
const STARTING: &str = "starting runsc";

/// The keeper's side of the process.
#[derive(Debug)]
pub(super) struct Snapshotter {
    channel: Channel,
    pid: i32,
    is_busy: bool,
}

impl Snapshotter {
    /// Starts the process. `arguments` are those of runsc up to the command, `id` is the sandbox's. `networked` says that
    /// the keeper is in G.
    pub(super) fn start(arguments: &[Vec<u8>], id: &[u8], networked: bool) -> Result<Self, Failure> {
        let step = "the process for snapshots";
        let c_strings = |words: &[Vec<u8>]| -> io::Result<Vec<CString>> {
            words.iter().map(|word| system::c_path(word)).collect()
        };
        let arguments = c_strings(arguments).step(step)?;
        let id = system::c_path(id).step(step)?;
        let (ours, theirs) = channel::pair().step(step)?;
        // SAFETY: getpid takes nothing.
        let keeper = unsafe { libc::getpid() };
        // SAFETY: the program has one thread, so its fork may do whatever it may.
        match system::check(unsafe { libc::fork() }).step(step)? {
            0 => serve(theirs, keeper, networked, arguments, id),
            pid => Ok(Self { channel: Channel::new(ours), pid, is_busy: false }),
        }
    }

    /// Begins a snapshot into this file. `None` if the process takes it, else why it doesn't.
    pub(super) fn begin(&mut self, request: &Request, file: OwnedFd) -> Option<SnapshotEnd> {
        let refused = |errno| Some(SnapshotEnd::Failed { step: b"another snapshot".to_vec(), errno });
        if self.is_busy {
            return refused(libc::EBUSY);
        }
        self.is_busy = true;
        // A process that is gone shows as the end of its channel.
        let _ = self.channel.send(&request.encode(), vec![file]);
        None
    }

    /// Cancels the snapshot that is being taken.
    pub(super) fn cancel(&mut self) {
        if self.is_busy {
            let _ = self.channel.send(&Request::CancelSnapshot.encode(), Vec::new());
        }
    }

    /// Receives how a snapshot has ended: an error if the process is gone.
    pub(super) fn receive(&mut self) -> io::Result<Option<Reply>> {
        let message = match self.channel.receive() {
            Ok(message) => message,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        match Reply::decode(&message.bytes) {
            Ok(reply @ Reply::SnapshotEnded { .. }) if self.is_busy && message.fds.is_empty() => {
                self.is_busy = false;
                Ok(Some(reply))
            }
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Whether a snapshot is being taken.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Readable when there is something to receive.
    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for Snapshotter {
    /// Ends the process, and with it the runsc that it has started.
    fn drop(&mut self) {
        // SAFETY: kill takes numbers. Children are reaped after this, so the number is still the child's.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }
}

/// The process: takes snapshots until the keeper has ended.
fn serve(channel: OwnedFd, keeper: i32, networked: bool, arguments: Vec<CString>, id: CString) -> ! {
    let served = confine(&channel, keeper, networked).map(|channel| {
        let mut worker = Worker { channel: Channel::new(channel), arguments, id };
        worker.run();
    });
    // SAFETY: _exit takes a number. The keeper's objects, which this process has copies of, aren't dropped.
    unsafe { libc::_exit(i32::from(served.is_err())) }
}

/// Gives up everything but the channel, which becomes descriptor 3.
fn confine(channel: &OwnedFd, keeper: i32, networked: bool) -> io::Result<OwnedFd> {
    system::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(libc::SIGKILL.cast_unsigned()))?;
    // SAFETY: getppid takes nothing.
    if unsafe { libc::getppid() } != keeper {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: the name is a NUL-terminated literal.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"sbx-snapshot".as_ptr()) };
    if channel.as_raw_fd() != CHANNEL {
        // SAFETY: dup3 takes numbers. What the keeper had there is never used in this process.
        system::check(unsafe { libc::dup3(channel.as_raw_fd(), CHANNEL, libc::O_CLOEXEC) })?;
    }
    // SAFETY: close_range takes numbers. The objects that own these descriptors are never dropped: this process ends by
    // _exit.
    system::check(unsafe { libc::close_range(CHANNEL.cast_unsigned() + 1, libc::c_uint::MAX, 0) })?;
    if !networked {
        // In the host's network namespace it could connect to the host's abstract sockets (unix(7)). runsc's own has a path.
        namespaces::unshare(libc::CLONE_NEWNET)?;
    }
    drop_capabilities()?;
    let data = libc::rlimit { rlim_cur: MAX_DATA, rlim_max: MAX_DATA };
    // SAFETY: the struct is live. A lower limit of the host's stays.
    unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const data) };
    // runsc's own filter first: setting a set-id bit is refused.
    seccomp::no_set_id().apply()?;
    seccomp::restrict_snapshots()?;
    Ok(system::inherited(CHANNEL))
}

/// Gives up every capability. With no_new_privs, which the keeper has set, runsc doesn't get them back as user 0.
fn drop_capabilities() -> io::Result<()> {
    // struct __user_cap_header_struct and two of __user_cap_data_struct of version 3 (capget(2)).
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0_u32; 6];
    // SAFETY: both structs are live and as long as that version says.
    system::check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) }).map(|_| ())
}

/// What the process is started with.
struct Worker {
    channel: Channel,
    arguments: Vec<CString>,
    id: CString,
}

/// Why a command of runsc's was not completed.
type Ended<T> = Result<T, SnapshotEnd>;

fn failed(step: &str) -> impl Fn(io::Error) -> SnapshotEnd + '_ {
    move |error| SnapshotEnd::Failed {
        step: step.as_bytes().to_vec(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// A command of runsc's that runs. Dropping it ends it.
struct Running {
    child: Child,
    has_ended: bool,
    /// What it says.
    messages: Option<File>,
    kept: Vec<u8>,
    /// What it writes: the archive, which the sentry writes to as well.
    archive: Option<File>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: kill takes numbers. The child is reaped below, so the number is still its own.
        unsafe { libc::kill(self.child.pid, libc::SIGKILL) };
        // SAFETY: waitpid takes a number and writes nothing.
        unsafe { libc::waitpid(self.child.pid, std::ptr::null_mut(), 0) };
    }
}

/// What a wait for a command has found.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    archive: bool,
    messages: bool,
    process: bool,
    channel: bool,
}

impl Worker {
    fn run(&mut self) {
        loop {
            if !poll(&mut [entry(self.channel.as_fd())], None) {
                continue;
            }
            let message = match self.channel.receive() {
                Ok(message) => message,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            let file = message.fds.into_iter().next();
            match (Request::decode(&message.bytes), file) {
                (Ok(Request::Snapshot { bytes, milliseconds }), Some(file)) => {
                    let reply = self.snapshot(File::from(file), bytes, Duration::from_millis(milliseconds));
                    if self.channel.send(&reply.encode(), Vec::new()).is_err() {
                        return;
                    }
                }
                // For a snapshot that has ended meanwhile.
                (Ok(Request::CancelSnapshot), None) => {}
                _ => return,
            }
        }
    }

    /// Takes a snapshot. The sandbox is resumed whatever happens in between.
    fn snapshot(&mut self, mut file: File, limit: u64, time: Duration) -> Reply {
        let begun = Instant::now();
        let deadline = begun.checked_add(time);
        let mut bytes = 0;
        let end = match self.command(c"pause") {
            Ok(()) => self.archive(&mut file, limit, deadline, &mut bytes),
            // runsc refuses to resume what it has not recorded as paused: then whether it is paused stays unknown.
            Err(end) => {
                let is_paused = may_be_paused(&end) && self.command(c"resume").is_err();
                return Reply::SnapshotEnded { end, bytes, paused_us: elapsed(begun), is_paused };
            }
        };
        // The archive's pipe is closed by now, so the sentry doesn't wait for its reader.
        let resumed = self.command(c"resume");
        let paused_us = elapsed(begun);
        let (end, is_paused) = match (end, resumed) {
            (Ok(()), Ok(())) => (SnapshotEnd::Complete, false),
            (Err(end), Ok(())) => (end, false),
            (_, Err(end)) => (end, true),
        };
        Reply::SnapshotEnded { end, bytes, paused_us, is_paused }
    }

    /// Pauses or resumes the sandbox.
    fn command(&self, name: &CStr) -> Ended<()> {
        let deadline = Instant::now().checked_add(COMMAND_TIMEOUT);
        let mut running = self.start(&[name.to_owned(), self.id.clone()], false)?;
        loop {
            let ready = self.wait(&running, deadline, false)?;
            if ready.messages {
                running.read_messages();
            }
            if ready.process {
                return running.status(name);
            }
        }
    }

    /// Has the sentry write the archive, and copies it to the file.
    fn archive(
        &mut self,
        file: &mut File,
        limit: u64,
        deadline: Option<Instant>,
        bytes: &mut u64,
    ) -> Ended<()> {
        let arguments =
            [c"tar".to_owned(), c"rootfs-upper".to_owned(), TO_ARCHIVE.to_owned(), self.id.clone()];
        let mut running = self.start(&arguments, true)?;
        let mut buffer = vec![0_u8; CHUNK];
        // The archive is complete when runsc has ended well and no process holds the pipe any more.
        let mut is_written = false;
        while !is_written || running.archive.is_some() {
            let ready = self.wait(&running, deadline, true)?;
            if ready.channel && self.is_cancelled() {
                return Err(SnapshotEnd::Cancelled);
            }
            if ready.messages {
                running.read_messages();
            }
            if ready.archive
                && let Some(archive) = &mut running.archive
            {
                match archive.read(&mut buffer) {
                    Ok(0) => running.archive = None,
                    Ok(read) => {
                        *bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
                        if *bytes > limit {
                            return Err(SnapshotEnd::TooLarge);
                        }
                        let read = buffer.get(..read).unwrap_or_default();
                        file.write_all(read).map_err(failed("writing the archive"))?;
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(error) => return Err(failed("reading the archive")(error)),
                }
            }
            if ready.process {
                running.status(c"tar")?;
                is_written = true;
            }
        }
        Ok(())
    }

    /// Whether the keeper has cancelled the snapshot, or has ended.
    fn is_cancelled(&mut self) -> bool {
        match self.channel.receive() {
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }

    /// Starts a command of runsc's.
    fn start(&self, command: &[CString], has_archive: bool) -> Ended<Running> {
        let step = failed(STARTING);
        let (nothing, _) = children::pipe().map_err(&step)?;
        let (messages, errors) = children::pipe().map_err(&step)?;
        let (archive, output) = children::pipe().map_err(&step)?;
        for fd in [&messages, &archive] {
            system::adopt(fd.as_fd()).map_err(&step)?;
        }
        // SAFETY: fcntl takes numbers. A smaller pipe does as well, only slower.
        unsafe { libc::fcntl(archive.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_SIZE) };
        let mut descriptors = vec![nothing.as_fd(), errors.as_fd(), errors.as_fd()];
        if has_archive {
            descriptors.push(output.as_fd());
        }
        let arguments: Vec<CString> = self.arguments.iter().chain(command).cloned().collect();
        // SAFETY: getpid takes nothing.
        let parent = unsafe { libc::getpid() };
        let mut prepare = || {
            // SAFETY: prctl with this option takes a number.
            let armed = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
            // SAFETY: getppid takes nothing.
            if armed != 0 || unsafe { libc::getppid() } != parent { Err(libc::ESRCH) } else { Ok(()) }
        };
        let child = spawn::spawn(&mut Command {
            executable: Executable::Paths(&[c"/runsc".into()]),
            arguments: &arguments,
            environment: &[c"PATH=/".into(), c"TMPDIR=/tmp".into()],
            descriptors: &descriptors,
            dispositions: spawn::EVERY_SIGNAL,
            prepare: &mut prepare,
        });
        let archive = has_archive.then(|| File::from(archive));
        let child = child.map_err(&step)?;
        Ok(Running { child, has_ended: false, messages: Some(messages.into()), kept: Vec::new(), archive })
    }

    /// Waits until something of the command is ready.
    fn wait(&self, running: &Running, deadline: Option<Instant>, can_cancel: bool) -> Ended<Ready> {
        let fd = |file: &Option<File>| file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let watched = [
            fd(&running.archive),
            fd(&running.messages),
            if running.has_ended { -1 } else { running.child.pidfd.as_raw_fd() },
            if can_cancel { self.channel.as_raw_fd() } else { -1 },
        ];
        let mut set = watched.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(SnapshotEnd::TimedOut);
        }
        poll(&mut set, left);
        let [archive, messages, process, channel] = set.map(|entry| entry.revents != 0);
        Ok(Ready { archive, messages, process, channel })
    }
}

impl Running {
    /// Reads what it says and keeps the end of it.
    fn read_messages(&mut self) {
        let mut buffer = [0_u8; 1024];
        let Some(messages) = &mut self.messages else { return };
        match messages.read(&mut buffer) {
            Ok(0) => self.messages = None,
            Ok(read) => children::keep(&mut self.kept, buffer.get(..read).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.messages = None,
        }
    }

    /// How it has ended.
    fn status(&mut self, command: &CStr) -> Ended<()> {
        self.has_ended = true;
        // SAFETY: siginfo_t is a plain C struct for which all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = libc::id_t::from(self.child.pid.cast_unsigned());
        let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: the struct is live. The child stays to be reaped.
        system::check(unsafe { libc::waitid(libc::P_PID, id, &raw mut info, how) })
            .map_err(failed("runsc's status"))?;
        // SAFETY: waitid has filled the struct for a child that has ended.
        let status = unsafe { info.si_status() };
        if info.si_code == libc::CLD_EXITED && status == 0 {
            return Ok(());
        }
        while self.messages.is_some() {
            let before = self.kept.len();
            self.read_messages();
            if self.kept.len() == before {
                break;
            }
        }
        let output = std::mem::take(&mut self.kept);
        // A signal as a shell reports it, which no exit status of runsc's own is.
        let status = if info.si_code == libc::CLD_EXITED { status } else { status.saturating_add(KILLED) };
        Err(SnapshotEnd::Runsc { command: command.to_bytes().to_vec(), status, output })
    }
}

/// Whether the sandbox may be paused although `runsc pause` has ended like that. What runsc reports by itself comes before
/// the pause, but for the record that it writes after it.
fn may_be_paused(end: &SnapshotEnd) -> bool {
    match end {
        SnapshotEnd::Runsc { status, output, .. } => {
            let is_unrecorded = output.windows(UNRECORDED.len()).any(|window| window == UNRECORDED);
            *status == GO_FATAL || *status > KILLED || is_unrecorded
        }
        SnapshotEnd::Failed { step, .. } => step != STARTING.as_bytes(),
        _ => true,
    }
}

fn elapsed(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn entry(fd: BorrowedFd<'_>) -> libc::pollfd {
    libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }
}

/// Waits until one of them is ready, or the time is over.
fn poll(set: &mut [libc::pollfd], left: Option<Duration>) -> bool {
    let timeout = super::cut_timeout(-1, left);
    // SAFETY: the slice is live and as long as said.
    unsafe { libc::poll(set.as_mut_ptr(), set.len() as libc::nfds_t, timeout) > 0 }
}
