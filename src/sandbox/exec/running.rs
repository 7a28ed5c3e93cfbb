//! Executed programs in the control thread's hands.
//!
//! Init is asked for a few at a time only: what it has not taken yet costs memory and descriptors here, and the
//! kernel bounds the descriptors that are under way between processes. How a program ended is told when all that
//! it had written into its captures is in them.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::launch::{Launch, Order};
use super::record::Record;
use crate::error::{Code, Error, Result};
use crate::keeper::wire::init::{Request, Step, Window};
use crate::process::{CaptureProgress, CaptureReader};
use crate::reactor::{Key, Lane, Permit, Reactor, Slab, TimerId};
use crate::sandbox::life::{Bench, Life, register};
use crate::sandbox::liveness::{SILENCE, Watched};
use crate::sandbox::{Exit, ExitReason, trouble};

/// The most programs of one sandbox at once.
const MOST: usize = 4096;
/// The most that init is asked for and has not answered.
const ASKED: usize = 16;
/// The same in bytes of requests, well below what its channel holds back.
const ASKED_BYTES: usize = 512 * 1024;
/// The most requests that wait for a program that has not been asked for yet.
const BEHIND: usize = 64;
/// How long init may take to start a program. Far beyond what it takes.
const START: Duration = Duration::from_secs(60);
/// For how long, while the library is there to hear it, the end of a program may stay out that was killed because its
/// time is over. Then init is stopped, or lies, and the program may go on: the sandbox ends. One that the host kills has
/// as long as any other question. Init looks at all processes for two seconds at most before it kills what it has found.
const LAST_WORD: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How far one is.
#[derive(Debug)]
enum Stage {
    /// Init is yet to be asked; with what is to be asked right behind.
    Waiting(Order, Vec<Behind>),
    /// Init was asked; the size of the request.
    Asked(usize),
    Running,
    /// It was killed, because its time is over or by the host, and its end is not known yet.
    Killed {
        watched: Watched,
        late: bool,
    },
    /// Told; another process may still write into the captures.
    Ended,
}

/// What the host asks of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behind {
    /// A signal to its process group.
    Signal(i32),
    /// Another size of its terminal.
    Resize(Window),
}

impl Behind {
    fn request(self, id: u32) -> Request {
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
    _permit: Option<Permit>,
}

impl Executed {
    /// Reads what is there of a capture. True once nothing of the program is left.
    pub(crate) fn read(&mut self, reactor: &mut Reactor, key: Key, lane: Lane) -> bool {
        let [out, err] = &mut self.captures;
        let place = if lane == Lane::Front { out } else { err };
        if let Some(capture) = place {
            match capture.read() {
                CaptureProgress::Drained => {}
                CaptureProgress::More => reactor.again(key),
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

    /// It is being killed, and its end is looked for.
    fn killed(&mut self, reactor: &mut Reactor, key: Key, late: bool) {
        if let Some(timer) = self.timer.take() {
            reactor.cancel(timer);
        }
        let mut watched = Watched::default();
        self.timer = watched.look_after(reactor.now(), LOOK).map(|at| reactor.schedule(at, key));
        self.stage = Stage::Killed { watched, late };
    }

    /// What it has written so far is taken, since what is told next is its end.
    fn take_output(&mut self, reactor: &mut Reactor, key: Key) {
        // A pipe holds 64 KiB unless its maker says otherwise, and one reading takes twice that.
        self.read(reactor, key, Lane::Front);
        self.read(reactor, key, Lane::Back);
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
}

impl Execs {
    /// Whether none runs or is being started.
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether init's number is of one of these.
    pub(crate) fn know(&self, id: u32) -> bool {
        self.ids.contains_key(&id)
    }
}

impl Life {
    /// The host wants a program to be executed.
    pub(crate) fn execute(&mut self, bench: &mut Bench<'_>, number: u64, mut launch: Launch) {
        let Some((record, order)) = launch.record.clone().zip(launch.order.take()) else { return };
        if !self.is_running() || self.is_stopping() {
            // Dropped, and told by that.
            return;
        }
        launch.record = None;
        if self.execs.numbers.len() >= MOST {
            let text =
                format!("{}: {MOST} programs of this sandbox run already, which is the limit", record.what);
            return record.end(Err(Error::new(Code::Limit, text)));
        }
        let running = Executed {
            sandbox: self.shared.number,
            record,
            id: 0,
            user: order.start.user.to_string(),
            stage: Stage::Waiting(order, Vec::new()),
            captures: std::mem::take(&mut launch.captures),
            timeout: launch.timeout,
            timer: None,
            began: None,
            _permit: launch.permit.take(),
        };
        let key = bench.processes.insert(running);
        bench.reactor.join(key, self.shared.number);
        self.execs.numbers.insert(number, key);
        if let Err(error) = watch(bench, key) {
            return self.conclude(bench, number, key, Err(error));
        }
        self.execs.waiting.push_back(number);
        self.ask_next(bench);
    }

    /// Passes a request of the host's to a program; ignored once that has ended.
    pub(crate) fn ask_program(&mut self, bench: &mut Bench<'_>, number: u64, what: Behind) {
        let Some(key) = self.execs.numbers.get(&number).copied() else { return };
        let Some(running) = bench.processes.get_mut(key) else { return };
        match &mut running.stage {
            Stage::Waiting(_, behind) if behind.len() < BEHIND => behind.push(what),
            Stage::Asked(..) | Stage::Running => {
                let request = what.request(running.id);
                if matches!((&running.stage, what), (Stage::Running, Behind::Signal(libc::SIGKILL))) {
                    running.killed(bench.reactor, key, false);
                }
                self.ask_init(bench, &request);
            }
            Stage::Waiting(..) | Stage::Killed { .. } | Stage::Ended => {}
        }
    }

    /// Asks init for the next programs, as many as may be under way.
    fn ask_next(&mut self, bench: &mut Bench<'_>) {
        while self.execs.asked < ASKED && self.execs.asked_bytes < ASKED_BYTES {
            let Some(number) = self.execs.waiting.pop_front() else { return };
            let Some(key) = self.execs.numbers.get(&number).copied() else { continue };
            let id = self.ticket();
            let Some(running) = bench.processes.get_mut(key) else { continue };
            let stage = std::mem::replace(&mut running.stage, Stage::Running);
            let Stage::Waiting(mut order, behind) = stage else {
                running.stage = stage;
                continue;
            };
            let size = order.start.size();
            order.start.id = id;
            running.id = id;
            running.stage = Stage::Asked(size);
            running.timer = schedule(bench.reactor, key, START);
            self.execs.ids.insert(id, (number, key));
            self.execs.asked += 1;
            self.execs.asked_bytes += size;
            let (theirs, permit) = (std::mem::take(&mut order.theirs), order.permit.take());
            self.give_init(bench, &Request::Start(order.start), theirs, permit);
            for what in behind {
                self.ask_init(bench, &what.request(id));
            }
        }
    }

    /// Init has started one.
    pub(crate) fn exec_started(&mut self, bench: &mut Bench<'_>, id: u32) {
        let Some((_, key)) = self.execs.ids.get(&id).copied() else { return };
        let Some(running) = bench.processes.get_mut(key) else { return };
        if let Stage::Asked(size) = running.stage {
            running.stage = Stage::Running;
            running.began = Some(bench.reactor.now());
            if let Some(timer) = running.timer.take() {
                bench.reactor.cancel(timer);
            }
            running.timer = running.timeout.and_then(|timeout| schedule(bench.reactor, key, timeout));
            running.record.started();
            self.answered(bench, size);
        }
    }

    fn answered(&mut self, bench: &mut Bench<'_>, size: usize) {
        self.execs.asked = self.execs.asked.saturating_sub(1);
        self.execs.asked_bytes = self.execs.asked_bytes.saturating_sub(size);
        self.ask_next(bench);
    }

    /// Init could not start one.
    pub(crate) fn exec_refused(&mut self, bench: &mut Bench<'_>, id: u32, step: Step, errno: i32) {
        let Some((number, key)) = self.execs.ids.get(&id).copied() else { return };
        let Some(running) = bench.processes.get_mut(key) else { return };
        let error =
            trouble::exec(step, errno, &running.record.what, &running.record.directory, &running.user);
        self.conclude(bench, number, key, Err(error));
    }

    /// One has ended, with this status of waitpid(2).
    pub(crate) fn exec_ended(&mut self, bench: &mut Bench<'_>, id: u32, status: i32) {
        let Some((number, key)) = self.execs.ids.get(&id).copied() else { return };
        let Some(running) = bench.processes.get_mut(key) else { return };
        let now = bench.reactor.now();
        let runtime = running.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let exit = |reason, code, signal| Exit { reason, code, signal, runtime };
        let exit = match (&running.stage, libc::WIFSIGNALED(status)) {
            (Stage::Killed { late: true, .. }, true) => exit(ExitReason::TimedOut, 124, 0),
            (_, true) => {
                let signal = libc::WTERMSIG(status);
                exit(ExitReason::Signalled, 128 + signal, signal)
            }
            (_, false) => exit(ExitReason::Exited, libc::WEXITSTATUS(status), 0),
        };
        self.conclude(bench, number, key, Ok(exit));
    }

    /// The time of one has run out.
    pub(crate) fn exec_late(&mut self, bench: &mut Bench<'_>, key: Key) {
        let now = bench.reactor.now();
        let Some(running) = bench.processes.get_mut(key) else { return };
        // A timer that was taken back may have run out in the same turn as what it was taken back for.
        if running.timer.take_if(|timer| timer.at() <= now).is_none() {
            return;
        }
        let id = running.id;
        let Some((number, _)) = self.execs.ids.get(&id).copied() else { return };
        match &mut running.stage {
            Stage::Running => {
                running.killed(bench.reactor, key, true);
                self.ask_init(bench, &Request::KillSession { id });
            }
            Stage::Killed { watched, late } => {
                if watched.look(now) < if *late { LAST_WORD } else { SILENCE } {
                    running.timer = watched.look_after(now, LOOK).map(|at| bench.reactor.schedule(at, key));
                    return;
                }
                let text = format!("{} was killed, and init has not told of its end", running.record.what);
                self.init_lost(bench, Error::new(Code::Engine, text));
            }
            Stage::Asked(..) => {
                let text = format!("{} did not start within {} s", running.record.what, START.as_secs());
                self.conclude(bench, number, key, Err(Error::new(Code::Engine, text)));
            }
            Stage::Waiting(..) | Stage::Ended => {}
        }
    }

    /// The end of one, which is told.
    fn conclude(&mut self, bench: &mut Bench<'_>, number: u64, key: Key, end: Result<Exit>) {
        self.execs.numbers.remove(&number);
        if let Some(running) = bench.processes.get_mut(key) {
            self.execs.ids.remove(&running.id);
            let stage = std::mem::replace(&mut running.stage, Stage::Ended);
            finish(bench.reactor, running, key, end);
            if running.is_over() {
                bench.processes.remove(key);
            }
            if let Stage::Asked(size) = stage {
                self.answered(bench, size);
            }
        }
        if self.execs.is_empty() {
            self.note_activity(bench);
            self.mind_stop(bench);
        }
    }

    /// The host stops a sandbox that has no program but these: all get the signal.
    pub(crate) fn signal_execs(&mut self, bench: &mut Bench<'_>, signal: i32) {
        for number in self.execs.numbers.keys().copied().collect::<Vec<_>>() {
            self.ask_program(bench, number, Behind::Signal(signal));
        }
    }

    /// The sandbox has ended, and so have all its programs: each in the way the sandbox did.
    pub(crate) fn end_execs(&mut self, reactor: &mut Reactor, processes: &mut Slab<Executed>) {
        let (reason, code) = self.end_of_programs();
        for (_, key) in std::mem::take(&mut self.execs).numbers {
            let Some(running) = processes.get_mut(key) else { continue };
            let end = match running.began {
                Some(began) => {
                    // Its time was over before.
                    let is_late = matches!(running.stage, Stage::Killed { late: true, .. });
                    let (reason, code) = if is_late { (ExitReason::TimedOut, 124) } else { (reason, code) };
                    let runtime = reactor.now().saturating_duration_since(began);
                    Ok(Exit { reason, code, signal: 0, runtime })
                }
                None => {
                    let when = match running.stage {
                        Stage::Asked(..) => "the sandbox ended before init could say that it was started",
                        _ => "the sandbox ended before it was started",
                    };
                    Err(self.shared.ended().context(when).context(&running.record.what))
                }
            };
            running.stage = Stage::Ended;
            finish(reactor, running, key, end);
            if running.is_over() {
                processes.remove(key);
            }
        }
    }
}

fn finish(reactor: &mut Reactor, running: &mut Executed, key: Key, end: Result<Exit>) {
    if let Some(timer) = running.timer.take() {
        reactor.cancel(timer);
    }
    running.take_output(reactor, key);
    running.record.end(end);
}

fn schedule(reactor: &mut Reactor, key: Key, after: Duration) -> Option<TimerId> {
    // On overflow there is no deadline.
    reactor.now().checked_add(after).map(|at| reactor.schedule(at, key))
}

fn watch(bench: &mut Bench<'_>, key: Key) -> Result<()> {
    let Some(running) = bench.processes.get_mut(key) else { return Ok(()) };
    for (capture, lane) in running.captures.iter().zip([Lane::Front, Lane::Back]) {
        if let Some(capture) = capture {
            register(bench.reactor, capture.as_fd(), key, lane)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::process::Capture;
    use crate::reactor::{Kind, Wake};
    use crate::sandbox::exec::record::Have;

    #[test]
    fn two_captures_that_never_run_dry_wake_their_program_once_a_turn() {
        let (mut reactor, mut processes) = (Reactor::new().unwrap(), Slab::new(Kind(3)));
        let pairs = [(); 2].map(|()| UnixStream::pair().unwrap());
        let mut writers = Vec::new();
        let captures = pairs.map(|(ours, theirs)| {
            for end in [&ours, &theirs] {
                end.set_nonblocking(true).unwrap();
            }
            writers.push(theirs);
            Some(CaptureReader::new(OwnedFd::from(ours), Capture::new(16, 16)))
        });
        let record = Arc::new(Record::new(
            "flood".to_owned(),
            "/".to_owned(),
            None,
            Default::default(),
            Have::default(),
        ));
        let key = processes.insert(Executed {
            sandbox: 7,
            record,
            id: 1,
            user: String::new(),
            stage: Stage::Running,
            captures,
            timeout: None,
            timer: None,
            began: None,
            _permit: None,
        });
        let running = processes.get_mut(key).unwrap();
        for (capture, lane) in running.captures.iter().zip([Lane::Front, Lane::Back]) {
            reactor.register(capture.as_ref().unwrap().as_fd(), key, lane).unwrap();
        }
        let fill = |mut writer: &UnixStream| while writer.write(&[0; 4096]).is_ok() {};
        let mut again = 0;
        for turn in 0..30 {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            let mut wakes = 0;
            while let Some(wake) = reactor.next() {
                wakes += 1;
                let lanes = match wake {
                    Wake::Ready(_, lane, _) => vec![lane],
                    _ => vec![Lane::Front, Lane::Back],
                };
                for lane in lanes {
                    writers.iter().for_each(fill);
                    assert!(!running.read(&mut reactor, key, lane));
                }
                again += u32::from(matches!(wake, Wake::Again(_)));
            }
            // Either stream's readiness, and its own wish.
            assert!(wakes <= 3, "{wakes} in turn {turn}");
        }
        assert!(again >= 10, "they did run dry: {again}");
    }
}
