//! Files in a sandbox, through the Rust API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use common::{Scratch, config, runtime};
use sbx::{Code, FileKind, FileOptions, Runtime, Sandbox};

/// A sandbox that is there for as long as it is held.
fn idle(runtime: &Runtime) -> Sandbox {
    runtime.create(&config(&["sleep", "600"])).unwrap()
}

fn plain() -> FileOptions {
    FileOptions::default()
}

#[test]
fn a_file_is_written_read_looked_at_and_removed() {
    let Some(runtime) = runtime() else { return };
    let sandbox = idle(&runtime);
    sandbox.write_file("/tmp/a", b"hello\0\xff", &plain()).unwrap();
    assert_eq!(sandbox.read_file("/tmp/a", &plain()).unwrap(), b"hello\0\xff");
    let info = sandbox.stat_file("/tmp/a", &plain()).unwrap();
    assert_eq!((info.kind, info.mode, info.size, info.user, info.links), (FileKind::File, 0o644, 7, 0, 1));
    let end = FileOptions { offset: 5, ..plain() };
    assert_eq!(sandbox.read_file("/tmp/a", &end).unwrap(), b"\0\xff");
    let append = FileOptions { append: true, ..plain() };
    sandbox.write_file("/tmp/a", b"more", &append).unwrap();
    assert_eq!(sandbox.read_file("/tmp/a", &plain()).unwrap(), b"hello\0\xffmore");
    sandbox.write_file("/tmp/a", b"x", &FileOptions { mode: Some(0o4750), ..plain() }).unwrap();
    assert_eq!(sandbox.stat_file("/tmp/a", &plain()).unwrap().mode, 0o4750);
    assert_eq!(sandbox.read_file("/tmp/a", &plain()).unwrap(), b"x", "what was there is replaced");
    sandbox.rename_file("/tmp/a", "/tmp/b", &plain()).unwrap();
    assert_eq!(sandbox.stat_file("/tmp/a", &plain()).unwrap_err().code(), Code::NotFound);
    sandbox.remove_file("/tmp/b", &plain()).unwrap();
    let error = sandbox.read_file("/tmp/b", &plain()).unwrap_err();
    assert_eq!((error.code(), error.os_error()), (Code::NotFound, Some(libc::ENOENT)), "{error}");
}

/// What a script in the sandbox says.
fn says(runtime: &Runtime, sandbox: &Sandbox, path: &str) -> String {
    let _ = runtime;
    String::from_utf8(sandbox.read_file(path, &plain()).unwrap()).unwrap()
}

/// A sandbox in which a script has been run; it goes on after.
fn after(runtime: &Runtime, script: &str) -> Sandbox {
    let text = format!("{script}\ntouch /tmp/.ready; exec sleep 600");
    let sandbox = runtime.create(&common::script(&text)).unwrap();
    common::eventually("the script has run", || sandbox.stat_file("/tmp/.ready", &plain()).is_ok());
    sandbox
}

fn temporary(name: &str) -> (Scratch, File) {
    let scratch = Scratch::new(name);
    let path = scratch.path("file");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    (scratch, file)
}

fn content(file: &mut File) -> Vec<u8> {
    let mut all = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn the_errors_of_the_sandbox_come_with_their_numbers() {
    let Some(runtime) = runtime() else { return };
    let sandbox = after(&runtime, "mkdir -p /tmp/full/x; mkfifo /tmp/fifo; ln -s loop /tmp/loop");
    let exclusive = FileOptions { exclusive: true, ..plain() };
    let limit = FileOptions { limit: Some(3), ..plain() };
    sandbox.write_file("/tmp/there", b"1234", &plain()).unwrap();
    let failures = [
        (sandbox.read_file("/nowhere/at/all", &plain()).map(drop), Code::NotFound, libc::ENOENT),
        (sandbox.read_file("/tmp/there/below", &plain()).map(drop), Code::NotFound, libc::ENOTDIR),
        (sandbox.read_file("/tmp", &plain()).map(drop), Code::System, libc::EISDIR),
        (sandbox.read_file("/tmp/loop", &plain()).map(drop), Code::System, libc::ELOOP),
        (sandbox.read_file("/tmp/there", &limit).map(drop), Code::Limit, libc::EFBIG),
        (sandbox.write_file("/tmp", b"", &plain()), Code::System, libc::EISDIR),
        (sandbox.write_file("/tmp/there", b"", &exclusive), Code::Exists, libc::EEXIST),
        (sandbox.write_file("/proc/version", b"x", &plain()), Code::System, libc::EPERM),
        (sandbox.make_directory("/tmp/there", &plain()), Code::Exists, libc::EEXIST),
        (sandbox.make_directory("/tmp/a/b", &plain()), Code::NotFound, libc::ENOENT),
        (sandbox.remove_file("/tmp/full", &plain()).map(drop), Code::System, libc::ENOTEMPTY),
        (sandbox.remove_file("/tmp/none", &plain()).map(drop), Code::NotFound, libc::ENOENT),
        (sandbox.rename_file("/tmp/there", "/tmp/full", &exclusive), Code::Exists, libc::EEXIST),
        (sandbox.rename_file("/tmp/none", "/tmp/some", &plain()), Code::NotFound, libc::ENOENT),
        (sandbox.list_directory("/tmp/there", &plain()).map(drop), Code::NotFound, libc::ENOTDIR),
        (sandbox.list_directory("/usr/bin", &limit).map(drop), Code::Limit, libc::EFBIG),
    ];
    for (index, (result, code, number)) in failures.into_iter().enumerate() {
        let error = result.expect_err(&format!("case {index}"));
        assert_eq!((error.code(), error.os_error()), (code, Some(number)), "case {index}: {error}");
        assert!(error.message().contains(sandbox.id()), "{error}");
    }
    // A FIFO without a partner and a device are refused at once instead of waited for.
    for path in ["/tmp/fifo", "/dev/zero", "/dev/null"] {
        let error = sandbox.read_file(path, &plain()).unwrap_err();
        assert_eq!(error.code(), Code::Unsupported, "{error}");
        let error = sandbox.write_file(path, b"x", &plain()).unwrap_err();
        assert_eq!(error.code(), Code::Unsupported, "{error}");
    }
    let unknown = FileOptions { user: Some("nobody-here".to_owned()), ..plain() };
    let error = sandbox.read_file("/tmp/there", &unknown).unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert!(error.message().contains("/etc/passwd"), "{error}");
    let missing = FileOptions { missing_ok: true, ..plain() };
    assert_eq!(sandbox.remove_file("/tmp/none", &missing).unwrap().entries, 0);
}

#[test]
fn another_user_has_that_users_rights() {
    let Some(runtime) = runtime() else { return };
    let sandbox = idle(&runtime);
    sandbox.write_file("/tmp/secret", b"root's", &FileOptions { mode: Some(0o600), ..plain() }).unwrap();
    let other = FileOptions { user: Some("1234:5678".to_owned()), ..plain() };
    let error = sandbox.read_file("/tmp/secret", &other).unwrap_err();
    assert_eq!((error.code(), error.os_error()), (Code::System, Some(libc::EACCES)), "{error}");
    let error = sandbox.write_file("/etc/mine", b"", &other).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EACCES), "{error}");
    sandbox.write_file("/tmp/mine", b"x", &other).unwrap();
    let info = sandbox.stat_file("/tmp/mine", &plain()).unwrap();
    assert_eq!((info.user, info.group), (1234, 5678));
    // /tmp is sticky: root's file is not theirs to remove.
    let error = sandbox.remove_file("/tmp/secret", &other).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EPERM), "{error}");
}

#[test]
fn links_lead_where_they_lead_inside() {
    let Some(runtime) = runtime() else { return };
    let scratch = Scratch::new("link-target");
    let outside = scratch.file("host-secret", "of the host");
    let script = format!(
        "ln -s /etc/shadow /tmp/shadow; ln -s {outside} /tmp/host; ln -s ../etc/passwd /tmp/relative; \
         ln -s ../../../../../../../..{outside} /tmp/up; ln -s /etc /tmp/etc; echo inside > /etc/shadow"
    );
    let sandbox = after(&runtime, &script);
    assert_eq!(says(&runtime, &sandbox, "/tmp/shadow"), "inside\n", "the sandbox's own, not the host's");
    for path in ["/tmp/host", "/tmp/up"] {
        assert_eq!(sandbox.read_file(path, &plain()).unwrap_err().code(), Code::NotFound, "{path}");
    }
    let error = sandbox.write_file("/tmp/host", b"x", &plain()).unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert_eq!(std::fs::read(&outside).unwrap(), b"of the host");
    let through = says(&runtime, &sandbox, "/tmp/relative");
    assert!(through.starts_with("root:") && through == says(&runtime, &sandbox, "/etc/passwd"), "{through}");
    let no_follow = FileOptions { no_follow: true, ..plain() };
    let info = sandbox.stat_file("/tmp/shadow", &no_follow).unwrap();
    assert_eq!((info.kind, info.target), (FileKind::Symlink, Some("/etc/shadow".into())));
    assert_eq!(sandbox.stat_file("/tmp/shadow", &plain()).unwrap().kind, FileKind::File);
    // A link to a directory is removed, and what it leads to stays.
    let recursive = FileOptions { recursive: true, ..plain() };
    sandbox.remove_file("/tmp/etc", &recursive).unwrap();
    assert!(sandbox.stat_file("/etc/passwd", &plain()).is_ok());
}

#[test]
fn directories_are_made_listed_and_removed_with_all_below() {
    let Some(runtime) = runtime() else { return };
    let odd = b"line\nbreak \xff\xfe *".to_vec();
    let script = "mkdir -p /tmp/d/sub/deep /tmp/keep; echo kept > /tmp/keep/file; ln -s /tmp/keep /tmp/d/link; \
                  mkfifo /tmp/d/fifo; echo x > /tmp/d/sub/deep/f; python3 -c 'import os; \
                  open(b\"/tmp/d/line\\nbreak \\xff\\xfe *\", \"w\").write(\"odd\")'";
    let sandbox = after(&runtime, script);
    let entries = sandbox.list_directory("/tmp/d", &plain()).unwrap();
    let by_name: BTreeMap<_, _> =
        entries.into_iter().map(|entry| (entry.name.into_vec(), entry.info)).collect();
    assert_eq!(by_name.len(), 4, "{by_name:?}");
    assert_eq!(by_name[&b"sub"[..]].kind, FileKind::Directory);
    assert_eq!(by_name[&b"fifo"[..]].kind, FileKind::Fifo);
    assert_eq!(by_name[&b"link"[..]].kind, FileKind::Symlink);
    assert_eq!(by_name[&b"link"[..]].target, Some("/tmp/keep".into()));
    assert_eq!((by_name[&odd].kind, by_name[&odd].size), (FileKind::File, 3));
    // A name that isn't UTF-8 goes in as it came out.
    let path = std::path::PathBuf::from(OsString::from_vec([&b"/tmp/d/"[..], &odd].concat()));
    assert_eq!(sandbox.read_file(&path, &plain()).unwrap(), b"odd");
    let parents = FileOptions { parents: true, ..plain() };
    sandbox.make_directory("/tmp/d/a/b/c/", &parents).unwrap();
    sandbox.make_directory("/tmp/d/a/b/c", &parents).unwrap();
    sandbox.write_file("/tmp/d/e/f/g", b"below", &parents).unwrap();
    assert_eq!(sandbox.stat_file("/tmp/d/e/f", &plain()).unwrap().mode, 0o755);
    sandbox.make_directory("/tmp/d/open", &FileOptions { mode: Some(0o1777), ..plain() }).unwrap();
    assert_eq!(sandbox.stat_file("/tmp/d/open", &plain()).unwrap().mode, 0o1777);
    let totals = sandbox.remove_file("/tmp/d", &FileOptions { recursive: true, ..plain() }).unwrap();
    assert_eq!(totals.entries, 14);
    assert_eq!(sandbox.stat_file("/tmp/d", &plain()).unwrap_err().code(), Code::NotFound);
    assert_eq!(says(&runtime, &sandbox, "/tmp/keep/file"), "kept\n", "links are removed, not followed");
}

#[test]
fn a_tree_goes_out_and_in_again_as_it_was() {
    let Some(runtime) = runtime() else { return };
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
    let keep = FileOptions { parents: true, keep_owner: true, ..plain() };
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
fn archives_of_other_writers_are_unpacked() {
    let Some(runtime) = runtime() else { return };
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
        let parents = FileOptions { parents: true, ..plain() };
        let file = File::open(&archive).unwrap();
        sandbox.copy_in(&target, file.as_fd(), &parents).unwrap_or_else(|error| panic!("{format}: {error}"));
        assert_eq!(says(&runtime, &sandbox, &format!("{target}/{long}/{long}/deep")), "deep", "{format}");
        assert_eq!(says(&runtime, &sandbox, &format!("{target}/link")), "deep", "{format}");
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
fn an_archive_cannot_write_outside_of_its_directory() {
    let Some(runtime) = runtime() else { return };
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
    assert_eq!(says(&runtime, &sandbox, "/tmp/in/out"), "mine");
    assert_eq!(says(&runtime, &sandbox, "/tmp/out/kept"), "kept\n");
}
