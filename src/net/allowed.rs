//! From a policy to the kernel's sets of destinations.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::nft::AllowedSets;
use crate::policy::Policy;

impl AllowedSets {
    /// What a policy's entries allow. The library's verdict excludes the rest: the host's own and its neighbours'
    /// addresses at that moment.
    pub(crate) fn by(policy: &Policy) -> Self {
        let (v4, v6) = policy.reachable();
        // Whatever doesn't fit 32 bits is no IPv4 address.
        let v4 = v4.iter().filter_map(|(first, last)| {
            let [first, last] =
                [u32::try_from(first).ok()?, u32::try_from(last).ok()?].map(Ipv4Addr::from_bits);
            Some(first..=last)
        });
        let v6 = v6.iter().map(|(first, last)| Ipv6Addr::from_bits(first)..=Ipv6Addr::from_bits(last));
        Self { v4: v4.collect(), v6: v6.collect(), tls: policy.tls_ports() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowlist_is_its_entries_without_what_they_dont_open() {
        let mut policy = Policy::allowlist();
        policy.allow_cidr("8.8.8.0/24").unwrap().allow_cidr("2001:4860::/32").unwrap();
        policy.deny_cidr("8.8.8.0/25").unwrap();
        let allowed = AllowedSets::by(&policy);
        assert_eq!(allowed.v4, [Ipv4Addr::new(8, 8, 8, 128)..=Ipv4Addr::new(8, 8, 8, 255)]);
        let [v6] = &allowed.v6[..] else { panic!("{:?}", allowed.v6) };
        assert_eq!(v6.start().to_string(), "2001:4860::");
        assert_eq!(AllowedSets::by(&Policy::allowlist()), AllowedSets::default());
        assert_eq!(AllowedSets::by(&Policy::blocked()), AllowedSets::default());
    }

    #[test]
    fn open_is_everything_public_up_to_the_last_address() {
        let allowed = AllowedSets::by(&Policy::open());
        let v4 =
            |text: &str| allowed.v4.iter().any(|range| range.contains(&text.parse::<Ipv4Addr>().unwrap()));
        for (address, open) in [
            ("1.1.1.1", true),
            ("9.255.255.255", true),
            ("10.0.0.0", false),
            ("11.0.0.0", true),
            ("223.255.255.255", true),
            ("224.0.0.0", false),
            ("255.255.255.255", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(v4(address), open, "{address}");
        }
        assert!(
            allowed.v6.iter().all(|range| !range.contains(&"fd00:ec2::254".parse::<Ipv6Addr>().unwrap()))
        );
        assert!(
            allowed
                .v6
                .iter()
                .any(|range| range.contains(&"2606:4700:4700::1111".parse::<Ipv6Addr>().unwrap()))
        );
    }
}
