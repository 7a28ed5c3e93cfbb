//! The helper process of a file operation.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{measure, number, pack, plain, remove, unpack, watch};
use crate::init::programs::become_user;
use crate::init::users;
use crate::system;
use crate::wire::files::{Job, Outcome, Step, Task};

/// Why an operation failed.
#[derive(Debug)]
pub(super) struct Failure {
    step: Step,
    errno: i32,
    /// The path at which it failed, if that is not the operation's own.
    path: Vec<u8>,
}

impl Failure {
    /// A failure with this errno.
    pub(super) fn of(step: Step, errno: i32) -> Self {
        Self { step, errno, path: Vec::new() }
    }

    /// Sets the path.
    pub(super) fn at(mut self, path: &[u8]) -> Self {
        self.path = path.to_vec();
        self
    }

    /// The errno.
    pub(super) fn errno(&self) -> i32 {
        self.errno
    }
}

/// The result of an operation or a part of it.
pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Turns an error into a failure of a step.
pub(super) trait AtStep<T> {
    /// Converts an error to a failure of this step.
    fn at_step(self, step: Step) -> Result<T>;
}

impl<T> AtStep<T> for io::Result<T> {
    fn at_step(self, step: Step) -> Result<T> {
        self.map_err(|error| Failure::of(step, number(&error)))
    }
}

/// How often the library gets a sign of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    /// The socket for the outcome, and the time of the last message on it.
    static PROGRESS: Cell<Option<(RawFd, Instant)>> = const { Cell::new(None) };
}

/// Reports progress, at most once per [`PROGRESS_INTERVAL`], so that the library can tell a slow helper from
/// a stopped one.
pub(super) fn report_progress() {
    let Some((socket, _)) = PROGRESS.get().filter(|(_, last)| last.elapsed() >= PROGRESS_INTERVAL) else {
        return;
    };
    PROGRESS.set(Some((socket, Instant::now())));
    // The format of `Channel`: a message in one packet.
    let packet = [&[0][..], &Outcome::Working.encode()].concat();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the packet is live and as long as said. What can't be said now is said the next time.
    unsafe { libc::send(socket, packet.as_ptr().cast(), packet.len(), flags) };
}

/// Runs the operation, sends its outcome and exits.
pub(super) fn main(task: &Task, socket: OwnedFd, stream: Option<OwnedFd>) -> ! {
    PROGRESS.set(Some((socket.as_raw_fd(), Instant::now())));
    let outcome = match prepare(task, &socket, stream.as_ref()).and_then(|()| work(&task.job, stream)) {
        Ok(outcome) => outcome,
        Err(Failure { step, errno, path }) => Outcome::Failed { step, errno, path },
    };
    super::send(socket, &outcome);
    // SAFETY: _exit takes a number. Nothing of init's is run or flushed.
    unsafe { libc::_exit(0) }
}

/// Gives up everything of init's and changes to the user.
fn prepare(task: &Task, socket: &OwnedFd, stream: Option<&OwnedFd>) -> Result<()> {
    let mut kept: Vec<RawFd> = stream.into_iter().chain([socket]).map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    close_others(&kept).at_step(Step::Start)?;
    // SAFETY: setsid takes nothing.
    unsafe { libc::setsid() };
    // The requested modes are used as they are.
    // SAFETY: umask takes a number.
    unsafe { libc::umask(0) };
    // A walk over a tree keeps one directory open per level.
    raise_limit();
    let identity =
        users::Accounts::default().look_up(&task.user).ok_or(Failure::of(Step::User, libc::ENOENT))?;
    become_user(&identity).map_err(|errno| Failure::of(Step::User, errno))
}

/// Closes all descriptors except the standard streams and these, which are sorted.
fn close_others(kept: &[RawFd]) -> io::Result<()> {
    let mut first = 3;
    for fd in kept.iter().copied().filter(|fd| *fd >= 3) {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, RawFd::MAX)
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    let (first, last) = (first.cast_unsigned(), last.cast_unsigned());
    // SAFETY: close_range takes numbers. The objects of init's that own these descriptors are never dropped:
    // this process ends by _exit.
    system::check(unsafe { libc::close_range(first, last, 0) }).map(|_| ())
}

fn raise_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is live.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Runs the operation. Closes the stream before it returns, so that the library sees its end before the
/// outcome.
fn work(job: &Job, stream: Option<OwnedFd>) -> Result<Outcome> {
    let stream = stream.map(UnixStream::from);
    match (job, stream) {
        (Job::Read { path, offset, limit }, Some(stream)) => plain::read(path, *offset, *limit, stream),
        (Job::Write { path, mode, append, exclusive, parents }, Some(stream)) => {
            let how = plain::How { mode: *mode, append: *append, exclusive: *exclusive, parents: *parents };
            plain::write(path, how, stream)
        }
        (Job::List { path, limit }, Some(stream)) => plain::list(path, *limit, stream),
        (Job::Stat { path, follow }, _) => plain::stat(path, *follow),
        (Job::MakeDirectory { path, mode, parents }, _) => plain::make_directory(path, *mode, *parents),
        (Job::Remove { path, recursive, missing_ok }, _) => remove::remove(path, *recursive, *missing_ok),
        (Job::Rename { from, to, exclusive }, _) => plain::rename(from, to, *exclusive),
        (Job::Pack { path, limit, as_layer }, Some(stream)) => pack::pack(path, *limit, *as_layer, stream),
        (Job::Unpack { path, limit, parents, keep_owner, keep_root }, Some(stream)) => {
            let how = unpack::How { parents: *parents, keep_owner: *keep_owner, keep_root: *keep_root };
            unpack::unpack(path, *limit, how, stream)
        }
        (Job::Measure { limit }, _) => measure::measure(*limit),
        (Job::Watch { path, recursive }, Some(stream)) => watch::watch(path, *recursive, stream),
        _ => Err(Failure::of(Step::Start, libc::EINVAL)),
    }
}
