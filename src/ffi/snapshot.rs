//! `sbx_sandbox`: snapshots of its root file system and its directories, and images that are copied into it.

use std::ffi::{c_char, c_int};

use super::call::{call_new, call_with};
use super::error::sbx_error;
use super::handle;
use super::image::{ImageObject, sbx_image};
use super::input;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::sandbox::{SandboxObject, sbx_sandbox};

/// Begins to store what a sandbox has in its root file system as a new image: sbx_operation_image gives it, and
/// sbx_operation_totals what is in it and how many mounts were left out.
///
/// `tag` is a name for the image, or NULL. The sandbox must have been started from an image (sbx_config_set_image); the new
/// one has the same settings. It is one image, however many snapshots it came from, and needs none of them.
///
/// The programs are paused while gVisor writes what they have changed: about 30 ms, and 2 seconds for a gigabyte; 50 seconds
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
/// too large), SBX_ESTATE (another snapshot of it is running, or a cancelled one has not ended yet; or the sandbox
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

/// The image of a sandbox's exit snapshot (sbx_config_set_exit_snapshot), once it has ended; to be freed with
/// sbx_image_free.
///
/// Any thread, any number of times, never blocks.
///
/// Returns 0 and sets *image; SBX_ENOTFOUND (it was created without an exit snapshot), SBX_ESTATE (it has not ended, or there
/// is none: the text says why), or what the snapshot has failed with.
///
/// # Safety
/// `image` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_exit_image(
    sandbox: *const sbx_sandbox,
    image: *mut *mut sbx_image,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &SandboxObject| Ok(ImageObject::new(object.sandbox.exit_snapshot()?.image));
    // SAFETY: as the caller promises.
    unsafe { call_new("image", image, error, || call_with(sandbox, read)) }
}

/// Begins to store a directory of a sandbox as a new image: sbx_operation_image gives it, and sbx_operation_totals what is in
/// it and how much was left out.
///
/// `path` is absolute, and the directory becomes the image's root: to mount it (sbx_config_add_image_mount), to copy it into
/// a sandbox (sbx_sandbox_copy_image_begin), or to start from it if it is a whole root file system. Any directory will do,
/// on any root, also in /tmp and in what is mounted. `tag` is a name for the image, or NULL.
///
/// Owners, modes, and hard and symbolic links are as inside; times are in whole seconds. Left out and counted are sockets,
/// devices, and what is mounted in the directory; extended attributes are left out. The files, holes included, may have 16
/// GiB together, and it may take 15 minutes. Programs go on meanwhile, and what they change is handled as tar does: what is
/// removed before it is read is left out, a file has the size that it has when it is opened, and what it lacks of that later
/// reads as zeroes. For files as they are at one moment take sbx_sandbox_snapshot_begin.
///
/// The event of its end is SBX_EVENT_OPERATION_DONE with the image's bytes in value[0] and the number of what was left out
/// in value[1]; before it come SBX_EVENT_PROGRESS. What is in the image is what the sandbox wrote: trust it as much as the
/// sandbox. The operation doesn't keep the sandbox alive. sbx_operation says what holds for everything that is begun.
///
/// Returns 0; SBX_EINVALID (the path, the tag), SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_ELIMIT. The operation's own
/// errors: SBX_ENOTFOUND, SBX_ELIMIT (too many bytes, entries or levels), SBX_ESTATE (the sandbox has ended), SBX_ETIMEDOUT,
/// SBX_EIMAGE, SBX_ESYSTEM (a file can't be read, a full disk), SBX_EENGINE.
///
/// # Safety
/// `path` must point to a NUL-terminated string or be NULL, as `tag` must, `operation` to a place for the result, `error` to
/// an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_snapshot_directory_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    tag: *const c_char,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |object: &SandboxObject, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let path = unsafe { input::path("path", path) }?;
        // SAFETY: as the caller promises.
        let tag = if tag.is_null() { None } else { Some(unsafe { input::text("tag", tag) }?) };
        Ok(Work::Snapshot(object.sandbox.snapshot_directory_begin(path, tag, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.on(sandbox, start) }
}

/// Begins to copy an image's files into a directory of a sandbox: sbx_operation_totals gives what was copied.
///
/// `path` is absolute and not "/". The directory and those above it are made if they are missing. What is there stays, but
/// for files of the image's names, which are replaced; a directory on the one side and a file on the other is an error.
/// Nothing is mounted: gVisor can't do that in a sandbox that runs. It is a copy, which takes the sandbox's memory, or counts against sbx_config_set_disk_bytes, as if its programs had written it; what is
/// changed there changes nothing in the image. An image that is known at the start is better mounted
/// (sbx_config_add_image_mount), which takes neither time nor memory.
///
/// Owners, modes, and hard and symbolic links are as in the image, those of its root are the directory's; times are in whole
/// seconds. Devices and sockets are left out and counted. It may take 15 minutes. If it fails or is cancelled, what was
/// copied until then stays. The image's handle may be freed after.
///
/// The event of its end is SBX_EVENT_OPERATION_DONE with the bytes that were copied; before it come SBX_EVENT_PROGRESS. The
/// operation doesn't keep the sandbox alive. sbx_operation says what holds for everything that is begun.
///
/// Returns 0; SBX_EINVALID (the path), SBX_EHANDLE, SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_ELIMIT. The operation's own
/// errors: SBX_ESYSTEM (with ENOSPC if the sandbox's disk limit is reached, with EROFS on a read-only mount), SBX_EEXISTS,
/// SBX_ELIMIT, SBX_ESTATE (the sandbox has ended), SBX_ETIMEDOUT, SBX_EIMAGE, SBX_EENGINE.
///
/// # Safety
/// `path` must point to a NUL-terminated string or be NULL, `operation` to a place for the result, `error` to an error struct
/// or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_copy_image_begin(
    sandbox: *mut sbx_sandbox,
    image: *const sbx_image,
    path: *const c_char,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |object: &SandboxObject, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let path = unsafe { input::path("path", path) }?;
        let image = handle::get::<ImageObject>(image.cast_mut())?;
        Ok(Work::Copied(object.sandbox.copy_image_begin(image.image(), path, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.on(sandbox, start) }
}
