//! Init: process 1 of the sandbox.
//!
//! runsc starts it with its channel to the library as standard input. It starts programs, with the standard
//! streams that come with the request (standard input through a pipe) or on a terminal of their own; it reaps
//! processes, forwards signals, reports statuses, counts processes, probes ports, and relays connections to
//! servers that listen on the sandbox's 127.0.0.1. Once a program runs, assume that it controls init. It can
//! then harm only its own sandbox.

mod count;
mod events;
pub(crate) mod files;
mod inputs;
mod probe;
mod programs;
mod relay;
mod session;
mod side;
mod terminal;
mod users;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;

use crate::channel::Channel;
use crate::system;
use crate::wire::init::{Reply, Request, Source, Start, Step};
use events::{Events, Interest, Token};
use files::Files;
use inputs::Inputs;
use probe::Probes;
use programs::Programs;
use relay::Relays;
use terminal::{Pair, Terminals};

struct Init {
    channel: Channel,
    signals: OwnedFd,
    events: Events,
    programs: Programs,
    inputs: Inputs,
    files: Files,
    relays: Relays,
    probes: Probes,
    terminals: Terminals,
}

/// Runs init. When it returns, the sandbox ends.
#[allow(
    clippy::print_stderr,
    reason = "standard error is what the keeper hands to the library when init fails"
)]
pub(crate) fn main() -> ExitCode {
    match start().and_then(|mut init| init.run_loop()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes the channel from standard input and puts /dev/null in its place: the helpers, which run as other users, keep
/// the standard streams.
fn take_channel() -> io::Result<OwnedFd> {
    let null = system::open(c"/dev/null", libc::O_RDWR)?;
    // SAFETY: F_DUPFD_CLOEXEC takes a number.
    let channel = system::owned(unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: dup2 takes numbers.
    system::check(unsafe { libc::dup2(null.as_raw_fd(), 0) })?;
    system::adopt(channel.as_fd())?;
    Ok(channel)
}

fn start() -> io::Result<Init> {
    let channel = take_channel()?;
    // Programs that run as another user can't trace init or read its memory.
    system::prctl(libc::PR_SET_DUMPABLE, 0)?;
    let set = system::block_sigchld()?;
    // SAFETY: the set is live.
    let signals = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    let signals = system::owned(signals)?;
    let events = Events::new()?;
    events.add(channel.as_raw_fd(), Token::Channel, Interest::READ)?;
    events.add(signals.as_raw_fd(), Token::Signals, Interest::READ)?;
    Ok(Init {
        channel: Channel::new(channel),
        signals,
        events,
        programs: Programs::new(system::raise_descriptors()?),
        inputs: Inputs::default(),
        files: Files::default(),
        relays: Relays::default(),
        probes: Probes::default(),
        terminals: Terminals::default(),
    })
}

impl Init {
    fn run_loop(&mut self) -> io::Result<()> {
        self.send(Reply::Hello)?;
        // The request to start the program is usually there already.
        if !self.read_requests()? {
            return Ok(());
        }
        let mut interest = Interest::READ;
        loop {
            for (token, ready) in self.events.wait(self.programs.is_busy())? {
                match token {
                    Token::Channel => {
                        if !self.read_requests()? {
                            return Ok(());
                        }
                    }
                    Token::Signals => self.reap()?,
                    Token::Relay { index, side } => {
                        if let Some(reply) = self.relays.ready(&self.events, index, side, ready) {
                            self.send(reply)?;
                        }
                    }
                    Token::Input { index, side } => self.inputs.ready(&self.events, index, side, ready),
                    Token::Probe { index } => {
                        if let Some(reply) = self.probes.ready(&self.events, index) {
                            self.send(reply)?;
                        }
                    }
                    Token::Terminal { index, side } => {
                        if let Some(id) = self.terminals.ready(&self.events, index, side, ready) {
                            self.hang_up(id);
                        }
                    }
                }
            }
            self.programs.advance_kills();
            self.relays.end_round();
            self.inputs.end_round();
            self.terminals.end_round();
            let wanted = if self.channel.wants_write() { Interest::READ_WRITE } else { Interest::READ };
            if wanted != interest {
                interest = wanted;
                self.events.change(self.channel.as_raw_fd(), Token::Channel, wanted)?;
            }
        }
    }

    fn send(&mut self, reply: Reply) -> io::Result<()> {
        self.channel.send(&reply.encode(), vec![])
    }

    /// Handles the library's pending requests. Returns false when the library has closed the channel.
    fn read_requests(&mut self) -> io::Result<bool> {
        self.channel.flush()?;
        loop {
            let message = match self.channel.receive() {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            };
            let Ok(request) = Request::decode(&message.bytes) else {
                return Err(io::Error::from_raw_os_error(libc::EPROTO));
            };
            if let Some(reply) = self.handle(request, message.fds) {
                self.send(reply)?;
            }
        }
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) -> Option<Reply> {
        match request {
            Request::Start(start) => Some(self.start_program(&start, fds)),
            Request::Signal { id, signal, group } => {
                self.programs.signal(id, signal, group);
                None
            }
            Request::KillSession { id } => {
                self.programs.kill_session(id);
                None
            }
            Request::KillAll => {
                kill_all();
                None
            }
            Request::Connect { ticket, port } => self.relays.start(&self.events, ticket, port, fds),
            Request::Probe { ticket, port } => self.probes.start(&self.events, ticket, port),
            Request::Count { ticket } => {
                let processes = count::processes().map(|all| all.saturating_sub(self.files.count()));
                Some(Reply::Counted { ticket, processes })
            }
            Request::Ping { ticket } => Some(Reply::Pong { ticket }),
            Request::Resize { id, window } => {
                self.terminals.resize(id, window);
                None
            }
            Request::File { ticket, task } => {
                self.files.start(ticket, &task, fds);
                None
            }
            Request::EndFile { ticket } => {
                self.files.end(ticket);
                None
            }
        }
    }

    fn start_program(&mut self, start: &Start, fds: Vec<OwnedFd>) -> Reply {
        let Some(window) = start.terminal else { return self.start_on_streams(start, fds) };
        let refused = |errno| Reply::NotStarted { id: start.id, step: Step::Terminal, errno };
        let Ok([host]) = <[OwnedFd; 1]>::try_from(fds) else { return refused(libc::EINVAL) };
        if !self.terminals.has_room() {
            return refused(libc::EAGAIN);
        }
        let pair = match Pair::open(window) {
            Ok(pair) => pair,
            Err(error) => return refused(error.raw_os_error().unwrap_or(libc::EINVAL)),
        };
        let reply = self.programs.start(start, &[], Some(&pair.program));
        if matches!(reply, Reply::Started { .. })
            && self.terminals.add(&self.events, start.id, pair, host).is_err()
        {
            // Without a relay the terminal is dead, as if the host had hung up.
            self.hang_up(start.id);
        }
        reply
    }

    /// Starts a program on the streams of the request, with a pipe as standard input.
    fn start_on_streams(&mut self, start: &Start, mut fds: Vec<OwnedFd>) -> Reply {
        if start.streams[0] != Source::Given || fds.is_empty() {
            return self.programs.start(start, &fds, None);
        }
        match self.inputs.open(&self.events, start.id, fds.remove(0)) {
            Ok(pipe) => fds.insert(0, pipe),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                return Reply::NotStarted { id: start.id, step: Step::Message, errno };
            }
        }
        let reply = self.programs.start(start, &fds, None);
        drop(fds);
        if !matches!(reply, Reply::Started { .. }) {
            self.inputs.on_program_exit(start.id);
        }
        reply
    }

    /// Signals a program that its terminal is gone: SIGHUP, and SIGCONT because a stopped program wouldn't
    /// notice.
    fn hang_up(&self, id: u32) {
        self.programs.signal(id, libc::SIGHUP, true);
        self.programs.signal(id, libc::SIGCONT, true);
    }

    /// Reaps every child that has ended: programs, helpers, and orphans that process 1 inherits.
    fn reap(&mut self) -> io::Result<()> {
        let mut buffer = [0_u8; 128];
        // SAFETY: the buffer is live and as long as said. What it gets is not wanted: several children may
        // have ended for one signal.
        unsafe { libc::read(self.signals.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        while let Ok(Some((pid, status))) = system::reap() {
            if self.files.ended(pid) {
                continue;
            }
            if let Some(id) = self.programs.ended(pid) {
                self.terminals.on_program_exit(&self.events, id);
                self.inputs.on_program_exit(id);
                self.send(Reply::Exited { id, status })?;
            }
        }
        self.files.end_stopped();
        Ok(())
    }
}

/// Kills every process but this one. A process that is being made while the others are killed is killed in the next round,
/// unless its parent outruns all of them.
fn kill_all() {
    const ROUNDS: usize = 16;
    for _ in 0..ROUNDS {
        // SAFETY: kill takes numbers.
        if unsafe { libc::kill(-1, libc::SIGKILL) } != 0 {
            return;
        }
    }
}
