//! `sbx_file_operation`: an operation on files that was begun.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;

use super::call::{call_on, call_or, call_with};
use super::error::sbx_error;
use super::file_structs::sbx_file_info;
use super::handle::{self, Object};
use super::{input, structs};
use crate::error::{Code, Error, Result};
use crate::sandbox::files::{FileInfo, FileOperation};

/// An operation on files, and what it gave. Any thread may call any of its functions at any time; only
/// sbx_file_operation_free comes last. It doesn't keep its sandbox alive.
#[derive(Debug)]
pub struct sbx_file_operation {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(super) struct OperationObject {
    operation: FileOperation,
    /// What it has found, made when first asked for.
    found: OnceLock<Vec<Found>>,
}

#[derive(Debug)]
struct Found {
    name: CString,
    target: Option<CString>,
    info: FileInfo,
}

impl Object for OperationObject {
    type Opaque = sbx_file_operation;
    const KIND: &'static str = "file operation";
}

fn c_bytes(bytes: &[u8]) -> CString {
    // What comes from the sandbox was checked: there is no NUL in it.
    CString::new(bytes).unwrap_or_default()
}

impl Found {
    fn new(name: &[u8], info: FileInfo) -> Self {
        let target = info.target.as_ref().map(|target| c_bytes(target.as_os_str().as_bytes()));
        Self { name: c_bytes(name), target, info }
    }
}

impl OperationObject {
    pub(super) fn new(operation: FileOperation) -> Self {
        Self { operation, found: OnceLock::new() }
    }

    fn found(&self) -> Result<&[Found]> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let listed =
            self.operation.entries()?.into_iter().map(|entry| Found::new(entry.name.as_bytes(), entry.info));
        let found = listed.chain(self.operation.info().ok().map(|info| Found::new(b"", info))).collect();
        Ok(self.found.get_or_init(|| found))
    }

    fn entry(&self, index: usize) -> Result<&Found> {
        let found = self.found()?;
        found
            .get(index)
            .ok_or_else(|| Error::new(Code::NotFound, format!("the operation has no entry {index}")))
    }
}

/// Waits until an operation has ended, and says how it went.
///
/// `timeout_ms` is negative for ever, 0 to look only. Any thread, any number of times; blocks.
///
/// Returns 0 if it was done; SBX_ETIMEDOUT if it goes on; else what it failed with: SBX_ENOTFOUND, SBX_EEXISTS,
/// SBX_ESYSTEM, SBX_ELIMIT, SBX_EUNSUPPORTED, SBX_EINVALID, with os_error where the sandbox gave a number;
/// SBX_ECLOSED (cancelled, or a stream's end was closed), SBX_ESTATE (the sandbox has ended), SBX_EENGINE;
/// SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC. SBX_ETIMEDOUT is also how one ends that took longer than its options
/// allow: sbx_file_operation_has_ended tells.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_wait(
    operation: *const sbx_file_operation,
    timeout_ms: i64,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(operation, error, |object: &OperationObject| {
            object.operation.wait(input::timeout(timeout_ms)).map(|_| 0)
        })
    }
}

/// Whether an operation has ended, well or not. Any thread, never blocks.
///
/// Returns 1 or 0; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_has_ended(operation: *const sbx_file_operation) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(operation, ptr::null_mut::<sbx_error>(), |object: &OperationObject| {
            Ok(c_int::from(object.operation.has_ended()))
        })
    }
}

/// Ends an operation that goes on, with SBX_ECLOSED; what it has done so far stays done. Any thread, never
/// blocks.
///
/// Returns 0; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_cancel(
    operation: *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(operation, error, |object: &OperationObject| {
            object.operation.cancel();
            Ok(0)
        })
    }
}

/// The host's end of the stream of a download, upload, copy in or copy out, once.
///
/// An AF_UNIX stream socket, non-blocking and close-on-exec, which the caller owns and closes. Write to it with
/// send and MSG_NOSIGNAL. What was read up to its end is complete only if sbx_file_operation_wait says that the
/// operation was done; what is written counts as complete when its end is shut down or closed, and is written
/// only if that says so. To give up in the middle, cancel the operation before closing. Any thread, never
/// blocks.
///
/// Returns the descriptor; SBX_ESTATE (it has no stream, or that was opened before), SBX_EHANDLE, SBX_EFORKED,
/// SBX_EPANIC.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_open_fd(
    operation: *mut sbx_file_operation,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(operation, error, |object: &OperationObject| {
            Ok(object.operation.open_stream()?.into_raw_fd())
        })
    }
}

/// The bytes that sbx_file_read or its _begin form has read, not terminated; `length` gets their number. They
/// live as long as the handle.
///
/// Any thread, never blocks. NULL for a bad handle, when `length` is NULL, or if the operation was not done.
///
/// # Safety
/// `length` must point to a place for the result or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_bytes(
    operation: *const sbx_file_operation,
    length: *mut usize,
) -> *const u8 {
    call_or(ptr::null(), || {
        call_with(operation, |object: &OperationObject| {
            // SAFETY: as the caller promises.
            let length = unsafe { input::out_param("length", length) }?;
            object.operation.with_bytes(|bytes| {
                length.write(bytes.len());
                bytes.as_ptr()
            })
        })
    })
}

/// How many entries an operation has found: those of a list in no order, or the one that was looked at.
///
/// Any thread, never blocks. Returns the count; SBX_ESTATE (it goes on), what it failed with, SBX_EHANDLE,
/// SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_count(operation: *const sbx_file_operation) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(operation, ptr::null_mut::<sbx_error>(), |object: &OperationObject| {
            Ok(c_int::try_from(object.found()?.len()).unwrap_or(c_int::MAX))
        })
    }
}

/// An entry's name: bytes with a NUL behind them, not always UTF-8, never "." or "..", without a slash; empty
/// for the one that was looked at. It lives as long as the handle.
///
/// Any thread, never blocks. NULL for a bad handle or index, or if the operation was not done.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_name(
    operation: *const sbx_file_operation,
    index: usize,
) -> *const c_char {
    call_or(ptr::null(), || {
        call_with(operation, |object: &OperationObject| Ok(object.entry(index)?.name.as_ptr()))
    })
}

/// Where an entry that is a symbolic link leads, as its name. NULL if it is none.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_target(
    operation: *const sbx_file_operation,
    index: usize,
) -> *const c_char {
    call_or(ptr::null(), || {
        call_with(operation, |object: &OperationObject| {
            Ok(object.entry(index)?.target.as_ref().map_or(ptr::null(), |target| target.as_ptr()))
        })
    })
}

/// What an entry is; of a listed symbolic link, the link itself.
///
/// Any thread, never blocks. Returns 0 and fills *info; SBX_ENOTFOUND (the index), SBX_ESTATE (it goes on), what
/// it failed with, SBX_EINVALID, SBX_ESIZE, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// `info` must point to an info struct or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_info(
    operation: *const sbx_file_operation,
    index: usize,
    info: *mut sbx_file_info,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(operation, error, |object: &OperationObject| {
            input::out_param("info", info)?;
            let size = structs::size(info)?;
            structs::write(info, size, &sbx_file_info::from(&object.entry(index)?.info));
            Ok(0)
        })
    }
}

/// What an operation has done, as the sandbox says: bytes of files, entries, and entries that were left out
/// (sockets and devices are not copied). Each place may be NULL.
///
/// Any thread, never blocks. Returns 0 and sets them; SBX_ETIMEDOUT (it goes on: other than sbx_file_operation_count
/// and _info, this is a wait that only looks), what it failed with, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// The places must point to places for the results or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_totals(
    operation: *const sbx_file_operation,
    bytes: *mut u64,
    entries: *mut u64,
    skipped: *mut u64,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(operation, error, |object: &OperationObject| {
            let totals = object.operation.wait(input::timeout(0))?;
            for (place, value) in
                [(bytes, totals.bytes), (entries, totals.entries), (skipped, totals.skipped)]
            {
                if !place.is_null() {
                    input::out_param("total", place)?.write(value);
                }
            }
            Ok(0)
        })
    }
}

/// Takes the next change in a directory that is watched, in the order in which they happened.
///
/// `path` gets where, relative to the directory, with a NUL behind it: bytes, not always UTF-8. `capacity` is
/// the size of that place: 4096, so that every path fits. `timeout_ms` is negative for ever, 0 to look only.
/// Any thread; blocks.
///
/// Returns SBX_CHANGE_...; SBX_ETIMEDOUT (nothing has changed), SBX_ESTATE (the directory is gone, or the
/// sandbox has ended), what the watch failed with, SBX_EINVALID, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// `path` must point to `capacity` writable bytes or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_next_change(
    operation: *mut sbx_file_operation,
    timeout_ms: i64,
    path: *mut c_char,
    capacity: usize,
    error: *mut sbx_error,
) -> c_int {
    const ROOM: usize = 4096;
    // SAFETY: as the caller promises.
    unsafe {
        call_on(operation, error, |object: &OperationObject| {
            if path.is_null() || capacity < ROOM {
                let message = format!("path: a place of {ROOM} bytes is needed, and {capacity} are given");
                return Err(Error::invalid(message));
            }
            let change = object.operation.next_change(input::timeout(timeout_ms))?;
            let text = c_bytes(change.path.as_os_str().as_bytes());
            let bytes = text.as_bytes_with_nul();
            // It is at most PATH_MAX long: what is longer was refused when it came.
            ptr::copy_nonoverlapping(bytes.as_ptr().cast(), path, bytes.len().min(ROOM));
            Ok(change.kind as c_int)
        })
    }
}

/// Frees an operation and what it gave, and ends it if it still goes on; NULL is allowed.
///
/// A descriptor that was opened stays the caller's. Any thread, never blocks.
///
/// # Safety
/// None of its bytes and texts may be used after. A handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_file_operation_free(operation: *mut sbx_file_operation) {
    call_or((), || handle::take::<OperationObject>(operation).map(drop));
}
