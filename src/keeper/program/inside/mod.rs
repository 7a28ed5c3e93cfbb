//! Init: process 1 of the sandbox.
//!
//! It is started by runsc with its channel to the library as descriptor 3, starts programs with the standard
//! streams that come with the request (standard input through a pipe) or on a terminal of their own, reaps,
//! forwards signals, reports statuses, counts processes, probes ports, and relays to servers that listen on
//! 127.0.0.1 inside. Once a program runs, assume that init does what that wants: it can harm its own sandbox only.

mod count;
mod events;
mod files;
mod inputs;
mod probe;
mod programs;
mod relay;
mod session;
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

/// Init's life. When it ends, the sandbox ends.
pub(crate) fn main() -> ExitCode {
    match start().and_then(|mut init| init.live()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> io::Result<Init> {
    let channel = system::inherited(3);
    system::adopt(channel.as_fd())?;
    // Not to be traced or read by programs that run as another user.
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
    fn live(&mut self) -> io::Result<()> {
        self.say(Reply::Hello)?;
        // The program's start is waiting already, most often.
        if !self.listen()? {
            return Ok(());
        }
        let mut interest = Interest::READ;
        loop {
            for (token, ready) in self.events.wait(self.programs.is_busy())? {
                match token {
                    Token::Channel => {
                        if !self.listen()? {
                            return Ok(());
                        }
                    }
                    Token::Signals => self.reap()?,
                    Token::Relay { index, side } => {
                        if let Some(reply) = self.relays.ready(&self.events, index, side, ready) {
                            self.say(reply)?;
                        }
                    }
                    Token::Input { index, side } => self.inputs.ready(&self.events, index, side, ready),
                    Token::Probe { index } => {
                        if let Some(reply) = self.probes.ready(&self.events, index) {
                            self.say(reply)?;
                        }
                    }
                    Token::Terminal { index, side } => {
                        if let Some(id) = self.terminals.ready(&self.events, index, side, ready) {
                            self.hang_up(id);
                        }
                    }
                }
            }
            self.programs.go_on();
            self.relays.sweep();
            self.inputs.sweep();
            self.terminals.sweep();
            let wanted = if self.channel.wants_write() { Interest::READ_WRITE } else { Interest::READ };
            if wanted != interest {
                interest = wanted;
                self.events.change(self.channel.as_raw_fd(), Token::Channel, wanted)?;
            }
        }
    }

    fn say(&mut self, reply: Reply) -> io::Result<()> {
        self.channel.send(&reply.encode(), vec![])
    }

    /// Takes what the library asks. False when it is gone.
    fn listen(&mut self) -> io::Result<bool> {
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
            if let Some(reply) = self.answer(request, message.fds) {
                self.say(reply)?;
            }
        }
    }

    fn answer(&mut self, request: Request, fds: Vec<OwnedFd>) -> Option<Reply> {
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
        if matches!(reply, Reply::Started { .. }) && self.terminals.add(&self.events, start.id, pair, host).is_err()
        {
            // Nobody relays it: as if the host had hung up.
            self.hang_up(start.id);
        }
        reply
    }

    /// With the streams that came along, but for standard input, which is a pipe.
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
            self.inputs.leave(start.id);
        }
        reply
    }

    /// A program's terminal is gone. One that is stopped must go on to notice.
    fn hang_up(&self, id: u32) {
        self.programs.signal(id, libc::SIGHUP, true);
        self.programs.signal(id, libc::SIGCONT, true);
    }

    /// Takes every child that has ended: programs, and orphans that became ours as process 1.
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
                self.terminals.leave(&self.events, id);
                self.inputs.leave(id);
                self.say(Reply::Exited { id, status })?;
            }
        }
        self.files.end_stopped();
        Ok(())
    }
}
