//! What the tests of files share.

use std::fs::File;
use std::io::{Read, Seek};
use std::time::Duration;

use super::Scratch;
use sbx::{Config, Exec, FileOptions, Runtime, Sandbox};

/// A sandbox that is there for as long as it is held.
pub fn idle(runtime: &Runtime) -> Sandbox {
    runtime.create(&Config::new()).unwrap()
}

/// Nothing special.
pub fn plain() -> FileOptions {
    FileOptions::default()
}

/// A file in a sandbox, as text.
pub fn says(sandbox: &Sandbox, path: &str) -> String {
    String::from_utf8(sandbox.read_file(path, &plain()).unwrap()).unwrap()
}

/// Runs a script in a sandbox to its end.
pub fn run(sandbox: &Sandbox, script: &str) {
    let mut exec = Exec::new();
    exec.set_command(["sh", "-ec", script]).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    // Making a hundred thousand files may take its time on a machine that is busy.
    assert_eq!(process.wait(Some(Duration::from_secs(240))).unwrap().code, 0, "{script}");
}

/// A sandbox in which a script has been run.
pub fn after(runtime: &Runtime, script: &str) -> Sandbox {
    let sandbox = runtime.create(&Config::new()).unwrap();
    run(&sandbox, script);
    sandbox
}

/// A file of the host's own, to be written and read.
pub fn temporary(name: &str) -> (Scratch, File) {
    let scratch = Scratch::new(name);
    let path = scratch.path("file");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    (scratch, file)
}

/// All that is in it.
pub fn content(file: &mut File) -> Vec<u8> {
    let mut all = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut all).unwrap();
    all
}
