//! `sbx_stats`.

use std::ffi::c_int;

use super::call::call_on;
use super::codes::{
    SBX_STATS_CPU, SBX_STATS_EGRESS, SBX_STATS_MEMORY, SBX_STATS_MEMORY_PEAK, SBX_STATS_PROCESSES,
};
use super::error::sbx_error;
use super::operation::{Begin, Events, Work, sbx_operation};
use super::queue::sbx_queue;
use super::sandbox::{SandboxObject, sbx_sandbox};
use super::structs::{self, Layout};
use crate::sandbox::Stats;

/// What a sandbox uses and has done. The caller owns it; zero it or use SBX_STATS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_stats {
    /// sizeof(sbx_stats), or 0.
    pub size: u32,
    /// SBX_STATS_... together: which of the fields below that can be unknown are known; the others are 0.
    pub known: u32,
    /// From the program's start to its end or to now, in milliseconds.
    pub uptime_ms: i64,
    /// Processor time of all its processes on the host, gVisor's own included, in microseconds.
    pub cpu_us: i64,
    /// Memory on the host: the programs', their files in memory, and gVisor's own (about 20 MB).
    pub memory_bytes: u64,
    /// The most memory it ever had.
    pub memory_peak_bytes: u64,
    /// Processes inside, without the library's own. Reported by code in the sandbox, which can make it any
    /// number; at most 65,536.
    pub processes: u32,
    /// Connections through its tunnels that are open now.
    pub tunnel_connections: u32,
    /// Connections through its tunnels that were accepted since its start.
    pub tunnel_connections_total: u64,
    /// Bytes from the tunnels' clients to the sandbox.
    pub tunnel_bytes_in: u64,
    /// Bytes from the sandbox to the tunnels' clients.
    pub tunnel_bytes_out: u64,
    /// Connections and UDP flows from the sandbox to outside that are open now.
    pub egress_flows: u32,
    /// 0.
    pub reserved: u32,
    /// Connections and UDP flows from the sandbox to outside since its start.
    pub egress_flows_total: u64,
    /// Bytes from outside to the sandbox by those flows.
    pub egress_bytes_in: u64,
    /// Bytes from the sandbox to outside by those flows.
    pub egress_bytes_out: u64,
    /// What the policy denied: flows, and single packets that the gateway's rules refused, sent again or not.
    pub egress_denied: u64,
    /// Names that were asked for.
    pub dns_queries: u64,
    /// Names that the policy refused to look up.
    pub dns_refused: u64,
    /// What the library's threads have spent on it, in microseconds: on its tunnels, what it reaches, its streams and
    /// files. Time that has passed, so waiting for a processor counts. Each thread shares its time fairly between
    /// the sandboxes that have something to do.
    pub library_us: i64,
}

// SAFETY: repr(C), begins with its size, 136 bytes without padding, integers only.
unsafe impl Layout for sbx_stats {
    const NAME: &'static str = "sbx_stats";
    const FIRST_SIZE: usize = 136;
}

impl From<Stats> for sbx_stats {
    fn from(stats: Stats) -> Self {
        let known = [
            (stats.cpu.is_some(), SBX_STATS_CPU),
            (stats.memory.is_some(), SBX_STATS_MEMORY),
            (stats.memory_peak.is_some(), SBX_STATS_MEMORY_PEAK),
            (stats.processes.is_some(), SBX_STATS_PROCESSES),
            (true, SBX_STATS_EGRESS),
        ];
        Self {
            size: 0,
            known: known.into_iter().filter_map(|(known, bit)| known.then_some(bit)).sum(),
            uptime_ms: i64::try_from(stats.uptime.as_millis()).unwrap_or(i64::MAX),
            cpu_us: i64::try_from(stats.cpu.unwrap_or_default().as_micros()).unwrap_or(i64::MAX),
            memory_bytes: stats.memory.unwrap_or(0),
            memory_peak_bytes: stats.memory_peak.unwrap_or(0),
            processes: stats.processes.unwrap_or(0),
            tunnel_connections: stats.tunnel_connections,
            tunnel_connections_total: stats.tunnel_connections_total,
            tunnel_bytes_in: stats.tunnel_bytes_in,
            tunnel_bytes_out: stats.tunnel_bytes_out,
            egress_flows: stats.egress_flows,
            reserved: 0,
            egress_flows_total: stats.egress_flows_total,
            egress_bytes_in: stats.egress_bytes_in,
            egress_bytes_out: stats.egress_bytes_out,
            egress_denied: stats.egress_denied,
            dns_queries: stats.dns_queries,
            dns_refused: stats.dns_refused,
            library_us: i64::try_from(stats.library_time.as_micros()).unwrap_or(i64::MAX),
        }
    }
}

/// What the sandbox uses and has done; of an ended one, what it had used in all.
///
/// The kernel and the sandbox are asked anew each time. What isn't answered within a second is left out of `known`. Any
/// thread, any number of times; blocks, usually for a fraction of a millisecond and for a second at most. Hosts with an
/// event loop use sbx_sandbox_stats_begin.
///
/// Returns 0 and fills *stats; SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `stats` must point to a stats struct, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_stats(
    sandbox: *const sbx_sandbox,
    stats: *mut sbx_stats,
    error: *mut sbx_error,
) -> c_int {
    let read = |object: &SandboxObject| {
        // SAFETY: as the caller promises.
        let place = unsafe { structs::output("stats", stats) }?;
        let found = sbx_stats::from(object.sandbox.stats()?);
        place.write(&found);
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call_on(sandbox, error, read) }
}

/// Begins sbx_sandbox_stats: sbx_operation_stats. sbx_operation says what holds for everything that is begun.
///
/// Returns 0; SBX_ECLOSED, SBX_ELIMIT.
///
/// # Safety
/// `operation` must point to a place for the result, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_sandbox_stats_begin(
    sandbox: *mut sbx_sandbox,
    queue: *mut sbx_queue,
    cookie: u64,
    operation: *mut *mut sbx_operation,
    error: *mut sbx_error,
) -> c_int {
    let start =
        |object: &SandboxObject, events: Events<'_>| Ok(Work::Stats(object.sandbox.stats_begin(events)?));
    // SAFETY: as the caller promises.
    unsafe { Begin { queue, cookie, operation, error }.on(sandbox, start) }
}
