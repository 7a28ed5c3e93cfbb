//! Build steps of libsbx: the shared library's name and flags, the C header, and the keeper's program.
//!
//! The keeper's program is a small static binary that the library embeds. A nested cargo builds it here, as a
//! workspace of its own: in a separate target directory, because the outer one is locked; with none of the
//! outer build's flags, which are for a shared library; and with a lock file that holds `libc` and what decompresses
//! and hashes images, alone.
//!
//! In the repository the program is also a member of the workspace (`src/keeper/member`), so that rustfmt,
//! clippy and the workspace's lints cover it. That member is not what is built here. A published libsbx
//! doesn't contain it, because `cargo package` leaves out directories that have a Cargo.toml. And where
//! libsbx is a dependency, offline or vendored, the packages in the workspace's lock file (cbindgen,
//! proptest, ...) can't be resolved. So there is one way to build the program, in the repository as
//! everywhere else, and the tests cover it.

use std::env;
use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What the keeper's program is made of.
const PARTS: [&str; 7] = [
    "src/image/convert",
    "src/image/erofs",
    "src/keeper/program",
    "src/keeper/wire",
    "src/sys/channel.rs",
    "src/sys/spawn.rs",
    "src/topology.rs",
];

fn main() -> Outcome {
    println!("cargo:rerun-if-changed=build.rs");
    // Tests that need a runsc are ignored, with that reason, where none is named.
    println!("cargo:rerun-if-env-changed=SBX_RUNSC");
    println!("cargo:rustc-check-cfg=cfg(sbx_runsc)");
    // The fuzz targets' way in.
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    if env::var_os("SBX_RUNSC").is_some_and(|runsc| !runsc.is_empty()) {
        println!("cargo:rustc-cfg=sbx_runsc");
    }
    // The name that programs record when they link, and the promise never to be unmapped: threads of
    // the library and its thread-local destructors outlive any dlclose() (rust-lang/rust#59629).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsbx.so.0");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");

    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    header(&root, &out)?;
    link_soname(&out);
    keeper(&root, &out)
}

/// Makes `$OUT_DIR/sbx.h`; `tests/header.rs` compares it with the committed one.
fn header(root: &Path, out: &Path) -> Outcome {
    println!("cargo:rerun-if-changed=src/ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    let mut builder =
        cbindgen::Builder::new().with_config(cbindgen::Config::from_file(root.join("cbindgen.toml"))?);
    // In the order of a manual.
    for name in [
        "version",
        "codes",
        "error",
        "exit",
        "event",
        "file_structs",
        "image_options",
        "log",
        "runtime",
        "report",
        "list",
        "queue",
        "operation",
        "verdict",
        "policy",
        "policy_entries",
        "config",
        "config_limits",
        "config_network",
        "config_streams",
        "sandbox",
        "sandbox_state",
        "sandbox_policy",
        "stats",
        "warm",
        "snapshot",
        "exec_config",
        "process",
        "capture",
        "file",
        "image",
        "build",
        "volume",
        "tunnel_map",
    ] {
        builder = builder.with_src(root.join("src/ffi").join(name).with_extension("rs"));
    }
    let mut made = Vec::new();
    builder.generate()?.write(&mut made);
    fs::write(out.join("sbx.h"), without_safety(&String::from_utf8(made)?))?;
    Ok(())
}

/// Leaves out the "# Safety" that rustdoc wants at the end of each comment: the manual says at its beginning what
/// holds for every pointer.
fn without_safety(manual: &str) -> String {
    let mut kept = String::with_capacity(manual.len());
    let mut lines = manual.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if line == "//\n" && lines.peek() == Some(&"// # Safety\n") {
            while lines.next_if(|line| line.starts_with("//")).is_some() {}
        } else {
            kept.push_str(line);
        }
    }
    kept
}

/// Puts `libsbx.so.0` beside `libsbx.so`: programs that link the one ask for the other when they start.
///
/// The artifacts don't exist yet, but their places follow from `<profile>/build/sbx-<hash>/out`. Where a
/// different layout is used the link is missing, which is no reason to fail.
fn link_soname(out: &Path) {
    let Some(profile) =
        out.ancestors().nth(3).filter(|_| out.ancestors().nth(2).is_some_and(|dir| dir.ends_with("build")))
    else {
        return;
    };
    for directory in [profile.to_owned(), profile.join("deps")] {
        let link = directory.join("libsbx.so.0");
        if link.symlink_metadata().is_err() {
            // Another build may be quicker: the link is there then.
            let _ = symlink("libsbx.so", link);
        }
    }
}

/// Builds the keeper's program and tells the library where it is.
fn keeper(root: &Path, out: &Path) -> Outcome {
    let target = variable("TARGET")?;
    let build = build_id(root)?;
    println!("cargo:rustc-env=SBX_BUILD={build}");

    let package = out.join("keeper");
    fs::create_dir_all(&package)?;
    fs::write(package.join("Cargo.toml"), manifest(&root.join("src/keeper/program/main.rs")))?;
    // Locked, so that what is embedded is what was reviewed, whatever a registry has by now.
    fs::copy(root.join("src/keeper/program/Cargo.lock"), package.join("Cargo.lock"))?;

    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(package.join("Cargo.toml"));
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
    // The linker of a shared library for an old glibc, such as zig's, may not link a static program.
    println!("cargo:rerun-if-env-changed=SBX_KEEPER_LINKER");
    if let Some(linker) = env::var_os("SBX_KEEPER_LINKER") {
        cargo.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_")), linker);
    }
    cargo.current_dir(root);
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("the keeper's program could not be built: {status}").into());
    }
    let program = out.join("keeper-target").join(&target).join("release/sbx-keeper");
    println!("cargo:rustc-env=SBX_KEEPER_PROGRAM={}", program.display());
    Ok(())
}

/// The program's manifest; `src/keeper/member/Cargo.toml` has the same dependencies.
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
flate2 = {{ version = "1.1.11", default-features = false, features = ["runtime_detection", "zlib-rs"] }}
libc = "0.2.191"
ruzstd = {{ version = "0.9.1", default-features = false, features = ["std"] }}
sha2 = {{ version = "0.11.1", default-features = false }}

[profile.release]
opt-level = "s"
panic = "abort"
lto = true
codegen-units = 1
strip = true

# Decompression and digests are what takes time.
[profile.release.package."*"]
opt-level = 3

[workspace]
"#
    )
}

/// Names the sources, so that a library and a keeper of different builds notice.
fn build_id(root: &Path) -> Outcome<String> {
    let version = variable("CARGO_PKG_VERSION")?;
    let mut hash = DefaultHasher::new();
    for part in PARTS {
        println!("cargo:rerun-if-changed={part}");
        hash_tree(&root.join(part), &mut hash)?;
    }
    Ok(format!("{version}-{:016x}", hash.finish()))
}

fn hash_tree(path: &Path, hash: &mut DefaultHasher) -> Outcome {
    if !path.is_dir() {
        fs::read(path)?.hash(hash);
        return Ok(());
    }
    let mut paths = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Outcome<Vec<_>>>()?;
    paths.sort();
    paths.iter().try_for_each(|path| hash_tree(path, hash))
}

fn variable(name: &str) -> Outcome<String> {
    env::var(name).map_err(|_| format!("cargo sets {name}").into())
}
