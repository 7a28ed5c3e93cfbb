//! Probes whether a server accepts connections on a port.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::events::{Events, Interest, Token};
use crate::system;
use crate::topology::SANDBOX;
use crate::wire::init::Reply;

/// The maximum number of probes at once. The library sends one after another.
const MAX_PROBES: usize = 64;

/// The addresses where a server may listen, in the order in which they are tried: some listen on eth0's address only.
pub(super) const ADDRESSES: [ServerAddress; 3] =
    [ServerAddress::V4([127, 0, 0, 1]), ServerAddress::V6, ServerAddress::V4(SANDBOX.octets())];

/// An address in the sandbox.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServerAddress {
    V4([u8; 4]),
    /// ::1
    V6,
}

impl ServerAddress {
    /// Starts to connect a new socket to a port of this address.
    pub(super) fn connect(self, port: u16) -> io::Result<OwnedFd> {
        match self {
            Self::V4(address) => {
                let socket = system::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
                // SAFETY: sockaddr_in is a plain C struct for which all zeroes is a valid value.
                let mut target: libc::sockaddr_in = unsafe { std::mem::zeroed() };
                target.sin_family = u16::try_from(libc::AF_INET).unwrap_or(0);
                target.sin_port = port.to_be();
                target.sin_addr.s_addr = u32::from_ne_bytes(address);
                begin(socket, &target)
            }
            Self::V6 => {
                let socket = system::socket(libc::AF_INET6, libc::SOCK_STREAM, 0)?;
                // SAFETY: sockaddr_in6 is a plain C struct for which all zeroes is a valid value.
                let mut target: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
                target.sin6_family = u16::try_from(libc::AF_INET6).unwrap_or(0);
                target.sin6_port = port.to_be();
                target.sin6_addr.s6_addr = std::net::Ipv6Addr::LOCALHOST.octets();
                begin(socket, &target)
            }
        }
    }
}

fn begin<T>(socket: OwnedFd, target: &T) -> io::Result<OwnedFd> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the address is live and as long as said.
    let done = unsafe { libc::connect(socket.as_raw_fd(), std::ptr::from_ref(target).cast(), length) };
    match system::check(done) {
        Ok(_) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// The result of a non-blocking connect: 0, or its errno.
pub(super) fn outcome(socket: &OwnedFd) -> i32 {
    let mut value = 0_i32;
    let mut length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: value and length are live.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if done == 0 { value } else { libc::EIO }
}

#[derive(Debug)]
struct Probe {
    ticket: u32,
    port: u16,
    socket: OwnedFd,
    rest: &'static [ServerAddress],
}

/// The probes in progress.
#[derive(Debug, Default)]
pub(super) struct Probes(Vec<Option<Probe>>);

impl Probes {
    /// Starts a probe. Returns its reply if it has failed already.
    pub(super) fn start(&mut self, events: &Events, ticket: u32, port: u16) -> Option<Reply> {
        let free = self.0.iter().position(Option::is_none);
        let index = free.unwrap_or(self.0.len());
        if index >= MAX_PROBES {
            return Some(Reply::Probed { ticket, errno: libc::EAGAIN });
        }
        if free.is_none() {
            self.0.push(None);
        }
        self.next(events, index, ticket, port, &ADDRESSES, libc::ECONNREFUSED)
    }

    fn next(
        &mut self,
        events: &Events,
        index: usize,
        ticket: u32,
        port: u16,
        places: &'static [ServerAddress],
        mut errno: i32,
    ) -> Option<Reply> {
        let slot = self.0.get_mut(index)?;
        *slot = None;
        let mut rest = places;
        while let Some((place, more)) = rest.split_first() {
            rest = more;
            let token = Token::Probe { index: u32::try_from(index).unwrap_or(u32::MAX) };
            let begun = place.connect(port).and_then(|socket| {
                events.add(socket.as_raw_fd(), token, Interest::WRITE)?;
                Ok(socket)
            });
            match begun {
                Ok(socket) => {
                    *slot = Some(Probe { ticket, port, socket, rest });
                    return None;
                }
                Err(error) => errno = error.raw_os_error().unwrap_or(errno),
            }
        }
        Some(Reply::Probed { ticket, errno })
    }

    /// Handles the result of a connect.
    pub(super) fn ready(&mut self, events: &Events, index: u32) -> Option<Reply> {
        let index = usize::try_from(index).ok()?;
        let Probe { ticket, port, socket, rest } = self.0.get_mut(index)?.take()?;
        match outcome(&socket) {
            0 => Some(Reply::Probed { ticket, errno: 0 }),
            errno => self.next(events, index, ticket, port, rest, errno),
        }
    }
}
