//! The conversation with the library, and the streams that report through it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::wire::image::{Failure, MAX_FAILURE_TEXT, Reply, Request};

/// The least time between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// The exit codes, which only people see.
pub(super) const EXIT_FAILED: i32 = 1;
/// The library is gone, or broke the rules.
const EXIT_ABANDONED: i32 = 2;

/// Ends the process. Nothing is unwound and no handler runs: their system calls aren't in the filter.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: _exit takes a number and doesn't return.
    unsafe { libc::_exit(code) }
}

/// One end of the conversation. Every method ends the process if the library is gone.
#[derive(Debug)]
pub(super) struct Session {
    channel: RefCell<Channel>,
    host: OwnedFd,
    /// The input that was read for this request.
    consumed: Cell<u64>,
    reported: Cell<Instant>,
    /// The system call that failed last, and what it was for: a converter's own error may have lost it.
    fault: Cell<Option<(&'static str, i32)>>,
}

impl Session {
    pub(super) fn new(channel: Channel, host: OwnedFd) -> Self {
        let (consumed, reported) = (Cell::new(0), Cell::new(Instant::now()));
        Self { channel: RefCell::new(channel), host, consumed, reported, fault: Cell::new(None) }
    }

    /// Waits for the next request and its descriptors.
    pub(super) fn next(&self) -> (Request, Vec<OwnedFd>) {
        loop {
            // Its own statement, so that the channel is free again.
            let received = self.channel.borrow_mut().receive();
            match received {
                Ok(message) => match Request::decode(&message.bytes) {
                    Ok(request) if !message.truncated => {
                        self.consumed.set(0);
                        self.fault.set(None);
                        return (request, message.fds);
                    }
                    _ => exit(EXIT_ABANDONED),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(libc::POLLIN),
                Err(_) => exit(EXIT_ABANDONED),
            }
        }
    }

    /// Sends a reply, and waits until the library has taken it.
    pub(super) fn reply(&self, reply: &Reply) {
        if self.channel.borrow_mut().send(&reply.encode(), Vec::new()).is_err() {
            exit(EXIT_ABANDONED);
        }
        loop {
            let flushed = self.channel.borrow_mut().flush();
            match flushed {
                Ok(true) => return,
                Ok(false) => self.wait(libc::POLLOUT),
                Err(_) => exit(EXIT_ABANDONED),
            }
        }
    }

    /// Sends a failure.
    pub(super) fn fail(&self, failure: Failure, errno: i32, text: &str) {
        let text = text.as_bytes().get(..MAX_FAILURE_TEXT).unwrap_or(text.as_bytes()).to_vec();
        self.reply(&Reply::Failed { failure, errno, text });
    }

    /// Reports progress if the last report was long ago. A library that doesn't read isn't waited for.
    fn report(&self) {
        if self.reported.get().elapsed() < REPORT_INTERVAL {
            return;
        }
        self.reported.set(Instant::now());
        let mut channel = self.channel.borrow_mut();
        let sent = if channel.wants_write() {
            channel.flush().map(|_| ())
        } else {
            channel.send(&Reply::Progress { bytes: self.consumed.get() }.encode(), Vec::new())
        };
        if sent.is_err() {
            exit(EXIT_ABANDONED);
        }
    }

    fn failed(&self, what: &'static str, error: io::Error) -> io::Error {
        self.fault.set(Some((what, error.raw_os_error().unwrap_or(libc::EIO))));
        error
    }

    /// Waits for the channel. The library's thread may have ended before the kernel was asked to tell.
    fn wait(&self, events: libc::c_short) {
        let channel = self.channel.borrow().as_raw_fd();
        let mut set = [
            libc::pollfd { fd: channel, events, revents: 0 },
            libc::pollfd { fd: self.host.as_raw_fd(), events: libc::POLLIN, revents: 0 },
        ];
        // SAFETY: the array is live and as long as said.
        let ready = unsafe { libc::poll(set.as_mut_ptr(), set.len() as libc::nfds_t, -1) };
        let interrupted = ready < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        let [_, host] = set;
        if host.revents != 0 || (ready < 0 && !interrupted) {
            exit(EXIT_ABANDONED);
        }
    }
}

/// A file that is read at any offset.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    session: Rc<Session>,
}

impl Archive {
    pub(super) fn new(fd: OwnedFd, session: &Rc<Session>) -> Self {
        Self { file: File::from(fd), session: Rc::clone(session) }
    }

    /// Reads up to the buffer's length; less only at the end of the file.
    pub(super) fn read_up_to(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            match self.file.read_at(rest, at) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.session.failed("reading the input", error)),
            }
        }
        let count = u64::try_from(done).unwrap_or(u64::MAX);
        self.session.consumed.set(self.session.consumed.get().saturating_add(count));
        self.session.report();
        Ok(done)
    }
}
