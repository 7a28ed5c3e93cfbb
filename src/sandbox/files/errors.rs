//! Errors of file operations: what failed in the sandbox, and what to do.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Code, Error};
use crate::keeper::wire::files::Step;

/// The error for a failure that a helper has reported.
pub(super) fn failed(title: &str, step: Step, errno: i32, path: Vec<u8>) -> Error {
    // It comes from inside: only what can be an error number is taken for one.
    let errno = if (1..4096).contains(&errno) { errno } else { libc::EIO };
    let cause = io::Error::from_raw_os_error(errno);
    let place = PathBuf::from(OsString::from_vec(path));
    let place = if place.as_os_str().is_empty() { String::new() } else { format!(" (at {place:?})") };
    let plain =
        |code: Code, text: &str| Error::system(format!("{title}{place}: {text}"), &cause).with_code(code);
    let by_number = match errno {
        libc::ENOENT | libc::ENOTDIR => Code::NotFound,
        libc::EEXIST => Code::Exists,
        _ => Code::System,
    };
    match step {
        Step::Start => plain(Code::Limit, "no helper could be started in the sandbox"),
        Step::User if errno == libc::ENOENT => {
            plain(Code::NotFound, "the user or group is not known in the sandbox's /etc/passwd or /etc/group")
        }
        Step::User => plain(Code::System, "the helper can't become that user"),
        Step::Kind => {
            plain(Code::Unsupported, "it is not a regular file, and only those are read and written")
        }
        Step::Limit if errno == libc::ENOMEM => {
            plain(Code::Limit, "the file is larger than what of the free memory can be used to read it")
        }
        Step::Limit => plain(Code::Limit, "there is more than the limit allows: raise it, or use a stream"),
        Step::Stream => plain(Code::Closed, "the host's end of the stream was closed, or broke"),
        Step::Archive => plain(Code::Invalid, "it is not a tar archive, or was cut short"),
        Step::Escape => plain(
            Code::Invalid,
            "the entry would lie outside of the directory: absolute, through \"..\" or through a symbolic link",
        ),
        Step::Unpackable => plain(
            Code::Unsupported,
            "the entry is of a kind that is not unpacked: devices and sparse files are not",
        ),
        Step::Depth => plain(Code::Limit, "the tree is too deep, or leads to too many open directories"),
        Step::Shrank => plain(Code::System, "a file became shorter while it was copied"),
        Step::Open | Step::Read | Step::Write | Step::Make | Step::Remove | Step::Rename => {
            Error::system(format!("{title}{place}"), &cause).with_code(by_number)
        }
    }
}
