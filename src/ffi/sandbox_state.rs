//! `sbx_sandbox`: what can be asked of it.

use std::ffi::{c_char, c_int};
use std::os::fd::IntoRawFd;
use std::ptr;

use super::call::{call, call_new, call_on, call_or, call_with};
use super::capture::sbx_capture;
use super::error::sbx_error;
use super::runtime::{self, sbx_runtime};
use super::sandbox::{SandboxObject, sbx_sandbox};
use super::{codes, input};
use crate::error::{Code, Error};

/// The state of the sandbox: SBX_STATE_.... It only ever moves forward. Any thread, never blocks.
///
/// Returns that state.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_state(sandbox: *const sbx_sandbox) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(sandbox, ptr::null_mut::<sbx_error>(), |object: &SandboxObject| {
            Ok(codes::state(object.sandbox.state()))
        })
    }
}

/// The sandbox's id: "sb-" and 16 hexadecimal digits.
///
/// Any thread, never blocks. NULL for a bad handle.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_id(sandbox: *const sbx_sandbox) -> *const c_char {
    call_or(ptr::null(), || call_with(sandbox, |object: &SandboxObject| Ok(object.id.as_ptr())))
}

/// The sandbox's name.
///
/// Any thread, never blocks. NULL if it has none, or for a bad handle.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_name(sandbox: *const sbx_sandbox) -> *const c_char {
    call_or(ptr::null(), || {
        call_with(sandbox, |object: &SandboxObject| {
            Ok(object.name.as_ref().map_or(ptr::null(), |name| name.as_ptr()))
        })
    })
}

/// The value of one of the sandbox's tags: sbx_config_set_tag.
///
/// Any thread, never blocks. NULL if there is no such tag, or for a bad handle or name.
///
/// # Safety
/// `name` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_tag(sandbox: *const sbx_sandbox, name: *const c_char) -> *const c_char {
    call_or(ptr::null(), || {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("tag", name) }?;
        call_with(sandbox, |object: &SandboxObject| {
            Ok(object.tags.get(name).map_or(ptr::null(), |value| value.as_ptr()))
        })
    })
}

/// Finds the sandbox of that name in a runtime (NULL: the default one), if it has not ended.
///
/// The result is another handle to the same sandbox, to be freed with sbx_sandbox_free; the sandbox ends when its
/// last handle is freed. Any thread, never blocks.
///
/// Returns 0 and sets *sandbox; SBX_ENOTFOUND, SBX_EINVALID, SBX_ELIMIT. With NULL also the errors of
/// sbx_runtime_new, except SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
///
/// # Safety
/// `name` must be a terminated text or NULL, `sandbox` must point to a place for the result, `error` to an error
/// struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_find(
    runtime: *mut sbx_runtime,
    name: *const c_char,
    sandbox: *mut *mut sbx_sandbox,
    error: *mut sbx_error,
) -> c_int {
    let find = || {
        // SAFETY: as the caller promises.
        let place = unsafe { input::out_param("sandbox", sandbox) }?;
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("name", name) }?;
        let found = runtime::of(runtime)?.find(name).map(SandboxObject::insert).transpose()?.flatten();
        let none = || Error::new(Code::NotFound, format!("there is no sandbox named {name:?}"));
        place.write(found.ok_or_else(none)?);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, find) }
}

/// Reports why the sandbox could not be created, after sbx_create_begin.
///
/// Any thread, never blocks.
///
/// Returns 0 if it was created or is still being created; otherwise the code, with *error filled as by sbx_create.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_failure(sandbox: *const sbx_sandbox, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(sandbox, error, |object: &SandboxObject| match object.sandbox.failure() {
            None => Ok(0),
            Some(failure) => Err(failure),
        })
    }
}

/// Opens the host's end of SBX_STDIN, SBX_STDOUT or SBX_STDERR that was configured as SBX_STREAM_DESCRIPTOR.
///
/// Once each. Standard input is an AF_UNIX stream, the outputs are pipes; the program has a pipe in each case.
/// Write with send and MSG_NOSIGNAL: writing to a program that has ended would otherwise raise SIGPIPE in your
/// process. The descriptor is non-blocking and close-on-exec; the caller owns and closes it. (For stdio or a
/// blocking read(2), clear O_NONBLOCK with fcntl(2): fgets takes EAGAIN for the end of the file.) Any thread, never
/// blocks.
///
/// Returns the descriptor; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ESTATE (opened already, or still
/// starting).
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_open_fd(
    sandbox: *mut sbx_sandbox,
    stream: i32,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(sandbox, error, |object: &SandboxObject| {
            Ok(object.sandbox.open_stream(input::stream(stream)?)?.into_raw_fd())
        })
    }
}

/// Gets what has been captured so far of SBX_STDOUT or SBX_STDERR: sbx_config_capture_stream.
///
/// Free it with sbx_capture_free. Any thread, any number of times, also after the end; never blocks.
///
/// Returns 0 and sets *capture; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ELIMIT.
///
/// # Safety
/// `capture` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_capture(
    sandbox: *const sbx_sandbox,
    stream: i32,
    capture: *mut *mut sbx_capture,
    error: *mut sbx_error,
) -> c_int {
    let make = |object: &SandboxObject| object.sandbox.captured(input::stream(stream)?);
    // SAFETY: as the caller promises.
    unsafe { call_new("capture", capture, error, || call_with(sandbox, make)) }
}
