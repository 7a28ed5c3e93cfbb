//! What a policy was told, one thing at a time.

use std::fmt;

use ipnetwork::IpNetwork;

use super::domain::Domain;

/// One entry of a policy. Its text is how it may be written down: `allow 10.0.0.0/8`, `deny 10.1.0.0/16`,
/// `domain *.example.com`, `local 192.0.2.0/24`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry {
    /// The range may be reached.
    Allow(IpNetwork),
    /// The range may not be reached, whatever allows it.
    Deny(IpNetwork),
    /// The domain may be reached by TLS.
    Domain(Domain),
    /// Neighbours in that range may be reached, on the host's own links.
    AllowLocal(IpNetwork),
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(range) => write!(out, "allow {range}"),
            Self::Deny(range) => write!(out, "deny {range}"),
            Self::Domain(domain) => write!(out, "domain {domain}"),
            Self::AllowLocal(range) => write!(out, "local {range}"),
        }
    }
}
