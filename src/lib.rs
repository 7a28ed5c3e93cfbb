//! libsbx: gVisor sandboxes inside your own process.
//!
//! A program creates a [`Sandbox`], reaches servers in it through TLS or TCP tunnels, and decides what it
//! may reach. There is no daemon, nothing to configure on the host, and no root needed. The C ABI of
//! `include/sbx.h` is a thin layer over what is public here.

mod error;
mod limits;
mod sticky;
mod topology;

mod cgroup;
pub mod config;
pub mod policy;

mod doctor;
mod egress;
mod engine;
mod event;
mod ffi;
mod keeper;
mod net;
mod process;
mod pump;
mod reactor;
mod runsc;
mod runtime;
mod sandbox;
mod sys;
mod tunnel;

pub use config::{
    Config, EgressLimits, Exec, LimitMode, Mount, Port, PortKind, Probe, RuntimeConfig, Stdio, Stream,
};
pub use doctor::{Finding, Report, Status, check_host, check_host_begin};
pub use error::{Code, Error, Result};
pub use event::{Event, EventKind, Operation, Queue};
pub use net::explain;
pub use policy::{Dns, Policy, Reason, Verdict};
pub use process::Captured;
pub use runtime::Runtime;
pub use sandbox::files::{
    DirectoryEntry, FileChange, FileChangeKind, FileInfo, FileKind, FileOperation, FileOptions, FileRequest,
    FileTotals,
};
pub use sandbox::{Connection, Exit, ExitReason, Process, Sandbox, State, Stats};
pub use tunnel::{Tunnel, TunnelMap};
