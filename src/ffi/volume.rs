//! Volumes: `sbx_volume_list`, what can be begun with volumes, and their mounts.

use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use super::call::{call_on, call_or};
use super::codes::{
    SBX_VOLUME_CREATE, SBX_VOLUME_CREATE_SUB_PATH, SBX_VOLUME_EXCLUSIVE, SBX_VOLUME_READ_ONLY,
};
use super::config::{self, sbx_config};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::input;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::runtime::{self, sbx_runtime};
use super::structs::{self, Layout, c_text};
use crate::config::VolumeMount;
use crate::error::{Code, Error, Result};
use crate::runtime::Runtime;
use crate::volume::VolumeInfo;

/// Volumes as they were at a moment. It doesn't change; any thread may read it.
#[derive(Debug)]
pub struct sbx_volume_list {
    _private: [u8; 0],
}

/// What is known of a volume. Its texts belong to the list. The caller owns the struct; zero it or use
/// SBX_VOLUME_SUMMARY_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_volume_summary {
    /// sizeof(sbx_volume_summary), or 0.
    pub size: u32,
    /// 1 if a sandbox has it mounted, else 0.
    pub in_use: u32,
    /// Its name.
    pub name: *const c_char,
    /// Its directory on this machine. What sandboxes wrote there is theirs: a host that reads it follows no links, and
    /// trusts no content.
    pub path: *const c_char,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
}

// SAFETY: repr(C), begins with its size, 32 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_volume_summary {
    const NAME: &'static str = "sbx_volume_summary";
    const FIRST_SIZE: usize = 32;
}

#[derive(Debug)]
pub(super) struct VolumeListObject(Vec<VolumeTexts>);

#[derive(Debug)]
struct VolumeTexts {
    name: CString,
    path: CString,
    created_ms: i64,
    in_use: bool,
}

impl Object for VolumeListObject {
    type Opaque = sbx_volume_list;
    const KIND: &'static str = "volume list";
}

impl VolumeTexts {
    fn new(info: &VolumeInfo) -> Self {
        let since_1970 = info.created.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            name: c_text(&info.name),
            // A path of the system's has no NUL.
            path: CString::new(info.path.as_os_str().as_bytes()).unwrap_or_default(),
            created_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
            in_use: info.in_use,
        }
    }
}

impl From<&VolumeTexts> for sbx_volume_summary {
    fn from(texts: &VolumeTexts) -> Self {
        Self {
            size: 0,
            in_use: u32::from(texts.in_use),
            name: texts.name.as_ptr(),
            path: texts.path.as_ptr(),
            created_ms: texts.created_ms,
        }
    }
}

impl VolumeListObject {
    pub(super) fn new<'a>(volumes: impl IntoIterator<Item = &'a VolumeInfo>) -> Self {
        Self(volumes.into_iter().map(VolumeTexts::new).collect())
    }

    fn entry(&self, index: usize) -> Result<&VolumeTexts> {
        self.0.get(index).ok_or_else(|| Error::new(Code::NotFound, format!("the list has no volume {index}")))
    }
}

/// Refuses flags that aren't among these.
fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "volume flags {flags:#x}: only SBX_VOLUME_... that this function names may be set"
    )))
}

/// Mounts a volume at `destination`, an absolute path as sbx_config_add_mount takes it: a named directory that outlives the
/// sandbox, and that any number of sandboxes may have at once. What one writes, the others see.
///
/// `name` has 1 to 64 of a-z 0-9 . _ - and begins with no dot. With a `sub_path` (NULL or "": the whole volume), a relative
/// path without "..", only that directory of the volume is mounted: the sandbox never gets out of it, whatever others do in
/// the volume meanwhile, and a symbolic link on the way is an error. `flags` are added up: SBX_VOLUME_READ_ONLY,
/// SBX_VOLUME_CREATE (the volume is made if there is none of that name), SBX_VOLUME_CREATE_SUB_PATH (so are the directories
/// of the sub-path). A sandbox has at most 16 volumes, and nothing is mounted inside one.
///
/// Volumes are directories of the user's, in the runtime's volume_directory. Every file belongs to the host's user (chown
/// fails inside, and everything is the sandbox's root's). Set-id bits have no effect, a device is gVisor's own of that number
/// or can't be opened, and neither can be made. For an ordinary user nothing limits the bytes: sbx_config_set_disk_bytes doesn't count them. When fewer bytes are free
/// there than the runtime's volume_min_free_bytes, new sandboxes with a writable volume are refused with SBX_ELIMIT; those
/// that run go on. Sandboxes that share a volume trust each other with what is in it.
///
/// The sandbox fails with SBX_ENOTFOUND if the volume or the sub-path isn't there, SBX_EINVALID (a link or a file on the
/// way), SBX_ELIMIT, SBX_EHOST (the directory isn't safe: other users could write there, or it is on a network's file
/// system).
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name`, `destination` and `sub_path` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_add_volume(
    config: *mut sbx_config,
    name: *const c_char,
    destination: *const c_char,
    sub_path: *const c_char,
    flags: u32,
) -> c_int {
    config::set(config, |config| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("volume", name) }?;
        // SAFETY: as the caller promises.
        let destination = unsafe { input::text("mount destination", destination) }?;
        check_flags(flags, SBX_VOLUME_READ_ONLY | SBX_VOLUME_CREATE | SBX_VOLUME_CREATE_SUB_PATH)?;
        let mut volume = VolumeMount::new(name);
        if !sub_path.is_null() {
            // SAFETY: as the caller promises.
            volume = volume.sub_path(unsafe { input::text("sub-path", sub_path) }?);
        }
        if flags & SBX_VOLUME_READ_ONLY != 0 {
            volume = volume.read_only();
        }
        if flags & SBX_VOLUME_CREATE != 0 {
            volume = volume.create();
        }
        if flags & SBX_VOLUME_CREATE_SUB_PATH != 0 {
            volume = volume.create_sub_path();
        }
        config.mount_volume(&volume, destination).map(drop)
    })
}

/// Makes a volume: sbx_operation_volumes has it. One that exists is left as it is, or with SBX_VOLUME_EXCLUSIVE in `flags`
/// SBX_EEXISTS.
///
/// For all functions on volumes: they work on the volumes of `runtime` (NULL: of the default one), which all of the user's
/// programs share, and wait in the same queues as operations on images. Their errors are SBX_ENOTFOUND, SBX_EINVALID (the
/// name), SBX_EHOST (the directory of volumes isn't safe), SBX_ETIMEDOUT (another process keeps the store locked),
/// SBX_ELIMIT, SBX_ESYSTEM and SBX_ECLOSED. sbx_operation says what holds for everything that is begun.
///
/// Returns 0; SBX_EINVALID, SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM.
///
/// # Safety
/// `name` must be a terminated text or NULL, `operation` point to a place for the result, `error` to an error struct or be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_volume_create_begin(
    runtime: *mut sbx_runtime,
    name: *const c_char,
    flags: u32,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("volume", name) }?;
        check_flags(flags, SBX_VOLUME_EXCLUSIVE)?;
        Ok(Work::Volume(runtime.create_volume_begin(name, flags & SBX_VOLUME_EXCLUSIVE == 0, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Looks a volume up: sbx_operation_volumes has it. SBX_ENOTFOUND if there is none of that name. The rest is as for
/// sbx_volume_create_begin.
///
/// # Safety
/// `name` must be a terminated text or NULL, `operation` point to a place for the result, `error` to an error struct or be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_volume_find_begin(
    runtime: *mut sbx_runtime,
    name: *const c_char,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("volume", name) }?;
        Ok(Work::Volume(runtime.find_volume_begin(name, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Lists the volumes by name: sbx_operation_volumes. The bytes that they take aren't counted, which would take as long as
/// reading all of their directories. The rest is as for sbx_volume_create_begin.
///
/// # Safety
/// `operation` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_volume_list_begin(
    runtime: *mut sbx_runtime,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start =
        |runtime: &Runtime, events: Events<'_>| Ok(Work::Volumes(runtime.list_volumes_begin(events)?));
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Removes a volume with everything in it; no link is followed.
///
/// SBX_ESTATE while a sandbox of any of the user's programs has it mounted: that lasts until the sandbox has ended, also if
/// its host was killed. The name is free at once. A removal that is cancelled, or whose process is killed, leaves files
/// that no volume has any more and the next removal takes. The rest is as for sbx_volume_create_begin.
///
/// # Safety
/// `name` must be a terminated text or NULL, `operation` point to a place for the result, `error` to an error struct or be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_volume_remove_begin(
    runtime: *mut sbx_runtime,
    name: *const c_char,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("volume", name) }?;
        Ok(Work::Done(runtime.remove_volume_begin(name, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// How many volumes are in the list.
///
/// Returns the count.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_volume_list_count(list: *const sbx_volume_list) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(list, ptr::null_mut::<sbx_error>(), |list: &VolumeListObject| {
            Ok(c_int::try_from(list.0.len()).unwrap_or(c_int::MAX))
        })
    }
}

/// Reads one volume of a list, from 0.
///
/// Returns 0 and fills *summary; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `summary` must point to a summary struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_volume_list_entry(
    list: *const sbx_volume_list,
    index: usize,
    summary: *mut sbx_volume_summary,
) -> c_int {
    let read = |list: &VolumeListObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { structs::output("summary", summary) }?;
        place.write(&sbx_volume_summary::from(list.entry(index)?));
        Ok(0)
    };
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(list, ptr::null_mut::<sbx_error>(), read) }
}

/// Frees a list and its texts.
///
/// # Safety
/// No text of the list may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_volume_list_free(list: *mut sbx_volume_list) {
    call_or((), || handle::take::<VolumeListObject>(list).map(drop));
}
