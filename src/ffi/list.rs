//! `sbx_sandbox_list`: which sandboxes a runtime had at a moment.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use super::call::{call_on, call_or, call_with};
use super::codes;
use super::error::sbx_error;
use super::handle::{self, Object};
use super::structs::c_text;
use crate::error::{Code, Error, Result};
use crate::sandbox::Sandbox;

/// The sandboxes of a runtime as they were at a moment. It doesn't change; any thread may read it. Texts
/// live as long as it. It keeps no sandbox alive.
#[derive(Debug)]
pub struct sbx_sandbox_list {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(super) struct ListObject(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    id: CString,
    name: Option<CString>,
    state: i32,
}

impl Object for ListObject {
    type Opaque = sbx_sandbox_list;
    const KIND: &'static str = "sandbox list";
}

impl ListObject {
    pub(super) fn new(sandboxes: &[Sandbox]) -> Self {
        let entry = |sandbox: &Sandbox| Entry {
            id: c_text(sandbox.id()),
            name: sandbox.name().map(c_text),
            state: codes::state(sandbox.state()),
        };
        Self(sandboxes.iter().map(entry).collect())
    }

    fn entry(&self, index: usize) -> Result<&Entry> {
        self.0
            .get(index)
            .ok_or_else(|| Error::new(Code::NotFound, format!("the list has no sandbox {index}")))
    }
}

/// How many sandboxes are in the list.
///
/// Returns the count; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_list_count(list: *const sbx_sandbox_list) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(list, ptr::null_mut::<sbx_error>(), |list: &ListObject| {
            Ok(c_int::try_from(list.0.len()).unwrap_or(c_int::MAX))
        })
    }
}

/// A sandbox's id. NULL for a bad handle or index.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_list_id(list: *const sbx_sandbox_list, index: usize) -> *const c_char {
    call_or(ptr::null(), || call_with(list, |list: &ListObject| Ok(list.entry(index)?.id.as_ptr())))
}

/// A sandbox's name. NULL if it has none, or for a bad handle or index.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_list_name(list: *const sbx_sandbox_list, index: usize) -> *const c_char {
    call_or(ptr::null(), || {
        call_with(list, |list: &ListObject| {
            Ok(list.entry(index)?.name.as_ref().map_or(ptr::null(), |name| name.as_ptr()))
        })
    })
}

/// The state that a sandbox was in: SBX_STATE_....
///
/// Returns that; SBX_ENOTFOUND, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_list_state(list: *const sbx_sandbox_list, index: usize) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(list, ptr::null_mut::<sbx_error>(), |list: &ListObject| Ok(list.entry(index)?.state)) }
}

/// Frees a list and its texts; NULL is allowed.
///
/// # Safety
/// No text of the list may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_list_free(list: *mut sbx_sandbox_list) {
    call_or((), || handle::take::<ListObject>(list).map(drop));
}
