//! Names in a policy: which may be asked for, which may be reached, and on which ports.

use super::{Entry, Mode, Policy, domain};
use crate::error::{Error, Result};
use crate::sticky::Sticky;

/// The port on which a domain may be reached whatever else is listed.
const HTTPS: u16 = 443;

/// Which names the sandbox's resolver answers. The numbers are part of the C ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Dns {
    /// An open policy: every name. An allowlist: the names of its domains and no other.
    #[default]
    Auto = 0,
    /// Every name.
    On = 1,
    /// No name.
    Off = 2,
    /// The names of [`Dns::Auto`], and of each its addresses only (A, AAAA, HTTPS, SVCB): no other record is asked for,
    /// and no alias is told.
    Addresses = 3,
}

/// Whether a name may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// By an entry for its domain; what is answered may be reached.
    Domain(u32),
    /// It may be known, and that is all.
    Answered,
    /// It may not.
    Refused,
}

impl Policy {
    /// Allows a domain: a host name (`example.com`), or `*.` and a host name (`*.example.com`), which stands
    /// for every name below it at any depth, but not for itself. Only an allowlist takes such an entry.
    ///
    /// A sandbox reaches it by TLS, on port 443 and those of [`add_domain_port`](Self::add_domain_port): at an
    /// address that its own resolver answered for that name a short while ago, with that name as the
    /// handshake's server name (SNI).
    pub fn allow_domain(&mut self, pattern: &str) -> Result<&mut Self> {
        self.sticky(|policy| {
            if policy.mode != Mode::Allowlist {
                return Err(Error::invalid(format!(
                    "domain {pattern:?} can't be allowed: only an allowlist policy takes domains"
                )));
            }
            policy.push(Entry::Domain(domain::parse(pattern)?))
        })
    }

    /// Lets domains be reached by TLS on this port too, beside 443. Only an allowlist takes it.
    pub fn add_domain_port(&mut self, port: u16) -> Result<&mut Self> {
        self.sticky(|policy| {
            if policy.mode != Mode::Allowlist {
                return Err(Error::invalid(format!(
                    "TLS port {port} can't be added: only an allowlist policy reaches domains by TLS"
                )));
            }
            if port == 0 {
                return Err(Error::invalid("TLS port 0: a port is from 1 to 65535"));
            }
            policy.tls_ports.insert(port);
            Ok(())
        })
    }

    /// The ports on which domains are reached beside 443, in rising order.
    pub fn domain_ports(&self) -> impl Iterator<Item = u16> {
        self.tls_ports.iter().copied().filter(|port| *port != HTTPS)
    }

    /// Which names the sandbox's resolver answers.
    pub fn set_dns(&mut self, dns: Dns) -> Result<&mut Self> {
        self.sticky(|policy| {
            if policy.mode == Mode::Blocked && matches!(dns, Dns::On | Dns::Addresses) {
                return Err(Error::invalid("DNS can't be switched on: a blocked policy has no network"));
            }
            policy.dns = dns;
            Ok(())
        })
    }

    /// Which names the sandbox's resolver answers, as it was set.
    pub fn dns(&self) -> Dns {
        self.dns
    }

    /// What no single entry breaks.
    pub(super) fn check_names(&self) -> Result<()> {
        if self.dns == Dns::Off && self.has_domains() {
            return Err(Error::invalid(
                "policy: domains are reached at the addresses that the resolver answers, so that DNS can't be off",
            ));
        }
        Ok(())
    }

    /// Whether an entry is for a domain.
    pub(super) fn has_domains(&self) -> bool {
        !self.domains.is_empty()
    }
}

/// What the relays ask.
impl Policy {
    /// Whether the resolver may ask for a name, given in lower case and without a trailing dot.
    pub(crate) fn asking(&self, name: &str) -> Asking {
        let all = match (self.mode, self.dns) {
            (Mode::Blocked, _) | (_, Dns::Off) => return Asking::Refused,
            (Mode::Open, Dns::Auto | Dns::Addresses) | (_, Dns::On) => Asking::Answered,
            (Mode::Allowlist, Dns::Auto | Dns::Addresses) => Asking::Refused,
        };
        self.domains.find(name).map_or(all, Asking::Domain)
    }

    /// Whether nothing but addresses may be asked for.
    pub(crate) fn tells_addresses_only(&self) -> bool {
        self.dns == Dns::Addresses
    }

    /// The entry by which a name may be reached by TLS.
    pub(crate) fn domain_of(&self, name: &str) -> Option<u32> {
        self.domains.find(name)
    }

    /// Whether domains may be reached on that port.
    pub(crate) fn is_tls_port(&self, port: u16) -> bool {
        self.has_domains() && (port == HTTPS || self.tls_ports.contains(&port))
    }

    /// The ports on which domains may be reached, in order; none if there are no domains.
    pub(crate) fn tls_ports(&self) -> Vec<u16> {
        if !self.has_domains() {
            return Vec::new();
        }
        let mut ports = self.tls_ports.clone();
        ports.insert(HTTPS);
        ports.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_domain() -> Policy {
        let mut policy = Policy::allowlist();
        policy.allow_cidr("192.0.2.0/24").unwrap();
        policy.allow_domain("*.example.com").unwrap();
        policy
    }

    #[test]
    fn open_answers_all_names_an_allowlist_its_own_a_blocked_policy_none() {
        assert_eq!(Policy::open().asking("any.name"), Asking::Answered);
        assert_eq!(Policy::blocked().asking("any.name"), Asking::Refused);
        assert_eq!(Policy::allowlist().asking("any.name"), Asking::Refused);
        let mut policy = with_domain();
        assert_eq!(policy.asking("a.example.com"), Asking::Domain(1), "entries are numbered together");
        assert_eq!(policy.asking("any.name"), Asking::Refused);
        policy.set_dns(Dns::On).unwrap();
        assert_eq!(policy.asking("a.example.com"), Asking::Domain(1));
        assert_eq!(policy.asking("any.name"), Asking::Answered);
        for dns in [Dns::Auto, Dns::Addresses] {
            policy.set_dns(dns).unwrap();
            assert_eq!(policy.dns(), dns);
            assert_eq!(policy.asking("a.example.com"), Asking::Domain(1));
            assert_eq!(policy.asking("any.name"), Asking::Refused);
            let mut open = Policy::open();
            open.set_dns(dns).unwrap();
            assert_eq!(open.asking("any.name"), Asking::Answered);
            assert_eq!(open.tells_addresses_only(), dns == Dns::Addresses);
        }
        let mut quiet = Policy::open();
        quiet.set_dns(Dns::Off).unwrap();
        assert_eq!(quiet.asking("any.name"), Asking::Refused);
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        assert!(Policy::open().allow_domain("example.com").is_err());
        assert!(Policy::blocked().allow_domain("example.com").is_err());
        assert!(Policy::open().add_domain_port(8443).is_err());
        assert!(Policy::allowlist().add_domain_port(0).is_err());
        assert!(Policy::blocked().set_dns(Dns::On).is_err());
        assert!(Policy::blocked().set_dns(Dns::Addresses).is_err());
        assert!(Policy::blocked().set_dns(Dns::Off).is_ok());
        let mut policy = with_domain();
        policy.set_dns(Dns::Off).unwrap();
        assert!(policy.check().unwrap_err().message().contains("DNS can't be off"));
        policy.set_dns(Dns::Auto).unwrap();
        policy.check().unwrap();
    }

    #[test]
    fn a_bad_domain_is_kept_like_any_bad_entry() {
        let mut policy = Policy::allowlist();
        policy.allow_domain("https://example.com").unwrap_err();
        policy.allow_domain("example.com").unwrap();
        assert!(policy.check().unwrap_err().message().contains("https://example.com"));
    }

    #[test]
    fn tls_ports_are_443_and_those_listed() {
        assert!(Policy::allowlist().tls_ports().is_empty());
        let mut policy = with_domain();
        assert_eq!(policy.tls_ports(), [443]);
        policy.add_domain_port(8443).unwrap().add_domain_port(443).unwrap().add_domain_port(8443).unwrap();
        assert_eq!(policy.domain_ports().collect::<Vec<_>>(), [8443]);
        assert_eq!(policy.tls_ports(), [443, 8443]);
        assert!(policy.is_tls_port(443) && policy.is_tls_port(8443) && !policy.is_tls_port(80));
        assert!(!Policy::allowlist().is_tls_port(443));
        assert_eq!(policy.domain_of("a.example.com"), Some(1));
        assert_eq!(policy.domain_of("example.com"), None);
    }
}
