//! A sandbox's gateway namespace G, as the control thread has it in hand: its rules, and the sockets in it that
//! egress needs before anything runs inside.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::life::{Bench, Life};
use super::plan::Plan;
use crate::egress::{self, Resolver};
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::event::EventKind;
use crate::keeper::wire::keeper::{Request as ToKeeper, SocketKind};
use crate::net::links;
use crate::net::nft::Rules;
use crate::policy::Policy;

/// What sockets of G are for, in the keeper's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The tunnels' stock.
    Tunnels = 0,
    /// The relays of what leaves.
    Relays = 1,
    /// UDP's answers.
    Answers = 2,
    /// Services of the host.
    Services = 3,
}

impl Purpose {
    pub(super) fn of(number: u32) -> Option<Self> {
        let all = [Self::Tunnels, Self::Relays, Self::Answers, Self::Services];
        all.into_iter().find(|purpose| *purpose as u32 == number)
    }
}

/// What there is of G so far.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    /// NETLINK_NETFILTER of G, twice, until the rules are loaded over the one and the other hears what they refuse.
    pub(super) filter: Option<(OwnedFd, OwnedFd)>,
    /// The rules, once they are loaded.
    pub(super) rules: Option<Rules>,
    /// What the resolver is about to answer while the rules are lent: addresses to let through, or not any more.
    answers: Option<(Vec<IpAddr>, Vec<IpAddr>)>,
    /// What hears the rules' refusals, until egress is opened.
    log: Option<OwnedFd>,
    /// Whether the first policy is in force, and egress open.
    pub(super) is_open: bool,
    /// Whether IPv6 is relayed.
    pub(super) ipv6: bool,
    /// The relays' sockets.
    sockets: Vec<(SocketKind, Vec<OwnedFd>)>,
    /// The sockets of the host's services.
    services: Vec<OwnedFd>,
    /// The kinds of socket that the relays still wait for.
    missing: usize,
}

/// The sockets that egress needs.
fn wanted(ipv6: bool) -> Vec<SocketKind> {
    let versions = if ipv6 { &[false, true][..] } else { &[false] };
    let kinds = versions.iter().flat_map(|ipv6| [false, true].map(|datagram| (*ipv6, datagram)));
    kinds.map(|(ipv6, datagram)| SocketKind { ipv6, datagram }).collect()
}

/// How many of them: one for the relay, and over IPv4 one for the resolver.
fn count(kind: SocketKind) -> u32 {
    if kind.ipv6 { 1 } else { 2 }
}

impl Life {
    /// Asks for the relays' sockets, which the keeper makes while it prepares the rest.
    pub(super) fn ask_for_relays(&mut self, bench: &mut Bench<'_>, ipv6: bool) {
        for kind in wanted(ipv6) {
            self.gateway.missing += 1;
            let (count, purpose) = (count(kind), Purpose::Relays as u32);
            self.ask_keeper(bench, &ToKeeper::Sockets { kind, count, purpose }, vec![]);
        }
        let services = u32::try_from(self.shared.config.host_services().len()).unwrap_or(0);
        if services > 0 {
            self.gateway.missing += 1;
            let (kind, purpose) = (SocketKind::default(), Purpose::Services as u32);
            self.ask_keeper(bench, &ToKeeper::Sockets { kind, count: services, purpose }, vec![]);
        }
    }

    /// Sockets of G have come from the keeper.
    pub(super) fn sockets_came(
        &mut self,
        bench: &mut Bench<'_>,
        kind: SocketKind,
        purpose: u32,
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        match Purpose::of(purpose) {
            Some(Purpose::Tunnels) => {
                let key = self.shared.number;
                bench.engine.send(engine::Command::Stock { key, sockets: fds })
            }
            Some(Purpose::Relays) if self.gateway.missing > 0 => {
                if u32::try_from(fds.len()) != Ok(count(kind)) {
                    return Err(Error::no_descriptors("a sandbox", "end others"));
                }
                self.gateway.missing -= 1;
                self.gateway.sockets.push((kind, fds));
                self.prepared.relays = self.gateway.missing == 0;
                self.boot(bench)
            }
            Some(Purpose::Services) if self.gateway.missing > 0 => {
                if fds.len() != self.shared.config.host_services().len() {
                    return Err(Error::no_descriptors("a sandbox", "end others"));
                }
                self.gateway.missing -= 1;
                self.gateway.services = fds;
                self.prepared.relays = self.gateway.missing == 0;
                self.boot(bench)
            }
            Some(Purpose::Answers) => {
                let (key, ipv6) = (self.shared.number, kind.ipv6);
                bench.engine.send(engine::Command::Datagrams { key, ipv6, sockets: fds })
            }
            _ => Err(Error::new(Code::Engine, "the keeper sent sockets that nobody asked for")),
        }
    }

    /// The engine wants UDP sockets of G.
    pub(crate) fn datagrams(&mut self, bench: &mut Bench<'_>, ipv6: bool, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (kind, purpose) = (SocketKind { ipv6, datagram: true }, Purpose::Answers as u32);
        self.ask_keeper(bench, &ToKeeper::Sockets { kind, count, purpose }, vec![]);
    }

    /// Takes note of how much the kernel has refused.
    pub(super) fn count_refused(&mut self) {
        match self.gateway.rules.as_mut().map(Rules::refused) {
            Some(Ok(count)) => self.shared.egress.refused.store(count, Ordering::Relaxed),
            Some(Err(error)) => log::debug!("sandbox {}: what was refused: {error}", self.shared.id),
            None => {}
        }
    }

    /// The resolver is about to answer addresses of the policy's domains: the rules let them through first.
    pub(crate) fn let_answers_through(&mut self, bench: &Bench<'_>, added: &[IpAddr], removed: &[IpAddr]) {
        if self.changes.are_lent() {
            // The resolver waits for this before it says more.
            self.gateway.answers = Some((added.to_vec(), removed.to_vec()));
            return;
        }
        let lost = || Err(Error::new(Code::Internal, "the gateway's rules can't be changed any more"));
        let outcome = self.gateway.rules.as_mut().map_or_else(lost, |rules| rules.answer(added, removed));
        if let Err(error) = &outcome {
            log::error!("sandbox {}: {error}", self.shared.id);
        }
        let (key, done) = (self.shared.number, outcome.is_ok());
        let _ = bench.engine.send(engine::Command::Answered { key, done });
    }

    /// Answers that came while the rules were lent.
    pub(super) fn let_late_answers_through(&mut self, bench: &Bench<'_>) {
        if let Some((added, removed)) = self.gateway.answers.take() {
            self.let_answers_through(bench, &added, &removed);
        }
    }

    /// Something was denied, or allowed and not reached: the host is told.
    pub(crate) fn denied(&self, denied: &egress::Denied, count: u32) {
        let kind = match denied.why {
            egress::Why::Unreachable(_) => EventKind::Unreachable,
            egress::Why::Denied(..) | egress::Why::Any => EventKind::Denied,
        };
        self.shared.tell(kind, |event| {
            event.address = denied.to.as_ref().map(ToString::to_string).unwrap_or_default();
            event.port = denied.port.into();
            event.protocol = denied.protocol.into();
            match denied.why {
                egress::Why::Denied(reason, entry) => {
                    event.reason = reason.into();
                    event.entry = entry.and_then(|entry| i32::try_from(entry).ok()).unwrap_or(-1);
                }
                egress::Why::Unreachable(errno) => event.code = errno,
                egress::Why::Any => {}
            }
            event.count = count;
            event.detail.clone_from(&denied.detail);
        });
    }

    /// Loads the rules, then the policy's destinations, then opens the way out. Until then nothing leaves, and nothing
    /// runs in the sandbox yet.
    pub(super) fn open_gateway(&mut self, bench: &mut Bench<'_>, plan: &Plan) -> Result<()> {
        let Some((filter, log)) = self.gateway.filter.take() else { return Ok(()) };
        self.gateway.rules = Some(links::load_rules(filter, &plan.topology)?);
        self.gateway.ipv6 = plan.topology.ipv6;
        self.gateway.log = Some(log);
        self.changes.begin(Arc::new(self.shared.config.policy().clone()));
        self.next_work(bench);
        Ok(())
    }

    /// The policy's destinations are loaded: from here on the sandbox reaches what its policy allows.
    pub(super) fn open_egress(&mut self, bench: &mut Bench<'_>, policy: (Arc<Policy>, u64)) -> Result<()> {
        let mut sockets = egress::Sockets::default();
        if let Some(log) = self.gateway.log.take() {
            sockets.hear_refusals(log);
        }
        let mut resolver = Resolver::new(self.shared.config.nameservers().to_vec());
        for (kind, fds) in std::mem::take(&mut self.gateway.sockets) {
            for (index, socket) in fds.into_iter().enumerate() {
                match (index, kind.datagram) {
                    (0, true) => sockets.hear(socket, kind.ipv6)?,
                    (0, false) => sockets.listen(socket, kind.ipv6)?,
                    (_, true) => resolver.hear(socket)?,
                    (_, false) => resolver.listen(socket)?,
                }
            }
        }
        sockets.answer_by(resolver);
        let services = self.shared.config.host_services();
        for (socket, service) in std::mem::take(&mut self.gateway.services).into_iter().zip(services) {
            sockets.serve(socket, *service)?;
        }
        if let Some(rules) = &mut self.gateway.rules {
            rules.add_services(&services.iter().map(|service| service.port).collect::<Vec<_>>())?;
        }
        bench.engine.send(engine::Command::AddEgress {
            key: self.shared.number,
            policy,
            settings: egress::Settings::of(self.shared.config.egress_limits()),
            sockets,
            counters: Arc::clone(&self.shared.egress),
        })?;
        self.attached = true;
        self.gateway.is_open = true;
        self.start_program(bench)
    }
}
