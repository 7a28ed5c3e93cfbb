//! Images: a sandbox's file system as one read-only EROFS file, with the configuration that came with it.

mod archive;
mod config;
/// Turns layers into the file. The keeper's program runs it, confined; here it is for tests and fuzzing.
#[cfg(any(test, fuzzing))]
#[allow(dead_code, unused_imports, reason = "the keeper's program uses the rest of it")]
pub(crate) mod convert;
mod digest;
/// Writes and reads the file. The keeper's program includes it, too.
#[allow(dead_code, unused_imports, reason = "the keeper's program uses the rest of it")]
pub(crate) mod erofs;
mod failure;
mod handle;
mod helper;
mod import;
mod json;
mod options;
mod progress;
mod pull;
mod reference;
mod registry;
mod service;
mod snapshot;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod testing;
mod transfer;
mod watch;
pub(crate) mod workers;
mod workshop;

use crate::keeper::wire::image as wire;
pub(crate) use archive::tar;
pub use config::ImageConfig;
pub(crate) use digest::Digest;
use failure::cancelled;
pub(crate) use failure::error;
#[cfg(any(test, fuzzing))]
pub(crate) use registry::fuzzed;
pub use snapshot::Snapshot;
pub(crate) use snapshot::Source;
pub use transfer::CopiedImage;
pub(crate) use transfer::Transfer;

use std::path::{Path, PathBuf};

pub use handle::{Image, ImageInfo};
pub use options::{ImageFormat, ImageLimits, ImageOptions, ImageSource, PrunedImages};
pub(crate) use registry::RegistrySettings;
pub(crate) use service::{Images, parse_tag as full_tag};
use store::Store;
pub(crate) use watch::Watch;
pub(crate) use workshop::{BuildLimits, Changes, Layers, Workshop};

use crate::error::{Error, Result};

/// Where a runtime's images are: in this directory, or else in the user's, by the environment.
pub(crate) fn directory(directory: Option<&Path>) -> Result<PathBuf> {
    match directory {
        Some(directory) if directory.is_absolute() => Ok(directory.to_owned()),
        Some(directory) => {
            Err(Error::invalid(format!("image_directory {}: must be an absolute path", directory.display())))
        }
        None => Store::directory_from_environment(),
    }
}
