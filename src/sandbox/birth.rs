//! The way up: namespaces, links, runsc, init, the program.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::doors::Doors;
use super::life::{Bench, Cause, Life, PROGRAM, Phase, START, Watch, register};
use super::shared::Facts;
use super::{State, trouble};
use crate::config::PortKind;
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::event::EventKind;
use crate::keeper::wire::init::{Reply as FromInit, Request as ToInit, Source, Start};
use crate::keeper::wire::keeper::{OutOfMemory, Reply as FromKeeper, Request as ToKeeper};
use crate::net::links;
use crate::process::{Init, Ours, Streams};
use crate::reactor::Lane;
use crate::sys::channel;
use crate::tunnel::{Security, Settings};

impl Life {
    pub(super) fn keeper_says(&mut self, bench: &mut Bench<'_>, reply: FromKeeper, fds: Vec<OwnedFd>) {
        let done = match reply {
            FromKeeper::Namespaces { refused } => self.namespaces(bench, &refused, fds),
            FromKeeper::Prepared => {
                self.prepared.files = true;
                self.boot(bench)
            }
            FromKeeper::Running => Ok(()),
            FromKeeper::Sockets { kind, purpose } => self.sockets_came(bench, kind, purpose, fds),
            FromKeeper::Failed { step, errno } => Err(trouble::keeper(&step, errno)),
            FromKeeper::Used(usage) => {
                self.used(usage);
                self.watched(bench, usage.memory.is_some())
            }
            FromKeeper::Expired => {
                self.expired(bench);
                Ok(())
            }
            FromKeeper::Ended { status, log, output, usage, out_of_memory } => {
                self.used(usage);
                match out_of_memory {
                    OutOfMemory::No => self.engine_ended(bench, status, &log, &output),
                    by => self.out_of_memory(bench, by),
                }
                Ok(())
            }
        };
        if let Err(error) = done {
            self.end(bench, Cause::Failed(error));
        }
    }

    /// The namespaces exist: lay the links that runsc is going to look at, while the keeper makes the files.
    fn namespaces(&mut self, bench: &mut Bench<'_>, refused: &[Vec<u8>], fds: Vec<OwnedFd>) -> Result<()> {
        for name in refused {
            let name = String::from_utf8_lossy(name);
            log::info!("sandbox {}: /proc/sys/{name} of its gateway can't be written here", self.shared.id);
        }
        let Some(plan) = self.plan.as_ref().filter(|plan| plan.network) else { return Ok(()) };
        let [route_g, filter_g, log_g, route_s, ns_s] = <[OwnedFd; 5]>::try_from(fds)
            .map_err(|_| Error::new(Code::Engine, "the keeper sent other descriptors than expected"))?;
        let sockets = links::Sockets { route_g, route_s, ns_s };
        links::configure_links(sockets, &plan.topology)?;
        self.gateway.filter = Some((filter_g, log_g));
        self.prepared.links = true;
        let ipv6 = plan.topology.ipv6;
        self.ask_for_relays(bench, ipv6);
        self.boot(bench)
    }

    /// Once everything is there: start runsc, and open the gateway while it starts.
    pub(super) fn boot(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        if self.phase != Phase::Preparing || !self.prepared.is_complete() {
            return Ok(());
        }
        let (ours, theirs) =
            channel::pair().map_err(|error| Error::system("a socket pair for init", &error))?;
        let Some(arguments) = self.plan.as_ref().map(|plan| plan.arguments.clone()) else { return Ok(()) };
        self.ask_keeper(bench, &ToKeeper::Run { arguments }, vec![theirs]);
        self.have_lifetime_kept(bench, START);
        if self.phase != Phase::Preparing {
            // The keeper has failed meanwhile, and has said why.
            return Ok(());
        }
        let (Some(plan), Some(key)) = (self.plan.take(), self.key) else { return Ok(()) };
        register(bench.reactor, ours.as_fd(), key, Lane::Back)?;
        self.init = Some(Init::new(ours));
        self.phase = Phase::Booting;
        let opened = self.open_gateway(bench, &plan);
        self.plan = Some(plan);
        match opened {
            Ok(()) => self.start_program(bench),
            Err(error) => {
                self.doubt(bench, error);
                Ok(())
            }
        }
    }

    pub(super) fn init_says_at_birth(&mut self, bench: &mut Bench<'_>, reply: FromInit) {
        let done = match (self.phase, reply) {
            (Phase::Booting | Phase::Starting, FromInit::Hello) => {
                self.greeted = true;
                if self.watch == Watch::Unseen {
                    self.ask_keeper(bench, &ToKeeper::Usage, vec![]);
                }
                self.start_program(bench)
            }
            (Phase::Starting, FromInit::Started { id: PROGRAM }) => self.running(bench),
            (Phase::Starting, FromInit::NotStarted { id: PROGRAM, step, errno }) => {
                Err(trouble::program(step, errno, &self.shared.config))
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            self.end(bench, Cause::Failed(error));
        }
    }

    /// The keeper has looked for the memory that it is to watch: a limit that can't be held is an error.
    fn watched(&mut self, bench: &mut Bench<'_>, sees: bool) -> Result<()> {
        if self.watch != Watch::Unseen || self.phase != Phase::Booting || !self.greeted {
            return Ok(());
        }
        if !sees {
            let text = "the limit of memory can't be held by watching: this runsc's memory isn't found. Use a control \
                        group (SBX_LIMITS_STRICT), another release of runsc, or no limit";
            return Err(Error::new(Code::Host, text));
        }
        self.watch = Watch::Seen;
        self.start_program(bench)
    }

    /// Asks init to start the program, once the gateway is open: nothing runs before the first policy is in force.
    /// Init may not be there yet; then it finds the request when it is.
    pub(super) fn start_program(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        let Some(plan) = self.plan.as_mut() else { return Ok(()) };
        let is_early = plan.network && !self.gateway.is_open || self.watch == Watch::Unseen;
        if self.phase != Phase::Booting || is_early {
            return Ok(());
        }
        if self.shared.config.command().is_empty() {
            if plan.start.directory == b"/" {
                return if self.greeted { self.running(bench) } else { Ok(()) };
            }
            let directory = mem::take(&mut plan.start.directory);
            self.phase = Phase::Starting;
            let start = Start { id: PROGRAM, directory, ..Start::default() };
            self.give_init(bench, &ToInit::Start(Box::new(start)), vec![], None);
            return Ok(());
        }
        let streams = Streams::open(plan.stdio)?;
        let start = Start { id: PROGRAM, streams: streams.sources, ..mem::take(&mut plan.start) };
        if streams.sources[0] == Source::Given {
            self.watch_input(bench, streams.theirs.first());
        }
        let mut descriptors = [None, None, None];
        let mut captures = [None, None, None];
        for ((ours, descriptor), capture) in streams.ours.into_iter().zip(&mut descriptors).zip(&mut captures)
        {
            match ours {
                Some(Ours::Descriptor(fd)) => *descriptor = Some(fd),
                Some(Ours::Capture(reader, kept)) => {
                    *capture = Some(kept);
                    self.captures.push(reader);
                }
                None => {}
            }
        }
        self.shared.update(|facts| (facts.descriptors, facts.captures) = (descriptors, captures));
        self.phase = Phase::Starting;
        self.give_init(bench, &ToInit::Start(Box::new(start)), streams.theirs, None);
        Ok(())
    }

    /// The program runs, or init alone if there is none.
    fn running(&mut self, bench: &mut Bench<'_>) -> Result<()> {
        let Some(plan) = self.plan.take() else { return Ok(()) };
        if let Some(doors) = self.doors.take().filter(|_| plan.network) {
            self.attach(bench, doors)?;
        }
        self.phase = Phase::Running;
        let now = Instant::now();
        self.started = Some(now);
        self.set_deadline(bench, self.shared.config.timeout());
        self.have_lifetime_kept(bench, Duration::ZERO);
        let running = |facts: &mut Facts| {
            facts.state = State::Running;
            facts.started = Some(now);
        };
        self.shared.update_and_tell(running, EventKind::Started, |_| ());
        self.begin_probing(bench);
        self.note_activity(bench);
        Ok(())
    }

    /// Hands the sandbox and its listeners to the engine.
    fn attach(&mut self, bench: &mut Bench<'_>, doors: Doors) -> Result<()> {
        let key = self.shared.number;
        let (counters, time) = (Arc::clone(&self.shared.counters), Arc::clone(&self.shared.time));
        bench.engine.send(engine::Command::AddSandbox {
            key,
            settings: Settings::default(),
            counters,
            time,
        })?;
        let allowed = self.shared.config.inbound_cidr_allowlist();
        for listening in doors.listeners {
            let security = match (listening.kind, &doors.identity) {
                (PortKind::Unencrypted, _) => Security::Plain,
                (kind, Some(identity)) => Security::Tls(identity.server_config(kind == PortKind::H2)?),
                (_, None) => {
                    return Err(Error::new(Code::Internal, "an encrypted tunnel has no certificate"));
                }
            };
            bench.engine.send(engine::Command::AddListener {
                key,
                container_port: listening.container_port,
                listener: listening.listener,
                security,
                allowed: allowed.map(<[_]>::to_vec),
            })?;
        }
        Ok(())
    }
}
