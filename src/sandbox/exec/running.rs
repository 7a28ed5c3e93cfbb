//! Executed programs, as the control thread keeps them.
//!
//! Init is asked for a few at a time only: what it has not taken yet costs memory and descriptors here, and the
//! kernel bounds the descriptors that are under way between processes. How a program ended is reported when all that
//! it had written into its captures is in them.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::launch::{Launch, Order, Parts};
use super::record::Record;
use crate::error::{Code, Error, Result};
use crate::keeper::wire::init::{Request, Step, Window};
use crate::process::{CaptureProgress, CaptureReader};
use crate::reactor::{FdPermit, FdSlot, Key, Reactor, Slab, TimerId};
use crate::sandbox::init_link::{InitLink, register};
use crate::sandbox::lifecycle::Tickets;
use crate::sandbox::liveness::{SILENCE, Watched};
use crate::sandbox::{Exit, ExitReason, Shared, errors};

/// The most programs of one sandbox at once.
const MAX_EXECS: usize = 4096;
/// The most that init is asked for and has not answered.
const MAX_ASKED: usize = 16;
/// The same in bytes of requests, well below what its channel holds back.
const MAX_ASKED_BYTES: usize = 512 * 1024;
/// The most requests that wait for a program that has not been asked for yet.
const MAX_REQUESTS: usize = 64;
/// How long init may take to start a program. Far beyond what it takes.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long init may take to report the end of a program that was killed because its time is over, while the library is
/// there to read it. Then init is stopped, or lies, and the program may go on: the sandbox ends. One that the host kills
/// has as long as any other request. Init looks at all processes for two seconds at most before it kills what it has
/// found.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);
/// How often that is checked.
const EXIT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How far one is.
#[derive(Debug)]
enum Stage {
    /// Init is yet to be asked; with the requests that follow.
    Waiting(Order, Vec<ProgramRequest>),
    /// Init was asked; the size of the request.
    Asked(usize),
    Running,
    /// It was killed, because its time is over or by the host, and its end is not known yet.
    Killed {
        watched: Watched,
        late: bool,
    },
    /// Reported; another process may still write into the captures.
    Ended,
}

/// What the host asks of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ProgramRequest {
    /// A signal to its process group.
    Signal(i32),
    /// Another size of its terminal.
    Resize(Window),
}

impl ProgramRequest {
    fn to_init(self, id: u32) -> Request {
        match self {
            Self::Signal(signal) => Request::Signal { id, signal, group: true },
            Self::Resize(window) => Request::Resize { id, window },
        }
    }
}

/// One executed program.
#[derive(Debug)]
pub(crate) struct Executed {
    /// The sandbox's number.
    pub(crate) sandbox: u64,
    record: Arc<Record>,
    /// Init's number for it.
    id: u32,
    /// Who it runs as, for messages.
    user: String,
    stage: Stage,
    captures: [Option<CaptureReader>; 2],
    timeout: Option<Duration>,
    timer: Option<TimerId>,
    began: Option<Instant>,
    _permit: Option<FdPermit>,
}

impl Executed {
    /// Reads what is there of a capture. True once nothing of the program is left.
    pub(crate) fn read(&mut self, reactor: &mut Reactor, key: Key, slot: FdSlot) -> bool {
        let [out, err] = &mut self.captures;
        let place = if slot == FdSlot::First { out } else { err };
        if let Some(capture) = place {
            match capture.read() {
                CaptureProgress::Drained => {}
                CaptureProgress::More => reactor.reschedule(key),
                CaptureProgress::Ended => {
                    reactor.deregister(capture.as_fd());
                    *place = None;
                }
            }
        }
        self.is_over()
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended) && self.captures.iter().all(Option::is_none)
    }

    /// It is being killed, and its end is waited for.
    fn killed(&mut self, reactor: &mut Reactor, key: Key, late: bool) {
        if let Some(timer) = self.timer.take() {
            reactor.cancel(timer);
        }
        let mut watched = Watched::default();
        self.timer =
            watched.look_after(reactor.now(), EXIT_CHECK_INTERVAL).map(|at| reactor.schedule(at, key));
        self.stage = Stage::Killed { watched, late };
    }

    /// Reads what it has written so far, since its end is reported next.
    fn take_output(&mut self, reactor: &mut Reactor, key: Key) {
        // A pipe holds 64 KiB unless its maker says otherwise, and one reading takes twice that.
        self.read(reactor, key, FdSlot::First);
        self.read(reactor, key, FdSlot::Second);
    }
}

/// The programs of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    /// By the host's numbers.
    numbers: HashMap<u64, Key>,
    /// By init's numbers, of those that init was asked for.
    ids: HashMap<u32, (u64, Key)>,
    waiting: VecDeque<u64>,
    asked: usize,
    asked_bytes: usize,
    /// Whether the first has come or the last has gone, until the driver takes that.
    has_changed: bool,
}

/// What programs are executed with. Open fields: the driver lends its own for one call.
#[derive(Debug)]
pub(crate) struct ExecCx<'a> {
    pub(in crate::sandbox) reactor: &'a mut Reactor,
    pub(in crate::sandbox) processes: &'a mut Slab<Executed>,
    pub(in crate::sandbox) init: &'a mut InitLink,
    pub(in crate::sandbox) tickets: &'a mut Tickets,
}

impl Execs {
    /// Whether none runs or is being started.
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether init's number is of one of these.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.ids.contains_key(&id)
    }

    /// Whether the first has come or the last has gone since this was last asked.
    pub(crate) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// Executes a program, if the sandbox `accepts` one. A launch that is dropped reports that it can't be.
    pub(crate) fn execute(
        &mut self,
        cx: &mut ExecCx<'_>,
        sandbox: u64,
        accepts: bool,
        number: u64,
        launch: Launch,
    ) {
        if !accepts {
            // The host has asked before it could know of the end.
            return;
        }
        let Some(Parts { record, order, captures, timeout, permit }) = launch.take() else {
            debug_assert!(false, "a launch is executed once");
            return;
        };
        if self.numbers.len() >= MAX_EXECS {
            let text = format!(
                "{}: {MAX_EXECS} programs of this sandbox run already, which is the limit",
                record.what
            );
            return record.end(Err(Error::new(Code::Limit, text)));
        }
        let program = Executed {
            sandbox,
            record,
            id: 0,
            user: order.start.user.to_string(),
            stage: Stage::Waiting(order, Vec::new()),
            captures,
            timeout,
            timer: None,
            began: None,
            _permit: Some(permit),
        };
        let key = cx.processes.insert(program);
        cx.reactor.join(key, sandbox);
        self.has_changed |= self.numbers.is_empty();
        self.numbers.insert(number, key);
        if let Err(error) = watch(cx, key) {
            return self.finish(cx, number, key, Err(error));
        }
        self.waiting.push_back(number);
        self.ask_next(cx);
    }

    /// Forwards a host request to a program; ignored once it has exited.
    pub(crate) fn request(&mut self, cx: &mut ExecCx<'_>, number: u64, what: ProgramRequest) {
        // The program has exited before the host could know.
        let Some(key) = self.numbers.get(&number).copied() else { return };
        let Some(program) = cx.processes.get_mut(key) else {
            debug_assert!(false, "a program that has a number is in the table");
            return;
        };
        match &mut program.stage {
            Stage::Waiting(_, requests) if requests.len() < MAX_REQUESTS => requests.push(what),
            Stage::Asked(..) | Stage::Running => {
                let request = what.to_init(program.id);
                if matches!((&program.stage, what), (Stage::Running, ProgramRequest::Signal(libc::SIGKILL))) {
                    program.killed(cx.reactor, key, false);
                }
                cx.init.ask(cx.reactor, &request);
            }
            Stage::Waiting(..) | Stage::Killed { .. } | Stage::Ended => {}
        }
    }

    /// Sends all programs a signal: the host stops a sandbox that has no other.
    pub(crate) fn signal_all(&mut self, cx: &mut ExecCx<'_>, signal: i32) {
        for number in self.numbers.keys().copied().collect::<Vec<_>>() {
            self.request(cx, number, ProgramRequest::Signal(signal));
        }
    }

    /// Asks init for the next programs, as many as may be under way.
    fn ask_next(&mut self, cx: &mut ExecCx<'_>) {
        while self.asked < MAX_ASKED && self.asked_bytes < MAX_ASKED_BYTES {
            let Some(number) = self.waiting.pop_front() else { return };
            // One that waited may have been finished meanwhile.
            let Some(key) = self.numbers.get(&number).copied() else { continue };
            let Some(program) = cx.processes.get_mut(key) else { continue };
            let id = cx.tickets.next();
            let stage = std::mem::replace(&mut program.stage, Stage::Running);
            let Stage::Waiting(Order { mut start, theirs, permit }, requests) = stage else {
                debug_assert!(false, "a program that init was asked for doesn't wait");
                program.stage = stage;
                continue;
            };
            let size = start.size();
            start.id = id;
            program.id = id;
            program.stage = Stage::Asked(size);
            program.timer = schedule(cx.reactor, key, START_TIMEOUT);
            self.ids.insert(id, (number, key));
            self.asked += 1;
            self.asked_bytes += size;
            cx.init.give(cx.reactor, &Request::Start(start), theirs, Some(permit));
            for what in requests {
                cx.init.ask(cx.reactor, &what.to_init(id));
            }
        }
    }

    /// Init has started one.
    pub(crate) fn on_started(&mut self, cx: &mut ExecCx<'_>, id: u32) {
        // Init is hostile and may name any program.
        let Some((_, key)) = self.ids.get(&id).copied() else { return };
        let Some(program) = cx.processes.get_mut(key) else { return };
        if let Stage::Asked(size) = program.stage {
            program.stage = Stage::Running;
            program.began = Some(cx.reactor.now());
            if let Some(timer) = program.timer.take() {
                cx.reactor.cancel(timer);
            }
            program.timer = program.timeout.and_then(|timeout| schedule(cx.reactor, key, timeout));
            program.record.started();
            self.on_answer(cx, size);
        }
    }

    fn on_answer(&mut self, cx: &mut ExecCx<'_>, size: usize) {
        self.asked = self.asked.saturating_sub(1);
        self.asked_bytes = self.asked_bytes.saturating_sub(size);
        self.ask_next(cx);
    }

    /// Init could not start one.
    pub(crate) fn on_refused(&mut self, cx: &mut ExecCx<'_>, id: u32, step: Step, errno: i32) {
        // Init is hostile and may name any program.
        let Some((number, key)) = self.ids.get(&id).copied() else { return };
        let Some(program) = cx.processes.get_mut(key) else { return };
        let error = errors::exec(step, errno, &program.record.what, &program.record.directory, &program.user);
        self.finish(cx, number, key, Err(error));
    }

    /// One has ended, with this status of waitpid(2).
    pub(crate) fn on_exit(&mut self, cx: &mut ExecCx<'_>, id: u32, status: i32) {
        // Init is hostile and may name any program.
        let Some((number, key)) = self.ids.get(&id).copied() else { return };
        let Some(program) = cx.processes.get_mut(key) else { return };
        let now = cx.reactor.now();
        let runtime = program.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let exit = |reason, code, signal| Exit { reason, code, signal, runtime };
        let exit = match (&program.stage, libc::WIFSIGNALED(status)) {
            (Stage::Killed { late: true, .. }, true) => exit(ExitReason::TimedOut, 124, 0),
            (_, true) => {
                let signal = libc::WTERMSIG(status);
                exit(ExitReason::Signalled, 128 + signal, signal)
            }
            (_, false) => exit(ExitReason::Exited, libc::WEXITSTATUS(status), 0),
        };
        self.finish(cx, number, key, Ok(exit));
    }

    /// The timer of one has run out.
    pub(crate) fn on_timer(&mut self, cx: &mut ExecCx<'_>, key: Key) {
        let now = cx.reactor.now();
        // The program may have ended in the same turn.
        let Some(program) = cx.processes.get_mut(key) else { return };
        // A timer that was cancelled may have run out in the same turn as what it was cancelled for.
        if program.timer.take_if(|timer| timer.at() <= now).is_none() {
            return;
        }
        let id = program.id;
        let Some((number, _)) = self.ids.get(&id).copied() else {
            debug_assert!(false, "a program with a timer was asked for and hasn't ended");
            return;
        };
        match &mut program.stage {
            Stage::Running => {
                program.killed(cx.reactor, key, true);
                cx.init.ask(cx.reactor, &Request::KillSession { id });
            }
            Stage::Killed { watched, late } => {
                if watched.look(now) < if *late { EXIT_TIMEOUT } else { SILENCE } {
                    let next = watched.look_after(now, EXIT_CHECK_INTERVAL);
                    program.timer = next.map(|at| cx.reactor.schedule(at, key));
                    return;
                }
                let text = format!("{} was killed, and init has not told of its end", program.record.what);
                cx.init.fail(Error::new(Code::Engine, text));
            }
            Stage::Asked(..) => {
                let seconds = START_TIMEOUT.as_secs();
                let text = format!("{} did not start within {seconds} s", program.record.what);
                self.finish(cx, number, key, Err(Error::new(Code::Engine, text)));
            }
            Stage::Waiting(..) | Stage::Ended => {}
        }
    }

    /// One has ended, which is reported.
    fn finish(&mut self, cx: &mut ExecCx<'_>, number: u64, key: Key, end: Result<Exit>) {
        self.numbers.remove(&number);
        self.has_changed |= self.numbers.is_empty();
        if let Some(program) = cx.processes.get_mut(key) {
            self.ids.remove(&program.id);
            // One that waited still has the pipes' write ends: they go first, so that its captures end.
            let asked = match std::mem::replace(&mut program.stage, Stage::Ended) {
                Stage::Asked(size) => Some(size),
                _ => None,
            };
            report(cx.reactor, program, key, end);
            if program.is_over() {
                cx.processes.remove(key);
            }
            if let Some(size) = asked {
                self.on_answer(cx, size);
            }
        }
    }

    /// The sandbox has ended, and so have all its programs: each in the way the sandbox did.
    pub(crate) fn end_all(
        &mut self,
        reactor: &mut Reactor,
        processes: &mut Slab<Executed>,
        shared: &Shared,
        (reason, code): (ExitReason, i32),
    ) {
        for (_, key) in std::mem::take(self).numbers {
            let Some(program) = processes.get_mut(key) else {
                debug_assert!(false, "a program that has a number is in the table");
                continue;
            };
            let end = match program.began {
                Some(began) => {
                    // Its time was over before.
                    let is_late = matches!(program.stage, Stage::Killed { late: true, .. });
                    let (reason, code) = if is_late { (ExitReason::TimedOut, 124) } else { (reason, code) };
                    let runtime = reactor.now().saturating_duration_since(began);
                    Ok(Exit { reason, code, signal: 0, runtime })
                }
                None => {
                    let when = match program.stage {
                        Stage::Asked(..) => "the sandbox ended before init could say that it was started",
                        _ => "the sandbox ended before it was started",
                    };
                    Err(shared.ended().context(when).context(&program.record.what))
                }
            };
            program.stage = Stage::Ended;
            report(reactor, program, key, end);
            if program.is_over() {
                processes.remove(key);
            }
        }
    }
}

fn report(reactor: &mut Reactor, program: &mut Executed, key: Key, end: Result<Exit>) {
    if let Some(timer) = program.timer.take() {
        reactor.cancel(timer);
    }
    program.take_output(reactor, key);
    program.record.end(end);
}

fn schedule(reactor: &mut Reactor, key: Key, after: Duration) -> Option<TimerId> {
    // On overflow there is no deadline.
    reactor.now().checked_add(after).map(|at| reactor.schedule(at, key))
}

fn watch(cx: &mut ExecCx<'_>, key: Key) -> Result<()> {
    let Some(program) = cx.processes.get_mut(key) else { return Ok(()) };
    for (capture, slot) in program.captures.iter().zip([FdSlot::First, FdSlot::Second]) {
        if let Some(capture) = capture {
            register(cx.reactor, capture.as_fd(), key, slot)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "running_tests.rs"]
mod tests;
