//! Measures what the sandbox has changed in its root file system, before a snapshot.
//!
//! The root is an overlay, and of what is not a directory the device number tells the layer: that of a new file is the
//! upper layer's. Directories have the overlay's own, and what is mounted in the tree has another.

use std::ffi::CStr;
use std::io;

use super::at::{self, In, Names};
use super::helper::{AtStep, Failure, Result, report_progress};
use super::remove::MAX_DEPTH;
use crate::wire::files::{Outcome, Step, Totals};

/// What is measured.
struct Measure {
    /// The device of the root's directories.
    root: libc::dev_t,
    /// The device of files in the upper layer; `None` if that isn't known, and all files count.
    upper: Option<libc::dev_t>,
    /// The largest size that a file may have.
    limit: u64,
    totals: Totals,
}

/// Counts the files in the upper layer of the root file system, and their sizes. A file with more than `limit` bytes is
/// [`Step::Limit`].
pub(super) fn measure(limit: u64) -> Result<Outcome> {
    let root = at::full_stat(In::ROOT, c"/").at_step(Step::Open)?;
    let mut measure =
        Measure { root: root.st_dev, upper: upper_device(&root).ok(), limit, totals: Totals::default() };
    measure.directory(In::ROOT, c"/", 0, b"")?;
    Ok(Outcome::Done(measure.totals))
}

/// The device of a new file. The directory gets its time of modification back.
fn upper_device(root: &libc::stat) -> io::Result<libc::dev_t> {
    const NAME: &CStr = c"/.sbx-measure";
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
    let file = at::open(In::ROOT, NAME, flags, 0o600)?;
    let device = at::full_stat(In::ROOT, NAME).map(|stat| stat.st_dev);
    at::unlink(In::ROOT, NAME, false)?;
    at::set_modified_exactly(In::ROOT, c"/", root.st_mtime, root.st_mtime_nsec)?;
    drop(file);
    device
}

impl Measure {
    fn directory(&mut self, at: In, name: &CStr, depth: usize, path: &[u8]) -> Result<()> {
        let here = |failure: Failure| if failure.errno() == libc::EMFILE { deep() } else { failure.at(path) };
        if depth == MAX_DEPTH {
            return Err(deep());
        }
        let names = match at::open_directory(at, name).and_then(Names::of) {
            Err(error) if is_gone(&error) => return Ok(()),
            opened => opened.at_step(Step::Read).map_err(here)?,
        };
        let directory = In::from(&names);
        for entry in names {
            report_progress();
            let entry = entry.at_step(Step::Read).map_err(here)?;
            let stat = match at::full_stat(directory, &entry) {
                // It was removed since.
                Err(error) if is_gone(&error) => continue,
                stat => stat.at_step(Step::Read).map_err(here)?,
            };
            let below = || [path, b"/", entry.to_bytes()].concat();
            match stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR if stat.st_dev == self.root => {
                    self.directory(directory, &entry, depth + 1, &below())?;
                }
                libc::S_IFREG if self.upper.is_none_or(|upper| upper == stat.st_dev) => {
                    let size = u64::try_from(stat.st_size).unwrap_or(0);
                    if size > self.limit {
                        return Err(Failure::of(Step::Limit, libc::ENOMEM).at(&below()));
                    }
                    // Each name of a file counts for its part.
                    #[allow(clippy::useless_conversion, reason = "a u32 on arm64")]
                    let part = size / u64::from(stat.st_nlink).max(1);
                    self.totals.bytes = self.totals.bytes.saturating_add(part);
                    self.totals.entries += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether something was removed, or replaced by something else, since its directory was read.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

fn deep() -> Failure {
    Failure::of(Step::Depth, libc::ENAMETOOLONG)
}
