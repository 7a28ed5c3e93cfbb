//! The sandbox's resolver: questions under policy, answers filtered.
//!
//! It listens at the gateway's address, where the sandbox's `/etc/resolv.conf` points, and asks the servers that the
//! host itself asks, from the host's namespace. What the policy doesn't let be asked is refused at once, and nothing of
//! it leaves the machine.
//!
//! | file | |
//! |---|---|
//! | `relay` | questions come in, answers go out |
//! | `server`, `connection` | the resolver's sockets, and connections to it |
//! | `client` | who asked a question |
//! | `lookup`, `server_rotation` | a question that is open upstream, and which server is asked next |
//! | `upstreams` | the servers of the host, which the control thread watches |
//! | `filter` | what of an answer is passed on to the sandbox |
//! | `cache`, `judged` | answers, remembered: as they came, and for a moment as the policy lets them through |
//! | `pinned` | which addresses were answered for a policy's domains |
//! | `pending_rules` | answers that wait for the rules |
//! | `state` | what one sandbox's resolver knows |
//! | `resolver` | the sockets that it starts with |
//! | `message`, `record`, `name`, `write` | messages, read and written with the crate `domain` |

mod cache;
mod client;
mod connection;
mod filter;
mod judged;
mod lookup;
mod message;
mod name;
mod pending_rules;
mod pinned;
mod record;
mod relay;
mod resolver;
mod server;
mod server_rotation;
mod state;
mod upstreams;
mod write;

pub(super) use relay::Dns;
pub(crate) use resolver::Resolver;
pub(crate) use upstreams::{SystemResolvers, Upstreams};

#[cfg(test)]
mod form_tests;
#[cfg(test)]
mod tests;
