//! What the host writes to a sandbox's standard input is use of the sandbox.

use std::os::fd::{AsFd, OwnedFd};

use super::init_link::register;
use crate::reactor::{FdSlot, Key, Reactor, Slab};

/// The sandbox's end of its program's standard input, watched for what the host writes to it. (The kernel wakes
/// every watcher of the open file when something arrives, also if gVisor is quicker to read it.)
#[derive(Debug)]
pub(crate) struct Input {
    /// The sandbox's number.
    pub(crate) sandbox: u64,
    fd: OwnedFd,
}

/// The watch on one sandbox's standard input.
#[derive(Debug, Default)]
pub(super) struct InputWatch(Option<Key>);

impl InputWatch {
    /// Watches a copy of the descriptor, or returns why that fails.
    pub(super) fn start(
        &mut self,
        reactor: &mut Reactor,
        inputs: &mut Slab<Input>,
        sandbox: u64,
        fd: &OwnedFd,
    ) -> Result<(), String> {
        let fd = fd.try_clone().map_err(|error| error.to_string())?;
        let key = inputs.insert(Input { sandbox, fd });
        reactor.join(key, sandbox);
        let watched = inputs.get_mut(key).map_or(Ok(()), |input| {
            register(reactor, input.fd.as_fd(), key, FdSlot::First).map_err(|error| error.to_string())
        });
        match watched {
            Ok(()) => self.0 = Some(key),
            Err(_) => drop(inputs.remove(key)),
        }
        watched
    }

    /// Watches no more.
    pub(super) fn stop(&mut self, reactor: &Reactor, inputs: &mut Slab<Input>) {
        if let Some(input) = self.0.take().and_then(|key| inputs.remove(key)) {
            reactor.deregister(input.fd.as_fd());
        }
    }
}
