//! Files of a sandbox: what can be begun.

use std::ffi::{c_char, c_int};
use std::path::PathBuf;

use super::error::sbx_error;
use super::file_structs::{read_options, sbx_file_options};
use super::input;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::sandbox::{SandboxObject, sbx_sandbox};
use crate::error::Result;
use crate::sandbox::files::FileRequest;

unsafe fn begin(
    sandbox: *mut sbx_sandbox,
    options: *const sbx_file_options,
    rest: Begin,
    request: impl FnOnce() -> Result<FileRequest>,
) -> c_int {
    let start = |object: &SandboxObject, events: Events<'_>| {
        let request = request()?;
        // SAFETY: as the caller promises.
        let options = unsafe { read_options(options) }?;
        Ok(Work::File(object.sandbox.begin_file(request, &options, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { rest.on(sandbox, start) }
}

/// The same where a path is all that is said.
unsafe fn begin_at(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    rest: Begin,
    request: fn(PathBuf) -> FileRequest,
) -> c_int {
    let request = || {
        // SAFETY: as the caller promises.
        let path = unsafe { input::path("path", path) }?;
        Ok(request(path))
    };
    // SAFETY: as the caller promises.
    unsafe { begin(sandbox, options, rest, request) }
}

/// Reads a file whole: sbx_operation_bytes.
///
/// Up to 16 MiB, or options.limit; of a longer one nothing is given: sbx_file_download_begin has no limit. Only regular
/// files are read: a FIFO or device is SBX_EUNSUPPORTED, at once.
///
/// For all functions on files: the work is done inside the sandbox with the rights of the user in the options, root by
/// default. No tool in the sandbox is needed, and links in it lead to nothing of the host's. Paths are absolute, in the
/// sandbox, and bytes without NUL: they need not be UTF-8. Errors of the sandbox's file systems are SBX_ENOTFOUND,
/// SBX_EEXISTS or SBX_ESYSTEM, with its number in os_error: EACCES, ENOSPC, EISDIR .... Other ends are SBX_EINVALID,
/// SBX_EUNSUPPORTED, SBX_ELIMIT, SBX_ETIMEDOUT (a limit of the options), SBX_ECLOSED, SBX_ESTATE and SBX_EENGINE.
/// Up to 256 operations go on at once in a sandbox. sbx_operation says what holds for everything that is begun.
///
/// Options: offset, limit, user, and the two times, which all operations but a watch have; NULL for none.
///
/// Returns 0; SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_read_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::Read) }
}

/// Writes a file whole, in place of what is there.
///
/// `bytes` are copied; NULL is allowed if there are none. Up to 16 MiB, or options.limit: sbx_file_upload_begin has no
/// limit. A file that fails in the middle (ENOSPC) is left as far as it was written.
///
/// Options: mode, limit, SBX_FILE_PARENTS, SBX_FILE_EXCLUSIVE, SBX_FILE_APPEND, user. The rest is as for
/// sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `bytes` have `length` bytes, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_write_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    bytes: *const u8,
    length: usize,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let request = || {
        // SAFETY: as the caller promises.
        let path = unsafe { input::path("path", path) }?;
        // SAFETY: as the caller promises.
        let content = unsafe { input::bytes("bytes", bytes, length) }?.to_vec();
        Ok(FileRequest::Write(path, content))
    };
    // SAFETY: as the caller promises.
    unsafe { begin(sandbox, options, Begin { queue, cookie, operation, error }, request) }
}

/// Lists a directory: sbx_operation_count and sbx_operation_entry, in no order.
///
/// Up to 100,000 entries, or options.limit; of a larger directory nothing is given. A symbolic link is described itself,
/// not what it leads to.
///
/// Options: limit, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_list_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::List) }
}

/// Describes a file: sbx_operation_entry with index 0.
///
/// A symbolic link is followed, unless SBX_FILE_NO_FOLLOW is given.
///
/// Options: SBX_FILE_NO_FOLLOW, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_stat_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::Stat) }
}

/// Makes a directory.
///
/// Options: mode, SBX_FILE_PARENTS, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_make_directory_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        begin_at(
            sandbox,
            path,
            options,
            Begin { queue, cookie, operation, error },
            FileRequest::MakeDirectory,
        )
    }
}

/// Removes a file, a symbolic link or an empty directory; with SBX_FILE_RECURSIVE everything below, too.
///
/// Links below are removed, not followed; a tree deeper than 1,000 directories is SBX_ELIMIT. What can't be removed
/// ends the operation, and what was removed before stays removed.
///
/// Options: SBX_FILE_RECURSIVE, SBX_FILE_MISSING_OK, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_remove_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::Remove)
    }
}

/// Renames a file or directory, on the same file system and over what is there.
///
/// Options: SBX_FILE_EXCLUSIVE, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_rename_begin(
    sandbox: *mut sbx_sandbox,
    from: *const c_char,
    to: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let request = || {
        // SAFETY: as the caller promises.
        let from = unsafe { input::path("from", from) }?;
        // SAFETY: as the caller promises.
        let to = unsafe { input::path("to", to) }?;
        Ok(FileRequest::Rename(from, to))
    };
    // SAFETY: as the caller promises.
    unsafe { begin(sandbox, options, Begin { queue, cookie, operation, error }, request) }
}

/// Reads a file of any size through a stream: sbx_operation_open_fd.
///
/// options.limit is held inside the sandbox here, where hostile code may get around it: count what you read.
///
/// Options: offset, limit, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_download_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::Download)
    }
}

/// Writes a file of any size through a stream, in place of what is there: sbx_operation_open_fd.
///
/// What was sent before a failure (a full disk) stays there.
///
/// Options: mode, SBX_FILE_PARENTS, SBX_FILE_EXCLUSIVE, SBX_FILE_APPEND, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_upload_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::Upload)
    }
}

/// Packs a file or a tree into a tar archive (ustar with pax headers) on a stream: sbx_operation_open_fd.
///
/// A directory's entries are named relative to it, a file by the last part of its path. Symbolic links are packed as
/// such; sockets and devices are left out and counted: sbx_operation_totals. What the archive says comes from the
/// sandbox: unpack it only with something that refuses absolute paths, "..", devices, and paths that lead through
/// links. options.limit is of the files' bytes and held inside the sandbox, where hostile code may get around it: count
/// what you read.
///
/// Options: limit, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_copy_out_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::CopyOut)
    }
}

/// Unpacks a tar archive (ustar, pax, GNU) from a stream into a directory: sbx_operation_open_fd.
///
/// An entry with an absolute path, with "..", or whose path leads through a symbolic link is SBX_EINVALID; devices and
/// sparse files are SBX_EUNSUPPORTED. What is in the way of a file is replaced. What came before such an entry stays.
///
/// Options: limit (of its files' bytes), SBX_FILE_PARENTS, SBX_FILE_KEEP_OWNER, user. The rest is as for
/// sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_copy_in_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::CopyIn)
    }
}

/// Reports changes in a directory, with SBX_FILE_RECURSIVE also below it: sbx_operation_next_change.
///
/// The first change is SBX_CHANGE_READY. What is done inside the sandbox is seen, and not what the host changes in a
/// directory that it has mounted. The watch goes on until it is cancelled or freed, the directory is gone, or the sandbox
/// ends. Up to 8,192 directories are watched, 1,000 deep; when there are more, SBX_CHANGE_OVERFLOW reports it once and the
/// watch goes on with those that it has. SBX_EVENT_FILE_CHANGED, with the same cookie, says that there are changes to take.
///
/// Options: SBX_FILE_RECURSIVE, user. The rest is as for sbx_file_read_begin.
///
/// # Safety
/// Texts must end with NUL or be NULL; `options` must be options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_watch_begin(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { begin_at(sandbox, path, options, Begin { queue, cookie, operation, error }, FileRequest::Watch) }
}
