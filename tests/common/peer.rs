//! A second sandbox, which answers while the first does its worst.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sbx::{Config, Policy, Runtime, Sandbox, Stdio, Stream};

use super::PATIENCE;

/// A sandbox that says everything that it is told.
pub struct Peer {
    _sandbox: Sandbox,
    to: File,
    from: File,
}

impl Peer {
    /// Starts one.
    pub fn new(runtime: &Runtime) -> Self {
        let mut config = Config::new();
        config.set_command(["cat"]).unwrap();
        // It needs none, and runs where none can be had.
        config.set_policy(&Policy::blocked()).unwrap();
        config.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
        config.set_stdio(Stream::Stdout, Stdio::Descriptor).unwrap();
        let sandbox = runtime.create(&config).unwrap();
        let open = |stream| File::from(sandbox.open_stream(stream).unwrap());
        let (to, from) = (open(Stream::Stdin), open(Stream::Stdout));
        Self { _sandbox: sandbox, to, from }
    }

    /// Asks and waits for the answer.
    pub fn answers(&mut self) {
        self.to.write_all(b"?").unwrap();
        let mut answer = [0];
        loop {
            match self.from.read(&mut answer) {
                Ok(read) => return assert_eq!((read, answer), (1, *b"?")),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let patience = PollTimeout::try_from(PATIENCE.unwrap()).unwrap();
            let mut set = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut set, patience), Ok(1), "the second sandbox does not answer");
        }
    }
}

/// Lets a program do its worst until it ends, and has a second sandbox answer meanwhile.
pub fn contained(runtime: &Runtime, config: &Config) -> Sandbox {
    let mut peer = Peer::new(runtime);
    let bomb = runtime.create(config).unwrap();
    while bomb.exit().is_none() {
        peer.answers();
    }
    peer.answers();
    bomb
}
