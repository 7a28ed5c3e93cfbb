//! `sbx_file_options` and `sbx_file_info`.

use std::ffi::c_char;
use std::ptr;
use std::time::Duration;

use super::codes::{
    SBX_FILE_APPEND, SBX_FILE_EXCLUSIVE, SBX_FILE_KEEP_OWNER, SBX_FILE_MISSING_OK, SBX_FILE_NO_FOLLOW,
    SBX_FILE_PARENTS, SBX_FILE_RECURSIVE,
};
use super::input;
use super::structs::{self, Layout};
use crate::error::{Error, Result};
use crate::sandbox::files::{FileInfo, FileOptions};

/// How an operation on files is done. The caller owns it; zero it or use SBX_FILE_OPTIONS_INIT, which suits
/// most, as NULL does. What an operation has no use for is SBX_EINVALID when it is set.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_file_options {
    /// sizeof(sbx_file_options), or 0.
    pub size: u32,
    /// SBX_FILE_..., added up.
    pub flags: u32,
    /// The permissions of a file or directory that is made, exactly; a file that is there gets them too. 0:
    /// 0644 for files and 0755 for directories, and what is there keeps its own.
    pub mode: u32,
    /// 0.
    pub reserved: u32,
    /// Where reading begins, for read and download.
    pub offset: u64,
    /// The most bytes of a file or an archive, or entries of a list; more is SBX_ELIMIT. 0: 16 MiB for read and
    /// write, 100,000 entries for list, and no limit for others. Read and write allow up to 1 GiB, list up to a
    /// million.
    pub limit: u64,
    /// When to give up, with SBX_ETIMEDOUT, in milliseconds. 0: never. Not for a watch.
    pub timeout_ms: i64,
    /// Whose rights it has: "name", "uid", "uid:gid" or "name:group", as the sandbox knows them. NULL: root.
    pub user: *const c_char,
    /// How long nothing may move while it is the sandbox's turn to move it, in milliseconds; then SBX_ETIMEDOUT. Code
    /// inside can stop the helper that does the work. 0: a minute; negative: no limit. Not for a watch.
    pub stall_timeout_ms: i64,
}

// SAFETY: repr(C), begins with its size, 56 bytes without padding (48 in its first layout), integers and raw
// pointers only.
unsafe impl Layout for sbx_file_options {
    const NAME: &'static str = "sbx_file_options";
    const FIRST: usize = 48;
}

/// What a file is, as the sandbox says. The caller owns it; zero it or use SBX_FILE_INFO_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_file_info {
    /// sizeof(sbx_file_info), or 0.
    pub size: u32,
    /// SBX_FILE_KIND_....
    pub kind: u32,
    /// Its permissions, from 0 to 07777.
    pub mode: u32,
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// How many names it has.
    pub links: u32,
    /// Its length.
    pub bytes: u64,
    /// When its content was last changed, in nanoseconds since 1970.
    pub modified_ns: i64,
}

// SAFETY: repr(C), begins with its size, 40 bytes without padding, integers only.
unsafe impl Layout for sbx_file_info {
    const NAME: &'static str = "sbx_file_info";
    const FIRST: usize = 40;
}

impl From<&FileInfo> for sbx_file_info {
    fn from(info: &FileInfo) -> Self {
        Self {
            size: 0,
            kind: info.kind as u32,
            mode: info.mode,
            user: info.user,
            group: info.group,
            links: info.links,
            bytes: info.size,
            modified_ns: info.modified_ns,
        }
    }
}

/// Reads the host's options; NULL is the default.
///
/// # Safety
/// `at` must be NULL or point to a struct of the host's that has the size it says, whose user is a text or NULL.
pub(super) unsafe fn read_options(at: *const sbx_file_options) -> Result<FileOptions> {
    const ZERO: sbx_file_options = sbx_file_options {
        size: 0,
        flags: 0,
        mode: 0,
        reserved: 0,
        offset: 0,
        limit: 0,
        timeout_ms: 0,
        user: ptr::null(),
        stall_timeout_ms: 0,
    };
    // SAFETY: as the caller promises.
    let given = unsafe { structs::read(at, ZERO) }?;
    let Some(given) = given else { return Ok(FileOptions::default()) };
    let known = SBX_FILE_RECURSIVE
        | SBX_FILE_PARENTS
        | SBX_FILE_EXCLUSIVE
        | SBX_FILE_APPEND
        | SBX_FILE_NO_FOLLOW
        | SBX_FILE_KEEP_OWNER
        | SBX_FILE_MISSING_OK;
    if given.flags & !known != 0 || given.reserved != 0 {
        let message =
            format!("file flags {:#x}: only SBX_FILE_... may be set, and reserved is 0", given.flags);
        return Err(Error::invalid(message));
    }
    let timeout = input::duration("timeout_ms", given.timeout_ms)?;
    let stall_timeout = match given.stall_timeout_ms {
        0 => None,
        time => Some(input::timeout(time).unwrap_or(Duration::MAX)),
    };
    let user = if given.user.is_null() {
        None
    } else {
        // SAFETY: as the caller promises.
        Some(unsafe { input::text("user", given.user) }?.to_owned())
    };
    let has = |flag: u32| given.flags & flag != 0;
    Ok(FileOptions {
        user,
        mode: (given.mode != 0).then_some(given.mode),
        offset: given.offset,
        limit: (given.limit != 0).then_some(given.limit),
        timeout: (!timeout.is_zero()).then_some(timeout),
        stall_timeout,
        recursive: has(SBX_FILE_RECURSIVE),
        parents: has(SBX_FILE_PARENTS),
        exclusive: has(SBX_FILE_EXCLUSIVE),
        append: has(SBX_FILE_APPEND),
        no_follow: has(SBX_FILE_NO_FOLLOW),
        keep_owner: has(SBX_FILE_KEEP_OWNER),
        missing_ok: has(SBX_FILE_MISSING_OK),
    })
}
