//! `sbx_runtime`.

use std::ffi::{c_char, c_int};
use std::ptr;

use super::call::{call_new, call_or};
use super::codes::SBX_RUNTIME_NO_USER_NAMESPACE;
use super::error::sbx_error;
use super::handle::{self, Object};
use super::input;
use super::list::{ListObject, sbx_sandbox_list};
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::report::{ReportObject, sbx_report};
use super::structs::{self, Layout};
use crate::config::RuntimeConfig;
use crate::doctor;
use crate::error::{Error, Result};
use crate::runtime::Runtime;

/// A runtime: two threads, however many sandboxes there are, and short-lived ones. One of those scans the host's
/// programs before the first sandbox is created, one plans sandboxes, each check and each large policy that is
/// being loaded has one, and operations on images and volumes have up to eleven. A thread that hangs on the host (on a dead mount, say) is left behind and replaced; there
/// are never more than 64 of those. As long as one hangs in the kernel, so do setuid(2) and its like, which glibc
/// has every thread of a process take part in (nptl(7)).
///
/// Both threads end some seconds after the last sandbox and start again with the next. Until then they keep a
/// process alive whose main thread has left by pthread_exit(3); and since they block all signals, SIGTERM doesn't
/// end a process that has no other thread. sbx_runtime_free ends a runtime's threads at once.
///
/// Where a function takes a runtime, NULL stands for the process's default runtime, which is made on first use and
/// lives as long as the process. It looks for runsc when its first sandbox is created; until it has found one that
/// works, it reads the environment again each time.
#[derive(Debug)]
pub struct sbx_runtime {
    _private: [u8; 0],
}

impl Object for Runtime {
    type Opaque = sbx_runtime;
    const KIND: &'static str = "runtime";
}

/// How a runtime is made. The caller owns it; zero it or use SBX_RUNTIME_CONFIG_INIT, which suits most programs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_runtime_config {
    /// sizeof(sbx_runtime_config), or 0.
    pub size: u32,
    /// SBX_RUNTIME_..., added up.
    pub flags: u32,
    /// The runsc to use. NULL: SBX_RUNSC, then PATH, then /usr/local/bin, /usr/bin, /usr/local/sbin, /usr/sbin,
    /// /opt/gvisor/bin and /opt/bin.
    pub runsc: *const c_char,
    /// An installed copy of the keeper to use instead of the embedded one; NULL: SBX_KEEPER, or none.
    pub keeper: *const c_char,
    /// Where images are kept; NULL: libsbx/images in XDG_CACHE_HOME, or in .cache of HOME. It is made if it isn't there.
    /// It and the directories above must be writable by this user and root only.
    pub image_directory: *const c_char,
    /// Where volumes are kept; NULL: libsbx/volumes in XDG_DATA_HOME, or in .local/share of HOME. It is made if it isn't
    /// there. It and the directories above must be writable by this user and root only.
    pub volume_directory: *const c_char,
    /// How many bytes must be free there for a new sandbox with a writable volume; 0: 1 GiB.
    pub volume_min_free_bytes: u64,
}

// SAFETY: repr(C), begins with its size, 48 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_runtime_config {
    const NAME: &'static str = "sbx_runtime_config";
    const FIRST_SIZE: usize = 48;
}

/// The runtime of a handle, or the default one.
pub(super) fn of(runtime: *const sbx_runtime) -> Result<Runtime> {
    if runtime.is_null() { Runtime::shared() } else { Ok(Runtime::clone(&*handle::get::<Runtime>(runtime)?)) }
}

/// Begins something of a runtime's, or of the default one's.
///
/// # Safety
/// As for [`Begin::freely`].
pub(super) unsafe fn begin(
    runtime: *mut sbx_runtime,
    rest: Begin,
    start: impl FnOnce(&Runtime, Events<'_>) -> Result<Work>,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { rest.freely(|events| start(&of(runtime)?, events)) }
}

unsafe fn read(config: *const sbx_runtime_config) -> Result<RuntimeConfig> {
    const ZERO: sbx_runtime_config = sbx_runtime_config {
        size: 0,
        flags: 0,
        runsc: ptr::null(),
        keeper: ptr::null(),
        image_directory: ptr::null(),
        volume_directory: ptr::null(),
        volume_min_free_bytes: 0,
    };
    let mut result = RuntimeConfig::default();
    // SAFETY: as the caller promises.
    let given = unsafe { structs::read(config, ZERO) }?;
    let Some(given) = given else { return Ok(result) };
    if given.flags & !SBX_RUNTIME_NO_USER_NAMESPACE != 0 {
        return Err(Error::invalid(format!(
            "runtime flags {:#x}: only SBX_RUNTIME_... may be set",
            given.flags
        )));
    }
    result.user_namespace = given.flags & SBX_RUNTIME_NO_USER_NAMESPACE == 0;
    if !given.runsc.is_null() {
        // SAFETY: as the caller promises.
        result.runsc = Some(unsafe { input::text("runsc", given.runsc) }?.into());
    }
    if !given.keeper.is_null() {
        // SAFETY: as the caller promises.
        result.keeper = Some(unsafe { input::text("keeper", given.keeper) }?.into());
    }
    if !given.image_directory.is_null() {
        // SAFETY: as the caller promises.
        result.image_directory = Some(unsafe { input::path("image_directory", given.image_directory) }?);
    }
    if !given.volume_directory.is_null() {
        // SAFETY: as the caller promises.
        result.volume_directory = Some(unsafe { input::path("volume_directory", given.volume_directory) }?);
    }
    if given.volume_min_free_bytes != 0 {
        result.volume_min_free_bytes = given.volume_min_free_bytes;
    }
    Ok(result)
}

/// Makes a runtime: finds runsc, reads the environment, starts two threads.
///
/// `config` may be NULL. Free the runtime with sbx_runtime_free. Any thread; blocks for some milliseconds, longer
/// (but bounded) if runsc doesn't answer.
///
/// Returns 0 and sets *runtime; SBX_EINVALID, SBX_ESIZE, SBX_EHOST, SBX_ERUNSC_MISSING, SBX_ERUNSC_UNUSABLE,
/// SBX_ELIMIT, SBX_ESYSTEM.
///
/// # Safety
/// `config` must point to such a struct or be NULL, `runtime` to a place for the result, `error` to an error
/// struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_new(
    config: *const sbx_runtime_config,
    runtime: *mut *mut sbx_runtime,
    error: *mut sbx_error,
) -> c_int {
    let make = || {
        // SAFETY: as the caller promises.
        let config = unsafe { read(config) }?;
        Runtime::new(&config)
    };
    // SAFETY: as the caller promises.
    unsafe { call_new("runtime", runtime, error, make) }
}

/// The doctor: checks everything that a runtime made with this config needs of the host.
///
/// What is missing is in the report, and is not an error of the call. `config` may be NULL. Free the report with
/// sbx_report_free. Any thread; blocks for some hundred milliseconds, since runsc is run (bounded). Hosts with an event
/// loop use sbx_runtime_check_begin.
///
/// Returns 0 and sets *report; SBX_EINVALID, SBX_ESIZE, SBX_ELIMIT.
///
/// # Safety
/// As for sbx_runtime_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_check(
    config: *const sbx_runtime_config,
    report: *mut *mut sbx_report,
    error: *mut sbx_error,
) -> c_int {
    let check = || {
        // SAFETY: as the caller promises.
        let config = unsafe { read(config) }?;
        Ok(ReportObject::of(&doctor::check_host(&config)))
    };
    // SAFETY: as the caller promises.
    unsafe { call_new("report", report, error, check) }
}

/// Begins sbx_runtime_check: sbx_operation_report.
///
/// The event of its end is SBX_EVENT_CHECKED. It comes late or never where what is looked at hangs (runsc on a dead
/// mount); an operation that is cancelled ends at once, and the thread that looks goes on. At most 8 look at the same
/// time. sbx_operation says what holds for everything that is begun.
///
/// Returns 0; SBX_EINVALID, SBX_ESIZE, SBX_ECLOSED, SBX_ELIMIT, SBX_ESYSTEM.
///
/// # Safety
/// `config` must point to such a struct or be NULL, `operation` to a place for the result, `error` to an error struct or
/// be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_check_begin(
    config: *const sbx_runtime_config,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start = |events: Events<'_>| {
        // SAFETY: as the caller promises.
        let config = unsafe { read(config) }?;
        Ok(Work::Check(doctor::check_host_begin(&config, events)?))
    };
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.freely(start) }
}

/// Lists the sandboxes of a runtime (NULL: the default one) that have not ended, as they are at this moment.
///
/// Free the list with sbx_sandbox_list_free. Any thread, never blocks.
///
/// Returns 0 and sets *list; SBX_EINVALID, SBX_ELIMIT. With NULL also the errors of sbx_runtime_new, except
/// SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
///
/// # Safety
/// `list` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_sandboxes(
    runtime: *mut sbx_runtime,
    list: *mut *mut sbx_sandbox_list,
    error: *mut sbx_error,
) -> c_int {
    let make = || Ok(ListObject::new(&of(runtime)?.sandboxes()));
    // SAFETY: as the caller promises.
    unsafe { call_new("list", list, error, make) }
}

/// Ends every sandbox of a runtime, its operations on images and both its threads, and frees it.
///
/// Its sandboxes end as by sbx_terminate, and calls that wait for them return as they do then; the operations end with
/// SBX_ECLOSED. The sandboxes' handles stay valid and are freed as usual.
/// Any thread; blocks until everything is gone (bounded). A thread that hangs on the host (on a mount) is left
/// behind.
///
/// # Safety
/// None: a handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_free(runtime: *mut sbx_runtime) {
    call_or((), || {
        if let Some(runtime) = handle::take::<Runtime>(runtime)? {
            runtime.shutdown();
        }
        Ok(())
    });
}
