//! Archives that other programs wrote, and images that other programs read.

use std::fs::{self, File, FileTimes};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use nix::unistd::mkfifo;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Found, Limits, Seen, Tar, Whiteouts, convert_with, found, octal};
use crate::image::erofs::tests::arbitrary_image;
use crate::image::testing::Directory;

/// What lstat(2) and read(2) say of everything below a directory.
fn on_disk(top: &Path) -> Found {
    let mut seen = Found::new();
    let mut rest = vec![PathBuf::new()];
    while let Some(path) = rest.pop() {
        let full = top.join(&path);
        let there = fs::symlink_metadata(&full).unwrap();
        if there.is_dir() {
            rest.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        let data = match there.mode() & 0o170_000 {
            0o100_000 => fs::read(&full).unwrap(),
            0o120_000 => fs::read_link(&full).unwrap().as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        let name = path.as_os_str().as_bytes().escape_ascii().to_string();
        let is_device = matches!(there.mode() & 0o170_000, 0o020_000 | 0o060_000);
        seen.insert(
            name,
            Seen {
                mode: u16::try_from(there.mode()).unwrap(),
                user: there.uid(),
                group: there.gid(),
                seconds: there.mtime(),
                nanoseconds: u32::try_from(there.mtime_nsec()).unwrap(),
                links: u32::try_from(there.nlink()).unwrap(),
                data,
                // As the kernel has them in 32 bits.
                device: if is_device { u32::try_from(there.rdev()).unwrap() } else { 0 },
                inode: there.ino(),
            },
        );
    }
    seen
}

/// What doesn't depend on the file system.
fn comparable(seen: &Found, nanoseconds: bool) -> Found {
    let kept = |seen: &Seen| Seen {
        links: if seen.mode >> 12 == 4 { 0 } else { seen.links },
        inode: 0,
        nanoseconds: if nanoseconds { seen.nanoseconds } else { 0 },
        ..seen.clone()
    };
    seen.iter().filter(|(path, _)| !path.is_empty()).map(|(path, seen)| (path.clone(), kept(seen))).collect()
}

fn set_time(path: &Path, time: Duration) {
    let times = FileTimes::new().set_modified(UNIX_EPOCH + time);
    File::open(path).unwrap().set_times(times).unwrap();
}

/// Whether files can be given away: as root, unless it has no capabilities.
fn may_give_away(directory: &Directory) -> bool {
    std::os::unix::fs::lchown(directory.file("given", b""), Some(1), Some(1)).is_ok()
}

/// A tree with what the formats of tar differ in.
fn tree(short: bool) -> Directory {
    let directory = Directory::new();
    let top = directory.path();
    let file = directory.file("bin/program", &[7; 100_000]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    set_time(&file, Duration::new(1_700_000_000, 123_456_789));
    fs::hard_link(&file, top.join("bin/again")).unwrap();
    symlink("../bin/program", top.join("bin/link")).unwrap();
    directory.file("empty", b"");
    directory.file(" odd name\n", b"odd");
    mkfifo(&top.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o620)).unwrap();
    if !short {
        let long = "long".repeat(60);
        directory.file(&format!("{long}/{long}/{long}"), b"long");
        symlink(long.repeat(10), top.join("long-link")).unwrap();
        fs::hard_link(top.join(format!("{long}/{long}/{long}")), top.join(format!("{long}/other"))).unwrap();
        directory.file("\u{fc}nic\u{f6}de", b"unicode");
    }
    if may_give_away(&directory) {
        std::os::unix::fs::lchown(top.join("empty"), Some(100_000), Some(999)).unwrap();
    }
    directory
}

/// A file of many holes.
fn sparse(directory: &Directory) {
    let file = File::create(directory.path().join("sparse")).unwrap();
    for at in 0..40_u64 {
        file.write_all_at(&[1 + u8::try_from(at).unwrap(); 4096], at * 65_536).unwrap();
    }
    file.set_len(5_000_000).unwrap();
    File::create(directory.path().join("hole")).unwrap().set_len(1 << 20).unwrap();
    let mut end = File::create(directory.path().join("end")).unwrap();
    end.seek(SeekFrom::Start(1 << 20)).unwrap();
    end.write_all(b"end").unwrap();
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.stderr(Stdio::piped()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn convert(archive: &[u8]) -> Found {
    let (image, _) = convert_with(Limits::default(), &[(archive, Whiteouts::None)]).unwrap();
    found(&image)
}

#[test]
fn gnu_tar_writes_what_is_read() {
    for (format, short) in
        [("v7", true), ("ustar", true), ("gnu", false), ("oldgnu", false), ("posix", false)]
    {
        let directory = tree(short);
        let mut tar = Command::new("tar");
        tar.args(["-C", directory.path().to_str().unwrap(), "--numeric-owner", "--format", format]);
        if short {
            // They know no FIFOs.
            tar.args(if format == "v7" { &["--exclude=./fifo"][..] } else { &[] });
        }
        let archive = output(tar.args(["-cf", "-", "."]));
        let mut expected = on_disk(directory.path());
        if format == "v7" {
            expected.remove("fifo");
        }
        let nanoseconds = format == "posix";
        assert_eq!(
            comparable(&convert(&archive), nanoseconds),
            comparable(&expected, nanoseconds),
            "{format}"
        );
    }
}

#[test]
fn sparse_files_of_gnu_tar_have_their_holes() {
    for options in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let directory = tree(false);
        sparse(&directory);
        let mut tar = Command::new("tar");
        tar.args(["-C", directory.path().to_str().unwrap(), "--numeric-owner", "-S"]).args(options);
        let archive = output(tar.args(["-cf", "-", "."]));
        assert!(archive.len() < 1 << 20, "{options:?}: it is sparse");
        let found = convert(&archive);
        assert_eq!(comparable(&found, false), comparable(&on_disk(directory.path()), false), "{options:?}");
    }
}

#[test]
fn pythons_tarfile_writes_what_is_read() {
    const WRITE: &str = "import sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=int(sys.argv[1])) as archive:
    archive.add(sys.argv[2], '.')";
    for (format, short) in [("0", true), ("1", false), ("2", false)] {
        let directory = tree(short);
        let archive =
            output(Command::new("/usr/bin/python3").args(["-c", WRITE, format]).arg(directory.path()));
        let (found, expected) = (convert(&archive), on_disk(directory.path()));
        assert_eq!(comparable(&found, false), comparable(&expected, false), "{format}");
    }
}

#[test]
fn gzip_and_zstd_write_what_is_decompressed() {
    let directory = tree(false);
    directory.file(
        "noise",
        &(0..600_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect::<Vec<_>>(),
    );
    let archive = directory.path().join("archive");
    let mut tar = Command::new("tar");
    tar.args(["-C", directory.path().to_str().unwrap(), "--exclude=./archive", "-cf"]);
    output(tar.arg(&archive).arg("."));
    let expected = comparable(&convert(&fs::read(&archive).unwrap()), true);
    for command in [&["gzip", "-9c"][..], &["zstd", "-1c"], &["zstd", "-19c"], &["zstd", "-c", "--long=27"]] {
        let compressed = output(Command::new(command[0]).args(&command[1..]).arg(&archive));
        assert_eq!(comparable(&convert(&compressed), true), expected, "{command:?}");
    }
    let huge = output(
        Command::new("zstd").args(["-c", "--long=28", "--ultra", "-20"]).stdin(Stdio::null()).arg(&archive),
    );
    assert_eq!(comparable(&convert(&huge), true), expected, "a window is no larger than the file");
}

/// What fsck.erofs 1.5 extracts: no hard links, and files whose owner is set after their mode, which takes the setuid
/// and setgid bits away.
fn extractable(seen: &Found) -> Found {
    let kept = |seen: &Seen| Seen {
        links: 0,
        inode: 0,
        mode: match seen.mode >> 12 {
            0o12 => 0o120_777,
            0o4 => seen.mode,
            _ => seen.mode & !0o6000,
        },
        ..seen.clone()
    };
    seen.iter().filter(|(path, _)| !path.is_empty()).map(|(path, seen)| (path.clone(), kept(seen))).collect()
}

/// fsck.erofs reads every inode and all data; as root it also makes the tree.
#[test]
fn fsck_erofs_reads_the_same_tree() {
    let mut runner = TestRunner::new(Config::with_cases(24));
    runner
        .run(&arbitrary_image(), |image| {
            let directory = Directory::new();
            let path = directory.file("image", &image);
            output(Command::new("fsck.erofs").arg(&path));
            if !may_give_away(&directory) {
                return Ok(());
            }
            let extracted = directory.path().join("extracted");
            output(Command::new("fsck.erofs").arg(format!("--extract={}", extracted.display())).arg(&path));
            let (made, expected) = (extractable(&on_disk(&extracted)), extractable(&found(&image)));
            prop_assert!(made.keys().eq(expected.keys()));
            for (path, made) in made {
                prop_assert_eq!(&made, &expected[&path], "{}", path);
            }
            Ok(())
        })
        .unwrap();
}

/// Applies the same layers by `umoci unpack`, where the machine has it and files can be given away.
#[test]
fn umoci_makes_the_same_of_layers() {
    let directory = Directory::new();
    let there = Command::new("umoci").arg("--version").output().is_ok_and(|output| output.status.success());
    if !there || !may_give_away(&directory) {
        eprintln!("left out: it needs umoci and a root that may change owners");
        return;
    }
    let layers = [
        Tar::default()
            .directory("./")
            .directory("usr/")
            .directory("usr/lib/")
            .symlink("lib", "usr/lib")
            .file("usr/lib/a", &[1; 10_000])
            .hard_link("hard", "usr/lib/a")
            .directory("opaque/")
            .file("opaque/old", b"old")
            .directory("gone/")
            .file("gone/file", b"")
            .file("type", b"file")
            .directory("other/")
            .file("other/file", b"")
            .header(b"owned", b'0', 3, |block| {
                octal(block, 100, 8, 0o4750);
                octal(block, 108, 8, 999);
                octal(block, 116, 8, 100_000);
            })
            .content(b"own")
            .header(b"fifo", b'6', 0, |_| ())
            .device("null", 1, 3)
            .end(),
        Tar::default()
            .file("lib/b", b"through the link")
            .directory("opaque/")
            .file("opaque/.wh..wh..opq", b"")
            .file("opaque/new", b"new")
            .file(".wh.gone", b"")
            .directory("type/")
            .file("type/in", b"in")
            .file("other", b"a file now")
            .hard_link("later", "usr/lib/a")
            .file("made/in/passing", b"")
            .end(),
        Tar::default().file("usr/lib/a", b"changed").file(".wh.hard", b"").symlink("made/link", "/usr").end(),
        Tar::default().file("made/link/lib/c", b"c").file("lib/.wh.b", b"").end(),
    ];
    let layout = directory.path().join("layout");
    let image = format!("{}:tag", layout.display());
    let umoci = |arguments: &[&str]| output(Command::new("umoci").args(arguments));
    umoci(&["init", "--layout", layout.to_str().unwrap()]);
    umoci(&["new", "--image", &image]);
    for (at, layer) in layers.iter().enumerate() {
        let path = directory.file(&format!("layer-{at}"), layer);
        umoci(&["raw", "add-layer", "--image", &image, path.to_str().unwrap()]);
    }
    let bundle = directory.path().join("bundle");
    umoci(&["unpack", "--image", &image, bundle.to_str().unwrap()]);
    let layers: Vec<_> = layers.iter().map(|layer| (&layer[..], Whiteouts::Oci)).collect();
    let (image, _) = convert_with(Limits::default(), &layers).unwrap();
    let (mut made, mut expected) = (found(&image), comparable(&on_disk(&bundle.join("rootfs")), false));
    made = comparable(&made, false);
    // No entry has these: umoci gives them the time of now.
    for implied in ["made", "made/in"] {
        for seen in [&mut made, &mut expected] {
            seen.get_mut(implied).unwrap().seconds = 0;
        }
    }
    assert!(made.keys().eq(expected.keys()), "{:?}\n{:?}", made.keys(), expected.keys());
    for (path, made) in made {
        assert_eq!(made, expected[&path], "{path}");
    }
}
