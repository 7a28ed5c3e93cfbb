//! UDP sockets of the relay: they receive a datagram with its original destination, and answer from any address.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage,
    bind, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::socket::set_transparent;

/// Room for the control message with a datagram's original destination.
const CONTROL: usize = 128;

/// A datagram that was delivered whatever its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Its length, at the front of the buffer.
    pub(crate) length: usize,
    /// Who sent it.
    pub(crate) from: SocketAddr,
    /// Where it was to go.
    pub(crate) to: SocketAddr,
}

/// Binds a socket of G to the address to which the rules deliver.
pub(crate) fn hear_all(socket: BorrowedFd<'_>, at: SocketAddr) -> io::Result<()> {
    set_transparent(socket, at.is_ipv6())?;
    if at.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
    }
    Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?)
}

/// Makes an unbound socket of G answer from that port of any address. It is bound to an address that nothing is
/// ever sent to.
pub(crate) fn answer_from(socket: BorrowedFd<'_>, unused: IpAddr, port: u16) -> io::Result<()> {
    set_transparent(socket, unused.is_ipv6())?;
    if unused.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(unused, port)))?)
}

/// The next datagram that was delivered to such a socket. One without its original destination is ignored.
pub(crate) fn receive_delivered(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<Delivered>> {
    let mut control = [0_u8; CONTROL];
    let mut parts = [IoSliceMut::new(buffer)];
    let message = retry(|| {
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)
            .map(|message| {
                let to = message.cmsgs().ok().and_then(|mut all| all.find_map(|one| original(&one)));
                (message.bytes, message.address.as_ref().and_then(address), to)
            })
    })?;
    let (length, from, to) = message;
    Ok(from.zip(to).map(|(from, to)| Delivered { length, from, to }))
}

fn original(message: &ControlMessageOwned) -> Option<SocketAddr> {
    match message {
        ControlMessageOwned::Ipv4OrigDstAddr(to) => {
            let address = u32::from_be(to.sin_addr.s_addr);
            Some(SocketAddrV4::new(address.into(), u16::from_be(to.sin_port)).into())
        }
        ControlMessageOwned::Ipv6OrigDstAddr(to) => {
            Some(SocketAddrV6::new(to.sin6_addr.s6_addr.into(), u16::from_be(to.sin6_port), 0, 0).into())
        }
        _ => None,
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
}

/// Sends a datagram with that sender's address, from a socket made by [`answer_from`] for its port.
pub(crate) fn send_from(
    socket: BorrowedFd<'_>,
    from: IpAddr,
    to: SocketAddr,
    bytes: &[u8],
) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let to = SockaddrStorage::from(to);
    let send = |control: ControlMessage<'_>| {
        retry(|| sendmsg(socket.as_raw_fd(), &parts, &[control], flags, Some(&to)).map(drop))
    };
    match from {
        IpAddr::V4(from) => send(ControlMessage::Ipv4PacketInfo(&libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: from.to_bits().to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        })),
        IpAddr::V6(from) => send(ControlMessage::Ipv6PacketInfo(&libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
            ipi6_ifindex: 0,
        })),
    }
}

/// Of what comes to a connected socket, so much waits in the kernel, which takes double that for its own needs: the
/// longest datagram fits. The default is half as much again; there may be thousands of them, and it is the host's memory.
const WAITING: usize = 64 << 10;

/// A non-blocking socket of the namespace that the calling thread is in, which talks to that address and no other.
pub(crate) fn connected(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::RcvBuf, &WAITING)?;
    socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(fd)
}

/// Sends a datagram on a connected socket.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    retry(|| socket::send(socket.as_raw_fd(), bytes, flags).map(drop))
}

/// The next datagram of a connected socket; one may be empty.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| socket::recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
}

/// The next datagram of an unconnected socket, and who sent it.
pub(crate) fn receive_from(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let (length, from) = retry(|| {
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT)
            .map(|message| (message.bytes, message.address.as_ref().and_then(address)))
    })?;
    let from =
        from.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a datagram without a sender"))?;
    Ok((length, from))
}

/// Sends a datagram from an unconnected socket.
pub(crate) fn send_to(socket: BorrowedFd<'_>, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let to = SockaddrStorage::from(to);
    retry(|| socket::sendto(socket.as_raw_fd(), bytes, &to, flags).map(drop))
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::Error::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}
