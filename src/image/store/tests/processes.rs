//! What is left in the store when its processes are killed, or when the disk is full.

use super::*;

/// Everything that is believed is whole, and nothing else is left.
pub(super) fn check_store(store: &Store, top: &Directory) -> usize {
    let images = store.list().unwrap();
    for image in &images {
        let seed: u64 = image.config().labels["seed"].parse().unwrap();
        assert_eq!(image.id(), id(seed));
        let length = usize::try_from(image.bytes()).unwrap();
        let mut bytes = vec![0; length];
        File::from(image.open().unwrap()).read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes == content(seed, length), "{seed}");
    }
    assert_eq!(store.ids().unwrap().len(), images.len(), "nothing is damaged");
    assert_eq!(files(top, "images").len(), 2 * images.len());
    assert_eq!(files(top, "tmp"), [""; 0]);
    images.len()
}

/// Runs another test of this module in a process of its own, on this store.
fn child(test: &str, top: &Directory) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("image::store::tests::processes::{test}"), "--nocapture"])
        .env(STORE_OF_CHILD, top.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// A child: changes a store until it is killed.
#[test]
fn a_process_that_is_killed() {
    let Some(directory) = std::env::var_os(STORE_OF_CHILD) else { return };
    let store = Store::open(Path::new(&directory)).unwrap();
    for seed in 0.. {
        let seed = seed % 7;
        publish(&store, seed, 300_000, Some(&format!("tag{}", seed % 2))).unwrap();
        println!("published");
        if seed % 3 == 0 {
            store.remove(id(seed)).unwrap();
        }
        if seed == 6 {
            store.prune(600_000).unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_that_is_believed() {
    let top = Directory::new();
    for round in 0..200 {
        let mut first = child("a_process_that_is_killed", &top).spawn().unwrap();
        // Sometimes two at once.
        let second = (round % 3 == 0).then(|| child("a_process_that_is_killed", &top).spawn().unwrap());
        let mut random = [0; 2];
        crate::sys::random::fill(&mut random).unwrap();
        let mut wait = u64::from(u16::from_ne_bytes(random)) % 20_000;
        if round % 4 == 0 {
            // While it starts.
            wait /= 10;
        } else if round % 4 == 1 {
            // After its second image, which it doesn't remove. How many the others publish depends on the machine.
            let lines = std::io::BufReader::new(first.stdout.as_mut().unwrap());
            let published = std::io::BufRead::lines(lines).map(Result::unwrap);
            assert_eq!(published.filter(|line| line.ends_with("published")).take(2).count(), 2);
        } else {
            let mut line = [0; 256];
            let _ = std::io::Read::read(first.stdout.as_mut().unwrap(), &mut line).unwrap();
        }
        thread::sleep(Duration::from_micros(wait));
        for mut child in std::iter::once(first).chain(second) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let store = Store::open(top.path()).unwrap();
        let found = check_store(&store, &top);
        assert!(found > 0 || round % 4 != 1, "it has published before it was killed");
    }
}

/// A child: publishes an image when its files may not become longer than a limit, as on a full disk.
#[test]
fn a_process_that_can_not_write() {
    let Some(limit) = std::env::var_os(FILE_SIZE_OF_CHILD) else { return };
    let store = Store::open(Path::new(&std::env::var_os(STORE_OF_CHILD).unwrap())).unwrap();
    let file = store.temporary("test").unwrap();
    file.file().write_all_at(&content(1, 8192), 0).unwrap();
    let mut size = std::ffi::OsString::from("--fsize=");
    size.push(limit);
    let set = Command::new("prlimit").arg(size).arg("--pid").arg(std::process::id().to_string()).status();
    assert!(set.unwrap().success());
    match store.publish(file, id(1), &config(1), origin(), Some("a"), &GOES_ON) {
        Ok(_) => println!("was published"),
        Err(cause) => println!("failed with {:?}: {cause}", cause.os_error()),
    }
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let (mut failed, mut published) = (0, 0);
    for limit in [0, 1, 50, 100, 150, 200, 220, 240, 260, 280, 300, 400, 1000] {
        let top = Directory::new();
        let store = Store::open(top.path()).unwrap();
        publish(&store, 2, 4096, Some("a")).unwrap();
        let output = child("a_process_that_can_not_write", &top)
            .env(FILE_SIZE_OF_CHILD, limit.to_string())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let images = check_store(&store, &top);
        let tagged = store.find("a").unwrap().unwrap().id();
        if text.contains("was published") {
            published += 1;
            assert_eq!((images, tagged), (2, id(1)));
        } else {
            failed += 1;
            assert!(text.contains(&format!("failed with {:?}", Some(libc::EFBIG))), "{limit}: {text}");
            // An image without its tag isn't there.
            assert_eq!((images, tagged), (1, id(2)));
            assert_eq!(files(&top, "tmp"), [""; 0]);
        }
    }
    assert!(failed > 3 && published > 1, "{failed} {published}");
}

/// A child: removes images when its files may have no content, as on a full disk.
#[test]
fn a_process_that_can_only_remove() {
    let Some(what) = std::env::var_os(REMOVED_BY_CHILD) else { return };
    let store = Store::open(Path::new(&std::env::var_os(STORE_OF_CHILD).unwrap())).unwrap();
    let pid = std::process::id().to_string();
    assert!(Command::new("prlimit").arg("--fsize=0").arg("--pid").arg(pid).status().unwrap().success());
    match what.to_str() {
        Some("one") => assert!(store.remove(id(1)).unwrap()),
        Some("tagged") => assert_eq!(store.remove(id(1)).unwrap_err().os_error(), Some(libc::EFBIG)),
        _ => assert_eq!(store.prune(0).unwrap().removed.len(), 1),
    }
}

#[test]
fn images_can_be_removed_from_a_full_disk() {
    for what in ["one", "tagged", "all"] {
        let top = Directory::new();
        let store = Store::open(top.path()).unwrap();
        publish(&store, 1, 4096, (what == "tagged").then_some("a")).unwrap();
        store.set_step(Digest::of(b"step"), id(1)).unwrap();
        let status = child("a_process_that_can_only_remove", &top).env(REMOVED_BY_CHILD, what).status();
        assert!(status.unwrap().success(), "{what}");
        assert_eq!(files(&top, "images"), [""; 0], "{what}");
        assert!(
            store.step(Digest::of(b"step"), None).unwrap().is_none() && store.find("a").unwrap().is_none()
        );
    }
}
