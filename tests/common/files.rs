//! What the tests of files share.

use std::fs::File;
use std::io::{Read, Seek};

use super::Scratch;
use sbx::{FileOptions, Runtime, Sandbox};

/// A sandbox that is there for as long as it is held.
pub fn idle(runtime: &Runtime) -> Sandbox {
    runtime.create(&super::config(&["sleep", "600"])).unwrap()
}

/// Nothing special.
pub fn plain() -> FileOptions {
    FileOptions::default()
}

/// A file in a sandbox, as text.
pub fn says(sandbox: &Sandbox, path: &str) -> String {
    String::from_utf8(sandbox.read_file(path, &plain()).unwrap()).unwrap()
}

/// A sandbox in which a script has been run; it goes on after.
pub fn after(runtime: &Runtime, script: &str) -> Sandbox {
    let text = format!("{script}\ntouch /tmp/.ready; exec sleep 600");
    let sandbox = runtime.create(&super::script(&text)).unwrap();
    super::eventually("the script has run", || sandbox.stat_file("/tmp/.ready", &plain()).is_ok());
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
