//! Relays between the library and servers that listen on the sandbox's own 127.0.0.1 or ::1.
//!
//! Each direction is closed separately (half-close). When one side doesn't accept more bytes, the relay stops
//! reading from the other, so it buffers at most one read for each direction.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::events::{Events, Interest, Ready, Token};
use super::probe::{self, ADDRESSES, ServerAddress};
use super::side::{Side, Sides};
use crate::wire::init::Reply;

/// The maximum number of relays.
const MAX_RELAYS: usize = 1024;
/// Bytes read at once, and so the most that is buffered for a direction.
const BUFFER_SIZE: usize = 64 * 1024;
/// Reads per wake-up and direction, so that no relay starves the others.
const MAX_READS: usize = 8;

/// One direction of a relay.
#[derive(Debug, Default)]
struct Flow {
    /// Read from one side, but not yet written to the other.
    waiting: Vec<u8>,
    /// The side that is read from has ended.
    ended: bool,
    /// The side that is written to was shut down for writing.
    closed: bool,
}

#[derive(Debug)]
struct Relay {
    ticket: u32,
    port: u16,
    sides: Sides<OwnedFd>,
    /// The addresses still to try; `None` once connected.
    rest: Option<&'static [ServerAddress]>,
    /// The direction that is read from each side.
    flows: Sides<Flow>,
    /// The interest of each side; `None` while it isn't in the epoll set.
    interest: Sides<Option<Interest>>,
    /// Sides that are closed in both directions, or failed. epoll reports that again and again, whatever the
    /// interest.
    broken: Sides<bool>,
}

/// The state of a relay after a step.
enum State {
    Open,
    Finished,
}

#[derive(Debug, Default)]
pub(super) struct Relays {
    slots: Vec<Option<Relay>>,
    /// Slots freed in this round of the event loop. They stay unused until the next, since events for the old
    /// relay may still be pending.
    freed: Vec<usize>,
    free: Vec<usize>,
}

impl Relays {
    /// Starts a relay: connects to the server, then relays to the descriptor.
    pub(super) fn start(
        &mut self,
        events: &Events,
        ticket: u32,
        port: u16,
        fds: Vec<OwnedFd>,
    ) -> Option<Reply> {
        let refused = |errno| Some(Reply::Connected { ticket, errno });
        let Ok([library]) = <[OwnedFd; 1]>::try_from(fds) else { return refused(libc::EINVAL) };
        if crate::system::adopt(std::os::fd::AsFd::as_fd(&library)).is_err() {
            return refused(libc::EINVAL);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < MAX_RELAYS => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return refused(libc::EAGAIN),
        };
        match connect(events, index, port, &ADDRESSES[..2]) {
            Ok((server, rest)) => {
                let sides = Sides { host: library, sandbox: server };
                let interest = Sides { host: None, sandbox: Some(Interest::WRITE) };
                let (rest, flows, broken) = (Some(rest), Sides::default(), Sides::default());
                let relay = Relay { ticket, port, sides, rest, flows, interest, broken };
                if let Some(slot) = self.slots.get_mut(index) {
                    *slot = Some(relay);
                }
                None
            }
            Err(errno) => {
                self.free.push(index);
                refused(errno)
            }
        }
    }

    /// Handles an event of a relay. Returns the reply to `Connect` once that is known.
    pub(super) fn ready(&mut self, events: &Events, index: u32, side: Side, ready: Ready) -> Option<Reply> {
        let index = usize::try_from(index).ok()?;
        let relay = self.slots.get_mut(index)?.as_mut()?;
        let mut reply = None;
        if let Some(rest) = relay.rest {
            if side == Side::Host {
                return None;
            }
            let ticket = relay.ticket;
            match probe::outcome(&relay.sides.sandbox) {
                0 => {
                    relay.rest = None;
                    let token =
                        Token::Relay { index: u32::try_from(index).unwrap_or(u32::MAX), side: Side::Host };
                    let added = events.add(relay.sides.host.as_raw_fd(), token, Interest::READ);
                    relay.interest.host = Some(Interest::READ);
                    if added.is_err() {
                        self.drop_relay(index);
                        return Some(Reply::Connected { ticket, errno: libc::EAGAIN });
                    }
                    reply = Some(Reply::Connected { ticket, errno: 0 });
                }
                errno => match connect(events, index, relay.port, rest) {
                    Ok((server, rest)) => {
                        relay.sides.sandbox = server;
                        relay.rest = Some(rest);
                        return None;
                    }
                    Err(_) => {
                        self.drop_relay(index);
                        return Some(Reply::Connected { ticket, errno });
                    }
                },
            }
        }
        match relay.step(events, index, side, ready) {
            Ok(State::Open) => {}
            Ok(State::Finished) => self.drop_relay(index),
            Err(_) => {
                for side in Side::BOTH {
                    reset_on_close(relay.sides[side].as_raw_fd());
                }
                self.drop_relay(index);
            }
        }
        reply
    }

    fn drop_relay(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = None;
            self.freed.push(index);
        }
    }

    /// Ends a round of the event loop: slots freed in it can be used again.
    pub(super) fn end_round(&mut self) {
        self.free.append(&mut self.freed);
    }
}

/// Starts to connect to the first address that doesn't fail at once. Returns the socket and the remaining
/// addresses.
fn connect(
    events: &Events,
    index: usize,
    port: u16,
    places: &'static [ServerAddress],
) -> Result<(OwnedFd, &'static [ServerAddress]), i32> {
    let token = Token::Relay { index: u32::try_from(index).unwrap_or(u32::MAX), side: Side::Sandbox };
    let mut errno = libc::ECONNREFUSED;
    let mut rest = places;
    while let Some((place, more)) = rest.split_first() {
        rest = more;
        let begun = place.connect(port).and_then(|socket| {
            events.add(socket.as_raw_fd(), token, Interest::WRITE)?;
            Ok(socket)
        });
        match begun {
            Ok(socket) => return Ok((socket, rest)),
            Err(error) => errno = error.raw_os_error().unwrap_or(errno),
        }
    }
    Err(errno)
}

impl Relay {
    fn step(&mut self, events: &Events, index: usize, side: Side, ready: Ready) -> io::Result<State> {
        self.broken[side] |= ready.broken;
        let [library, server] = Side::BOTH.map(|side| self.sides[side].as_raw_fd());
        self.flows.host.pump(library, server)?;
        self.flows.sandbox.pump(server, library)?;
        if Side::BOTH.into_iter().all(|side| self.flows[side].closed) {
            return Ok(State::Finished);
        }
        if Side::BOTH.into_iter().any(|side| self.broken[side] && self.flows[side].closed) {
            // Everything from this side was passed on, and it accepts nothing more: bytes for it would be
            // lost. Reset the other side, so that it notices.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        for (side, fd) in [(Side::Host, library), (Side::Sandbox, server)] {
            let (own, other) = (&self.flows[side], &self.flows[side.other()]);
            let wanted =
                Interest { read: !own.ended && own.waiting.is_empty(), write: !other.waiting.is_empty() };
            // A broken side with no interest would wake the loop again and again, so remove it from the set.
            let wanted = Some(wanted).filter(|wanted| !self.broken[side] || *wanted != Interest::default());
            if wanted == self.interest[side] {
                continue;
            }
            let token = Token::Relay { index: u32::try_from(index).unwrap_or(u32::MAX), side };
            match (self.interest[side], wanted) {
                (None, Some(wanted)) => events.add(fd, token, wanted)?,
                (_, Some(wanted)) => events.change(fd, token, wanted)?,
                (_, None) => events.remove(fd)?,
            }
            self.interest[side] = wanted;
        }
        Ok(State::Open)
    }
}

impl Flow {
    /// Moves bytes until one side blocks.
    fn pump(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        let mut buffer = [0_u8; BUFFER_SIZE];
        for _ in 0..MAX_READS {
            if !self.waiting.is_empty() {
                let sent = send(to, &self.waiting)?;
                self.waiting.drain(..sent);
                if !self.waiting.is_empty() {
                    return Ok(());
                }
                self.waiting = Vec::new();
            }
            if self.ended {
                break;
            }
            match receive(from, &mut buffer)? {
                None => return Ok(()),
                Some(0) => self.ended = true,
                Some(read) => {
                    let read = buffer.get(..read).unwrap_or_default();
                    let sent = send(to, read)?;
                    self.waiting.extend_from_slice(read.get(sent..).unwrap_or_default());
                }
            }
        }
        if self.ended && self.waiting.is_empty() && !self.closed {
            // SAFETY: shutdown takes numbers. It fails if the other side is gone, which its own flow sees.
            unsafe { libc::shutdown(to, libc::SHUT_WR) };
            self.closed = true;
        }
        Ok(())
    }
}

/// Sends as much as fits.
fn send(to: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and as long as said.
    let sent = unsafe { libc::send(to, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(sent) => Ok(sent),
        Err(_) => again().map(|()| 0),
    }
}

/// Receives what is available: `None` if that is nothing, 0 at the end.
fn receive(from: RawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer is live and as long as said.
    let read = unsafe { libc::recv(from, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    match usize::try_from(read) {
        Ok(read) => Ok(Some(read)),
        Err(_) => again().map(|()| None),
    }
}

fn again() -> io::Result<()> {
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

/// Makes close(2) reset a TCP connection.
fn reset_on_close(fd: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap_or(0);
    // SAFETY: the struct is live and as long as said.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length) };
}
