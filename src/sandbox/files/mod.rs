//! Files in a sandbox: read, written, listed, copied, watched.
//!
//! All of it is done inside the sandbox, by a helper process of its init with the rights of the user asked for:
//! no tool in the sandbox is needed, and no symbolic link there leads to a file of the host. Bytes come and go
//! over streams; what comes back is read as an attacker's: bounded, and checked before it is believed.
//!
//! An operation is begun with [`Sandbox::begin_file`](crate::Sandbox::begin_file) and goes on by itself; the
//! functions of [`Sandbox`](crate::Sandbox) that wait are built on it.

mod copy;
mod entry;
mod errors;
mod operation;
mod pump;
mod request;
mod sandbox;
mod stall;
mod table;
mod task;

#[cfg(test)]
mod tests;

pub use entry::{DirectoryEntry, FileChange, FileChangeKind, FileInfo, FileKind, FileTotals};
pub use operation::FileOperation;
pub(crate) use request::bytes as check_path;
pub use request::{FileOptions, FileRequest};
pub(crate) use sandbox::begin_measure;
pub(crate) use table::{FileOutcome, Table};
pub(crate) use task::FileTask;
