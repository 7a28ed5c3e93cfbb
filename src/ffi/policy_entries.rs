//! `sbx_policy`: what is in one.

use std::ffi::{c_char, c_int};
use std::ptr;

use super::call::{call_on, call_or, call_with};
use super::error::sbx_error;
use super::policy::{PolicyObject, sbx_policy};

/// The policy's default verdict, for destinations that match no entry.
///
/// Any thread, never blocks. Returns SBX_POLICY_OPEN, SBX_POLICY_ALLOWLIST or SBX_POLICY_BLOCKED; SBX_EHANDLE,
/// SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_mode(policy: *const sbx_policy) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(policy, ptr::null_mut::<sbx_error>(), |object: &PolicyObject| {
            Ok(object.look(|policy| policy.mode() as c_int))
        })
    }
}

/// Which names a policy has the sandbox's resolver answer: what sbx_policy_set_dns was given last.
///
/// Any thread, never blocks. Returns SBX_DNS_AUTO, SBX_DNS_ON, SBX_DNS_OFF or SBX_DNS_ADDRESSES; SBX_EHANDLE,
/// SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_dns(policy: *const sbx_policy) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(policy, ptr::null_mut::<sbx_error>(), |object: &PolicyObject| {
            Ok(object.look(|policy| policy.dns() as c_int))
        })
    }
}

/// How many entries a policy has. A refused one doesn't count.
///
/// Any thread, never blocks. Returns the count; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_policy_entry_count(policy: *const sbx_policy) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(policy, ptr::null_mut::<sbx_error>(), |object: &PolicyObject| {
            Ok(object.look(|policy| c_int::try_from(policy.entries().len()).unwrap_or(c_int::MAX)))
        })
    }
}

/// An entry of a policy as text: "allow 192.0.2.0/24", "deny 2001:db8::/32", "domain *.example.com",
/// "local 192.0.2.0/24".
///
/// `index` is the entry's place from 0, in the order in which they were added: what sbx_verdict.rule and
/// sbx_event.rule say. The text lives as long as the policy. Any thread, never blocks. NULL for a bad handle and
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
