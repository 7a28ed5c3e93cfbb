//! Build steps of libsbx: the shared library's name and flags, and the C header.

use std::env;
use std::error::Error;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    // The name that programs record when they link, and the promise never to be unmapped: threads of
    // the library and its thread-local destructors outlive any dlclose() (rust-lang/rust#59629).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsbx.so.0");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    header(&out)?;
    link_soname(&out);
    Ok(())
}

/// Makes `$OUT_DIR/sbx.h`; `tests/header.rs` compares it with the committed one.
fn header(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src/ffi");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let mut builder =
        cbindgen::Builder::new().with_config(cbindgen::Config::from_file(root.join("cbindgen.toml"))?);
    // In the order of a manual.
    for name in [
        "version",
        "codes",
        "error",
        "exit",
        "event",
        "log",
        "runtime",
        "report",
        "list",
        "queue",
        "policy",
        "config",
        "config_network",
        "config_streams",
        "sandbox",
        "sandbox_state",
        "captured",
        "tunnel_map",
    ] {
        builder = builder.with_src(root.join("src/ffi").join(name).with_extension("rs"));
    }
    let mut made = Vec::new();
    builder.generate()?.write(&mut made);
    // "# Safety" is rustdoc's; in a C manual the same words are simply what the caller must see to.
    let made = String::from_utf8(made)?
        .replace("//\n// # Safety\n// None: a bad handle is an error.\n", "")
        .replace("// # Safety\n// None: a handle", "// A handle")
        .replace("// # Safety\n", "// Requires:\n");
    std::fs::write(out.join("sbx.h"), made)?;
    Ok(())
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
