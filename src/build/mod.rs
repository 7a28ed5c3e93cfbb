//! Builds images: reads a Dockerfile and the files that it copies.

#[allow(dead_code, reason = "for the executor of builds")]
pub(crate) mod context;
#[allow(dead_code, reason = "for the executor of builds")]
pub(crate) mod dockerfile;
mod glob;
mod ignore;
