//! Sandboxes on an image of busybox, and what a script in them says.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;

use super::PATIENCE;
use super::images::{BUSYBOX, Tar, TestStore};
use sbx::{Config, Exec, ExitReason, Image, ImageOptions, Sandbox, Stdio, Stream};

/// What busybox is called as.
const APPLETS: &[&str] = &[
    "cat", "chmod", "chown", "dd", "echo", "env", "find", "grep", "head", "kill", "ln", "ls", "md5sum",
    "mkdir", "mkfifo", "mv", "nc", "ps", "rm", "rmdir", "seq", "setsid", "sh", "sleep", "sort", "stat",
    "touch", "tr", "true", "truncate", "wc", "xargs",
];

/// A root file system of busybox alone.
pub fn root() -> Tar {
    let busybox = fs::read(BUSYBOX).expect("busybox-static is installed by tests/run.sh");
    let mut tar = Tar::default().directory("bin", 0o755, (0, 0)).file("bin/busybox", 0o755, (0, 0), &busybox);
    for applet in APPLETS {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    tar.directory("etc", 0o755, (0, 0)).file("etc/motd", 0o644, (0, 0), b"below\n")
}

/// An archive as an image.
pub fn import(store: &TestStore, tar: Tar) -> Image {
    let path = store.scratch.0.join("root.tar");
    fs::write(&path, tar.finish()).unwrap();
    store.runtime.import_image(path, &ImageOptions::new()).unwrap()
}

/// A config for a sandbox on an image, without a program of its own.
pub fn config(image: &Image) -> Config {
    let mut config = Config::new();
    config.set_image(image).unwrap().set_no_command().unwrap();
    config.set_env("PATH", "/bin").unwrap();
    config
}

/// Runs a script, and returns its exit code and what it says.
pub fn script(sandbox: &Sandbox, script: &str) -> (i32, String) {
    let mut exec = Exec::new();
    exec.set_command(["/bin/sh", "-c", script]).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
    let program = sandbox.exec(&exec).unwrap();
    let exit = program.wait(PATIENCE).unwrap();
    let captured = loop {
        let captured = program.captured(Stream::Stdout).unwrap();
        if captured.complete {
            break captured;
        }
    };
    let said = String::from_utf8_lossy(&[captured.head, captured.tail].concat()).into_owned();
    assert_eq!(exit.reason, ExitReason::Exited, "{script}: {said}");
    (exit.code, said)
}

/// Runs a script that ends well, and returns what it says.
pub fn shell(sandbox: &Sandbox, text: &str) -> String {
    let (code, said) = script(sandbox, text);
    assert_eq!(code, 0, "{text}: {said}");
    said
}

/// A script in the background, which goes on.
pub fn begin(sandbox: &Sandbox, script: &str) -> sbx::Process {
    let mut exec = Exec::new();
    exec.set_command(["/bin/sh", "-c", script]).unwrap();
    sandbox.exec(&exec).unwrap()
}

/// Every file below a directory: name, and what it is.
pub fn tree(sandbox: &Sandbox, directory: &str) -> BTreeMap<String, String> {
    let listed = shell(
        sandbox,
        &format!("cd {directory} && find . -print0 | xargs -0 stat -c '%n|%f|%u|%g|%h|%s|%Y|%N'"),
    );
    let sums = shell(sandbox, &format!("cd {directory} && find . -type f -print0 | xargs -0 md5sum"));
    let sums: BTreeMap<&str, &str> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect();
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let [name, mode, user, group, links, size, modified, shown] = fields[..] else { panic!("{line}") };
        let kind = u32::from_str_radix(mode, 16).unwrap() & libc::S_IFMT;
        // What a directory's size and links are is the file system's business.
        let (links, size) = if kind == libc::S_IFDIR { ("", "") } else { (links, size) };
        let sum = sums.get(name).copied().unwrap_or_default();
        (name.to_owned(), format!("{mode} {user}:{group} {links} {size} {modified} {shown} {sum}"))
    };
    listed.lines().map(entry).collect()
}
