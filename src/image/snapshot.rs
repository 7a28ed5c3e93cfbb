//! Snapshots: what a sandbox has changed in its root file system, merged with the image below into a new image.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::error::Result;

/// A sandbox of which a snapshot is taken. Its functions may block; they end soon once `ended` is set.
pub(crate) trait Source: fmt::Debug + Send {
    /// What it is called, for people.
    fn name(&self) -> &str;

    /// The image below its changes.
    fn base(&self) -> Result<OwnedFd>;

    /// The configuration of that image.
    fn config_json(&self) -> &str;

    /// How many bytes its changed files have. Fails if they are too large to be read.
    fn measure(&self, ended: &AtomicBool) -> Result<u64>;

    /// Writes the changes to a file, as a tar archive of at most that size. Returns its size, and how long the sandbox was
    /// paused.
    fn write(&self, file: OwnedFd, limit: u64, ended: &AtomicBool) -> Result<(u64, Duration)>;
}
