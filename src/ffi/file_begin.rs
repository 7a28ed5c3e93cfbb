//! Files of a sandbox: the functions that return at once.

use std::ffi::{c_char, c_int};
use std::path::PathBuf;

use super::call::call_on;
use super::error::sbx_error;
use super::file_operation::{OperationObject, sbx_file_operation};
use super::file_structs::{read_options, sbx_file_options};
use super::sandbox::{SandboxObject, sbx_sandbox};
use super::{handle, input};
use crate::error::Result;
use crate::sandbox::files::FileRequest;

unsafe fn begin(
    sandbox: *mut sbx_sandbox,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
    request: impl FnOnce() -> Result<FileRequest>,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on::<SandboxObject>(sandbox, error, |object| {
            let place = input::out_param("operation", operation)?;
            let operation = object.sandbox.begin_file(request()?, &read_options(options)?, Some(cookie))?;
            place.write(handle::insert(OperationObject::new(operation))?);
            Ok(0)
        })
    }
}

/// The same where a path is all that is said.
unsafe fn begin_at(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
    request: fn(PathBuf) -> FileRequest,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin(sandbox, options, cookie, operation, error, || Ok(request(input::path("path", path)?))) }
}

/// Begins what sbx_file_read does, and returns at once.
///
/// For all functions sbx_file_..._begin: the operation goes on by itself and ends with SBX_EVENT_FILE_DONE with
/// `cookie` on the sandbox's queue, if it has one; sbx_file_operation_wait tells too. Free it with
/// sbx_file_operation_free, which also ends it. Any thread, never blocks.
///
/// Returns 0 and sets *operation; SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running),
/// SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC; the rest comes later, as the
/// operation's.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_read_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::Read) }
}

/// Begins what sbx_file_write does, and returns at once.
/// Events, errors, threads and ownership as for sbx_file_read_begin.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_write_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    bytes: *const u8,
    length: usize,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        begin(sandbox, options, cookie, operation, error, || {
            let path = input::path("path", path)?;
            let content = input::bytes("bytes", bytes, length)?.to_vec();
            Ok(FileRequest::Write(path, content))
        })
    }
}

/// Begins what sbx_file_list does, and returns at once.
/// Events, errors, threads and ownership as for sbx_file_read_begin.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_list_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::List) }
}

/// Begins what sbx_file_stat does, and returns at once. What it is: sbx_file_operation_info with index 0, and
/// _target. Events, errors, threads and ownership as for sbx_file_read_begin.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_stat_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::Stat) }
}

/// Begins what sbx_file_make_directory does, and returns at once.
/// Events, errors, threads and ownership as for sbx_file_read_begin.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_make_directory_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::MakeDirectory) }
}

/// Begins what sbx_file_remove does, and returns at once.
/// Events, errors, threads and ownership as for sbx_file_read_begin.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_remove_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::Remove) }
}

/// Begins what sbx_file_rename does, and returns at once.
/// Events, errors, threads and ownership as for sbx_file_read_begin.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_rename_begin(
    sandbox: *mut sbx_sandbox,
    from: *const c_char,
    to: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        begin(sandbox, options, cookie, operation, error, || {
            let from = input::path("from", from)?;
            let to = input::path("to", to)?;
            Ok(FileRequest::Rename(from, to))
        })
    }
}

/// Begins what sbx_file_download does, and returns at once. The stream is sbx_file_operation_open_fd.
/// Events, errors, threads and ownership as for sbx_file_read_begin. options.limit is held inside the sandbox here,
/// where a hostile program may have its way: count what you read.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_download_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::Download) }
}

/// Begins what sbx_file_upload does, and returns at once. The stream is sbx_file_operation_open_fd.
/// Events, errors, threads and ownership as for sbx_file_read_begin.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_upload_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::Upload) }
}

/// Begins what sbx_file_copy_out does, and returns at once. The stream is sbx_file_operation_open_fd.
/// Events, errors, threads and ownership as for sbx_file_read_begin. options.limit is held inside the sandbox here
/// (of the files' bytes), where a hostile program may have its way: count what you read.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_copy_out_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::CopyOut) }
}

/// Begins what sbx_file_copy_in does, and returns at once. The stream is sbx_file_operation_open_fd.
/// Events, errors, threads and ownership as for sbx_file_read_begin.
///
/// # Safety
/// As for the form that waits; `operation` must point to a place for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_copy_in_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::CopyIn) }
}

/// Tells what changes in a directory; with SBX_FILE_RECURSIVE also below.
///
/// Changes are taken with sbx_file_operation_next_change; the first is SBX_CHANGE_READY. What is done inside
/// the sandbox is seen, and not what the host changes in a directory that it has mounted. It goes on until it
/// is cancelled or freed, the directory is gone, or the sandbox ends. Up to 8,192 directories are watched, 1,000 deep;
/// when there are more, SBX_CHANGE_OVERFLOW tells it once and the watch goes on with those that it has.
///
/// Options: SBX_FILE_RECURSIVE, user; NULL for none. A time-out is for each sbx_file_operation_next_change, and none
/// of the options. SBX_EVENT_FILE_CHANGED and SBX_EVENT_FILE_DONE carry `cookie`. Errors, threads and ownership as for
/// sbx_file_read_begin. There is no form that waits.
///
/// # Safety
/// The texts must end with NUL or be NULL; `operation` must point to a place for the result, `options` must be
/// options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_watch_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    cookie: u64,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, cookie, operation, error, FileRequest::Watch) }
}
