//! The library's side of the process that converts images.
//!
//! Archives and compressed layers are strangers' bytes. A short-lived, confined process reads them (the keeper's
//! program in another role) and writes one EROFS file. It is assumed to be in an attacker's hands: what it says is
//! bounded and checked, it is killed when it takes too long or says something that it may not, and nothing that it
//! wrote counts before it has ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::Watch;
use super::options::ImageLimits;
pub(crate) use super::wire::{ArchiveEntry, Exported, Limits, Summary, Whiteouts};
use super::wire::{
    Failure, MAX_ARCHIVE_ENTRIES, MAX_ARCHIVE_NAME, MAX_FAILURE_TEXT, Range, Reply, Request, Resources,
};
use crate::error::{Code, Context, Error, Result};
use crate::keeper::Program;
use crate::sys::channel::{self, Channel};
use crate::sys::pidfd;
use crate::sys::spawn::Child;
use crate::sys::wait::any_readable;

/// How long the process may take to confine itself.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may work on one image, whatever its progress.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(4 * 3600);
/// How long it may be silent. It reports progress several times a second while it reads or writes.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often the caller's flag is looked at.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);
/// The least time between two calls of the caller's progress function.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// The messages that it may send for a request, beside so many a second.
const MAX_MESSAGES: u64 = 64;
const MAX_MESSAGES_PER_SECOND: u64 = 32;
/// How long to wait for the process after SIGKILL.
const KILLED_GRACE: Duration = Duration::from_secs(5);

/// Its processor time. A sixth of it unpacks 16 GiB on a slow machine.
const CPU_SECONDS: u64 = 2 * 3600;
/// What it maps beside the metadata: its own code, stack, and buffers of the decompressors.
const FIXED_MEMORY: u64 = 256 * 1024 * 1024;
/// How much its files may be larger than an image.
const FILE_MARGIN: u64 = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        ImageLimits::default().into()
    }
}

impl Limits {
    /// Refuses layers that are larger than an image may be, before anything is downloaded or unpacked.
    pub(super) fn check_compressed(&self, bytes: u64) -> Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let text = format!("the layers have {bytes} bytes; the limit of an image is {}", self.bytes);
        Err(Error::new(Code::Limit, text))
    }

    /// The limits of the process, a little above its own: what it says of an image that exceeds those is the better
    /// error.
    fn resources(&self) -> Resources {
        Resources {
            cpu_seconds: CPU_SECONDS,
            address_space: self.memory.saturating_mul(2).saturating_add(FIXED_MEMORY),
            file_size: self.bytes.saturating_add(FILE_MARGIN),
        }
    }
}

/// A layer's bytes: all that can be read from the descriptor from where it stands, or a part of a file.
#[derive(Debug)]
pub(crate) struct LayerInput {
    /// The file or pipe.
    pub(crate) fd: OwnedFd,
    /// Offset and length of the part.
    pub(crate) range: Option<(u64, u64)>,
}

/// The process. It is killed and reaped on drop, and ends with the thread that started it.
#[derive(Debug)]
pub(crate) struct Helper {
    channel: Channel,
    child: Child,
    resources: Resources,
    deadline: Instant,
    /// Whether it has empty namespaces beside its filter of system calls.
    isolated: bool,
    /// The digests that the layers must have.
    diff_ids: Vec<Option<[u8; 32]>>,
}

impl Helper {
    /// Starts the process. It writes `output`, a file open for reading and writing, and confines itself before this returns.
    pub(crate) fn start(program: &Program, output: OwnedFd, limits: &Limits) -> Result<Self> {
        Self::start_with(program, output, limits, limits.resources())
    }

    fn start_with(program: &Program, output: OwnedFd, limits: &Limits, resources: Resources) -> Result<Self> {
        let (ours, theirs) = channel::pair().context("socket pair for the image helper")?;
        let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
        let host = pidfd::of_this_thread().context("pidfd_open of the own thread")?;
        let null = null.as_fd();
        let child = program
            .start(c"sbx-image", &[null, null, null, theirs.as_fd(), output.as_fd(), host.as_fd()])
            .context("starting the image helper")?;
        let mut helper = Self {
            channel: Channel::new(ours),
            child,
            resources,
            deadline: Instant::now() + START_TIMEOUT,
            isolated: false,
            diff_ids: Vec::new(),
        };
        drop((theirs, output));
        let setup = Request::Setup { limits: *limits, resources };
        let never = AtomicBool::new(false);
        let mut watch = Watch { cancelled: &never, progress: &mut |_| () };
        helper.isolated = helper.step(&setup, Vec::new(), &mut watch, |reply| match reply {
            Reply::Ready { isolated } => Some(Ok(Some(isolated))),
            _ => None,
        })?;
        helper.deadline = Instant::now() + TOTAL_TIMEOUT;
        Ok(helper)
    }

    /// Takes an image of the store as the lowest layer.
    pub(crate) fn base(&mut self, image: OwnedFd, watch: &mut Watch<'_>) -> Result<()> {
        self.step(&Request::Base, vec![image], watch, done)
    }

    /// Applies the next layer on those before.
    pub(crate) fn layer(
        &mut self,
        input: LayerInput,
        diff_id: Option<[u8; 32]>,
        whiteouts: Whiteouts,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let range = input.range.map(|(offset, length)| Range { offset, length });
        self.step(&Request::Layer { range, diff_id, whiteouts }, vec![input.fd], watch, done)?;
        self.diff_ids.push(diff_id);
        Ok(())
    }

    /// Lists the entries of a tar archive, an uncompressed file, without the directories.
    pub(crate) fn index(
        &mut self,
        archive: BorrowedFd<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<ArchiveEntry>> {
        let file = File::from(archive.try_clone_to_owned().context("a descriptor for the image helper")?);
        let size = file.metadata().context("the image's archive")?.len();
        let mut all = Vec::new();
        self.step(&Request::Index, vec![file.into()], watch, move |reply| match reply {
            Reply::Entries { entries, last } => {
                let total = entries.len() + all.len();
                if total > MAX_ARCHIVE_ENTRIES || !entries.iter().all(|entry| may_be_in(entry, size)) {
                    return None;
                }
                all.extend(entries);
                Some(Ok(last.then(|| std::mem::take(&mut all))))
            }
            _ => None,
        })
    }

    /// Decompresses a file (gzip or zstd) into another one, which is empty; returns the length.
    pub(crate) fn inflate(&mut self, input: OwnedFd, into: OwnedFd, watch: &mut Watch<'_>) -> Result<u64> {
        let most = self.resources.file_size;
        self.step(&Request::Inflate, vec![input, into], watch, |reply| match reply {
            Reply::Inflated { bytes } if bytes <= most => Some(Ok(Some(bytes))),
            _ => None,
        })
    }

    /// Whether the layers so far have a directory at this path.
    pub(crate) fn has_directory(&mut self, path: &[u8], watch: &mut Watch<'_>) -> Result<bool> {
        self.step(&Request::FindDirectory { path: path.to_vec() }, Vec::new(), watch, |reply| match reply {
            Reply::Directory { found } => Some(Ok(Some(found))),
            _ => None,
        })
    }

    /// Writes the tree of an image of the store to a stream, as a tar archive.
    pub(crate) fn export(
        &mut self,
        image: OwnedFd,
        archive: OwnedFd,
        watch: &mut Watch<'_>,
    ) -> Result<Exported> {
        self.step(&Request::Export, vec![image, archive], watch, |reply| match reply {
            Reply::Exported(exported) => Some(Ok(Some(exported))),
            _ => None,
        })
    }

    /// Completes the image's file. When this returns the process has ended, and nothing else writes to the file.
    pub(crate) fn finish(self, watch: &mut Watch<'_>) -> Result<Summary> {
        self.finish_as(true, watch)
    }

    /// The same for an image that may not be a root file system: it has nothing but what its layers have.
    pub(crate) fn finish_as_it_is(self, watch: &mut Watch<'_>) -> Result<Summary> {
        self.finish_as(false, watch)
    }

    fn finish_as(mut self, is_root: bool, watch: &mut Watch<'_>) -> Result<Summary> {
        let (diff_ids, most) = (std::mem::take(&mut self.diff_ids), self.resources.file_size);
        let summary = self.step(&Request::Finish { is_root }, Vec::new(), watch, |reply| match reply {
            Reply::Finished(summary) => {
                let same = |(want, is): (&Option<[u8; 32]>, &[u8; 32])| want.is_none_or(|want| want == *is);
                let complete = summary.diff_ids.len() == diff_ids.len()
                    && diff_ids.iter().zip(&summary.diff_ids).all(same)
                    && summary.bytes <= most;
                complete.then_some(Ok(Some(summary)))
            }
            _ => None,
        })?;
        match self.end() {
            true => Ok(summary),
            false => Err(super::error("the image helper can't be killed, so its file isn't complete")),
        }
    }

    /// Whether the process has empty namespaces beside its filter of system calls.
    #[cfg_attr(not(test), allow(dead_code, reason = "asked by its tests"))]
    pub(crate) fn is_isolated(&self) -> bool {
        self.isolated
    }

    /// Its process id.
    #[cfg(test)]
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Sends a request and waits for its end. `accept` gets each reply but progress and failure: `None` if it isn't one
    /// that may come, `Ok(None)` if more have to follow.
    fn step<T>(
        &mut self,
        request: &Request,
        fds: Vec<OwnedFd>,
        watch: &mut Watch<'_>,
        mut accept: impl FnMut(Reply) -> Option<Result<Option<T>>>,
    ) -> Result<T> {
        self.channel.send(&request.encode(), fds).map_err(|error| match error.kind() {
            // What it said before it ended is the better reason, but here it was idle.
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.death(),
            _ => Error::system("writing to the image helper", &error),
        })?;
        let begin = Instant::now();
        let (mut heard, mut shown, mut messages, mut ended) = (begin, begin, 0_u64, false);
        loop {
            if watch.cancelled.load(Ordering::Relaxed) {
                return Err(Error::new(Code::Closed, "the image: it was cancelled"));
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Err(super::error("reading the image took too long"));
            }
            if now.saturating_duration_since(heard) >= SILENCE_TIMEOUT {
                let seconds = SILENCE_TIMEOUT.as_secs();
                return Err(super::error(format!("reading the image made no progress for {seconds} s")));
            }
            let Some(reply) = self.receive()? else {
                if ended {
                    // Without an end of the channel: a forked child of the host may hold the other end.
                    return Err(self.death());
                }
                let until = self.deadline.min(now + CANCEL_INTERVAL);
                let ready = any_readable(&[self.channel.as_fd(), self.child.pidfd.as_fd()], until)
                    .context("waiting for the image helper")?;
                // What it said before it ended is read first.
                ended = ready.is_some_and(|ready| ready.get(1).copied().unwrap_or(false));
                if self.channel.wants_write() {
                    self.channel.flush().map_err(|_| self.death())?;
                }
                continue;
            };
            heard = now;
            messages += 1;
            let seconds = now.saturating_duration_since(begin).as_secs();
            if messages > MAX_MESSAGES.saturating_add(seconds.saturating_mul(MAX_MESSAGES_PER_SECOND)) {
                return Err(broke_the_rules("it sends too much"));
            }
            match reply {
                Reply::Progress { bytes } => {
                    if now.saturating_duration_since(shown) >= PROGRESS_INTERVAL {
                        shown = now;
                        (watch.progress)(bytes);
                    }
                }
                Reply::Failed { failure, errno, text } => {
                    return Err(self.failed(failure, errno, &text));
                }
                reply => match accept(reply) {
                    None => return Err(broke_the_rules("it sent something else than it should")),
                    Some(outcome) => {
                        if let Some(value) = outcome? {
                            return Ok(value);
                        }
                    }
                },
            }
        }
    }

    /// The next reply, if there is one.
    fn receive(&mut self) -> Result<Option<Reply>> {
        match self.channel.receive() {
            Ok(message) if !message.fds.is_empty() || message.truncated => {
                Err(broke_the_rules("it sent descriptors"))
            }
            Ok(message) => match Reply::decode(&message.bytes) {
                Ok(reply) => Ok(Some(reply)),
                Err(_) => Err(broke_the_rules("it sent something malformed")),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.death()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(broke_the_rules("it sent something malformed"))
            }
            Err(error) => Err(Error::system("reading from the image helper", &error)),
        }
    }

    /// What the process reports, in the user's words.
    fn failed(&self, failure: Failure, errno: i32, text: &[u8]) -> Error {
        let text = printable(text);
        match (failure, errno) {
            (Failure::Malformed | Failure::Digest, _) => super::error(text),
            (Failure::Limit, _) => Error::new(Code::Limit, text),
            (Failure::System, libc::EFBIG) => {
                let most = self.resources.file_size;
                let text =
                    format!("the image's file would be larger than {most} bytes, or than RLIMIT_FSIZE");
                Error::new(Code::Limit, text)
            }
            (Failure::System, errno) => {
                // A number that is none must not become another error's.
                let cause = io::Error::from_raw_os_error(errno.clamp(1, 4095));
                Error::system(format!("converting the image: {text}"), &cause)
            }
            (Failure::Internal, _) => {
                super::error(format!("the image helper failed at {text}: a bug in libsbx"))
            }
        }
    }

    /// Why the process ended without a word.
    fn death(&self) -> Error {
        if !pidfd::has_ended(self.child.pidfd.as_fd(), KILLED_GRACE) {
            return broke_the_rules("it closed its channel");
        }
        let status = waitid(Id::PIDFd(self.child.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        super::error(format!("the image helper ended: {}", self.reason(status)))
    }

    fn reason(&self, status: nix::Result<WaitStatus>) -> String {
        let Resources { cpu_seconds, address_space, file_size } = self.resources;
        match status {
            Ok(WaitStatus::Exited(_, code)) => format!("exit code {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => match signal {
                Signal::SIGSYS => {
                    "it tried a system call that is forbidden to it (SIGSYS): the image may be an \
                                   attack"
                        .to_owned()
                }
                Signal::SIGXCPU => format!("the image took more than {cpu_seconds} s of processor time"),
                Signal::SIGXFSZ => format!("the image's file would be larger than {file_size} bytes"),
                Signal::SIGABRT => format!("the image took more memory than {} MiB", address_space >> 20),
                Signal::SIGKILL => "it was killed (SIGKILL); the machine may be out of memory".to_owned(),
                other => format!("it crashed ({other}): the image may be an attack"),
            },
            // ECHILD: the host ignores SIGCHLD or reaps every child.
            _ => "the reason was lost to the host's own handling of SIGCHLD".to_owned(),
        }
    }

    /// Kills and reaps the process; returns whether it is gone.
    fn end(&self) -> bool {
        let process = self.child.pidfd.as_fd();
        if let Err(error) = pidfd::signal(process, libc::SIGKILL) {
            log::error!("the image helper {} can't be killed: {error}", self.child.pid);
        }
        let ended = pidfd::has_ended(process, KILLED_GRACE);
        pidfd::reap(process);
        ended
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.end();
    }
}

fn done(reply: Reply) -> Option<Result<Option<()>>> {
    matches!(reply, Reply::Done).then_some(Ok(Some(())))
}

/// Whether an archive of this size can have the entry.
fn may_be_in(entry: &ArchiveEntry, size: u64) -> bool {
    let end = entry.offset.checked_add(entry.length);
    let longest = entry.link.as_ref().map_or(0, Vec::len).max(entry.name.len());
    longest <= MAX_ARCHIVE_NAME && (entry.length == 0 || end.is_some_and(|end| end <= size))
}

fn broke_the_rules(what: &str) -> Error {
    super::error(format!("the image helper broke the rules: {what}; the image may be an attack"))
}

/// A text of the process without control characters, and not longer than it may be.
fn printable(text: &[u8]) -> String {
    let text = text.get(..MAX_FAILURE_TEXT).unwrap_or(text);
    let text = String::from_utf8_lossy(text);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests;
