//! Removes stale groups, left by a keeper that was killed together with its host.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};

/// Where has been looked.
static DONE: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Something was left that can't be removed yet.
pub(super) fn look_again() {
    *DONE.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Removes them, once a process and directory. A living keeper has its group locked.
pub(super) fn collect_once(parent: &Path) {
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if done.get_or_insert_default().insert(parent.to_owned()) {
        collect(parent);
    }
}

pub(super) fn collect(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_str().is_some_and(is_a_sandbox) && path.is_dir();
        let Some(group) = ours.then(|| File::open(&path).ok()).flatten() else { continue };
        // Who holds the lock lives. One that still has processes stays, since it can't be removed.
        if let Ok(_lock) = Flock::lock(group, FlockArg::LockExclusiveNonblock)
            && fs::remove_dir(&path).is_ok()
        {
            log::info!("the control group {} was left by a keeper that was killed; removed", path.display());
        }
    }
}

/// A sandbox's id: `sb-` and 16 hexadecimal digits.
fn is_a_sandbox(name: &str) -> bool {
    name.strip_prefix("sb-")
        .is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
