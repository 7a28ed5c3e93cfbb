//! Where log lines go: a descriptor that the host gave.
//!
//! A line is written at once or not at all. The descriptor may be a socket, a pipe, a terminal or a file;
//! it never makes a thread of the library or of the host wait for its reader, and never raises a signal.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};
use nix::sys::socket::{MsgFlags, send};

use crate::error::{Code, Context, Error, Result};
use crate::sys::signal_guard;

/// The longest line, its end included: a pipe takes that much whole or not at all.
const LONGEST_LINE: usize = 4096;

static SINK: Sink = Sink { target: Mutex::new(None) };

struct Sink {
    target: Mutex<Option<Target>>,
}

struct Target {
    fd: OwnedFd,
    socket: bool,
    lost: u64,
}

/// Sends log lines to a copy of the descriptor from now on.
pub(super) fn open(fd: OwnedFd, level: LevelFilter) -> Result<()> {
    claim()?;
    let target = Target::new(fd)?;
    let before = SINK.target.lock().unwrap_or_else(PoisonError::into_inner).replace(target);
    log::set_max_level(level);
    drop(before);
    Ok(())
}

/// Sends log lines nowhere.
pub(super) fn close() {
    let before = SINK.target.lock().unwrap_or_else(PoisonError::into_inner).take();
    if before.is_some() {
        log::set_max_level(LevelFilter::Off);
    }
}

/// Makes the sink the logger, unless a Rust host that contains the crate has one of its own.
fn claim() -> Result<()> {
    static CLAIMED: OnceLock<bool> = OnceLock::new();
    if *CLAIMED.get_or_init(|| log::set_logger(&SINK).is_ok()) {
        return Ok(());
    }
    Err(Error::new(
        Code::State,
        "this program has a logger of its own (crate log), which gets the lines already",
    ))
}

impl Target {
    fn new(fd: OwnedFd) -> Result<Self> {
        let kind = File::from(fd.try_clone().context("duplicating the log descriptor")?)
            .metadata()
            .context("fstat of the log descriptor")?
            .file_type();
        if kind.is_socket() {
            return Ok(Self { fd, socket: true, lost: 0 });
        }
        if !kind.is_fifo() && !kind.is_char_device() {
            return Ok(Self { fd, socket: false, lost: 0 });
        }
        // O_NONBLOCK belongs to the open file that the host shares, so it needs one of its own.
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let own = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .context(
            "opening the log's pipe or terminal again, so that writing never waits; give a socket or a file",
        )?;
        Ok(Self { fd: own.into(), socket: false, lost: 0 })
    }

    fn write(&self, line: &[u8]) -> io::Result<usize> {
        if self.socket {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            return Ok(send(self.fd.as_raw_fd(), line, flags)?);
        }
        signal_guard::write(self.fd.as_fd(), line)
    }
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Only what this crate says: it knows what is a secret.
        let target = metadata.target();
        target == "sbx" || target.starts_with("sbx::")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = line(record);
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        // Logging may have been turned off since the record's level was compared.
        let Some(target) = target.as_mut() else { return };
        if target.lost > 0 {
            let notice =
                format!("sbx: {} log lines were lost, because their reader was too slow\n", target.lost);
            if target.write(notice.as_bytes()).is_ok() {
                target.lost = 0;
            }
        }
        if target.lost > 0 || target.write(text.as_bytes()).is_err() {
            target.lost = target.lost.saturating_add(1);
        }
    }

    fn flush(&self) {}
}

/// One line: time, level, module, text. What would end or disturb a line is escaped.
fn line(record: &Record<'_>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = String::new();
    let start =
        format!("{}.{:03} {:5} {}: ", now.as_secs(), now.subsec_millis(), record.level(), record.target());
    let text = record.args().to_string();
    for character in start.chars().chain(text.chars()) {
        if line.len() + 12 > LONGEST_LINE {
            line.push_str("...");
            break;
        }
        if character.is_control() {
            // Writing into a String can't fail.
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let record = Record::builder()
            .args(format_args!("a\nb\x1b[0m"))
            .target("sbx::x")
            .level(log::Level::Warn)
            .build();
        let line = line(&record);
        assert!(line.ends_with("WARN  sbx::x: a\\nb\\u{1b}[0m\n"), "{line}");
        let long = "x".repeat(10_000);
        let length = super::line(&Record::builder().args(format_args!("{long}")).build()).len();
        assert!(length <= LONGEST_LINE);
    }

    #[test]
    fn a_full_pipe_loses_lines_and_does_not_wait() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let target = Target::new(writer).unwrap();
        let line = [b'x'; LONGEST_LINE];
        let failed = (0..1000).map(|_| target.write(&line)).find_map(std::result::Result::err).unwrap();
        assert_eq!(failed.kind(), io::ErrorKind::WouldBlock);
        drop(reader);
        assert_eq!(target.write(&line).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
}
