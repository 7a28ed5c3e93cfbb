//! Evaluates a policy for a destination, with the host's routing of this moment.

use std::net::IpAddr;

use crate::error::Result;
use crate::net::{Lookup, RouteKind};
use crate::policy::{Location, Policy, Verdict};

/// Evaluates policies. Its netlink socket is of the namespace that the engine's thread is in: the host's.
#[derive(Debug, Default)]
pub(super) struct PolicyCheck {
    lookup: Option<Lookup>,
}

impl PolicyCheck {
    /// Evaluates a policy for traffic of an IP protocol to an address. A route look-up takes some 10 µs; one
    /// that fails counts as "the host's own", and so denies.
    pub(super) fn verdict(&mut self, policy: &Policy, address: IpAddr, protocol: impl Into<u8>) -> Verdict {
        policy.verdict_on(address, protocol.into(), |address| match self.route_kind(address) {
            Ok(kind) => kind.into(),
            Err(error) => {
                log::error!("{address} is denied: {error}");
                // The next verdict tries it with a new socket.
                self.lookup = None;
                Location::Host
            }
        })
    }

    fn route_kind(&mut self, address: IpAddr) -> Result<RouteKind> {
        if self.lookup.is_none() {
            self.lookup = Some(Lookup::open()?);
        }
        match &mut self.lookup {
            Some(lookup) => lookup.route_kind(address),
            None => Ok(RouteKind::Local),
        }
    }
}
