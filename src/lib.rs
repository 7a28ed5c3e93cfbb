//! libsbx: gVisor sandboxes inside your own process.
//!
//! A program creates a [`Sandbox`], reaches servers in it through TLS or TCP tunnels, and decides by a [`Policy`] what
//! it may reach. There is no daemon, nothing to configure on the host, and no root needed; gVisor's `runsc` has to be
//! installed. The C library of `include/sbx.h` is a thin layer over this crate.
//!
//! # A server in a sandbox
//!
//! ```no_run
//! use sbx::{Config, PortKind, Runtime};
//!
//! let mut config = Config::new();
//! config.set_command(["python3", "-m", "http.server", "12345"])?.add_port(12345, PortKind::Encrypted)?;
//!
//! let sandbox = Runtime::shared()?.create(&config)?;
//! let tunnels = sandbox.tunnels(None)?;
//! sandbox.wait_ready(None)?;
//! println!("{:?}", tunnels.get(12345).and_then(|tunnel| tunnel.url()));
//! # Ok::<(), sbx::Error>(())
//! ```
//!
//! The sandbox ends when its last handle is dropped, when its program ends, after its timeout (300 seconds by default),
//! or with this process, however that ends.
//!
//! # Programs and files in a running sandbox
//!
//! ```no_run
//! use sbx::{Config, Exec, FileOptions, Runtime, Stdio, Stream};
//!
//! let sandbox = Runtime::shared()?.create(&Config::new())?;
//! sandbox.write_file("/tmp/sum.py", b"print(6 * 7)", &FileOptions::new())?;
//!
//! let mut exec = Exec::new();
//! exec.set_command(["python3", "/tmp/sum.py"])?.set_stdio(Stream::Stdout, Stdio::capture())?;
//! let process = sandbox.exec(&exec)?;
//! assert_eq!(process.wait(None)?.code, 0);
//! assert_eq!(process.captured(Stream::Stdout)?.head, b"42\n");
//! # Ok::<(), sbx::Error>(())
//! ```
//!
//! # Images
//!
//! A sandbox sees the host's programs unless it is given an image: any OCI or docker image, from a registry or from files.
//! It is kept in a store that all of the user's programs share ([`RuntimeConfig::image_directory`]).
//!
//! ```no_run
//! use sbx::{Config, ImageOptions, Runtime};
//!
//! let runtime = Runtime::shared()?;
//! let image = runtime.pull_image("python:3.12-slim", &ImageOptions::new())?;
//! let mut config = Config::new();
//! config.set_image(&image)?.set_command(["python3", "-c", "print(6 * 7)"])?;
//! let sandbox = runtime.create(&config)?;
//! # Ok::<(), sbx::Error>(())
//! ```
//!
//! # Hosts that must not block
//!
//! Functions named `..._begin` return at once and report their end as an [`Event`] in a [`Queue`], which has a
//! descriptor to poll. See [`Queue`] for the loop.
//!
//! # Errors
//!
//! Every [`Error`] has a [`Code`], and a text that names the value, the rule and, where there is one, the remedy.
//! [`check_host`] reports what this machine lacks.

mod error;
mod first_error;
mod limits;
mod topology;

mod build;
mod cgroup;
mod config;
mod policy;

mod doctor;
mod egress;
mod engine;
mod event;
mod ffi;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod image;
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
mod volume;

pub use build::Build;
#[cfg(feature = "test-hooks")]
#[doc(hidden)]
pub use config::ImageFile;
pub use config::{
    Config, EgressLimits, Exec, LimitMode, Mount, Port, PortKind, Probe, RuntimeConfig, Stdio, Stream,
    TunnelRate, VolumeMount,
};
pub use doctor::{Finding, Report, Status, check_host, check_host_begin};
pub use error::{Code, Error, Result};
pub use event::{Event, Exit, ExitReason, Operation, Queue, QueuedEvent};
pub use image::{
    CopiedImage, Image, ImageConfig, ImageFormat, ImageInfo, ImageLimits, ImageOptions, ImageSource,
    PrunedImages, Snapshot,
};
pub use net::explain;
pub use policy::{Cidr, Dns, Domain, Policy, PolicyEntry, PolicyMode, Reason, Verdict};
pub use process::Captured;
pub use runtime::{Runtime, WarmStats};
pub use sandbox::files::{
    DirectoryEntry, FileChange, FileChangeKind, FileInfo, FileKind, FileOperation, FileOptions, FileRequest,
    FileTotals,
};
pub use sandbox::{Connection, Process, Sandbox, State, Stats};
pub use tunnel::{Tunnel, TunnelMap};
pub use volume::VolumeInfo;
