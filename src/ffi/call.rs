//! What every exported function does around its work.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use super::error::{self, sbx_error};
use super::handle::{self, Object};
use super::input;
use crate::error::{Code, Error, Result};
use crate::sys::fork;

/// How the library's own threads are named; a panic on one of them is the library's.
const THREAD_PREFIX: &str = "sbx-";

thread_local! {
    /// How deep this thread is in calls of the library. Without a destructor, so that it works at thread exit.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Runs the body of an exported function that can report its error.
///
/// # Safety
/// `error` must be NULL or point to an `sbx_error` of the host that nobody else uses during the call.
pub(super) unsafe fn call(error: *mut sbx_error, body: impl FnOnce() -> Result<c_int>) -> c_int {
    // SAFETY: passed on from the caller.
    let checked = unsafe { error::check(error) };
    if let Err(refused) = checked {
        return refused.code().number();
    }
    match guarded(body) {
        Ok(number) => number,
        Err(failure) => {
            // SAFETY: as above, and its size was checked.
            unsafe { error::write(error, &failure) };
            failure.code().number()
        }
    }
}

/// The same for a function on an object: a panic makes the object unusable.
///
/// # Safety
/// As for [`call`]. `handle` may be anything.
pub(super) unsafe fn call_on<T: Object>(
    handle: *const T::Opaque,
    error: *mut sbx_error,
    body: impl FnOnce(&T) -> Result<c_int>,
) -> c_int {
    // SAFETY: passed on from the caller.
    unsafe { call(error, || call_with(handle, body)) }
}

/// Runs the body of an exported function that makes an object, and gives the host its handle.
///
/// # Safety
/// As for [`call`]. `place` must be NULL or point to a place of the host's that the handle may be written to.
pub(super) unsafe fn call_new<T: Object>(
    what: &str,
    place: *mut *mut T::Opaque,
    error: *mut sbx_error,
    body: impl FnOnce() -> Result<T>,
) -> c_int {
    let body = || {
        // SAFETY: passed on from the caller.
        let place = unsafe { input::out_param(what, place) }?;
        place.write(handle::insert(body()?)?);
        Ok(0)
    };
    // SAFETY: passed on from the caller.
    unsafe { call(error, body) }
}

/// Runs a body whose error can only be told by a value such as NULL.
pub(super) fn call_or<R>(fallback: R, body: impl FnOnce() -> Result<R>) -> R {
    guarded(body).unwrap_or(fallback)
}

/// Looks a handle up and runs a body on its object.
pub(super) fn call_with<T: Object, R>(
    handle: *const T::Opaque,
    body: impl FnOnce(&T) -> Result<R>,
) -> Result<R> {
    let object = handle::get::<T>(handle)?;
    match panic::catch_unwind(AssertUnwindSafe(|| body(&object))) {
        Ok(result) => result,
        Err(payload) => {
            handle::poison(handle.addr());
            Err(panicked(payload))
        }
    }
}

fn guarded<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    // Before any lock, the hook's included: in a child of fork one may be held for ever.
    fork::refuse_child()?;
    install_hook();
    DEPTH.with(|depth| depth.set(depth.get().saturating_add(1)));
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    DEPTH.with(|depth| depth.set(depth.get().saturating_sub(1)));
    result.unwrap_or_else(|payload| Err(panicked(payload)))
}

fn panicked(payload: Box<dyn Any + Send>) -> Error {
    let what = message(&*payload).to_owned();
    // A payload may panic when it is dropped; then it is leaked.
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    Error::new(Code::Panic, format!("the library panicked, which is a bug of it: {what}"))
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Keeps panics of the library off the host's stderr: they go to the log.
///
/// Installed by the first call through the C ABI, so a Rust program that uses the crate without it keeps
/// its own hook; one that uses both keeps its hook for its own panics.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| if is_ours() { log_panic(info) } else { before(info) }));
    });
}

fn is_ours() -> bool {
    let in_call = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(true);
    in_call || std::thread::current().name().is_some_and(|name| name.starts_with(THREAD_PREFIX))
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
    let what = message(info.payload());
    log::error!("panic at {place}: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_panic_is_an_error() {
        let mut error = sbx_error::empty();
        // SAFETY: `error` is ours.
        let code = unsafe { call(&raw mut error, || panic!("injected {}", 1)) };
        assert_eq!(code, Code::Panic.number());
        assert!(error.text().contains("injected 1"), "{}", error.text());
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_no_way_out() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        // SAFETY: NULL is allowed.
        let code = unsafe { call(std::ptr::null_mut(), || panic::panic_any(Bomb)) };
        assert_eq!(code, Code::Panic.number());
    }

    #[test]
    fn a_panic_makes_its_object_unusable_but_freeable() {
        use crate::event::Queue;
        let queue = handle::insert(Queue::new(1).unwrap()).unwrap();
        let mut error = sbx_error::empty();
        // SAFETY: `error` is ours.
        let code = unsafe { call_on::<Queue>(queue, &raw mut error, |_| panic!("injected")) };
        assert_eq!(code, Code::Panic.number());
        // SAFETY: `error` is ours.
        let code = unsafe { call_on::<Queue>(queue, &raw mut error, |_| Ok(0)) };
        assert_eq!(code, Code::Panic.number());
        assert!(error.text().contains("not usable any more"), "{}", error.text());
        assert!(handle::take::<Queue>(queue).unwrap().is_some());
    }

    #[test]
    fn a_panic_says_nothing_on_stderr() {
        const ASKED: &str = "SBX_TEST_PANIC_CHILD";
        if std::env::var_os(ASKED).is_some() {
            // SAFETY: NULL is allowed.
            unsafe { call(std::ptr::null_mut(), || panic!("must not be seen")) };
            return;
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ffi::call::tests::a_panic_says_nothing_on_stderr", "--nocapture"])
            .env(ASKED, "1")
            .output()
            .unwrap();
        assert!(child.status.success());
        assert_eq!(String::from_utf8_lossy(&child.stderr), "");
        assert!(!String::from_utf8_lossy(&child.stdout).contains("must not be seen"));
    }
}
