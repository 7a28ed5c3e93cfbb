//! Messages with descriptors over a SOCK_SEQPACKET pair (unix(7)).
//!
//! Used between the library, the keeper and the init inside the sandbox. Either end may be hostile to the other (init
//! belongs to the untrusted program as soon as that runs), so a message has a maximum size and a maximum number of
//! descriptors, and anything else is an error that ends the channel.
//!
//! A message longer than a frame travels in several: an ordinary user's SO_SNDBUF bounds the size of one
//! packet. Each frame starts with one byte, 1 if more follow; descriptors come with the last one.
//!
//! The descriptor is non-blocking. Messages that the peer has not read yet wait in a bounded backlog, so that a peer that
//! doesn't read costs a bounded amount of memory and no time.
#![allow(unsafe_code, reason = "sendmsg and recvmsg with control messages")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The largest payload of one frame.
const FRAME: usize = 32 * 1024;
/// The largest message: the start of a program with Linux's limit of arguments and environment, 2 MiB, and some more.
pub(crate) const MESSAGE: usize = 2 * 1024 * 1024 + 64 * 1024;
/// The most descriptors with one message.
pub(crate) const DESCRIPTORS: usize = 32;
/// The most bytes that may wait for a peer that doesn't read.
const BACKLOG: usize = 2 * MESSAGE;

const LAST_FRAGMENT: u8 = 0;
const MORE_FRAGMENTS: u8 = 1;

/// A received message.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The descriptors that came with it, all close-on-exec.
    pub(crate) fds: Vec<OwnedFd>,
    /// Some descriptors were lost, because this process is out of them.
    pub(crate) truncated: bool,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A message may hold secrets, such as a program's environment. The keeper shares this file and depends on libc alone, so
/// this isn't zeroize's.
impl Drop for Frame {
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&mut self.bytes);
    }
}

/// One end of a channel.
#[derive(Debug)]
pub(crate) struct Channel {
    fd: OwnedFd,
    backlog: VecDeque<Frame>,
    waiting: usize,
    partial: Vec<u8>,
    /// The largest message that is accepted.
    limit: usize,
    /// How many bytes the peer may have unread while something with descriptors is sent.
    most_unread: Option<usize>,
    queued: u64,
    sent: u64,
}

/// The space for the control message of `DESCRIPTORS` descriptors, aligned for a `cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; 160]);

impl Control {
    const fn new() -> Self {
        // 16 bytes of header and 4 a descriptor: CMSG_SPACE(32 * 4) = 144 on 64-bit Linux.
        Self([0; 160])
    }
}

fn control_length(fds: usize) -> usize {
    let bytes = u32::try_from(fds * size_of::<RawFd>()).unwrap_or(0);
    // SAFETY: CMSG_SPACE only computes a number from its argument.
    unsafe { libc::CMSG_SPACE(bytes) as usize }
}

/// A connected pair of non-blocking, close-on-exec SOCK_SEQPACKET sockets.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds: [RawFd; 2] = [-1, -1];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socketpair writes two descriptors into the array of two.
    let done = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so both are open descriptors that nothing else owns.
    let first = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let second = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    Ok((first, second))
}

impl Channel {
    /// A channel over one end of a pair. The descriptor must be non-blocking.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self::with_limit(fd, MESSAGE)
    }

    /// A channel that accepts no message longer than this.
    pub(crate) fn with_limit(fd: OwnedFd, limit: usize) -> Self {
        let (backlog, partial) = (VecDeque::new(), Vec::new());
        Self { fd, backlog, waiting: 0, partial, limit, most_unread: None, queued: 0, sent: 0 }
    }

    /// Holds descriptors back while the peer has more than this many bytes unread, as the kernel counts them (at least
    /// some 700 per message). `send` and `flush` then fail with `ETOOMANYREFS`, as when the kernel finds too many in
    /// transit: no readiness reports when they can go on.
    #[allow(dead_code, reason = "the library's, for an init that may not read")]
    pub(crate) fn holding_descriptors_beyond(self, most: usize) -> Self {
        Self { most_unread: Some(most), ..self }
    }

    /// Sends a message, or queues what doesn't fit now for `flush`.
    ///
    /// Fails with `WouldBlock` if more than the bound is queued.
    pub(crate) fn send(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) -> io::Result<()> {
        if bytes.len() > MESSAGE || fds.len() > DESCRIPTORS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long for the channel"));
        }
        if self.waiting.saturating_add(bytes.len()) > BACKLOG {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "the peer does not read"));
        }
        let mut chunks = bytes.chunks(FRAME).peekable();
        let mut fds = Some(fds);
        loop {
            let chunk = chunks.next().unwrap_or(&[]);
            let last = chunks.peek().is_none();
            let mut frame = Vec::with_capacity(chunk.len() + 1);
            frame.push(if last { LAST_FRAGMENT } else { MORE_FRAGMENTS });
            frame.extend_from_slice(chunk);
            self.waiting += frame.len();
            let fds = if last { fds.take().unwrap_or_default() } else { Vec::new() };
            self.backlog.push_back(Frame { bytes: frame, fds });
            if last {
                break;
            }
        }
        self.queued += 1;
        self.flush().map(|_| ())
    }

    /// Sends queued frames; returns whether all are sent.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while let Some(frame) = self.backlog.front() {
            if !frame.fds.is_empty() && self.most_unread.is_some_and(|most| self.unread() > most) {
                return Err(io::Error::from_raw_os_error(libc::ETOOMANYREFS));
            }
            match send_frame(self.fd.as_fd(), &frame.bytes, &frame.fds) {
                Ok(()) => {
                    self.waiting = self.waiting.saturating_sub(frame.bytes.len());
                    self.sent += u64::from(frame.bytes.first() == Some(&LAST_FRAGMENT));
                    self.backlog.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// How many messages were given to be sent.
    #[allow(dead_code, reason = "the library's")]
    pub(crate) fn queued(&self) -> u64 {
        self.queued
    }

    /// How many of those are gone whole, with their descriptors.
    #[allow(dead_code, reason = "the library's")]
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// What the peer has not read yet of what is gone, by the kernel's measure (SIOCOUTQ, unix(7)).
    pub(crate) fn unread(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: TIOCOUTQ, which is SIOCOUTQ, writes an integer.
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if done == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
    }

    /// Closes the descriptors of all that waits, whose messages then go without.
    #[allow(dead_code, reason = "the keeper's, for whose sockets none is an answer too")]
    pub(crate) fn forget_descriptors(&mut self) {
        self.backlog.iter_mut().for_each(|frame| frame.fds.clear());
    }

    /// Whether something waits for the peer to read (for a level-triggered loop).
    pub(crate) fn wants_write(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Receives a message. `WouldBlock` if none is complete, `UnexpectedEof` if the peer is gone,
    /// `InvalidData` if the peer broke a rule.
    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        let mut buffer = [0_u8; FRAME + 1];
        // A longer one is cut short by the kernel, which shows.
        let frame = buffer.get_mut(..self.limit.min(FRAME) + 1).unwrap_or_default();
        loop {
            let (length, fds, truncated) = match receive_frame(self.fd.as_fd(), frame) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The peer went with something of ours unread. What it said before is still to be had, and
                // then the end (unix(7)); the error is told once.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
                other => other?,
            };
            let Some((kind, payload)) = frame.get(..length).and_then(|frame| frame.split_first()) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            if self.partial.len() + payload.len() > self.limit {
                return Err(invalid("message too long"));
            }
            self.partial.extend_from_slice(payload);
            match (*kind, fds.is_empty()) {
                (LAST_FRAGMENT, _) => {
                    return Ok(Message { bytes: std::mem::take(&mut self.partial), fds, truncated });
                }
                // Anything shorter would be a way to keep the reader busy forever.
                (MORE_FRAGMENTS, true) if payload.len() == FRAME && !truncated => {}
                _ => return Err(invalid("unknown frame")),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn send_frame(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
    let mut control = Control::new();
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is a plain C struct for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if !fds.is_empty() {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control_length(fds.len());
        let bytes = u32::try_from(size_of_val(fds)).map_err(|_| invalid("too many descriptors"))?;
        // SAFETY: msg_control is aligned and as long as msg_controllen says, at least one header.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        // SAFETY: CMSG_LEN only computes a number.
        let length = unsafe { libc::CMSG_LEN(bytes) as usize };
        let head =
            libc::cmsghdr { cmsg_len: length, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS };
        // SAFETY: `first` points at the aligned start of `control`, which has room for a header.
        unsafe { ptr::write(first, head) };
        // SAFETY: `first` is valid; the data follows its header.
        let data: *mut RawFd = unsafe { libc::CMSG_DATA(first) }.cast();
        for (index, fd) in fds.iter().enumerate() {
            // SAFETY: `control` has room for DESCRIPTORS numbers, and `send` admits no more.
            let place = unsafe { data.add(index) };
            // SAFETY: as above.
            unsafe { place.write_unaligned(fd.as_raw_fd()) };
        }
    }
    // SAFETY: the header points at live buffers of the lengths given.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive_frame(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>, bool)> {
    let mut control = Control::new();
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is a plain C struct for which all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: the header points at live, writable buffers of the lengths given.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // Whatever arrived is owned first, so that no path below leaks it.
    let fds = take_descriptors(&header);
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(invalid("message too long"));
    }
    let truncated = header.msg_flags & libc::MSG_CTRUNC != 0;
    Ok((usize::try_from(length).unwrap_or(0), fds, truncated))
}

fn take_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: recvmsg has set msg_control and msg_controllen to what it wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR only return headers that lie within the buffer.
        let head = unsafe { next.read_unaligned() };
        if head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: CMSG_LEN only computes a number.
            let empty = unsafe { libc::CMSG_LEN(0) as usize };
            let count = head.cmsg_len.saturating_sub(empty) / size_of::<RawFd>();
            // SAFETY: `next` is a valid header.
            let data: *const RawFd = unsafe { libc::CMSG_DATA(next) }.cast();
            for index in 0..count {
                // SAFETY: the kernel wrote `count` descriptors after the header.
                let place = unsafe { data.add(index) };
                // SAFETY: as above.
                let fd = unsafe { place.read_unaligned() };
                // SAFETY: the kernel installed this descriptor for us; nothing else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: `next` came from the same header.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    fds
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    fn channels() -> (Channel, Channel) {
        let (one, other) = pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    #[test]
    fn messages_keep_their_boundaries_and_descriptors() {
        let (mut one, mut other) = channels();
        let (read, write) = io::pipe().unwrap();
        one.send(b"first", vec![]).unwrap();
        one.send(b"", vec![write.into()]).unwrap();
        assert_eq!(other.receive().unwrap().bytes, b"first");
        let second = other.receive().unwrap();
        assert!(second.bytes.is_empty());
        let mut pipe = File::from(second.fds.into_iter().next().unwrap());
        pipe.write_all(b"through").unwrap();
        drop(pipe);
        let mut text = String::new();
        File::from(OwnedFd::from(read)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn the_longest_message_arrives_whole_through_a_small_buffer() {
        let (mut one, mut other) = channels();
        let long: Vec<u8> = (0..MESSAGE).map(|at| u8::try_from(at % 251).unwrap()).collect();
        one.send(&long, vec![]).unwrap();
        let got = loop {
            match other.receive() {
                Ok(message) => break message,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            one.flush().unwrap();
        };
        assert_eq!(got.bytes, long);
        assert!(!one.wants_write());
    }

    #[test]
    fn a_peer_that_does_not_read_is_bounded() {
        let (mut one, _other) = channels();
        let chunk = vec![0; MESSAGE];
        let refused = (0..64).find_map(|_| one.send(&chunk, vec![]).err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(one.waiting <= BACKLOG + 64);
    }

    #[test]
    fn too_long_too_many_and_gone_are_errors() {
        let (mut one, other) = channels();
        assert!(one.send(&vec![0; MESSAGE + 1], vec![]).is_err());
        let raw = other;
        for _ in 0..4 {
            send_frame(one.as_fd(), &[&[MORE_FRAGMENTS][..], &[7; FRAME]].concat(), &[]).ok();
        }
        let mut receiver = raw;
        let error = loop {
            match receiver.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    send_frame(one.as_fd(), &[&[MORE_FRAGMENTS][..], &[7; FRAME]].concat(), &[]).ok();
                }
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (one, mut other) = channels();
        drop(one);
        assert_eq!(other.receive().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn surprise_descriptors_are_closed() {
        let (one, mut other) = channels();
        let (read, write) = io::pipe().unwrap();
        send_frame(one.as_fd(), &[MORE_FRAGMENTS, 1], &[OwnedFd::from(write.try_clone().unwrap())]).unwrap();
        drop(write);
        assert_eq!(other.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut rest = Vec::new();
        File::from(OwnedFd::from(read)).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "the pipe's end was closed, so the reader sees its end");
    }
}
