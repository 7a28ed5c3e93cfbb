//! The files of a build context: which of them a COPY takes, their digest, and the archive that the image is made of.
//!
//! Others may change the directory meanwhile. Everything is opened below it by openat2, so no link that is put into a path
//! leads out of it; a file that isn't what it was when its digest was made is an error.

mod choose;
mod directory;
mod selection;

pub(crate) use choose::ContextLimits;
pub(crate) use directory::Context;
pub(crate) use selection::Selection;

#[cfg(test)]
mod tests;
