//! A disk that fills up while images are built, snapshots taken and volumes made: the error says so, nothing is left, and what
//! was there before is unharmed.
//!
//! The disk is a small tmpfs, of which a file takes what is to be full. tests/harness/contain.sh mounts it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by it")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::busybox::{begin, config, import, root, shell, tree};
use common::images::{TestStore, open, sha256};
use common::{PATIENCE, Scratch, eventually, output, processes_with};
use sbx::{Build, Code, Error, Image, Runtime, RuntimeConfig, Sandbox, VolumeMount};

const PAGE: u64 = 4096;
/// What an image of busybox, and what these tests add to it, needs at most.
const ENOUGH: u64 = 24 << 20;
/// What snapshots of directories leave free.
const MARGIN: u64 = 64 << 20;

/// One test at a time has the disk.
static TURN: Mutex<()> = Mutex::new(());

struct Disk {
    store: TestStore,
    _turn: MutexGuard<'static, ()>,
}

impl Disk {
    /// `None` where there is no such disk: only root can make one.
    fn new(name: &str) -> Option<Self> {
        let Some(disk) = std::env::var_os("SBX_TEST_SMALL_DISK") else {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI has no small disk");
            return None;
        };
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let path = PathBuf::from(disk).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let store = TestStore { runtime: open(&path), scratch: Scratch(path) };
        Some(Self { store, _turn: turn })
    }

    fn free(&self) -> u64 {
        let found = nix::sys::statvfs::statvfs(&self.store.scratch.0).unwrap();
        found.blocks_available() * found.fragment_size()
    }

    fn filler(&self) -> PathBuf {
        self.store.scratch.0.join("filler")
    }

    fn other_filler(&self) -> PathBuf {
        self.store.scratch.0.join("taken")
    }

    /// Makes so many bytes free, and no more. Files that a confined process held may still be going.
    fn leave(&self, bytes: u64) {
        eventually("just that is free", || {
            let _ = fs::remove_file(self.filler());
            let free = self.free();
            if free < bytes {
                return false;
            }
            allocate(&File::create(self.filler()).unwrap(), free - bytes);
            self.free() == bytes
        });
    }

    /// Takes all that is left, as another program may at any moment.
    fn take_all(&self) {
        let file = File::create(self.other_filler()).unwrap();
        let mut length = 0;
        let mut more = 16 << 20;
        while more >= PAGE {
            match nix::fcntl::fallocate(
                file.as_fd(),
                nix::fcntl::FallocateFlags::empty(),
                length,
                i64::try_from(more).unwrap(),
            ) {
                Ok(()) => length += i64::try_from(more).unwrap(),
                Err(_) => more /= 2,
            }
        }
    }

    fn empty(&self) {
        let _ = fs::remove_file(self.filler());
        let _ = fs::remove_file(self.other_filler());
    }

    /// The files that are believed.
    fn images(&self) -> BTreeSet<PathBuf> {
        self.store.left().1.into_iter().collect()
    }

    /// Removes every image but these.
    fn keep_only(&self, kept: &[&Image]) {
        for image in self.store.runtime.list_images().unwrap() {
            if kept.iter().all(|kept| kept.id() != image.id) {
                self.store.runtime.remove_image(&image.id).unwrap();
            }
        }
    }

    /// Does something on a disk with ever more room, until it succeeds; returns what it needs, to a page, and how often it has
    /// failed. `check` looks at what each failure has left.
    fn until_it_fits<T>(
        &self,
        step: u64,
        attempt: &mut dyn FnMut() -> Result<T, Error>,
        check: &mut dyn FnMut(u64, &Error),
        cleared: &mut dyn FnMut(),
    ) -> (u64, usize) {
        let mut failures = 0;
        let mut fits = |room: u64| {
            self.leave(room);
            let result = attempt();
            if let Err(error) = &result {
                assert_full(error, room);
                eventually("nothing is being written", || self.store.left().0.is_empty());
                check(room, error);
                failures += 1;
            }
            self.empty();
            cleared();
            result.is_ok()
        };
        let mut most = 0;
        while !fits(most) {
            most += step;
            assert!(most < ENOUGH + MARGIN, "it never fits");
        }
        let mut least = most.saturating_sub(step);
        while most - least > PAGE {
            let middle = (least + (most - least) / 2) / PAGE * PAGE;
            if fits(middle) {
                most = middle;
            } else {
                least = middle;
            }
        }
        // The last pages are those of small files: records, tags, steps.
        for pages in 2..8 {
            fits(most.saturating_sub(pages * PAGE));
        }
        (most, failures)
    }

    /// Does something with so much room, of which another takes all at once when so many bytes are taken by it. How often it
    /// has failed: in the middle of which write is up to the scheduler.
    fn while_it_fills_up<T>(
        &self,
        room: u64,
        taken: &[u64],
        attempt: &mut dyn FnMut() -> Result<T, Error>,
        check: &mut dyn FnMut(u64, &Error),
        cleared: &mut dyn FnMut(),
    ) -> usize {
        let mut failures = 0;
        for taken in taken.iter().copied() {
            self.leave(room);
            let (before, done) = (self.free(), AtomicBool::new(false));
            let result = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        if before.saturating_sub(self.free()) >= taken {
                            self.take_all();
                            break;
                        }
                        std::thread::sleep(Duration::from_micros(100));
                    }
                });
                let result = attempt();
                done.store(true, Ordering::Relaxed);
                result
            });
            if let Err(error) = &result {
                assert_full(error, taken);
                eventually("nothing is being written", || self.store.left().0.is_empty());
                check(taken, error);
                failures += 1;
            }
            self.empty();
            cleared();
        }
        failures
    }
}

fn allocate(file: &File, bytes: u64) {
    if bytes > 0 {
        let length = i64::try_from(bytes).unwrap();
        nix::fcntl::fallocate(file.as_fd(), nix::fcntl::FallocateFlags::empty(), 0, length).unwrap();
    }
}

/// As the header has it: SBX_ESYSTEM with ENOSPC.
fn assert_full(error: &Error, room: u64) {
    assert_eq!((error.code(), error.os_error()), (Code::System, Some(libc::ENOSPC)), "{room}: {error}");
}

/// An image's file, and what is in it.
fn file_of(image: &Image, store: &Path) -> (PathBuf, String) {
    let hex = image.id().trim_start_matches("sha256:");
    let path = store.join("images/v1/images").join(format!("{hex}.erofs"));
    let sum = sha256(&fs::read(&path).unwrap());
    (path, sum)
}

/// What the disk must have free at least by this error, which came before anything was written.
fn needed(error: &Error) -> Option<u64> {
    let (_, rest) = error.message().split_once("needs ")?;
    rest.split_once(" bytes, and ")?.0.parse().ok()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_build_fails_at_every_write_and_leaves_what_it_began_with() {
    let Some(disk) = Disk::new("build") else { return };
    let base = import(&disk.store, root());
    disk.store.runtime.tag_image(base.id(), "base").unwrap();
    disk.store.runtime.tag_image(base.id(), "built:1").unwrap();
    fs::remove_file(disk.store.scratch.0.join("root.tar")).unwrap();
    let (path, sum) = file_of(&base, &disk.store.scratch.0);
    let context = disk.store.scratch.0.join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("file"), vec![7; 300_000]).unwrap();
    let mut build = Build::new(
        "FROM base\nENV PATH=/bin\nCOPY file /srv/\nRUN head -c 300000 /dev/zero >/zeroes\nWORKDIR /new/deep\n",
    );
    build.set_context(&context).unwrap().set_tag("built:1").unwrap().set_no_cache().unwrap();
    let runtime = &disk.store.runtime;
    let mut checks = BTreeSet::new();
    let mut check = |_: u64, error: &Error| {
        checks.extend(needed(error));
        // What is believed is whole, the base is what it was, and its second name is still the base's.
        for image in runtime.list_images().unwrap() {
            assert_eq!(runtime.find_image(&image.id).unwrap().id(), image.id);
        }
        assert_eq!(runtime.find_image("built:1").unwrap().id(), base.id(), "{error}");
        assert!(path.exists());
    };
    let mut cleared = || {
        runtime.tag_image(base.id(), "built:1").unwrap();
        disk.keep_only(&[&base]);
    };
    let mut attempt = || runtime.build_image(&build);
    let (room, failures) = disk.until_it_fits(1 << 20, &mut attempt, &mut check, &mut cleared);
    assert!(failures > 8 && room > 2 << 20, "{failures} {room}");
    // The first step is refused before it: the image below doesn't fit.
    let bytes = fs::metadata(&path).unwrap().len();
    let at: Vec<u64> = (0..12).map(|part| 1 + room * part / 12).collect();
    let failures = disk.while_it_fills_up(ENOUGH / 2, &at, &mut attempt, &mut check, &mut cleared);
    assert!(failures > 0, "{failures}");
    assert!(checks.contains(&bytes), "{checks:?} {bytes}");
    assert_eq!(sha256(&fs::read(&path).unwrap()), sum);
    let image = runtime.build_image(&build).unwrap();
    let sandbox = runtime.create(&config(&image)).unwrap();
    let said =
        shell(&sandbox, "wc -c /srv/file /zeroes | head -n 2; stat -c '%n %u:%g %a' /new /new/deep; pwd");
    assert_eq!(said, "   300000 /srv/file\n   300000 /zeroes\n/new 0:0 755\n/new/deep 0:0 755\n/new/deep\n");
}

/// Each check by itself: the step needs more than the one before it.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_step_that_can_not_fit_is_refused_before_it_writes() {
    let Some(disk) = Disk::new("space") else { return };
    let base = import(&disk.store, root());
    disk.store.runtime.tag_image(base.id(), "base").unwrap();
    let (path, _) = file_of(&base, &disk.store.scratch.0);
    let below = fs::metadata(path).unwrap().len();
    let context = disk.store.scratch.0.join("context");
    fs::create_dir(&context).unwrap();
    let large = 12 << 20;
    File::create(context.join("large")).unwrap().set_len(large).unwrap();
    let refused = |steps: &str, room: u64| {
        let mut build = Build::new(&format!("FROM base\nENV PATH=/bin\n{steps}"));
        build.set_context(&context).unwrap().set_no_cache().unwrap();
        disk.leave(room);
        let before = disk.images();
        let error = disk.store.runtime.build_image(&build).unwrap_err();
        assert_full(&error, room);
        eventually("nothing is being written", || disk.store.left().0.is_empty());
        assert_eq!(disk.images(), before);
        disk.empty();
        let text = error.message();
        assert!(text.contains("are free: free some, prune images"), "{text}");
        needed(&error).unwrap()
    };
    // The image below; the files that are copied, in an archive and in the image; what a program has changed, the same.
    assert_eq!(refused("COPY large /\n", below / 2 / PAGE * PAGE), below);
    assert_eq!(refused("COPY large /\n", below + large), 2 * large);
    let changed = refused("RUN head -c 12582912 /dev/zero >/large\n", below + large);
    assert!((2 * large..2 * large + (1 << 20)).contains(&changed), "{changed}");
    // A snapshot: the same, and the image below.
    let sandbox = disk.store.runtime.create(&config(&base)).unwrap();
    shell(&sandbox, "head -c 12582912 /dev/zero >/large");
    disk.leave(2 * large);
    let error = sandbox.snapshot(None).unwrap_err();
    assert_full(&error, 2 * large);
    let needs = needed(&error).unwrap();
    assert!((2 * large + below..2 * large + below + (1 << 20)).contains(&needs), "{error}");
    // One of a directory.
    disk.leave(MARGIN - PAGE);
    let error = sandbox.snapshot_directory("/etc", None).unwrap_err();
    assert_full(&error, MARGIN);
    assert_eq!(needed(&error), Some(MARGIN), "{error}");
    // An import.
    disk.leave(below / 2 / PAGE * PAGE);
    let error =
        disk.store.runtime.import_image(context.join("..").join("root.tar"), &sbx::ImageOptions::new());
    assert_full(&error.unwrap_err(), below / 2);
    assert_eq!(shell(&sandbox, "echo lives"), "lives\n");
    assert_eq!(disk.store.left().0.len(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_snapshot_fails_at_every_write_and_the_sandbox_goes_on() {
    let Some(disk) = Disk::new("snapshot") else { return };
    let base = import(&disk.store, root());
    fs::remove_file(disk.store.scratch.0.join("root.tar")).unwrap();
    disk.store.runtime.tag_image(base.id(), "taken:1").unwrap();
    let sandbox = disk.store.runtime.create(&config(&base)).unwrap();
    shell(
        &sandbox,
        "mkdir /d; head -c 400000 /dev/urandom >/d/one; head -c 90000 /dev/urandom >/d/two; rm /etc/motd; \
         touch -d @1700000000 /d/one /d/two /d",
    );
    let counting = begin(&sandbox, "while :; do echo . >>/tmp/ticks; sleep 0.05; done");
    goes_on(&sandbox);
    let runtime = &disk.store.runtime;
    let before = disk.images();
    let mut check = |_: u64, error: &Error| {
        assert_eq!(disk.images(), before, "{error}");
        assert_eq!(runtime.find_image("taken:1").unwrap().id(), base.id());
        goes_on(&sandbox);
    };
    let mut cleared = || {
        runtime.tag_image(base.id(), "taken:1").unwrap();
        disk.keep_only(&[&base]);
    };
    let mut attempt = || sandbox.snapshot(Some("taken:1"));
    let (room, failures) = disk.until_it_fits(1 << 20, &mut attempt, &mut check, &mut cleared);
    assert!(failures > 8 && room > 2 << 20, "{failures} {room}");
    let at: Vec<u64> = (0..12).map(|part| 1 + (3 << 20) * part / 12).collect();
    let failures = disk.while_it_fills_up(ENOUGH / 2, &at, &mut attempt, &mut check, &mut cleared);
    assert!(failures > 0, "{failures}");
    // One of a directory leaves a margin for others, which take it all.
    shell(
        &sandbox,
        "mkdir /tmp/large; for i in 1 2 3 4; do head -c 6000000 /dev/urandom >/tmp/large/$i; done",
    );
    let mut attempt = || sandbox.snapshot_directory("/tmp/large", Some("taken:1"));
    let at = [1, 1 << 20, 2 << 20, 4 << 20];
    let failures =
        disk.while_it_fills_up(MARGIN + ENOUGH + (4 << 20), &at, &mut attempt, &mut check, &mut cleared);
    assert!(failures > 0, "{failures}");
    // And then there is room.
    let taken = sandbox.snapshot(Some("taken:1")).unwrap();
    counting.signal(9).unwrap();
    let again = runtime.create(&config(&taken.image)).unwrap();
    assert_eq!(tree(&again, "/d"), tree(&sandbox, "/d"));
    assert_eq!(shell(&again, "ls /etc"), shell(&sandbox, "ls /etc"));
}

/// Its programs run.
fn goes_on(sandbox: &Sandbox) {
    let ticks = || shell(sandbox, "cat /tmp/ticks 2>/dev/null; true").len();
    let before = ticks();
    eventually("its programs go on", || ticks() > before);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn an_exit_snapshot_fails_at_every_write_and_the_sandbox_ends() {
    let Some(disk) = Disk::new("exit") else { return };
    let base = import(&disk.store, root());
    fs::remove_file(disk.store.scratch.0.join("root.tar")).unwrap();
    let before = disk.images();
    let runtime = &disk.store.runtime;
    let mut attempt = || {
        let mut config = sbx::Config::new();
        config.set_image(&base).unwrap().set_exit_snapshot(Some("left:1")).unwrap();
        config.set_env("PATH", "/bin").unwrap();
        config.set_command(["/bin/sh", "-c", "head -c 400000 /dev/urandom >/one; exit 3"]).unwrap();
        let sandbox = runtime.create(&config).unwrap();
        assert_eq!(sandbox.wait(Some(Duration::from_secs(90))).unwrap().code, 3);
        assert_eq!(processes_with(sandbox.id()), [""; 0]);
        sandbox.exit_snapshot()
    };
    let mut check = |_: u64, error: &Error| {
        assert_eq!(disk.images(), before, "{error}");
        assert_eq!(runtime.find_image("left:1").unwrap_err().code(), Code::NotFound);
    };
    let mut cleared = || disk.keep_only(&[&base]);
    let (room, failures) = disk.until_it_fits(2 << 20, &mut attempt, &mut check, &mut cleared);
    assert!(failures > 6 && room > 2 << 20, "{failures} {room}");
    let at: Vec<u64> = (0..8).map(|part| 1 + (3 << 20) * part / 8).collect();
    let failures = disk.while_it_fills_up(ENOUGH / 2, &at, &mut attempt, &mut check, &mut cleared);
    assert!(failures > 0, "{failures}");
    let left = attempt().unwrap();
    assert_eq!(shell(&runtime.create(&config(&left.image)).unwrap(), "wc -c </one"), "400000\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_volume_on_a_full_disk_is_an_error_inside_and_outside() {
    let Some(disk) = Disk::new("volume") else { return };
    let top = &disk.store.scratch.0;
    let settings = || RuntimeConfig::new().volume_directory(top.join("volumes"));
    let runtime = Runtime::new(&settings().volume_min_free_bytes(1)).unwrap();
    runtime.create_volume("data", false).unwrap();
    let on = |text: &str| {
        let mut config = common::script(text);
        config.mount_volume(&VolumeMount::new("data"), "/v").unwrap();
        config
    };
    // The disk fills up under a sandbox: its program is told, and others read and write what is there.
    disk.leave(8 * PAGE);
    let sandbox = runtime.create(&on("head -c 1000000 /dev/zero >/v/large; echo $?; wc -c </v/large; echo still >/tmp/here && cat /tmp/here")).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0);
    assert_eq!(output(&sandbox), format!("1\n{}\nstill\n", 8 * PAGE));
    assert!(common::text(&sandbox, sbx::Stream::Stderr).contains("No space left on device"));
    assert_eq!(disk.free(), 0);
    // Below the floor only sandboxes that read start; without a byte free that is any floor.
    let error = runtime.create(&on("true")).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    let mut reads = common::script("wc -c </v/large");
    reads.mount_volume(&VolumeMount::new("data").read_only(), "/v").unwrap();
    let sandbox = runtime.create(&reads).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(output(&sandbox), format!("{}\n", 8 * PAGE));
    disk.empty();
    // No file can be made: each of those that a new store and its volume have is the first that can't.
    let names = |runtime: &Runtime| -> Vec<String> {
        runtime.list_volumes().unwrap().into_iter().map(|volume| volume.name).collect()
    };
    let (mut held, mut failed) = (no_more_files(top), 0);
    let others = || {
        Runtime::new(&RuntimeConfig::new().volume_directory(top.join("others")).volume_min_free_bytes(1))
            .unwrap()
    };
    while let Err(error) = others().create_volume("new", false) {
        assert_full(&error, failed);
        assert_eq!(names(&runtime), ["data"]);
        assert_eq!(fs::read_dir(top.join("others/v1/volumes")).map_or(0, Iterator::count), 0);
        fs::remove_file(held.pop().unwrap()).unwrap();
        failed += 1;
    }
    assert!(failed > 5, "{failed}");
    assert_eq!(names(&others()), ["new"]);
    let no_more = no_more_files(&top.join("others"));
    assert_full(&runtime.create_volume("more", false).unwrap_err(), 0);
    assert_eq!(names(&runtime), ["data"]);
    for file in held.iter().chain(&no_more) {
        fs::remove_file(file).unwrap();
    }
    runtime.remove_volume("data").unwrap();
    assert!(names(&runtime).is_empty());
}

/// Files until the disk has no more of them.
fn no_more_files(below: &Path) -> Vec<PathBuf> {
    let paths = (0_u64..).map(|number| below.join(format!("file-{number}")));
    paths.take_while(|path| File::create(path).is_ok()).collect()
}
