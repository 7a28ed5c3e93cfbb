//! Init's event loop: a level-triggered epoll set.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::side::Side;
use crate::system;

/// Identifies the owner of a descriptor in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Channel,
    Signals,
    Relay { index: u32, side: Side },
    Probe { index: u32 },
    Terminal { index: u32, side: Side },
    Input { index: u32, side: Side },
}

impl Token {
    fn pack(self) -> u64 {
        match self {
            Self::Channel => 0,
            Self::Signals => 1,
            Self::Relay { index, side: Side::Host } => 2 | u64::from(index) << 8,
            Self::Relay { index, side: Side::Sandbox } => 3 | u64::from(index) << 8,
            Self::Probe { index } => 4 | u64::from(index) << 8,
            Self::Terminal { index, side: Side::Host } => 5 | u64::from(index) << 8,
            Self::Terminal { index, side: Side::Sandbox } => 6 | u64::from(index) << 8,
            Self::Input { index, side: Side::Host } => 7 | u64::from(index) << 8,
            Self::Input { index, side: Side::Sandbox } => 8 | u64::from(index) << 8,
        }
    }

    fn unpack(value: u64) -> Option<Self> {
        let index = u32::try_from(value >> 8).ok()?;
        match value & 0xff {
            0 => Some(Self::Channel),
            1 => Some(Self::Signals),
            2 => Some(Self::Relay { index, side: Side::Host }),
            3 => Some(Self::Relay { index, side: Side::Sandbox }),
            4 => Some(Self::Probe { index }),
            5 => Some(Self::Terminal { index, side: Side::Host }),
            6 => Some(Self::Terminal { index, side: Side::Sandbox }),
            7 => Some(Self::Input { index, side: Side::Host }),
            8 => Some(Self::Input { index, side: Side::Sandbox }),
            _ => None,
        }
    }
}

/// The readiness to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Interest {
    pub(super) const READ: Self = Self { read: true, write: false };
    pub(super) const WRITE: Self = Self { read: false, write: true };
    pub(super) const READ_WRITE: Self = Self { read: true, write: true };

    fn mask(self) -> u32 {
        let read = if self.read { libc::EPOLLIN } else { 0 };
        let write = if self.write { libc::EPOLLOUT } else { 0 };
        (read | write).cast_unsigned()
    }
}

/// What epoll reported for a descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// Both directions are closed, or there was an error (EPOLLHUP, EPOLLERR).
    pub(super) broken: bool,
}

/// The epoll set.
#[derive(Debug)]
pub(super) struct Events(OwnedFd);

impl Events {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes a number.
        system::owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
    }

    pub(super) fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub(super) fn change(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    pub(super) fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, Token::Channel, Interest::default())
    }

    fn control(&self, what: i32, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.mask(), u64: token.pack() };
        // SAFETY: the event is live.
        system::check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &raw mut event) }).map(|_| ())
    }

    /// Waits for events. If init is busy, returns those that are ready without waiting.
    pub(super) fn wait(&self, busy: bool) -> io::Result<Vec<(Token, Ready)>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: the array is live and as long as said.
        let count = unsafe {
            libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 64, if busy { 0 } else { -1 })
        };
        let count = match system::check(count) {
            Ok(count) => usize::try_from(count).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        let broken = (libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();
        let happened = events.iter().take(count).filter_map(|event| {
            let (flags, token) = (event.events, event.u64);
            Some((Token::unpack(token)?, Ready { broken: flags & broken != 0 }))
        });
        Ok(happened.collect())
    }
}
