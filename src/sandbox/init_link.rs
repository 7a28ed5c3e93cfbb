//! The channel to a sandbox's init, as everything that asks init for something uses it.
//!
//! Nothing here decides what a lost init means: the error is kept until the driver takes it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::lifecycle::PROGRAM;
use crate::error::{Error, Result};
use crate::keeper::wire::init::{Reply, Request};
use crate::process::Init;
use crate::reactor::{FdPermit, FdSlot, Key, Reactor, TimerId};

/// Init's channel, once it is open.
#[derive(Debug, Default)]
pub(super) struct InitLink {
    open: Option<(Init, Key)>,
    /// When it is tried again to send what init could not take.
    retry: Option<TimerId>,
    /// The tickets of requests that init answers at once, until the driver takes them.
    asked: Vec<u32>,
    /// Why init is lost, until the driver takes it.
    error: Option<Error>,
}

impl InitLink {
    /// Opens the channel over the library's end; its wake-ups come under this key.
    pub(super) fn open(&mut self, reactor: &Reactor, fd: OwnedFd, key: Key) -> Result<()> {
        register(reactor, fd.as_fd(), key, FdSlot::Second)?;
        self.open = Some((Init::new(fd), key));
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Asks init for something.
    pub(super) fn ask(&mut self, reactor: &mut Reactor, request: &Request) {
        self.give(reactor, request, vec![], None);
    }

    /// Asks init for something that takes descriptors, and a permit for those unless the sandbox's own covers them.
    pub(super) fn give(
        &mut self,
        reactor: &mut Reactor,
        request: &Request,
        fds: Vec<OwnedFd>,
        permit: Option<FdPermit>,
    ) {
        // Init may have been lost before: then nothing is asked, and the sandbox ends within a second.
        let Some((init, _)) = self.open.as_mut().filter(|_| self.error.is_none()) else { return };
        match request {
            // The start of the sandbox's own program has a timeout of its own.
            Request::Start(start) if start.id != PROGRAM => self.asked.push(start.id),
            // A ping is counted where it is decided.
            Request::Count { ticket } => self.asked.push(*ticket),
            _ => {}
        }
        match init.ask(request, fds, permit) {
            Ok(()) => self.check_backlog(reactor),
            Err(error) => self.fail(error),
        }
    }

    /// Sends what init could not take before.
    pub(super) fn flush(&mut self, reactor: &mut Reactor) -> Result<()> {
        let flushed = self.open.as_mut().map_or(Ok(()), |(init, _)| init.flush());
        self.check_backlog(reactor);
        flushed
    }

    /// What init has sent, if it has sent something.
    pub(super) fn recv(&mut self) -> Result<Option<Reply>> {
        self.open.as_mut().map_or(Ok(None), |(init, _)| init.hear())
    }

    /// A timer has run out. Whether it was time to look at the backlog; an init that doesn't read at all is lost.
    pub(super) fn on_timer(&mut self, now: Instant) -> bool {
        if self.retry.take_if(|timer| timer.at() <= now).is_none() {
            return false;
        }
        if let Some(Err(error)) = self.open.as_mut().map(|(init, _)| init.look()) {
            self.fail(error);
        }
        true
    }

    /// Init is lost.
    pub(super) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Why init is lost, once.
    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// What init was asked and answers at once, each ticket once.
    pub(super) fn take_asked(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.asked)
    }

    /// Closes the channel.
    pub(super) fn close(&mut self, reactor: &mut Reactor) {
        if let Some((init, _)) = self.open.take() {
            reactor.deregister(init.as_fd());
        }
        if let Some(timer) = self.retry.take() {
            reactor.cancel(timer);
        }
    }

    fn check_backlog(&mut self, reactor: &mut Reactor) {
        if let Some((_, key)) = self.open.as_ref().filter(|(init, _)| init.is_behind())
            && self.retry.is_none()
        {
            self.retry = Some(reactor.schedule(reactor.now() + Init::LOOK, *key));
        }
    }
}

/// Has a descriptor watched.
pub(super) fn register(reactor: &Reactor, fd: BorrowedFd<'_>, key: Key, slot: FdSlot) -> Result<()> {
    reactor.register(fd, key, slot).map_err(|error| Error::system("watching a descriptor", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::wire::init::Start;
    use crate::reactor::{Kind, Slab};
    use crate::sys::channel::{self, Channel};

    fn open() -> (Reactor, InitLink, Channel) {
        let (reactor, (ours, theirs)) = (Reactor::new().unwrap(), channel::pair().unwrap());
        let mut link = InitLink::default();
        link.open(&reactor, ours, Slab::new(Kind(1)).insert(())).unwrap();
        (reactor, link, Channel::new(theirs))
    }

    #[test]
    fn what_init_answers_at_once_is_kept_for_the_driver() {
        let (mut reactor, mut link, mut theirs) = open();
        for request in [
            Request::Start(Box::new(Start { id: PROGRAM, ..Start::default() })),
            Request::Start(Box::new(Start { id: 7, ..Start::default() })),
            Request::Count { ticket: 8 },
            Request::Ping { ticket: 9 },
            Request::Signal { id: 7, signal: 15, group: false },
        ] {
            link.ask(&mut reactor, &request);
            assert_eq!(theirs.receive().unwrap().bytes, request.encode());
        }
        assert_eq!(link.take_asked(), [7, 8]);
        assert!(link.take_asked().is_empty(), "once");
        theirs.send(&Reply::Pong { ticket: 9 }.encode(), vec![]).unwrap();
        assert_eq!(link.recv().unwrap(), Some(Reply::Pong { ticket: 9 }));
        assert_eq!(link.recv().unwrap(), None);
        assert!(link.take_error().is_none());
    }

    #[test]
    fn a_lost_init_is_an_error_once_and_is_asked_for_nothing_more() {
        let (mut reactor, mut link, theirs) = open();
        drop(theirs);
        link.ask(&mut reactor, &Request::Count { ticket: 8 });
        link.fail(Error::new(crate::error::Code::Engine, "later"));
        link.ask(&mut reactor, &Request::Count { ticket: 9 });
        assert_eq!(link.take_asked(), [8]);
        let error = link.take_error().unwrap();
        assert!(error.message().contains("writing to the sandbox's init"), "the first counts: {error}");
        assert!(link.take_error().is_none());
        link.close(&mut reactor);
        assert!(!link.is_open() && link.recv().unwrap().is_none());
    }
}
