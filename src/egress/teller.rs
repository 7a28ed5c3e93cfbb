//! Tells the host what was denied: by the library's verdict, and by the rules of G before it came to that.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use super::denials::{Denials, Denied};
use super::outbound::Outbound;
use super::request::Request;
use crate::net::nflog::{Refusals, Refused, Told};
use crate::policy::{Protocol, Reason, Verdict};
use crate::reactor::{Key, Lane, Reactor, TimerId, Wake};

/// How many messages of the kernel's are heard before others get a turn.
const MESSAGES: usize = 8;
/// How many are heard when a sandbox ends; what is beyond is in the counter.
const LAST: usize = 1024;

/// One sandbox's denials on their way to the host.
#[derive(Debug)]
pub(super) struct Teller {
    sandbox: u64,
    /// What hears of the rules' refusals, where the kernel tells them.
    refusals: Option<Refusals>,
    denials: Denials,
    timer: Option<TimerId>,
}

impl Outbound {
    /// Denials of a sandbox are told from now on.
    pub(super) fn add_teller(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        refusals: Option<Refusals>,
    ) -> Key {
        let teller = Teller { sandbox, refusals, denials: Denials::default(), timer: None };
        let key = self.tellers.insert(teller);
        reactor.join(key, sandbox);
        if let Some(teller) = self.tellers.get_mut(key)
            && let Some(refusals) = &teller.refusals
            && let Err(error) = reactor.register(refusals.as_fd(), key, Lane::Front)
        {
            teller.refusals = None;
            self.report(sandbox, format!("egress: what the gateway refuses can't be told ({error})"));
        }
        key
    }

    /// What the kernel has told already and what is still counted is told before it ends.
    pub(super) fn remove_teller(&mut self, reactor: &mut Reactor, key: Key) {
        for _ in 0..LAST {
            if !self.hear_refusals(reactor, key) {
                break;
            }
        }
        let Some(teller) = self.tellers.get_mut(key) else { return };
        if let Some(until) = teller.denials.until() {
            let sandbox = teller.sandbox;
            for (denied, count) in teller.denials.due(until) {
                (self.requests)(Request::Denied { key: sandbox, denied, count });
            }
        }
        let Some(teller) = self.tellers.remove(key) else { return };
        if let Some(refusals) = &teller.refusals {
            reactor.deregister(refusals.as_fd());
        }
        if let Some(timer) = teller.timer {
            reactor.cancel(timer);
        }
    }

    pub(super) fn wake_teller(&mut self, reactor: &mut Reactor, key: Key, wake: Wake) {
        if let Wake::Timer(_) = wake {
            return self.timers(reactor, key);
        }
        for _ in 0..MESSAGES {
            if !self.hear_refusals(reactor, key) {
                return;
            }
            if reactor.is_over_time() {
                break;
            }
        }
        reactor.again(key);
    }

    /// Takes one message of the kernel's; false when there is none.
    fn hear_refusals(&mut self, reactor: &mut Reactor, key: Key) -> bool {
        let Some(teller) = self.tellers.get_mut(key) else { return false };
        let (sandbox, Some(refusals)) = (teller.sandbox, &mut teller.refusals) else { return false };
        let mut refused = Vec::new();
        match refusals.read(|packet| refused.push(packet)) {
            Ok(Told::More | Told::Lost) => {}
            Ok(Told::Nothing) => return false,
            Err(error) => {
                reactor.deregister(refusals.as_fd());
                teller.refusals = None;
                self.report(sandbox, format!("egress: what the gateway refuses can't be told ({error})"));
                return false;
            }
        }
        refused.into_iter().for_each(|packet| self.refused(reactor, sandbox, packet));
        true
    }

    /// The rules have refused a packet. Why, the policy knows.
    fn refused(&mut self, reactor: &mut Reactor, sandbox: u64, packet: Refused) {
        let Some(gate) = self.gates.get(&sandbox) else { return };
        let mut verdict = self.judge.verdict(&gate.policy, packet.to, packet.protocol);
        if verdict.is_allowed() {
            verdict = Verdict { reason: Reason::Gateway, entry: None, range: None };
        }
        self.deny(reactor, sandbox, Denied::to(packet.to, packet.port, packet.protocol, &verdict));
    }

    /// The library's verdict has denied a flow.
    pub(super) fn denied(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        protocol: Protocol,
        verdict: &Verdict,
    ) {
        if let Some(gate) = self.gates.get(&sandbox) {
            gate.counters.denied.fetch_add(1, Ordering::Relaxed);
        }
        self.deny(reactor, sandbox, Denied::to(to.ip(), to.port(), protocol.number(), verdict));
    }

    /// What a connection to a domain began with has denied it.
    pub(super) fn denied_by_name(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        to: SocketAddr,
        verdict: &Verdict,
        name: Option<&str>,
    ) {
        if let Some(gate) = self.gates.get(&sandbox) {
            gate.counters.denied.fetch_add(1, Ordering::Relaxed);
        }
        let mut denied = Denied::to(to.ip(), to.port(), Protocol::Tcp.number(), verdict);
        if let Some(name) = name {
            denied.detail = format!("{}: {name}", denied.detail);
        }
        self.deny(reactor, sandbox, denied);
    }

    /// Tells the host of a denial, now or counted with others.
    pub(super) fn deny(&mut self, reactor: &mut Reactor, sandbox: u64, denied: Denied) {
        let Some(gate) = self.gates.get(&sandbox) else { return };
        let key = gate.teller;
        let Some(teller) = self.tellers.get_mut(key) else { return };
        if teller.denials.note(&denied, reactor.now()) {
            (self.requests)(Request::Denied { key: sandbox, denied, count: 1 });
        }
        if teller.timer.is_none() {
            teller.timer = teller.denials.until().map(|until| reactor.schedule(until, key));
        }
    }

    /// The sandbox's timers: counted denials are to be told, or flows go on that waited for a rate.
    fn timers(&mut self, reactor: &mut Reactor, key: Key) {
        let now = reactor.now();
        let Some(teller) = self.tellers.get_mut(key) else { return };
        let sandbox = teller.sandbox;
        if teller.timer.is_some_and(|timer| timer.at() <= now) {
            self.tell_counted(reactor, key);
        }
        self.resume(reactor, sandbox);
    }

    fn tell_counted(&mut self, reactor: &mut Reactor, key: Key) {
        let Some(teller) = self.tellers.get_mut(key) else { return };
        for (denied, count) in teller.denials.due(reactor.now()) {
            (self.requests)(Request::Denied { key: teller.sandbox, denied, count });
        }
        teller.timer = teller.denials.until().map(|until| reactor.schedule(until, key));
    }
}
