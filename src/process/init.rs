//! The library's side of init, read as one reads an attacker.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Code, Error, Result};
use crate::keeper::wire::init::{Reply, Request};
use crate::sys::channel::{Channel, wipe};

/// Longer than anything that init has to say.
const LONGEST: usize = 64;

/// The channel to a sandbox's init.
#[derive(Debug)]
pub(crate) struct Init {
    channel: Channel,
    /// Something waits because too many descriptors of this user are on their way.
    is_crowded: bool,
}

impl Init {
    /// Over the library's end of the pair.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { channel: Channel::with_limit(fd, LONGEST), is_crowded: false }
    }

    /// Asks for something. An init that doesn't read is an error once its backlog is full.
    pub(crate) fn ask(&mut self, request: &Request, fds: Vec<OwnedFd>) -> Result<()> {
        let mut bytes = request.encode();
        let sent = self.channel.send(&bytes, fds);
        // The environment of a program may hold secrets.
        wipe(&mut bytes);
        self.sent(sent)
    }

    /// Goes on sending what init could not take before.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let sent = self.channel.flush().map(|_| ());
        self.sent(sent)
    }

    /// Whether what waits is to be sent again later: no readiness tells that fewer descriptors are on their way.
    pub(crate) fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Descriptors on their way are counted by user, those of other processes too, against the limit of open ones
    /// (unix(7), ETOOMANYREFS). That passes, and what was to be sent is still in the channel.
    fn sent(&mut self, sent: io::Result<()>) -> Result<()> {
        self.is_crowded = sent.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ETOOMANYREFS));
        match sent {
            Err(error) if !self.is_crowded => {
                Err(Error::system("writing to the sandbox's init", &error).with_code(Code::Engine))
            }
            _ => Ok(()),
        }
    }

    /// What init said, if it has said something. Descriptors from inside are never wanted: they are closed,
    /// and the message counts as malformed.
    pub(crate) fn hear(&mut self) -> Result<Option<Reply>> {
        match self.channel.receive() {
            Ok(message) if message.fds.is_empty() && !message.truncated => {
                match Reply::decode(&message.bytes) {
                    Ok(reply) => Ok(Some(reply)),
                    Err(_) => Err(Error::new(Code::Engine, "the sandbox's init sent something malformed")),
                }
            }
            Ok(_) => Err(Error::new(Code::Engine, "the sandbox's init sent descriptors")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::new(Code::Engine, "the sandbox's init ended"))
            }
            Err(error) => {
                Err(Error::system("reading from the sandbox's init", &error).with_code(Code::Engine))
            }
        }
    }
}

impl AsFd for Init {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
