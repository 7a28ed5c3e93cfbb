//! Images: the file system of a sandbox as one read-only file.

#[allow(dead_code, unused_imports, reason = "the keeper's program uses the rest of it")]
pub(crate) mod erofs;
