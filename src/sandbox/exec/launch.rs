//! A program to be executed: everything that can be made on the caller's thread.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::record::{Have, Record};
use crate::config::{Config, Exec};
use crate::error::{Code, Context, Error, Result};
use crate::keeper::wire::Secret;
use crate::keeper::wire::init::{Source, Start, Window};
use crate::process::{CaptureReader, Ours, Streams};
use crate::reactor::{FdBudget, FdPermit, Use};
use crate::sandbox::{Shared, State, plan};

/// A program to be executed. Dropping it before it starts (a control thread that ends, a sandbox that is gone)
/// notifies the waiters with an error.
#[derive(Debug)]
pub(crate) struct Launch {
    shared: Arc<Shared>,
    parts: Option<Parts>,
}

/// What a launch has prepared. Open fields: plain data that changes hands once.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) record: Arc<Record>,
    pub(super) order: Order,
    pub(super) captures: [Option<CaptureReader>; 2],
    pub(super) timeout: Option<Duration>,
    /// The captures' descriptors.
    pub(super) permit: FdPermit,
}

/// What init is to be asked, until it was. Open fields: plain data that changes hands once.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) start: Box<Start>,
    pub(super) theirs: Vec<OwnedFd>,
    /// Those descriptors; they are ours until init has taken them.
    pub(super) permit: FdPermit,
}

impl Launch {
    /// Prepares a program of a sandbox.
    pub(super) fn new(shared: &Arc<Shared>, exec: &Exec, budget: &FdBudget) -> Result<Self> {
        let (sandbox, config) = (&shared.id, &shared.config);
        let name = exec.command().first().map_or("", String::as_str);
        let what = format!("the program {name:?} in sandbox {sandbox}");
        exec.fits(config.env())?;
        let events = exec.queue().map(|(queue, cookie)| queue.sender(cookie)).transpose()?;
        let budget = |count| {
            budget
                .acquire(shared.number, Use::Host, count)
                .ok_or_else(|| Error::no_descriptors("its streams", "let other programs end").context(&what))
        };
        let mut start = start(config, exec);
        let mut terminal = Have::Nothing;
        let mut streams = [Have::Nothing, Have::Nothing, Have::Nothing];
        let mut captures = [None, None];
        let mut captured = 0;
        let theirs;
        if let Some((rows, columns)) = exec.terminal() {
            start.terminal = Some(Window { rows, columns });
            let permit = budget(1)?;
            let (ours, inside) = UnixStream::pair().context("a socket pair for a terminal")?;
            ours.set_nonblocking(true).context("a socket pair for a terminal")?;
            terminal = Have::Descriptor(ours.into(), permit);
            theirs = vec![inside.into()];
        } else {
            let made = Streams::open(exec.streams()).map_err(|error| error.context(&what))?;
            start.streams = made.sources;
            for ((index, ours), have) in made.ours.into_iter().enumerate().zip(&mut streams) {
                match ours {
                    None => {}
                    Some(Ours::Descriptor(fd)) => *have = Have::Descriptor(fd, budget(1)?),
                    Some(Ours::Capture(reader, kept)) => {
                        *have = Have::Capture(kept);
                        captured += 1;
                        if let Some(place) = index.checked_sub(1).and_then(|place| captures.get_mut(place)) {
                            *place = Some(reader);
                        }
                    }
                }
            }
            theirs = made.theirs;
        }
        let permit = budget(theirs.len())?;
        let directory = exec.workdir().unwrap_or(config.workdir()).to_owned();
        let record = Record::new(what.clone(), directory, events, streams, terminal);
        let parts = Parts {
            permit: budget(captured)?,
            record: Arc::new(record),
            order: Order { start: Box::new(start), theirs, permit },
            captures,
            timeout: exec.timeout(),
        };
        Ok(Self { shared: Arc::clone(shared), parts: Some(parts) })
    }

    /// What the host knows it by.
    pub(super) fn record(&self) -> Option<Arc<Record>> {
        self.parts.as_ref().map(|parts| Arc::clone(&parts.record))
    }

    /// What it has prepared: from now on the taker reports the outcome.
    pub(super) fn take(mut self) -> Option<Parts> {
        self.parts.take()
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if let Some(Parts { record, .. }) = self.parts.take() {
            let facts = self.shared.facts();
            let error = match facts.state {
                State::Ending | State::Ended => facts.ended(&self.shared.id),
                _ => Error::new(Code::State, "the sandbox is being stopped"),
            };
            drop(facts);
            record.end(Err(error.context(&record.what)));
        }
    }
}

/// What isn't set is as for the sandbox's own program.
fn start(config: &Config, exec: &Exec) -> Start {
    let mut start = plan::start(config);
    start.arguments = exec.command().iter().map(|argument| argument.clone().into_bytes()).collect();
    if exec.env().iter().next().is_some() {
        let own = config.env().iter().filter(|(name, _)| !exec.env().contains(name));
        start.environment =
            own.chain(exec.env().iter()).map(|(name, value)| Secret::variable(name, value)).collect();
    }
    if let Some(directory) = exec.workdir() {
        start.directory = directory.as_bytes().to_vec();
    }
    if let Some(user) = exec.user() {
        start.user = plan::user(user, config);
    }
    start.streams = [Source::Null; 3];
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_variable_takes_the_place_of_the_sandboxs() {
        let (mut config, mut exec) = (Config::new(), Exec::new());
        config.set_env("A", "1").unwrap().set_env("AB", "2").unwrap().set_secret("C", "3").unwrap();
        exec.set_command(["true"]).unwrap();
        let environment = |exec: &Exec| {
            let mut all: Vec<String> = start(&config, exec)
                .environment
                .iter()
                .map(|one| String::from_utf8_lossy(one).into())
                .collect();
            all.sort_unstable();
            all
        };
        assert_eq!(environment(&exec), ["A=1", "AB=2", "C=3"]);
        exec.set_secret("A", "own").unwrap().set_env("C", "").unwrap().set_env("D", "4").unwrap();
        assert_eq!(environment(&exec), ["A=own", "AB=2", "C=", "D=4"]);
    }
}
