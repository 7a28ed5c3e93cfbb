//! Builds images: reads a Dockerfile and the files that it copies.

#[allow(dead_code, reason = "for the executor of builds")]
pub(crate) mod context;
#[allow(dead_code, reason = "for the executor of builds")]
pub(crate) mod dockerfile;
/// What the fuzz targets call.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
mod glob;
mod ignore;
