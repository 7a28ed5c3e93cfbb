//! Sockets as the relay needs them: never blocking, never raising SIGPIPE, closed with a reset on demand.

#![allow(
    unsafe_code,
    reason = "connect() with AF_UNSPEC, SIOCOUTQ and IPV6_TRANSPARENT have no safe wrapper"
)]

use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    self, AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage,
    sockopt,
};

/// Whether accept(2) or the like has failed because the process or the machine is out of something.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Where the descriptor's bytes go; the two differ only in how a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// A TCP connection.
    Tcp,
    /// An AF_UNIX stream.
    Unix,
}

/// A connected, non-blocking stream socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    family: Family,
}

impl Socket {
    /// Takes a descriptor that is non-blocking already.
    pub(crate) fn new(fd: OwnedFd, family: Family) -> Self {
        Self { fd, family }
    }

    /// Where its bytes go.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// Takes a descriptor from outside and makes it non-blocking.
    pub(crate) fn adopt(fd: OwnedFd, family: Family) -> io::Result<Self> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { fd, family })
    }

    /// Reads what there is; 0 is the end of the stream.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| socket::recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
    }

    /// Writes what fits, without SIGPIPE: the host's disposition may be the deadly default.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        retry(|| socket::send(self.fd.as_raw_fd(), bytes, flags))
    }

    /// Ends our direction of the stream; reading goes on.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match socket::shutdown(self.fd.as_raw_fd(), Shutdown::Write) {
            // The peer is gone completely by now.
            Ok(()) | Err(nix::Error::ENOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Cuts the connection so that the peer sees a reset, also when a forked child of the host holds the
    /// socket too (SO_LINGER would do nothing then). An AF_UNIX peer sees the end of the stream, or
    /// ECONNRESET if it had sent something that was not read.
    pub(crate) fn reset(self) {
        match self.family {
            Family::Tcp => disconnect(self.fd.as_fd()),
            Family::Unix => {
                let _ = socket::shutdown(self.fd.as_raw_fd(), Shutdown::Both);
            }
        }
    }

    /// Ends the stream in both directions, for every holder of this end. Received bytes can still be read.
    pub(crate) fn end(&self) {
        // Without a peer it has ended already.
        let _ = socket::shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }

    /// Whether nothing has come that is yet to be read, and more may come.
    pub(crate) fn waits_for_more(&self) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
        matches!(socket::recv(self.fd.as_raw_fd(), &mut [0], flags), Err(nix::Error::EAGAIN))
    }

    /// How many written bytes the peer's kernel hasn't acknowledged yet (0 if unknown).
    pub(crate) fn unsent(&self) -> usize {
        let mut count: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int, to which `count` is a valid pointer
        // for the length of the call; the descriptor is open because we own it.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
        if result < 0 { 0 } else { usize::try_from(count).unwrap_or(0) }
    }

    /// The error that waits on the socket, if one does.
    pub(crate) fn pending_error(&self) -> io::Result<()> {
        match socket::getsockopt(&self.fd, sockopt::SocketError)? {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(number)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::Error::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Starts to connect a non-blocking TCP socket: true if it is connected at once.
pub(crate) fn connect(fd: BorrowedFd<'_>, to: SocketAddr) -> io::Result<bool> {
    let address = SockaddrStorage::from(to);
    match socket::connect(fd.as_raw_fd(), &address) {
        Ok(()) => Ok(true),
        // Interrupted or not, the connect goes on, and readiness reports its end.
        Err(nix::Error::EINPROGRESS | nix::Error::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives a socket its source address, and leaves the choice of the port to connect(), which can take one that
/// is in use towards another destination.
pub(crate) fn bind_source(fd: BorrowedFd<'_>, source: std::net::IpAddr) -> io::Result<()> {
    socket::setsockopt(&fd, sockopt::IpBindAddressNoPort, &true)?;
    match source {
        std::net::IpAddr::V4(ip) => {
            socket::bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(ip, 0)))?;
        }
        std::net::IpAddr::V6(ip) => {
            socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(ip, 0, 0, 0)))?;
        }
    }
    Ok(())
}

/// Small writes go out at once: the relay writes whole chunks, and the peers decided about batching.
pub(crate) fn set_no_delay(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(socket::setsockopt(&fd, sockopt::TcpNoDelay, &true)?)
}

/// Leaves an urgent byte (MSG_OOB) in the stream, where it is passed on like any other; else it is lost.
pub(crate) fn set_urgent_inline(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(socket::setsockopt(&fd, sockopt::OobInline, &true)?)
}

/// Has the kernel detect a peer that has vanished silently.
pub(crate) fn set_keep_alive(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(socket::setsockopt(&fd, sockopt::KeepAlive, &true)?)
}

/// A non-blocking TCP socket of the namespace that the calling thread is in.
pub(crate) fn tcp(ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socket(family, SockType::Stream, flags, None)?)
}

/// Lets a socket take what was sent to other addresses than the namespace's own, and answer from them. Needs
/// CAP_NET_ADMIN over that namespace.
pub(crate) fn set_transparent(fd: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if !ipv6 {
        return Ok(socket::setsockopt(&fd, sockopt::IpTransparent, &true)?);
    }
    let on: libc::c_int = 1;
    #[allow(clippy::cast_possible_truncation, reason = "an int has 4 bytes")]
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is one int, to which the pointer leads for the length of the call, and `length` is its
    // size; the descriptor is open because it is borrowed.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_TRANSPARENT,
            (&raw const on).cast(),
            length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's memory that waits in a socket: what came and wasn't read, and what was written and isn't acknowledged.
pub(crate) fn memory(fd: BorrowedFd<'_>) -> usize {
    // linux/sock_diag.h: the indices of SO_MEMINFO's values.
    const RMEM_ALLOC: usize = 0;
    const WMEM_ALLOC: usize = 2;
    const WMEM_QUEUED: usize = 5;
    const COUNT: usize = 9;
    let mut values = [0_u32; COUNT];
    #[allow(clippy::cast_possible_truncation, reason = "36 bytes")]
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `values`, which has as many, and the length back; both live
    // through the call, and the descriptor is open because it is borrowed.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let value = |index: usize| values.get(index).copied().unwrap_or(0) as usize;
    // TCP has what it sent in copies too.
    if result < 0 { 0 } else { value(RMEM_ALLOC) + value(WMEM_QUEUED).max(value(WMEM_ALLOC)) }
}

/// Bounds what the kernel keeps for a socket, each way; it takes double that for its own needs. What is there stays.
pub(crate) fn set_buffers(fd: BorrowedFd<'_>, size: usize) {
    // A socket that has failed needs none.
    let _ = socket::setsockopt(&fd, sockopt::SndBuf, &size);
    let _ = socket::setsockopt(&fd, sockopt::RcvBuf, &size);
}

/// The address that a socket is bound to or, for an accepted connection, was reached at.
pub(crate) fn local_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address: SockaddrStorage = socket::getsockname(fd.as_raw_fd())?;
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    let v6 = || address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into()));
    v4.or_else(v6).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

/// Resets a TCP connection now, even if another process holds it: connect() to AF_UNSPEC disconnects it in the kernel.
pub(crate) fn disconnect(fd: BorrowedFd<'_>) {
    let nowhere = libc::sockaddr {
        #[allow(clippy::cast_possible_truncation, reason = "AF_UNSPEC is 0")]
        #[allow(clippy::cast_sign_loss, reason = "AF_UNSPEC is 0")]
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    #[allow(clippy::cast_possible_truncation, reason = "a sockaddr has 16 bytes")]
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: `nowhere` is a whole sockaddr that lives through the call, `length` is its size, and the
    // descriptor is open because it is borrowed. The result doesn't matter: the socket is closed next.
    unsafe { libc::connect(fd.as_raw_fd(), &raw const nowhere, length) };
}
