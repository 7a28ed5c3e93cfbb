//! After a change of policy: every flow is asked about again, and what is denied now is reset on both sides.
//!
//! A sandbox may have thousands of flows, and each costs a look at the host's routing: they are asked in slices, with
//! the others' data in between. A flow that wakes before its turn is asked first of all, so nothing moves by the
//! old policy any more.

use std::net::SocketAddr;
use std::sync::Arc;

use super::outbound::{Outbound, TCP, UDP};
use crate::policy::{Policy, Protocol};
use crate::reactor::{Key, Reactor, Wake};

/// How many flows are asked before others get a turn.
const SLICE: usize = 64;

/// The flows of a sandbox that are still to be asked.
pub(super) struct Sweep {
    pub(super) sandbox: u64,
    generation: u64,
    flows: Vec<Key>,
    reply: Applied,
}

/// Called with the policy's generation when no flow is left that it denies, and dropped uncalled if the sandbox is
/// removed before. Called on the engine's thread: it must not block.
pub(crate) type Applied = Box<dyn FnOnce(u64) + Send>;

/// By what a flow was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The number of the policy.
    pub(super) policy: u64,
    /// The number of the host's routing.
    pub(super) routes: u64,
}

impl Outbound {
    /// Another policy is in force from now on. `reply` is called when no flow is left that it denies.
    pub(crate) fn set_policy(
        &mut self,
        reactor: &mut Reactor,
        sandbox: u64,
        (policy, generation): (Arc<Policy>, u64),
        reply: Applied,
    ) {
        // Without the sandbox `reply` is dropped uncalled.
        let Some(gate) = self.gates.get_mut(&sandbox) else { return };
        gate.policy = policy;
        gate.generation = generation;
        let (listeners, mut flows) = (gate.listeners.clone(), gate.udp.keys());
        flows.extend(self.flows.iter().filter(|(_, flow)| flow.sandbox == sandbox).map(|(key, _)| key));
        self.names_changed(sandbox);
        self.sweeps.push_back(Sweep { sandbox, generation, flows, reply });
        for (key, to) in self.greetings(sandbox) {
            if !self.may_be_domain(reactor, sandbox, to) {
                self.cut_greeting(reactor, key);
            }
        }
        // Connections that wait to be accepted are asked about by that.
        for key in listeners {
            self.wake_listener(reactor, key, Wake::Again(key));
        }
        self.sweep(reactor);
    }

    /// Goes on asking.
    pub(super) fn sweep(&mut self, reactor: &mut Reactor) {
        let Some(mut sweep) = self.sweeps.pop_front() else {
            let rest = self.routes.waiting.len().saturating_sub(SLICE);
            for key in self.routes.waiting.split_off(rest) {
                self.is_still_allowed(reactor, key);
            }
            return;
        };
        let rest = sweep.flows.len().saturating_sub(SLICE);
        for key in sweep.flows.split_off(rest) {
            self.is_still_allowed(reactor, key);
        }
        if sweep.flows.is_empty() {
            (sweep.reply)(sweep.generation);
        } else {
            // One with many doesn't hold up the next.
            self.sweeps.push_back(sweep);
        }
    }

    /// Whether a flow may go on: if the policy or the host's routing was changed since it was asked about, it is asked
    /// about now, and reset if it is denied.
    pub(super) fn is_still_allowed(&mut self, reactor: &mut Reactor, key: Key) -> bool {
        let Some((sandbox, _, _, asked)) = self.judged(key) else { return false };
        let Some(generation) = self.gates.get(&sandbox).map(|gate| gate.generation) else { return false };
        (asked.policy == generation && self.routes.stands(asked.routes)) || self.judge_again(reactor, key)
    }

    /// The same, asked about in any case.
    pub(super) fn judge_again(&mut self, reactor: &mut Reactor, key: Key) -> bool {
        let Some((sandbox, to, protocol, _)) = self.judged(key) else { return false };
        let Some(generation) = self.gates.get(&sandbox).map(|gate| gate.generation) else { return false };
        if key.kind() == TCP && self.flows.get_mut(key).is_some_and(|flow| flow.to_service) {
            return true;
        }
        let asked = Asked { policy: generation, routes: self.routes.generation() };
        let domain = match key.kind() {
            TCP => self.flows.get_mut(key).and_then(|flow| flow.domain.clone()),
            _ => None,
        };
        let allowed = match domain {
            None => {
                self.verdict_on(reactor, sandbox, to, protocol).is_some_and(|verdict| verdict.is_allowed())
            }
            Some(name) => {
                let verdict = self.standing(sandbox, to, Some(&name));
                if !verdict.is_allowed() {
                    self.denied_by_name(reactor, sandbox, to, &verdict, Some(&name));
                }
                verdict.is_allowed()
            }
        };
        match (key.kind(), allowed) {
            (TCP, true) => {
                if let Some(flow) = self.flows.get_mut(key) {
                    flow.asked = asked;
                }
            }
            (_, true) => self.udp_was_asked(key, asked),
            (TCP, false) => self.cut(reactor, key),
            (_, false) => self.end_udp(reactor, key),
        }
        allowed
    }

    /// A flow's sandbox, destination and protocol, and by what it was asked about last.
    fn judged(&mut self, key: Key) -> Option<(u64, SocketAddr, Protocol, Asked)> {
        match key.kind() {
            TCP => self.flows.get_mut(key).map(|flow| (flow.sandbox, flow.to, Protocol::Tcp, flow.asked)),
            UDP => self.udp_flow(key).map(|flow| (flow.sandbox, flow.to, Protocol::Udp, flow.asked)),
            _ => None,
        }
    }
}
