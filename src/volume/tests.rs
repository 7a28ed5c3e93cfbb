use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::AtomicBool;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::*;
use crate::image::testing::Directory;

fn store(directory: &Directory) -> Volumes {
    Volumes::new(Some(&directory.path().join("volumes")), 1)
}

fn mount(name: &str) -> VolumeMount {
    VolumeMount::new(name)
}

fn remove(volumes: &Volumes, name: &str) -> Result<()> {
    volumes.remove(name, &AtomicBool::new(false))
}

/// How many removed volumes have left something.
fn leftovers(directory: &Directory) -> usize {
    fs::read_dir(directory.path().join("volumes/v1/removed")).unwrap().count()
}

#[test]
fn volumes_are_made_found_listed_and_removed() {
    let directory = Directory::new();
    let volumes = store(&directory);
    assert_eq!(volumes.list().unwrap(), []);
    let made = volumes.create("b.2", false).unwrap();
    assert_eq!(made.path, directory.path().canonicalize().unwrap().join("volumes/v1/volumes/b.2"));
    assert_eq!(fs::metadata(&made.path).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(volumes.create("b.2", false).unwrap_err().code(), Code::Exists);
    assert_eq!(volumes.create("b.2", true).unwrap(), made);
    volumes.create("a", false).unwrap();
    let names: Vec<_> = volumes.list().unwrap().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, ["a", "b.2"]);
    assert_eq!(volumes.find("b.2").unwrap(), made);
    for error in [volumes.find("c").unwrap_err(), remove(&volumes, "c").unwrap_err()] {
        assert_eq!(error.code(), Code::NotFound, "{error}");
        assert!(error.message().contains("\"c\""), "{error}");
    }
    for bad in ["..", ".", "a/b", "A"] {
        assert_eq!(volumes.create(bad, true).unwrap_err().code(), Code::Invalid);
        assert_eq!(remove(&volumes, bad).unwrap_err().code(), Code::Invalid);
    }
    remove(&volumes, "b.2").unwrap();
    assert!(!made.path.exists());
    assert_eq!((volumes.list().unwrap().len(), leftovers(&directory)), (1, 0));
}

#[test]
fn one_that_is_used_can_not_be_removed_by_any_process() {
    let directory = Directory::new();
    let (volumes, others) = (store(&directory), store(&directory));
    assert_eq!(volumes.use_for(&mount("data")).unwrap_err().code(), Code::NotFound);
    let first = volumes.use_for(&mount("data").create()).unwrap();
    let second = others.use_for(&mount("data")).unwrap();
    assert_eq!(first.identity, second.identity);
    assert!(others.find("data").unwrap().in_use);
    drop(first);
    let error = volumes.remove("data", &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.code(), Code::State, "{error}");
    drop(second);
    assert!(!volumes.find("data").unwrap().in_use);
    remove(&others, "data").unwrap();
    assert_eq!(volumes.use_for(&mount("data")).unwrap_err().code(), Code::NotFound);
    // The name is free for another one, which has a lock of its own.
    let again = volumes.use_for(&mount("data").create()).unwrap();
    assert_eq!(remove(&others, "data").unwrap_err().code(), Code::State);
    drop(again);
}

#[test]
fn use_and_removal_at_once_leave_no_volume_half_there() {
    let directory = Directory::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let volumes = store(&directory);
                for _ in 0..50 {
                    let used = volumes.use_for(&mount("data").create()).unwrap();
                    let now = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&used.directory).unwrap());
                    assert_eq!(used.identity.1, now, "what is used is what is there");
                    fs::write(used.directory.join("file"), "x").unwrap();
                }
            });
        }
        scope.spawn(|| {
            let volumes = store(&directory);
            for _ in 0..50 {
                match remove(&volumes, "data") {
                    Ok(()) => {}
                    Err(error) => assert!(matches!(error.code(), Code::State | Code::NotFound), "{error}"),
                }
                volumes.list().unwrap();
            }
        });
    });
}

#[test]
fn a_forked_child_of_the_host_keeps_no_lock() {
    let directory = Directory::new();
    let volumes = store(&directory);
    let used = volumes.use_for(&mount("data").create()).unwrap();
    // As fork(2) does, which copies descriptors, and dup(2): the lock is the open file's.
    let copies = used._lock.as_fd().try_clone_to_owned().unwrap();
    drop(used);
    remove(&volumes, "data").unwrap();
    drop(copies);
}

#[test]
fn removal_takes_what_a_hostile_sandbox_has_left() {
    let directory = Directory::new();
    let volumes = store(&directory);
    let volume = volumes.create("data", false).unwrap().path;
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    // Deeper than a path, or a stack, can be.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut at = nix::fcntl::open(&volume, flags, Mode::empty()).unwrap();
    for _ in 0..3000 {
        mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
        at = openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    // Many, and directories that their owner may not enter.
    for number in 0..3000 {
        fs::write(volume.join(format!("file{number}")), "").unwrap();
    }
    for name in ["closed", "closed/in", "closed/in/it"] {
        fs::create_dir(volume.join(name)).unwrap();
    }
    symlink(&outside, volume.join("closed/in/link")).unwrap();
    symlink("..", volume.join("up")).unwrap();
    for name in ["closed/in/it", "closed/in", "closed", ""] {
        fs::set_permissions(volume.join(name), fs::Permissions::from_mode(0o000)).unwrap();
    }
    remove(&volumes, "data").unwrap();
    assert!(!volume.exists() && outside.join("kept").exists());
    assert_eq!(leftovers(&directory), 0);
}

#[test]
fn a_removal_that_ends_in_the_middle_is_done_by_the_next() {
    let directory = Directory::new();
    let volumes = store(&directory);
    for name in ["one", "two"] {
        let path = volumes.create(name, false).unwrap().path;
        fs::create_dir_all(path.join("a/b")).unwrap();
    }
    let error = volumes.remove("one", &AtomicBool::new(true)).unwrap_err();
    assert!(error.code() == Code::Closed && error.message().contains("next removal"), "{error}");
    assert_eq!(volumes.find("one").unwrap_err().code(), Code::NotFound);
    assert!(leftovers(&directory) > 0);
    remove(&volumes, "two").unwrap();
    assert_eq!(leftovers(&directory), 0);
}

#[test]
fn what_is_no_directory_of_ours_is_no_volume() {
    let directory = Directory::new();
    let volumes = store(&directory);
    let top = volumes.create("real", false).unwrap().path;
    let top = top.parent().unwrap();
    symlink(top.join("real"), top.join("link")).unwrap();
    fs::write(top.join("file"), "").unwrap();
    fs::create_dir(top.join("by-hand")).unwrap();
    for bad in ["link", "file"] {
        for error in [
            volumes.use_for(&mount(bad)).unwrap_err(),
            volumes.use_for(&mount(bad).create()).unwrap_err(),
            remove(&volumes, bad).unwrap_err(),
        ] {
            assert!(error.message().contains("is not a directory"), "{error}");
        }
    }
    drop(volumes.use_for(&mount("by-hand")).unwrap());
    let names: Vec<_> = volumes.list().unwrap().into_iter().map(|volume| volume.name).collect();
    assert_eq!(names, ["by-hand", "real"]);
}

#[test]
fn a_full_disk_takes_no_more_sandboxes_that_write() {
    let directory = Directory::new();
    let volumes = Volumes::new(Some(&directory.path().join("volumes")), u64::MAX);
    volumes.create("data", false).unwrap();
    let error = volumes.use_for(&mount("data")).unwrap_err();
    assert_eq!(error.code(), Code::Limit);
    assert!(
        error.message().contains("bytes free") && error.message().contains("volume_min_free_bytes"),
        "{error}"
    );
    volumes.use_for(&mount("data").read_only()).unwrap();
}

#[test]
fn the_directory_is_the_users_and_trusted_by_the_rule_for_images() {
    let at = |data: Option<&str>, home: Option<&str>| {
        directory_from(data.map(OsString::from), home.map(OsString::from))
            .map_err(|error| error.message().to_owned())
    };
    assert_eq!(at(Some("/data"), Some("/home")), Ok("/data/libsbx/volumes".into()));
    assert_eq!(at(Some("data"), Some("/home")), Ok("/home/.local/share/libsbx/volumes".into()));
    assert!(at(None, Some("home")).unwrap_err().contains("volume_directory"));
    let relative = Volumes::new(Some(Path::new("here")), 1).list().unwrap_err();
    assert_eq!(relative.message(), "volume_directory here: must be an absolute path");

    let directory = Directory::new();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = store(&directory).list().unwrap_err();
    assert_eq!(error.code(), Code::Host, "{error}");
    assert!(error.message().starts_with("volume directory: "), "{error}");
    assert!(error.message().contains("(the runtime's volume_directory)"), "{error}");
}
