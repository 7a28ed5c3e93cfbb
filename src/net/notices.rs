//! The kernel's notifications about changes of the host's routes and links.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::error::{Context, Result};

/// linux/rtnetlink.h: links, routes and rules of both families, next hops. RTNLGRP_x is bit x - 1. A new address of the
/// host's is reported by its local route, which the notification of the address itself precedes.
const GROUPS: u32 = 0x1 | 0x40 | 0x80 | 0x400 | 1 << 18 | 1 << 31;
/// How many notifications are read before others get a turn.
const MAX_NOTICES: usize = 64;

/// A socket that receives notifications of its network namespace.
#[derive(Debug)]
pub(crate) struct Notices {
    fd: OwnedFd,
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Something has changed.
    pub(crate) changed: bool,
    /// There may be more.
    pub(crate) more: bool,
}

impl Notices {
    /// Of the network namespace that the calling thread is in.
    pub(crate) fn open() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
            .context("a netlink socket for changes of the routing")?;
        Self::over(fd)
    }

    /// Of the network namespace that this NETLINK_ROUTE socket was opened in.
    pub(crate) fn over(fd: OwnedFd) -> Result<Self> {
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).context("listening for changes of the routing")?;
        Ok(Self { fd })
    }

    /// Reads what is waiting. The contents don't matter: the current state is looked up when it is needed.
    pub(crate) fn hear(&self) -> Heard {
        let mut changed = false;
        for _ in 0..MAX_NOTICES {
            match recv(self.fd.as_raw_fd(), &mut [0; 64], MsgFlags::MSG_DONTWAIT) {
                // ENOBUFS: some were lost.
                Ok(1..) | Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EINTR) => {}
                Ok(0) | Err(_) => return Heard { changed, more: false },
            }
        }
        Heard { changed, more: true }
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
