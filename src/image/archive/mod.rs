//! What an image is imported from.

mod directory;
mod tar;

pub(crate) use directory::{DirectorySummary, PipeWriter, write as write_directory};
