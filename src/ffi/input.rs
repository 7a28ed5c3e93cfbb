//! Reading what the host passes: texts, lists, times, numbers for enums.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::slice;
use std::time::Duration;

use crate::config::Stream;
use crate::error::{Error, Result};

/// The longest text that is looked at.
const LONGEST_TEXT: usize = 1 << 20;
/// The longest list that is looked at.
const LONGEST_LIST: usize = 1 << 16;

/// A text of the host's; `what` names it in messages.
///
/// # Safety
/// `at` must be NULL or point to a NUL-terminated text that stays as it is for `'a`.
pub(super) unsafe fn text<'a>(what: &str, at: *const c_char) -> Result<&'a str> {
    // SAFETY: as the caller promises.
    let bytes = unsafe { terminated(what, at)? };
    std::str::from_utf8(bytes)
        .map_err(|error| Error::invalid(format!("{what}: is not UTF-8 from byte {} on", error.valid_up_to())))
}

/// A path in a sandbox: bytes, which need not be UTF-8.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn path(what: &str, at: *const c_char) -> Result<PathBuf> {
    // SAFETY: as the caller promises.
    let bytes = unsafe { terminated(what, at)? };
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// The bytes before a NUL.
///
/// # Safety
/// As for [`text`].
unsafe fn terminated<'a>(what: &str, at: *const c_char) -> Result<&'a [u8]> {
    if at.is_null() {
        return Err(Error::invalid(format!("{what}: must not be NULL")));
    }
    // SAFETY: not NULL, and reads no further than the NUL or the limit.
    let length = unsafe { libc::strnlen(at, LONGEST_TEXT + 1) };
    if length > LONGEST_TEXT {
        return Err(Error::invalid(format!("{what}: is longer than {LONGEST_TEXT} bytes")));
    }
    // SAFETY: that many bytes lie before the NUL.
    Ok(unsafe { slice::from_raw_parts(at.cast::<u8>(), length) })
}

/// Bytes of the host's. NULL is allowed if there are none.
///
/// # Safety
/// `at` must point to `length` readable bytes, which stay as they are for `'a`.
pub(super) unsafe fn bytes<'a>(what: &str, at: *const u8, length: usize) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    if at.is_null() || isize::try_from(length).is_err() {
        return Err(Error::invalid(format!("{what}: {length} bytes can't be at {at:?}")));
    }
    // SAFETY: the host says that `length` bytes are there.
    Ok(unsafe { slice::from_raw_parts(at, length) })
}

/// A list of texts. NULL is allowed for an empty one.
///
/// # Safety
/// `at` must point to `count` pointers as [`text`] takes them, all of which stay as they are for `'a`.
pub(super) unsafe fn texts<'a>(what: &str, at: *const *const c_char, count: usize) -> Result<Vec<&'a str>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if at.is_null() {
        return Err(Error::invalid(format!("{what}: the list must not be NULL with a count of {count}")));
    }
    if count > LONGEST_LIST {
        return Err(Error::invalid(format!(
            "{what}: a count of {count} is over the limit of {LONGEST_LIST}"
        )));
    }
    // SAFETY: the host says that `count` pointers are there.
    let pointers = unsafe { slice::from_raw_parts(at, count) };
    pointers
        .iter()
        .enumerate()
        // SAFETY: each as the caller promises.
        .map(|(index, pointer)| unsafe { text(&format!("{what} {index}"), *pointer) })
        .collect()
}

/// How long a call may wait: for ever if negative.
pub(super) fn timeout(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

/// A time that must not be negative.
pub(super) fn duration(what: &str, milliseconds: i64) -> Result<Duration> {
    timeout(milliseconds)
        .ok_or_else(|| Error::invalid(format!("{what} {milliseconds}: must not be negative")))
}

/// One of SBX_STDIN, SBX_STDOUT, SBX_STDERR.
pub(super) fn stream(number: i32) -> Result<Stream> {
    match number {
        0 => Ok(Stream::Stdin),
        1 => Ok(Stream::Stdout),
        2 => Ok(Stream::Stderr),
        _ => Err(Error::invalid(format!("stream {number}: must be SBX_STDIN, SBX_STDOUT or SBX_STDERR"))),
    }
}

/// A port from 1 to 65535.
pub(super) fn port(number: u32) -> Result<u16> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Error::invalid(format!("port {number}: must be from 1 to 65535")))
}

/// A place to write a result to.
///
/// # Safety
/// `at` must be NULL or point to a writable place of the host's, which the result may be written to now.
pub(super) unsafe fn out_param<'a, T>(what: &str, at: *mut T) -> Result<&'a mut std::mem::MaybeUninit<T>> {
    // SAFETY: MaybeUninit has the layout of T and no validity rule; the caller promises the rest.
    unsafe { at.cast::<std::mem::MaybeUninit<T>>().as_mut() }
        .ok_or_else(|| Error::invalid(format!("{what}: must not be NULL")))
}

/// The size of a terminal: rows and columns, each from 1 to 65535.
pub(super) fn window(rows: u32, columns: u32) -> Result<(u16, u16)> {
    let number = |what, number: u32| {
        u16::try_from(number)
            .ok()
            .filter(|number| *number != 0)
            .ok_or_else(|| Error::invalid(format!("pty: {what} {number}: must be from 1 to 65535")))
    };
    Ok((number("rows", rows)?, number("columns", columns)?))
}
