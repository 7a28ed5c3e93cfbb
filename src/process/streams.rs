//! The three standard streams of a program: the sandbox's ends and the host's ends.
//!
//! Outputs are pipes, since `/dev/stdout` can't be opened if it is a socket. Standard input is an AF_UNIX stream, since a
//! write to a pipe without a reader raises SIGPIPE, while a socket takes MSG_NOSIGNAL; init copies it into a pipe of the
//! program's, so `/dev/stdin` can be opened too. The host's ends are non-blocking and close-on-exec.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::fcntl::OFlag;

use super::capture::{Capture, CaptureReader};
use crate::config::Stdio;
use crate::error::{Context, Result};
use crate::keeper::wire::init::Source;

/// The host's end of a stream.
#[derive(Debug)]
pub(crate) enum Ours {
    /// For the host.
    Descriptor(OwnedFd),
    /// Read by the library.
    Capture(CaptureReader, Capture),
}

/// The streams of one program.
#[derive(Debug)]
pub(crate) struct Streams {
    /// The kind of each stream, for init.
    pub(crate) sources: [Source; 3],
    /// The descriptors for init, in order.
    pub(crate) theirs: Vec<OwnedFd>,
    /// The host's ends.
    pub(crate) ours: [Option<Ours>; 3],
}

impl Streams {
    /// No streams at all.
    pub(crate) fn none() -> Self {
        Self { sources: [Source::Null; 3], theirs: Vec::new(), ours: [None, None, None] }
    }

    /// Opens them as configured: standard input, output, error.
    pub(crate) fn open(stdio: [Stdio; 3]) -> Result<Self> {
        let mut streams = Self::none();
        let places = streams.sources.iter_mut().zip(streams.ours.iter_mut()).enumerate();
        for (index, ((source, ours), kind)) in places.zip(stdio).map(|((i, p), k)| (i, (p, k))) {
            let given = match kind {
                Stdio::Null => continue,
                Stdio::Merged => {
                    *source = Source::Stdout;
                    continue;
                }
                Stdio::Descriptor if index == 0 => {
                    let (one, other) = input().context("a socket pair for standard input")?;
                    *ours = Some(Ours::Descriptor(one));
                    other
                }
                Stdio::Descriptor => {
                    let (read, write) = output().context("a pipe for standard output or error")?;
                    *ours = Some(Ours::Descriptor(read));
                    write
                }
                Stdio::Capture { head, tail } => {
                    let (read, write) = output().context("a pipe for standard output or error")?;
                    let capture = Capture::new(head, tail);
                    *ours = Some(Ours::Capture(CaptureReader::new(read, capture.clone()), capture));
                    write
                }
            };
            *source = Source::Given;
            streams.theirs.push(given);
        }
        Ok(streams)
    }
}

fn input() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((ours.into(), theirs.into()))
}

fn output() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&read, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}
