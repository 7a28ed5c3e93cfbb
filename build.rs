//! Build steps of libsbx: the shared library's name and flags.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The name that programs record when they link, and the promise never to be unmapped: threads of
    // the library and its thread-local destructors outlive any dlclose() (rust-lang/rust#59629).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsbx.so.0");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
