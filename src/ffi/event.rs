//! `sbx_event`.

use std::ffi::c_char;

use super::structs::{self, Layout};
use crate::event::EventRecord;

/// Something that happened to a sandbox, a program in it or an operation. SBX_EVENT_... documents which fields a kind
/// uses. The caller owns it; zero it or use SBX_EVENT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_event {
    /// sizeof(sbx_event), or 0.
    pub size: u32,
    /// What happened: SBX_EVENT_.... Skip what you don't know: later versions have more.
    pub kind: u32,
    /// The host's own number for what it happened to: the one given to sbx_config_set_queue,
    /// sbx_exec_config_set_queue, or a ..._begin function.
    pub cookie: u64,
    /// Counts the queue's events from 1, the lost ones included.
    pub sequence: u64,
    /// When, in milliseconds of CLOCK_MONOTONIC.
    pub time_ms: i64,
    /// How many events were dropped just after this one because the queue was full.
    pub lost: u64,
    /// An exit code, an error's number, the errno of SBX_EVENT_UNREACHABLE, or 0.
    pub code: i32,
    /// SBX_EXIT_... or SBX_REASON_..., or 0.
    pub reason: i32,
    /// The place of the policy's entry concerned, or -1: sbx_policy_entry.
    pub entry: i32,
    /// An IP protocol, or 0.
    pub protocol: u32,
    /// A port, or 0.
    pub port: u32,
    /// How many times it happened, where events are gathered; else 1.
    pub count: u32,
    /// An address or a name, or empty.
    pub address: [c_char; 64],
    /// A text for people, or empty.
    pub detail: [c_char; 280],
    /// Numbers that belong to the kind, or 0: see there.
    pub value: [u64; 2],
}

// SAFETY: repr(C), begins with its size, 424 bytes without padding, integers only.
unsafe impl Layout for sbx_event {
    const NAME: &'static str = "sbx_event";
    const FIRST_SIZE: usize = 424;
}

impl From<&EventRecord> for sbx_event {
    fn from(event: &EventRecord) -> Self {
        let mut address = [0; 64];
        let mut detail = [0; 280];
        structs::fill(&mut address, &event.address);
        structs::fill(&mut detail, &event.detail);
        Self {
            size: 0,
            kind: event.kind as u32,
            cookie: event.cookie,
            sequence: event.sequence,
            time_ms: i64::try_from(event.time.as_millis()).unwrap_or(i64::MAX),
            lost: event.lost,
            code: event.code,
            reason: event.reason.number(),
            entry: event.entry,
            protocol: event.protocol,
            port: event.port,
            count: event.count,
            address,
            detail,
            value: event.value,
        }
    }
}
