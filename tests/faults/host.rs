//! Host programs in C, compiled against the header and the shared library that cargo built for the test.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The sources: where they are now, which may be elsewhere than when this was compiled.
fn root() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Where cargo put the shared library: beside the test itself.
pub fn library() -> PathBuf {
    let directory = env::current_exe().unwrap().parent().unwrap().to_owned();
    assert!(directory.join("libsbx.so").exists(), "no libsbx.so in {}", directory.display());
    directory
}

/// A directory that is removed with everything in it.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("sbx-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A compiled program; its file goes with this.
#[derive(Debug)]
pub struct Program(PathBuf);

impl AsRef<std::ffi::OsStr> for Program {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.0.as_os_str()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Compiles `tests/DIRECTORY/NAME.c`; linked with the library unless it loads that by itself.
pub fn compile(directory: &str, name: &str, linked: bool) -> Program {
    // Not in the target directory: another user may run this, and several at once. Not with the prefix of the
    // library's threads, by which tests know those.
    let program = env::temp_dir().join(format!("host-{}-{directory}-{name}", std::process::id()));
    let library = library();
    let mut command = Command::new("cc");
    command
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-pthread"])
        .arg("-I")
        .arg(root().join("include"))
        .arg("-I")
        .arg(root().join("tests/c"))
        .arg("-I")
        .arg(root().join("tests/hosts"))
        .arg(root().join("tests").join(directory).join(name).with_extension("c"))
        .arg("-o")
        .arg(&program);
    if linked {
        command.arg(format!("-L{}", library.display())).arg("-lsbx");
        // An old one: it goes before LD_LIBRARY_PATH, in which cargo puts a directory where an older library may lie.
        command.arg(format!("-Wl,--disable-new-dtags,-rpath,{}", library.display()));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Program(program)
}
