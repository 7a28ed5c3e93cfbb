//! The resolver's own sockets: they receive questions and take connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::net::TcpListener;

use crate::egress::cx::Cx;
use crate::egress::kinds::DNS_SOCKET;
use crate::reactor::{FdSlot, Key, Reactor, Slab};
use crate::sys::datagram;

#[derive(Debug)]
enum Socket {
    /// Receives questions by UDP.
    Datagram(OwnedFd),
    /// Takes connections.
    Listener(TcpListener),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Datagram(fd) => fd.as_fd(),
            Self::Listener(listener) => listener.as_fd(),
        }
    }
}

/// The sockets of all sandboxes' resolvers.
#[derive(Debug)]
pub(super) struct Servers {
    sockets: Slab<(u64, Socket)>,
}

impl Servers {
    pub(super) fn new() -> Self {
        Self { sockets: Slab::new(DNS_SOCKET) }
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// A sandbox's sockets.
    pub(super) fn keys(&self, sandbox: u64) -> Vec<Key> {
        self.sockets.iter().filter(|(_, (of, _))| *of == sandbox).map(|(key, _)| key).collect()
    }

    /// Watches a resolver's sockets.
    pub(super) fn add(
        &mut self,
        cx: &Cx,
        reactor: &mut Reactor,
        sandbox: u64,
        datagrams: Option<OwnedFd>,
        listener: Option<TcpListener>,
    ) {
        let sockets = datagrams.map(Socket::Datagram).into_iter().chain(listener.map(Socket::Listener));
        for socket in sockets {
            let key = self.sockets.insert((sandbox, socket));
            reactor.join(key, sandbox);
            let Some((_, socket)) = self.sockets.get_mut(key) else {
                debug_assert!(false, "it was just inserted");
                continue;
            };
            if let Err(error) = reactor.register(socket.as_fd(), key, FdSlot::First) {
                self.sockets.remove(key);
                cx.report(sandbox, format!("the resolver can't be watched ({error}) and is closed"));
            }
        }
    }

    /// The socket's sandbox, and whether connections come over it.
    pub(super) fn get(&mut self, key: Key) -> Option<(u64, bool)> {
        self.sockets.get_mut(key).map(|(sandbox, socket)| (*sandbox, matches!(socket, Socket::Listener(_))))
    }

    /// Receives the next question by UDP.
    pub(super) fn receive(&mut self, key: Key, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self.sockets.get_mut(key) {
            Some((_, Socket::Datagram(fd))) => datagram::receive_from(fd.as_fd(), buffer),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Accepts the next connection.
    pub(super) fn accept(&mut self, key: Key) -> io::Result<OwnedFd> {
        match self.sockets.get_mut(key) {
            Some((_, Socket::Listener(listener))) => listener.accept().map(|(stream, _)| stream.into()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends an answer by UDP. One that finds no room is lost, as datagrams are; the question will come again.
    pub(super) fn send(&mut self, key: Key, to: SocketAddr, bytes: &[u8]) {
        // The socket may have been closed since the question came.
        if let Some((_, Socket::Datagram(fd))) = self.sockets.get_mut(key) {
            let _ = datagram::send_to(fd.as_fd(), to, bytes);
        }
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, reactor: &mut Reactor, key: Key) {
        if let Some((_, socket)) = self.sockets.remove(key) {
            reactor.deregister(socket.as_fd());
        }
    }
}
