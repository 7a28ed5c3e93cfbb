//! Policies: what a sandbox may reach.
//!
//! A policy's constructor names its mode, so that an empty list can't be mistaken for "everything".

pub(crate) mod cidr;
mod domain;
mod entry;
mod intervals;
mod names;
mod prefix_table;
mod protocol;
pub(crate) mod special;
mod verdict;

use std::collections::BTreeSet;

pub use cidr::Cidr;
pub use domain::Domain;
pub use entry::PolicyEntry;
pub(crate) use names::Asking;
pub use names::Dns;
pub(crate) use protocol::Protocol;
pub(crate) use verdict::Location;
pub use verdict::{Reason, Verdict};

use crate::error::{Code, Error, Result};
use crate::first_error::FirstError;
use domain::Domains;
use prefix_table::PrefixTable;

/// The most entries of one policy.
const MAX_ENTRIES: usize = 1 << 17;

/// A policy's default verdict, for destinations that match no entry. The numbers are part of the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum PolicyMode {
    /// Any public address may be reached, except the denied ranges.
    Open = 1,
    /// Only the allowed ranges and domains may be reached.
    Allowlist = 2,
    /// There is no network at all: nothing leaves, nothing comes in.
    Blocked = 3,
}

/// What a sandbox may reach: a mode, ranges that are allowed or denied, and domains that are allowed.
///
/// The first bad entry is kept and returned by [`check`](Self::check), by
/// [`Config::set_policy`](crate::Config::set_policy) and thereby when a sandbox is created, so entries
/// may be added without looking at each result.
///
/// ```
/// use sbx::{Policy, Reason};
///
/// let mut policy = Policy::allowlist();
/// policy.allow_cidr("1.1.1.0/24")?.deny_cidr("1.1.1.1/32")?.allow_domain("*.example.com")?;
///
/// let entries: Vec<String> = policy.entries().iter().map(ToString::to_string).collect();
/// assert_eq!(entries, ["allow 1.1.1.0/24", "deny 1.1.1.1/32", "domain *.example.com"]);
///
/// // What the policy says of traffic by TCP from this host, without a sandbox:
/// let verdict = sbx::explain(&policy, "1.1.1.1".parse().unwrap(), 6)?;
/// assert_eq!((verdict.reason, verdict.entry), (Reason::Denied, Some(1)));
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    mode: PolicyMode,
    allowed: PrefixTable,
    denied: PrefixTable,
    /// Ranges of neighbours on the host's own links that an open policy allows.
    local: PrefixTable,
    /// In the order of their addition; the index is the entry's number.
    entries: Vec<PolicyEntry>,
    domains: Domains,
    /// The TLS ports of domains, beside 443.
    tls_ports: BTreeSet<u16>,
    dns: Dns,
    /// The first refused entry.
    bad: Option<Error>,
}

impl Policy {
    fn new(mode: PolicyMode) -> Self {
        Self {
            mode,
            allowed: PrefixTable::default(),
            denied: PrefixTable::default(),
            local: PrefixTable::default(),
            domains: Domains::default(),
            tls_ports: BTreeSet::new(),
            dns: Dns::Auto,
            entries: Vec::new(),
            bad: None,
        }
    }

    /// Allows any public address, except denied ranges and neighbours on the host's own links.
    pub fn open() -> Self {
        Self::new(PolicyMode::Open)
    }

    /// Allows only what its entries name; without entries, nothing.
    pub fn allowlist() -> Self {
        Self::new(PolicyMode::Allowlist)
    }

    /// Gives the sandbox no network at all, and no tunnels.
    pub fn blocked() -> Self {
        Self::new(PolicyMode::Blocked)
    }

    /// Allows a range, for any protocol. Only an allowlist takes such an entry.
    pub fn allow_cidr(&mut self, range: &str) -> Result<&mut Self> {
        self.latch(|policy| {
            if policy.mode != PolicyMode::Allowlist {
                return Err(Error::invalid(format!(
                    "CIDR range {range:?}: must not be allowed here; only an allowlist policy takes allowed ranges"
                )));
            }
            let range = range.parse()?;
            policy.push(PolicyEntry::Allow(range))
        })
    }

    /// Allows neighbours on the host's own links whose addresses are public and lie in this range. Only an open policy
    /// takes such an entry; it denies them otherwise. Private and special ranges and the host's own addresses stay denied.
    /// In an allowlist, use [`allow_cidr`](Self::allow_cidr) with a range inside the link's.
    pub fn allow_local_cidr(&mut self, range: &str) -> Result<&mut Self> {
        self.latch(|policy| {
            if policy.mode != PolicyMode::Open {
                return Err(Error::invalid(format!(
                    "CIDR range {range:?}: must not be allowed for neighbours here; only an open policy takes such ranges"
                )));
            }
            let range = range.parse()?;
            policy.push(PolicyEntry::AllowLocal(range))
        })
    }

    /// Denies a range. This overrides every entry that allows.
    pub fn deny_cidr(&mut self, range: &str) -> Result<&mut Self> {
        self.latch(|policy| {
            if policy.mode == PolicyMode::Blocked {
                return Err(Error::invalid(format!(
                    "CIDR range {range:?}: must not be denied here; a blocked policy reaches nothing and takes no ranges"
                )));
            }
            let range = range.parse()?;
            policy.push(PolicyEntry::Deny(range))
        })
    }

    /// Returns the error of the first bad entry.
    pub fn check(&self) -> Result<()> {
        match &self.bad {
            None => self.check_names(),
            Some(error) => Err(error.clone()),
        }
    }

    /// The default verdict, for destinations that match no entry.
    pub fn mode(&self) -> PolicyMode {
        self.mode
    }

    /// The entries, in the order of their addition. A [`Verdict`] names an entry by its index.
    pub fn entries(&self) -> &[PolicyEntry] {
        &self.entries
    }

    fn push(&mut self, entry: PolicyEntry) -> Result<()> {
        let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Error::new(Code::Limit, format!("a policy takes at most {MAX_ENTRIES} entries")));
        }
        match &entry {
            PolicyEntry::Allow(range) => self.allowed.add(range.network(), number),
            PolicyEntry::Deny(range) => self.denied.add(range.network(), number),
            PolicyEntry::AllowLocal(range) => self.local.add(range.network(), number),
            PolicyEntry::Domain(domain) => self.domains.add(domain.clone(), number),
        }
        self.entries.push(entry);
        Ok(())
    }
}

impl FirstError for Policy {
    fn keep_error(&mut self, error: &Error) {
        self.bad.get_or_insert_with(|| error.clone());
    }
}

#[cfg(test)]
mod model_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_entry_is_kept() {
        let mut policy = Policy::allowlist();
        policy.allow_cidr("192.0.2.0/24").unwrap();
        assert!(policy.check().is_ok());
        policy.allow_cidr("first").unwrap_err();
        policy.allow_cidr("second").unwrap_err();
        policy.allow_cidr("198.51.100.0/24").unwrap();
        let error = policy.check().unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
        assert!(error.message().contains("first"), "{error}");
        assert_eq!(policy.allowed.len(), 2);
    }

    #[test]
    fn entries_are_read_back_as_they_were_added() {
        let mut policy = Policy::allowlist();
        policy.allow_cidr("192.0.2.0/24").unwrap().deny_cidr("2001:db8::/32").unwrap();
        policy.allow_cidr("192.0.2.0/24").unwrap().allow_domain("*.Example.com").unwrap();
        policy.allow_cidr("bad").unwrap_err();
        let texts: Vec<String> = policy.entries().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["allow 192.0.2.0/24", "deny 2001:db8::/32", "allow 192.0.2.0/24", "domain *.example.com"]
        );
        assert_eq!(policy.mode(), PolicyMode::Allowlist);
        let mut open = Policy::open();
        open.allow_local_cidr("2001:db8::/64").unwrap().deny_cidr("192.0.2.0/24").unwrap();
        let texts: Vec<String> = open.entries().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["local 2001:db8::/64", "deny 192.0.2.0/24"]);
    }

    #[test]
    fn entries_without_a_meaning_are_refused() {
        assert!(Policy::open().allow_cidr("192.0.2.0/24").is_err());
        assert!(Policy::blocked().allow_cidr("192.0.2.0/24").is_err());
        assert!(Policy::allowlist().allow_local_cidr("192.0.2.0/24").is_err());
        assert!(Policy::blocked().allow_local_cidr("192.0.2.0/24").is_err());
        assert!(Policy::blocked().deny_cidr("192.0.2.0/24").is_err());
        let mut open = Policy::open();
        open.deny_cidr("192.0.2.0/24").unwrap();
        assert_eq!(open.denied.len(), 1);
    }
}
