//! `sbx_sandbox`: its life and the ways to it.

use std::collections::BTreeMap;
use std::ffi::{CString, c_int};
use std::os::fd::IntoRawFd;

use super::call::{call, call_new, call_on, call_or, call_with};
use super::config::{ConfigObject, sbx_config};
use super::error::sbx_error;
use super::exit::sbx_exit;
use super::handle::{self, Object};
use super::input;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::runtime::{self, sbx_runtime};
use super::structs::{self, c_text};
use super::tunnel_map::{TunnelMapObject, sbx_tunnel_map};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::runtime::Runtime;
use crate::sandbox::Sandbox;

/// A sandbox.
///
/// Any thread may call any of its functions at any time, several at once; only sbx_sandbox_free comes last.
#[derive(Debug)]
pub struct sbx_sandbox {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(super) struct SandboxObject {
    pub(super) sandbox: Sandbox,
    pub(super) id: CString,
    pub(super) name: Option<CString>,
    pub(super) tags: BTreeMap<String, CString>,
}

impl SandboxObject {
    /// A handle to a sandbox. `None` if it was freed already.
    pub(super) fn insert(sandbox: Sandbox) -> Result<Option<*mut sbx_sandbox>> {
        if !sandbox.hold() {
            return Ok(None);
        }
        let tags = sandbox.tags().iter().map(|(name, value)| (name.clone(), c_text(value))).collect();
        let (id, name, held) = (c_text(sandbox.id()), sandbox.name().map(c_text), sandbox.clone());
        match handle::insert(Self { sandbox, id, name, tags }) {
            Ok(handle) => Ok(Some(handle)),
            Err(error) => {
                held.release();
                Err(error)
            }
        }
    }
}

impl Object for SandboxObject {
    type Opaque = sbx_sandbox;
    const KIND: &'static str = "sandbox";
}

unsafe fn create(
    runtime: *mut sbx_runtime,
    config: *const sbx_config,
    sandbox: *mut *mut sbx_sandbox,
    error: *mut sbx_error,
    start: fn(&Runtime, &Config) -> Result<Sandbox>,
) -> c_int {
    let create = || {
        // SAFETY: as the caller promises.
        let place = unsafe { input::out_param("sandbox", sandbox) }?;
        let config = handle::get::<ConfigObject>(config)?.copy();
        config.check()?;
        let sandbox = start(&runtime::of(runtime)?, &config)?;
        let object = SandboxObject::insert(sandbox)?;
        place.write(object.ok_or_else(|| Error::new(Code::Internal, "a new sandbox was freed"))?);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, create) }
}

/// Creates a sandbox and waits until its program was started.
///
/// `runtime` NULL is the default runtime. The config stays the caller's. Free the sandbox with
/// sbx_sandbox_free, which also ends it. Any thread; blocks for some hundred milliseconds (where the host hangs, for
/// 120 s of planning and 60 s of starting at most). Hosts with an event loop use sbx_create_begin.
///
/// Returns 0 and sets *sandbox; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_EEXISTS (the name, or a port to listen on), SBX_EEXEC (the program),
/// SBX_EHOST, SBX_ERUNSC_MISSING, SBX_ERUNSC_UNUSABLE, SBX_EENGINE, SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM. Nothing
/// is left of a sandbox that failed.
///
/// # Safety
/// `sandbox` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_create(
    runtime: *mut sbx_runtime,
    config: *const sbx_config,
    sandbox: *mut *mut sbx_sandbox,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { create(runtime, config, sandbox, error, Runtime::create) }
}

/// Begins to create a sandbox and returns at once.
///
/// It ends with SBX_EVENT_STARTED or SBX_EVENT_FAILED on the config's queue; sbx_sandbox_state and
/// sbx_sandbox_failure report it too. The handle is valid from now on, whatever happens. What is wrong with the
/// config, and a name that is taken, is returned by this call. Whatever needs a look at the host (a port, a
/// directory, runsc, limits) is reported later, with the code and text that sbx_create has for it. Any thread,
/// never blocks: what hangs on the host (a mount, runsc) delays this sandbox only, at most as long as sbx_create
/// may take, and the sandbox can be ended meanwhile.
///
/// Returns 0 and sets *sandbox; SBX_EINVALID, SBX_EUNSUPPORTED, SBX_EEXISTS, SBX_ELIMIT, SBX_EHOST (no /proc),
/// SBX_ECLOSED, SBX_ESYSTEM.
///
/// # Safety
/// As for sbx_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_create_begin(
    runtime: *mut sbx_runtime,
    config: *const sbx_config,
    sandbox: *mut *mut sbx_sandbox,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { create(runtime, config, sandbox, error, Runtime::create_begin) }
}

/// Waits until the listeners of the sandbox's tunnels exist and returns where they are.
///
/// That a tunnel exists doesn't mean that the server inside answers: see sbx_wait_ready. Free the map with
/// sbx_tunnel_map_free. Any thread; blocks.
///
/// Returns 0 and sets *tunnels; SBX_ETIMEDOUT, SBX_ESTATE (it has ended), SBX_ECLOSED, SBX_EINVALID, SBX_ELIMIT; if
/// the sandbox could not be created, that error.
///
/// # Safety
/// `tunnels` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_tunnels(
    sandbox: *mut sbx_sandbox,
    timeout_ms: i64,
    tunnels: *mut *mut sbx_tunnel_map,
    error: *mut sbx_error,
) -> c_int {
    let make = |object: &SandboxObject| {
        let map = object.sandbox.tunnels(input::timeout(timeout_ms))?;
        Ok(TunnelMapObject::new(&map))
    };
    // SAFETY: as the caller promises.
    unsafe { call_new("tunnels", tunnels, error, || call_with(sandbox, make)) }
}

/// Waits until the server inside answers: the config's probe, or without one a connection to the first port listed.
/// With neither there is nothing to ask: SBX_EINVALID.
///
/// Any thread; blocks. Hosts with an event loop call it with a timeout of 0: that polls, and without a probe in the
/// config it starts probing, so that SBX_EVENT_READY follows.
///
/// Returns 0; SBX_ETIMEDOUT, SBX_EINVALID (nothing to ask), SBX_ESTATE (it has ended), SBX_ECLOSED; if the sandbox
/// could not be created, that error.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_wait_ready(
    sandbox: *mut sbx_sandbox,
    timeout_ms: i64,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on::<SandboxObject>(sandbox, error, |object| {
            object.sandbox.wait_ready(input::timeout(timeout_ms)).map(|()| 0)
        })
    }
}

/// Waits until the sandbox has ended and nothing of it is left.
///
/// `exit` may be NULL. Any thread, any number of times; blocks.
///
/// Returns 0 and fills *exit; SBX_ETIMEDOUT, SBX_ECLOSED, SBX_ESIZE; if the sandbox could not be created, that
/// error.
///
/// # Safety
/// `exit` must point to an exit struct or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_wait(
    sandbox: *mut sbx_sandbox,
    timeout_ms: i64,
    exit: *mut sbx_exit,
    error: *mut sbx_error,
) -> c_int {
    let wait = |object: &SandboxObject| {
        // SAFETY: as the caller promises.
        let exit = unsafe { structs::optional_output("exit", exit) }?;
        let ended = object.sandbox.wait(input::timeout(timeout_ms))?;
        if let Some(exit) = exit {
            exit.write(&sbx_exit::from(ended));
        }
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(sandbox, error, wait) }
}

/// Ends the sandbox, with code 137 and SBX_EXIT_TERMINATED. One that is still being created fails, with SBX_ECLOSED and
/// SBX_EVENT_FAILED. An exit snapshot (sbx_config_set_exit_snapshot) is taken before it ends; a second call gives that up.
///
/// Any thread, any time, any number of times; never blocks. Wait for the end with sbx_wait, SBX_EVENT_EXITED or
/// SBX_EVENT_FAILED. A sandbox that has ended stays as it ended.
///
/// Returns 0.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_terminate(sandbox: *mut sbx_sandbox, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_on::<SandboxObject>(sandbox, error, |object| object.sandbox.terminate().map(|()| 0)) }
}

/// Shuts the sandbox down gracefully: sends its program a signal (0 is the image's StopSignal, or else SIGTERM), accepts no further
/// connection, and ends the sandbox when the program and the last connection have ended. What is left after
/// `grace_ms` milliseconds is killed. A sandbox without a command ends when every program executed in it has ended;
/// all of them get the signal.
///
/// The sandbox ends as its program did (SBX_EXIT_EXITED or SBX_EXIT_SIGNALLED); or with SBX_EXIT_TERMINATED and 137
/// if the program had to be killed, or if there is none. One that is still being created fails, with SBX_ECLOSED and
/// SBX_EVENT_FAILED. Calling it again sends the signal again and may shorten the time. Any thread, any time; never
/// blocks. Wait for the end with sbx_wait, SBX_EVENT_EXITED or SBX_EVENT_FAILED. A sandbox that has ended stays as it ended.
///
/// Returns 0; SBX_EINVALID (the signal is not from 0 to 64, or the time is negative).
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_stop(
    sandbox: *mut sbx_sandbox,
    signal: c_int,
    grace_ms: i64,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on::<SandboxObject>(sandbox, error, |object| {
            object.sandbox.stop(signal, input::duration("grace_ms", grace_ms)?).map(|()| 0)
        })
    }
}

/// Connects to a port inside, without any port on the host. The port need not be listed in the config.
///
/// The descriptor is an AF_UNIX stream socket, non-blocking and close-on-exec, which the caller owns and closes. Any
/// thread; blocks until it is connected or refused, a few seconds at most. Hosts with an event loop use
/// sbx_connect_begin.
///
/// Returns the descriptor; SBX_EREFUSED, SBX_EINVALID, SBX_ESTATE, SBX_EUNSUPPORTED, SBX_ETIMEDOUT, SBX_ECLOSED,
/// SBX_ELIMIT, SBX_ESYSTEM.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_connect(sandbox: *mut sbx_sandbox, port: u32, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        call_on::<SandboxObject>(sandbox, error, |object| {
            Ok(object.sandbox.connect(input::port(port)?)?.into_raw_fd())
        })
    }
}

/// Begins sbx_connect: sbx_operation_open_fd gives the descriptor, once.
///
/// Cancelling it closes the connection that may have been made. sbx_operation says what holds for everything that is
/// begun.
///
/// Returns 0; SBX_EINVALID, SBX_ESTATE, SBX_ECLOSED, SBX_ELIMIT, SBX_ESYSTEM.
///
/// # Safety
/// `operation` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_connect_begin(
    sandbox: *mut sbx_sandbox,
    port: u32,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |object: &SandboxObject, events: Events<'_>| {
        Ok(Work::Connection(object.sandbox.connect_begin(input::port(port)?, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.on(sandbox, start) }
}

/// Sends a signal to the sandbox's program, not to its children.
///
/// Any thread, never blocks.
///
/// Returns 0; SBX_EINVALID (not from 1 to 64), SBX_ESTATE (it isn't running, or there is no program), SBX_ECLOSED.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_signal(
    sandbox: *mut sbx_sandbox,
    signal: c_int,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_on::<SandboxObject>(sandbox, error, |object| object.sandbox.signal(signal).map(|()| 0)) }
}

/// Frees a sandbox and ends it if it still runs, without an exit snapshot. Of several handles to the same sandbox (sbx_sandbox_find) the last
/// one that is freed ends it.
///
/// Calls that wait on it return SBX_ECLOSED. Descriptors that were opened stay the caller's; tunnel maps and
/// captures live on. Any thread, never blocks.
///
/// # Safety
/// No text of the sandbox may be used after. A handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_free(sandbox: *mut sbx_sandbox) {
    call_or((), || {
        if let Some(object) = handle::take::<SandboxObject>(sandbox)? {
            // Not when the object is dropped: those who wait on it hold it, and are to return now.
            object.sandbox.release();
        }
        Ok(())
    });
}
