//! `sbx_process`: a program executed in a running sandbox.

use std::ffi::c_int;
use std::os::fd::IntoRawFd;

use super::call::{call_new, call_on, call_or, call_with};
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

/// A program executed in a running sandbox.
///
/// Any thread may call any of its functions at any time, several at once; only sbx_process_free comes last. A
/// handle doesn't keep the sandbox alive: the program ends with the sandbox.
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
    let make = |object: &SandboxObject| {
        let exec = call_with(config, |config: &ExecObject| Ok(config.copy()))?;
        start(&object.sandbox, &exec)
    };
    // SAFETY: as the caller promises.
    unsafe { call_new("process", process, error, || call_with(sandbox, make)) }
}

/// Executes a program in a running sandbox and waits until it was started, which takes some milliseconds.
///
/// The config stays the caller's. The program leads a session and a process group of its own. Free the process with
/// sbx_process_free, which doesn't end the program. Any thread; blocks (bounded). Hosts with an event loop use
/// sbx_exec_begin.
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
/// SBX_EVENT_PROCESS_STARTED on the config's queue reports that it was started. If it can't be started,
/// SBX_EVENT_PROCESS_EXITED reports the error, and so does sbx_process_failure. The handle is valid and its streams
/// can be opened from now on, whatever happens. Any thread, never blocks.
///
/// Returns 0 and sets *process; the errors of sbx_exec that are known at once.
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

/// Waits until the program has ended. A capture contains all that it wrote by then; descriptors of its streams can
/// be read to their end at any later time.
///
/// `exit` may be NULL. A program that still runs when the sandbox ends gets the sandbox's exit reason; if the
/// sandbox's own program ended by itself, it is 137 and SBX_EXIT_TERMINATED. Any thread, any number of times;
/// blocks.
///
/// Returns 0 and fills *exit; SBX_ETIMEDOUT, SBX_ECLOSED, SBX_ESIZE; if the program could not be started, that
/// error.
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
    let wait = |process: &Process| {
        // SAFETY: as the caller promises.
        let exit = unsafe { structs::optional_output("exit", exit) }?;
        let ended = process.wait(input::timeout(timeout_ms))?;
        if let Some(exit) = exit {
            exit.write(&sbx_exit::from(ended));
        }
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(process, error, wait) }
}

/// Reports why the program could not be started, after sbx_exec_begin.
///
/// Any thread, never blocks.
///
/// Returns 0 if it was started or is still being started; otherwise the code, with *error filled as by sbx_exec.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_process_failure(process: *const sbx_process, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_on(process, error, |process: &Process| process.failure().map_or(Ok(0), Err)) }
}

/// Sends a signal to the program's process group: to the program and what it has started, except what has left the
/// group (as the jobs of an interactive shell do).
///
/// A program that is still being started gets it right after. For one that has ended it does nothing and returns 0.
/// Any thread, never blocks.
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

/// Changes the size of the program's terminal, each number from 1 to 65535. The programs in its foreground get
/// SIGWINCH. The change may overtake what was typed before it. Any thread, never blocks.
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
/// program has a pipe in each case. Write with send and MSG_NOSIGNAL: writing to a program that has ended would
/// otherwise raise SIGPIPE in your process. The terminal is an AF_UNIX stream: what is written is typed, what is
/// read is shown, and closing it hangs up, so that the program gets SIGHUP. The terminal reads end-of-file when the
/// program has ended, an output when no process inside holds it any more. Descriptors are non-blocking and
/// close-on-exec; the caller owns and closes them. Any thread, never blocks.
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

/// Gets what has been captured so far of SBX_STDOUT or SBX_STDERR: sbx_exec_config_capture_stream.
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
    let make = |process: &Process| process.captured(input::stream(stream)?);
    // SAFETY: as the caller promises.
    unsafe { call_new("capture", capture, error, || call_with(process, make)) }
}

/// Frees a process. That doesn't end the program, but those of its streams that were not opened are closed (a
/// terminal hangs up).
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
