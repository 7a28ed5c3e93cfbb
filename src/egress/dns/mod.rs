//! The sandbox's resolver: questions under policy, answers filtered.
//!
//! It listens at the gateway's address, where the sandbox's `/etc/resolv.conf` points, and asks the servers that the
//! host itself asks, from the host's namespace. What the policy doesn't want asked is refused at once, and nothing of
//! it leaves the machine.
//!
//! | file | |
//! |---|---|
//! | `relay` | questions come in, answers go out |
//! | `client` | questions by TCP |
//! | `lookup`, `course` | a question that is open upstream, and which server is asked next |
//! | `upstreams` | the servers of the host, which the control thread watches |
//! | `filter` | what of an answer the sandbox is told |
//! | `cache`, `judged` | answers, remembered: as they came, and for a moment as the policy lets them be told |
//! | `batches` | answers that wait for the rules |
//! | `names` | what one sandbox's resolver knows |
//! | `message`, `record`, `name`, `write` | messages, read and written with the crate `domain` |

mod batches;
mod cache;
mod client;
mod course;
mod filter;
mod judged;
mod lookup;
mod message;
mod name;
mod names;
mod record;
mod relay;
mod resolver;
mod upstreams;
mod write;

pub(super) use names::Names;
pub(super) use relay::Dns;
pub(crate) use resolver::Resolver;
pub(crate) use upstreams::{SystemResolvers, Upstreams};

#[cfg(test)]
mod form_tests;
#[cfg(test)]
mod tests;

/// What the fuzz targets get at ([`crate::fuzz`]).
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed {
    pub(crate) use crate::egress::dns::message::{Asked, Query, Response};
    pub(crate) use crate::egress::dns::write::Answer;
}
