//! The library's end of the channel to init. What init sends is untrusted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use zeroize::Zeroize;

use crate::error::{Code, Error, Result};
use crate::keeper::wire::init::{Reply, Request};
use crate::reactor::FdPermit;
use crate::sys::channel::Channel;

/// Longer than any message of init.
const MAX_MESSAGE_LENGTH: usize = 64;

/// How many bytes init may have unread while it is sent descriptors: some thirty small messages. Descriptors in transit
/// count against a limit of the user's, so a stopped init must not hold many.
const MAX_UNREAD: usize = 24 * 1024;
/// After how many looks in a row at which init has read nothing it counts as lost. They are [`Init::LOOK`] apart, which
/// makes half a minute; looks are counted instead of time, so that a frozen machine doesn't count.
const MAX_LOOKS: u32 = 3000;

/// The channel to a sandbox's init.
#[derive(Debug)]
pub(crate) struct Init {
    channel: Channel,
    /// The permits of descriptors in messages that are not sent yet, by the number of the message.
    held: VecDeque<(u64, FdPermit)>,
    /// What was sent and what was unread at the last look, and for how many looks that has not changed.
    seen: (u64, usize),
    looks: u32,
}

impl Init {
    /// Over the library's end of the pair.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let channel = Channel::with_limit(fd, MAX_MESSAGE_LENGTH).holding_descriptors_beyond(MAX_UNREAD);
        Self { channel, held: VecDeque::new(), seen: (0, 0), looks: 0 }
    }

    /// The time between two looks whether queued messages can be sent.
    pub(crate) const LOOK: Duration = Duration::from_millis(10);

    /// Sends a request. Fails if init doesn't read and its backlog is full. The permit is for the descriptors, and is kept
    /// until they are sent.
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        fds: Vec<OwnedFd>,
        permit: Option<FdPermit>,
    ) -> Result<()> {
        let mut bytes = request.encode();
        let sent = self.channel.send(&bytes, fds);
        // The environment of a program may hold secrets.
        bytes.zeroize();
        self.held.extend(permit.map(|permit| (self.channel.queued(), permit)));
        self.sent(sent)
    }

    /// Sends queued messages, as far as init takes them.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let sent = self.channel.flush().map(|_| ());
        self.sent(sent)
    }

    /// Whether messages are queued: look again later, since no readiness reports that fewer descriptors are in transit.
    pub(crate) fn is_behind(&self) -> bool {
        self.channel.wants_write()
    }

    /// Checks that init reads, while messages are queued. Fails if it has read nothing for long, for example because a
    /// program in the sandbox has stopped it.
    pub(crate) fn look(&mut self) -> Result<()> {
        let seen = (self.channel.sent(), self.channel.unread());
        let reads = seen.0 != self.seen.0 || seen.1 < self.seen.1 || seen.1 == 0;
        (self.seen, self.looks) = (seen, if reads { 0 } else { self.looks + 1 });
        if self.looks < MAX_LOOKS {
            return Ok(());
        }
        let seconds = (Self::LOOK * MAX_LOOKS).as_secs();
        Err(Error::new(Code::Engine, format!("the sandbox's init has read nothing for {seconds} s")))
    }

    /// The kernel counts a user's descriptors in transit, those of other processes included, against the limit of open
    /// ones (unix(7), ETOOMANYREFS). That passes, and the messages are still in the channel.
    fn sent(&mut self, sent: io::Result<()>) -> Result<()> {
        let gone = self.channel.sent();
        while self.held.front().is_some_and(|(number, _)| *number <= gone) {
            self.held.pop_front();
        }
        match sent {
            Err(error) if error.raw_os_error() != Some(libc::ETOOMANYREFS) => {
                Err(Error::system("writing to the sandbox's init", &error).with_code(Code::Engine))
            }
            _ => Ok(()),
        }
    }

    /// Receives a message of init, if there is one. Descriptors from inside are closed, and the message is an error.
    pub(crate) fn hear(&mut self) -> Result<Option<Reply>> {
        match self.channel.receive() {
            Ok(message) if message.fds.is_empty() && !message.truncated => {
                match Reply::decode(&message.bytes) {
                    Ok(reply) => Ok(Some(reply)),
                    Err(_) => Err(Error::new(Code::Engine, "the sandbox's init sent something malformed")),
                }
            }
            Ok(_) => Err(Error::new(Code::Engine, "the sandbox's init sent descriptors")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::new(Code::Engine, "the sandbox's init ended"))
            }
            Err(error) => {
                Err(Error::system("reading from the sandbox's init", &error).with_code(Code::Engine))
            }
        }
    }
}

impl AsFd for Init {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{FdBudget, Use};
    use crate::sys::channel;

    /// What the library asks for with a descriptor.
    fn ask(init: &mut Init, budget: &FdBudget, ticket: u32) -> bool {
        let Some(permit) = budget.acquire(1, Use::Tunnel, 1) else { return false };
        let fd = std::fs::File::open("/dev/null").unwrap().into();
        init.ask(&Request::Connect { ticket, port: 80 }, vec![fd], Some(permit)).unwrap();
        true
    }

    #[test]
    fn one_that_does_not_read_keeps_few_descriptors_and_is_lost_in_the_end() {
        let (ours, theirs) = channel::pair().unwrap();
        let (mut init, mut theirs, budget) = (Init::new(ours), Channel::new(theirs), FdBudget::new(400));
        // All count until they are gone, and it gets no more than are left for others.
        let asked = (0..1000).take_while(|ticket| ask(&mut init, &budget, *ticket)).count();
        let gone = usize::try_from(init.channel.sent()).unwrap();
        assert!((2..100).contains(&gone), "{gone}");
        assert_eq!((budget.used(), asked), (300, 300 + gone));
        assert!(init.is_behind());
        for _ in 1..MAX_LOOKS {
            init.flush().unwrap();
            init.look().unwrap();
        }
        // It reads again at the last moment: it was slow.
        let mut read = 0;
        while read < asked {
            match theirs.receive() {
                Ok(message) => read += message.fds.len(),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            init.look().unwrap();
            init.flush().unwrap();
        }
        assert!(!init.is_behind() && budget.used() == 0);
        while ask(&mut init, &budget, 0) {}
        let lost = (0..=MAX_LOOKS).find_map(|_| init.look().err()).unwrap();
        assert!(lost.to_string().contains("has read nothing for 30 s"), "{lost}");
    }
}
