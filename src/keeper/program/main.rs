//! The keeper's program: one small static binary with two lives.
//!
//! *Outside*, started by the library, it holds a sandbox's namespaces and children and ends them when the
//! library or its process goes. *Inside*, as process 1 of the sandbox, it starts programs and reports on them.
//! The name it is started by decides. It depends on `libc` alone, runs in one thread, and is embedded into
//! the library by `build.rs`.
#![allow(unsafe_code, reason = "system calls of a program that has nothing but libc")]

#[path = "../../sys/channel.rs"]
mod channel;
mod inside;
mod outside;
#[path = "../../sys/spawn.rs"]
mod spawn;
mod system;
#[allow(dead_code, reason = "the library uses the rest")]
#[path = "../../topology.rs"]
mod topology;
#[path = "../wire/mod.rs"]
mod wire;

use std::process::ExitCode;

/// The build that this program belongs to; the library passes its own.
const BUILD: &str = env!("SBX_BUILD");

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().map(|name| name.as_encoded_bytes());
    match (name, arguments.get(1)) {
        (Some(b"sbx-keeper"), Some(build)) if build == BUILD => outside::main(),
        (Some(b"sbx-keeper"), Some(_)) => outside::refuse(&format!("this keeper is of build {BUILD}")),
        (Some(name), None) if name.ends_with(b"init") => inside::main(),
        _ => ExitCode::FAILURE,
    }
}
