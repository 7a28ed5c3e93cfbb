//! rtnetlink, nf_tables, and the links between S and G ([`crate::topology`]).
//!
//! Everything is configured from outside, by the library, over sockets that the keeper opened in the two
//! network namespaces and passed: the owner of a user namespace may do that. No `ip` and no `nft` is run.

mod allowed;
mod explain;
pub(crate) mod links;
mod lookup;
mod message;
mod netlink;
pub(crate) mod nflog;
pub(crate) mod nft;
mod notices;
mod route;
pub(crate) mod sysctl;

#[cfg(test)]
mod tests;

pub use explain::explain;
pub(crate) use lookup::{Lookup, RouteKind, host_has_ipv6_route};
pub(crate) use nft::rules::RELAY_PORT;
pub(crate) use notices::Notices;
