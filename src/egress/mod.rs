//! Outbound connections: what leaves a sandbox, after its policy was asked.
//!
//! The rules of G ([`crate::net`]) deliver whatever the kernel's sets of destinations let through to sockets of
//! ours in G. [`Outbound`] takes it from there: it asks the policy, which is the authority, about the
//! destination at this moment, and sends on what is allowed from a socket in the host's own namespace. Like
//! the tunnels' `Inbound` it moves data when it is woken, has no thread of its own and never waits.
//!
//! | file | |
//! |---|---|
//! | `outbound` | all sandboxes: wake-ups to whom they are for, sandboxes come and go |
//! | `gate` | one sandbox: its policy of the moment, its limits, its counters |
//! | `judge` | the policy together with the host's routing of this moment |
//! | `listener` | the sockets of G |
//! | `sockets` | those that a sandbox came with, until they are listened to |
//! | `dns` | the resolver: questions under policy, answers filtered |
//! | `answered` | which addresses the resolver answered for a policy's domains |
//! | `greeting`, `hello` | connections to domains, and the server's name in a TLS handshake |
//! | `tcp` | TCP flows: accept, verdict, connect, data, end |
//! | `udp`, `replies` | UDP flows, and the sockets of G that their answers come from |
//! | `pace`, `bucket` | a sandbox's budgets |
//! | `request` | what the rest of the runtime is asked for and told |
//! | `removal` | many flows are ended |
//! | `sweep` | a change of policy: flows are asked about again |
//! | `routes` | a change of the host's routing: the same |
//! | `ports` | local ports towards a destination, shared out by sandbox |
//! | `teller`, `denials` | what was denied, gathered and told |
//!
//! # A new kind of flow
//!
//! Another: a file with its objects in a `Slab` of a kind of its own (4 to 10 belong here), which is a field of
//! [`Outbound`]; a line in [`Outbound::wake`]; and its part in `remove_sandbox` and `discard`. Everything that
//! leaves asks `Outbound::verdict_on`.

mod answered;
mod bucket;
mod counters;
mod denials;
mod dns;
mod gate;
mod greeting;
mod hello;
mod judge;
mod listener;
mod outbound;
mod pace;
mod ports;
mod removal;
mod replies;
mod request;
mod routes;
mod sockets;
mod sweep;
mod tcp;
mod teller;
#[cfg(test)]
mod turn_tests;
mod udp;

pub(crate) use counters::Counters;
pub(crate) use denials::{Denied, Why};
pub(crate) use dns::{Resolver, SystemResolvers, Upstreams};
pub(crate) use gate::Settings;
pub(crate) use outbound::{Outbound, is_egress};
pub(crate) use request::Request;
pub(crate) use sockets::Sockets;
pub(crate) use sweep::Applied;

/// What the fuzz targets get at ([`crate::fuzz`]).
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed {
    pub(crate) use crate::egress::dns::fuzzed as dns;
    pub(crate) use crate::egress::hello::{Found, Hello, MOST};
}
