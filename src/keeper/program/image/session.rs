//! The conversation with the library, and the streams that report through it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::erofs;
use crate::channel::Channel;
use crate::system;
use crate::wire::image::{Failure, MAX_FAILURE_TEXT, Range, Reply, Request};

/// The least time between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// How much is written at once where a hole can't be made.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The exit codes, which only people see.
pub(super) const EXIT_DONE: i32 = 0;
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

    /// The system call that failed while the request was worked on, and what it was for.
    pub(super) fn fault(&self) -> Option<(&'static str, i32)> {
        self.fault.get()
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

/// What a request reads: a part of a file, or all that a file or a pipe still gives.
#[derive(Debug)]
pub(super) struct Input {
    file: File,
    range: Option<Range>,
    session: Rc<Session>,
}

impl Input {
    pub(super) fn new(fd: OwnedFd, range: Option<Range>, session: &Rc<Session>) -> Self {
        Self { file: File::from(fd), range, session: Rc::clone(session) }
    }

    fn read_once(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(range) = self.range else {
            return (&self.file).read(buffer);
        };
        let most = usize::try_from(range.length).unwrap_or(usize::MAX).min(buffer.len());
        self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), range.offset)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match self.read_once(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.session.failed("reading the input", error)),
                Ok(read) => break read,
            }
        };
        let count = u64::try_from(read).unwrap_or(u64::MAX);
        if let Some(range) = &mut self.range {
            range.offset = range.offset.saturating_add(count);
            range.length = range.length.saturating_sub(count);
        }
        self.session.consumed.set(self.session.consumed.get().saturating_add(count));
        self.session.report();
        Ok(read)
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

impl erofs::ReadAt for Archive {
    fn read_exact_at(&mut self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let read = self.read_up_to(into, offset)?;
        if read < into.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn length(&mut self) -> io::Result<u64> {
        (&self.file).seek(SeekFrom::End(0)).map_err(|error| self.session.failed("reading the input", error))
    }
}

/// The file that is written.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    session: Rc<Session>,
}

impl Output {
    pub(super) fn new(fd: OwnedFd, session: &Rc<Session>) -> Self {
        Self { file: File::from(fd), session: Rc::clone(session) }
    }

    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write_at(bytes, offset) {
                Ok(0) => return Err(self.session.failed("writing", io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    offset = offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.session.failed("writing", error)),
            }
        }
        self.session.report();
        Ok(())
    }
}

impl erofs::Output for Output {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    /// A hole, or zeros where the file system can't make one.
    fn discard(&mut self, mut offset: u64, mut length: u64) -> io::Result<()> {
        let (start, count) = (i64::try_from(offset), i64::try_from(length));
        let (Ok(start), Ok(count)) = (start, count) else {
            return Err(self.session.failed("writing", io::Error::from_raw_os_error(libc::EFBIG)));
        };
        if count == 0 {
            return Ok(());
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        loop {
            // SAFETY: fallocate takes numbers.
            match system::check(unsafe { libc::fallocate(self.file.as_raw_fd(), mode, start, count) }) {
                Ok(_) => {
                    self.session.report();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => break,
                Err(error) => return Err(self.session.failed("writing", error)),
            }
        }
        while length > 0 {
            let most = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write_all_at(ZEROS.get(..most).unwrap_or_default(), offset)?;
            let count = u64::try_from(most).unwrap_or(u64::MAX);
            offset = offset.saturating_add(count);
            length = length.saturating_sub(count);
        }
        Ok(())
    }
}

/// A stream that is written: to a sandbox.
#[derive(Debug)]
pub(super) struct Stream {
    file: File,
    session: Rc<Session>,
}

impl Stream {
    pub(super) fn new(fd: OwnedFd, session: &Rc<Session>) -> Self {
        Self { file: File::from(fd), session: Rc::clone(session) }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.session.report();
        self.file.write(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => self.session.failed("writing the archive", error),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends to the file, as a decompressor does.
#[derive(Debug)]
pub(super) struct Appended {
    output: Output,
    end: u64,
}

impl Appended {
    pub(super) fn new(fd: OwnedFd, session: &Rc<Session>) -> Self {
        Self { output: Output::new(fd, session), end: 0 }
    }

    /// How many bytes were written.
    pub(super) fn length(&self) -> u64 {
        self.end
    }
}

impl Write for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write_all_at(bytes, self.end)?;
        self.end = self.end.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
