//! What is selected is compared with what GNU tar makes of the archive.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::stat::Mode as FileMode;
use nix::unistd::mkfifo;

use super::selection::Content;
use super::*;
use crate::build::dockerfile::{Copy, Dockerfile, StepKind};
use crate::error::{Code, Error, Result};
use crate::image::ImageConfig;

/// A directory under the system's temporary one, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let mut random = [0_u8; 8];
        crate::sys::random::fill(&mut random).unwrap();
        let path = std::env::temp_dir().join(format!("sbx-build-{:016x}", u64::from_ne_bytes(random)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let directory = Self::new();
        for (name, content) in files {
            directory.file(name, content);
        }
        directory
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str, content: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(instruction: &str) -> Copy {
    let file = Dockerfile::parse(&format!("FROM a\n{instruction}"), &[]).unwrap();
    match file.resolve(&ImageConfig::default()).unwrap().steps.pop().unwrap().kind {
        StepKind::Copy(copy) => copy,
        other => panic!("{other:?}"),
    }
}

static LIVE: fn() -> Result<()> = || Ok(());

/// The image has these directories.
fn image(path: &str) -> Result<bool> {
    Ok(matches!(path.trim_end_matches('/'), "" | "/etc" | "/usr" | "/usr/bin"))
}

fn select<'a>(context: &'a Context, instruction: &str) -> Result<Selection<'a>> {
    context.select(&copy(instruction), &image, ContextLimits::default(), &LIVE)
}

/// The paths in the image, a directory's with a slash behind it.
fn paths(directory: &Directory, instruction: &str) -> Vec<String> {
    let context = Context::open(&directory.0).unwrap();
    let selection = select(&context, instruction).unwrap();
    selection
        .contents()
        .into_iter()
        .map(|(path, content)| {
            let slash = if matches!(content, Content::Directory | Content::MadeDirectory) { "/" } else { "" };
            format!("{}{slash}", String::from_utf8_lossy(path))
        })
        .collect()
}

fn refused(directory: &Directory, instruction: &str) -> Error {
    let context = Context::open(&directory.0).unwrap();
    select(&context, instruction).expect_err(instruction)
}

fn archive(selection: &Selection<'_>, owner: (u32, u32), chmod: Option<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    selection.write_tar(&mut bytes, owner, chmod, &LIVE).unwrap();
    bytes
}

/// What GNU tar says of an archive: mode, owner, time and name of each entry.
fn listed(bytes: &[u8]) -> Vec<String> {
    let mut tar = Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "--full-time", "--utc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = tar.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn sources_and_destinations_are_those_of_docker() {
    let files = [("a.txt", "a"), ("b.txt", "b"), (".hidden", "h"), ("dir/one", "1"), ("dir/sub/two", "2")];
    let top = Directory::with(&files);
    for (instruction, expected) in [
        ("COPY a.txt /x", &["x"][..]),
        ("COPY a.txt /x/", &["x/", "x/a.txt"]),
        ("COPY a.txt /usr/bin", &["usr/bin/a.txt"]),
        ("COPY a.txt /", &["a.txt"]),
        ("COPY a.txt /new/deep/x", &["new/", "new/deep/", "new/deep/x"]),
        ("COPY ./a.txt /x", &["x"]),
        ("COPY /a.txt /x", &["x"]),
        ("COPY ../a.txt /x", &["x"]),
        ("COPY dir /x", &["x/", "x/one", "x/sub/", "x/sub/two"]),
        ("COPY dir/ /usr", &["usr/one", "usr/sub/", "usr/sub/two"]),
        ("COPY dir/sub a.txt /x/", &["x/", "x/a.txt", "x/two"]),
        ("COPY *.txt /x/", &["x/", "x/a.txt", "x/b.txt"]),
        ("COPY ?.txt none* /usr/", &["usr/a.txt", "usr/b.txt"]),
        ("COPY */one /x", &["x"]),
        ("COPY d*/[s]ub /x", &["x/", "x/two"]),
        (
            "COPY . /x",
            &["x/", "x/.hidden", "x/a.txt", "x/b.txt", "x/dir/", "x/dir/one", "x/dir/sub/", "x/dir/sub/two"],
        ),
        ("COPY --exclude=*.txt --exclude=dir/sub . /", &[".hidden", "dir/", "dir/one"]),
        ("COPY --exclude=**/two --exclude=.* . /", &["a.txt", "b.txt", "dir/", "dir/one", "dir/sub/"]),
        ("COPY --exclude=b* *.txt /", &["a.txt"]),
        (
            "COPY --exclude=dir --exclude=!dir/sub/two . /x",
            &["x/", "x/.hidden", "x/a.txt", "x/b.txt", "x/dir/", "x/dir/sub/", "x/dir/sub/two"],
        ),
    ] {
        assert_eq!(paths(&top, instruction), expected, "{instruction}");
    }
    for (instruction, code, part) in [
        ("COPY none /x", Code::NotFound, "\"none\" is not in the build context"),
        ("COPY none* /x/", Code::NotFound, "\"none*\" is not in the build context"),
        ("COPY a.txt/x /x", Code::NotFound, "is not in the build context"),
        ("COPY *.txt /x", Code::Invalid, "stands for 2 files and directories"),
        ("COPY [ /x", Code::Invalid, "the path \"[\" has a [ without a ]"),
        ("COPY --exclude=[ . /x", Code::Invalid, "--exclude=[: the pattern \"[\""),
    ] {
        let error = refused(&top, instruction);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(part), "{error}");
    }
    fs::create_dir(top.at("empty")).unwrap();
    assert_eq!(paths(&top, "COPY empty /x"), ["x/"]);
    assert_eq!(paths(&top, "COPY empty /usr"), [""; 0]);
}

#[test]
fn dockerignore_leaves_out() {
    let ignore = "# secrets\n*.key\nnode_modules\nbuild\n!build/keep/this\n";
    let top = Directory::with(&[
        (".dockerignore", ignore),
        ("a.key", ""),
        ("app", ""),
        ("node_modules/x", ""),
        ("build/out", ""),
        ("build/keep/this", ""),
        ("build/keep/that", ""),
        ("sub/b.key", ""),
    ]);
    assert_eq!(
        paths(&top, "COPY . /"),
        [".dockerignore", "app", "build/", "build/keep/", "build/keep/this", "sub/", "sub/b.key"]
    );
    assert_eq!(paths(&top, "COPY build /x"), ["x/", "x/keep/", "x/keep/this"]);
    assert_eq!(paths(&top, "COPY a* /x"), ["x"]);
    let error = refused(&top, "COPY a.key /x");
    assert!(error.message().contains("is left out of the build context by .dockerignore"), "{error}");
    symlink("a.key", top.at("innocent")).unwrap();
    assert_eq!(refused(&top, "COPY innocent /x").code(), Code::NotFound);
    let context = Context::open_named(&top.0).unwrap();
    assert_eq!(select(&context, "COPY a.key /x").unwrap().count(), 1);
    fs::write(top.at(".dockerignore"), "[").unwrap();
    let error = Context::open(&top.0).unwrap_err();
    assert!(error.message().contains(".dockerignore line 1: the pattern \"[\""), "{error}");
    fs::write(top.at(".dockerignore"), [0xff]).unwrap();
    assert!(Context::open(&top.0).unwrap_err().message().contains("must be a text in UTF-8"));
}

#[test]
fn the_builds_own_patterns_stand_in_the_place_of_the_file() {
    // Not even read.
    let top = Directory::with(&[
        (".dockerignore", "["),
        ("a.key", ""),
        ("app", ""),
        ("sub/b.key", ""),
        ("sub/c", ""),
    ]);
    let of = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|each| (*each).to_owned()).collect();
        Context::open_without(&top.0, &patterns)
    };
    for (patterns, expected) in [
        (&[][..], &[".dockerignore", "a.key", "app", "sub/", "sub/b.key", "sub/c"][..]),
        (&["**/*.key"], &[".dockerignore", "app", "sub/", "sub/c"]),
        (&["*", "!sub/b.key"], &["sub/", "sub/b.key"]),
    ] {
        let context = of(patterns).unwrap();
        let selection = select(&context, "COPY . /").unwrap();
        let found: Vec<_> = selection.contents().keys().map(|path| String::from_utf8_lossy(path)).collect();
        let expected: Vec<_> = expected.iter().map(|path| path.trim_end_matches('/')).collect();
        assert_eq!(found, expected, "{patterns:?}");
    }
    let context = of(&["*.key"]).unwrap();
    let error = select(&context, "COPY a.key /").unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("by the build's ignore patterns"), "{error}");
    assert_eq!(of(&["["]).unwrap_err().code(), Code::Invalid);
}

#[test]
fn a_link_is_followed_as_a_source_and_copied_below_one() {
    let top = Directory::with(&[("real/file", "content"), ("real/sub/x", "")]);
    symlink("real", top.at("link")).unwrap();
    symlink("../real/./file", top.at("real/again")).unwrap();
    symlink("real/sub/../file", top.at("to-file")).unwrap();
    symlink("real/sub/..", top.at("to-real")).unwrap();
    assert_eq!(paths(&top, "COPY link /x"), ["x/", "x/again", "x/file", "x/sub/", "x/sub/x"]);
    assert_eq!(paths(&top, "COPY to-real /x"), ["x/", "x/again", "x/file", "x/sub/", "x/sub/x"]);
    assert_eq!(paths(&top, "COPY link/again to-file /x/"), ["x/", "x/again", "x/to-file"]);
    let context = Context::open(&top.0).unwrap();
    let selection = select(&context, "COPY . /").unwrap();
    assert!(matches!(&selection.contents()[&b"link"[..]], Content::Symlink(target) if target == b"real"));
    let selection = select(&context, "COPY to-file /x").unwrap();
    assert!(matches!(selection.contents()[&b"x"[..]], Content::File { length: 7, .. }));

    symlink("/etc/passwd", top.at("absolute")).unwrap();
    symlink("../outside", top.at("up")).unwrap();
    symlink("loop", top.at("loop")).unwrap();
    symlink("nowhere", top.at("dangling")).unwrap();
    for (source, part) in [
        ("absolute", "leads out of the build context: make it relative"),
        ("up", "is a link that leads out of the build context"),
        ("loop", "leads through more than 40 links"),
        ("dangling", "is not in the build context"),
    ] {
        let error = refused(&top, &format!("COPY {source} /x"));
        assert!(error.message().contains(part), "{error}");
    }
    // As entries of a directory they are only links.
    assert_eq!(paths(&top, "COPY . /").len(), 12);
}

#[test]
fn an_archive_has_the_files_as_they_are_and_another_owner() {
    let top = Directory::with(&[("run.sh", "#!/bin/sh\n"), ("data/file", "content")]);
    fs::set_permissions(top.at("run.sh"), Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(top.at("data"), Permissions::from_mode(0o1770)).unwrap();
    symlink("file", top.at("data/link")).unwrap();
    mkfifo(&top.at("data/fifo"), FileMode::S_IRUSR).unwrap();
    let long = format!("data/{}", "n".repeat(200));
    top.file(&long, "long");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
    for name in ["run.sh", "data/file", &long] {
        File::open(top.at(name)).unwrap().set_modified(time).unwrap();
    }
    File::open(top.at("data")).unwrap().set_modified(time + Duration::from_secs(60)).unwrap();
    let context = Context::open(&top.0).unwrap();
    let selection = select(&context, "COPY run.sh data/file /srv/").unwrap();
    assert_eq!(
        listed(&archive(&selection, (7, 8), None)),
        [
            "drwxr-xr-x 7/8 0 1970-01-02 00:00:00 srv/",
            "-rw-r----- 7/8 7 1970-01-02 00:00:00 srv/file",
            "-rwsr-xr-x 7/8 10 1970-01-02 00:00:00 srv/run.sh",
        ]
    );
    let selection = select(&context, "COPY . /").unwrap();
    let names: Vec<String> = listed(&archive(&selection, (0, 0), Some(0o600)))
        .iter()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            format!("{} {}", fields[0], &fields[5..].join(" "))
        })
        .collect();
    let long = format!("-rw------- {long}");
    let expected = [
        "drw------- data/",
        "prw------- data/fifo",
        "-rw------- data/file",
        "lrw------- data/link -> file",
        &long,
        "-rw------- run.sh",
    ];
    assert_eq!(names, expected);
    assert_eq!(selection.bytes(), 21);
}

#[test]
fn the_digest_is_of_names_modes_and_contents() {
    let digest = |top: &Directory, instruction: &str| {
        select(&Context::open(&top.0).unwrap(), instruction).unwrap().digest()
    };
    let make = || Directory::with(&[("a", "1"), ("d/b", "2")]);
    let first = make();
    let all = digest(&first, "COPY . /");
    assert_eq!(all, digest(&make(), "COPY . /"));
    assert_ne!(all, digest(&first, "COPY . /x/"));
    File::open(first.at("a")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(all, digest(&first, "COPY . /"));
    type Change = fn(&Directory);
    let changes: [Change; 6] = [
        |top| top.file("a", "3"),
        |top| fs::set_permissions(top.at("a"), Permissions::from_mode(0o600)).unwrap(),
        |top| fs::rename(top.at("a"), top.at("c")).unwrap(),
        |top| fs::create_dir(top.at("e")).unwrap(),
        |top| {
            fs::remove_file(top.at("a")).unwrap();
            symlink("1", top.at("a")).unwrap();
        },
        |top| fs::set_permissions(top.at("d"), Permissions::from_mode(0o700)).unwrap(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let changed = make();
        change(&changed);
        assert_ne!(all, digest(&changed, "COPY . /"), "{index}");
    }
}

#[test]
fn what_changed_since_it_was_selected_is_not_copied() {
    let top = Directory::with(&[("a", "before"), ("b/c", "x")]);
    let context = Context::open(&top.0).unwrap();
    let selection = select(&context, "COPY a /x").unwrap();
    fs::write(top.at("a"), "behind").unwrap();
    let error = selection.write_tar(&mut Vec::new(), (0, 0), None, &LIVE).unwrap_err();
    assert!(error.message().contains("was changed while it was read"), "{error}");
    let selection = select(&context, "COPY b /x").unwrap();
    fs::rename(top.at("b"), top.at("real")).unwrap();
    symlink("real", top.at("b")).unwrap();
    let error = selection.write_tar(&mut Vec::new(), (0, 0), None, &LIVE).unwrap_err();
    assert!(error.message().contains("was changed while it was read"), "{error}");
}

#[test]
fn a_link_or_a_directory_that_changed_meanwhile_is_noticed() {
    let changes: [fn(&Directory); 4] = [
        |top| {
            fs::remove_file(top.at("d/link")).unwrap();
            symlink("/other", top.at("d/link")).unwrap();
        },
        |top| fs::rename(top.at("d/link"), top.at("d/link2")).unwrap(),
        |top| fs::set_permissions(top.at("d/sub"), Permissions::from_mode(0o700)).unwrap(),
        |top| fs::create_dir(top.at("d/new")).unwrap(),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let top = Directory::with(&[("d/sub/file", "x")]);
        symlink("/one", top.at("d/link")).unwrap();
        let context = Context::open(&top.0).unwrap();
        // Everything is a directory at first, and then what the image has.
        let copy = copy("COPY d /x/y");
        let first = context.select(&copy, &|_| Ok(true), ContextLimits::default(), &LIVE).unwrap();
        let again = || context.select(&copy, &image, ContextLimits::default(), &LIVE).unwrap();
        assert!(again().has_files_of(&first), "{index}");
        change(&top);
        assert!(!again().has_files_of(&first), "{index}");
    }
}

/// Another user's program swaps a directory for a link out of the context, as fast as it can.
#[test]
fn a_directory_that_is_swapped_for_a_link_leads_nowhere() {
    let outside = Directory::with(&[("file", "secret of another user")]);
    let top = Directory::with(&[("d/file", "public"), ("d/sub/file", "public")]);
    symlink(&outside.0, top.at("evil")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (root, stop) = (top.0.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            let at = |name: &str| root.join(name);
            while !stop.load(Ordering::Relaxed) {
                fs::rename(at("d"), at("aside")).unwrap();
                fs::rename(at("evil"), at("d")).unwrap();
                fs::rename(at("d"), at("evil")).unwrap();
                fs::rename(at("aside"), at("d")).unwrap();
            }
        })
    };
    let context = Context::open(&top.0).unwrap();
    let mut copied = 0;
    for round in 0..2000 {
        let source = ["d", "d/file", "d/*"][round % 3];
        let Ok(selection) = select(&context, &format!("COPY {source} /x/")) else { continue };
        let mut bytes = Vec::new();
        if selection.write_tar(&mut bytes, (0, 0), None, &LIVE).is_ok() {
            copied += 1;
        }
        assert!(!bytes.windows(6).any(|window| window == b"secret"), "{source}");
    }
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert!(copied > 0, "some rounds meet no swap");
}

#[test]
fn add_does_not_take_an_archive_for_a_file() {
    let top = Directory::with(&[("plain", "x"), ("d/archive.tar.gz", "")]);
    fs::write(top.at("archive.tar.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    let mut tar = vec![0_u8; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    fs::write(top.at("archive.tar"), &tar).unwrap();
    assert_eq!(paths(&top, "ADD plain /x"), ["x"]);
    for name in ["archive.tar.gz", "archive.tar"] {
        assert_eq!(paths(&top, &format!("COPY {name} /x")), ["x"]);
        let error = refused(&top, &format!("ADD {name} /x"));
        assert_eq!(error.code(), Code::Unsupported);
        assert!(error.message().contains("archives are not unpacked: COPY it"), "{error}");
    }
    assert_eq!(paths(&top, "ADD d /x"), ["x/", "x/archive.tar.gz"]);
}

#[test]
fn a_context_has_bounds() {
    let top = Directory::with(&[("a", "1"), ("b", "22"), ("d/c", "3")]);
    let context = Context::open(&top.0).unwrap();
    let with = |entries, bytes| {
        let limits = ContextLimits { entries, bytes };
        context.select(&copy("COPY . /x"), &image, limits, &LIVE).map(|selection| selection.count())
    };
    assert_eq!(with(5, 4).unwrap(), 5);
    for (entries, bytes, part) in [(4, 4, "more than 4 files"), (5, 3, "more than 3 bytes are copied")] {
        let error = with(entries, bytes).unwrap_err();
        assert_eq!(error.code(), Code::Limit);
        assert!(error.message().contains(part), "{error}");
    }
    File::options().write(true).open(top.at("a")).unwrap().set_len(1 << 40).unwrap();
    let default = context.select(&copy("COPY a /x"), &image, ContextLimits::default(), &LIVE);
    assert_eq!(default.unwrap_err().code(), Code::Limit);
    let over = || Err(Error::new(Code::TimedOut, "over"));
    let late = context.select(&copy("COPY b /x"), &image, ContextLimits::default(), &over);
    assert_eq!(late.unwrap_err().code(), Code::TimedOut);
    let long = format!("COPY b /{}", "n/".repeat(2100));
    assert_eq!(select(&context, &long).unwrap_err().code(), Code::Limit);
}

#[test]
fn a_context_must_be_a_directory() {
    let top = Directory::with(&[("file", "")]);
    let error = Context::open(&top.at("file")).unwrap_err();
    assert_eq!(
        (error.code(), error.message().ends_with("must be a directory")),
        (Code::Invalid, true),
        "{error}"
    );
    assert_eq!(Context::open(&top.at("none")).unwrap_err().code(), Code::NotFound);
}

#[test]
fn sources_that_do_not_fit_together_are_refused() {
    let top = Directory::with(&[("one/x", ""), ("two/x/y", "")]);
    for instruction in ["COPY one two /to/", "COPY two one /to/"] {
        let error = refused(&top, instruction);
        assert!(error.message().contains("is a directory in one source of the COPY"), "{error}");
    }
}
