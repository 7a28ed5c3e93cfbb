//! Ends many flows at once: of a sandbox that is no more, or that has used up its bytes.
//!
//! A sandbox may have thousands, and each takes some system calls to end: they are ended in slices, with the others'
//! data in between.

use super::dns::Dns;
use super::outbound::Outbound;
use crate::reactor::{Key, Reactor};

/// How many are ended before others get a turn.
const SLICE: usize = 64;

/// What calls back when a sandbox is gone.
type Reply = Box<dyn FnOnce() + Send>;

/// What is being ended.
pub(super) struct Removal {
    sandbox: u64,
    keys: Vec<Key>,
    /// Of a sandbox that is no more: told at the end.
    reply: Option<Reply>,
}

impl Outbound {
    /// Forgets a sandbox: its listeners are closed now, and its flows reset on both sides within the next turns.
    /// Then `reply` is called.
    pub(crate) fn begin_removal(&mut self, reactor: &mut Reactor, sandbox: u64, reply: Reply) {
        self.close_listeners(reactor, sandbox);
        let is_door = |dns: &Dns| matches!(dns, Dns::Socket(..) | Dns::Listener(..));
        let of_it = self.dns.iter().filter(|(_, dns)| dns.sandbox() == sandbox);
        let (doors, others): (Vec<_>, Vec<_>) = of_it.partition(|(_, dns)| is_door(dns));
        let [doors, others] =
            [doors, others].map(|all| all.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
        doors.into_iter().for_each(|key| self.discard_dns(reactor, key));
        let keys = self.flows_of(sandbox).into_iter().chain(others).collect();
        self.removals.push_back(Removal { sandbox, keys, reply: Some(reply) });
    }

    /// Resets every flow of a sandbox within the next turns.
    pub(super) fn end_flows(&mut self, reactor: &mut Reactor, sandbox: u64) {
        let mut keys = self.flows_of(sandbox);
        self.end_some(reactor, &mut keys);
        if !keys.is_empty() {
            self.removals.push_back(Removal { sandbox, keys, reply: None });
        }
    }

    fn end_some(&mut self, reactor: &mut Reactor, keys: &mut Vec<Key>) {
        let rest = keys.len().saturating_sub(SLICE);
        for key in keys.split_off(rest) {
            self.discard(reactor, key);
        }
    }

    /// Goes on ending.
    pub(super) fn go_on_removing(&mut self, reactor: &mut Reactor) {
        let Some(mut removal) = self.removals.pop_front() else { return };
        self.end_some(reactor, &mut removal.keys);
        if !removal.keys.is_empty() {
            // One with many doesn't hold up the next.
            return self.removals.push_back(removal);
        }
        if let Some(reply) = removal.reply {
            self.remove_sandbox(reactor, removal.sandbox);
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
