//! `sbx_operation`: something that was begun. One file, because it is one C object with all its results.

use std::ffi::{CString, c_char, c_int};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use super::call::{call, call_on, call_or, call_with};
use super::error::sbx_error;
use super::file_structs::{sbx_file_entry, sbx_file_totals};
use super::handle::{self, Object};
use super::image::{ImageListObject, ImageObject, sbx_image, sbx_image_list};
use super::policy::{PolicyObject, sbx_policy};
use super::queue::sbx_queue;
use super::report::{ReportObject, sbx_report};
use super::stats::sbx_stats;
use super::volume::{VolumeListObject, sbx_volume_list};
use super::{input, structs};
use crate::doctor::Report;
use crate::error::{Code, Error, Result};
use crate::event::{Operation, Queue};
use crate::image::{CopiedImage, Image, ImageInfo, PrunedImages, Snapshot};
use crate::policy::Policy;
use crate::sandbox::files::{FileInfo, FileOperation};
use crate::sandbox::{Connection, Stats};
use crate::volume::VolumeInfo;

/// Something that was begun and goes on by itself, and its result.
///
/// All ..._begin functions that give one work alike. They never block, and may be called from any thread. `queue` and
/// `cookie` say where the event of the end goes: SBX_EVENT_OPERATION_DONE, unless the function names another. With a NULL
/// queue there is no event. They return 0 and set *operation, or what is wrong at once, and then no event comes; what
/// goes wrong later is the operation's own error. Where a program may block, this is a call that waits:
///
///   sbx_operation *operation = NULL;
///   int code = sbx_file_remove_begin(sandbox, "/tmp/a", NULL, NULL, 0, &operation, &error);
///   if (code == 0) code = sbx_operation_wait(operation, -1, &error);
///   sbx_operation_free(operation);
///
/// Any thread may call any function of an operation at any time; only sbx_operation_free comes last. An operation doesn't
/// keep its sandbox alive.
#[derive(Debug)]
pub struct sbx_operation {
    _private: [u8; 0],
}

/// Where the event of an operation's end goes.
pub(super) type Events<'a> = Option<(&'a Queue, u64)>;

/// What was begun.
#[derive(Debug)]
pub(super) enum Work {
    File(FileOperation),
    Connection(Operation<Connection>),
    PolicyChange(Operation<u64>),
    Policy(Operation<(Policy, u64)>),
    Stats(Operation<Stats>),
    Check(Operation<Report>),
    Image(Operation<Image>),
    Snapshot(Operation<Snapshot>),
    Images(Operation<Vec<ImageInfo>>),
    Pruned(Operation<PrunedImages>),
    Volume(Operation<VolumeInfo>),
    Volumes(Operation<Vec<VolumeInfo>>),
    Copied(Operation<CopiedImage>),
    Done(Operation<()>),
}

impl Work {
    fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        match self {
            Self::File(file) => file.wait(timeout).map(drop),
            Self::Connection(connection) => connection.wait(timeout).map(drop),
            Self::PolicyChange(change) => change.wait(timeout).map(drop),
            Self::Policy(policy) => policy.wait(timeout).map(drop),
            Self::Stats(stats) => stats.wait(timeout).map(drop),
            Self::Check(check) => check.wait(timeout).map(drop),
            Self::Image(image) => image.wait(timeout).map(drop),
            Self::Snapshot(taken) => taken.wait(timeout).map(drop),
            Self::Images(images) => images.wait(timeout).map(drop),
            Self::Pruned(pruned) => pruned.wait(timeout).map(drop),
            Self::Volume(volume) => volume.wait(timeout).map(drop),
            Self::Volumes(volumes) => volumes.wait(timeout).map(drop),
            Self::Copied(copied) => copied.wait(timeout).map(drop),
            Self::Done(done) => done.wait(timeout).map(drop),
        }
    }

    fn cancel(&self) {
        match self {
            Self::File(file) => file.cancel(),
            Self::Connection(connection) => connection.cancel(),
            Self::PolicyChange(change) => change.cancel(),
            Self::Policy(policy) => policy.cancel(),
            Self::Stats(stats) => stats.cancel(),
            Self::Check(check) => check.cancel(),
            Self::Image(image) => image.cancel(),
            Self::Snapshot(taken) => taken.cancel(),
            Self::Images(images) => images.cancel(),
            Self::Pruned(pruned) => pruned.cancel(),
            Self::Volume(volume) => volume.cancel(),
            Self::Volumes(volumes) => volumes.cancel(),
            Self::Copied(copied) => copied.cancel(),
            Self::Done(done) => done.cancel(),
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            Self::File(file) => file.has_ended(),
            Self::Connection(connection) => connection.has_ended(),
            Self::PolicyChange(change) => change.has_ended(),
            Self::Policy(policy) => policy.has_ended(),
            Self::Stats(stats) => stats.has_ended(),
            Self::Check(check) => check.has_ended(),
            Self::Image(image) => image.has_ended(),
            Self::Snapshot(taken) => taken.has_ended(),
            Self::Images(images) => images.has_ended(),
            Self::Pruned(pruned) => pruned.has_ended(),
            Self::Volume(volume) => volume.has_ended(),
            Self::Volumes(volumes) => volumes.has_ended(),
            Self::Copied(copied) => copied.has_ended(),
            Self::Done(done) => done.has_ended(),
        }
    }

    /// Whether it has ended well; an error also while it goes on.
    fn ended_well(&self) -> Result<()> {
        match self {
            Self::File(file) => file.totals().map(drop),
            Self::Connection(connection) => connection.result().map(drop),
            Self::PolicyChange(change) => change.result().map(drop),
            Self::Policy(policy) => policy.result().map(drop),
            Self::Stats(stats) => stats.result().map(drop),
            Self::Check(check) => check.result().map(drop),
            Self::Image(image) => image.result().map(drop),
            Self::Snapshot(taken) => taken.result().map(drop),
            Self::Images(images) => images.result().map(drop),
            Self::Pruned(pruned) => pruned.result().map(drop),
            Self::Volume(volume) => volume.result().map(drop),
            Self::Volumes(volumes) => volumes.result().map(drop),
            Self::Copied(copied) => copied.result().map(drop),
            Self::Done(done) => done.result().map(drop),
        }
    }

    /// Why there is no such result.
    fn without(&self, result: &str) -> Error {
        let text = format!("the operation's result is another: it has no {result}");
        self.ended_well().err().unwrap_or_else(|| Error::invalid(text))
    }
}

#[derive(Debug)]
pub(super) struct OperationObject {
    work: Work,
    /// What a file operation has found, made when first asked for.
    found: OnceLock<Vec<Found>>,
}

#[derive(Debug)]
struct Found {
    name: CString,
    target: Option<CString>,
    info: FileInfo,
}

impl Object for OperationObject {
    type Opaque = sbx_operation;
    const KIND: &'static str = "operation";
}

/// The parameters that every ..._begin function ends with.
pub(super) struct Begin {
    pub(super) queue: *mut sbx_queue,
    pub(super) cookie: u64,
    pub(super) operation: *mut *mut sbx_operation,
    pub(super) error: *mut sbx_error,
}

impl Begin {
    /// Begins something with an object.
    ///
    /// # Safety
    /// `operation` must point to a place for the result or be NULL, `error` to an error struct or be NULL.
    pub(super) unsafe fn on<T: Object>(
        self,
        object: *const T::Opaque,
        start: impl FnOnce(&T, Events<'_>) -> Result<Work>,
    ) -> c_int {
        let error = self.error;
        let body = |object: &T| {
            // SAFETY: as the caller promises.
            unsafe { self.insert(|events| start(object, events)) }
        };
        // SAFETY: as the caller promises.
        unsafe { call_on(object, error, body) }
    }

    /// Begins something that is no object's.
    ///
    /// # Safety
    /// As for [`Begin::on`].
    pub(super) unsafe fn freely(self, start: impl FnOnce(Events<'_>) -> Result<Work>) -> c_int {
        let error = self.error;
        // SAFETY: as the caller promises.
        let body = || unsafe { self.insert(start) };
        // SAFETY: as the caller promises.
        unsafe { call(error, body) }
    }

    /// Begins something and hands its handle out.
    unsafe fn insert(self, start: impl FnOnce(Events<'_>) -> Result<Work>) -> Result<c_int> {
        // SAFETY: as the caller promises.
        let place = unsafe { input::out_param("operation", self.operation) }?;
        let queue = if self.queue.is_null() { None } else { Some(handle::get::<Queue>(self.queue)?) };
        // Nothing may fail once it is begun: an event would come for what was refused.
        let reserved = handle::reserve()?;
        let work = start(queue.as_deref().map(|queue| (queue, self.cookie)))?;
        place.write(reserved.fill(OperationObject { work, found: OnceLock::new() }));
        Ok(0)
    }
}

fn c_bytes(bytes: &[u8]) -> CString {
    // What comes from the sandbox was checked: there is no NUL in it.
    CString::new(bytes).unwrap_or_default()
}

impl Found {
    fn new(name: &[u8], info: FileInfo) -> Self {
        let target = info.target.as_ref().map(|target| c_bytes(target.as_os_str().as_bytes()));
        Self { name: c_bytes(name), target, info }
    }
}

impl OperationObject {
    /// The file operation, which is what has that result.
    fn file(&self, result: &str) -> Result<&FileOperation> {
        match &self.work {
            Work::File(operation) => Ok(operation),
            other => Err(other.without(result)),
        }
    }

    fn found(&self) -> Result<&[Found]> {
        let file = self.file("entries")?;
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let listed = file.entries()?.into_iter().map(|entry| Found::new(entry.name.as_bytes(), entry.info));
        let found = listed.chain(file.info().ok().map(|info| Found::new(b"", info))).collect();
        Ok(self.found.get_or_init(|| found))
    }

    fn entry(&self, index: usize) -> Result<&Found> {
        let found = self.found()?;
        found
            .get(index)
            .ok_or_else(|| Error::new(Code::NotFound, format!("the operation has no entry {index}")))
    }
}

/// Waits until an operation has ended, and returns how.
///
/// Any thread, any number of times; blocks for `timeout_ms`.
///
/// Returns 0 if it was done; SBX_ETIMEDOUT if it goes on; else its own error: SBX_ECLOSED if it was cancelled, others as
/// its ..._begin function says. An operation can end with SBX_ETIMEDOUT, too, as a file operation does that has reached a
/// limit of its options: sbx_operation_count says whether it has ended.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_wait(
    operation: *const sbx_operation,
    timeout_ms: i64,
    error: *mut sbx_error,
) -> c_int {
    let timeout = input::timeout(timeout_ms);
    let wait = |object: &OperationObject| object.work.wait(timeout).map(|()| 0);
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, wait) }
}

/// Ends an operation that goes on, with SBX_ECLOSED and its event. What it has done so far stays done.
///
/// One that has ended stays as it ended, and a change of a policy can't be stopped. Any thread, never blocks.
///
/// Returns 0.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_cancel(operation: *mut sbx_operation, error: *mut sbx_error) -> c_int {
    let cancel = |object: &OperationObject| {
        object.work.cancel();
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, cancel) }
}

/// The connection of sbx_connect_begin, or the host's end of the stream of a download, upload, copy in or copy out. Once.
///
/// An AF_UNIX stream socket, non-blocking and close-on-exec, which the caller owns and closes. Write to it with send and
/// MSG_NOSIGNAL. A connection is there when the operation has ended, a stream from the beginning.
///
/// What is read from a stream up to its end is complete only if sbx_operation_wait returns 0; what is written is complete
/// when its end is shut down or closed, and was stored only if that returns 0. When the operation ends the library shuts
/// the stream down, whatever the sandbox does with its end. To give up in the middle, cancel the operation before closing.
/// Any thread, never blocks.
///
/// Returns the descriptor; SBX_ESTATE (it goes on, has no descriptor, or that was opened before), the operation's own
/// error.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_open_fd(
    operation: *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let open = |object: &OperationObject| {
        let descriptor = match &object.work {
            Work::File(file) => file.open_stream(),
            Work::Connection(connection) => connection.result()?.take(),
            other => Err(other.without("descriptor").with_code(Code::State)),
        };
        descriptor.map(IntoRawFd::into_raw_fd)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, open) }
}

/// The bytes of sbx_file_read_begin, not terminated; `length` gets their number. They live as long as the handle.
///
/// Any thread, never blocks. NULL for a bad handle, when `length` is NULL, or if the operation was not done.
///
/// # Safety
/// `length` must point to a place for the result or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_bytes(
    operation: *const sbx_operation,
    length: *mut usize,
) -> *const u8 {
    call_or(ptr::null(), || {
        // SAFETY: as the caller promises.
        let length = unsafe { input::out_param("length", length) }?;
        call_with(operation, |object: &OperationObject| {
            object.file("bytes")?.with_bytes(|bytes| {
                length.write(bytes.len());
                // An empty vector's address is none, and Go's runtime ends a process that holds such a one.
                if bytes.is_empty() { c"".as_ptr().cast() } else { bytes.as_ptr() }
            })
        })
    })
}

/// Whether an operation has ended, and how many entries it has found: those of a list, or the one that was described.
///
/// Any thread, never blocks.
///
/// Returns SBX_ESTATE while it goes on; then the count, which is 0 if it failed or isn't one that finds entries.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_count(operation: *const sbx_operation) -> c_int {
    let count = |object: &OperationObject| {
        if !object.work.has_ended() {
            return Err(Error::new(Code::State, "the operation goes on"));
        }
        Ok(object.found().map_or(0, |found| c_int::try_from(found.len()).unwrap_or(c_int::MAX)))
    };
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(operation, ptr::null_mut::<sbx_error>(), count) }
}

/// One of the entries that a file operation has found, by its place from 0.
///
/// Any thread, never blocks.
///
/// Returns 0 and fills *entry; SBX_ENOTFOUND (the index), SBX_ESTATE (it goes on), the operation's own error,
/// SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `entry` must point to an entry struct or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_entry(
    operation: *const sbx_operation,
    index: usize,
    entry: *mut sbx_file_entry,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &OperationObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { structs::output("entry", entry) }?;
        let found = object.entry(index)?;
        let value = sbx_file_entry::new(&found.info, &found.name, found.target.as_ref());
        place.write(&value);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, read) }
}

/// What a file operation has done, as the sandbox reports it; what sbx_image_prune_begin has removed; what is in the image of
/// a snapshot; or what was copied of an image.
///
/// Any thread, never blocks.
///
/// Returns 0 and fills *totals; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `totals` must point to a totals struct or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_totals(
    operation: *const sbx_operation,
    totals: *mut sbx_file_totals,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &OperationObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { structs::output("totals", totals) }?;
        let value = match &object.work {
            Work::Pruned(pruned) => sbx_file_totals::from(*pruned.result()?),
            Work::Snapshot(taken) => sbx_file_totals::from(&*taken.result()?),
            Work::Copied(copied) => sbx_file_totals::from(*copied.result()?),
            _ => sbx_file_totals::from(object.file("totals")?.totals()?),
        };
        place.write(&value);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, read) }
}

/// Takes the next change of a watch, in the order in which they happened.
///
/// `path` gets where, relative to the directory, with a NUL behind it: bytes, not always UTF-8. `capacity` is the size
/// of that place: 4096, so that every path fits. Any thread; blocks for `timeout_ms`.
///
/// Returns SBX_CHANGE_...; SBX_ETIMEDOUT (nothing has changed), SBX_ESTATE (the directory is gone, or the sandbox has
/// ended), the operation's own error, SBX_EINVALID.
///
/// # Safety
/// `path` must point to `capacity` writable bytes or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_next_change(
    operation: *mut sbx_operation,
    timeout_ms: i64,
    path: *mut c_char,
    capacity: usize,
    error: *mut sbx_error,
) -> c_int {
    const ROOM: usize = 4096;
    let take = |object: &OperationObject| {
        if path.is_null() || capacity < ROOM {
            let message = format!("path: a place of {ROOM} bytes is needed, and {capacity} are given");
            return Err(Error::invalid(message));
        }
        let change = object.file("changes")?.next_change(input::timeout(timeout_ms))?;
        let text = c_bytes(change.path.as_os_str().as_bytes());
        let bytes = text.as_bytes_with_nul();
        // It is at most PATH_MAX long: what is longer was refused when it came.
        let length = bytes.len().min(ROOM);
        // SAFETY: the caller's place has that room, and is not ours.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), path, length) };
        Ok(change.kind as c_int)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, take) }
}

/// The policy of sbx_sandbox_policy_begin and its generation, or the generation of sbx_set_policy_begin.
///
/// `policy` gets a copy, to be freed with sbx_policy_free; it or `generation` may be NULL, and after sbx_set_policy_begin
/// `policy` must be. Any thread, any number of times, never blocks.
///
/// Returns 0 and sets *policy and *generation; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID,
/// SBX_ELIMIT.
///
/// # Safety
/// `policy` must point to a place for the result or be NULL, `generation` to a number or be NULL, `error` to an error
/// struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_policy(
    operation: *const sbx_operation,
    policy: *mut *mut sbx_policy,
    generation: *mut u64,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &OperationObject| {
        let (copy, number) = match &object.work {
            Work::PolicyChange(change) => (None, *change.result()?),
            Work::Policy(read) => {
                let read = read.result()?;
                (Some(read.0.clone()), read.1)
            }
            other => return Err(other.without("policy")),
        };
        if !policy.is_null() {
            // SAFETY: as the caller promises.
            let place = unsafe { input::out_param("policy", policy) }?;
            let copy =
                copy.ok_or_else(|| Error::invalid("policy: must be NULL after sbx_set_policy_begin"))?;
            place.write(handle::insert(PolicyObject::new(copy))?);
        }
        if !generation.is_null() {
            // SAFETY: as the caller promises.
            unsafe { generation.write_unaligned(number) };
        }
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, read) }
}

/// The statistics of sbx_sandbox_stats_begin, as they were when it ended.
///
/// Any thread, any number of times, never blocks.
///
/// Returns 0 and fills *stats; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `stats` must point to a stats struct or be NULL, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_stats(
    operation: *const sbx_operation,
    stats: *mut sbx_stats,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &OperationObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { structs::output("stats", stats) }?;
        let found = match &object.work {
            Work::Stats(found) => sbx_stats::from(*found.result()?),
            other => return Err(other.without("statistics")),
        };
        place.write(&found);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, read) }
}

/// The report of sbx_runtime_check_begin, to be freed with sbx_report_free.
///
/// Any thread, any number of times, never blocks.
///
/// Returns 0 and sets *report; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `report` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_report(
    operation: *const sbx_operation,
    report: *mut *mut sbx_report,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &OperationObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { input::out_param("report", report) }?;
        let found = match &object.work {
            Work::Check(check) => ReportObject::of(&*check.result()?),
            other => return Err(other.without("report")),
        };
        place.write(handle::insert(found)?);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, read) }
}

/// The image of sbx_image_pull_begin, sbx_image_import_begin, sbx_image_build_begin, sbx_image_find_begin,
/// sbx_sandbox_snapshot_begin or sbx_sandbox_snapshot_directory_begin, to be freed with sbx_image_free.
///
/// Any thread, any number of times, never blocks.
///
/// Returns 0 and sets *image; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `image` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_image(
    operation: *const sbx_operation,
    image: *mut *mut sbx_image,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &OperationObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { input::out_param("image", image) }?;
        let found = match &object.work {
            Work::Image(found) => ImageObject::new((*found.result()?).clone()),
            Work::Snapshot(taken) => ImageObject::new(taken.result()?.image.clone()),
            other => return Err(other.without("image")),
        };
        place.write(handle::insert(found)?);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, read) }
}

/// The images of sbx_image_list_begin, to be freed with sbx_image_list_free.
///
/// Any thread, any number of times, never blocks.
///
/// Returns 0 and sets *list; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `list` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_images(
    operation: *const sbx_operation,
    list: *mut *mut sbx_image_list,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &OperationObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { input::out_param("list", list) }?;
        let found = match &object.work {
            Work::Images(found) => ImageListObject::new(&found.result()?),
            other => return Err(other.without("images")),
        };
        place.write(handle::insert(found)?);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, read) }
}

/// The volumes of sbx_volume_list_begin, or the one of sbx_volume_create_begin or sbx_volume_find_begin, to be freed with
/// sbx_volume_list_free.
///
/// Any thread, any number of times, never blocks.
///
/// Returns 0 and sets *list; SBX_ESTATE (it goes on), the operation's own error, SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `list` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_volumes(
    operation: *const sbx_operation,
    list: *mut *mut sbx_volume_list,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &OperationObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { input::out_param("list", list) }?;
        let found = match &object.work {
            Work::Volume(found) => VolumeListObject::new([&*found.result()?]),
            Work::Volumes(found) => VolumeListObject::new(found.result()?.iter()),
            other => return Err(other.without("volumes")),
        };
        place.write(handle::insert(found)?);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(operation, error, read) }
}

/// Frees an operation and its result, and cancels it if it still goes on; NULL is allowed.
///
/// Descriptors that were opened stay the caller's. Any thread, never blocks.
///
/// # Safety
/// None of its bytes and texts may be used after. A handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_operation_free(operation: *mut sbx_operation) {
    call_or((), || handle::take::<OperationObject>(operation).map(drop));
}
