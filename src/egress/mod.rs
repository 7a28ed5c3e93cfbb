//! Egress: what leaves a sandbox, after its policy was asked.
//!
//! The rules of G ([`crate::net`]) deliver what the kernel's sets of destinations let through to sockets of ours in G.
//! [`Egress`] takes it from there: it asks the policy, which is the authority, about the destination at this moment, and
//! sends on what is allowed from a socket in the host's own namespace. Like tunnels it moves data when it is woken, has no
//! thread of its own and never waits.
//!
//! Each protocol is a component with its own sockets and flows. [`cx::Cx`] is what they share, and their only way to
//! verdicts, denials, limits and quotas. They know nothing of each other: what one hands to another is a value that
//! [`Egress`] passes on.
//!
//! | file | |
//! |---|---|
//! | `relay` | `Egress`: dispatches wake-ups, adds and removes sandboxes |
//! | `tcp`, `udp` | flows: check, connect, data, end |
//! | `dns` | the resolver: questions under policy, answers filtered |
//! | `sni` | connections to domains, by the server's name in a TLS handshake |
//! | `cx` | what the protocols share |
//! | `sandbox_state`, `settings`, `counters` | one sandbox: its policy, its limits, its counters |
//! | `policy_check` | the policy together with the host's routing of this moment |
//! | `quota`, `bucket` | how much a sandbox may send and begin |
//! | `limit` | the limits, and how each is reported |
//! | `denials`, `reporter` | what was denied, gathered and reported |
//! | `recheck` | which flows are still to be checked after a change of policy |
//! | `routes` | changes of the host's routing |
//! | `local_ports` | local ports towards a destination, shared out by sandbox |
//! | `sockets` | the sockets that a sandbox starts with |
//! | `request` | requests to the layer above |
//! | `kinds` | the kinds of reactor key that belong here |
//!
//! # A new kind of flow
//!
//! Another component: a folder with its objects in a `Slab` of a kind of its own ([`kinds`]), a field of [`Egress`], a line
//! in [`Egress::wake`], and its part in adding, removing and discarding. It asks [`cx::Cx::check`] about everything that
//! leaves.

mod bucket;
mod counters;
mod cx;
mod denials;
mod dns;
mod kinds;
mod limit;
mod local_ports;
mod policy_check;
mod quota;
mod recheck;
mod relay;
mod reporter;
mod request;
mod routes;
mod sandbox_state;
mod settings;
mod sni;
mod sockets;
mod tcp;
#[cfg(test)]
mod testing;
mod udp;

pub(crate) use counters::Counters;
pub(crate) use denials::{Denied, Why};
pub(crate) use dns::{Resolver, SystemResolvers, Upstreams};
pub(crate) use kinds::is_egress;
pub(crate) use recheck::Applied;
pub(crate) use relay::Egress;
pub(crate) use request::Request;
pub(crate) use settings::Settings;
pub(crate) use sockets::Sockets;
