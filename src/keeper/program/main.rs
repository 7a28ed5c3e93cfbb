//! The keeper's program: one small static binary with four roles.
//!
//! As *supervisor*, started by the library, it holds a sandbox's namespaces and child processes and ends them
//! when the library or its process ends. As *init*, process 1 of the sandbox, it starts programs and reports
//! on them. As *image helper*, started by the library for one image, it reads the bytes of strangers where they
//! can do no harm. As *prewarmer*, started by runsc, it executes the sentry. The name that it is started with
//! decides. It has one thread and is embedded into the library by `build.rs`. All but the image helper depend on
//! `libc` alone, the image helper on what decompresses and hashes, too.
#![allow(unsafe_code, reason = "system calls of a program that has nothing but libc")]

#[path = "../../sys/channel.rs"]
#[allow(dead_code, reason = "the library makes the pairs")]
mod channel;
mod image;
mod init;
mod prewarmer;
#[path = "../../sys/spawn.rs"]
#[allow(dead_code, reason = "the library executes an open file")]
mod spawn;
mod supervisor;
mod system;
#[allow(dead_code, reason = "the library uses the rest")]
#[path = "../../topology.rs"]
mod topology;
#[path = "../wire/mod.rs"]
#[allow(dead_code, reason = "each side uses half of the format: the other half is the library's")]
mod wire;

use std::process::ExitCode;

/// The build that this program belongs to, set by the library's `build.rs`. A program that was compiled
/// otherwise belongs to none, and the supervisor refuses to run.
const BUILD: &str = match option_env!("SBX_BUILD") {
    Some(build) => build,
    None => "none",
};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().map(|name| name.as_encoded_bytes());
    match (name, arguments.get(1)) {
        (Some(b"sbx-keeper"), Some(build)) if build == BUILD => supervisor::main(),
        (Some(b"sbx-keeper"), Some(_)) => supervisor::refuse(&format!("this keeper is of build {BUILD}")),
        (Some(b"sbx-image"), Some(build)) if build == BUILD => image::main(),
        (Some(b"sbx-image"), Some(_)) => image::refuse(&format!("the program is of build {BUILD}")),
        (Some(name), Some(_)) if name == prewarmer::PATH.as_bytes() => prewarmer::main(arguments),
        (Some(name), None) if name.ends_with(b"init") => init::main(),
        _ => ExitCode::FAILURE,
    }
}
