//! `sbx_sandbox_list`: which sandboxes a runtime had at a moment.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use super::call::{call_on, call_or};
use super::codes;
use super::error::sbx_error;
use super::handle::{self, Object};
use super::structs::{self, Layout, c_text};
use crate::error::{Code, Error, Result};
use crate::sandbox::Sandbox;

/// The sandboxes of a runtime as they were at a moment. It doesn't change; any thread may read it. It keeps no
/// sandbox alive.
#[derive(Debug)]
pub struct sbx_sandbox_list {
    _private: [u8; 0],
}

/// A sandbox of a list, as it was at that moment. Its texts belong to the list. The caller owns the struct; zero it or
/// use SBX_SANDBOX_ENTRY_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_sandbox_entry {
    /// sizeof(sbx_sandbox_entry), or 0.
    pub size: u32,
    /// SBX_STATE_....
    pub state: i32,
    /// Its id.
    pub id: *const c_char,
    /// Its name; NULL if it has none.
    pub name: *const c_char,
}

// SAFETY: repr(C), begins with its size, 24 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_sandbox_entry {
    const NAME: &'static str = "sbx_sandbox_entry";
    const FIRST_SIZE: usize = 24;
}

impl From<&Entry> for sbx_sandbox_entry {
    fn from(entry: &Entry) -> Self {
        let name = entry.name.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        Self { size: 0, state: entry.state, id: entry.id.as_ptr(), name }
    }
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
/// Returns the count.
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

/// Reads one entry of a list, from 0.
///
/// Returns 0 and fills *entry; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `entry` must point to an entry struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_list_entry(
    list: *const sbx_sandbox_list,
    index: usize,
    entry: *mut sbx_sandbox_entry,
) -> c_int {
    let read = |list: &ListObject| {
        // SAFETY: as the caller promises.
        let entry = unsafe { structs::output("entry", entry) }?;
        entry.write(&sbx_sandbox_entry::from(list.entry(index)?));
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
pub unsafe extern "C" fn sbx_sandbox_list_free(list: *mut sbx_sandbox_list) {
    call_or((), || handle::take::<ListObject>(list).map(drop));
}
