//! Terminals of programs. Init creates them in the sandbox's devpts and relays them to the library over a
//! stream, because a descriptor of the sandbox can't leave it.
//!
//! If the host doesn't read, init stops reading from the terminal, which in the end blocks only the program
//! that writes to it. A terminal ends with its program, once the host has received everything that was
//! written to it. Processes that remain on it get SIGHUP, as on Linux when the leader of a session ends
//! (gVisor doesn't send it). When the host closes its end, the program gets SIGHUP.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::events::{Events, Interest, Ready, Token};
use super::side::{Side, Sides};
use crate::system;
use crate::wire::init::Window;

/// The maximum number of terminals.
const MAX_TERMINALS: usize = 4096;
/// Bytes read at once, and so the most that is buffered for a direction.
const BUFFER_SIZE: usize = 16 * 1024;
/// Reads per wake-up and direction, so that no terminal starves the others.
const MAX_READS: usize = 8;
/// Reads once the program has ended: more than a terminal of gVisor's holds (128 KiB, in pieces of 4 KiB),
/// and bounded, because other processes may go on writing.
const MAX_FINAL_READS: usize = 64;

/// A new terminal: the side that is relayed, and the program's side.
#[derive(Debug)]
pub(super) struct Pair {
    master: OwnedFd,
    pub(super) program: OwnedFd,
}

impl Pair {
    /// Creates a terminal of this size.
    pub(super) fn open(window: Window) -> io::Result<Self> {
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let master = system::open(c"/dev/ptmx", flags | libc::O_NONBLOCK)?;
        let unlocked = 0_i32;
        // SAFETY: TIOCSPTLCK reads a live integer.
        system::check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
        let mut number = 0_u32;
        // SAFETY: TIOCGPTN writes to a live integer.
        system::check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
        let path = CString::new(format!("/dev/pts/{number}"))?;
        let program = system::open(&path, flags)?;
        resize(&master, window)?;
        Ok(Self { master, program })
    }
}

fn resize(master: &OwnedFd, window: Window) -> io::Result<()> {
    let size = libc::winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a live struct.
    system::check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(|_| ())
}

/// A terminal that is relayed.
#[derive(Debug)]
struct Terminal {
    /// The library's id of the program.
    id: u32,
    sides: Sides<OwnedFd>,
    /// Read from each side, but not yet written to the other.
    waiting: Sides<Vec<u8>>,
    /// Whether each side has ended.
    ended: Sides<bool>,
    /// The program has ended, so what it has written until now is all.
    program_ended: bool,
    interest: Sides<Option<Interest>>,
}

/// The state of a terminal after a step.
enum State {
    Open,
    /// The program's side is closed and its output was passed on.
    Finished,
    /// The host has closed its end.
    HungUp,
}

#[derive(Debug, Default)]
pub(super) struct Terminals {
    slots: Vec<Option<Terminal>>,
    /// Slots by the program's id.
    places: HashMap<u32, usize>,
    /// Slots freed in this round of the event loop. Events for their old owner may still be pending.
    freed: Vec<usize>,
    free: Vec<usize>,
}

impl Terminals {
    /// Whether another terminal may be created.
    pub(super) fn has_room(&self) -> bool {
        self.places.len() < MAX_TERMINALS
    }

    /// Starts to relay a terminal.
    pub(super) fn add(&mut self, events: &Events, id: u32, pair: Pair, host: OwnedFd) -> io::Result<()> {
        system::adopt(std::os::fd::AsFd::as_fd(&host))?;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let sides = Sides { host, sandbox: pair.master };
        let mut terminal = Terminal {
            id,
            sides,
            waiting: Sides::default(),
            ended: Sides::default(),
            program_ended: false,
            interest: Sides::default(),
        };
        let watched = terminal.watch(events, index);
        if let Some(slot) = self.slots.get_mut(index).filter(|_| watched.is_ok()) {
            *slot = Some(terminal);
            self.places.insert(id, index);
        } else {
            self.freed.push(index);
        }
        watched
    }

    /// Changes the size of a program's terminal, if it has one that is still open.
    pub(super) fn resize(&self, id: u32, window: Window) {
        let terminal = self.places.get(&id).and_then(|index| self.slots.get(*index)?.as_ref());
        // gVisor doesn't send SIGWINCH by itself.
        if let Some(terminal) = terminal.filter(|terminal| resize(&terminal.sides.sandbox, window).is_ok()) {
            terminal.signal_foreground(libc::SIGWINCH);
        }
    }

    /// A program has ended, and its terminal ends with it.
    pub(super) fn on_program_exit(&mut self, events: &Events, id: u32) {
        let Some(index) = self.places.get(&id).copied() else { return };
        if let Some(terminal) = self.slots.get_mut(index).and_then(Option::as_mut) {
            terminal.signal_foreground(libc::SIGHUP);
            terminal.signal_foreground(libc::SIGCONT);
            terminal.program_ended = true;
        }
        // The program has ended, so a hang-up of the host doesn't matter.
        let _ = self.ready(
            events,
            u32::try_from(index).unwrap_or(u32::MAX),
            Side::Sandbox,
            Ready { broken: false },
        );
    }

    /// Handles an event of a terminal. Returns the program's id if the host has hung up.
    pub(super) fn ready(&mut self, events: &Events, index: u32, side: Side, ready: Ready) -> Option<u32> {
        let index = usize::try_from(index).ok()?;
        let terminal = self.slots.get_mut(index)?.as_mut()?;
        let state = match side {
            Side::Host if ready.broken => State::HungUp,
            _ => terminal.step(events, index).unwrap_or(State::HungUp),
        };
        let id = terminal.id;
        let hung_up = matches!(state, State::HungUp).then_some(id);
        if !matches!(state, State::Open) {
            *self.slots.get_mut(index)? = None;
            self.places.remove(&id);
            self.freed.push(index);
        }
        hung_up
    }

    /// Ends a round of the event loop: slots freed in it can be used again.
    pub(super) fn end_round(&mut self) {
        self.free.append(&mut self.freed);
    }
}

impl Terminal {
    /// Sends a signal to the foreground process group.
    fn signal_foreground(&self, signal: i32) {
        let mut group: libc::pid_t = 0;
        // SAFETY: TIOCGPGRP writes to a live integer.
        let found = unsafe { libc::ioctl(self.sides.sandbox.as_raw_fd(), libc::TIOCGPGRP, &raw mut group) };
        if found == 0 && group > 1 {
            // SAFETY: kill takes numbers.
            unsafe { libc::kill(-group, signal) };
        }
    }

    fn step(&mut self, events: &Events, index: usize) -> io::Result<State> {
        self.pump(Side::Host)?;
        self.pump(Side::Sandbox)?;
        if self.ended.sandbox && self.waiting.sandbox.is_empty() {
            return Ok(State::Finished);
        }
        self.watch(events, index).map(|()| State::Open)
    }

    /// Moves bytes from this side to the other until one of them blocks.
    fn pump(&mut self, side: Side) -> io::Result<()> {
        let mut buffer = [0_u8; BUFFER_SIZE];
        let (from, to) = (&self.sides[side], &self.sides[side.other()]);
        let last = side == Side::Sandbox && self.program_ended;
        for _ in 0..if last { MAX_FINAL_READS } else { MAX_READS } {
            if !self.waiting[side].is_empty() {
                match write(to, &self.waiting[side]) {
                    Ok(written) => drop(self.waiting[side].drain(..written)),
                    // No process is left to read from the terminal.
                    Err(_) if side == Side::Host => self.waiting[side].clear(),
                    Err(error) => return Err(error),
                }
                if !self.waiting[side].is_empty() {
                    return Ok(());
                }
                self.waiting[side] = Vec::new();
            }
            if self.ended[side] {
                return Ok(());
            }
            match read(from, &mut buffer) {
                Ok(None) => {
                    self.ended[side] |= last;
                    return Ok(());
                }
                Ok(Some(0)) => self.ended[side] = true,
                Ok(Some(length)) => {
                    self.waiting[side].extend_from_slice(buffer.get(..length).unwrap_or_default())
                }
                // No process has the terminal open.
                Err(error) if side == Side::Sandbox && error.raw_os_error() == Some(libc::EIO) => {
                    self.ended[side] = true
                }
                Err(error) => return Err(error),
            }
        }
        self.ended[side] |= last;
        Ok(())
    }

    fn watch(&mut self, events: &Events, index: usize) -> io::Result<()> {
        for side in Side::BOTH {
            let read = !self.ended[side] && self.waiting[side].is_empty();
            let wanted = Interest { read, write: !self.waiting[side.other()].is_empty() };
            // The host's side stays in the set, to report a hang-up. The terminal's would report its own
            // hang-up again and again.
            let wanted = Some(wanted).filter(|wanted| side == Side::Host || *wanted != Interest::default());
            if wanted == self.interest[side] {
                continue;
            }
            let (fd, index) = (self.sides[side].as_raw_fd(), u32::try_from(index).unwrap_or(u32::MAX));
            match (self.interest[side], wanted) {
                (None, Some(wanted)) => events.add(fd, Token::Terminal { index, side }, wanted)?,
                (_, Some(wanted)) => events.change(fd, Token::Terminal { index, side }, wanted)?,
                (_, None) => events.remove(fd)?,
            }
            self.interest[side] = wanted;
        }
        Ok(())
    }
}

/// Writes as much as fits. (The standard library ignores SIGPIPE before `main`.)
fn write(to: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and as long as said.
    let written = unsafe { libc::write(to.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).or_else(|_| again().map(|()| 0))
}

/// Reads what is available: `None` if that is nothing, 0 at the end.
fn read(from: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer is live and as long as said.
    let length = unsafe { libc::read(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(length).map(Some).or_else(|_| again().map(|()| None))
}

fn again() -> io::Result<()> {
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}
