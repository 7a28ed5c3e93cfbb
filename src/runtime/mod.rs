//! One runtime: two threads, however many sandboxes; the registry of sandboxes; the event queues.
mod engine;
mod event;
mod queue;

use std::path::PathBuf;

pub use event::{Event, EventKind};
pub use queue::Queue;

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::runsc::report::Report;
use crate::sandbox::Sandbox;

/// What a runtime is made with. The default suits nearly everybody.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// The runsc to use; else `SBX_RUNSC`, `PATH`, and the well-known places.
    pub runsc: Option<PathBuf>,
    /// An installed copy of the keeper to use instead of the embedded one; else `SBX_KEEPER`.
    pub keeper: Option<PathBuf>,
    /// Whether sandboxes get a user namespace of their own (default true).
    pub user_namespace: bool,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { runsc: None, keeper: None, user_namespace: true }
    }
}

/// A runtime. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Runtime {}

impl Runtime {
    fn later<T>() -> Result<T> {
        Err(Error::new(Code::Unsupported, "not built yet"))
    }
    /// Makes a runtime: finds runsc, starts the two threads.
    pub fn new(_config: &RuntimeConfig) -> Result<Self> {
        Self::later()
    }
    /// The process's default runtime, made on first use.
    pub fn shared() -> Result<Self> {
        Self::later()
    }
    /// Checks everything the library needs of this host.
    pub fn check(_config: &RuntimeConfig) -> Result<Report> {
        Self::later()
    }
    /// Creates a sandbox and waits until its program was started.
    pub fn create(&self, _config: &Config) -> Result<Sandbox> {
        Self::later()
    }
    /// Begins to create a sandbox; the end of it is an event (`Started` or `Failed`).
    pub fn create_begin(&self, _config: &Config) -> Result<Sandbox> {
        Self::later()
    }
    /// The sandboxes of this runtime that have not ended.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        Vec::new()
    }
    /// Ends every sandbox and both threads; returns when they are gone.
    pub fn shutdown(&self) {}
}
