//! `sbx_policy`: what is in one.

use std::ffi::{c_char, c_int};
use std::ptr;

use super::call::{call_on, call_or, call_with};
use super::error::sbx_error;
use super::policy::{PolicyObject, sbx_policy};
use super::structs::{self, Layout};
use crate::error::{Code, Error};
use crate::policy::Policy;

/// What a policy says apart from its entries. The caller owns it; zero it or use SBX_POLICY_SUMMARY_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_policy_summary {
    /// sizeof(sbx_policy_summary), or 0.
    pub size: u32,
    /// SBX_POLICY_...: the verdict for destinations that match no entry.
    pub mode: i32,
    /// SBX_DNS_...: which names the sandbox's resolver answers, as sbx_policy_set_dns was given it last.
    pub dns: i32,
    /// How many entries it has: sbx_policy_entry. A refused one doesn't count.
    pub entry_count: u32,
    /// On how many ports beside 443 its domains are reached: sbx_policy_domain_port.
    pub domain_port_count: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with its size, 24 bytes without padding, integers only.
unsafe impl Layout for sbx_policy_summary {
    const NAME: &'static str = "sbx_policy_summary";
    const FIRST_SIZE: usize = 24;
}

impl From<&Policy> for sbx_policy_summary {
    fn from(policy: &Policy) -> Self {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        Self {
            size: 0,
            mode: policy.mode() as i32,
            dns: policy.dns() as i32,
            entry_count: count(policy.entries().len()),
            domain_port_count: count(policy.domain_ports().count()),
            reserved: 0,
        }
    }
}

/// Reads what a policy says apart from its entries.
///
/// Any thread, never blocks.
///
/// Returns 0 and fills *summary; SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `summary` must point to a summary struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_info(
    policy: *const sbx_policy,
    summary: *mut sbx_policy_summary,
) -> c_int {
    let read = |object: &PolicyObject| {
        // SAFETY: as the caller promises.
        let summary = unsafe { structs::output("summary", summary) }?;
        summary.write(&object.look(|policy| sbx_policy_summary::from(policy)));
        Ok(0)
    };
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(policy, ptr::null_mut::<sbx_error>(), read) }
}

/// A port on which the policy's domains are reached beside 443. `index` is from 0; ports are in ascending order.
///
/// Any thread, never blocks.
///
/// Returns the port; SBX_ENOTFOUND (the index).
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_domain_port(policy: *const sbx_policy, index: usize) -> c_int {
    let read = |object: &PolicyObject| {
        let port = object.look(|policy| policy.domain_ports().nth(index));
        port.map(c_int::from)
            .ok_or_else(|| Error::new(Code::NotFound, format!("the policy has no domain port {index}")))
    };
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(policy, ptr::null_mut::<sbx_error>(), read) }
}

/// An entry of a policy as text: "allow 192.0.2.0/24", "deny 2001:db8::/32", "domain *.example.com",
/// "local 192.0.2.0/24".
///
/// `index` is the entry's place from 0, in the order in which they were added: what sbx_verdict.entry and
/// sbx_event.entry say. The text lives as long as the policy. Any thread, never blocks. NULL for a bad handle and
/// an index that there is no entry for.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_entry(policy: *const sbx_policy, index: usize) -> *const c_char {
    call_or(ptr::null(), || {
        call_with(policy, |object: &PolicyObject| Ok(object.text(index).unwrap_or(ptr::null())))
    })
}
