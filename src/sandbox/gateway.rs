//! A sandbox's gateway namespace G, as the control thread holds it: its rules, and the sockets in it that
//! egress needs before anything runs inside.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::policy_update::Opened;
use super::shared::Shared;
use crate::egress::{self, Resolver};
use crate::engine;
use crate::error::{Code, Error, Result};
use crate::keeper::wire::keeper::{Request as ToKeeper, SocketKind};
use crate::net::links;
use crate::net::nft::Rules;

/// What sockets of G are for, in the keeper's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
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
    fn of(number: u32) -> Option<Self> {
        let all = [Self::Tunnels, Self::Relays, Self::Answers, Self::Services];
        all.into_iter().find(|purpose| *purpose as u32 == number)
    }
}

/// The request for sockets of G.
fn sockets(kind: SocketKind, count: usize, purpose: Purpose) -> ToKeeper {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    ToKeeper::Sockets { kind, count, purpose: purpose as u32 }
}

/// The request for sockets that the tunnels connect through.
pub(super) fn tunnel_sockets(count: usize) -> ToKeeper {
    sockets(SocketKind::default(), count, Purpose::Tunnels)
}

/// The request for UDP sockets that answer the sandbox.
pub(super) fn udp_sockets(ipv6: bool, count: usize) -> ToKeeper {
    sockets(SocketKind { ipv6, datagram: true }, count, Purpose::Answers)
}

/// The kinds of socket that egress needs.
fn relay_kinds(ipv6: bool) -> Vec<SocketKind> {
    let versions = if ipv6 { &[false, true][..] } else { &[false] };
    let kinds = versions.iter().flat_map(|ipv6| [false, true].map(|datagram| (*ipv6, datagram)));
    kinds.map(|(ipv6, datagram)| SocketKind { ipv6, datagram }).collect()
}

/// How many of them: one for the relay, and over IPv4 one for the resolver.
fn relay_count(kind: SocketKind) -> usize {
    if kind.ipv6 { 1 } else { 2 }
}

/// What there is of G so far.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    /// NETLINK_NETFILTER of G, twice: one loads the rules, the other reads what they refuse.
    filter: Option<(OwnedFd, OwnedFd)>,
    /// The rules, once they are loaded and while they aren't offloaded.
    rules: Option<Rules>,
    /// Addresses that the resolver waits for while the rules are offloaded: to allow, or not any more.
    postponed: Option<(Vec<IpAddr>, Vec<IpAddr>)>,
    /// What reads the rules' refusals, until egress is opened.
    log: Option<OwnedFd>,
    ipv6: bool,
    /// The relays' sockets.
    relays: Vec<(SocketKind, Vec<OwnedFd>)>,
    /// The sockets of the host's services.
    services: Vec<OwnedFd>,
    /// How many messages with sockets are still to come before runsc can be started.
    missing: usize,
}

impl Gateway {
    /// Keeps G's netfilter sockets, and returns the requests for the relays' sockets, which the keeper makes while it
    /// prepares the rest.
    pub(super) fn prepare(
        &mut self,
        filter: (OwnedFd, OwnedFd),
        ipv6: bool,
        services: usize,
    ) -> Vec<ToKeeper> {
        self.filter = Some(filter);
        self.ipv6 = ipv6;
        let relays = relay_kinds(ipv6).into_iter();
        let mut requests: Vec<_> =
            relays.map(|kind| sockets(kind, relay_count(kind), Purpose::Relays)).collect();
        if services > 0 {
            requests.push(sockets(SocketKind::default(), services, Purpose::Services));
        }
        self.missing = requests.len();
        requests
    }

    /// Sockets of G have come from the keeper. Whether those that runsc waits for are complete by this.
    pub(super) fn on_sockets(
        &mut self,
        engine: &engine::Handle,
        shared: &Shared,
        (kind, purpose): (SocketKind, u32),
        fds: Vec<OwnedFd>,
    ) -> Result<bool> {
        let key = shared.number;
        let expected = match Purpose::of(purpose) {
            Some(Purpose::Tunnels) => {
                engine.send(engine::Command::Sockets { key, sockets: fds })?;
                return Ok(false);
            }
            Some(Purpose::Answers) => {
                engine.send(engine::Command::Datagrams { key, ipv6: kind.ipv6, sockets: fds })?;
                return Ok(false);
            }
            Some(Purpose::Relays) if self.missing > 0 => relay_count(kind),
            Some(Purpose::Services) if self.missing > 0 => shared.config.host_services().len(),
            _ => return Err(Error::new(Code::Engine, "the keeper sent sockets that nobody asked for")),
        };
        if fds.len() != expected {
            return Err(Error::no_descriptors("a sandbox", "end others"));
        }
        if Purpose::of(purpose) == Some(Purpose::Relays) {
            self.relays.push((kind, fds));
        } else {
            self.services = fds;
        }
        self.missing -= 1;
        Ok(self.missing == 0)
    }

    /// Loads the rules, which allow no destination yet.
    pub(super) fn load_rules(&mut self, plan: &links::Plan) -> Result<()> {
        let Some((filter, log)) = self.filter.take() else {
            debug_assert!(false, "the gateway is opened once, after its sockets have come");
            return Ok(());
        };
        self.rules = Some(links::load_rules(filter, plan)?);
        self.log = Some(log);
        Ok(())
    }

    /// Whether IPv6 is relayed.
    pub(super) fn has_ipv6(&self) -> bool {
        self.ipv6
    }

    /// Whether the rules are loaded, and not offloaded.
    pub(super) fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    pub(super) fn take_rules(&mut self) -> Option<Rules> {
        self.rules.take()
    }

    pub(super) fn put_rules(&mut self, rules: Rules) {
        self.rules = Some(rules);
    }

    /// The policy's destinations are loaded: hands the relays' sockets to the engine. From here on the sandbox reaches
    /// what its policy allows.
    pub(super) fn open_egress(
        &mut self,
        engine: &engine::Handle,
        shared: &Shared,
        policy: Opened,
    ) -> Result<()> {
        let mut sockets = egress::Sockets::default();
        if let Some(log) = self.log.take() {
            sockets.listen_for_refusals(log);
        }
        let mut resolver = Resolver::new(shared.config.nameservers().to_vec());
        for (kind, fds) in std::mem::take(&mut self.relays) {
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
        let services = shared.config.host_services();
        for (socket, service) in std::mem::take(&mut self.services).into_iter().zip(services) {
            sockets.serve(socket, *service)?;
        }
        if let Some(rules) = &mut self.rules {
            rules.add_services(&services.iter().map(|service| service.port).collect::<Vec<_>>())?;
        }
        engine.send(engine::Command::AddEgress {
            key: shared.number,
            policy,
            settings: egress::Settings::of(shared.config.egress_limits()),
            sockets,
            counters: Arc::clone(&shared.egress),
        })
    }

    /// Records how much the kernel has refused.
    pub(super) fn record_refused(&mut self, shared: &Shared) {
        match self.rules.as_mut().map(Rules::refused) {
            Some(Ok(count)) => shared.egress.refused.store(count, Ordering::Relaxed),
            Some(Err(error)) => log::debug!("sandbox {}: what was refused: {error}", shared.id),
            None => {}
        }
    }

    /// The resolver is about to answer addresses of the policy's domains: the rules allow them first. The resolver waits
    /// for the engine's `Answered` before it asks for more.
    pub(super) fn allow_resolved(
        &mut self,
        engine: &engine::Handle,
        shared: &Shared,
        added: &[IpAddr],
        removed: &[IpAddr],
    ) {
        let lost = || Err(Error::new(Code::Internal, "the gateway's rules can't be changed any more"));
        let outcome = self.rules.as_mut().map_or_else(lost, |rules| rules.answer(added, removed));
        if let Err(error) = &outcome {
            log::error!("sandbox {}: {error}", shared.id);
        }
        let _ = engine.send(engine::Command::Answered { key: shared.number, done: outcome.is_ok() });
    }

    /// The same while the rules are offloaded: done once they are back.
    pub(super) fn postpone_resolved(&mut self, added: Vec<IpAddr>, removed: Vec<IpAddr>) {
        self.postponed = Some((added, removed));
    }

    /// The rules are back.
    pub(super) fn allow_postponed(&mut self, engine: &engine::Handle, shared: &Shared) {
        if let Some((added, removed)) = self.postponed.take() {
            self.allow_resolved(engine, shared, &added, &removed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_asked_for_by_kind_and_purpose() {
        assert_eq!(relay_kinds(false).len(), 2);
        assert_eq!(relay_kinds(true).into_iter().map(relay_count).sum::<usize>(), 6);
        for purpose in [Purpose::Tunnels, Purpose::Relays, Purpose::Answers, Purpose::Services] {
            assert_eq!(Purpose::of(purpose as u32), Some(purpose));
        }
        assert_eq!(Purpose::of(4), None);
    }
}
