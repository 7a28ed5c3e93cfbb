//! `sbx_log_set_fd`.

use std::ffi::c_int;
use std::ptr;

use log::LevelFilter;

use super::call::call;
use super::log_sink;
use crate::error::{Context, Error};
use crate::sys::descriptor;

/// Sends the library's log to a descriptor: a socket, pipe, terminal or file.
///
/// `level` is 0 nothing, 1 errors, 2 warnings, 3 information, 4 debugging, 5 tracing. With `fd` -1 or level 0
/// nothing is logged, which is the default. No secret is logged at any level: no environment, no key, no data of
/// tunnels.
///
/// The descriptor is duplicated and stays the caller's. There is one log for the whole process. Any thread, never
/// blocks, also not when the log's reader is slow: lines are lost then, and counted. While a line is written to
/// anything but a socket, SIGPIPE and SIGXFSZ are blocked on the writing thread.
///
/// Returns 0; SBX_EINVALID, SBX_ESYSTEM (not a usable descriptor), SBX_ESTATE (a Rust program that contains the
/// library has a logger of its own).
#[unsafe(no_mangle)]
pub extern "C" fn sbx_log_set_fd(fd: c_int, level: i32) -> c_int {
    // SAFETY: NULL is allowed.
    unsafe {
        call(ptr::null_mut(), || {
            let level = match level {
                0 => LevelFilter::Off,
                1 => LevelFilter::Error,
                2 => LevelFilter::Warn,
                3 => LevelFilter::Info,
                4 => LevelFilter::Debug,
                5 => LevelFilter::Trace,
                _ => return Err(Error::invalid(format!("log level {level}: must be from 0 to 5"))),
            };
            if fd == -1 || level == LevelFilter::Off {
                log_sink::close();
                return Ok(0);
            }
            log_sink::open(descriptor::duplicate(fd).context("duplicating the log descriptor")?, level)?;
            Ok(0)
        })
    }
}
