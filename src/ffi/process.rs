//! `sbx_process`: a program executed in a running sandbox.

use std::ffi::c_int;
use std::os::fd::IntoRawFd;

use super::call::{call_on, call_or, call_with};
use super::capture::sbx_capture;
use super::codes::SBX_TERMINAL;
use super::error::sbx_error;
use super::exec_config::{ExecObject, sbx_exec_config};
use super::exit::sbx_exit;
use super::handle::{self, Object};
use super::sandbox::{SandboxObject, sbx_sandbox};
use super::{input, structs};
use crate::config::Exec;
use crate::error::Result;
use crate::sandbox::{Process, Sandbox};

/// A program that was executed in a running sandbox.
///
/// Any thread may call any of its functions at any time, several at once; only sbx_process_free comes last. It
/// doesn't keep the sandbox alive: the program ends with the sandbox.
#[derive(Debug)]
pub struct sbx_process {
    _private: [u8; 0],
}

impl Object for Process {
    type Opaque = sbx_process;
    const KIND: &'static str = "process";
}

unsafe fn start(
    sandbox: *mut sbx_sandbox,
    config: *const sbx_exec_config,
    process: *mut *mut sbx_process,
    error: *mut sbx_error,
    start: fn(&Sandbox, &Exec) -> Result<Process>,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(sandbox, error, |object: &SandboxObject| {
            let place = input::out_param("process", process)?;
            let exec = call_with(config, |config: &ExecObject| Ok(config.copy()))?;
            place.write(handle::insert(start(&object.sandbox, &exec)?)?);
            Ok(0)
        })
    }
}

/// Executes a program in a running sandbox and waits until it was started, which takes some milliseconds.
///
/// The config stays the caller's. The program leads a session and a process group of its own. Free the process with
/// sbx_process_free, which doesn't end it. Any thread; blocks (bounded). Hosts with an event loop use sbx_exec_begin.
///
/// Returns 0 and sets *process; SBX_EEXEC (not found, not executable, no such directory or user in the sandbox),
/// SBX_EINVALID, SBX_ESTATE (the sandbox is still starting, is being stopped, or has ended), SBX_ELIMIT,
/// SBX_EENGINE, SBX_ECLOSED, SBX_ESYSTEM.
///
/// # Safety
/// `process` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec(
    sandbox: *mut sbx_sandbox,
    config: *const sbx_exec_config,
    process: *mut *mut sbx_process,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { start(sandbox, config, process, error, Sandbox::exec) }
}

/// Begins to execute a program and returns at once.
///
/// That it was started is SBX_EVENT_PROCESS_STARTED on the config's queue. That it could not be is its end:
/// SBX_EVENT_PROCESS_EXITED with the error's number, and sbx_process_failure. The handle is valid and its streams can
/// be opened from now on, whatever happens. Any thread, never blocks.
///
/// Returns 0 and sets *process; codes as sbx_exec, less those of what comes later.
///
/// # Safety
/// As for sbx_exec.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_begin(
    sandbox: *mut sbx_sandbox,
    config: *const sbx_exec_config,
    process: *mut *mut sbx_process,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { start(sandbox, config, process, error, Sandbox::exec_begin) }
}

/// Waits until the program has ended. What it had written into a capture is in it then; what it had written into a
/// descriptor can be read to its end whenever the host likes.
///
/// `timeout_ms` is negative for ever, 0 to look only. `exit` may be NULL. A program that the sandbox's end takes along
/// ends as the sandbox does: 137 and SBX_EXIT_TERMINATED also if the sandbox's own program ended by itself. Any thread,
/// any number of times; blocks.
///
/// Returns 0 and fills *exit; SBX_ETIMEDOUT, SBX_ECLOSED, SBX_ESIZE; what starting it failed with, if it did.
///
/// # Safety
/// `exit` must point to an exit struct or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_process_wait(
    process: *mut sbx_process,
    timeout_ms: i64,
    exit: *mut sbx_exit,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(process, error, |process: &Process| {
            let size = if exit.is_null() { None } else { Some(structs::size(exit)?) };
            let ended = process.wait(input::timeout(timeout_ms))?;
            if let Some(size) = size {
                structs::write(exit, size, &sbx_exit::from(ended));
            }
            Ok(0)
        })
    }
}

/// Why the program could not be started, after sbx_exec_begin.
///
/// Any thread, never blocks.
///
/// Returns 0 if it was started or still is being; else the code, with *error filled as by sbx_exec; also
/// SBX_EHANDLE.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_process_failure(process: *const sbx_process, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_on(process, error, |process: &Process| process.failure().map_or(Ok(0), Err)) }
}

/// Sends a signal to the program's process group: to itself and to what it has started, unless that has left the group
/// (as the jobs of an interactive shell do).
///
/// One that is still being started gets it right after. One that has ended gets none, which is no error. Any thread,
/// never blocks.
///
/// Returns 0; SBX_EINVALID (not from 1 to 64).
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_process_signal(
    process: *mut sbx_process,
    signal: c_int,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_on(process, error, |process: &Process| process.signal(signal).map(|()| 0)) }
}

/// Gives the program's terminal another size, each number from 1 to 65535. The programs in its foreground get
/// SIGWINCH. What is typed goes another way, and may overtake it. Any thread, never blocks.
///
/// Returns 0; SBX_EINVALID, SBX_ENOTFOUND (it has no terminal).
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_process_resize(
    process: *mut sbx_process,
    rows: u32,
    columns: u32,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(process, error, |process: &Process| {
            let (rows, columns) = input::window(rows, columns)?;
            process.resize(rows, columns).map(|()| 0)
        })
    }
}

/// Opens the host's end of SBX_STDIN, SBX_STDOUT or SBX_STDERR that was configured as SBX_STREAM_DESCRIPTOR, or of
/// SBX_TERMINAL.
///
/// Once each, also before the program was started. Standard input is an AF_UNIX stream, the outputs are pipes; the
/// program has a pipe in each case. Write with send and MSG_NOSIGNAL, because writing to a program that has ended would
/// otherwise raise SIGPIPE in your process. The terminal is an AF_UNIX stream: what is written is typed, what is read is
/// shown, and closing it hangs up, which the program is told by SIGHUP. The terminal ends when its program has; an output
/// when no process inside holds it any more. Descriptors are non-blocking and close-on-exec; the caller owns and closes
/// them. Any thread, never blocks.
///
/// Returns the descriptor; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ESTATE (opened already).
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_process_open_fd(
    process: *mut sbx_process,
    stream: i32,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(process, error, |process: &Process| {
            let fd = match stream {
                SBX_TERMINAL => process.open_terminal()?,
                other => process.open_stream(input::stream(other)?)?,
            };
            Ok(fd.into_raw_fd())
        })
    }
}

/// What has been captured so far of SBX_STDOUT or SBX_STDERR: sbx_exec_config_capture_stream.
///
/// Free it with sbx_capture_free. Any thread, any number of times, also after the end; never blocks.
///
/// Returns 0 and sets *capture; SBX_EINVALID, SBX_ENOTFOUND (not so configured), SBX_ELIMIT.
///
/// # Safety
/// `capture` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_process_capture(
    process: *const sbx_process,
    stream: i32,
    capture: *mut *mut sbx_capture,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on(process, error, |process: &Process| {
            let place = input::out_param("capture", capture)?;
            place.write(handle::insert(process.captured(input::stream(stream)?)?)?);
            Ok(0)
        })
    }
}

/// Frees a process; NULL is allowed. The program is not ended by it, but what was not opened of its streams is closed
/// (a terminal hangs up).
///
/// Calls that wait on it return SBX_ECLOSED. Descriptors that were opened stay the caller's; captures live on. Any
/// thread, never blocks.
///
/// # Safety
/// None: a handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_process_free(process: *mut sbx_process) {
    call_or((), || {
        if let Some(process) = handle::take::<Process>(process)? {
            process.close();
        }
        Ok(())
    });
}
