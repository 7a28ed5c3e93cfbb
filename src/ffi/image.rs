//! `sbx_image` and `sbx_image_list`, and what can be begun with images.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::BorrowedFd;
use std::ptr;

use super::call::{call_on, call_or};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::image_options::{read_options, sbx_image_options};
use super::input;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::runtime::{self, sbx_runtime};
use super::structs::{self, Layout, c_text};
use crate::error::{Code, Error, Result};
use crate::image::{Image, ImageInfo, ImageSource};
use crate::runtime::Runtime;

/// A file system with the settings that were made for it, as it is stored: sbx_config_set_image.
///
/// It doesn't change; any thread may read it. Its file stays readable as long as the handle, a config or a sandbox has the
/// image, also when it is removed from the store. It keeps one descriptor open.
#[derive(Debug)]
pub struct sbx_image {
    _private: [u8; 0],
}

/// The images of a store as they were at a moment. It doesn't change; any thread may read it.
#[derive(Debug)]
pub struct sbx_image_list {
    _private: [u8; 0],
}

/// What is known of an image. Its texts belong to the image or to the list. The caller owns the struct; zero it or use
/// SBX_IMAGE_SUMMARY_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_image_summary {
    /// sizeof(sbx_image_summary), or 0.
    pub size: u32,
    /// 0.
    pub reserved: u32,
    /// Its id: "sha256:" and 64 hexadecimal digits.
    pub id: *const c_char,
    /// Its names, one a line; empty if it has none.
    pub tags: *const c_char,
    /// Where it came from, for people: a reference, or "import".
    pub source: *const c_char,
    /// Its settings: the JSON of the OCI image specification (Entrypoint, Cmd, Env, User ...). NULL in a list.
    pub config: *const c_char,
    /// How many bytes it takes in the store.
    pub bytes: u64,
    /// When it was stored, in milliseconds since 1970.
    pub created_ms: i64,
    /// When it was last used, in milliseconds since 1970.
    pub last_used_ms: i64,
}

// SAFETY: repr(C), begins with its size, 64 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_image_summary {
    const NAME: &'static str = "sbx_image_summary";
    const FIRST_SIZE: usize = 64;
}

#[derive(Debug)]
pub(super) struct ImageObject {
    image: Image,
    texts: InfoTexts,
}

#[derive(Debug)]
pub(super) struct ImageListObject(Vec<InfoTexts>);

#[derive(Debug)]
struct InfoTexts {
    id: CString,
    tags: CString,
    source: CString,
    config: Option<CString>,
    bytes: u64,
    created_ms: i64,
    last_used_ms: i64,
}

impl Object for ImageObject {
    type Opaque = sbx_image;
    const KIND: &'static str = "image";
}

impl Object for ImageListObject {
    type Opaque = sbx_image_list;
    const KIND: &'static str = "image list";
}

impl InfoTexts {
    fn new(info: &ImageInfo, config: Option<&str>) -> Self {
        let since_1970 = |time: std::time::SystemTime| {
            let passed = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
        };
        Self {
            id: c_text(&info.id),
            tags: c_text(&info.tags.join("\n")),
            source: c_text(&info.source),
            config: config.map(c_text),
            bytes: info.bytes,
            created_ms: since_1970(info.created),
            last_used_ms: since_1970(info.last_used),
        }
    }
}

impl From<&InfoTexts> for sbx_image_summary {
    fn from(texts: &InfoTexts) -> Self {
        Self {
            size: 0,
            reserved: 0,
            id: texts.id.as_ptr(),
            tags: texts.tags.as_ptr(),
            source: texts.source.as_ptr(),
            config: texts.config.as_ref().map_or(ptr::null(), |config| config.as_ptr()),
            bytes: texts.bytes,
            created_ms: texts.created_ms,
            last_used_ms: texts.last_used_ms,
        }
    }
}

impl ImageObject {
    pub(super) fn new(image: Image) -> Self {
        let texts = InfoTexts::new(image.info(), Some(image.config_json()));
        Self { image, texts }
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }
}

impl ImageListObject {
    pub(super) fn new(images: &[ImageInfo]) -> Self {
        Self(images.iter().map(|info| InfoTexts::new(info, None)).collect())
    }

    fn entry(&self, index: usize) -> Result<&InfoTexts> {
        self.0.get(index).ok_or_else(|| Error::new(Code::NotFound, format!("the list has no image {index}")))
    }
}

/// Pulls an image from a registry into the store: sbx_operation_image.
///
/// `reference` is as docker has it: "python:3.12", "registry.example:5000/team/app@sha256:...". Nothing but the manifest
/// is downloaded if the store has the image already. Everything that comes is checked against its digest, and unpacked by
/// a confined process. Registries are reached by HTTPS, with the system's authorities and proxies as the environment had
/// them when the runtime was made; by HTTP only on a loopback address.
///
/// For all functions on images: they work on the store of `runtime` (NULL: of the default one), which all of the user's
/// programs share. Up to 64 operations of a runtime wait while two pulls, imports or snapshots go on, and up to 64 builds while two builds do. While one goes on,
/// SBX_EVENT_PROGRESS comes to its queue; a pulled byte counts twice there, when it has come and when it is unpacked. Where
/// an operation fails, is cancelled, or its process ends, nothing of it stays. Their errors are SBX_EIMAGE (what is wrong
/// with the image, the registry or the store), SBX_ELIMIT, SBX_ENOTFOUND, SBX_ETIMEDOUT, SBX_EINVALID, SBX_EHOST,
/// SBX_ESYSTEM (with ENOSPC if the disk is full) and SBX_ECLOSED. sbx_operation says what holds for everything that is
/// begun.
///
/// Returns 0; SBX_EINVALID, SBX_ESIZE, SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM.
///
/// # Safety
/// `reference` must be a terminated text or NULL, `options` options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_pull_begin(
    runtime: *mut sbx_runtime,
    reference: *const c_char,
    options: *const sbx_image_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let reference = unsafe { input::text("reference", reference) }?;
        // SAFETY: as the caller promises.
        let options = unsafe { read_options(options) }?;
        Ok(Work::Image(runtime.pull_image_begin(reference, &options, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Stores an image that is in files: sbx_operation_image.
///
/// They are at `path`, or with a NULL path behind the descriptor `fd`, which stays the caller's; a pipe is read to its end.
/// With a path `fd` is -1. What they are is found out, or said by options.format: an OCI layout (a directory, or a tar
/// archive of it), an archive of `docker save`, a tar archive of a root file system, or a directory that is one. Archives
/// may be compressed by gzip or zstd. The files of a directory keep their owners, but an ordinary user's own become root's.
/// Names in an archive don't become the image's. The rest is as for sbx_image_pull_begin.
///
/// # Safety
/// `path` must be a terminated text or NULL, `options` options or NULL, `operation` point to a place for the result,
/// `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_import_begin(
    runtime: *mut sbx_runtime,
    path: *const c_char,
    fd: c_int,
    options: *const sbx_image_options,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        let source = match (path.is_null(), fd) {
            // SAFETY: as the caller promises.
            (false, -1) => ImageSource::Path(unsafe { input::path("path", path) }?),
            (true, 0..) => ImageSource::Descriptor(duplicate(fd)?),
            _ => {
                return Err(Error::invalid(format!(
                    "path: must be set and fd -1, or NULL and fd a descriptor, not {fd}"
                )));
            }
        };
        // SAFETY: as the caller promises.
        let options = unsafe { read_options(options) }?;
        Ok(Work::Image(runtime.import_image_begin(source, &options, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// A descriptor of the host's, as one of our own.
fn duplicate(fd: c_int) -> Result<std::os::fd::OwnedFd> {
    // SAFETY: it is only used to duplicate it; the kernel refuses a number that is no descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(|cause| Error::system(format!("fd {fd}"), &cause))
}

/// Finds an image in the store: sbx_operation_image.
///
/// `name` is one of its names (a reference as sbx_image_pull_begin takes it), its id, or the beginning of its id, at
/// least 12 digits. SBX_ENOTFOUND if there is none. The rest is as for sbx_image_pull_begin.
///
/// # Safety
/// `name` must be a terminated text or NULL, `operation` point to a place for the result, `error` to an error struct or be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_find_begin(
    runtime: *mut sbx_runtime,
    name: *const c_char,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("name", name) }?;
        Ok(Work::Image(runtime.find_image_begin(name, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Lists the store's images: sbx_operation_images. The rest is as for sbx_image_pull_begin.
///
/// # Safety
/// `operation` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_list_begin(
    runtime: *mut sbx_runtime,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| Ok(Work::Images(runtime.list_images_begin(events)?));
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Gives an image of the store one more name: `tag`, a reference without a digest. Another image that has that name loses
/// it. `name` is as for sbx_image_find_begin, the rest as for sbx_image_pull_begin.
///
/// # Safety
/// `name` and `tag` must be terminated texts or NULL, `operation` point to a place for the result, `error` to an error
/// struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_tag_begin(
    runtime: *mut sbx_runtime,
    name: *const c_char,
    tag: *const c_char,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("name", name) }?;
        // SAFETY: as the caller promises.
        let tag = unsafe { input::text("tag", tag) }?;
        Ok(Work::Done(runtime.tag_image_begin(name, tag, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Removes an image from the store: by one of its names, which is all that goes if it has others; by its id with all of
/// its names.
///
/// Sandboxes that run on it go on, and handles of it stay usable; its bytes are free when the last of them is gone. `name`
/// is as for sbx_image_find_begin, the rest as for sbx_image_pull_begin.
///
/// # Safety
/// `name` must be a terminated text or NULL, `operation` point to a place for the result, `error` to an error struct or be
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_remove_begin(
    runtime: *mut sbx_runtime,
    name: *const c_char,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("name", name) }?;
        Ok(Work::Done(runtime.remove_image_begin(name, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Removes images until the store has at most `max_bytes`: 0 removes all. Those that builds have left without a name go
/// first, then the others; of each kind those that were not used for longest.
///
/// sbx_operation_totals has how many were removed (`entries`) and how many bytes they had; the event of the end has the
/// bytes. The rest is as for sbx_image_remove_begin.
///
/// # Safety
/// `operation` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_prune_begin(
    runtime: *mut sbx_runtime,
    max_bytes: u64,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |runtime: &Runtime, events: Events<'_>| {
        Ok(Work::Pruned(runtime.prune_images_begin(max_bytes, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { runtime::begin(runtime, Begin { queue, cookie, operation, error }, start) }
}

/// Reads what is known of an image, as it was when the handle was made.
///
/// Any thread, never blocks.
///
/// Returns 0 and fills *info; SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `info` must point to an info struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_info(image: *const sbx_image, info: *mut sbx_image_summary) -> c_int {
    let read = |object: &ImageObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { structs::output("info", info) }?;
        place.write(&sbx_image_summary::from(&object.texts));
        Ok(0)
    };
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(image, ptr::null_mut::<sbx_error>(), read) }
}

/// Frees an image's handle and its texts. The image stays in the store.
///
/// # Safety
/// No text of the image may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_free(image: *mut sbx_image) {
    call_or((), || handle::take::<ImageObject>(image).map(drop));
}

/// How many images are in the list.
///
/// Returns the count.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_list_count(list: *const sbx_image_list) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(list, ptr::null_mut::<sbx_error>(), |list: &ImageListObject| {
            Ok(c_int::try_from(list.0.len()).unwrap_or(c_int::MAX))
        })
    }
}

/// Reads one image of a list, from 0, the one that was used last first.
///
/// Returns 0 and fills *info; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `info` must point to an info struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_image_list_entry(
    list: *const sbx_image_list,
    index: usize,
    info: *mut sbx_image_summary,
) -> c_int {
    let read = |list: &ImageListObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { structs::output("info", info) }?;
        place.write(&sbx_image_summary::from(list.entry(index)?));
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
pub unsafe extern "C" fn sbx_image_list_free(list: *mut sbx_image_list) {
    call_or((), || handle::take::<ImageListObject>(list).map(drop));
}
