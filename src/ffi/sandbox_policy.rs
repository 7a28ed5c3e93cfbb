//! `sbx_sandbox`: what it may reach, changed while it runs and read back.

use std::ffi::c_int;

use super::call::call_on;
use super::error::sbx_error;
use super::handle;
use super::input;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::policy::{PolicyObject, sbx_policy};
use super::queue::sbx_queue;
use super::sandbox::{SandboxObject, sbx_sandbox};

/// Replaces the sandbox's policy and waits until the new one is in force.
///
/// When it returns, connections and UDP flows that the new policy denies have been reset on both sides; those that
/// both policies allow were not disturbed, and at no moment did anything get through that neither allows. What becomes
/// denied is reported as SBX_EVENT_DENIED. After a failure the old policy stays in force. A blocked policy closes egress
/// and leaves the tunnels; a sandbox that was created blocked has no network, and can't be given one. Concurrent changes
/// are made one after the other.
///
/// `generation` may be NULL; the first policy has 0 and each change the next number. The policy is copied. Any thread;
/// blocks for some milliseconds, with 100,000 entries for a second. Hosts with an event loop use sbx_set_policy_begin.
///
/// Returns 0 and sets *generation; SBX_EINVALID (a bad entry, which is named), SBX_EUNSUPPORTED (it was created
/// blocked), SBX_ESTATE (it has ended), SBX_ELIMIT, SBX_ESYSTEM, SBX_ECLOSED.
///
/// # Safety
/// `generation` must point to a number or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_set_policy(
    sandbox: *mut sbx_sandbox,
    policy: *const sbx_policy,
    generation: *mut u64,
    error: *mut sbx_error,
) -> c_int {
    let set = |object: &SandboxObject| {
        let policy = handle::get::<PolicyObject>(policy)?.copy()?;
        let applied = object.sandbox.set_policy(&policy)?;
        if !generation.is_null() {
            // SAFETY: as the caller promises.
            unsafe { generation.write_unaligned(applied) };
        }
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(sandbox, error, set) }
}

/// Begins sbx_set_policy: sbx_operation_policy gives the generation.
///
/// The event of its end is SBX_EVENT_POLICY_APPLIED. The policy is copied. A change that was begun is made whole, so
/// sbx_operation_cancel and sbx_operation_free don't stop it: its end is still reported. sbx_operation says what holds for
/// everything that is begun.
///
/// Returns 0; SBX_EINVALID (a bad entry, which is named), SBX_ESTATE (the sandbox has ended), SBX_ECLOSED, SBX_ELIMIT.
///
/// # Safety
/// `operation` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_set_policy_begin(
    sandbox: *mut sbx_sandbox,
    policy: *const sbx_policy,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |object: &SandboxObject, events: Events<'_>| {
        let policy = handle::get::<PolicyObject>(policy)?.copy()?;
        Ok(Work::PolicyChange(object.sandbox.set_policy_begin(&policy, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.on(sandbox, start) }
}

/// Reads the policy in force: a copy of it, and its generation.
///
/// The rules of the sandbox's gateway are read back from the kernel and compared with the policy; a difference is
/// SBX_EINTERNAL. Of a sandbox that was created blocked, which has no network and so no rules, it is that policy, of
/// generation 0. `copy` or `generation` may be NULL. Free the copy with sbx_policy_free. Any thread; blocks for a
/// moment, and until earlier changes are made. Hosts with an event loop use sbx_sandbox_policy_begin.
///
/// Returns 0 and sets *copy and *generation; SBX_ESTATE (it has ended), SBX_EINTERNAL, SBX_ELIMIT, SBX_ESYSTEM,
/// SBX_ECLOSED.
///
/// # Safety
/// `copy` must point to a place for the result or be NULL, `generation` to a number or be NULL, `error` to an error
/// struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_policy(
    sandbox: *mut sbx_sandbox,
    copy: *mut *mut sbx_policy,
    generation: *mut u64,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &SandboxObject| {
        let (policy, number) = object.sandbox.policy()?;
        if !copy.is_null() {
            // SAFETY: as the caller promises.
            let place = unsafe { input::out_param("policy", copy) }?;
            place.write(handle::insert(PolicyObject::new(policy))?);
        }
        if !generation.is_null() {
            // SAFETY: as the caller promises.
            unsafe { generation.write_unaligned(number) };
        }
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(sandbox, error, read) }
}

/// Begins sbx_sandbox_policy: sbx_operation_policy. sbx_operation says what holds for everything that is begun.
///
/// Returns 0; SBX_ESTATE (the sandbox has ended), SBX_ECLOSED, SBX_ELIMIT.
///
/// # Safety
/// `operation` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_policy_begin(
    sandbox: *mut sbx_sandbox,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start =
        |object: &SandboxObject, events: Events<'_>| Ok(Work::Policy(object.sandbox.policy_begin(events)?));
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.on(sandbox, start) }
}
