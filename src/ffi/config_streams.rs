//! `sbx_config`: standard streams, readiness, events.

use std::ffi::{c_char, c_int};

use super::call::call_with;
use super::codes::{SBX_STREAM_DESCRIPTOR, SBX_STREAM_MERGED, SBX_STREAM_NULL};
use super::config::{sbx_config, set};
use super::input;
use super::queue::sbx_queue;
use crate::config::{Probe, Stdio};
use crate::error::{Error, Result};
use crate::event::Queue;

/// One of SBX_STREAM_....
pub(super) fn mode_of(mode: i32) -> Result<Stdio> {
    match mode {
        SBX_STREAM_NULL => Ok(Stdio::Null),
        SBX_STREAM_DESCRIPTOR => Ok(Stdio::Descriptor),
        SBX_STREAM_MERGED => Ok(Stdio::Merged),
        _ => Err(Error::invalid(format!("stream mode {mode}: must be one of SBX_STREAM_..."))),
    }
}

/// Sets what SBX_STDIN, SBX_STDOUT or SBX_STDERR is connected to: SBX_STREAM_NULL (the default),
/// SBX_STREAM_DESCRIPTOR or, for SBX_STDERR, SBX_STREAM_MERGED.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_stream(config: *mut sbx_config, stream: i32, mode: i32) -> c_int {
    set(config, |config| config.set_stdio(input::stream(stream)?, mode_of(mode)?).map(drop))
}

/// Captures SBX_STDOUT or SBX_STDERR: its first `head_bytes` and its last `tail_bytes` bytes are kept for
/// sbx_sandbox_capture. Each is at most 16 MiB, not both 0; 65536 each is a good choice.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_capture_stream(
    config: *mut sbx_config,
    stream: i32,
    head_bytes: usize,
    tail_bytes: usize,
) -> c_int {
    let kept = Stdio::Capture { head: head_bytes, tail: tail_bytes };
    set(config, |config| config.set_stdio(input::stream(stream)?, kept).map(drop))
}

/// Probes readiness by TCP: the server inside is ready when a connection to its port succeeds. It is tried every
/// `interval_ms` milliseconds, more than 0 (100 is a good choice). A sandbox has at most one probe: sbx_wait_ready,
/// SBX_EVENT_READY.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_tcp_probe(
    config: *mut sbx_config,
    port: u32,
    interval_ms: i64,
) -> c_int {
    set(config, |config| {
        let probe = Probe::tcp(input::port(port)?).every(input::duration("interval_ms", interval_ms)?);
        config.set_readiness_probe(probe).map(drop)
    })
}

/// Probes readiness by a program: the server inside is ready when the program ends with code 0. It is run every
/// `interval_ms` milliseconds, more than 0. The arguments are bounded as in sbx_config_set_command.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `argv` must point to `argc` terminated texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_exec_probe(
    config: *mut sbx_config,
    argv: *const *const c_char,
    argc: usize,
    interval_ms: i64,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let command = unsafe { input::texts("readiness probe argument", argv, argc) }?;
        let probe = Probe::exec(command).every(input::duration("interval_ms", interval_ms)?);
        config.set_readiness_probe(probe).map(drop)
    })
}

/// Sets where the sandbox's events go, and the cookie that they carry, a number of the host's own. The queue may be
/// freed before the sandbox ends.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_queue(
    config: *mut sbx_config,
    queue: *mut sbx_queue,
    cookie: u64,
) -> c_int {
    set(config, |config| call_with(queue, |queue: &Queue| config.set_queue(queue, cookie).map(drop)))
}
