//! The library's threads: they take no signal of the host's, and are soon given a processor.

use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};

use crate::error::{Context, Result};

/// Runs `start`, which starts a thread, so that the new thread has every signal blocked from its first
/// instruction; the caller's own mask is as before.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> Result<T> {
    let before =
        SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).context("block signals for a new thread")?;
    let result = start();
    before.thread_set_mask().context("restore the signal mask")?;
    Ok(result)
}

/// Asks for the shortest slice that Linux gives this thread, 0.1 ms. What it starts has the usual slice again.
///
/// The scheduler picks the thread whose slice would end first (EEVDF), so one with a short slice soon gets its turn among
/// threads that have long ones, and no more time than they. Linux takes the length from 6.12 on (`__setparam_fair` of
/// kernel/sched/syscalls.c); earlier ones ignore it. A thread that runs by another policy isn't changed, and neither is
/// one that is preferred already: `RESET_ON_FORK` would take a negative nice value from its children.
pub(crate) fn shorten_slice() {
    const MIN_SLICE: Duration = Duration::from_micros(100);
    let Some(mut attributes) = attributes() else { return };
    let usual = matches!(i32::try_from(attributes.sched_policy), Ok(libc::SCHED_OTHER | libc::SCHED_BATCH));
    if !usual || attributes.sched_nice < 0 {
        return;
    }
    attributes.sched_flags |= RESET_ON_FORK;
    attributes.sched_runtime = u64::try_from(MIN_SLICE.as_nanos()).unwrap_or_default();
    // SAFETY: the struct is live and says its own size. The call changes nothing but this thread's scheduling.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

/// `SCHED_FLAG_RESET_ON_FORK` of linux/sched.h.
const RESET_ON_FORK: u64 = 1;

/// How this thread is scheduled.
fn attributes() -> Option<libc::sched_attr> {
    let mut attributes = libc::sched_attr {
        size: 0,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    let size = size_of_val(&attributes);
    // SAFETY: the struct is live and as large as said.
    let done = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    (done == 0).then_some(attributes)
}

/// How many processors this process may use.
pub(crate) fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_starts_has_the_usual_slice() {
        std::thread::spawn(|| {
            let before = attributes().unwrap();
            shorten_slice();
            let child = std::thread::spawn(|| attributes().unwrap()).join().unwrap();
            assert_eq!(child.sched_runtime, before.sched_runtime);
            assert_eq!((child.sched_policy, child.sched_nice), (before.sched_policy, before.sched_nice));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_keeps_its_policy_and_its_nice_value() {
        std::thread::spawn(|| {
            let before = attributes().unwrap();
            shorten_slice();
            let after = attributes().unwrap();
            assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, before.sched_nice));
            // Zero where the kernel doesn't take a length.
            assert!(after.sched_runtime == before.sched_runtime || after.sched_runtime == 100_000);
        })
        .join()
        .unwrap();
    }
}
