//! The entries of a policy, as they were added.

use std::fmt;

use super::Cidr;
use super::domain::Domain;

/// One entry of a policy. Its text has these forms: `allow 10.0.0.0/8`, `deny 10.1.0.0/16`,
/// `domain *.example.com`, `local 192.0.2.0/24`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyEntry {
    /// The range may be reached.
    Allow(Cidr),
    /// The range may not be reached, even if another entry allows it.
    Deny(Cidr),
    /// The domain may be reached by TLS.
    Domain(Domain),
    /// Neighbours in that range may be reached, on the host's own links.
    AllowLocal(Cidr),
}

impl fmt::Display for PolicyEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(range) => write!(out, "allow {range}"),
            Self::Deny(range) => write!(out, "deny {range}"),
            Self::Domain(domain) => write!(out, "domain {domain}"),
            Self::AllowLocal(range) => write!(out, "local {range}"),
        }
    }
}
