//! The warm pool of a runtime, and how many sandboxes it starts at once.

use std::ffi::{c_char, c_int};

use super::call::call;
use super::config::{ConfigObject, sbx_config};
use super::error::sbx_error;
use super::handle;
use super::runtime::{self, sbx_runtime};
use super::structs::{self, Layout, fill};
use crate::runtime::WarmStats;

/// What the warm pool of a runtime, or one template of it, has and has done. The caller owns it; zero it or use
/// SBX_WARM_STATS_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_warm_stats {
    /// sizeof(sbx_warm_stats), or 0.
    pub size: u32,
    /// Members that were asked for.
    pub wanted: u32,
    /// Members that a creation can take now.
    pub ready: u32,
    /// Members that are being made.
    pub filling: u32,
    /// Creations that took a member.
    pub hits: u64,
    /// Creations that found no member ready, or only one that has died.
    pub misses_empty: u64,
    /// Creations whose settings were not the template's. Counted for the template that is most like them.
    pub misses_different: u64,
    /// Creations for which the members were not current any more, because something on the host has changed.
    pub misses_changed: u64,
    /// Members that ended unused: too old, not current, too many, or in the way of a creation.
    pub discarded: u64,
    /// Members that could not be made, or that died.
    pub failures: u64,
    /// Why the last creation that took none took none, for people; empty if there was none. Terminated.
    pub last_miss: [c_char; 256],
    /// Why the last member that failed did; empty if none has. Terminated.
    pub last_failure: [c_char; 256],
}

// SAFETY: repr(C), begins with its size, 576 bytes without padding, integers only.
unsafe impl Layout for sbx_warm_stats {
    const NAME: &'static str = "sbx_warm_stats";
    const FIRST_SIZE: usize = 576;
}

impl From<WarmStats> for sbx_warm_stats {
    fn from(stats: WarmStats) -> Self {
        let mut made = Self {
            size: 0,
            wanted: stats.wanted,
            ready: stats.ready,
            filling: stats.filling,
            hits: stats.hits,
            misses_empty: stats.misses_empty,
            misses_different: stats.misses_different,
            misses_changed: stats.misses_changed,
            discarded: stats.discarded,
            failures: stats.failures,
            last_miss: [0; 256],
            last_failure: [0; 256],
        };
        fill(&mut made.last_miss, stats.last_miss.as_deref().unwrap_or_default());
        fill(&mut made.last_failure, stats.last_failure.as_deref().unwrap_or_default());
        made
    }
}

/// Keeps `count` sandboxes warm for configs like `config`: started, with nothing of anybody's in them, so that sbx_create
/// has only to apply its own settings and to start its program. 0 ends them.
///
/// sbx_create and sbx_create_begin take one by themselves if these are the same in both configs: root file system or image,
/// mounts, limits, MTU, host name, the number of host services, and whether there is a network at all. Everything else is
/// the created sandbox's own (command, environment, directory, user, streams, policy, ports, certificate, name servers,
/// name, tags, times, queue); of the config given here it is ignored. Each is used once. A sandbox that fits no config that
/// was given, or finds none ready, is created as without a pool.
///
/// They are started in the background, one at a time, while no sandbox is being created. Each costs the memory, the
/// processes and the descriptors of a sandbox. They are in no list of sandboxes and send no events. One that has waited for
/// an hour is replaced; a config that no creation matches for ten minutes keeps one. Those for which something on the host
/// has changed (runsc, the root file system, a mount's source) are not used. A creation that
/// lacks descriptors, memory or processes before its keeper has started ends them, and goes on with what they had; one that
/// lacks something later fails. They end with the runtime, and with the process, however that ends.
///
/// A config with volumes is refused, and sandboxes that have volumes are created as without a pool. The config stays the
/// caller's. At most 16 configs, and 256 sandboxes for all of them. Any thread, never blocks.
///
/// Returns 0; SBX_EINVALID, SBX_ELIMIT, SBX_ECLOSED, SBX_ESYSTEM; with a NULL runtime also what sbx_runtime_new returns,
/// except SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_keep_warm(
    runtime: *mut sbx_runtime,
    config: *const sbx_config,
    count: u32,
    error: *mut sbx_error,
) -> c_int {
    let keep = || {
        let config = handle::get::<ConfigObject>(config)?.copy();
        runtime::of(runtime)?.keep_warm(&config, count)?;
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, keep) }
}

/// Keeps `count` spares, 0 to 16; none by default. A spare is a sandbox that was started as far as gVisor's own program,
/// which waits there before it looks at what it is to run. A creation that takes one skips that part of a start. A
/// spare costs about 3 MB, where a warm sandbox costs what any does (sbx_runtime_keep_warm).
///
/// They are for sandboxes like the last two that were created one after the other, if those were alike: the same root file
/// system or image, mounts, limits, MTU, host name, number of host services, and both with a network or both without.
/// sbx_create and sbx_create_begin take one by themselves; each is used once, by a sandbox of this runtime, and nothing of
/// another was ever in it. Sandboxes that take a warm one, and those with volumes or an exit snapshot, don't count and take
/// none.
///
/// Spares are made in the background, one at a time, while no sandbox is being created: the first after the second creation.
/// They end 30 seconds after the last creation that could have taken one. Those for which something on the host has changed
/// are not used, and what ends warm sandboxes ends them, before those. Each holds the descriptors of a sandbox.
/// sbx_runtime_warm_stats doesn't count them. A creation fails if the spare that it takes dies in that very moment. Any
/// thread, never blocks.
///
/// Returns 0; SBX_EINVALID, SBX_ECLOSED, SBX_ESYSTEM; with a NULL runtime also what sbx_runtime_new returns, except
/// SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_set_spares(
    runtime: *mut sbx_runtime,
    count: u32,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call(error, || runtime::of(runtime)?.set_spares(count).map(|()| 0)) }
}

/// How many spares a runtime keeps.
///
/// Any thread, never blocks.
///
/// Returns the number; with a NULL runtime also what sbx_runtime_new returns, except SBX_ERUNSC_MISSING and
/// SBX_ERUNSC_UNUSABLE.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_spares(runtime: *const sbx_runtime, error: *mut sbx_error) -> c_int {
    // At most 16.
    let read = || Ok(c_int::try_from(runtime::of(runtime)?.spares()).unwrap_or(c_int::MAX));
    // SAFETY: as the caller promises.
    unsafe { call(error, read) }
}

/// What the warm sandboxes of a runtime are and have done, for configs like `config`, or for all if that is NULL. What
/// happened before sbx_runtime_keep_warm was called for a config, or after it was set to 0, isn't counted.
///
/// Any thread, never blocks.
///
/// Returns 0 and fills *stats; SBX_EINVALID, SBX_ESIZE; with a NULL runtime also what sbx_runtime_new returns, except
/// SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
///
/// # Safety
/// `stats` must point to such a struct, `error` to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_warm_stats(
    runtime: *mut sbx_runtime,
    config: *const sbx_config,
    stats: *mut sbx_warm_stats,
    error: *mut sbx_error,
) -> c_int {
    let read = || {
        // SAFETY: as the caller promises.
        let place = unsafe { structs::output("stats", stats) }?;
        let config = match config.is_null() {
            true => None,
            false => Some(handle::get::<ConfigObject>(config)?.copy()),
        };
        let found = runtime::of(runtime)?.warm_stats(config.as_ref());
        place.write(&sbx_warm_stats::from(found));
        Ok(0)
    };
    // SAFETY: as the caller promises.
    unsafe { call(error, read) }
}

/// Has at most `count` sandboxes of the runtime start at once, 1 to 256; 0 for the default, which is twice as many as there
/// are processors, and 4 at least. More at once are each slower, and no faster together.
///
/// sbx_create and sbx_create_begin beyond that wait for their turn, in the order of the calls. Those that wait hold no
/// descriptor, process or memory of a sandbox; sbx_terminate ends them at once. The 60 seconds in which a sandbox has to
/// start begin with its turn, and its lifetime (sbx_config_set_timeout_ms) when it has started. A sandbox that takes a warm
/// one doesn't wait (sbx_runtime_keep_warm), and warm ones are made only while no sandbox is being created.
///
/// Can be changed at any time, and holds for sandboxes whose turn has not come. Any thread, never blocks.
///
/// Returns 0; SBX_EINVALID, SBX_ECLOSED, SBX_ESYSTEM; with a NULL runtime also what sbx_runtime_new returns, except
/// SBX_ERUNSC_MISSING and SBX_ERUNSC_UNUSABLE.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_set_max_starts(
    runtime: *mut sbx_runtime,
    count: u32,
    error: *mut sbx_error,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { call(error, || runtime::of(runtime)?.set_max_starts(count).map(|()| 0)) }
}

/// How many sandboxes of the runtime start at once at most.
///
/// Any thread, never blocks.
///
/// Returns the number; with a NULL runtime also what sbx_runtime_new returns, except SBX_ERUNSC_MISSING and
/// SBX_ERUNSC_UNUSABLE.
///
/// # Safety
/// `error` must point to an error struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_runtime_max_starts(runtime: *const sbx_runtime, error: *mut sbx_error) -> c_int {
    // At most 256.
    let read = || Ok(c_int::try_from(runtime::of(runtime)?.max_starts()).unwrap_or(c_int::MAX));
    // SAFETY: as the caller promises.
    unsafe { call(error, read) }
}
