//! `sbx_file_options`, `sbx_file_entry` and `sbx_file_totals`.

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use super::codes::{
    SBX_FILE_APPEND, SBX_FILE_EXCLUSIVE, SBX_FILE_KEEP_OWNER, SBX_FILE_MISSING_OK, SBX_FILE_NO_FOLLOW,
    SBX_FILE_PARENTS, SBX_FILE_RECURSIVE,
};
use super::input;
use super::structs::{self, Layout};
use crate::error::{Error, Result};
use crate::image::{CopiedImage, PrunedImages, Snapshot};
use crate::sandbox::files::{FileInfo, FileOptions, FileTotals};

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
    /// The most milliseconds it may take; it then ends with SBX_ETIMEDOUT. 0 or negative: no limit. Not for a watch.
    pub time_limit_ms: i64,
    /// Whose rights it has: "name", "uid", "uid:gid" or "name:group", as the sandbox knows them. NULL: root.
    pub user: *const c_char,
    /// The most milliseconds without progress while it is the sandbox's turn; it then ends with SBX_ETIMEDOUT. Code
    /// inside can stop the helper that does the work. 0: SBX_FILE_PROGRESS_TIMEOUT_MS; negative: no limit. Not for a
    /// watch.
    pub progress_timeout_ms: i64,
}

// SAFETY: repr(C), begins with its size, 56 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_file_options {
    const NAME: &'static str = "sbx_file_options";
    const FIRST_SIZE: usize = 56;
}

/// A file, as the sandbox describes it: sbx_operation_entry. The caller owns it; zero it or use SBX_FILE_ENTRY_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_file_entry {
    /// sizeof(sbx_file_entry), or 0.
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
    /// Its name in the directory that was listed: bytes, not always UTF-8, never "." or "..", without a slash. Empty
    /// for sbx_file_stat_begin. It lives as long as the operation's handle.
    pub name: *const c_char,
    /// Where a symbolic link leads, as the name; NULL for everything else.
    pub target: *const c_char,
}

// SAFETY: repr(C), begins with its size, 56 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_file_entry {
    const NAME: &'static str = "sbx_file_entry";
    const FIRST_SIZE: usize = 56;
}

impl sbx_file_entry {
    /// With texts that live as long as the operation.
    pub(super) fn new(info: &FileInfo, name: &CStr, target: Option<&CString>) -> Self {
        Self {
            size: 0,
            kind: info.kind as u32,
            mode: info.mode,
            user: info.user,
            group: info.group,
            links: info.links,
            bytes: info.size,
            modified_ns: info.modified_ns,
            name: name.as_ptr(),
            target: target.map_or(ptr::null(), |target| target.as_ptr()),
        }
    }
}

/// What a file operation has done, as the sandbox reports it, what was pruned, is in a snapshot or was copied of an image:
/// sbx_operation_totals. The caller owns it; zero it or use SBX_FILE_TOTALS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_file_totals {
    /// sizeof(sbx_file_totals), or 0.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories and whatever else.
    pub entries: u64,
    /// Entries that were left out: sockets and devices are not copied.
    pub skipped: u64,
}

// SAFETY: repr(C), begins with its size, 32 bytes without padding, integers only.
unsafe impl Layout for sbx_file_totals {
    const NAME: &'static str = "sbx_file_totals";
    const FIRST_SIZE: usize = 32;
}

impl From<PrunedImages> for sbx_file_totals {
    fn from(pruned: PrunedImages) -> Self {
        Self { size: 0, reserved: 0, bytes: pruned.bytes, entries: pruned.images, skipped: 0 }
    }
}

impl From<&Snapshot> for sbx_file_totals {
    fn from(taken: &Snapshot) -> Self {
        let Snapshot { bytes, entries, skipped, .. } = *taken;
        Self { size: 0, reserved: 0, bytes, entries, skipped }
    }
}

impl From<CopiedImage> for sbx_file_totals {
    fn from(copied: CopiedImage) -> Self {
        let CopiedImage { bytes, entries, skipped } = copied;
        Self { size: 0, reserved: 0, bytes, entries, skipped }
    }
}

impl From<FileTotals> for sbx_file_totals {
    fn from(totals: FileTotals) -> Self {
        let FileTotals { bytes, entries, skipped, .. } = totals;
        Self { size: 0, reserved: 0, bytes, entries, skipped }
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
        time_limit_ms: 0,
        user: ptr::null(),
        progress_timeout_ms: 0,
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
    let time_limit = if given.time_limit_ms == 0 { None } else { input::timeout(given.time_limit_ms) };
    let progress_timeout = match given.progress_timeout_ms {
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
        time_limit,
        progress_timeout,
        recursive: has(SBX_FILE_RECURSIVE),
        parents: has(SBX_FILE_PARENTS),
        exclusive: has(SBX_FILE_EXCLUSIVE),
        append: has(SBX_FILE_APPEND),
        no_follow: has(SBX_FILE_NO_FOLLOW),
        keep_owner: has(SBX_FILE_KEEP_OWNER),
        missing_ok: has(SBX_FILE_MISSING_OK),
    })
}
