//! Files of a sandbox: the functions that wait.

use std::ffi::{c_char, c_int};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use super::call::call_on;
use super::error::sbx_error;
use super::file_operation::{OperationObject, sbx_file_operation};
use super::file_structs::{read_options, sbx_file_info, sbx_file_options};
use super::sandbox::{SandboxObject, sbx_sandbox};
use super::{handle, input, structs};
use crate::error::{Error, Result};
use crate::sandbox::Sandbox;
use crate::sandbox::files::{FileOptions, FileRequest, FileTotals};

/// A descriptor of the host's, for the length of a call.
unsafe fn descriptor<'a>(fd: c_int) -> Result<BorrowedFd<'a>> {
    if fd < 0 {
        return Err(Error::invalid(format!("fd {fd}: is not a descriptor")));
    }
    // SAFETY: not negative; the caller keeps it open. One that isn't is EBADF when it is used.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Does what is asked, and waits for its end.
unsafe fn perform(
    sandbox: *mut sbx_sandbox,
    options: *const sbx_file_options,
    error: *mut sbx_error,
    request: impl FnOnce() -> Result<FileRequest>,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on::<SandboxObject>(sandbox, error, |object| {
            object.sandbox.begin_file(request()?, &read_options(options)?, None)?.wait(None)?;
            Ok(0)
        })
    }
}

/// The same, and hands the operation out, which holds what was found.
unsafe fn fetch(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
    request: fn(PathBuf) -> FileRequest,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on::<SandboxObject>(sandbox, error, |object| {
            let place = input::out_param("operation", operation)?;
            let request = request(input::path("path", path)?);
            let operation = object.sandbox.begin_file(request, &read_options(options)?, None)?;
            operation.wait(None)?;
            place.write(handle::insert(OperationObject::new(operation))?);
            Ok(0)
        })
    }
}

/// Moves all between a path and a descriptor, with one of the sandbox's methods for that.
unsafe fn stream(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    fd: c_int,
    options: *const sbx_file_options,
    error: *mut sbx_error,
    transfer: impl FnOnce(&Sandbox, PathBuf, BorrowedFd<'_>, &FileOptions) -> Result<FileTotals>,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on::<SandboxObject>(sandbox, error, |object| {
            let path = input::path("path", path)?;
            let options = read_options(options)?;
            transfer(&object.sandbox, path, descriptor(fd)?, &options)?;
            Ok(0)
        })
    }
}

/// Reads a file whole.
///
/// Up to 16 MiB, or options.limit; of a longer one nothing is given: sbx_file_download has no limit. Only
/// regular files are read: a FIFO or device is SBX_EUNSUPPORTED, at once.
///
/// For all functions on files: all is done inside the sandbox with the rights of the user in the options, root by
/// default. No tool in the sandbox is needed, and links in it lead to nothing of the host's. Paths are absolute, in
/// the sandbox, and bytes without NUL: they need not be UTF-8. Errors of the sandbox's file systems are
/// SBX_ENOTFOUND, SBX_EEXISTS or SBX_ESYSTEM with os_error. Up to 256 operations go on at once in a sandbox.
///
/// The bytes are sbx_file_operation_bytes of the operation, which is freed with sbx_file_operation_free.
/// Options: offset, limit, user, timeout_ms; NULL for none. Any thread; blocks: sbx_file_read_begin doesn't.
///
/// Returns 0 and sets *operation; SBX_EUNSUPPORTED, SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's
/// number: EACCES, ENOSPC, EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running),
/// SBX_ELIMIT, SBX_ETIMEDOUT, SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `operation` must point to a place for the result, `options` must be
/// options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_read(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { fetch(sandbox, path, options, operation, error, FileRequest::Read) }
}

/// Writes a file whole, in place of what is there.
///
/// `bytes` are copied; NULL is allowed if there are none. Up to 16 MiB, or options.limit: sbx_file_upload has
/// no limit. A file that fails in the middle (ENOSPC) is left as far as it was written.
///
/// Options: mode, limit, SBX_FILE_PARENTS, SBX_FILE_EXCLUSIVE, SBX_FILE_APPEND, user, timeout_ms; NULL for none.
/// Paths, rights and links as in sbx_file_read. Any thread; blocks: sbx_file_write_begin doesn't.
///
/// Returns 0; SBX_EEXISTS, SBX_EUNSUPPORTED, SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number:
/// EACCES, ENOSPC, EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT,
/// SBX_ETIMEDOUT, SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL, `bytes` must have `length` bytes; `options` must be options or NULL,
/// `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_write(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    bytes: *const u8,
    length: usize,
    options: *const sbx_file_options,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        perform(sandbox, options, error, || {
            let path = input::path("path", path)?;
            let content = input::bytes("bytes", bytes, length)?.to_vec();
            Ok(FileRequest::Write(path, content))
        })
    }
}

/// Lists a directory.
///
/// Up to 100,000 entries, or options.limit; of a larger one nothing is given.
///
/// The entries are sbx_file_operation_count, _name, _target and _info of the operation, which is freed with
/// sbx_file_operation_free. Options: limit, user, timeout_ms; NULL for none. Paths, rights and links as in
/// sbx_file_read. Any thread; blocks: sbx_file_list_begin doesn't.
///
/// Returns 0 and sets *operation; SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number: EACCES,
/// ENOSPC, EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT,
/// SBX_ETIMEDOUT, SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `operation` must point to a place for the result, `options` must be
/// options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_list(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    operation: *mut *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { fetch(sandbox, path, options, operation, error, FileRequest::List) }
}

/// Says what a path is.
///
/// Of a symbolic link, what it leads to, unless SBX_FILE_NO_FOLLOW is given.
///
/// Options: SBX_FILE_NO_FOLLOW, user, timeout_ms; NULL for none. Paths, rights and links as in sbx_file_read. Any
/// thread; blocks: sbx_file_stat_begin doesn't.
///
/// Returns 0 and fills *info; SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number: EACCES, ENOSPC,
/// EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT, SBX_ETIMEDOUT,
/// SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `info` must point to an info struct, `options` must be options or NULL,
/// `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_stat(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    info: *mut sbx_file_info,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on::<SandboxObject>(sandbox, error, |object| {
            input::out_param("info", info)?;
            let size = structs::size(info)?;
            let path = input::path("path", path)?;
            let options = read_options(options)?;
            let found = object.sandbox.stat_file(path, &options)?;
            structs::write(info, size, &sbx_file_info::from(&found));
            Ok(0)
        })
    }
}

/// Makes a directory.
///
/// Options: mode, SBX_FILE_PARENTS, user, timeout_ms; NULL for none. Paths, rights and links as in sbx_file_read.
/// Any thread; blocks: sbx_file_make_directory_begin doesn't.
///
/// Returns 0; SBX_EEXISTS, SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number: EACCES, ENOSPC,
/// EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT, SBX_ETIMEDOUT,
/// SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `options` must be options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_make_directory(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { perform(sandbox, options, error, || Ok(FileRequest::MakeDirectory(input::path("path", path)?))) }
}

/// Removes a file, a symbolic link or an empty directory; with SBX_FILE_RECURSIVE all that is below, too.
///
/// Links below are removed, not followed; a tree deeper than 1,000 directories is SBX_ELIMIT. What can't be removed
/// ends it, and what was removed before stays removed.
///
/// Options: SBX_FILE_RECURSIVE, SBX_FILE_MISSING_OK, user, timeout_ms; NULL for none. Paths, rights and links as in
/// sbx_file_read. Any thread; blocks: sbx_file_remove_begin doesn't.
///
/// Returns 0; SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number: EACCES, ENOSPC, EISDIR ...),
/// SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT, SBX_ETIMEDOUT, SBX_ECLOSED,
/// SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `options` must be options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_remove(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    options: *const sbx_file_options,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { perform(sandbox, options, error, || Ok(FileRequest::Remove(input::path("path", path)?))) }
}

/// Gives a file or directory another name on the same file system, over what is there.
///
/// Options: SBX_FILE_EXCLUSIVE, user, timeout_ms; NULL for none. Paths, rights and links as in sbx_file_read. Any
/// thread; blocks: sbx_file_rename_begin doesn't.
///
/// Returns 0; SBX_EEXISTS, SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number: EACCES, ENOSPC,
/// EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT, SBX_ETIMEDOUT,
/// SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `options` must be options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_rename(
    sandbox: *mut sbx_sandbox,
    from: *const c_char,
    to: *const c_char,
    options: *const sbx_file_options,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        perform(sandbox, options, error, || {
            Ok(FileRequest::Rename(input::path("from", from)?, input::path("to", to)?))
        })
    }
}

/// Reads a file of any size into a descriptor.
///
/// `fd` is any descriptor that can be written to; it stays the caller's. What has been written to it is
/// complete only if this returns 0.
///
/// Options: offset, limit, user, timeout_ms; NULL for none. Paths, rights and links as in sbx_file_read. Any
/// thread; blocks: sbx_file_download_begin doesn't.
///
/// Returns 0; SBX_EUNSUPPORTED, SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number: EACCES,
/// ENOSPC, EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT,
/// SBX_ETIMEDOUT, SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `options` must be options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_download(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    fd: c_int,
    options: *const sbx_file_options,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { stream(sandbox, path, fd, options, error, Sandbox::download_file) }
}

/// Writes a file with all that a descriptor gives, in place of what is there.
///
/// `fd` is any descriptor that can be read; it stays the caller's. It is read up to its end. What can't be
/// read or written (a full disk) is an error; then what was written is not the whole.
///
/// Options: mode, SBX_FILE_PARENTS, SBX_FILE_EXCLUSIVE, SBX_FILE_APPEND, user, timeout_ms; NULL for none. Paths,
/// rights and links as in sbx_file_read. Any thread; blocks: sbx_file_upload_begin doesn't.
///
/// Returns 0; SBX_EEXISTS, SBX_EUNSUPPORTED, SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number:
/// EACCES, ENOSPC, EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT,
/// SBX_ETIMEDOUT, SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `options` must be options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_upload(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    fd: c_int,
    options: *const sbx_file_options,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { stream(sandbox, path, fd, options, error, Sandbox::upload_file) }
}

/// Packs a file or a tree into a tar archive (ustar with pax headers).
///
/// A directory's entries are named relative to it, a file by the last part of its path. Symbolic links are
/// packed as such; sockets and devices are left out and counted: sbx_file_operation_totals. What the archive
/// says comes from the sandbox: unpack it only with something that refuses absolute paths, "..", devices, and
/// paths that lead through links.
///
/// `fd` is any descriptor that can be written to; it stays the caller's. What has been written to it is
/// complete only if this returns 0.
///
/// Options: limit (of the archive), user, timeout_ms; NULL for none. Paths, rights and links as in sbx_file_read.
/// Any thread; blocks: sbx_file_copy_out_begin doesn't.
///
/// Returns 0; SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number: EACCES, ENOSPC, EISDIR ...),
/// SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT, SBX_ETIMEDOUT, SBX_ECLOSED,
/// SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `options` must be options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_copy_out(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    fd: c_int,
    options: *const sbx_file_options,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { stream(sandbox, path, fd, options, error, Sandbox::copy_out) }
}

/// Unpacks a tar archive (ustar, pax, GNU) into a directory.
///
/// An entry with an absolute path, with "..", or whose path leads through a symbolic link is SBX_EINVALID;
/// devices and sparse files are SBX_EUNSUPPORTED. What is in the way of a file is replaced. What came before
/// such an entry stays.
///
/// `fd` is any descriptor that can be read; it stays the caller's. It is read up to its end. What can't be
/// read or written (a full disk) is an error; then what was written is not the whole.
///
/// Options: limit (of its files' bytes), SBX_FILE_PARENTS, SBX_FILE_KEEP_OWNER, user, timeout_ms; NULL for none.
/// Paths, rights and links as in sbx_file_read. Any thread; blocks: sbx_file_copy_in_begin doesn't.
///
/// Returns 0; SBX_EEXISTS, SBX_EUNSUPPORTED, SBX_ENOTFOUND, SBX_ESYSTEM (os_error has the sandbox's number:
/// EACCES, ENOSPC, EISDIR ...), SBX_EINVALID, SBX_ESIZE, SBX_ESTATE (the sandbox isn't running), SBX_ELIMIT,
/// SBX_ETIMEDOUT, SBX_ECLOSED, SBX_EENGINE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The texts must end with NUL or be NULL; `options` must be options or NULL, `error` an error struct or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_copy_in(
    sandbox: *mut sbx_sandbox,
    path: *const c_char,
    fd: c_int,
    options: *const sbx_file_options,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { stream(sandbox, path, fd, options, error, Sandbox::copy_in) }
}
