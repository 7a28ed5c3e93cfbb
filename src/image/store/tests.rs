//! What is published, found, tagged and removed.

mod processes;

use super::*;
use crate::image::erofs::{MAGIC, SUPERBLOCK};
use crate::image::testing::Directory;
use processes::check_store;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::thread;
use std::time::SystemTime;

/// What stands for an image: only the store's checks look at it.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..length).map(|at| (at as u64 ^ (at as u64 >> 8) ^ seed).to_le_bytes()[0]).collect();
    bytes[1024..1028].copy_from_slice(&MAGIC.to_le_bytes());
    bytes
}

fn config(seed: u64) -> Vec<u8> {
    format!(r#"{{"os":"linux","config":{{"Labels":{{"seed":"{seed}"}}}}}}"#).into_bytes()
}

static GOES_ON: AtomicBool = AtomicBool::new(false);

fn origin() -> Origin {
    Origin { kind: OriginKind::Directory, from: "/somewhere".to_owned() }
}

fn id(seed: u64) -> ImageId {
    id_of_layers(Digest::of(&config(seed)), &[])
}

fn publish(store: &Store, seed: u64, length: usize, tag: Option<&str>) -> Result<StoredImage> {
    let file = store.temporary("test")?;
    file.file().write_all_at(&content(seed, length), 0).unwrap();
    store.publish(file, id(seed), &config(seed), origin(), tag, &GOES_ON)
}

fn files(top: &Directory, part: &str) -> Vec<String> {
    let entries = fs::read_dir(top.path().join("v1").join(part)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn file_path(top: &Directory, seed: u64) -> PathBuf {
    top.path().join("v1/images").join(file_name(id(seed)))
}

#[test]
fn an_image_is_found_by_its_names() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    assert!(store.find("docker.io/library/x:1").unwrap().is_none());
    let image = publish(&store, 1, 8192, Some("docker.io/library/x:1")).unwrap();
    publish(&store, 2, 4096, None).unwrap();
    assert_eq!(
        (image.id(), image.bytes(), image.tags()),
        (id(1), 8192, &["docker.io/library/x:1".to_owned()][..])
    );
    assert_eq!(image.config().labels["seed"], "1");
    assert_eq!(image.config_json().as_bytes(), config(1));
    assert_eq!(image.origin(), &origin());
    let hex = id(1).hex();
    for name in
        ["docker.io/library/x:1", &id(1).to_string(), &hex, &hex[..12], &format!("sha256:{}", &hex[..20])]
    {
        assert_eq!(store.find(name).unwrap().unwrap().id(), id(1), "{name}");
    }
    for name in [&hex[..11], "x", "", "sha256:", &"0".repeat(64), &hex.to_uppercase()] {
        assert!(store.find(name).unwrap().is_none(), "{name}");
    }
    let mode = fs::metadata(file_path(&top, 1)).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o400);
    assert_eq!(fs::read(file_path(&top, 1)).unwrap(), content(1, 8192));
    assert_eq!(files(&top, "tmp"), [""; 0]);
    // Another process finds the same.
    assert_eq!(Store::open(top.path()).unwrap().list().unwrap().len(), 2);
}

#[test]
fn a_beginning_that_several_ids_share_is_ambiguous() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    for last in ["0", "1"] {
        let name = format!("{}{last}.json", "ab".repeat(31) + "a");
        top.file(&format!("v1/images/{name}"), b"{}");
    }
    let error = store.find(&"ab".repeat(8)).unwrap_err();
    assert!(error.message().contains("the beginning of 2 images' ids"), "{error}");
}

#[test]
fn a_tag_moves_and_an_image_stays_without_it() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    publish(&store, 1, 4096, Some("a")).unwrap();
    publish(&store, 2, 4096, Some("a")).unwrap();
    assert_eq!(store.find("a").unwrap().unwrap().id(), id(2));
    assert_eq!(store.get(id(1)).unwrap().unwrap().tags(), [""; 0]);
    store.tag(id(1), "a").unwrap();
    store.tag(id(1), "b").unwrap();
    assert_eq!(store.get(id(1)).unwrap().unwrap().tags(), ["a", "b"]);
    assert!(store.untag("a").unwrap() && !store.untag("a").unwrap());
    assert!(store.find("a").unwrap().is_none());
    assert_eq!(store.tag(id(3), "c").unwrap_err().code(), Code::NotFound);
    assert_eq!(store.tag(id(1), "").unwrap_err().code(), Code::Invalid);
    assert_eq!(publish(&store, 4, 4096, Some("a\0")).unwrap_err().code(), Code::Invalid);
    assert!(store.get(id(4)).unwrap().is_none());
    assert_eq!(files(&top, "tmp"), [""; 0]);
}

#[test]
fn an_image_that_is_removed_goes_on_for_those_who_have_it_open() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    let image = publish(&store, 1, 4096, Some("a")).unwrap();
    let open = File::from(image.open().unwrap());
    assert!(store.remove(id(1)).unwrap() && !store.remove(id(1)).unwrap());
    assert!(store.find("a").unwrap().is_none() && store.list().unwrap().is_empty());
    assert_eq!(files(&top, "images"), [""; 0]);
    let mut bytes = vec![0; 4096];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, content(1, 4096));
    assert_eq!(image.open().unwrap_err().code(), Code::NotFound);
    // The same image can be had again.
    publish(&store, 1, 4096, None).unwrap().open().unwrap();
}

#[test]
fn publishing_what_is_there_keeps_the_file() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    publish(&store, 1, 4096, Some("a")).unwrap();
    let before = fs::metadata(file_path(&top, 1)).unwrap().ino();
    let again = publish(&store, 1, 4096, Some("b")).unwrap();
    assert_eq!(again.tags(), ["a", "b"]);
    assert_eq!(fs::metadata(file_path(&top, 1)).unwrap().ino(), before);
    assert_eq!(files(&top, "tmp"), [""; 0]);
}

#[test]
fn a_file_that_was_changed_or_exchanged_is_refused_and_can_be_had_again() {
    type Damage = fn(&Path);
    let damages: &[(Damage, &str)] = &[
        (|path| mode(path, 0o600), "mode 0600"),
        (|path| mode(path, 0o444), "mode 0444"),
        (|path| mode(path, 0o422), "another user could have changed it"),
        (|path| write(path, 100), "has 100 bytes"),
        (|path| write(path, 4097), "has 4097 bytes"),
        (|path| fs::hard_link(path, path.with_extension("other")).unwrap(), "has 2 names"),
        (|path| fs::remove_file(path).unwrap(), "is not in the store any more"),
        (
            |path| {
                fs::rename(path, path.with_extension("real")).unwrap();
                symlink(path.with_extension("real"), path).unwrap();
            },
            "is a symbolic link",
        ),
        (
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            "is not a regular file",
        ),
        (|path| write_at(path, &[0; 4]), "is not an EROFS file"),
    ];
    for (damage, text) in damages {
        let top = Directory::new();
        let store = Store::open(top.path()).unwrap();
        let image = publish(&store, 1, 4096, Some("a")).unwrap();
        let path = file_path(&top, 1);
        damage(&path);
        let error = image.open().unwrap_err();
        assert!(error.message().contains(text), "{error}");
        store.find("a").unwrap_err();
        assert!(store.list().unwrap().is_empty());
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        }
        publish(&store, 1, 4096, None).unwrap().open().unwrap();
        assert_eq!(store.find("a").unwrap().unwrap().id(), id(1));
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn write(path: &Path, length: usize) {
    mode(path, 0o600);
    fs::write(path, vec![0; length]).unwrap();
    mode(path, 0o400);
}

fn write_at(path: &Path, bytes: &[u8]) {
    mode(path, 0o600);
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, SUPERBLOCK as u64).unwrap();
    mode(path, 0o400);
}

#[test]
fn a_damaged_record_is_refused_and_can_be_removed() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    publish(&store, 1, 4096, Some("a")).unwrap();
    let record = top.path().join("v1/images").join(record_name(id(1)));
    write(&record, 10);
    for error in [store.find("a").unwrap_err(), store.get(id(1)).unwrap_err()] {
        assert!(error.message().contains("is damaged; remove it"), "{error}");
    }
    assert!(store.list().unwrap().is_empty());
    assert!(store.remove(id(1)).unwrap());
    assert_eq!(files(&top, "images"), [""; 0]);
    publish(&store, 2, 4096, None).unwrap();
    write(&top.path().join("v1/images").join(record_name(id(2))), 10);
    assert_eq!(store.prune(u64::MAX).unwrap().removed, [id(2)]);
    assert_eq!(files(&top, "images"), [""; 0]);
}

#[test]
fn pruning_removes_what_was_not_used_for_the_longest_time() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    for seed in 1..=4 {
        publish(&store, seed, 64 * 1024, Some(&seed.to_string())).unwrap();
    }
    // In the order 3, 1, 4, 2.
    for (age, seed) in [(40, 3), (30, 1), (20, 4), (10, 2)] {
        let record = File::open(top.path().join("v1/images").join(record_name(id(seed)))).unwrap();
        record.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    let order: Vec<ImageId> = store.list().unwrap().iter().map(StoredImage::id).collect();
    assert_eq!(order, [id(2), id(4), id(1), id(3)]);
    // Opening is a use.
    store.find("1").unwrap().unwrap().open().unwrap();
    let total: u64 = store.list().unwrap().iter().map(StoredImage::disk_bytes).sum();
    assert_eq!(store.prune(total).unwrap(), Pruned { kept_bytes: total, ..Pruned::default() });
    let pruned = store.prune(total - 1).unwrap();
    assert_eq!(pruned.removed, [id(3)]);
    assert_eq!(pruned.freed_bytes + pruned.kept_bytes, total);
    assert!(store.find("3").unwrap().is_none());
    assert_eq!(store.prune(pruned.kept_bytes - 1).unwrap().removed, [id(4)]);
    assert_eq!(store.prune(0).unwrap().removed, [id(2), id(1)]);
    assert_eq!(files(&top, "images"), [""; 0]);
    assert_eq!(store.tags().unwrap(), Tags::default());
}

#[test]
fn another_format_is_left_alone() {
    let top = Directory::new();
    top.file("v0/images/x", b"old");
    top.file("v2/anything", b"new");
    let store = Store::open(top.path()).unwrap();
    publish(&store, 1, 4096, None).unwrap();
    store.prune(0).unwrap();
    drop(Store::open(top.path()).unwrap());
    assert_eq!(fs::read(top.path().join("v0/images/x")).unwrap(), b"old");
    assert_eq!(fs::read(top.path().join("v2/anything")).unwrap(), b"new");
}

#[test]
fn a_format_directory_that_others_may_enter_or_a_link_is_refused() {
    let top = Directory::new();
    fs::create_dir(top.path().join("v1")).unwrap();
    mode(&top.path().join("v1"), 0o755);
    let error = Store::open(top.path()).unwrap_err();
    assert!(error.message().contains("must belong to user"), "{error}");
    fs::rename(top.path().join("v1"), top.path().join("real")).unwrap();
    mode(&top.path().join("real"), 0o700);
    symlink("real", top.path().join("v1")).unwrap();
    Store::open(top.path()).unwrap_err();
}

#[test]
fn a_temporary_file_goes_with_its_owner() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    let file = store.temporary("blob").unwrap();
    file.file().write_all(b"x").unwrap();
    assert!(files(&top, "tmp")[0].starts_with("blob."));
    // Another process opens the store: this one lives.
    Store::open(top.path()).unwrap();
    assert_eq!(files(&top, "tmp").len(), 1);
    drop(file);
    assert_eq!(files(&top, "tmp"), [""; 0]);
    // What no process has locked is left by a dead one; so is an image without a record.
    top.file("v1/tmp/blob.0123456789abcdef", b"x");
    top.file(&format!("v1/images/{}", file_name(id(1))), b"x");
    Store::open(top.path()).unwrap();
    assert_eq!((files(&top, "tmp"), files(&top, "images")), (vec![], vec![]));
}

#[test]
fn space_is_reserved_before_and_given_back_after() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    let file = store.temporary("blob").unwrap();
    for error in [file.reserve(1 << 60).unwrap_err(), file.reserve(u64::MAX).unwrap_err()] {
        assert_eq!(error.os_error(), Some(libc::ENOSPC));
        assert!(error.message().contains("needs ") && error.message().contains("image_directory"), "{error}");
    }
    file.check_space(0).unwrap();
    file.reserve(0).unwrap();
    file.reserve(1 << 20).unwrap();
    assert_eq!(file.file().metadata().unwrap().len(), 0);
    file.file().write_all_at(&content(1, 4096), 0).unwrap();
    let image = store.publish(file, id(1), &config(1), origin(), None, &GOES_ON).unwrap();
    assert!(image.disk_bytes() < 1 << 20, "{}", image.disk_bytes());
}

#[test]
fn what_has_ended_is_not_published_and_takes_no_tag() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    publish(&store, 2, 4096, Some("a")).unwrap();
    let before = files(&top, "images");
    let file = store.temporary("test").unwrap();
    file.file().write_all_at(&content(1, 4096), 0).unwrap();
    let ended = AtomicBool::new(true);
    let error = store.publish(file, id(1), &config(1), origin(), Some("a"), &ended).unwrap_err();
    assert_eq!(error.code(), Code::Closed);
    assert_eq!((files(&top, "tmp"), files(&top, "images")), (vec![], before));
    // The same for one that is there already.
    publish(&store, 1, 4096, None).unwrap();
    let file = store.temporary("test").unwrap();
    file.file().write_all_at(&content(1, 4096), 0).unwrap();
    store.publish(file, id(1), &config(1), origin(), Some("a"), &ended).unwrap_err();
    assert_eq!(store.find("a").unwrap().unwrap().id(), id(2));
}

#[test]
fn what_is_no_image_is_not_published() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    for bytes in [&b""[..], &[0; 4096]] {
        let file = store.temporary("test").unwrap();
        file.file().write_all_at(bytes, 0).unwrap();
        store.publish(file, id(1), &config(1), origin(), None, &GOES_ON).unwrap_err();
    }
    let file = store.temporary("test").unwrap();
    file.file().write_all_at(&content(1, 4096), 0).unwrap();
    store.publish(file, id(1), b"{\"os\": 1}", origin(), None, &GOES_ON).unwrap_err();
    assert_eq!((files(&top, "tmp"), files(&top, "images")), (vec![], vec![]));
}

#[test]
fn ids_differ_by_everything_that_makes_the_image() {
    let top = Directory::new();
    let live = || Ok(());
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let file = |name: &str, bytes: &[u8]| File::open(top.file(name, bytes)).unwrap();
    let ids = [
        id_of_layers(a, &[]),
        id_of_layers(a, &[a]),
        id_of_layers(a, &[a, b]),
        id_of_layers(a, &[b, a]),
        id_of_layers(b, &[a]),
        id_of_file(&file("a", b"a"), a, &live).unwrap(),
        id_of_file(&file("b", b"b"), a, &live).unwrap(),
        id_of_file(&file("c", b"a"), b, &live).unwrap(),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert_eq!(id_of_file(&file("d", b"a"), a, &live).unwrap(), ids[5]);
}

#[test]
fn the_directory_comes_from_the_environment() {
    let path = |cache: &str, home: &str| directory_from(Some(cache.into()), Some(home.into()));
    assert_eq!(path("/cache", "/home/me").unwrap(), Path::new("/cache/libsbx/images"));
    for cache in ["", "cache"] {
        assert_eq!(path(cache, "/home/me").unwrap(), Path::new("/home/me/.cache/libsbx/images"));
    }
    for error in [path("", "me").unwrap_err(), directory_from(None, None).unwrap_err()] {
        assert!(error.message().contains("set the runtime's image_directory"), "{error}");
    }
}

#[test]
fn threads_publish_tag_and_remove_at_once() {
    let top = Directory::new();
    thread::scope(|scope| {
        for thread in 0..4 {
            let store = Store::open(top.path()).unwrap();
            scope.spawn(move || {
                for round in 0..8 {
                    let image = publish(&store, round % 3, 8192, Some(&format!("t{thread}"))).unwrap();
                    // Another thread may have removed it.
                    let _ = image.open();
                    store.list().unwrap();
                    if round % 4 == 3 {
                        store.remove(id(round % 3)).unwrap();
                    }
                }
            });
        }
    });
    let store = Store::open(top.path()).unwrap();
    check_store(&store, &top);
}

/// The store that a child process of these tests works on.
const STORE_OF_CHILD: &str = "SBX_TEST_STORE";
/// The longest file that a child may write.
const FILE_SIZE_OF_CHILD: &str = "SBX_TEST_FILE_SIZE";
const REMOVED_BY_CHILD: &str = "SBX_TEST_REMOVED";

#[test]
fn an_index_of_steps_that_is_too_long_or_of_others_is_empty() {
    let top = Directory::new();
    let store = Store::open(top.path()).unwrap();
    publish(&store, 1, 4096, None).unwrap();
    let (key, path) = (Digest::of(b"step"), top.path().join("v1").join(steps::FILE));
    let bad: [&dyn Fn(); 2] = [&|| write(&path, 5 << 20), &|| mode(&path, 0o666)];
    for spoil in bad {
        store.set_step(key, id(1)).unwrap();
        assert!(store.step(key, None).unwrap().is_some());
        spoil();
        assert!(store.step(key, None).unwrap().is_none());
    }
    store.set_step(key, id(1)).unwrap();
    assert!(store.remove(id(1)).unwrap());
}

/// What a process that is killed between the two has left.
#[test]
fn a_tag_that_was_prepared_is_set_if_its_image_is_there() {
    let next = |top: &Directory| top.path().join("v1").join(tags::NEXT);
    for (is_there, change) in [true, false].into_iter().flat_map(|is_there| {
        let changes: [fn(&Store); 4] = [
            |store| assert!(!store.untag("none").unwrap()),
            |store| store.tag(id(2), "other").unwrap(),
            |store| drop(store.prune(u64::MAX).unwrap()),
            |store| drop(Store::open(store.directories.path().parent().unwrap()).unwrap()),
        ];
        changes.map(|change| (is_there, change))
    }) {
        let top = Directory::new();
        let store = Store::open(top.path()).unwrap();
        publish(&store, 2, 4096, Some("a")).unwrap();
        let mut prepared = store.tags().unwrap();
        prepared.set("a", id(1)).unwrap();
        publish(&store, 1, 4096, None).unwrap();
        if !is_there {
            store.remove(id(1)).unwrap();
        }
        fs::write(next(&top), prepared.write()).unwrap();
        mode(&next(&top), 0o400);
        change(&store);
        assert!(!next(&top).exists());
        assert_eq!(store.find("a").unwrap().unwrap().id(), if is_there { id(1) } else { id(2) });
        // It isn't set again later.
        assert!(store.untag("a").unwrap());
        publish(&store, 3, 4096, Some("b")).unwrap();
        assert!(store.find("a").unwrap().is_none());
        assert_eq!(store.find("b").unwrap().unwrap().id(), id(3));
    }
    // What no process of ours has written.
    for spoil in [b"{".as_slice(), b"", b"[]"] {
        let top = Directory::new();
        let store = Store::open(top.path()).unwrap();
        publish(&store, 2, 4096, Some("a")).unwrap();
        fs::write(next(&top), spoil).unwrap();
        store.tag(id(2), "b").unwrap();
        assert!(!next(&top).exists());
        assert_eq!(store.find("a").unwrap().unwrap().id(), id(2));
    }
}
