//! Calls of the C library that make configs and policies, in any order, with any arguments a C program may pass: texts
//! end with NUL, lists are as long as is said, a handle is a good one, freed, of another kind, or NULL.
//!
//! The fuzz target calls this, and `tests/abi.rs` with the seeds.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "every argument is one that the header allows"
)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "any number will do")]
#![allow(clippy::indexing_slicing, reason = "the index is cut to the length")]

/// The calls. `tests/header.rs` makes them from the header.
#[rustfmt::skip]
mod calls;

use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

use calls::call;
// Its functions are what is called.
use sbx as _;

/// SBX_POLICY_OPEN.
const OPEN: i32 = 1;
/// SBX_POLICY_ALLOWLIST.
const ALLOWLIST: i32 = 2;

unsafe extern "C" {
    fn sbx_config_new(config: *mut *const c_void, error: *mut c_void) -> i32;
    fn sbx_config_free(config: *const c_void);
    fn sbx_exec_config_new(config: *mut *const c_void, error: *mut c_void) -> i32;
    fn sbx_exec_config_free(config: *const c_void);
    fn sbx_policy_new(mode: i32, policy: *mut *const c_void, error: *mut c_void) -> i32;
    fn sbx_policy_free(policy: *const c_void);
}

/// A handle of what `new` makes.
fn handle(new: impl FnOnce(*mut *const c_void) -> i32) -> *const c_void {
    let mut made = null();
    assert_eq!(new(&raw mut made), 0, "it is made");
    assert!(!made.is_null(), "no handle is lost");
    made
}

/// What is left of the bytes, and what was made of them for the call under way.
struct Input<'a> {
    bytes: &'a [u8],
    texts: Vec<Vec<u8>>,
    list: Option<Vec<*const c_char>>,
    room: Box<[u64; 256]>,
}

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// Small, or any: the first byte says how many follow.
    fn number(&mut self) -> u64 {
        let length = self.byte();
        (0..length % 9).fold(u64::from(length / 9), |sum, _| sum << 8 | u64::from(self.byte()))
    }

    /// A text of the library's caller, terminated; or NULL.
    fn text(&mut self) -> *const c_char {
        let length = match self.byte() {
            255 => return null(),
            254 => 70_000,
            length => usize::from(length),
        };
        let (text, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        let mut text: Vec<u8> = text.iter().copied().filter(|byte| *byte != 0).collect();
        if length > 255 {
            text.resize(length, b'x');
        }
        text.push(0);
        self.texts.push(text);
        self.texts.last().map_or(null(), |text| text.as_ptr().cast())
    }

    /// A list; its length is the next argument.
    fn list(&mut self) -> *const *const c_char {
        let length = self.byte();
        let texts: Vec<_> = (0..length % 20).map(|_| self.text()).collect();
        let start = if length == 255 { null() } else { texts.as_ptr() };
        self.list = Some(texts);
        start
    }

    /// A size: of the list, if there is one.
    fn size(&mut self) -> usize {
        match &self.list {
            Some(list) => list.len(),
            None => self.number() as usize,
        }
    }

    /// For a struct that the library writes.
    fn room(&mut self) -> *mut c_void {
        *self.room = [0; 256];
        self.room.as_mut_ptr().cast()
    }
}

/// Good ones, and one that was freed.
struct Handles {
    configs: [*const c_void; 2],
    policies: [*const c_void; 3],
    exec_configs: [*const c_void; 2],
}

impl Handles {
    fn of(handles: &[*const c_void], other: *const c_void, input: &mut Input<'_>) -> *const c_void {
        match input.byte() {
            255 => null(),
            254 => other,
            which => handles[usize::from(which) % handles.len()],
        }
    }

    fn config(&self, input: &mut Input<'_>) -> *const c_void {
        Self::of(&self.configs, self.policies[0], input)
    }

    fn policy(&self, input: &mut Input<'_>) -> *const c_void {
        Self::of(&self.policies, self.exec_configs[0], input)
    }

    fn exec_config(&self, input: &mut Input<'_>) -> *const c_void {
        Self::of(&self.exec_configs, self.configs[0], input)
    }

    fn queue(&self, input: &mut Input<'_>) -> *const c_void {
        Self::of(&[null()], self.configs[0], input)
    }
}

/// Makes the calls that these bytes stand for.
pub(crate) fn run(data: &[u8]) {
    let config = || handle(|place| unsafe { sbx_config_new(place, null_mut()) });
    let policy = |mode| handle(|place| unsafe { sbx_policy_new(mode, place, null_mut()) });
    let freed = config();
    unsafe { sbx_config_free(freed) };
    let handles = Handles {
        configs: [config(), freed],
        policies: [policy(OPEN), policy(ALLOWLIST), freed],
        exec_configs: [handle(|place| unsafe { sbx_exec_config_new(place, null_mut()) }), freed],
    };
    let mut input = Input { bytes: data, texts: Vec::new(), list: None, room: Box::new([0; 256]) };
    for _ in 0..64 {
        if input.bytes.is_empty() {
            break;
        }
        let number = u16::from_be_bytes([input.byte(), input.byte()]);
        call(number, &mut input, &handles);
        (input.texts, input.list) = (Vec::new(), None);
    }
    unsafe { sbx_config_free(handles.configs[0]) };
    handles.policies[..2].iter().for_each(|policy| unsafe { sbx_policy_free(*policy) });
    unsafe { sbx_exec_config_free(handles.exec_configs[0]) };
}
