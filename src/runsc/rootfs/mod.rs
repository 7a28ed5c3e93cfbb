//! The plan of a sandbox's root file system, as data.
//!
//! The keeper carries the plan out, in order, on an empty tmpfs in its own mount namespace. The host doesn't see it, and
//! nothing of the host is written: gVisor puts a memory overlay above, so that the sandbox can write everywhere without
//! reaching the files below.
//!
//! # Symbolic links
//!
//! No link leads out of a plan. All directories above an entry are [`Entry::Dir`]s of the same plan, on the tmpfs, so no
//! destination path contains a link. Source paths contain no links when the plan is made, and the keeper opens them with
//! `RESOLVE_NO_SYMLINKS`, so replacing a part with a link later is an error. Links themselves become [`Entry::Symlink`]s:
//! text that only the sandbox follows, inside.
mod etc;
mod host;
mod steps;
mod target;
mod user;
mod view;

use std::path::Path;

pub(crate) use etc::Names;
#[cfg(test)]
use steps::assert_closed;
pub(crate) use steps::{Entry, OURS};
use steps::{MAX_ENTRIES, Plan};
pub(crate) use target::check_mount;

use crate::error::Result;

/// The path of init; the keeper binds its own program there.
pub(crate) const INIT: &str = "/.sbx/init";

/// The plan for the caller's root file system directory, or for the default one.
pub(crate) fn plan(directory: Option<&Path>, names: &Names<'_>) -> Result<Vec<Entry>> {
    match directory {
        Some(directory) => user::user(directory, names),
        None => host::host(names),
    }
}

/// Scans the host's programs unless that was done before, as [`plan`] would. May take a while, or hang.
pub(crate) fn look() {
    view::View::current();
}

/// Whether [`look`] has to scan, which is worth a thread.
pub(crate) fn is_unseen() -> bool {
    view::View::is_first()
}
