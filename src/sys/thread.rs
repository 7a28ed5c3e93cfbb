//! Threads that take no signal of the host's.

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
