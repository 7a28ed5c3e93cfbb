//! A netlink socket: requests and their answers.
//!
//! Many requests go to the kernel in one system call. The kernel always reports errors, and success only of requests that
//! ask for it: the last one does, which is processed last. So a whole topology costs one send and one receive. The kernel
//! processes requests during the send, so the answer is queued when it returns; a short timeout ensures that the control
//! thread can't hang anyway.
//!
//! Not a crate: `netlink-packet-route` has breaking releases several times a year and is made for async callers,
//! and this needs a dozen of its hundreds of message types.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, SetSockOpt as _, getsockopt, recv, send, sockopt};

use super::message::{HEADER, Message, Received, attribute, flags, messages, u32_at};
use crate::error::{Code, Context, Error, Result};
use crate::sys::netlink::explain_refusals;

/// NLMSG_ERROR, which with error 0 is the acknowledgement.
const ERROR: u16 = 2;
/// NLMSG_DONE, the end of a dump.
const DONE: u16 = 3;
/// NLM_F_DUMP_INTR: the list changed while it was read.
const INTERRUPTED: u16 = 0x10;
/// NLM_F_CAPPED: only the header of the request is included.
const CAPPED: u16 = 0x100;
/// NLM_F_ACK_TLVS: attributes follow.
const ACK_TLVS: u16 = 0x200;
/// NLMSGERR_ATTR_MSG, the kernel's error text.
const ATTRIBUTE_TEXT: u16 = 1;
/// More than the kernel puts into one datagram (32 KiB, or one acknowledgement).
const MAX_DATAGRAM: usize = 64 * 1024;
/// How long to wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The part of the send buffer that the kernel reserves (netlink_sendmsg).
const RESERVED: usize = 32;
/// The requested size of the send buffer. The kernel grants at most net.core.wmem_max.
const SEND_BUFFER: usize = 1 << 20;

/// A netlink socket, of any network namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Wraps a socket that was opened elsewhere.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self> {
        explain_refusals(fd.as_fd()).context("setting the options of a netlink socket")?;
        Ok(Self { fd, sequence: 0, buffer: Vec::new() })
    }

    /// Returns the socket.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends requests in one call. Returns the error of the first refused one; later ones were carried out nevertheless (in
    /// an nf_tables transaction: none).
    pub(super) fn request(&mut self, requests: Vec<Message>) -> Result<()> {
        let Some(last) = requests.iter().rposition(Message::is_acknowledged) else { return Ok(()) };
        let first = self.sequence.wrapping_add(1);
        let known: Vec<_> = requests.iter().map(|request| (request.what(), request.tolerated())).collect();
        let mut bytes = Vec::with_capacity(requests.iter().map(Message::len).sum());
        for (index, request) in requests.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let more = if index == last { flags::ACK } else { 0 };
            request.finish(self.sequence, more, &mut bytes)?;
        }
        self.send(&bytes)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut failure: Option<(usize, Error)> = None;
        loop {
            let received = match self.receive(deadline, failure.is_some())? {
                Some(length) => self.buffer.get(..length).unwrap_or_default(),
                None => return failure.map_or_else(|| Err(silence()), |(_, error)| Err(error)),
            };
            let mut done = false;
            for message in messages(received) {
                let Ok(index) = usize::try_from(message.sequence.wrapping_sub(first)) else { continue };
                let Some((what, tolerated)) = known.get(index) else { continue };
                let Some(answer) = Answer::parse(&message) else { continue };
                done |= index == last;
                let earlier = failure.as_ref().is_some_and(|(before, _)| *before <= index);
                if answer.errno != 0 && *tolerated != Some(Errno::from_raw(answer.errno)) && !earlier {
                    failure = Some((index, answer.into_error(what)));
                }
            }
            if done {
                return failure.map_or(Ok(()), |(_, error)| Err(error));
            }
        }
    }

    /// Sends one query and passes every message of the answer to `take`.
    pub(super) fn query(&mut self, question: Message, mut take: impl FnMut(&Received<'_>)) -> Result<()> {
        let what = question.what();
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(question.len());
        // A list ends by NLMSG_DONE and is not acknowledged; a single answer is.
        question.finish(self.sequence, flags::ACK, &mut bytes)?;
        self.send(&bytes)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut changed = false;
        loop {
            let Some(length) = self.receive(deadline, false)? else { return Err(silence()) };
            for message in messages(self.buffer.get(..length).unwrap_or_default()) {
                if message.sequence != self.sequence {
                    continue;
                }
                changed |= message.flags & INTERRUPTED != 0;
                match message.kind {
                    ERROR | DONE => {
                        let answer = Answer::parse(&message).unwrap_or_default();
                        return match answer.errno {
                            0 if changed => Err(Error::new(
                                Code::State,
                                format!("{what}: it changed while it was being read; read it again"),
                            )),
                            0 => Ok(()),
                            _ => Err(answer.into_error(what)),
                        };
                    }
                    _ => take(&message),
                }
            }
        }
    }

    /// How many bytes may be sent at once. For an ordinary user net.core.wmem_max limits it.
    pub(super) fn room(&self) -> Result<usize> {
        // If refused or reduced, the buffer is no smaller than before.
        let _ = sockopt::SndBuf.set(&self.fd, &(SEND_BUFFER / 2));
        let size = getsockopt(&self.fd, sockopt::SndBuf).context("the size of a netlink socket's buffer")?;
        Ok(size.min(SEND_BUFFER).saturating_sub(RESERVED))
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(sent) => {
                    let text = format!("netlink took {sent} of {} bytes", bytes.len());
                    return Err(Error::new(Code::Internal, text));
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    let what = format!("sending {} bytes to the kernel by netlink", bytes.len());
                    return Err(Error::system(what, &io::Error::from(error)));
                }
            }
        }
    }

    /// Reads the next datagram into the buffer and returns its length; `None` if none arrives in time, or, if `only_queued`,
    /// if none is queued. ENOBUFS (an answer was lost) is an error: the outcome is unknown then.
    fn receive(&mut self, deadline: Instant, only_queued: bool) -> Result<Option<usize>> {
        self.buffer.resize(MAX_DATAGRAM, 0);
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => return Ok(Some(length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if only_queued || left.is_zero() {
                        return Ok(None);
                    }
                    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                    match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], timeout) {
                        Ok(_) | Err(Errno::EINTR) => {}
                        Err(error) => return Err(error).context("waiting for an answer by netlink"),
                    }
                }
                Err(error) => return Err(error).context("receiving from the kernel by netlink"),
            }
        }
    }
}

fn silence() -> Error {
    let text = format!("the kernel did not answer a netlink request within {} s", ANSWER_TIMEOUT.as_secs());
    Error::new(Code::TimedOut, text)
}

/// The kernel's answer to a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// 0 is success.
    errno: i32,
    text: Option<String>,
}

impl Answer {
    fn parse(message: &Received<'_>) -> Option<Self> {
        if message.kind != ERROR && message.kind != DONE {
            return None;
        }
        let errno = u32_at(message.payload, 0)?.cast_signed().checked_neg()?;
        let mut text = None;
        if message.flags & ACK_TLVS != 0 {
            text = Self::attributes(message)
                .and_then(|list| attribute(list, ATTRIBUTE_TEXT))
                .map(|text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        }
        Some(Self { errno, text })
    }

    /// The attributes behind the errno and, unless this ends a list, the request or its header.
    fn attributes<'a>(message: &Received<'a>) -> Option<&'a [u8]> {
        let repeated = match message.kind {
            DONE => 0,
            _ if message.flags & CAPPED != 0 => HEADER,
            _ => {
                usize::try_from(u32_at(message.payload, 4)?).ok()?.max(HEADER).checked_next_multiple_of(4)?
            }
        };
        message.payload.get(repeated.checked_add(4)?..)
    }

    fn into_error(self, what: &str) -> Error {
        let why = self.text.map(|text| format!(" ({text})")).unwrap_or_default();
        let what = format!("the kernel refuses {what}{why}");
        Error::system(what, &io::Error::from_raw_os_error(self.errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use proptest::prelude::*;

    fn received(kind: u16, flags: u16, payload: &[u8]) -> Received<'_> {
        Received { kind, flags, sequence: 1, payload }
    }

    fn refusal(errno: i32, repeated: &[u8], text: &str) -> Vec<u8> {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        payload.extend_from_slice(repeated);
        let length = u16::try_from(text.len() + 5).unwrap();
        payload.extend_from_slice(&length.to_ne_bytes());
        payload.extend_from_slice(&ATTRIBUTE_TEXT.to_ne_bytes());
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        payload
    }

    #[test]
    fn the_kernels_words_are_found_behind_a_header_and_behind_a_whole_request() {
        let mut request = vec![0; 24];
        request[..4].copy_from_slice(&24_u32.to_ne_bytes());
        let whole = refusal(22, &request, "No such thing");
        let capped = refusal(22, &request[..16], "No such thing");
        for (flags, payload) in [(ACK_TLVS, &whole), (ACK_TLVS | CAPPED, &capped)] {
            let answer = Answer::parse(&received(ERROR, flags, payload)).unwrap();
            assert_eq!(answer, Answer { errno: 22, text: Some("No such thing".to_owned()) });
            let error = answer.into_error("a rule");
            assert_eq!(error.os_error(), Some(22));
            assert!(
                error.message().starts_with("the kernel refuses a rule (No such thing): Invalid"),
                "{error}"
            );
        }
    }

    /// A pair of sockets, the second of which plays the kernel.
    fn pair() -> (Netlink, OwnedFd) {
        let kind = SockType::SeqPacket;
        let (ours, kernel) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (Netlink { fd: ours, sequence: 0, buffer: Vec::new() }, kernel)
    }

    fn say(kernel: &OwnedFd, kind: u16, flags: u16, sequence: u32, payload: &[u8]) {
        let mut bytes = Vec::new();
        Message::new("an answer", kind, flags).fixed(payload).finish(sequence, 0, &mut bytes).unwrap();
        send(kernel.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL).unwrap();
    }

    #[test]
    fn answers_to_earlier_requests_are_passed_over_and_the_first_refusal_is_the_error() {
        let (mut netlink, kernel) = pair();
        netlink.sequence = u32::MAX - 1;
        let done = 0_i32.to_ne_bytes();
        say(&kernel, ERROR, 0, 77, &refusal(1, &[0; 16], "of an earlier one"));
        say(&kernel, ERROR, ACK_TLVS | CAPPED, 0, &refusal(17, &[0; 16], "the second"));
        say(&kernel, ERROR, ACK_TLVS | CAPPED, u32::MAX, &refusal(95, &[0; 16], "the first"));
        say(&kernel, ERROR, 0, 1, &done);
        let request = |what| Message::new(what, 16, 0);
        let error = netlink.request(vec![request("one"), request("two"), request("three")]).unwrap_err();
        assert!(error.message().contains("one (the first)"), "{error}");
    }

    #[test]
    fn a_tolerated_refusal_is_none() {
        let (mut netlink, kernel) = pair();
        say(&kernel, ERROR, CAPPED, 1, &refusal(libc::EAFNOSUPPORT, &[0; 16], ""));
        say(&kernel, ERROR, 0, 2, &0_i32.to_ne_bytes());
        let first = Message::new("one", 16, 0).tolerating(Errno::EAFNOSUPPORT);
        netlink.request(vec![first, Message::new("two", 16, 0)]).unwrap();
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_not_taken_for_one() {
        let (mut netlink, kernel) = pair();
        say(&kernel, 24, INTERRUPTED, 1, &[1; 4]);
        say(&kernel, DONE, 0, 1, &0_i32.to_ne_bytes());
        let mut seen = 0;
        let error = netlink.query(Message::new("a list", 26, flags::DUMP), |_| seen += 1).unwrap_err();
        assert_eq!((seen, error.code()), (1, Code::State));
    }

    #[test]
    fn a_kernel_that_is_gone_or_silent_is_an_error() {
        let (mut netlink, kernel) = pair();
        say(&kernel, ERROR, 0, 9, &[]);
        let error = netlink.request(vec![Message::new("one", 16, 0)]).unwrap_err();
        assert_eq!(error.code(), Code::TimedOut);
        drop(kernel);
        assert!(netlink.request(vec![Message::new("one", 16, 0)]).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_within_its_bounds(kind in 2_u16..4, flags: u16, payload: Vec<u8>) {
            let _ = Answer::parse(&received(kind, flags, &payload));
        }
    }
}
