//! Where a build says what it does: a descriptor of the host's, and the last lines for an error.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use crate::error::{Context, Result};
use crate::sys::signal_guard;

/// What is written at once.
const CHUNK_BYTES: usize = 4096;
/// How long a slow reader is waited for, in all of a build.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited for at once.
const PAUSE_MS: u16 = 20;
/// How much of the end of a step's output is kept for an error.
const TAIL_BYTES: usize = 2048;

/// The output of a build.
#[derive(Debug)]
pub(super) struct Output {
    target: Option<Target>,
    /// Bytes that the reader was too slow for.
    lost: u64,
    patience: Duration,
    tail: VecDeque<u8>,
    /// Whether the last byte ended a line.
    at_line_start: bool,
}

#[derive(Debug)]
struct Target {
    descriptor: Arc<OwnedFd>,
    is_socket: bool,
}

impl Output {
    pub(super) fn new(descriptor: Option<&Arc<OwnedFd>>) -> Result<Self> {
        let target = descriptor.map(Target::new).transpose()?;
        Ok(Self { target, lost: 0, patience: PATIENCE, tail: VecDeque::new(), at_line_start: true })
    }

    /// Says what is being done. What a program says from now on is another step's.
    pub(super) fn line(&mut self, text: &str) {
        let begin = if self.at_line_start { "" } else { "\n" };
        self.write(format!("{begin}{text}\n").as_bytes());
        self.tail.clear();
    }

    /// Passes on what a program says.
    pub(super) fn program(&mut self, bytes: &[u8]) {
        self.write(bytes);
        self.tail.extend(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
    }

    /// The last lines that the step's program has said.
    pub(super) fn last_lines(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let text: String =
            text.chars().filter(|c| !c.is_control() || matches!(*c, '\n' | '\t')).collect::<String>();
        let whole =
            if bytes.len() < TAIL_BYTES { Some(&*text) } else { text.split_once('\n').map(|(_, rest)| rest) };
        whole.unwrap_or(&text).trim_end().to_owned()
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        self.at_line_start = *last == b'\n';
        if self.lost > 0 {
            let notice =
                format!("\n[{} bytes of output were left out: their reader is too slow]\n", self.lost);
            if self.put(notice.as_bytes()) {
                self.lost = 0;
            }
        }
        for chunk in bytes.chunks(CHUNK_BYTES) {
            if self.lost > 0 || !self.put(chunk) {
                self.lost = self.lost.saturating_add(chunk.len() as u64);
            }
        }
    }

    /// Whether all of it was written.
    fn put(&mut self, mut bytes: &[u8]) -> bool {
        let Some(target) = &self.target else { return true };
        while !bytes.is_empty() {
            match target.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock && !self.patience.is_zero() => {
                    let mut polled = [PollFd::new(target.descriptor.as_fd(), PollFlags::POLLOUT)];
                    if poll(&mut polled, PollTimeout::from(PAUSE_MS)).is_ok_and(|ready| ready > 0) {
                        continue;
                    }
                    self.patience = self.patience.saturating_sub(Duration::from_millis(u64::from(PAUSE_MS)));
                }
                Err(_) => return false,
            }
        }
        true
    }
}

impl Target {
    fn new(descriptor: &Arc<OwnedFd>) -> Result<Self> {
        let copy = descriptor.try_clone().context("duplicating the descriptor of the output")?;
        let kind = File::from(copy).metadata().context("fstat of the descriptor of the output")?.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            // O_NONBLOCK belongs to the open file that the host shares, so it needs one of its own.
            let own = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
                .context(
                "opening the output's pipe or terminal again, so that writing never waits; give a socket or a file",
            )?;
            return Ok(Self { descriptor: Arc::new(own.into()), is_socket: false });
        }
        Ok(Self { descriptor: Arc::clone(descriptor), is_socket: kind.is_socket() })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_socket {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            return Ok(send(self.descriptor.as_raw_fd(), bytes, flags)?);
        }
        match signal_guard::write(self.descriptor.as_fd(), bytes) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn it_comes_as_it_was_said_and_a_step_begins_a_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut output = Output::new(Some(&Arc::new(writer.into()))).unwrap();
        output.line("[1/2] FROM a");
        output.program(b"without an end");
        assert_eq!(output.last_lines(), "without an end");
        output.line("[2/2] RUN b");
        assert_eq!(output.last_lines(), "");
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "[1/2] FROM a\nwithout an end\n[2/2] RUN b\n");
    }

    #[test]
    fn a_reader_that_never_reads_stops_nothing() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut output = Output::new(Some(&Arc::new(writer.into()))).unwrap();
        output.patience = Duration::from_millis(40);
        for _ in 0..100 {
            output.program(&[b'x'; 10_000]);
        }
        assert!(output.lost > 0 && output.patience.is_zero());
        let mut some = vec![0; 1 << 20];
        let _ = reader.read(&mut some).unwrap();
        output.line("again");
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("were left out: their reader is too slow]\n\nagain\n"), "{text}");
    }

    #[test]
    fn the_end_of_what_a_program_says_is_kept_in_whole_lines() {
        let mut output = Output::new(None).unwrap();
        for number in 0..1000 {
            output.program(format!("line {number}\n\u{1b}[0m").as_bytes());
        }
        let text = output.last_lines();
        assert!(text.len() < TAIL_BYTES && text.contains("line 999"), "{text}");
        assert!(text.starts_with("[0mline "), "{text}");
    }
}
