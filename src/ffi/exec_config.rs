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

/// What a program in a running sandbox is asked to be. What isn't set is as for the sandbox's own program:
/// environment, directory, user.
///
/// As with sbx_config, a setter returns what is wrong at once and keeps it: the first bad value is what
/// sbx_exec_config_check and sbx_exec return with its text. Everything passed is copied. One config starts any
/// number of programs. One thread at a time sets; no function blocks.
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

/// Makes a config without a command: environment, directory and user of the sandbox, no streams, no time-out.
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

/// Says whether a program can be asked for with this: the first bad value, or the first broken rule between
/// settings.
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

/// Frees a config; NULL is allowed. Programs started with it are not affected.
///
/// # Safety
/// None: a handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_exec_config_free(config: *mut sbx_exec_config) {
    call_or((), || handle::take::<ExecObject>(config).map(drop));
}

/// The program and its arguments: `argc` texts, each shorter than 131072 bytes, and together with the environment, the
/// sandbox's included, at most 2097152, each counted with 9 more: Linux's own limits. The first is looked up in the
/// PATH of the program's environment unless it has a slash. It must be set.
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
    // SAFETY: as the caller promises.
    unsafe { set(config, |exec| exec.set_command(input::texts("command argument", argv, argc)?).map(drop)) }
}

/// Sets a variable of the environment, over the sandbox's of the same name: sbx_config_set_env.
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
    // SAFETY: as the caller promises.
    unsafe {
        set(config, |exec| {
            exec.set_env(
                input::text("environment variable name", name)?,
                input::text("environment variable value", value)?,
            )
            .map(drop)
        })
    }
}

/// The same for a secret: sbx_config_set_secret.
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
    // SAFETY: as the caller promises.
    unsafe {
        set(config, |exec| {
            exec.set_secret(input::text("secret name", name)?, input::text("secret value", value)?).map(drop)
        })
    }
}

/// The directory inside that the program starts in, an absolute path; made if it isn't there, as for the
/// sandbox's own program.
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
    // SAFETY: as the caller promises.
    unsafe { set(config, |exec| exec.set_workdir(input::text("workdir", path)?).map(drop)) }
}

/// Who the program runs as: "name", "uid", "uid:gid" or "name:group" of the sandbox.
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
    // SAFETY: as the caller promises.
    unsafe { set(config, |exec| exec.set_user(input::text("user", user)?).map(drop)) }
}

/// What becomes of SBX_STDIN, SBX_STDOUT or SBX_STDERR: SBX_STREAM_NULL (the default), SBX_STREAM_DESCRIPTOR or, for
/// SBX_STDERR, SBX_STREAM_MERGED. Each program has streams of its own; one whose reader stops reading waits, and no
/// other does.
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

/// Keeps the first `head_bytes` and the last `tail_bytes` bytes of SBX_STDOUT or SBX_STDERR for sbx_process_capture; each at
/// most 16 MiB, not both 0. 65536 each is a good choice. The program is never held up by it.
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

/// How long the program may run, in milliseconds, more than 0 (default: as long as the sandbox). Then it is killed
/// with its session and all that is below it: code 124 and SBX_EXIT_TIMED_OUT. A daemon that has begun a session of its
/// own and whose parents have ended lives on. The end is reported once the program no longer runs. If the sandbox's
/// init hasn't confirmed that within twenty seconds, the whole sandbox ends, as SBX_EXIT_ENGINE_LOST.
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

/// Gives the program a terminal of that size, each number from 1 to 65535, in the place of all three streams, which
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

/// Where the program's events go, SBX_EVENT_PROCESS_..., and the number they carry, which is the host's own. It may be
/// the sandbox's queue. Without a queue there are no events of it.
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
