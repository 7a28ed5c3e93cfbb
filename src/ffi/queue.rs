//! `sbx_queue`.

use std::ffi::c_int;
use std::os::fd::IntoRawFd;

use super::call::{call_new, call_on, call_or};
use super::error::sbx_error;
use super::event::sbx_event;
use super::handle::{self, Object};
use super::structs;
use crate::event::Queue;

/// A queue of events, for any number of sandboxes.
#[derive(Debug)]
pub struct sbx_queue {
    _private: [u8; 0],
}

impl Object for Queue {
    type Opaque = sbx_queue;
    const KIND: &'static str = "queue";
}

/// Makes a queue in which up to `capacity` events wait, from 1 to 65536.
///
/// What does not fit is dropped and counted in the last waiting event's `lost`. What is waited for is never dropped:
/// SBX_EVENT_STARTED, FAILED, EXITED, PROCESS_STARTED, PROCESS_EXITED, POLICY_APPLIED, OPERATION_DONE and CHECKED.
/// After a loss, sbx_wait_ready and sbx_operation_next_change tell what READY and FILE_CHANGED would have. Free
/// the queue with sbx_queue_free. Any thread, never blocks.
///
/// Returns 0 and sets *queue; SBX_EINVALID, SBX_ELIMIT.
///
/// # Safety
/// `queue` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_queue_new(
    capacity: u32,
    queue: *mut *mut sbx_queue,
    error: *mut sbx_error,
) -> c_int {
    let make = || Queue::new(usize::try_from(capacity).unwrap_or(usize::MAX));
    // SAFETY: as the caller promises.
    unsafe { call_new("queue", queue, error, make) }
}

/// Opens the queue's doorbell: a descriptor that becomes readable when the queue becomes non-empty.
///
/// It is one end of an AF_UNIX stream pair, non-blocking and close-on-exec, for epoll, libuv, Node's net.Socket,
/// asyncio or Go's netpoller. The caller owns and closes it. When it is readable, read its bytes and discard them
/// (they mean nothing), then call sbx_queue_next until it returns 0. Opening the doorbell again replaces the
/// earlier one, which then reads end-of-file; so does freeing the queue. Any thread, never blocks.
///
/// Returns the descriptor; SBX_ECLOSED, SBX_ESYSTEM.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_queue_open_fd(queue: *mut sbx_queue, error: *mut sbx_error) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call_on::<Queue>(queue, error, |queue| Ok(queue.open_fd()?.into_raw_fd())) }
}

/// Takes the oldest event.
///
/// Any thread, never blocks: wait with sbx_queue_open_fd.
///
/// Returns 1 and fills *event, or 0 when there is none; SBX_ESIZE, SBX_EINVALID. On failure no event is taken.
///
/// # Safety
/// `event` must point to an event struct, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_queue_next(
    queue: *mut sbx_queue,
    event: *mut sbx_event,
    error: *mut sbx_error,
) -> c_int {
    let next = |queue: &Queue| {
        // SAFETY: as the caller promises.
        let event = unsafe { structs::output("event", event) }?;
        let Some(taken) = queue.next() else { return Ok(0) };
        event.write(&sbx_event::from(&taken));
        Ok(1)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(queue, error, next) }
}

/// Frees a queue. Events in it, and those that come later, are discarded.
///
/// Sandboxes that use it live on. Any thread, never blocks.
///
/// # Safety
/// None: a handle that was freed already is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_queue_free(queue: *mut sbx_queue) {
    call_or((), || {
        if let Some(queue) = handle::take::<Queue>(queue)? {
            queue.close();
        }
        Ok(())
    });
}
