//! `sbx_policy`.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::call::{call_new, call_on, call_or};
use super::codes::{
    SBX_DNS_ADDRESSES, SBX_DNS_AUTO, SBX_DNS_OFF, SBX_DNS_ON, SBX_POLICY_ALLOWLIST, SBX_POLICY_BLOCKED,
    SBX_POLICY_OPEN,
};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::input;
use super::structs::{self, c_text};
use super::verdict::sbx_verdict;
use crate::error::{Error, Result};
use crate::net;
use crate::policy::{Dns, Policy};
use crate::sticky::Sticky;

/// What a sandbox may reach. A policy names its mode, so that no empty list can mean "everything".
///
/// The first bad entry is kept: sbx_config_set_policy, sbx_config_check and sbx_create return it. So a program may
/// add everything and check once.
#[derive(Debug)]
pub struct sbx_policy {
    _private: [u8; 0],
}

/// The policy, and the texts of its entries that were asked for: they live as long as the object.
#[derive(Debug)]
pub(super) struct PolicyObject {
    policy: Mutex<Policy>,
    texts: Mutex<HashMap<usize, CString>>,
}

impl Object for PolicyObject {
    type Opaque = sbx_policy;
    const KIND: &'static str = "policy";
}

impl PolicyObject {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy: Mutex::new(policy), texts: Mutex::default() }
    }

    fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the policy, its first bad entry included.
    pub(super) fn copy(&self) -> Result<Policy> {
        Ok(self.policy().clone())
    }

    /// What `look` finds in the policy.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Policy) -> T) -> T {
        look(&self.policy())
    }

    /// The text of an entry. Entries are never changed, so neither is a text that was given out.
    pub(super) fn text(&self, index: usize) -> Option<*const c_char> {
        let text = self.look(|policy| policy.entries().get(index).map(ToString::to_string))?;
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        // A CString's bytes stay where they are when the map moves it.
        Some(texts.entry(index).or_insert_with(|| c_text(&text)).as_ptr())
    }
}

/// Runs a setter. A value that can't be read is kept as the policy's first bad entry, too.
fn set<T>(
    policy: *mut sbx_policy,
    read: impl FnOnce() -> Result<T>,
    add: impl FnOnce(&mut Policy, T) -> Result<()>,
) -> c_int {
    let body = |object: &PolicyObject| object.policy().sticky(|policy| add(policy, read()?)).map(|_| 0);
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(policy, ptr::null_mut::<sbx_error>(), body) }
}

/// Makes a policy without entries. Its mode is the verdict for destinations that match no entry:
///
/// SBX_POLICY_OPEN allows every public address. It is what a config without a policy has. Loopback, private,
/// link-local, shared (CGNAT), multicast and reserved addresses stay denied, and so do metadata services, public
/// ranges of a provider's internal services (IBM's 161.26.0.0/16 and 166.8.0.0/14), the host's own addresses, and
/// the neighbours on its links, also at public addresses (sbx_policy_allow_local_cidr opens those). The host's
/// routing table says at that moment which addresses are its own and its neighbours': a neighbour is reached
/// without a gateway by the most specific route, unless that is a default route (0/0, or the halves 0/1 and 128/1)
/// or leads over a point-to-point link. A cloud's public address for the host that isn't configured on it can't be
/// known: deny it with sbx_policy_deny_cidr.
///
/// SBX_POLICY_ALLOWLIST denies everything that no entry allows. A range opens private or otherwise special
/// addresses only if it lies inside the special range (10.1.0.0/16 does, 0.0.0.0/0 doesn't), neighbours at public
/// addresses only if it lies inside their link's range, and a metadata service or an address of the host only if it
/// is exactly that address (/32, /128).
///
/// SBX_POLICY_BLOCKED is no network at all: nothing leaves, and there are no tunnels. A config with it and a port
/// or an inbound allowlist is refused.
///
/// Free it with sbx_policy_free. Any thread, never blocks.
///
/// Returns 0 and sets *policy; SBX_EINVALID (the mode), SBX_ELIMIT (no handle is left).
///
/// # Safety
/// `policy` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_new(
    mode: i32,
    policy: *mut *mut sbx_policy,
    error: *mut sbx_error,
) -> c_int {
    let make = || match mode {
        SBX_POLICY_OPEN => Ok(PolicyObject::new(Policy::open())),
        SBX_POLICY_ALLOWLIST => Ok(PolicyObject::new(Policy::allowlist())),
        SBX_POLICY_BLOCKED => Ok(PolicyObject::new(Policy::blocked())),
        _ => Err(Error::invalid(format!(
            "policy mode {mode}: must be SBX_POLICY_OPEN, SBX_POLICY_ALLOWLIST or SBX_POLICY_BLOCKED"
        ))),
    };
    // SAFETY: as the caller promises.
    unsafe { call_new("policy", policy, error, make) }
}

/// Allows a range such as "192.0.2.0/24" or "2001:db8::/32", for any protocol. Only an allowlist takes it.
///
/// The range must be written in plain form: no bits behind the prefix, no missing prefix, no leading zeros, no
/// IPv4-mapped address, no zone, no name. One thread at a time sets; never blocks.
///
/// Returns 0; SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `cidr` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_allow_cidr(policy: *mut sbx_policy, cidr: *const c_char) -> c_int {
    // SAFETY: as the caller promises.
    let cidr = || unsafe { input::text("CIDR range", cidr) };
    set(policy, cidr, |policy, range| policy.allow_cidr(range).map(drop))
}

/// Allows neighbours on the host's own links at public addresses in this range, which an open policy denies
/// otherwise (SBX_REASON_ON_LINK). Only an open policy takes it.
///
/// Private and special ranges, metadata services and the host's own addresses stay denied. In an allowlist,
/// sbx_policy_allow_cidr with a range inside the link's does the same. Forms and threads as for
/// sbx_policy_allow_cidr.
///
/// Returns 0; SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `cidr` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_allow_local_cidr(policy: *mut sbx_policy, cidr: *const c_char) -> c_int {
    // SAFETY: as the caller promises.
    let cidr = || unsafe { input::text("CIDR range", cidr) };
    set(policy, cidr, |policy, range| policy.allow_local_cidr(range).map(drop))
}

/// Denies a range. It wins over everything that allows. Open policies and allowlists take it.
///
/// Forms and threads as for sbx_policy_allow_cidr.
///
/// Returns 0; SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `cidr` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_deny_cidr(policy: *mut sbx_policy, cidr: *const c_char) -> c_int {
    // SAFETY: as the caller promises.
    let cidr = || unsafe { input::text("CIDR range", cidr) };
    set(policy, cidr, |policy, range| policy.deny_cidr(range).map(drop))
}

/// Allows a domain: a host name ("example.com"), or "*." and a host name ("*.example.com"), which matches every
/// name below that one, at any depth, but not the name itself. Only an allowlist takes domains.
///
/// A sandbox reaches a domain by TLS only, on port 443 and those of sbx_policy_add_domain_port: at an address that
/// the sandbox's own resolver answered for that name a short while ago, and with that name as the handshake's
/// server name (SNI). Domains and ranges add up: what either allows is allowed. QUIC (UDP) shows no server name, so
/// it needs a range; clients fall back to TLS. Denied ranges and protected addresses stay denied.
///
/// Names must be written in plain form: letters, digits and hyphens, other scripts as A-labels (xn--...), no
/// trailing dot, no address, no scheme, no port. Case doesn't matter. One thread at a time sets; never blocks.
///
/// Returns 0; SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `pattern` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_allow_domain(policy: *mut sbx_policy, pattern: *const c_char) -> c_int {
    // SAFETY: as the caller promises.
    let pattern = || unsafe { input::text("domain", pattern) };
    set(policy, pattern, |policy, domain| policy.allow_domain(domain).map(drop))
}

/// Allows the policy's domains, by TLS, on this port too, from 1 to 65535, beside 443. Only an allowlist takes it.
/// One thread at a time sets; never blocks.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_add_domain_port(policy: *mut sbx_policy, port: u32) -> c_int {
    set(policy, || input::port(port), |policy, port| policy.add_domain_port(port).map(drop))
}

/// Sets which names the sandbox's resolver answers: SBX_DNS_AUTO, SBX_DNS_ON, SBX_DNS_OFF or SBX_DNS_ADDRESSES.
///
/// A name that isn't answered gets REFUSED at once (with the extended error 15, "blocked"), and no query for it
/// leaves the machine. With SBX_DNS_ON the sandbox of an allowlist can look up every name but reaches no more than
/// before; the queries themselves can carry data out. An open policy passes every query on to the host's own name
/// servers, also for names of the host's internal zones and of private addresses (PTR); only private addresses are
/// removed from the answers. With SBX_DNS_ADDRESSES nothing but the public addresses of names is revealed: only A,
/// AAAA, HTTPS and SVCB are asked for, and answers contain no alias, server or signature. SBX_DNS_OFF and domains
/// exclude each other, which is an error when the policy is used. One thread at a time sets; never blocks.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_set_dns(policy: *mut sbx_policy, mode: i32) -> c_int {
    set(policy, || dns(mode), |policy, mode| policy.set_dns(mode).map(drop))
}

fn dns(mode: i32) -> Result<Dns> {
    match mode {
        SBX_DNS_AUTO => Ok(Dns::Auto),
        SBX_DNS_ON => Ok(Dns::On),
        SBX_DNS_OFF => Ok(Dns::Off),
        SBX_DNS_ADDRESSES => Ok(Dns::Addresses),
        other => {
            let rule = "must be SBX_DNS_AUTO, SBX_DNS_ON, SBX_DNS_OFF or SBX_DNS_ADDRESSES";
            Err(Error::invalid(format!("DNS mode {other}: {rule}")))
        }
    }
}

/// Evaluates a policy for one address and reports the reason. Needs no sandbox and sends no packets.
///
/// An address that is allowed only as a domain's counts as not listed here: whether it can be reached depends on
/// what the sandbox's resolver answered and on the server that the TLS handshake names.
///
/// `address` is an IPv4 or IPv6 address in plain form, `port` 1 to 65535 (no entry names ports yet: it is only
/// checked), `protocol` the number of an IP protocol (6 is TCP, 17 UDP; nothing else leaves a sandbox). The host's
/// own addresses and its neighbours' are looked up in its routing table. Any thread, never blocks.
///
/// Returns 0 and fills *verdict; SBX_EINVALID (also for a policy with a bad entry, which the message names),
/// SBX_ESIZE, SBX_ESYSTEM (the routing table can't be read).
///
/// # Safety
/// `address` must be a terminated text or NULL, `verdict` must point to a verdict struct, `error` to an error
/// struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_check(
    policy: *const sbx_policy,
    address: *const c_char,
    port: u32,
    protocol: u32,
    verdict: *mut sbx_verdict,
    error: *mut sbx_error,
) -> c_int {
    let check = |policy: &PolicyObject| {
        // SAFETY: as the caller promises.
        let verdict = unsafe { structs::output("verdict", verdict) }?;
        // SAFETY: as the caller promises.
        let text = unsafe { input::text("address", address) }?;
        let address = text.parse().map_err(|_| {
            Error::invalid(format!(
                "address {text:?}: must be an IPv4 or IPv6 address; names are not looked up"
            ))
        })?;
        input::port(port)?;
        let protocol = u8::try_from(protocol)
            .map_err(|_| Error::invalid(format!("protocol {protocol}: an IP protocol is 0 to 255")))?;
        let found = net::explain(&policy.copy()?, address, protocol)?;
        verdict.write(&sbx_verdict::from(&found));
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(policy, error, check) }
}

/// Frees a policy. Configs and sandboxes have copies of their own. Any thread, never blocks.
///
/// # Safety
/// None: a handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_free(policy: *mut sbx_policy) {
    call_or((), || handle::take::<PolicyObject>(policy).map(drop));
}
