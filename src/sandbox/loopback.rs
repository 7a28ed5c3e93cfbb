//! Connections to servers on the sandbox's own 127.0.0.1, made by init at the engine's request.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::life::{Bench, Life};
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::keeper::wire::init::Request;
use crate::limits;
use crate::reactor::{Permit, Use};

/// The most that may be under way at once.
const MOST: usize = 256;
/// After this the engine has given up waiting, and so is what init may still say of it.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Those under way, by the number that init knows them by.
#[derive(Debug, Default)]
pub(super) struct Loopbacks(HashMap<u32, Waiting>);

#[derive(Debug)]
struct Waiting {
    /// The engine's number for it.
    ticket: u64,
    /// The library's end.
    stream: OwnedFd,
    since: Instant,
    _permit: Permit,
}

impl Loopbacks {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Life {
    /// The engine wants a stream to a server on the sandbox's own 127.0.0.1; the answer goes back by ticket.
    pub(crate) fn loopback(&mut self, bench: &mut Bench<'_>, port: u16, ticket: u64) {
        match self.prepare_loopback(bench, ticket) {
            Ok((own, theirs, permit)) => {
                let request = Request::Connect { ticket: own, port };
                self.give_init(bench, &request, vec![theirs], Some(permit));
            }
            Err(error) => answer(bench, ticket, Err(error)),
        }
    }

    fn prepare_loopback(&mut self, bench: &mut Bench<'_>, ticket: u64) -> Result<(u32, OwnedFd, Permit)> {
        let now = bench.reactor.now();
        // A hostile init never answers; what the engine has forgotten must not pile up here.
        self.loopbacks.0.retain(|_, waiting| now.saturating_duration_since(waiting.since) < FORGOTTEN);
        let may = self.init.is_some() && self.is_running() && self.loopbacks.0.len() < MOST;
        let permit =
            || bench.budget.acquire(self.shared.number, Use::Tunnel, limits::LOOPBACK).filter(|_| may);
        let (permit, of_theirs) = permit().zip(permit()).ok_or_else(|| {
            Error::new(Code::Limit, "too many connections to the sandbox's 127.0.0.1 are under way")
        })?;
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            Ok((ours, theirs))
        });
        let (ours, theirs) = pair.map_err(|error| Error::system("a socket pair for a connection", &error))?;
        let own = self.ticket();
        let waiting = Waiting { ticket, stream: ours.into(), since: now, _permit: permit };
        self.loopbacks.0.insert(own, waiting);
        Ok((own, theirs.into(), of_theirs))
    }

    /// Init has connected, or could not.
    pub(super) fn connected(&mut self, bench: &mut Bench<'_>, own: u32, errno: i32) {
        let Some(waiting) = self.loopbacks.0.remove(&own) else { return };
        let outcome = match errno {
            0 => Ok(waiting.stream),
            errno => {
                let cause = std::io::Error::from_raw_os_error(errno);
                Err(Error::system("connecting inside the sandbox", &cause).with_code(Code::Refused))
            }
        };
        answer(bench, waiting.ticket, outcome);
    }
}

fn answer(bench: &Bench<'_>, ticket: u64, answer: Result<OwnedFd>) {
    // An engine that is gone waits for nothing.
    let _ = bench.engine.send(engine::Command::Loopback { ticket, answer });
}
