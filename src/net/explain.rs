//! What a policy says of an address on this host, at this moment.

use std::net::IpAddr;

use super::lookup::Lookup;
use crate::error::Result;
use crate::policy::{Place, Policy, Verdict};

/// What a policy says of traffic of that IP protocol (6 is TCP, 17 UDP) to an address, and why: without
/// any sandbox, and without sending anything. The host's own addresses and its neighbours' are known by a
/// look-up in its routing (of the network namespace that the calling thread is in).
pub fn explain(policy: &Policy, address: IpAddr, protocol: u8) -> Result<Verdict> {
    policy.check()?;
    let mut lookup = Lookup::open()?;
    let mut failure = None;
    let verdict = policy.verdict_on(address, protocol, |address| match lookup.route_kind(address) {
        Ok(kind) => kind.into(),
        Err(error) => {
            failure = Some(error);
            Place::Host
        }
    });
    failure.map_or(Ok(verdict), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Reason;

    #[test]
    fn the_hosts_own_addresses_are_seen() {
        let mut policy = Policy::allowlist();
        policy.allow_cidr("127.0.0.0/8").unwrap().allow_cidr("127.1.2.3/32").unwrap();
        let reason =
            |address: &str, protocol| explain(&policy, address.parse().unwrap(), protocol).unwrap().reason;
        assert_eq!(reason("127.0.0.1", 6), Reason::Host);
        assert_eq!(reason("127.1.2.3", 17), Reason::Listed);
        assert_eq!(reason("127.1.2.3", 1), Reason::Protocol);
        assert_eq!(reason("8.8.8.8", 6), Reason::NotListed);
    }

    #[test]
    fn a_bad_entry_is_told_first() {
        let mut policy = Policy::allowlist();
        policy.allow_cidr("10.0.0.5/8").unwrap_err();
        assert!(explain(&policy, "8.8.8.8".parse().unwrap(), 6).is_err());
    }
}
