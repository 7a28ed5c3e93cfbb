//! Trees that go out of a sandbox and into it as tar archives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::AsFd;

use common::files::{after, content, idle, plain, says, temporary};
use common::{Scratch, runtime};
use sbx::Code;

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_tree_goes_out_and_in_again_as_it_was() {
    let runtime = runtime();
    let long = "n".repeat(200);
    let script = format!(
        "mkdir -p /tmp/from/sub/{long}/{long} /tmp/from/empty; cd /tmp/from; echo a > a; chmod 640 a; \
         head -c 100000 /dev/urandom > sub/blob; echo deep > sub/{long}/{long}/deep; ln -s /etc/passwd link; \
         ln -s {long}/{long}/{long} sub/longlink; mkfifo -m 600 fifo; touch -d @1000000000 a; chmod 555 empty; \
         chown 12:34 a; mkdir -m 1777 sticky; ln a sub/second; python3 -c 'import socket; \
         socket.socket(socket.AF_UNIX).bind(\"/tmp/from/socket\")'; touch -d @1000000001 sub"
    );
    let sandbox = after(&runtime, &script);
    let (scratch, mut archive) = temporary("tree");
    let totals = sandbox.copy_out("/tmp/from", archive.as_fd(), &plain()).unwrap();
    assert_eq!(totals.skipped, 1, "the socket");
    assert_eq!(totals.entries, 12);
    archive.rewind().unwrap();
    let keep = plain().parents(true).keep_owner(true);
    let into = sandbox.copy_in("/tmp/new/place", archive.as_fd(), &keep).unwrap();
    assert_eq!((into.entries, into.bytes), (12, totals.bytes));
    let (_again, mut second) = temporary("tree-again");
    sandbox.copy_out("/tmp/new/place", second.as_fd(), &plain()).unwrap();
    let listed = |path: &str| {
        let list =
            std::process::Command::new("tar").args(["-tvf", path, "--full-time", "--numeric-owner"]).output();
        let text = String::from_utf8(list.unwrap().stdout).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    // GNU tar reads it, and both are the same in everything it shows.
    let first = listed(&scratch.path("file"));
    assert_eq!(first.len(), 12, "{first:#?}");
    assert_eq!(first, listed(&_again.path("file")));
    assert!(first.iter().any(|line| line.contains("12/34") && line.contains("2001-09-09")), "{first:#?}");
    assert_eq!(content(&mut archive).len(), content(&mut second).len());
    // One file is an archive of one.
    let (single, file) = temporary("single");
    sandbox.copy_out("/tmp/from/a", file.as_fd(), &plain()).unwrap();
    assert_eq!(listed(&single.path("file")).len(), 1);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn archives_of_other_writers_are_unpacked() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    let scratch = Scratch::new("writers");
    let long = "l".repeat(150);
    std::fs::create_dir_all(scratch.path(&format!("tree/{long}/{long}"))).unwrap();
    scratch.file(&format!("tree/{long}/{long}/deep"), "deep");
    scratch.file("tree/a", "a");
    std::os::unix::fs::symlink(format!("{long}/{long}/deep"), scratch.path("tree/link")).unwrap();
    std::fs::hard_link(scratch.path("tree/a"), scratch.path("tree/b")).unwrap();
    for format in ["gnu", "pax", "oldgnu", "posix"] {
        let archive = scratch.path("archive.tar");
        let made = std::process::Command::new("tar")
            .args(["-C", &scratch.path("tree"), "--format", format, "-cf", &archive, "."])
            .status();
        assert!(made.unwrap().success());
        let target = format!("/tmp/{format}");
        let parents = plain().parents(true);
        let file = File::open(&archive).unwrap();
        sandbox.copy_in(&target, file.as_fd(), &parents).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(says(&sandbox, &format!("{target}/{long}/{long}/deep")), "deep", "{format}");
        assert_eq!(says(&sandbox, &format!("{target}/link")), "deep", "{format}");
        assert_eq!(sandbox.stat_file(format!("{target}/b"), &plain()).unwrap().links, 2, "{format}");
        assert_eq!(sandbox.stat_file(format!("{target}/b"), &plain()).unwrap().user, 0, "{format}");
    }
}

/// A header of an archive, as one who wishes ill writes it.
fn header(name: &str, kind: u8, target: &str, size: usize) -> Vec<u8> {
    let mut block = vec![0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn file(name: &str, text: &str) -> Vec<u8> {
    let mut bytes = header(name, b'0', "", text.len());
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn end() -> Vec<u8> {
    vec![0; 1024]
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_archive_cannot_write_outside_of_its_directory() {
    let runtime = runtime();
    let sandbox =
        after(&runtime, "mkdir /tmp/in /tmp/out; ln -s /tmp/out /tmp/in/old; echo kept > /tmp/out/kept");
    let pax = |text: &str| {
        let record = format!("{} path={text}\n", text.len() + 9);
        assert_eq!(record.len(), text.len() + 9, "two digits");
        let mut bytes = header("x", b'x', "", record.len());
        bytes.extend_from_slice(record.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("dot dot", file("../out/evil", "x"), Code::Invalid),
        ("dot dot within", file("a/../../out/evil", "x"), Code::Invalid),
        ("absolute", file("/tmp/out/evil", "x"), Code::Invalid),
        ("a link that is there", file("old/evil", "x"), Code::Invalid),
        (
            "a link that comes",
            [header("new", b'2', "/tmp/out", 0), file("new/evil", "x")].concat(),
            Code::Invalid,
        ),
        (
            "a link that comes, and a directory over it",
            [header("new2", b'2', "/tmp/out", 0), header("new2/", b'5', "", 0), file("new2/evil", "x")]
                .concat(),
            Code::Exists,
        ),
        ("a hard link out", header("hard", b'1', "../out/kept", 0), Code::Invalid),
        ("a hard link out, absolute", header("hard", b'1', "/tmp/out/kept", 0), Code::Invalid),
        ("a hard link through a link", header("hard", b'1', "old/kept", 0), Code::Invalid),
        ("a pax path", [pax("/tmp/out/evil"), file("fine", "x")].concat(), Code::Invalid),
        ("a device", header("dev", b'3', "", 0), Code::Unsupported),
        ("a block device", header("dev", b'4', "", 0), Code::Unsupported),
        ("a sparse file", header("sparse", b'S', "", 0), Code::Unsupported),
        ("nothing at all", Vec::new(), Code::Invalid),
        ("noise", vec![7; 2048], Code::Invalid),
        ("cut short", file("short", "x")[..520].to_vec(), Code::Invalid),
    ];
    for (what, bytes, code) in cases {
        let (_scratch, mut archive) = temporary("evil");
        archive.write_all(&bytes).unwrap();
        if !matches!(what, "nothing at all" | "cut short") {
            archive.write_all(&end()).unwrap();
        }
        archive.rewind().unwrap();
        let error = sandbox.copy_in("/tmp/in", archive.as_fd(), &plain()).expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        let out = sandbox.list_directory("/tmp/out", &plain()).unwrap();
        assert_eq!(out.len(), 1, "{what}: {out:?}");
    }
    // What is in the way is replaced, not written through.
    let (_scratch, mut archive) = temporary("replace");
    archive
        .write_all(&[header("out", b'2', "/tmp/out/kept", 0), file("out", "mine"), end()].concat())
        .unwrap();
    archive.rewind().unwrap();
    sandbox.copy_in("/tmp/in", archive.as_fd(), &plain()).unwrap();
    assert_eq!(says(&sandbox, "/tmp/in/out"), "mine");
    assert_eq!(says(&sandbox, "/tmp/out/kept"), "kept\n");
}
