//! Ends many flows at once, in slices: of a sandbox that is no more, or that has used up its bytes.

use super::dns::Dns;
use super::outbound::Outbound;
use crate::reactor::{Key, Reactor, Removed};

impl Outbound {
    /// Forgets a sandbox: its listeners are closed now, and its flows reset on both sides within the next turns.
    /// Then `reply` is called.
    pub(crate) fn begin_removal(&mut self, reactor: &mut Reactor, sandbox: u64, reply: Removed) {
        self.close_listeners(reactor, sandbox);
        let is_door = |dns: &Dns| matches!(dns, Dns::Socket(..) | Dns::Listener(..));
        let of_it = self.dns.iter().filter(|(_, dns)| dns.sandbox() == sandbox);
        let (doors, others): (Vec<_>, Vec<_>) = of_it.partition(|(_, dns)| is_door(dns));
        let [doors, others] =
            [doors, others].map(|all| all.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
        doors.into_iter().for_each(|key| self.discard_dns(reactor, key));
        let keys = self.flows_of(sandbox).into_iter().chain(others).collect();
        self.removals.begin(sandbox, keys, Some(reply));
    }

    /// Resets every flow of a sandbox within the next turns.
    pub(super) fn end_flows(&mut self, reactor: &mut Reactor, sandbox: u64) {
        let keys = self.flows_of(sandbox);
        for key in self.removals.begin_now(sandbox, keys) {
            self.discard(reactor, key);
        }
    }

    /// Goes on ending.
    pub(super) fn go_on_removing(&mut self, reactor: &mut Reactor) {
        for key in self.removals.slice() {
            self.discard(reactor, key);
        }
        if let Some((sandbox, Some(reply))) = self.removals.over() {
            self.remove_sandbox(reactor, sandbox);
            reply();
        }
    }

    /// Ends all that is to be ended, at once.
    pub(crate) fn finish_removals(&mut self, reactor: &mut Reactor) {
        while !self.removals.is_empty() {
            self.go_on_removing(reactor);
        }
    }

    fn flows_of(&self, sandbox: u64) -> Vec<Key> {
        let datagrams = self.gates.get(&sandbox).map(|gate| gate.udp.keys()).unwrap_or_default();
        let flows = self.flows.iter().filter(|(_, flow)| flow.sandbox == sandbox).map(|(key, _)| key);
        flows.chain(datagrams).collect()
    }
}
