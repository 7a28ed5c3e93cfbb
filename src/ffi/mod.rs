//! The C ABI: every extern "C" function, every raw pointer, handles.
//!
//! One file a C object. Each function hands a closure to [`call`], which refuses calls in forked children,
//! catches panics, and turns the result into a number and a filled `sbx_error`. The comments of exported
//! items become `include/sbx.h`, which is the reference manual: they speak to C programmers.
#![allow(unsafe_code, reason = "this is where raw pointers of the host are read and written")]
#![allow(unreachable_pub, reason = "what C reaches is public; the modules are not part of the Rust API")]
#![allow(non_camel_case_types, reason = "these are the names that C programs use")]

pub(crate) mod build;
pub(crate) mod call;
pub(crate) mod capture;
pub(crate) mod codes;
pub(crate) mod config;
pub(crate) mod config_limits;
pub(crate) mod config_network;
pub(crate) mod config_streams;
pub(crate) mod draft;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod exec_config;
pub(crate) mod exit;
pub(crate) mod file;
pub(crate) mod file_structs;
pub(crate) mod handle;
pub(crate) mod image;
pub(crate) mod image_options;
pub(crate) mod input;
pub(crate) mod list;
pub(crate) mod log;
pub(crate) mod log_sink;
pub(crate) mod operation;
pub(crate) mod policy;
pub(crate) mod policy_entries;
pub(crate) mod process;
pub(crate) mod queue;
pub(crate) mod report;
pub(crate) mod runtime;
pub(crate) mod sandbox;
pub(crate) mod sandbox_policy;
pub(crate) mod sandbox_state;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod structs;
#[cfg(feature = "test-hooks")]
pub(crate) mod test_hooks;
pub(crate) mod tunnel_map;
pub(crate) mod verdict;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod warm;
