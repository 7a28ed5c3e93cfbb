//! A netlink socket: requests and their answers.
//!
//! The kernel works on a request while it is being sent, and has queued the answer when the send returns, so
//! nothing here waits: an answer that isn't there is an error.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use super::message::{Message, Received, flags, messages, u32_at};
use crate::error::{Code, Error, Result};

/// NLMSG_ERROR, which with error 0 is the acknowledgement.
const ERROR: u16 = 2;
/// NLMSG_DONE, the end of a dump.
const DONE: u16 = 3;
/// The header holds only its own length of the request (NETLINK_CAP_ACK), and attributes follow.
const ACK_TLVS: u16 = 0x200;
/// NLMSGERR_ATTR_MSG, the kernel's own words.
const ATTRIBUTE_TEXT: u16 = 1;
/// The most that the kernel puts into one datagram of a dump.
const DATAGRAM: usize = 64 * 1024;

/// A netlink socket, made in whatever network namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Over a socket.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, sequence: 0 }
    }

    /// Sends requests in one go and takes their acknowledgements. The first that failed is the error; the
    /// others were carried out nevertheless (nf_tables' batches: none).
    pub(super) fn request(&mut self, requests: Vec<Message>) -> Result<()> {
        let first = self.sequence.wrapping_add(1);
        let names: Vec<&'static str> = requests.iter().map(|request| request.what).collect();
        let mut bytes = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(&request.finish(self.sequence));
        }
        self.send(&bytes)?;
        let mut failure: Option<(u32, Error)> = None;
        let mut answered = 0;
        let mut buffer = vec![0; DATAGRAM];
        while let Some(length) = self.receive(&mut buffer)? {
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                let index = message.sequence.wrapping_sub(first);
                let Some(what) = usize::try_from(index).ok().and_then(|index| names.get(index)) else {
                    continue;
                };
                let Some((error, text)) = acknowledgement(&message) else { continue };
                answered += 1;
                if error != 0 && failure.as_ref().is_none_or(|(before, _)| index < *before) {
                    failure = Some((index, refused(what, error, text)));
                }
            }
        }
        match failure {
            Some((_, error)) => Err(error),
            None if answered == 0 => {
                Err(Error::new(Code::Internal, "the kernel did not answer a netlink request"))
            }
            None => Ok(()),
        }
    }

    /// Sends one request and gives every message of the answer to `take`.
    pub(super) fn query(&mut self, request: Message, mut take: impl FnMut(&Received<'_>)) -> Result<()> {
        let what = request.what;
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        self.send(&bytes)?;
        let mut buffer = vec![0; DATAGRAM];
        while let Some(length) = self.receive(&mut buffer)? {
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => match acknowledgement(&message) {
                        Some((0, _)) | None => {}
                        Some((error, text)) => return Err(refused(what, error, text)),
                    },
                    _ => take(&message),
                }
            }
        }
        Ok(())
    }

    /// Gives the socket back.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => {
                    let what = format!("sending {} bytes to the kernel by netlink", bytes.len());
                    return Err(Error::system(what, &io::Error::from(error)));
                }
            }
        }
    }

    /// The length of the next datagram; `None` if there is none.
    fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        loop {
            match recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(error) => {
                    return Err(Error::system("receiving from the kernel by netlink", &error.into()));
                }
            }
        }
    }
}

/// The error number (0: done) and the kernel's text, if it is an acknowledgement.
fn acknowledgement(message: &Received<'_>) -> Option<(i32, Option<String>)> {
    if message.kind != ERROR {
        return None;
    }
    let error = u32_at(message.payload, 0)?.cast_signed().wrapping_neg();
    let mut text = None;
    if message.flags & ACK_TLVS != 0 {
        // The error number, then the header of the request, then attributes.
        let list = message.payload.get(4 + super::message::HEADER..).unwrap_or_default();
        text = super::message::attributes(list)
            .find(|(kind, _)| *kind == ATTRIBUTE_TEXT)
            .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
    }
    Some((error, text))
}

fn refused(what: &str, error: i32, text: Option<String>) -> Error {
    let error = Error::system(format!("the kernel refuses: {what}"), &io::Error::from_raw_os_error(error));
    match text {
        Some(text) => error.append(&format!(" ({text})")),
        None => error,
    }
}

/// A request that is answered.
pub(super) fn request(what: &'static str, kind: u16, more: u16) -> Message {
    Message::new(what, kind, flags::ACK | more)
}
