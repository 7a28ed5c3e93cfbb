//! Connections to servers on the sandbox's own 127.0.0.1, made by init at the engine's request.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::init_link::InitLink;
use super::lifecycle::Tickets;
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::keeper::wire::init::Request;
use crate::limits;
use crate::reactor::{FdBudget, FdPermit, Reactor, Use};

/// The most connections that may be in progress at once.
const MAX_LOOPBACKS: usize = 256;
/// After this the engine has given up waiting, and init's answer is ignored.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections in progress, by the number that init knows them by.
#[derive(Debug, Default)]
pub(super) struct Loopbacks(HashMap<u32, Connecting>);

#[derive(Debug)]
struct Connecting {
    /// The engine's number for it.
    ticket: u64,
    /// The library's end.
    stream: OwnedFd,
    since: Instant,
    _permit: FdPermit,
}

/// What a connection is made with. Open fields: the driver lends its own for one call.
#[derive(Debug)]
pub(super) struct LoopbackCx<'a> {
    pub(super) reactor: &'a mut Reactor,
    pub(super) engine: &'a engine::Handle,
    pub(super) budget: &'a FdBudget,
    pub(super) init: &'a mut InitLink,
    pub(super) tickets: &'a mut Tickets,
}

impl Loopbacks {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The engine wants a stream to a port of the sandbox's own 127.0.0.1; the answer goes back by ticket.
    pub(super) fn connect(
        &mut self,
        cx: &mut LoopbackCx<'_>,
        sandbox: u64,
        is_running: bool,
        port: u16,
        ticket: u64,
    ) {
        match self.prepare(cx, sandbox, is_running, ticket) {
            Ok((own, theirs, permit)) => {
                let request = Request::Connect { ticket: own, port };
                cx.init.give(cx.reactor, &request, vec![theirs], Some(permit));
            }
            Err(error) => answer(cx.engine, ticket, Err(error)),
        }
    }

    fn prepare(
        &mut self,
        cx: &mut LoopbackCx<'_>,
        sandbox: u64,
        is_running: bool,
        ticket: u64,
    ) -> Result<(u32, OwnedFd, FdPermit)> {
        let now = cx.reactor.now();
        // A hostile init never answers; what the engine has forgotten must not pile up here.
        self.0.retain(|_, connecting| now.saturating_duration_since(connecting.since) < ENGINE_TIMEOUT);
        let may = cx.init.is_open() && is_running && self.0.len() < MAX_LOOPBACKS;
        let permit = || cx.budget.acquire(sandbox, Use::Tunnel, limits::LOOPBACK).filter(|_| may);
        let (permit, of_theirs) = permit().zip(permit()).ok_or_else(|| {
            Error::new(Code::Limit, "too many connections to the sandbox's 127.0.0.1 are under way")
        })?;
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            Ok((ours, theirs))
        });
        let (ours, theirs) = pair.map_err(|error| Error::system("a socket pair for a connection", &error))?;
        let own = cx.tickets.next();
        self.0.insert(own, Connecting { ticket, stream: ours.into(), since: now, _permit: permit });
        Ok((own, theirs.into(), of_theirs))
    }

    /// Init has connected, or could not.
    pub(super) fn on_connected(&mut self, engine: &engine::Handle, own: u32, errno: i32) {
        // The engine has given up waiting, or init has invented the connection.
        let Some(connecting) = self.0.remove(&own) else { return };
        let outcome = match errno {
            0 => Ok(connecting.stream),
            errno => {
                let cause = std::io::Error::from_raw_os_error(errno);
                Err(Error::system("connecting inside the sandbox", &cause).with_code(Code::Refused))
            }
        };
        answer(engine, connecting.ticket, outcome);
    }
}

fn answer(engine: &engine::Handle, ticket: u64, answer: Result<OwnedFd>) {
    // An engine that is gone waits for nothing.
    let _ = engine.send(engine::Command::Loopback { ticket, answer });
}
