//! `sbx_config`: how much of the host a sandbox may use.

use std::ffi::c_int;

use super::codes::{SBX_LIMITS_STRICT, SBX_LIMITS_WATCHDOG};
use super::config::{sbx_config, set};
use crate::config::LimitMode;
use crate::error::Error;

/// Limits the sandbox's memory, in bytes, at least 64 MiB. What counts is the programs' memory, their files in
/// memory (all that they write, except to mounts), and gVisor's own, about 20 MB. A sandbox that needs more ends
/// with SBX_EXIT_OUT_OF_MEMORY.
///
/// The kernel enforces it by a cgroup that the library makes below the process's own. As root that works as it is;
/// an ordinary user's cgroup must be delegated (systemd-run --user --scope -p Delegate=yes PROGRAM). Otherwise
/// creating the sandbox fails with SBX_EHOST, or sbx_config_set_limit_mode says what happens instead. Where cgroup
/// v2 allows no processes beside sub-cgroups, the processes of the delegated cgroup are moved to a sub-cgroup of
/// it, "sbx-host".
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_memory_bytes(config: *mut sbx_config, bytes: u64) -> c_int {
    set(config, |config| config.set_memory(bytes).map(drop))
}

/// Limits the sandbox's processor time, in thousandths of a processor (1500 is one and a half), at least 10.
/// gVisor's own counts. Only a cgroup can enforce it: see sbx_config_set_memory_bytes.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_millicpus(config: *mut sbx_config, millicpus: u32) -> c_int {
    set(config, |config| config.set_cpu(millicpus).map(drop))
}

/// Limits the processes and threads inside, from 1 to 65535 (default 4096). gVisor enforces it: fork(2) fails with
/// EAGAIN. It counts for each user inside. Root there can become other users; what it can't do is exceed gVisor's
/// own 65536 or the memory limit.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_max_processes(config: *mut sbx_config, count: u32) -> c_int {
    set(config, |config| config.set_max_processes(count).map(drop))
}

/// Limits the bytes that may be written, at least 64 KiB. gVisor enforces it: write(2) fails with ENOSPC.
///
/// The limit is for the root file system, and the same again for each of /tmp and /dev/shm. These files are kept in the
/// host's memory, so they count for sbx_config_set_memory_bytes, too. Writes to mounts go to the host's file systems and
/// aren't counted. Files that root inside makes in /dev are limited by sbx_config_set_memory_bytes only (gVisor's file
/// system there has no size).
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_disk_bytes(config: *mut sbx_config, bytes: u64) -> c_int {
    set(config, |config| config.set_disk(bytes).map(drop))
}

/// Limits the descriptors of each process inside, from 8 to 1048576 (default: 1024, which programs may raise to
/// 1048576 themselves). gVisor enforces it. They cost the host memory, but no descriptors.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_max_open_files(config: *mut sbx_config, count: u32) -> c_int {
    set(config, |config| config.set_max_open_files(count).map(drop))
}

/// Sets what to do if the kernel can't enforce the memory limit: SBX_LIMITS_STRICT (the default), or
/// SBX_LIMITS_WATCHDOG.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_limit_mode(config: *mut sbx_config, mode: i32) -> c_int {
    set(config, |config| {
        let mode = match mode {
            SBX_LIMITS_STRICT => LimitMode::Strict,
            SBX_LIMITS_WATCHDOG => LimitMode::Watchdog,
            _ => return Err(Error::invalid(format!("limit mode {mode}: must be one of SBX_LIMITS_..."))),
        };
        config.set_limit_mode(mode);
        Ok(())
    })
}
