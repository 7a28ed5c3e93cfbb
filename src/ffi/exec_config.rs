//! `sbx_exec_config`: what a program in a running sandbox is asked to be.

use std::ffi::{c_char, c_int};

use super::call::{call_new, call_on, call_or, call_with};
use super::config_streams::mode_of;
use super::draft::{self, Draft};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::input;
use super::queue::sbx_queue;
use crate::config::{Exec, Stdio};
use crate::error::Result;
use crate::event::Queue;

/// How a program is executed in a running sandbox. What isn't set is as for the sandbox's own program: environment,
/// directory, user.
///
/// As with sbx_config, a setter returns at once what is wrong and keeps it: sbx_exec_config_check and sbx_exec
/// return the first bad value, with its text. One config starts any number of programs. One thread at a time sets;
/// no function blocks.
#[derive(Debug)]
pub struct sbx_exec_config {
    _private: [u8; 0],
}

pub(super) type ExecObject = Draft<Exec>;

impl Object for ExecObject {
    type Opaque = sbx_exec_config;
    const KIND: &'static str = "exec config";
}

/// Runs a setter.
fn set(config: *mut sbx_exec_config, setter: impl FnOnce(&mut Exec) -> Result<()>) -> c_int {
    draft::set(config, setter)
}

/// Makes a config without a command: the sandbox's environment, directory and user, no streams, no timeout.
///
/// Free it with sbx_exec_config_free. Any thread, never blocks.
///
/// Returns 0 and sets *config; SBX_EINVALID, SBX_ELIMIT (no handle is left).
///
/// # Safety
/// `config` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_new(
    config: *mut *mut sbx_exec_config,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_new("config", config, error, || Ok(ExecObject::default())) }
}

/// Checks a config: returns the first bad value, or the first rule between settings that is broken.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_check(
    config: *const sbx_exec_config,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_on::<ExecObject>(config, error, |config| config.copy().check().map(|()| 0)) }
}

/// Frees a config. Programs started with it are not affected.
///
/// # Safety
/// None: a handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_free(config: *mut sbx_exec_config) {
    call_or((), || handle::take::<ExecObject>(config).map(drop));
}

/// Sets the program and its arguments: `argc` texts. It must be set.
///
/// Linux's limits hold: each text is shorter than 131072 bytes, and together with the environment, the sandbox's
/// included, they have at most 2097152, with 9 more counted for each. The first is looked up in the PATH of the
/// program's environment unless it contains a slash.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `argv` must point to `argc` terminated texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_command(
    config: *mut sbx_exec_config,
    argv: *const *const c_char,
    argc: usize,
) -> c_int {
    set(config, |exec| {
        // SAFETY: as the caller promises.
        let argv = unsafe { input::texts("command argument", argv, argc) }?;
        exec.set_command(argv).map(drop)
    })
}

/// Sets an environment variable, over the sandbox's of the same name: sbx_config_set_env.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` and `value` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_env(
    config: *mut sbx_exec_config,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    set(config, |exec| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("environment variable name", name) }?;
        // SAFETY: as the caller promises.
        let value = unsafe { input::text("environment variable value", value) }?;
        exec.set_env(name, value).map(drop)
    })
}

/// Sets a secret environment variable: sbx_config_set_secret.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` and `value` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_secret(
    config: *mut sbx_exec_config,
    name: *const c_char,
    value: *const c_char,
) -> c_int {
    set(config, |exec| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("secret name", name) }?;
        // SAFETY: as the caller promises.
        let value = unsafe { input::text("secret value", value) }?;
        exec.set_secret(name, value).map(drop)
    })
}

/// Sets the directory inside that the program starts in, an absolute path. If it doesn't exist, it is made as for
/// the sandbox's own program.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `path` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_workdir(
    config: *mut sbx_exec_config,
    path: *const c_char,
) -> c_int {
    set(config, |exec| {
        // SAFETY: as the caller promises.
        let path = unsafe { input::text("workdir", path) }?;
        exec.set_workdir(path).map(drop)
    })
}

/// Sets the user that the program runs as: "name", "uid", "uid:gid" or "name:group" of the sandbox.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `user` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_user(
    config: *mut sbx_exec_config,
    user: *const c_char,
) -> c_int {
    set(config, |exec| {
        // SAFETY: as the caller promises.
        let user = unsafe { input::text("user", user) }?;
        exec.set_user(user).map(drop)
    })
}

/// Sets what SBX_STDIN, SBX_STDOUT or SBX_STDERR is connected to: SBX_STREAM_NULL (the default),
/// SBX_STREAM_DESCRIPTOR or, for SBX_STDERR, SBX_STREAM_MERGED. Each program has streams of its own: one whose
/// reader stops reading waits, and no other does.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_stream(
    config: *mut sbx_exec_config,
    stream: i32,
    mode: i32,
) -> c_int {
    set(config, |exec| exec.set_stdio(input::stream(stream)?, mode_of(mode)?).map(drop))
}

/// Captures SBX_STDOUT or SBX_STDERR: its first `head_bytes` and its last `tail_bytes` bytes are kept for
/// sbx_process_capture. Each is at most 16 MiB, not both 0; 65536 each is a good choice. The program never waits
/// for it.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_capture_stream(
    config: *mut sbx_exec_config,
    stream: i32,
    head_bytes: usize,
    tail_bytes: usize,
) -> c_int {
    let kept = Stdio::Capture { head: head_bytes, tail: tail_bytes };
    set(config, |exec| exec.set_stdio(input::stream(stream)?, kept).map(drop))
}

/// Sets how long the program may run, in milliseconds, more than 0 (default: as long as the sandbox). Then it is
/// killed, with its session and all its descendants: code 124 and SBX_EXIT_TIMED_OUT. A daemon that has begun a
/// session of its own and whose parents have ended lives on. The exit is reported when the program no longer runs.
/// If the sandbox's init hasn't confirmed that within twenty seconds, the whole sandbox ends, as
/// SBX_EXIT_ENGINE_LOST.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_timeout_ms(
    config: *mut sbx_exec_config,
    timeout_ms: i64,
) -> c_int {
    set(config, |exec| exec.set_timeout(input::duration("timeout_ms", timeout_ms)?).map(drop))
}

/// Gives the program a terminal of that size, each number from 1 to 65535, in place of all three streams, which
/// must not be set then: sbx_process_open_fd with SBX_TERMINAL. TERM is "xterm" unless it is set.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_pty(
    config: *mut sbx_exec_config,
    rows: u32,
    columns: u32,
) -> c_int {
    set(config, |exec| {
        let (rows, columns) = input::window(rows, columns)?;
        exec.set_pty(rows, columns).map(drop)
    })
}

/// Sets where the program's events, SBX_EVENT_PROCESS_..., go, and the cookie that they carry, a number of the
/// host's own. It may be the sandbox's queue. Without a queue the program has no events.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_set_queue(
    config: *mut sbx_exec_config,
    queue: *mut sbx_queue,
    cookie: u64,
) -> c_int {
    set(config, |exec| call_with(queue, |queue: &Queue| exec.set_queue(queue, cookie).map(drop)))
}
