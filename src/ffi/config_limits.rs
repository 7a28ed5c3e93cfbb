//! `sbx_config`: how much of the host a sandbox may use.

use std::ffi::c_int;

use super::codes::{SBX_LIMITS_STRICT, SBX_LIMITS_WATCHDOG};
use super::config::{sbx_config, set};
use crate::config::LimitMode;
use crate::error::Error;

/// The most memory, in bytes, at least 64 MiB: the programs', their files in memory (all that is written, but for
/// mounts), and gVisor's own, about 20 MB. A sandbox that needs more ends with SBX_EXIT_OUT_OF_MEMORY.
///
/// The kernel holds it by a cgroup that the library makes below the process's own. As root that works as it is;
/// an ordinary user's cgroup must be delegated (systemd-run --user --scope -p Delegate=yes PROGRAM). Else creating
/// fails with SBX_EHOST, or it is as sbx_config_set_limit_mode says. Where cgroup v2 allows no processes beside
/// sub-cgroups, the processes of the delegated cgroup are moved to a sub-cgroup of it, "sbx-host".
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_memory_bytes(config: *mut sbx_config, bytes: u64) -> c_int {
    set(config, |config| config.set_memory(bytes).map(drop))
}

/// The most processor time, in thousandths of a processor (1500 is one and a half), at least 10. gVisor's own
/// counts. It is held by a cgroup and by nothing else: see sbx_config_set_memory_bytes.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_millicpus(config: *mut sbx_config, millicpus: u32) -> c_int {
    set(config, |config| config.set_cpu(millicpus).map(drop))
}

/// The most processes and threads inside, from 1 to 65535 (default 4096), held by gVisor: fork(2) fails with
/// EAGAIN. It counts for each user inside; root there can become others, and what it can't do is go beyond
/// gVisor's own 65536 or the limit of memory.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_max_processes(config: *mut sbx_config, count: u32) -> c_int {
    set(config, |config| config.set_max_processes(count).map(drop))
}

/// The most bytes that may be written, at least 64 KiB, held by gVisor: write(2) fails with ENOSPC. So much for
/// the root file system, and as much for each of /tmp and /dev/shm. All of it is memory of the host and counts for
/// sbx_config_set_memory_bytes, too. What is written to mounts is the host's and isn't counted, and files that root inside
/// makes in /dev are held by sbx_config_set_memory_bytes only (gVisor's own file system there has no size).
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_disk_bytes(config: *mut sbx_config, bytes: u64) -> c_int {
    set(config, |config| config.set_disk(bytes).map(drop))
}

/// The most descriptors of each process inside, from 8 to 1048576, held by gVisor (default: 1024, which programs
/// may raise to 1048576 themselves). They cost the host memory, but no descriptors.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_max_open_files(config: *mut sbx_config, count: u32) -> c_int {
    set(config, |config| config.set_max_open_files(count).map(drop))
}

/// What to do if the kernel can't enforce the memory limit: SBX_LIMITS_STRICT (the default), or
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
