//! All operations that go on, in the control thread.

use std::collections::HashMap;
use std::os::fd::AsFd;

use super::operation::Answer;
use super::task::{FileTask, Next};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::reactor::{FdBudget, FdPermit, FdSlot, Key, Kind, Reactor, Slab, TimerId, Use};

/// The most that one sandbox may have at once.
const MAX_OPERATIONS: usize = 256;

#[derive(Debug)]
struct Entry {
    running: FileTask,
    /// Init's number for it.
    ticket: u32,
    /// When it is given up, and when it is looked whether anything moves.
    timer: Option<TimerId>,
    look: Option<TimerId>,
    _permit: FdPermit,
}

/// An operation that has ended here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileOutcome {
    /// The number of its sandbox.
    pub(crate) sandbox: u64,
    /// Init's number for it.
    pub(crate) ticket: u32,
    /// Whether its helper may still be at it.
    pub(crate) helper_may_run: bool,
    /// Whether it was use of the sandbox.
    pub(crate) was_use: bool,
}

/// The operations of all sandboxes.
#[derive(Debug)]
pub(crate) struct Table {
    entries: Slab<Entry>,
    keys: HashMap<u64, Key>,
}

impl Table {
    /// A table whose objects are of that kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { entries: Slab::new(kind), keys: HashMap::new() }
    }

    /// How many operations there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Begins an operation: `ask` sends init what it needs and returns init's number for it.
    /// It is returned if it has ended already, after init was asked.
    pub(crate) fn start(
        &mut self,
        reactor: &mut Reactor,
        budget: &FdBudget,
        mut running: FileTask,
        ask: impl FnOnce(&mut FileTask, &mut Reactor) -> Result<u32>,
    ) -> Option<FileOutcome> {
        let sandbox = running.sandbox();
        let busy = self.entries.iter().filter(|(_, entry)| entry.running.sandbox() == sandbox).count();
        let title = running.progress().title.clone();
        if busy >= MAX_OPERATIONS {
            let message =
                format!("{title}: {MAX_OPERATIONS} operations go on in this sandbox; wait for some to end");
            running.finish(Err(Error::new(Code::Limit, message)));
            return None;
        }
        let Some(permit) = budget.acquire(sandbox, Use::Host, limits::FILE_OPERATION) else {
            let error = running.fd_limit_error();
            running.finish(Err(error));
            return None;
        };
        let ticket = match ask(&mut running, reactor) {
            Ok(ticket) => ticket,
            Err(error) => {
                running.finish(Err(error));
                return None;
            }
        };
        let at = running.timeout().and_then(|timeout| reactor.now().checked_add(timeout));
        let number = running.number();
        let key = self.entries.insert(Entry { running, ticket, timer: None, look: None, _permit: permit });
        self.keys.insert(number, key);
        reactor.join(key, sandbox);
        let Some(entry) = self.entries.get_mut(key) else {
            debug_assert!(false, "it was just inserted");
            return None;
        };
        entry.timer = at.map(|at| reactor.schedule(at, key));
        let look = entry.running.next_look(reactor.now());
        entry.look = look.map(|at| reactor.schedule(at, key));
        let (channel, stream) = entry.running.descriptors();
        let watched = reactor
            .register(channel, key, FdSlot::First)
            .and_then(|()| stream.map_or(Ok(()), |stream| reactor.register(stream, key, FdSlot::Second)));
        let error = watched.err()?;
        self.end(reactor, key, Err(Error::system(format!("{title}: watching it"), &error)))
    }

    /// An operation can go on; it is returned if that was its end.
    pub(crate) fn go_on(&mut self, reactor: &mut Reactor, key: Key) -> Option<FileOutcome> {
        // It may have ended since it was woken, here and in `late`.
        match self.entries.get_mut(key)?.running.go_on() {
            Next::Wait => None,
            Next::Again => {
                reactor.reschedule(key);
                None
            }
            Next::Over(result) => self.end(reactor, key, result),
        }
    }

    /// An operation's time has run out, or it is to be looked whether anything moves.
    pub(crate) fn late(&mut self, reactor: &mut Reactor, key: Key) -> Option<FileOutcome> {
        let now = reactor.now();
        let entry = self.entries.get_mut(key)?;
        if entry.timer.take_if(|timer| timer.at() <= now).is_some() {
            let error = entry.running.late();
            return self.end(reactor, key, Err(error));
        }
        entry.look.take_if(|timer| timer.at() <= now)?;
        if let Some(error) = entry.running.look(now) {
            return self.end(reactor, key, Err(error));
        }
        entry.look = entry.running.next_look(now).map(|at| reactor.schedule(at, key));
        None
    }

    /// The host doesn't want an operation any more.
    pub(crate) fn cancel(&mut self, reactor: &mut Reactor, number: u64) -> Option<FileOutcome> {
        // It may have ended by itself.
        let key = *self.keys.get(&number)?;
        let Some(entry) = self.entries.get_mut(key) else {
            debug_assert!(false, "a number is removed with its operation");
            return None;
        };
        let error = entry.running.cancelled();
        self.end(reactor, key, Err(error))
    }

    /// The host has made room for what an operation has to report.
    pub(crate) fn room(&mut self, reactor: &mut Reactor, number: u64) {
        // It may have ended, with changes that the host hasn't taken.
        if let Some(key) = self.keys.get(&number) {
            reactor.reschedule(*key);
        }
    }

    /// A sandbox is gone, and with it all of its operations.
    pub(crate) fn end_all(&mut self, reactor: &mut Reactor, sandbox: u64) {
        let of_it = |(key, entry): (Key, &Entry)| {
            (entry.running.sandbox() == sandbox).then(|| (key, entry.running.ended()))
        };
        let all: Vec<_> = self.entries.iter().filter_map(of_it).collect();
        for (key, error) in all {
            self.end(reactor, key, Err(error));
        }
    }

    /// Forgets an operation after a bug.
    pub(crate) fn abandon(&mut self, reactor: &mut Reactor, key: Key) -> Option<FileOutcome> {
        let error = Error::new(Code::Panic, "the control thread panicked: a bug of the library");
        self.end(reactor, key, Err(error))
    }

    fn end(&mut self, reactor: &mut Reactor, key: Key, result: Result<Answer>) -> Option<FileOutcome> {
        let Entry { running, ticket, timer, look, _permit: permit } = self.entries.remove(key)?;
        self.keys.remove(&running.number());
        for timer in timer.into_iter().chain(look) {
            reactor.cancel(timer);
        }
        let (channel, stream) = running.descriptors();
        reactor.deregister(channel.as_fd());
        if let Some(stream) = stream {
            reactor.deregister(stream.as_fd());
        }
        let ended = FileOutcome {
            sandbox: running.sandbox(),
            ticket,
            helper_may_run: running.helper_may_run(),
            was_use: running.is_use(),
        };
        drop(permit);
        running.finish(result);
        Some(ended)
    }
}
