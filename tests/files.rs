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
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use common::files::{after, idle, plain, says};
use common::{Scratch, runtime};
use sbx::{Code, FileKind};

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_file_is_written_read_looked_at_and_removed() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    sandbox.write_file("/tmp/a", b"hello\0\xff", &plain()).unwrap();
    assert_eq!(sandbox.read_file("/tmp/a", &plain()).unwrap(), b"hello\0\xff");
    let info = sandbox.stat_file("/tmp/a", &plain()).unwrap();
    assert_eq!((info.kind, info.mode, info.size, info.user, info.links), (FileKind::File, 0o644, 7, 0, 1));
    let end = plain().offset(5);
    assert_eq!(sandbox.read_file("/tmp/a", &end).unwrap(), b"\0\xff");
    let append = plain().append(true);
    sandbox.write_file("/tmp/a", b"more", &append).unwrap();
    assert_eq!(sandbox.read_file("/tmp/a", &plain()).unwrap(), b"hello\0\xffmore");
    sandbox.write_file("/tmp/a", b"x", &plain().mode(0o4750)).unwrap();
    assert_eq!(sandbox.stat_file("/tmp/a", &plain()).unwrap().mode, 0o4750);
    assert_eq!(sandbox.read_file("/tmp/a", &plain()).unwrap(), b"x", "what was there is replaced");
    sandbox.rename_file("/tmp/a", "/tmp/b", &plain()).unwrap();
    assert_eq!(sandbox.stat_file("/tmp/a", &plain()).unwrap_err().code(), Code::NotFound);
    sandbox.remove_file("/tmp/b", &plain()).unwrap();
    let error = sandbox.read_file("/tmp/b", &plain()).unwrap_err();
    assert_eq!((error.code(), error.os_error()), (Code::NotFound, Some(libc::ENOENT)), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_errors_of_the_sandbox_come_with_their_numbers() {
    let runtime = runtime();
    let sandbox = after(&runtime, "mkdir -p /tmp/full/x; mkfifo /tmp/fifo; ln -s loop /tmp/loop");
    let exclusive = plain().exclusive(true);
    let limit = plain().limit(3);
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
    let unknown = plain().user("nobody-here");
    let error = sandbox.read_file("/tmp/there", &unknown).unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert!(error.message().contains("/etc/passwd"), "{error}");
    let missing = plain().missing_ok(true);
    assert_eq!(sandbox.remove_file("/tmp/none", &missing).unwrap().entries, 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn another_user_has_that_users_rights() {
    let runtime = runtime();
    let sandbox = idle(&runtime);
    sandbox.write_file("/tmp/secret", b"root's", &plain().mode(0o600)).unwrap();
    let other = plain().user("1234:5678");
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
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn links_lead_where_they_lead_inside() {
    let runtime = runtime();
    let scratch = Scratch::new("link-target");
    let outside = scratch.file("host-secret", "of the host");
    let script = format!(
        "ln -s /etc/shadow /tmp/shadow; ln -s {outside} /tmp/host; ln -s ../etc/passwd /tmp/relative; \
         ln -s ../../../../../../../..{outside} /tmp/up; ln -s /etc /tmp/etc; echo inside > /etc/shadow"
    );
    let sandbox = after(&runtime, &script);
    assert_eq!(says(&sandbox, "/tmp/shadow"), "inside\n", "the sandbox's own, not the host's");
    for path in ["/tmp/host", "/tmp/up"] {
        assert_eq!(sandbox.read_file(path, &plain()).unwrap_err().code(), Code::NotFound, "{path}");
    }
    let error = sandbox.write_file("/tmp/host", b"x", &plain()).unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert_eq!(std::fs::read(&outside).unwrap(), b"of the host");
    let through = says(&sandbox, "/tmp/relative");
    assert!(through.starts_with("root:") && through == says(&sandbox, "/etc/passwd"), "{through}");
    let no_follow = plain().no_follow(true);
    let info = sandbox.stat_file("/tmp/shadow", &no_follow).unwrap();
    assert_eq!((info.kind, info.target), (FileKind::Symlink, Some("/etc/shadow".into())));
    assert_eq!(sandbox.stat_file("/tmp/shadow", &plain()).unwrap().kind, FileKind::File);
    // A link to a directory is removed, and what it leads to stays.
    let recursive = plain().recursive(true);
    sandbox.remove_file("/tmp/etc", &recursive).unwrap();
    assert!(sandbox.stat_file("/etc/passwd", &plain()).is_ok());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn directories_are_made_listed_and_removed_with_all_below() {
    let runtime = runtime();
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
    let parents = plain().parents(true);
    sandbox.make_directory("/tmp/d/a/b/c/", &parents).unwrap();
    sandbox.make_directory("/tmp/d/a/b/c", &parents).unwrap();
    sandbox.write_file("/tmp/d/e/f/g", b"below", &parents).unwrap();
    assert_eq!(sandbox.stat_file("/tmp/d/e/f", &plain()).unwrap().mode, 0o755);
    sandbox.make_directory("/tmp/d/open", &plain().mode(0o1777)).unwrap();
    assert_eq!(sandbox.stat_file("/tmp/d/open", &plain()).unwrap().mode, 0o1777);
    let totals = sandbox.remove_file("/tmp/d", &plain().recursive(true)).unwrap();
    assert_eq!(totals.entries, 14);
    assert_eq!(sandbox.stat_file("/tmp/d", &plain()).unwrap_err().code(), Code::NotFound);
    assert_eq!(says(&sandbox, "/tmp/keep/file"), "kept\n", "links are removed, not followed");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_tree_that_is_too_deep_is_an_error_and_not_a_crash() {
    let runtime = runtime();
    let dig = "import os; os.mkdir('/tmp/deep'); os.chdir('/tmp/deep')\nfor n in range(1200): os.mkdir('d'); os.chdir('d')";
    let sandbox = after(
        &runtime,
        &format!("python3 -c \"{dig}\"; mkdir -p /tmp/fine/$(seq -s / 900); touch /tmp/fine/1/f"),
    );
    let recursive = plain().recursive(true);
    let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
    let error = sandbox.remove_file("/tmp/deep", &recursive).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    let error = sandbox.copy_out("/tmp/deep", null.as_fd(), &plain()).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    assert_eq!(sandbox.copy_out("/tmp/fine", null.as_fd(), &plain()).unwrap().entries, 901);
    assert_eq!(sandbox.remove_file("/tmp/fine", &recursive).unwrap().entries, 902);
}
