//! Build steps of libsbx: the shared library's name and flags, and the keeper's program.
//!
//! The keeper's program is a small static binary that the library embeds. It is built here by a nested cargo
//! over a manifest of its own, in a target directory of its own (the outer one is locked), with none of the
//! outer build's flags: those are for a shared library, these for a static program.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is made of.
const PARTS: [&str; 4] = ["src/keeper/program", "src/keeper/wire", "src/sys/channel.rs", "src/sys/spawn.rs"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The name that programs record when they link, and the promise never to be unmapped: threads of
    // the library and its thread-local destructors outlive any dlclose() (rust-lang/rust#59629).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsbx.so.0");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    keeper();
}

fn keeper() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let target = variable("TARGET");
    let build = build_id(&root);
    println!("cargo:rustc-env=SBX_BUILD={build}");

    let package = out.join("keeper");
    fs::create_dir_all(&package).expect("OUT_DIR is writable");
    let main = root.join("src/keeper/program/main.rs");
    fs::write(package.join("Cargo.toml"), manifest(&main)).expect("OUT_DIR is writable");

    let mut cargo = Command::new(variable("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--manifest-path"]).arg(package.join("Cargo.toml"));
    cargo.arg("--target").arg(&target).arg("--target-dir").arg(out.join("keeper-target"));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let outer = ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_ENCODED_RUSTFLAGS"];
        if outer.contains(&name.as_str())
            || name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_BUILD_")
        {
            cargo.env_remove(&name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static").env("SBX_BUILD", &build);
    cargo.current_dir(&root);
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "the keeper's program could not be built: {status}");

    let program = out.join("keeper-target").join(&target).join("release/sbx-keeper");
    println!("cargo:rustc-env=SBX_KEEPER_PROGRAM={}", program.display());
}

fn manifest(main: &Path) -> String {
    format!(
        r#"[package]
name = "sbx-keeper"
version = "0.0.0"
edition = "2024"

[[bin]]
name = "sbx-keeper"
path = {main:?}

[dependencies]
libc = "0.2"

[profile.release]
opt-level = "s"
panic = "abort"
lto = true
codegen-units = 1
strip = true

[workspace]
"#
    )
}

/// Names the sources, so that a library and a keeper of different builds notice.
fn build_id(root: &Path) -> String {
    let mut hash = DefaultHasher::new();
    variable("CARGO_PKG_VERSION").hash(&mut hash);
    for part in PARTS {
        println!("cargo:rerun-if-changed={part}");
        hash_tree(&root.join(part), &mut hash);
    }
    format!("{}-{:016x}", variable("CARGO_PKG_VERSION"), hash.finish())
}

fn hash_tree(path: &Path, hash: &mut DefaultHasher) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("sources can be read");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("sources can be read").path()).collect();
        paths.sort();
        paths.iter().for_each(|path| hash_tree(path, hash));
    } else {
        fs::read(path).expect("sources can be read").hash(hash);
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
