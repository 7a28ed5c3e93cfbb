//! Evaluates a policy for an address on this host.

use std::net::IpAddr;

use super::lookup::Lookup;
use crate::error::Result;
use crate::policy::{Location, Policy, Verdict};

/// Evaluates a policy for traffic of an IP protocol (6 is TCP, 17 is UDP) to an address, and reports the reason. Needs no
/// sandbox and sends no packets. The host's own and its neighbours' addresses are found by a look-up in its routing (of
/// the calling thread's network namespace).
pub fn explain(policy: &Policy, address: IpAddr, protocol: u8) -> Result<Verdict> {
    policy.check()?;
    let mut lookup = Lookup::open()?;
    let mut failure = None;
    let verdict = policy.verdict_on(address, protocol, |address| match lookup.route_kind(address) {
        Ok(kind) => kind.into(),
        Err(error) => {
            failure = Some(error);
            Location::Host
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
