//! Standard input of programs: a pipe that is filled from the library's stream.
//!
//! A pipe and not the stream itself, because a program can't open `/dev/stdin` if that is a socket. splice(2)
//! moves the bytes from the stream to the pipe without copying them to init, and at most one pipe's worth for
//! each wake-up, so a program that doesn't read costs nothing and delays no others. When the stream ends,
//! init closes the pipe. When no process reads the pipe any more, init closes the stream, so that the host's
//! next write fails. Processes that outlive their program keep the pipe open, and with it the stream.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::events::{Events, Interest, Ready, Token};
use super::side::Side;
use crate::system;

/// The maximum number of inputs, including those that outlive their programs.
const MAX_INPUTS: usize = 8192;
/// The size of the pipe, and the most bytes moved at once; a socket buffer holds about as much. With a
/// smaller pipe the program and init alternate for every piece (64 KiB halve the throughput).
const PIPE_SIZE: libc::c_int = 256 * 1024;

#[derive(Debug)]
struct Input {
    /// The library's id of the program.
    id: u32,
    stream: OwnedFd,
    pipe: OwnedFd,
    /// The pipe is full: wait for room in it and not for data from the stream.
    full: bool,
    /// The stream was removed from the epoll set, which otherwise reports its end again and again.
    out: bool,
}

/// The inputs of all programs.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    slots: Vec<Option<Input>>,
    /// Slots by the program's id.
    places: HashMap<u32, usize>,
    /// Slots freed in this round of the event loop. Events for their old owner may still be pending.
    freed: Vec<usize>,
    free: Vec<usize>,
}

impl Inputs {
    /// Creates the pipe for a program that is about to start, and returns the program's end.
    pub(super) fn open(&mut self, events: &Events, id: u32, stream: OwnedFd) -> io::Result<OwnedFd> {
        let (program, pipe) = pipe()?;
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < MAX_INPUTS => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        };
        let input = Input { id, stream, pipe, full: false, out: false };
        let watched =
            events.add(input.stream.as_raw_fd(), token(index, Side::Host), Interest::READ).and_then(|()| {
                events.add(input.pipe.as_raw_fd(), token(index, Side::Sandbox), Interest::default())
            });
        if let Err(error) = watched {
            self.free.push(index);
            return Err(error);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(input);
        }
        self.places.insert(id, index);
        Ok(program)
    }

    /// Handles an event of an input.
    pub(super) fn ready(&mut self, events: &Events, index: u32, side: Side, ready: Ready) {
        let Ok(index) = usize::try_from(index) else { return };
        let Some(input) = self.slots.get_mut(index).and_then(Option::as_mut) else { return };
        let gone = side == Side::Sandbox && ready.broken;
        if gone || !input.step(events, index, side, ready).unwrap_or(false) {
            self.close(index);
        }
    }

    /// Called when the program has ended or could not be started. Closes the input unless other processes
    /// still have the pipe.
    pub(super) fn on_program_exit(&mut self, id: u32) {
        let Some(index) = self.places.remove(&id) else { return };
        let input = self.slots.get(index).and_then(Option::as_ref);
        if input.is_some_and(|input| is_unread(&input.pipe)) {
            self.close(index);
        }
    }

    fn close(&mut self, index: usize) {
        let Some(input) = self.slots.get_mut(index).and_then(Option::take) else { return };
        // The library may hold a copy of this end, to see when it is used, so closing it isn't enough.
        // SAFETY: shutdown takes numbers. It fails for what is no socket, or is closed already.
        unsafe { libc::shutdown(input.stream.as_raw_fd(), libc::SHUT_RDWR) };
        if self.places.get(&input.id) == Some(&index) {
            self.places.remove(&input.id);
        }
        self.freed.push(index);
    }

    /// Ends a round of the event loop: slots freed in it can be used again.
    pub(super) fn end_round(&mut self) {
        self.free.append(&mut self.freed);
    }
}

impl Input {
    /// Moves bytes until one side blocks. Returns false at the end of the input.
    fn step(&mut self, events: &Events, index: usize, side: Side, ready: Ready) -> io::Result<bool> {
        if self.full == (side == Side::Host) {
            // Either the stream ended while the pipe is full, or the event is older than the last change of
            // interest.
            if side == Side::Host && ready.broken && !self.out {
                events.remove(self.stream.as_raw_fd())?;
                self.out = true;
            }
            return Ok(true);
        }
        match splice(&self.stream, &self.pipe) {
            Ok(moved) => return Ok(moved > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        // The side that was ready isn't the one that blocks, so wait for the other.
        self.full = side == Side::Host;
        let (stream, pipe) = (self.stream.as_raw_fd(), self.pipe.as_raw_fd());
        if self.full {
            events.change(stream, token(index, Side::Host), Interest::default())?;
            events.change(pipe, token(index, Side::Sandbox), Interest::WRITE)?;
        } else {
            events.change(pipe, token(index, Side::Sandbox), Interest::default())?;
            let again = if self.out { Events::add } else { Events::change };
            again(events, stream, token(index, Side::Host), Interest::READ)?;
            self.out = false;
        }
        Ok(true)
    }
}

fn token(index: usize, side: Side) -> Token {
    Token::Input { index: u32::try_from(index).unwrap_or(u32::MAX), side }
}

/// Creates a pipe and returns its read end and its write end.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1; 2];
    // SAFETY: pipe2 writes two descriptors into the array of two.
    system::check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let (read, write) = (system::owned(fds[0])?, system::owned(fds[1])?);
    // SAFETY: F_SETPIPE_SZ takes a number. A pipe that stays as it is works too.
    unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_SIZE) };
    Ok((read, write))
}

/// Moves the bytes that are available and fit; 0 at the end of the stream.
fn splice(stream: &OwnedFd, pipe: &OwnedFd) -> io::Result<usize> {
    let none = std::ptr::null_mut();
    let (from, to) = (stream.as_raw_fd(), pipe.as_raw_fd());
    let most = usize::try_from(PIPE_SIZE).unwrap_or(0);
    // SAFETY: no offsets are given; the rest are numbers.
    let moved = unsafe { libc::splice(from, none, to, none, most, libc::SPLICE_F_NONBLOCK) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Whether no process has the read end open.
fn is_unread(pipe: &OwnedFd) -> bool {
    let mut poll = libc::pollfd { fd: pipe.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: poll gets one live struct, and doesn't wait.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    poll.revents & libc::POLLERR != 0
}
