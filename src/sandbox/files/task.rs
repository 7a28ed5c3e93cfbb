//! An operation in the control thread's hands.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::entry::{FileInfo, FileTotals};
use super::errors;
use super::operation::{Answer, Progress};
use super::pump::{Left, Pump};
use super::request::{self, FileOptions, FileRequest, StreamUse};
use super::stall::{Held, Stall, USUAL};
use crate::error::{Code, Context, Error, Result};
use crate::event::{EventKind, EventRecord, Queue, queue};
use crate::keeper::wire::files::{Job, MAX_MESSAGE, Outcome, Task};
use crate::keeper::wire::init::User;
use crate::sandbox::{Shared, State};
use crate::sys::channel::{self, Channel};
use crate::sys::socket::{Family, Socket};

/// Numbers operations, for all runtimes of the process.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// How many messages of a helper are heard before the others get their turn.
const HEARD: usize = 16;

/// What init is to be sent.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) task: Task,
    pub(crate) fds: Vec<OwnedFd>,
}

/// An operation that goes on. Dropped before its end it has ended with an error: none is ever lost.
#[derive(Debug)]
pub(crate) struct FileTask {
    number: u64,
    shared: Arc<Shared>,
    order: Option<Order>,
    /// Whether the answer is what a path is.
    asks_what_it_is: bool,
    is_use: bool,
    at_exit: bool,
    timeout: Option<Duration>,
    stall: Option<Stall>,
    channel: Channel,
    pump: Option<Pump>,
    /// A copy of the sandbox's end of the stream that the host moves itself.
    held: Option<Held>,
    /// How often the helper has said that it works.
    works: u64,
    /// Closed when it ends: who moves its bytes in a thread of the host's waits for that, too, whatever the helper
    /// does with its end of the stream.
    done_pipe: Option<io::PipeWriter>,
    outcome: Option<Outcome>,
    /// The helper has closed its socket: it has ended.
    left: bool,
    progress: Arc<Progress>,
    sender: Option<queue::Sender>,
}

/// What an operation needs next.
#[derive(Debug)]
pub(super) enum Next {
    /// To be woken when something moves.
    Wait,
    /// Another turn.
    Again,
    /// Nothing: it has ended.
    Over(Result<Answer>),
}

impl FileTask {
    /// Prepares an operation; with a queue, its end is an event there.
    pub(super) fn prepare(
        shared: &Arc<Shared>,
        request: FileRequest,
        options: &FileOptions,
        events: Option<(&Queue, u64)>,
    ) -> Result<Self> {
        let title = format!("{} in sandbox {}", request.title(), shared.id);
        let (mut task, purpose) = request.task(options)?;
        task.user.of_image = shared.config.image().is_some();
        Self::new(shared, title, (task, purpose), options, events)
    }

    /// Prepares to count what has changed in the root file system, in which no file may have more than `limit` bytes.
    /// `at_exit` says that it is for the exit snapshot.
    pub(super) fn measure(shared: &Arc<Shared>, limit: u64, at_exit: bool) -> Result<Self> {
        let title = format!("measuring the changes in sandbox {}", shared.id);
        let task = Task { user: User::default(), job: Job::Measure { limit } };
        let mut task = Self::new(shared, title, (task, StreamUse::None), &FileOptions::default(), None)?;
        task.at_exit = at_exit;
        Ok(task)
    }

    /// Prepares to write a directory to a stream as a layer of an image, with at most so many bytes of files.
    pub(super) fn pack_layer(shared: &Arc<Shared>, path: &Path, limit: u64, time: Duration) -> Result<Self> {
        let title = format!("reading {path:?} in sandbox {}", shared.id);
        let job = Job::Pack { path: request::bytes(path)?, limit, as_layer: true };
        Self::of_root(shared, title, job, time)
    }

    /// Prepares to make a directory of what an image's archive on a stream has.
    pub(super) fn unpack_image(
        shared: &Arc<Shared>,
        path: &Path,
        limit: u64,
        time: Duration,
    ) -> Result<Self> {
        let title = format!("copying an image to {path:?} in sandbox {}", shared.id);
        let path = request::bytes(path)?;
        let job = Job::Unpack { path, limit, parents: true, keep_owner: true, keep_root: true };
        Self::of_root(shared, title, job, time)
    }

    fn of_root(shared: &Arc<Shared>, title: String, job: Job, time: Duration) -> Result<Self> {
        let task = Task { user: User::default(), job };
        let options = FileOptions::new().time_limit(time);
        Self::new(shared, title, (task, StreamUse::Host), &options, None)
    }

    fn new(
        shared: &Arc<Shared>,
        title: String,
        (task, purpose): (Task, StreamUse),
        options: &FileOptions,
        events: Option<(&Queue, u64)>,
    ) -> Result<Self> {
        let asks_what_it_is = matches!(task.job, Job::Stat { .. });
        let sender = events.map(|(queue, cookie)| queue.sender_of_one(cookie)).transpose()?;
        let (ours, theirs) = channel::pair().context("a socket pair for an operation")?;
        let is_use = !matches!(task.job, Job::Watch { .. });
        let mut fds = vec![theirs];
        let (mut stream, mut held) = (None, None);
        let comes = matches!(task.job, Job::Read { .. } | Job::Pack { .. });
        if purpose != StreamUse::None {
            let (near, far) = UnixStream::pair().context("a socket pair for an operation's stream")?;
            near.set_nonblocking(true).context("a socket pair for an operation's stream")?;
            if purpose == StreamUse::Host {
                let copy = far.try_clone().context("a copy of an operation's stream")?;
                held = Some(Held::new(Socket::new(copy.into(), Family::Unix), comes));
            }
            fds.push(far.into());
            stream = Some(OwnedFd::from(near));
        }
        let (pump, host) = match purpose {
            StreamUse::Host => (None, stream),
            purpose => (stream.and_then(|fd| Pump::new(Socket::new(fd, Family::Unix), purpose)), None),
        };
        let stall =
            Some(options.progress_timeout.unwrap_or(USUAL)).filter(|limit| is_use && *limit != Duration::MAX);
        Ok(Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            shared: Arc::clone(shared),
            order: Some(Order { task, fds }),
            asks_what_it_is,
            is_use,
            at_exit: false,
            timeout: options.time_limit,
            stall: stall.map(Stall::new),
            channel: Channel::with_limit(ours, MAX_MESSAGE),
            pump,
            held,
            works: 0,
            done_pipe: None,
            outcome: None,
            left: false,
            progress: Arc::new(Progress::new(title, host)),
            sender,
        })
    }

    /// What ends when it does.
    pub(super) fn done_pipe(&mut self) -> Result<io::PipeReader> {
        let (reader, writer) = io::pipe().context("a pipe for an operation's end")?;
        self.done_pipe = Some(writer);
        Ok(reader)
    }

    /// Its own number, never used twice.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The number of its sandbox.
    pub(crate) fn sandbox(&self) -> u64 {
        self.shared.number
    }

    /// What the host's threads see of it.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// What init is to be sent, once.
    pub(crate) fn order(&mut self) -> Option<Order> {
        self.order.take()
    }

    /// When to give up.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// When it is to be looked whether anything moves.
    pub(super) fn next_look(&mut self, now: Instant) -> Option<Instant> {
        self.stall.as_mut()?.next(now)
    }

    /// A look at whether anything moves: the error if nothing has for too long.
    pub(super) fn look(&mut self, now: Instant) -> Option<Error> {
        let moved = self.works + self.pump.as_ref().map_or(0, Pump::moved);
        let host_is_to_move = self.held.as_ref().is_some_and(Held::host_is_to_move);
        let stall = self.stall.as_mut()?;
        if !stall.look(now, moved, host_is_to_move) {
            return None;
        }
        let allowed = stall.limit().as_millis();
        let text = format!("{}: nothing has moved in the sandbox for {allowed} ms", self.progress.title);
        Some(Error::new(Code::TimedOut, text))
    }

    /// Whether it is use of the sandbox: a watch only waits for what others do.
    pub(crate) fn is_use(&self) -> bool {
        self.is_use
    }

    /// Whether it is for the exit snapshot, and so for a sandbox whose programs were killed.
    pub(crate) fn is_at_exit(&self) -> bool {
        self.at_exit
    }

    /// Whether its helper may still run.
    pub(super) fn helper_may_run(&self) -> bool {
        !self.left
    }

    /// The descriptors to be watched.
    pub(super) fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        (self.channel.as_fd(), self.pump.as_ref().map(AsFd::as_fd))
    }

    /// Something has moved, or may have.
    pub(super) fn go_on(&mut self) -> Next {
        match self.try_to_go_on() {
            Ok(next) => next,
            Err(error) => Next::Over(Err(error)),
        }
    }

    fn try_to_go_on(&mut self) -> Result<Next> {
        let chatters = self.hear()?;
        if let Some(Outcome::Failed { step, errno, path }) = &self.outcome {
            return Err(errors::failed(&self.progress.title, *step, *errno, path.clone()));
        }
        let (progress, sender) = (Arc::clone(&self.progress), &self.sender);
        let notify = || sender.as_ref().and_then(|sender| sender.send(EventKind::FileChanged, |_| ()));
        let titled = |error: Error| error.context(&progress.title);
        let left = match &mut self.pump {
            Some(pump) => pump.go_on(&progress, notify).map_err(titled)?,
            None => Left::Over,
        };
        let brings = self.pump.as_ref().is_some_and(Pump::brings_the_answer);
        match (&self.outcome, left) {
            (None, _) if self.left => Err(self.without_answer()),
            (_, Left::More) => Ok(Next::Again),
            (None, _) if chatters => Ok(Next::Again),
            (None, _) => Ok(Next::Wait),
            (Some(_), Left::Waiting | Left::Full) if brings => Ok(Next::Wait),
            (Some(outcome), _) => Ok(Next::Over(self.answer(outcome.clone()).map_err(titled))),
        }
    }

    /// What the helper says: one thing, and then it ends. Before that it may say that it works, and whether it says
    /// that more often than is heard in a turn is returned.
    fn hear(&mut self) -> Result<bool> {
        let malformed = || {
            let message = format!("{}: the sandbox sent something malformed", self.progress.title);
            Error::new(Code::Engine, message)
        };
        for _ in 0..HEARD {
            if self.left {
                break;
            }
            match self.channel.receive() {
                Ok(message) => {
                    let whole = message.fds.is_empty() && !message.truncated && self.outcome.is_none();
                    let fits = |outcome: &Outcome| match outcome {
                        Outcome::Is(_) => self.asks_what_it_is,
                        Outcome::Done(_) => !self.asks_what_it_is,
                        Outcome::Failed { .. } | Outcome::Working => true,
                    };
                    let outcome =
                        Outcome::decode(&message.bytes).ok().filter(|outcome| whole && fits(outcome));
                    match outcome.ok_or_else(malformed)? {
                        Outcome::Working => self.works += 1,
                        outcome => self.outcome = Some(outcome),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.left = true,
                Err(_) => return Err(malformed()),
            }
        }
        Ok(!self.left)
    }

    fn without_answer(&self) -> Error {
        let title = &self.progress.title;
        if !self.at_exit && self.shared.facts().state > State::Running {
            return self.ended();
        }
        Error::new(Code::Engine, format!("{title}: the helper in the sandbox ended without an answer"))
    }

    /// Its sandbox has ended.
    pub(crate) fn ended(&self) -> Error {
        self.shared.ended().context(&self.progress.title)
    }

    /// There are no descriptors for it.
    pub(crate) fn fd_limit_error(&self) -> Error {
        Error::no_descriptors("it", "wait").context(&self.progress.title)
    }

    /// The host doesn't want it any more.
    pub(super) fn cancelled(&self) -> Error {
        Error::new(Code::Closed, format!("{}: it was cancelled", self.progress.title))
    }

    /// It took too long.
    pub(super) fn late(&self) -> Error {
        let allowed = self.timeout.unwrap_or_default().as_millis();
        Error::new(Code::TimedOut, format!("{} did not end within {allowed} ms", self.progress.title))
    }

    fn answer(&mut self, outcome: Outcome) -> Result<Answer> {
        let mut answer = Answer::default();
        match outcome {
            Outcome::Done(totals) => answer.totals = FileTotals::from(totals),
            Outcome::Is(entry) => answer.info = Some(FileInfo::new(&entry.stat, entry.target)),
            Outcome::Failed { .. } | Outcome::Working => {
                debug_assert!(false, "a failure is returned before, and work that goes on is no outcome");
            }
        }
        if let Some(pump) = self.pump.take() {
            pump.check_end()?;
            (answer.bytes, answer.entries) = pump.take();
        }
        Ok(answer)
    }

    /// It has ended: its descriptors go first, then the host is told.
    pub(super) fn finish(mut self, result: Result<Answer>) {
        drop((self.done_pipe.take(), self.held.take()));
        self.over(result);
    }

    /// The host is told of the end; the first word counts.
    fn over(&self, result: Result<Answer>) {
        let outcome = result.as_ref().map(|answer| answer.totals.bytes).map_err(Clone::clone);
        self.progress.finish(result, || {
            let fill = |event: &mut EventRecord| match &outcome {
                Ok(bytes) => event.value = [*bytes; 2],
                Err(error) => event.set_failure(error),
            };
            self.sender.as_ref().and_then(|sender| sender.send(EventKind::OperationDone, fill))
        });
    }
}

impl Drop for FileTask {
    fn drop(&mut self) {
        let message = format!("{}: the runtime was shut down", self.progress.title);
        self.over(Err(Error::new(Code::Closed, message)));
    }
}
