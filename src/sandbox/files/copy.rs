//! Moving bytes between an operation's stream and a descriptor of the host's, in the caller's own thread.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Code, Error, Result};
use crate::sys::signal_guard;
use crate::sys::socket::{Family, Socket};

/// Bytes moved at once.
const CHUNK: usize = 256 * 1024;

/// From the sandbox to a descriptor, up to the stream's end. What comes beyond the limit is not passed on. `done_pipe`
/// ends with the operation.
pub(super) fn out(stream: OwnedFd, to: BorrowedFd<'_>, done_pipe: BorrowedFd<'_>, limit: u64) -> Result<()> {
    let stream = Socket::new(stream, Family::Unix);
    let mut buffer = vec![0_u8; CHUNK];
    let mut left = limit;
    let mut ended = false;
    loop {
        let chunk = match stream.receive(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            // What was sent before the operation's end is read now.
            Err(error) if error.kind() == ErrorKind::WouldBlock && ended => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let [_, over] = wait([(stream.as_fd(), PollFlags::POLLIN), (done_pipe, PollFlags::POLLIN)])?;
                ended = over;
                continue;
            }
            Err(error) => return Err(Error::system("reading from the sandbox", &error)),
        };
        if chunk.len() as u64 > left {
            return Err(Error::new(Code::Limit, format!("there is more than the limit of {limit} bytes")));
        }
        left -= chunk.len() as u64;
        write_all(to, chunk)?;
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match signal_guard::write(to, bytes) {
            Ok(0) => {
                return Err(Error::new(Code::System, "write to the caller's descriptor returned 0"));
            }
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait([(to, PollFlags::POLLOUT)])?;
            }
            Err(error) => return Err(Error::system("writing to the descriptor given", &error)),
        }
    }
    Ok(())
}

/// From a descriptor, up to its end, to the sandbox. Returns early when the sandbox doesn't take it, or the
/// operation has ended (`done_pipe`): why, the operation tells. An error of the descriptor's own leaves the stream's end
/// untold, so what was sent is not taken for all.
pub(super) fn into(from: BorrowedFd<'_>, stream: &OwnedFd, done_pipe: BorrowedFd<'_>) -> Result<()> {
    let copy = stream.try_clone().map_err(|error| Error::system("duplicating a stream", &error))?;
    let stream = Socket::new(copy, Family::Unix);
    let from = from.try_clone_to_owned();
    let mut from =
        File::from(from.map_err(|error| Error::system("duplicating the descriptor given", &error))?);
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        let [_, over] = wait([(from.as_fd(), PollFlags::POLLIN), (done_pipe, PollFlags::POLLIN)])?;
        if over {
            return Ok(());
        }
        let mut chunk = match from.read(&mut buffer) {
            Ok(0) => {
                let _ = stream.finish();
                return Ok(());
            }
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => continue,
            Err(error) => return Err(Error::system("reading from the descriptor given", &error)),
        };
        while !chunk.is_empty() {
            match stream.send(chunk) {
                Ok(count) => chunk = chunk.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let [_, over] =
                        wait([(stream.as_fd(), PollFlags::POLLOUT), (done_pipe, PollFlags::POLLIN)])?;
                    if over {
                        return Ok(());
                    }
                }
                Err(_) => return Ok(()),
            }
        }
    }
}

/// Waits until something can be done with one of the descriptors, or it has ended; says with which.
fn wait<const N: usize>(descriptors: [(BorrowedFd<'_>, PollFlags); N]) -> Result<[bool; N]> {
    loop {
        let mut set = descriptors.map(|(fd, what)| PollFd::new(fd, what));
        match poll(&mut set, PollTimeout::NONE) {
            Ok(_) => return Ok(set.map(|polled| polled.any().unwrap_or(true))),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::system("waiting for a descriptor", &error.into())),
        }
    }
}
