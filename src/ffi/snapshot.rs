//! `sbx_sandbox`: snapshots of its root file system.

use std::ffi::{c_char, c_int};

use super::error::sbx_error;
use super::input;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::sandbox::{SandboxObject, sbx_sandbox};

/// Begins to store what a sandbox has in its root file system as a new image: sbx_operation_image gives it.
///
/// `tag` is a name for the image, or NULL. The sandbox must have been started from an image (sbx_config_set_image); the new
/// one has the same settings. It is one image, however many snapshots it came from, and needs none of them.
///
/// The programs are paused while gVisor writes what they have changed: about 30 ms, and a second for a gigabyte; 50 seconds
/// at most. Connections and tunnels stay open. The programs go on whatever happens, while the changes are merged with the
/// image below. Files are as they are at one moment; what a program holds in its own memory is not in them.
///
/// Not in a snapshot: /tmp, /dev, /dev/shm, mounted directories and images, sockets, extended attributes, and files that
/// were deleted and are still open. Times of modification are rounded to seconds. gVisor reads each changed file whole, holes
/// too, so a file may have a quarter of the free memory (of the limit of sbx_config_set_memory_bytes, else of the
/// host), and 16 GiB at most. What that takes counts as the sandbox's memory until gVisor gives it back, minutes later.
///
/// The event of its end is SBX_EVENT_OPERATION_DONE with the image's bytes in value[0] and the microseconds in which the
/// sandbox was paused in value[1]; before it come SBX_EVENT_PROGRESS. What is in the image is what the sandbox wrote: trust
/// it as much as the sandbox. The operation doesn't keep the sandbox alive. sbx_operation says what holds for everything that
/// is begun.
///
/// Returns 0; SBX_EUNSUPPORTED (it was not started from an image: import its directory as one), SBX_EINVALID (the tag),
/// SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_ELIMIT. The operation's own errors: SBX_ELIMIT (a file, or all of them, are
/// too large), SBX_ESTATE (another snapshot of it is being taken, or one that was cancelled is still ending; or the sandbox
/// has ended), SBX_ETIMEDOUT, SBX_EIMAGE, SBX_ESYSTEM (a full disk), SBX_EENGINE (it can't be resumed, and ends).
///
/// # Safety
/// `tag` must point to a NUL-terminated string or be NULL, `operation` to a place for the result, `error` to an error struct
/// or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_snapshot_begin(
    sandbox: *mut sbx_sandbox,
    tag: *const c_char,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |object: &SandboxObject, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let tag = if tag.is_null() { None } else { Some(unsafe { input::text("tag", tag) }?) };
        Ok(Work::Snapshot(object.sandbox.snapshot_begin(tag, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.on(sandbox, start) }
}
