//! Images: imported and pulled, run, listed, removed; and what is left when something is given up in the middle.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by it")]

mod common;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use common::images::{
    Layer, Made, Tar, TestStore, collected, gzip, open, root_directory, root_layer, tar_of,
};
use common::registry::{PASSWORD, Registry, USER};
use common::{PATIENCE, config, eventually, output, processes_with};
use sbx::{Code, Config, Event, Exec, Image, ImageFormat, ImageOptions, Queue, Runtime, Stdio, Stream};
use serde_json::json;

/// The name that the images have.
const NAME: &str = "box:1";

fn named() -> ImageOptions {
    let mut options = ImageOptions::new();
    options.tag = Some(NAME.to_owned());
    options
}

/// What the image's own program says.
fn said(runtime: &Runtime, image: &Image, change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::new();
    config.set_image(image).unwrap();
    config.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    config.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
    change(&mut config);
    let sandbox = runtime.create(&config).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    output(&sandbox)
}

/// What it says if it is `Made::busybox`.
const SAYS: &str = "1000\n1001 1005\n/home/web\nhello\nabove\nmine\n";

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn every_kind_of_archive_is_imported_and_runs_as_its_user() {
    let store = TestStore::new("kinds");
    let made = Made::busybox();
    let path = |name: &str| store.scratch.0.join(name);
    made.layout(&path("layout"));
    tar_of(&path("layout"), &path("layout.tar"));
    let archive = made.docker_archive("box:1");
    fs::write(path("docker.tar"), &archive).unwrap();
    fs::write(path("docker.tar.gz"), gzip(&archive)).unwrap();
    let mut ids = Vec::new();
    for name in ["layout", "layout.tar", "docker.tar", "docker.tar.gz"] {
        let image = store
            .runtime
            .import_image(path(name), &named())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(image.info().tags, ["docker.io/library/box:1"], "{name}");
        assert_eq!(image.config().user.as_deref(), Some("web"));
        ids.push(image.id().to_owned());
        if name == "layout" {
            assert_eq!(said(&store.runtime, &image, |_| ()), SAYS, "{name}");
        }
        // By descriptor.
        let file = OwnedFd::from(File::open(path(name)).unwrap());
        assert_eq!(store.runtime.import_image(file, &ImageOptions::new()).unwrap().id(), image.id());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let (writing, believed) = store.left();
    assert_eq!((writing.len(), believed.len()), (0, 2), "{writing:?} {believed:?}");
    let found = store.runtime.find_image(&ids[0][.."sha256:".len() + 12]).unwrap();
    let own = said(&store.runtime, &found, |config| {
        config.set_entrypoint(["cat"]).unwrap().set_command(["/etc/linked", "/etc/gone", "/secret"]).unwrap();
    });
    assert!(own.starts_with("mine\n") && own.contains("/etc/gone': No such file"), "{own}");
    assert!(own.contains("/secret': Permission denied"), "{own}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_root_file_system_is_imported_from_a_tarball_and_from_a_directory() {
    let store = TestStore::new("roots");
    let path = |name: &str| store.scratch.0.join(name);
    fs::write(path("root.tar"), root_layer().finish()).unwrap();
    root_directory(&path("root"));
    let show = |config: &mut Config| {
        config
            .set_command(["/bin/sh", "-c", "id -u; cat /etc/motd; stat -c '%u %a' /bin /home/web 2>&1"])
            .unwrap();
        config.set_env("PATH", "/bin").unwrap();
    };
    let tarball = store.runtime.import_image(path("root.tar"), &ImageOptions::new()).unwrap();
    assert_eq!(said(&store.runtime, &tarball, show), "0\nbelow\n0 755\n1000 750\n");
    let directory = store.runtime.import_image(path("root"), &ImageOptions::new()).unwrap();
    let shown = said(&store.runtime, &directory, show);
    assert!(shown.starts_with("0\nfrom a directory\n0 755\n"), "{shown}");
    assert_ne!(tarball.id(), directory.id());
    // The same again is the same image.
    assert_eq!(store.runtime.import_image(path("root"), &ImageOptions::new()).unwrap().id(), directory.id());
    assert_eq!(store.runtime.list_images().unwrap().len(), 2);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn images_are_found_tagged_listed_removed_and_pruned() {
    let store = TestStore::new("names");
    let runtime = &store.runtime;
    let archive = |name: &str, motd: &str| {
        let tar = Tar::default().file("motd", 0o644, (0, 0), motd.as_bytes());
        let path = store.scratch.0.join(name);
        fs::write(&path, Made::new(vec![Layer::plain(tar)], &json!({})).docker_archive("x:1")).unwrap();
        path
    };
    let one = runtime.import_image(archive("one", "1"), &named()).unwrap();
    let two = runtime.import_image(archive("two", "2"), &ImageOptions::new()).unwrap();
    for name in [NAME, "docker.io/library/box:1", one.id(), &one.id()[7..], &one.id()[..19]] {
        assert_eq!(runtime.find_image(name).unwrap().id(), one.id(), "{name}");
    }
    assert_eq!(runtime.find_image("other").unwrap_err().code(), Code::NotFound);
    runtime.tag_image(&two.id()[7..], "registry.example/two:latest").unwrap();
    runtime.tag_image("registry.example/two", NAME).unwrap();
    assert_eq!(runtime.find_image(NAME).unwrap().id(), two.id());
    let listed = runtime.list_images().unwrap();
    assert_eq!(listed[0].tags, ["docker.io/library/box:1", "registry.example/two:latest"]);
    assert_eq!((listed.len(), listed[1].tags.len()), (2, 0));

    runtime.remove_image(NAME).unwrap();
    assert_eq!(runtime.find_image("registry.example/two").unwrap().id(), two.id());
    runtime.remove_image("registry.example/two").unwrap();
    assert_eq!(runtime.list_images().unwrap().len(), 1);
    assert_eq!(runtime.remove_image(two.id()).unwrap_err().code(), Code::NotFound);
    assert_eq!(runtime.prune_images(u64::MAX).unwrap().images, 0);
    let pruned = runtime.prune_images(0).unwrap();
    assert!((pruned.images, pruned.bytes > 0) == (1, true), "{pruned:?}");
    assert_eq!(store.left(), (Vec::new(), Vec::new()));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_sandbox_goes_on_when_its_image_is_removed() {
    let store = TestStore::new("removed");
    let path = store.scratch.0.join("docker.tar");
    fs::write(&path, Made::busybox().docker_archive("box:1")).unwrap();
    let image = store.runtime.import_image(path, &named()).unwrap();
    let mut config = Config::new();
    config.set_image(&image).unwrap().set_no_command().unwrap();
    let sandbox = store.runtime.create(&config).unwrap();
    store.runtime.remove_image(NAME).unwrap();
    assert_eq!(store.left(), (Vec::new(), Vec::new()));
    // Both this sandbox and another one of the same handle.
    for sandbox in [sandbox, store.runtime.create(&config).unwrap()] {
        let mut exec = Exec::new();
        exec.set_command(["/bin/cat", "/etc/motd"])
            .unwrap()
            .set_stdio(Stream::Stdout, Stdio::capture())
            .unwrap();
        let process = sandbox.exec(&exec).unwrap();
        assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
        assert_eq!(process.captured(Stream::Stdout).unwrap().head, b"above\n");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn an_image_is_mounted_at_a_path_of_another_sandbox() {
    let store = TestStore::new("mounted");
    let path = store.scratch.0.join("docker.tar");
    fs::write(&path, Made::busybox().docker_archive("box:1")).unwrap();
    let image = store.runtime.import_image(path, &named()).unwrap();
    let mut config =
        config(&["sh", "-c", "cat /mnt/box/etc/motd; touch /mnt/box/new 2>&1 | grep -o Read-only"]);
    config.mount_image(&image, "/mnt/box").unwrap();
    let sandbox = store.runtime.create(&config).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(output(&sandbox), "above\nRead-only\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn progress_comes_before_the_end_and_not_often() {
    let store = TestStore::new("progress");
    let path = store.scratch.0.join("docker.tar");
    fs::write(&path, Made::with_ballast(48 << 20).docker_archive("box:1")).unwrap();
    let queue = Queue::new(1024).unwrap();
    let begin = Instant::now();
    let import = store.runtime.import_image_begin(path, &named(), Some((&queue, 42))).unwrap();
    import.wait(PATIENCE).unwrap();
    let took = begin.elapsed();
    let events: Vec<_> =
        std::iter::from_fn(|| queue.next()).inspect(|event| assert_eq!(event.cookie, 42)).collect();
    let (last, before) = events.split_last().unwrap();
    assert!(matches!(last.event, Event::OperationDone { result: Ok(()), .. }), "{last:?}");
    assert!(
        !before.is_empty() && before.len() as u128 <= took.as_millis() / 100 + 2,
        "{} in {took:?}",
        before.len()
    );
    let mut least = 0;
    for event in before {
        let Event::Progress { bytes_done, bytes_total, .. } = &event.event else { panic!("{event:?}") };
        assert!(least <= *bytes_done && *bytes_done <= (*bytes_total).max(1 << 30), "{event:?}");
        least = *bytes_done;
    }
}

/// An import that takes seconds.
fn slow_import(store: &TestStore) -> std::path::PathBuf {
    let path = store.scratch.0.join("docker.tar");
    fs::write(&path, Made::with_ballast(256 << 20).docker_archive("box:1")).unwrap();
    path
}

/// Waits until it is in the middle.
fn wait_for_progress(queue: &Queue) {
    eventually("there is progress", || match queue.next().map(|event| event.event) {
        Some(Event::Progress { bytes_done, .. }) => bytes_done > 0,
        Some(other) => panic!("{other:?}"),
        None => false,
    });
}

fn nothing_is_left(store: &TestStore) {
    eventually("nothing is left", || store.left() == (Vec::new(), Vec::new()));
    eventually("no process is left", || common::children().iter().all(|name| !name.contains("sbx-image")));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn an_import_that_is_cancelled_ends_at_once_and_leaves_nothing() {
    let store = TestStore::new("cancelled");
    let path = slow_import(&store);
    let queue = Queue::new(1024).unwrap();
    let import = store.runtime.import_image_begin(path, &named(), Some((&queue, 1))).unwrap();
    wait_for_progress(&queue);
    import.cancel();
    assert_eq!(import.wait(Some(Duration::ZERO)).unwrap_err().code(), Code::Closed);
    nothing_is_left(&store);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_runtime_that_ends_takes_its_imports_along() {
    let store = TestStore::new("shutdown");
    let path = slow_import(&store);
    let queue = Queue::new(1024).unwrap();
    let begin =
        |path: &std::path::Path| store.runtime.import_image_begin(path, &named(), Some((&queue, 1))).unwrap();
    let all: Vec<_> = (0..4).map(|_| begin(&path)).collect();
    wait_for_progress(&queue);
    let before = Instant::now();
    store.runtime.shutdown();
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
    for import in all {
        assert_eq!(import.wait(Some(Duration::ZERO)).unwrap_err().code(), Code::Closed);
    }
    assert_eq!(store.left(), (Vec::new(), Vec::new()));
    assert_eq!(store.runtime.find_image(NAME).unwrap_err().code(), Code::Closed);
    nothing_is_left(&store);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_host_that_is_killed_leaves_nothing_that_is_believed() {
    const HOST: &str = "SBX_TEST_IMAGES_HOST";
    const SELF: &str = "a_host_that_is_killed_leaves_nothing_that_is_believed";
    if let Some(directory) = std::env::var_os(HOST) {
        let runtime = open(directory.as_ref());
        let path = std::path::Path::new(&directory).join("docker.tar");
        let _ = runtime.import_image(path, &named());
        return;
    }
    let store = TestStore::new("killed");
    slow_import(&store);
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", SELF, "--nocapture"])
        .env(HOST, &store.scratch.0)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the import is in the middle", || {
        store.left().0.iter().any(|path| fs::metadata(path).is_ok_and(|file| file.len() > 1 << 20))
    });
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the helper is gone", || processes_with("sbx-image").is_empty());
    assert!(store.left().1.is_empty(), "{:?}", store.left());
    collected(&store.scratch.0);
    assert!(open(&store.scratch.0).list_images().unwrap().is_empty());
    assert_eq!(store.left(), (Vec::new(), Vec::new()));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_full_disk_is_an_error_that_says_so_and_leaves_nothing() {
    const HERE: &str = "SBX_TEST_IMAGES_SMALL_DISK";
    const SELF: &str = "a_full_disk_is_an_error_that_says_so_and_leaves_nothing";
    if let Some(disk) = std::env::var_os(HERE) {
        return on_a_small_disk(std::path::Path::new(&disk));
    }
    let scratch = common::Scratch::new("disk");
    fs::set_permissions(&scratch.0, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    fs::create_dir(scratch.0.join("small")).unwrap();
    // Random bytes don't fit, which is known before; bytes that can be compressed don't fit when they are unpacked.
    fs::write(scratch.0.join("known.tar"), Made::with_ballast(48 << 20).docker_archive("x:1")).unwrap();
    let layer = Layer::gzip(Tar::default().file("large", 0o644, (0, 0), &vec![b'a'; 48 << 20]));
    let made = Made::new(vec![layer], &json!({}));
    fs::create_dir(scratch.0.join("unknown")).unwrap();
    made.layout(&scratch.0.join("unknown"));
    fs::write(scratch.0.join("fits.tar"), Made::busybox().docker_archive("x:1")).unwrap();
    // Only the machine's root can mount a disk whose directories above are root's. For others a limit of files' size has
    // nearly the same effect.
    let is_root = may_mount();
    let mut shell = std::process::Command::new(if is_root { "unshare" } else { "sh" });
    let script = if is_root {
        shell.args(["--mount", "sh"]);
        "mount -t tmpfs -o size=24m,mode=700 none \"$1\" && shift && exec \"$@\""
    } else {
        "ulimit -f 24576 && shift && exec \"$@\""
    };
    let output = shell
        .args(["-ec", script, "sh"])
        .arg(scratch.0.join("small"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", SELF, "--nocapture"])
        .env(HERE, scratch.0.join("small"))
        .env("XDG_CACHE_HOME", scratch.0.join("small"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether this process is root with its capabilities.
fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u64 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & 1 << CAP_SYS_ADMIN != 0
}

fn on_a_small_disk(disk: &std::path::Path) {
    let is_root = may_mount();
    // The default one keeps its images where XDG_CACHE_HOME says, and looks for no runsc.
    let runtime = Runtime::shared().unwrap();
    let beside = disk.parent().unwrap();
    let mut options = ImageOptions::new();
    options.limits.ratio = u64::MAX;
    for name in ["known.tar", "unknown"] {
        let error = runtime.import_image(beside.join(name), &options).unwrap_err();
        let is_full = error.os_error() == Some(28) || !is_root && error.code() == Code::Limit;
        assert!(is_full, "{name}: {:?} {error}", error.code());
        for directory in ["tmp", "images"] {
            assert_eq!(
                fs::read_dir(disk.join("libsbx/images/v1").join(directory)).unwrap().count(),
                0,
                "{name}"
            );
        }
    }
    runtime.import_image(beside.join("fits.tar"), &options).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn the_same_image_twice_at_once_is_one_image() {
    let store = TestStore::new("twice");
    let path = store.scratch.0.join("docker.tar");
    fs::write(&path, Made::with_ballast(16 << 20).docker_archive("box:1")).unwrap();
    // Of one runtime, and of another one, which is as another process.
    let other = open(&store.scratch.0);
    let begun: Vec<_> = [&store.runtime, &store.runtime, &other]
        .map(|runtime| runtime.import_image_begin(path.clone(), &named(), None).unwrap())
        .into();
    let ids: Vec<String> = begun.iter().map(|begun| begun.wait(PATIENCE).unwrap().id().to_owned()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(store.runtime.list_images().unwrap().len(), 1);
    eventually("nothing is being written", || store.left().0.is_empty());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn what_is_wrong_is_said() {
    let store = TestStore::new("wrong");
    let runtime = &store.runtime;
    let path = |name: &str| store.scratch.0.join(name);
    let import = |name: &str, options: &ImageOptions| runtime.import_image(path(name), options).unwrap_err();
    let says = |error: sbx::Error, code: Code, text: &str| {
        assert!(
            error.code() == code && error.message().contains(text),
            "{:?} {error}, not {text}",
            error.code()
        );
    };
    says(import("nowhere", &ImageOptions::new()), Code::NotFound, "nowhere");
    fs::write(path("text"), "this is no archive").unwrap();
    says(import("text", &ImageOptions::new()), Code::Image, "text");
    fs::write(path("docker.tar"), Made::busybox().docker_archive("box:1")).unwrap();
    let mut wrong = ImageOptions::new();
    wrong.format = ImageFormat::Oci;
    says(import("docker.tar", &wrong), Code::Image, "");
    for tag in ["", "UPPER:1", "a b", "x@sha256:00"] {
        wrong = ImageOptions::new();
        wrong.tag = Some(tag.to_owned());
        assert_eq!(import("docker.tar", &wrong).code(), Code::Invalid, "{tag}");
    }
    let mut small = ImageOptions::new();
    small.limits.bytes = 100_000;
    says(import("docker.tar", &small), Code::Limit, "the limit of an image is 100000");
    let mut of_pulls = ImageOptions::new();
    of_pulls.set_login("somebody", "hunter2");
    says(import("docker.tar", &of_pulls), Code::Invalid, "pull");
    assert!(!format!("{of_pulls:?}").contains("hunter2"));

    let pull = |reference: &str, options: &ImageOptions| runtime.pull_image(reference, options).unwrap_err();
    for reference in ["", "UPPER", "a//b", "https://registry.example/a", "a:b:c"] {
        assert_eq!(pull(reference, &ImageOptions::new()).code(), Code::Invalid, "{reference}");
    }
    wrong = ImageOptions::new();
    wrong.platform = Some("amd64".to_owned());
    says(pull("box", &wrong), Code::Invalid, "platform");
    // Nothing listens there.
    says(pull("127.0.0.1:9/box", &ImageOptions::new()), Code::Image, "127.0.0.1:9");
    assert_eq!(store.left(), (Vec::new(), Vec::new()));

    // A digest that is another's, and a store that others may write to.
    let mut made = Made::busybox();
    // In the content of /etc/motd.
    made.layers[1].plain[512] ^= 1;
    fs::write(path("bad.tar"), made.docker_archive("box:1")).unwrap();
    says(import("bad.tar", &ImageOptions::new()), Code::Image, "sha256:");
    nothing_is_left(&store);
    let open_to_all = path("open");
    fs::create_dir(&open_to_all).unwrap();
    fs::set_permissions(&open_to_all, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    says(open(&open_to_all).list_images().unwrap_err(), Code::Image, "open");
}

#[test]
fn without_a_home_the_error_names_the_option() {
    const INSIDE: &str = "SBX_TEST_IMAGES_HOMELESS";
    const SELF: &str = "without_a_home_the_error_names_the_option";
    if std::env::var_os(INSIDE).is_some() {
        let error = Runtime::shared().unwrap().list_images().unwrap_err();
        assert!(error.code() == Code::Image && error.message().contains("image_directory"), "{error}");
        return;
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", SELF])
        .env_remove("HOME")
        .env_remove("XDG_CACHE_HOME")
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

fn login(registry: &Registry) -> ImageOptions {
    let mut options = ImageOptions::new();
    options.ca_pem = Some(registry.ca_pem.clone());
    options.set_login(USER, PASSWORD);
    options
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn an_image_is_pulled_from_a_registry_with_a_login_and_runs() {
    let (store, registry) = (TestStore::new("pulled"), Registry::new("registry"));
    let reference = registry.push(&Made::busybox(), "team/box", "1");
    let options = login(&registry);
    let queue = Queue::new(1024).unwrap();
    let pull = store.runtime.pull_image_begin(&reference, &options, Some((&queue, 5))).unwrap();
    let image = pull.wait(PATIENCE).unwrap();
    assert_eq!(image.info().tags, [reference.as_str()]);
    assert!(image.info().source.starts_with(&format!("{reference}@sha256:")), "{}", image.info().source);
    assert_eq!(said(&store.runtime, &image, |_| ()), SAYS);
    let events: Vec<Event> = std::iter::from_fn(|| queue.next()).map(|event| event.event).collect();
    assert!(
        events.len() > 1 && matches!(events.last(), Some(Event::OperationDone { result: Ok(()), .. })),
        "{events:?}"
    );

    // By the digest of its manifest, and again by its name: nothing is downloaded, and it is the same.
    let digest = format!(
        "{}/team/box@sha256:{}",
        registry.address,
        common::images::sha256(&Made::busybox().manifest())
    );
    assert_eq!(store.runtime.pull_image(&digest, &options).unwrap().id(), image.id());
    assert_eq!(store.runtime.find_image(&digest).unwrap().id(), image.id());
    assert_eq!(store.runtime.list_images().unwrap().len(), 1);
    // What docker would save of it is the same image.
    let path = store.scratch.0.join("docker.tar");
    fs::write(&path, Made::busybox().docker_archive("x:1")).unwrap();
    assert_eq!(store.runtime.import_image(path, &ImageOptions::new()).unwrap().id(), image.id());
    assert_eq!(store.left().0, Vec::<std::path::PathBuf>::new());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_registrys_refusals_are_errors_that_say_them() {
    let (store, registry) = (TestStore::new("refused"), Registry::new("refusing"));
    let reference = registry.push(&Made::busybox(), "box", "1");
    let says = |reference: &str, options: &ImageOptions, code: Code, text: &str| {
        let error = store.runtime.pull_image(reference, options).unwrap_err();
        assert!(
            error.code() == code && error.message().contains(text),
            "{:?} {error}, not {text}",
            error.code()
        );
        assert!(!error.message().contains(PASSWORD), "{error}");
    };
    let options = login(&registry);
    says(&format!("{}/box:2", registry.address), &options, Code::NotFound, "box:2");
    let mut wrong = options.clone();
    wrong.set_login(USER, "wrong");
    says(&reference, &wrong, Code::Image, &registry.address);
    let mut nobody = ImageOptions::new();
    nobody.ca_pem = Some(registry.ca_pem.clone());
    says(&reference, &nobody, Code::Image, &registry.address);
    // Of another authority.
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut stranger = options.clone();
    stranger.ca_pem = Some(other.cert.pem());
    says(&reference, &stranger, Code::Image, &registry.address);
    let mut elsewhere = options;
    elsewhere.platform = Some("linux/riscv64".to_owned());
    says(&reference, &elsewhere, Code::NotFound, "riscv64");
    nothing_is_left(&store);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_pull_that_is_cancelled_leaves_nothing_and_two_at_once_are_one_image() {
    let (store, registry) = (TestStore::new("pulls"), Registry::new("pulls-registry"));
    let reference = registry.push(&Made::with_ballast(128 << 20), "large", "1");
    let options = login(&registry);
    let queue = Queue::new(1024).unwrap();
    let pull = store.runtime.pull_image_begin(&reference, &options, Some((&queue, 1))).unwrap();
    wait_for_progress(&queue);
    pull.cancel();
    assert_eq!(pull.wait(Some(Duration::ZERO)).unwrap_err().code(), Code::Closed);
    nothing_is_left(&store);

    let other = open(&store.scratch.0);
    let begun = [&store.runtime, &store.runtime, &other]
        .map(|runtime| runtime.pull_image_begin(&reference, &options, None).unwrap());
    let ids = begun.each_ref().map(|begun| begun.wait(PATIENCE).unwrap().id().to_owned());
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    eventually("nothing is being written", || store.left().0.is_empty());
    assert_eq!(store.runtime.list_images().unwrap().len(), 1);
}
