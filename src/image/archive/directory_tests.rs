//! What is written is compared with what GNU tar makes of it.

use super::*;
use crate::image::testing::Directory;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

const ENTRIES: u64 = 1_000_000;
/// No directory is left empty.
const NOTHING: (u64, u64) = (0, 0);

fn open(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn archive(path: &Path) -> Result<(Vec<u8>, DirectorySummary)> {
    let mut bytes = Vec::new();
    let live = AtomicBool::new(false);
    let summary = write(open(path), path, &mut bytes, ENTRIES, NOTHING, &live)?;
    Ok((bytes, summary))
}

/// Has GNU tar unpack an archive of a directory.
fn unpacked(from: &Path) -> (Directory, DirectorySummary) {
    let to = Directory::new();
    let (bytes, summary) = archive(from).unwrap();
    let mut tar = Command::new("tar")
        .args(["--extract", "--same-permissions", "--directory"])
        .arg(to.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(tar.wait().unwrap().success());
    (to, summary)
}

/// Everything that matters of a tree, by path.
fn tree(top: &Path) -> Vec<String> {
    let (mut found, mut pending) = (Vec::new(), vec![top.to_owned()]);
    while let Some(path) = pending.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        let kind = data.file_type();
        let mut text = format!("{:?} {:o}", path.strip_prefix(top).unwrap(), data.mode());
        if kind.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            text.push_str(&format!(" {} names", data.nlink()));
        }
        if !kind.is_symlink() {
            text.push_str(&format!(" {}.{:09}", data.mtime(), data.mtime_nsec()));
        }
        if kind.is_file() {
            text.push_str(&format!(" {}", crate::image::Digest::of(&fs::read(&path).unwrap())));
        } else if kind.is_symlink() {
            text.push_str(&format!(" {:?}", fs::read_link(&path).unwrap()));
        }
        if !kind.is_socket() {
            found.push(text);
        }
    }
    found.sort();
    found
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let top = Directory::new();
    let at = |name: &str| top.path().join(name);
    top.file("a/file", b"content");
    top.file("a/empty", b"");
    top.file("a/block", &[7; 512]);
    top.file("a/more", &vec![8; CHUNK_BYTES + 513]);
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    top.file(&long, b"long");
    top.file("line\nbreak \u{e9}", b"odd");
    fs::hard_link(at("a/file"), at("z")).unwrap();
    fs::hard_link(at(&long), at("y")).unwrap();
    symlink("a/file", at("link")).unwrap();
    symlink("x".repeat(300), at("long link")).unwrap();
    symlink("/nowhere", at("dangling")).unwrap();
    mkfifo(&at("fifo"), Mode::S_IRUSR).unwrap();
    fs::create_dir(at("b")).unwrap();
    fs::set_permissions(at("b"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(at("a/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let old = SystemTime::UNIX_EPOCH - Duration::from_millis(1500);
    File::open(at("a/empty")).unwrap().set_modified(old).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).unwrap();

    let (copy, summary) = unpacked(top.path());
    assert_eq!(tree(copy.path()), tree(top.path()));
    assert_eq!(summary, DirectorySummary { entries: 16, left_out_sockets: 1 });
    assert_eq!(
        fs::metadata(copy.path().join("z")).unwrap().ino(),
        fs::metadata(copy.path().join("a/file")).unwrap().ino()
    );
    assert_eq!(archive(top.path()).unwrap().0, archive(top.path()).unwrap().0);
}

#[test]
fn holes_are_not_sent() {
    let top = Directory::new();
    let path = top.path().join("sparse");
    let file = OpenOptions::new().create_new(true).write(true).open(&path).unwrap();
    file.write_all_at(&[1; 5000], 1 << 30).unwrap();
    file.write_all_at(&[2; 5000], 3 << 30).unwrap();
    file.set_len(8 << 30).unwrap();
    let empty = OpenOptions::new().create_new(true).write(true).open(top.path().join("only a hole")).unwrap();
    empty.set_len((1 << 40) + 1).unwrap();
    if extents(&file, 8 << 30).unwrap().len() == 1 {
        // A file system without SEEK_HOLE.
        return;
    }
    let (bytes, _) = archive(top.path()).unwrap();
    assert!(bytes.len() < 100_000, "{}", bytes.len());
    let copy = unpacked(top.path()).0;
    for name in ["sparse", "only a hole"] {
        let (was, is) =
            (fs::metadata(top.path().join(name)).unwrap(), fs::metadata(copy.path().join(name)).unwrap());
        assert_eq!((was.len(), was.mtime_nsec()), (is.len(), is.mtime_nsec()));
        assert!(is.blocks() < 100);
    }
    for (offset, value) in [(1 << 30, 1), (3 << 30, 2), (2 << 30, 0), ((1 << 30) + 5000, 0)] {
        let mut byte = [9];
        File::open(copy.path().join("sparse")).unwrap().read_exact_at(&mut byte, offset).unwrap();
        assert_eq!(byte, [value], "{offset}");
    }
}

#[test]
fn extents_beyond_the_limit_become_one() {
    let top = Directory::new();
    let path = top.path().join("sparse");
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!(extents(&file, 0).unwrap(), []);
    let all: u64 = extents(&file, 1 << 20).unwrap().iter().map(|extent| extent.length).sum();
    assert!(all <= 1 << 20);
}

#[test]
fn an_ordinary_user_s_own_files_belong_to_root() {
    let own = Owners { own: Some((1000, 100)) };
    let mut stat = fstat(File::open("/").unwrap()).unwrap();
    for (uid, gid, expected) in
        [(1000, 100, (0, 0)), (1000, 0, (0, 0)), (0, 100, (0, 0)), (999, 1000, (999, 1000))]
    {
        (stat.st_uid, stat.st_gid) = (uid, gid);
        assert_eq!(own.map(&stat), expected);
        assert_eq!(Owners { own: None }.map(&stat), (uid, gid));
    }
}

#[test]
fn limits_and_cancelling_end_it() {
    let top = Directory::new();
    for number in 0..20 {
        top.file(&number.to_string(), b"x");
    }
    let run = |entries, cancelled| {
        let cancelled = AtomicBool::new(cancelled);
        write(open(top.path()), top.path(), &mut io::sink(), entries, NOTHING, &cancelled)
    };
    run(21, false).unwrap();
    for entries in [0, 10, 20] {
        let error = run(entries, false).unwrap_err();
        assert_eq!(error.code(), Code::Limit, "{error}");
        assert!(error.message().ends_with(&format!("has more than {entries} entries")), "{error}");
    }
    assert_eq!(run(21, true).unwrap_err().code(), Code::Closed);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named() {
    /// Changes something when the first large file comes.
    struct Meddler<'a>(&'a mut dyn FnMut(), usize);
    impl Write for Meddler<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += bytes.len();
            if self.1 > CHUNK_BYTES {
                (self.0)();
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    type Change = fn(&Path);
    let changes: &[(Change, &str)] = &[
        (
            |top| OpenOptions::new().append(true).open(top.join("big")).unwrap().write_all(b"x").unwrap(),
            "big",
        ),
        (|top| OpenOptions::new().write(true).open(top.join("big")).unwrap().set_len(9).unwrap(), "big"),
        (|top| fs::write(top.join("new"), b"x").unwrap(), ""),
        (|top| fs::remove_file(top.join("later")).unwrap(), "later"),
        (
            |top| {
                fs::remove_file(top.join("later")).unwrap();
                symlink("big", top.join("later")).unwrap();
            },
            "",
        ),
        (
            |top| {
                fs::rename(top.join("zdir"), top.join("zdir2")).unwrap();
                symlink("/etc", top.join("zdir")).unwrap();
            },
            "",
        ),
    ];
    for (change, name) in changes {
        let top = Directory::new();
        top.file("big", &vec![1; 2 * CHUNK_BYTES]);
        top.file("later", b"x");
        top.file("zdir/x", b"x");
        // The clock of file times is coarse.
        thread::sleep(Duration::from_millis(20));
        let mut done = false;
        let mut once = || {
            if !std::mem::replace(&mut done, true) {
                change(top.path());
            }
        };
        let live = AtomicBool::new(false);
        let result = write(open(top.path()), top.path(), &mut Meddler(&mut once, 0), ENTRIES, NOTHING, &live);
        let error = result.unwrap_err();
        let expected = format!("{:?}: was changed while it was read", top.path().join(name));
        assert_eq!(error.message(), expected);
    }
}

#[test]
fn the_kernel_s_own_file_systems_are_left_empty() {
    assert!(is_of_the_kernel(&open(Path::new("/proc"))).unwrap());
    assert!(!is_of_the_kernel(&open(Directory::new().path())).unwrap());
}

#[test]
fn the_store_is_left_empty() {
    let top = Directory::new();
    top.file("a/store/v1/image", b"x");
    top.file("a/other", b"x");
    let store = fs::metadata(top.path().join("a/store")).unwrap();
    let live = AtomicBool::new(false);
    let mut bytes = Vec::new();
    let empty = (store.dev(), store.ino());
    let summary = write(open(top.path()), top.path(), &mut bytes, ENTRIES, empty, &live).unwrap();
    assert_eq!(summary.entries, 4);
    assert!(!String::from_utf8_lossy(&bytes).contains("v1"));
}

#[test]
fn a_reader_that_goes_away_is_an_error() {
    let top = Directory::new();
    top.file("big", &vec![1; 1 << 20]);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let live = AtomicBool::new(false);
    let mut writer = PipeWriter::new(writer.into(), &live).unwrap();
    let error = write(open(top.path()), top.path(), &mut writer, ENTRIES, NOTHING, &live).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EPIPE));
}

#[test]
fn a_reader_that_stands_still_can_be_given_up() {
    let top = Directory::new();
    top.file("big", &vec![1; 1 << 20]);
    let (_reader, writer) = io::pipe().unwrap();
    let (live, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let error = std::thread::scope(|scope| {
        let walk = || {
            let mut writer = PipeWriter::new(writer.into(), &stop).unwrap();
            write(open(top.path()), top.path(), &mut writer, ENTRIES, NOTHING, &live).unwrap_err()
        };
        let walk = scope.spawn(walk);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        walk.join().unwrap()
    });
    assert_eq!(error.os_error(), Some(libc::EPIPE));
}
